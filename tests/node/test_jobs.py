# SPDX-License-Identifier: Apache-2.0
"""A bootstrap as a unit of systemd: let go of, seen by others, ended, killed, and gone on with by the same command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.engine import jobunit
from installer.operations import job_report
from lab.node import Lab, Node
from tests.node.installing import Ended, Moment, Victim, lab_iso, shell, start, unready

pytestmark = pytest.mark.lab

FORM = jsonschema.Draft7Validator(
    json.loads(Path(job_report.__file__).with_name("jobs.schema.json").read_text(encoding="utf-8"))
)
KILLED_AT = Moment(phase="container-runtime", delay_s=2.0, victim=Victim.INSTALLER)
#: Begin in the background, wait for a phase, press Ctrl-C. A shell's background jobs ignore that key otherwise.
LET_GO = """
env --default-signal=INT {command} >/root/let-go.log 2>&1 & follower=$!
for second in $(seq 60); do grep -q install-minion: /root/let-go.log && break; sleep 1; done
kill -INT $follower; wait $follower; echo "code $?"
"""


@pytest.fixture(scope="module")
def jobs_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def node(jobs_lab: Lab) -> Node:
    """Return a node on which nothing is installed yet."""
    return jobs_lab.start_node("node1", iso=lab_iso())


@pytest.fixture(scope="module")
def command(node: Node) -> list[str]:
    """Mount the ISO and return what starts the bootstrap from it, as a unit."""
    return [*node.prepare_bootstrap(), "--detach"]


def jobs(node: Node) -> list[dict[str, Any]]:
    """Return all jobs, the oldest first."""
    data = json.loads(shell(node, "caisson jobs --json"))
    FORM.validate(data)
    assert data["unreadable"] == []
    found: list[dict[str, Any]] = data["jobs"]
    return found


@pytest.fixture(scope="module")
def let_go(node: Node, command: list[str]) -> dict[str, str]:
    """Let go of a job by Ctrl-C, look at it from elsewhere, then end it by its ID; return what was said."""
    said = {"ctrl-c": shell(node, LET_GO.format(command=shlex.join(command)), timeout_s=120)}
    said["follower"] = shell(node, "cat /root/let-go.log")
    job = jobs(node)[-1]
    said["state"] = job["state"]
    said["unit"] = shell(node, f"systemctl show --property=ActiveState,KillMode,ControlGroup {job['unit']}")
    said["second"] = shell(node, f"{shlex.join(command)} 2>&1; echo code $?", timeout_s=60)
    said["modes"] = shell(node, f"stat --format=%a {job['directory']}/.. {job['directory']}{{,/*}}")
    said["cancel"] = shell(node, f"caisson job {job['id']} --cancel 2>&1; echo code $?", timeout_s=700)
    said["after"] = shell(node, f"caisson job {job['id']} 2>&1; echo code $?")
    said["left"] = shell(
        node, "for name in dnf rpm salt-call; do pgrep -a -x $name; done; ls /run/caisson", check=False
    )
    return said


@pytest.fixture(scope="module")
def cut_off(let_go: dict[str, str], node: Node, command: list[str]) -> tuple[Ended, dict[str, Any]]:
    """Kill the process of the next job; return how its follower ended and how the job then is."""
    assert let_go["left"] == ""
    ended = start(node, command, killed_at=KILLED_AT)
    return ended, jobs(node)[-1]


@pytest.fixture(scope="module")
def gone_on(cut_off: tuple[Ended, dict[str, Any]], node: Node, command: list[str]) -> Ended:
    """Type the same command again."""
    assert cut_off[1]["state"] == "interrupted"
    return start(node, command)


def test_ctrl_c_lets_go_and_the_job_goes_on_in_a_control_group_of_its_own(let_go: dict[str, str]) -> None:
    assert let_go["ctrl-c"] == "code 130\n"
    assert "no longer following job" in let_go["follower"]
    assert "--follow" in let_go["follower"]
    assert "--cancel" in let_go["follower"]
    assert let_go["state"] == "running"
    assert "ActiveState=active" in let_go["unit"]
    assert "KillMode=process" in let_go["unit"]
    assert "/caisson-job@20" in let_go["unit"]


def test_a_second_one_is_told_which_job_is_at_work(let_go: dict[str, str]) -> None:
    assert "error: CSE005 another job is at work on this host: 20" in let_go["second"]
    assert "-bootstrap-" in let_go["second"]
    assert let_go["second"].endswith("code 5\n")


def test_all_of_it_is_root_s_alone(let_go: dict[str, str]) -> None:
    directories, files = let_go["modes"].split()[:2], let_go["modes"].split()[2:]
    assert set(directories) == {"700"}
    assert set(files) == {"600"}
    assert len(files) >= 3


def test_it_is_ended_politely(let_go: dict[str, str]) -> None:
    assert let_go["cancel"].endswith("code 0\n")
    assert re.search(r"error: CSE130 CSP\d+ [a-z-]+: stopped", let_go["after"])
    assert let_go["after"].endswith("code 130\n")
    assert let_go["left"] == ""


def test_one_that_is_killed_says_that_it_was_interrupted(cut_off: tuple[Ended, dict[str, Any]]) -> None:
    ended, job = cut_off
    assert ended.returncode == 22, ended.output[-2000:]
    assert f"error: CSE022 job {job['id']} was interrupted" in ended.output
    assert (job["state"], job["exit_code"], len(job["starts"])) == ("interrupted", 22, 1)


def test_the_same_command_goes_on_with_the_same_job(
    cut_off: tuple[Ended, dict[str, Any]], gone_on: Ended, node: Node
) -> None:
    assert gone_on.returncode == 0, gone_on.output[-4000:]
    assert f"the last run was interrupted in the phase '{KILLED_AT.phase}'" in gone_on.output
    job = jobs(node)[-1]
    assert job["id"] == cut_off[1]["id"]
    assert (job["state"], job["exit_code"], len(job["starts"])) == ("succeeded", 0, 2)
    assert job["summary"] in gone_on.output
    assert unready(node) == []


def test_what_a_killed_attempt_has_left_running_is_not_in_the_way_of_the_next(
    gone_on: Ended, node: Node
) -> None:
    assert gone_on.returncode == 0
    first, second = (jobunit.name("19990101-000000-test-000000", attempt) for attempt in (1, 2))
    node.run(jobunit.command_line(first, ["bash", "-c", "sleep 29.5 & exec sleep 300"]), timeout_s=30)
    shell(node, f"kill -KILL $(systemctl show --value --property=MainPID {first}); sleep 1")
    node.run(jobunit.command_line(second, ["true"]), timeout_s=30)
    left = shell(
        node, f"systemctl show --value --property=ActiveState {first}; pgrep --count -f '^sleep 29.5'"
    )
    assert left == "failed\n1\n"
    shell(node, "pkill -f '^sleep 29.5'; sleep 1")


def test_nothing_of_a_unit_is_left(gone_on: Ended, node: Node) -> None:
    assert gone_on.returncode == 0
    listed = shell(node, "systemctl list-units --all --plain --no-legend 'caisson-job@*'; ls /run/caisson")
    assert listed == ""
    assert shell(
        node, "ls /etc/systemd/system /run/systemd/transient | grep -c caisson-job", check=False
    ) == ("0\n")


def test_a_bootstrap_in_the_foreground_is_a_job_too(gone_on: Ended, node: Node, command: list[str]) -> None:
    assert gone_on.returncode == 0
    again = start(node, command[:-1])
    assert again.returncode == 0
    job = jobs(node)[-1]
    assert (job["state"], job["unit"]) == ("succeeded", "")
    assert job["summary"].endswith(", 0 changes")
    shown = shell(node, f"caisson job {job['id'][-6:]} --follow")
    assert job["summary"] in shown
