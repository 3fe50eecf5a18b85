# SPDX-License-Identifier: Apache-2.0
"""Ten minutes without a packet; killed, and without power, in every phase; demo and tests killed in the middle.

The tests run in the order written: two clusters are watched from outside while others are made and killed.
"""

from __future__ import annotations

import random
import re
import signal
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from installer.operations import node_add
from installer.operations.bootstrap import PHASES
from lab.node import Lab
from tests.node.growing import (
    BACK_TIMEOUT_S,
    KILL_DRIVER,
    Site,
    assert_no_secret_is_left,
    cut,
    until,
)
from tests.node.installing import (
    KUBECTL,
    Moment,
    Victim,
    footprint,
    killed,
    lab_iso,
    phase_seconds,
    pods,
    repository_files,
    restarts,
    shell,
    start,
    unready,
    wait_ready,
)
from tests.node.test_control_planes import voters
from tests.node.test_foreign_package import refuse
from tests.node.test_leftovers import COMMANDS, kill_and_look
from tests.node.test_preflight import check_at_once_and_under_load, check_calmly
from tests.soak.conftest import Observed, Record

pytestmark = pytest.mark.lab

SEED = 20261122
OBSERVED_S = 600.0
NAMES = tuple(phase.name for phase in PHASES)


def test_both_kinds_of_hosts_are_installed(
    observed_with_nameserver: Observed, observed_without_nameserver: Observed, record: Record
) -> None:
    for title, observed in (("with", observed_with_nameserver), ("without", observed_without_nameserver)):
        assert unready(observed.node) == []
        record(f"calm installation, host {title} a nameserver", f"{observed.ended.seconds:.0f} s, all Ready")


def at_the_start(_chance: random.Random, phase: str, _seconds: float) -> Moment:
    return Moment(phase=phase)


def in_the_middle(chance: random.Random, phase: str, seconds: float) -> Moment:
    return Moment(phase=phase, delay_s=round(chance.uniform(0.1, 0.9) * seconds, 2))


def with_all_it_started(chance: random.Random, phase: str, seconds: float) -> Moment:
    return Moment(phase=phase, delay_s=round(chance.uniform(0.1, 0.9) * seconds, 2), victim=Victim.SESSION)


def power_cut(chance: random.Random, phase: str, seconds: float) -> Moment:
    return Moment(phase=phase, delay_s=round(chance.uniform(0.1, 0.9) * seconds, 2), victim=Victim.POWER)


@pytest.mark.parametrize(
    ("title", "choose"),
    [
        ("installer killed at the start of each phase", at_the_start),
        ("installer killed in the middle of each phase", in_the_middle),
        ("installer killed with all that it had started, in the middle of each phase", with_all_it_started),
        ("power cut in each phase, what was not synced is lost", power_cut),
    ],
    ids=["start", "middle", "session", "power"],
)
def test_killed_in_every_phase_it_ends_where_a_calm_installation_ends(
    title: str,
    choose: Callable[[random.Random, str, float], Moment],
    observed_with_nameserver: Observed,
    record: Record,
) -> None:
    calm = observed_with_nameserver.node
    seconds = phase_seconds(calm)
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    moments = [choose(chance, name, seconds[name]) for name in NAMES]
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        command = node.prepare_bootstrap()
        kills = [killed(node, command, moment) for moment in moments]
        last = start(node, command)
        hit = [entry.phase for entry in kills if entry.was_killed]
        missed = [str(moment) for moment, entry in zip(moments, kills, strict=True) if not entry.was_killed]
        faults = [f"{entry.phase}: {fault}" for entry in [*kills, last] for fault in entry.faults]
        assert faults == []
        assert last.returncode == 0, last.output[-4000:]
        assert wait_ready(node, 90) == []
        assert footprint(node) == footprint(calm)
        before = footprint(node), pods(node)
        again = start(node, command)
        assert again.returncode == 0, again.output[-4000:]
        assert ", 0 changes" in again.output, again.output[-4000:]
        assert (footprint(node), pods(node)) == before
        record(
            title,
            f"{len(hit)} kills, {len(set(hit))} of {len(NAMES)} phases hit"
            f"{f' (over before its kill: {missed})' if missed else ''}; 0 errors, as a calm one; "
            f"the start after a kill took {statistics.median(entry.seconds for entry in kills):.0f} s to the next "
            f"(median), the last {last.seconds:.0f} s; one more: 0 changes in {again.seconds:.0f} s; "
            f"restarts of containers: {sum(restarts(node).values())}",
        )


#: One command of the installer's is killed, or dnf, whoever started it: then the installer must tell.
COMMANDS_ALONE = (
    Moment(phase="install-minion", delay_s=1.5, victim=Victim.DNF),
    Moment(phase="container-runtime", delay_s=2.0, victim=Victim.COMMAND),
    Moment(phase="kubelet-standalone", delay_s=0.5, victim=Victim.COMMAND),
    Moment(phase="nginx", delay_s=2.0, victim=Victim.COMMAND),
    Moment(phase="control-plane", delay_s=3.0, victim=Victim.COMMAND),
)


def test_a_command_killed_alone_is_told_and_the_next_start_goes_on(
    observed_with_nameserver: Observed, record: Record
) -> None:
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        command = node.prepare_bootstrap()
        for moment in COMMANDS_ALONE:
            ended = start(node, command, killed_at=moment)
            told = rf"^error: CSE\d+ CSP\d+ {ended.phase}: "
            assert re.search(told, ended.output, re.MULTILINE), ended.output[-4000:]
            assert "Traceback" not in ended.output
        last = start(node, command)
        assert last.returncode == 0, last.output[-4000:]
        assert wait_ready(node, 90) == []
        assert footprint(node) == footprint(observed_with_nameserver.node)
    record(
        "a salt-call or a dnf of the installer's killed alone",
        f"{len(COMMANDS_ALONE)} kills, each told with its phase; as a calm one; the last start {last.seconds:.0f} s",
    )


def test_a_package_of_the_installer_s_own_with_a_foreign_signature_is_refused(
    tmp_path: Path, record: Record
) -> None:
    with Lab() as lab:
        node = lab.start_node("node1")
        refuse(node, repository_files(node), tmp_path, "salt-minion")
    record("salt-minion with a foreign signature on the media", "refused, nothing installed")


CHECKS_AT_ONCE = 12
CHECK_LIMIT_S = 15.0


def test_checks_are_done_soon_and_at_once_under_load_find_nothing_of_their_own(record: Record) -> None:
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        node.prepare_bootstrap()
        took_s = check_calmly(node, tries=3)
        check_at_once_and_under_load(node, CHECKS_AT_ONCE)
    assert min(took_s) < CHECK_LIMIT_S
    record("check of a clean node", f"{min(took_s):.1f} s, the fastest of {len(took_s)}")
    record(
        "checks of a clean node, two at a time, beside a load",
        f"{CHECKS_AT_ONCE} checks, no finding of their own",
    )


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_demo_and_tests_killed_leave_nothing(
    repository_dir: Path, command: str, number: signal.Signals, record: Record
) -> None:
    left = kill_and_look(repository_dir, command, number, phase="control-plane")
    assert left == []
    record(f"{command}, {number.name} while it installs the control plane", "nothing is left")


def kill_driver(site: Site, name: str) -> None:
    shell(site.driver, KILL_DRIVER)


def kill_minion(site: Site, name: str) -> None:
    shell(site.nodes[name], "systemctl kill --signal=KILL salt-minion", check=False)


def delete_master(site: Site, name: str) -> None:
    kubectl = " ".join(KUBECTL)
    shell(site.driver, f"{kubectl} --namespace kube-system delete pod salt-master-node1 --now", check=False)


def cut_host(site: Site, name: str) -> None:
    site.nodes[name].cut_power()


def cut_driver(site: Site, name: str) -> None:
    site.driver.cut_power()


@pytest.mark.parametrize("act", [kill_driver, kill_minion, delete_master, cut_host, cut_driver])
@pytest.mark.parametrize("name", ["node5", "node3"], ids=["worker", "control-plane"])
def test_an_addition_that_is_cut_in_every_phase_converges(
    name: str, act: Callable[[Site, str], None], site: Site, record: Record
) -> None:
    """Once in each phase, one addition after the other, each of a host that was reset before the first."""
    site.caisson("node", "remove", name, *site.words[name][3:7])
    seen = []
    for phase in (phase.name for phase in node_add.OPERATION.phases):
        seen += [phase] if cut(site, name, phase, partial(act, site, name), after_s=0.5) else []
        for node in (site.driver, site.nodes[name]):
            if not node.is_up:
                node.boot(degraded_ok=True)
        until(lambda: site.kubectl("get", "nodes"), BACK_TIMEOUT_S)
    site.add(name)
    until(site.is_whole, BACK_TIMEOUT_S)
    assert voters(site) == list(site.control_planes)
    assert_no_secret_is_left(site)
    assert "0 changes" in site.add(name)
    record(
        f"addition of {name}, {act.__name__.replace('_', ' ')} in each phase",
        f"{len(seen)} of {len(node_add.OPERATION.phases)} phases hit; Ready, all vote, no secret, then 0 changes",
    )


@pytest.mark.parametrize("kind", ["with", "without"])
def test_nothing_leaves_until_ten_minutes_after_ready(
    kind: str, request: pytest.FixtureRequest, record: Record
) -> None:
    observed: Observed = request.getfixturevalue(f"observed_{kind}_nameserver")
    time.sleep(max(0.0, observed.ready_at + OBSERVED_S - time.monotonic()))
    counts = observed.lab.switch.counts()
    seconds = time.monotonic() - observed.ready_at
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert unready(observed.node) == []
    assert sum(restarts(observed.node).values()) == 0
    seen = observed.lab.switch.probe(observed.node)
    record(
        f"to outside, host {kind} a nameserver, from its boot until {seconds / 60:.0f} minutes after Ready",
        f"{counts.packets} packets, {counts.dns_queries} DNS queries, 0 restarts; the counter saw "
        f"{observed.proof.packets} and {observed.proof.dns_queries} of a probe before, "
        f"{seen.packets} and {seen.dns_queries} after",
    )
