# SPDX-License-Identifier: Apache-2.0
"""A host as a cloud image comes, without firewalld and tar: the baseline el9.8-cloud of packages.yaml.

firewalld is not installed uninvited; how to have it is said, and works. The tests run in the order written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from installer.media.dnf import HOST_PACKAGES
from lab.node import CONFIGURATION_FILE, Lab, Node

from .installing import Ended, install, is_reached, journal, lab_iso, packages, shell, wait_ready

pytestmark = pytest.mark.lab

READY_S = 90.0


def has_changed(node: Node, phase: str) -> bool:
    """Tell whether a phase changed anything when it was last run to its end."""
    ends = [entry for entry in journal(node) if entry["phase"] == phase and entry["event"] == "done"]
    return bool(ends[-1]["changed"])


@dataclass(frozen=True)
class Installed:
    """A node on which ``bootstrap.sh`` ended well, and the packages that it had before."""

    lab: Lab
    node: Node
    ended: Ended
    packages_before: set[str]


@pytest.fixture(scope="module")
def host() -> Iterator[Installed]:
    """Return a node of el9.8-cloud after its bootstrap."""
    with Lab(profile="el9.8-cloud") as lab:
        node = lab.start_node("node1", iso=lab_iso())
        there = shell(node, "command -v firewall-cmd firewalld iptables tar", check=False)
        assert there == "", "the baseline lacks these programs"
        before = packages(node)
        assert not [
            name for name in before if re.match(r"(firewalld|iptables-nft|python3-firewall|tar)-\d", name)
        ]
        yield Installed(lab, node, install(node), before)


@pytest.fixture(scope="module")
def advice(host: Installed) -> str:
    """Return the command that the warning of the bootstrap prints, to the letter."""
    found = re.search(
        r"^CSN405 +warning +.*firewalld is not installed -> (.*)$", host.ended.output, re.MULTILINE
    )
    assert found, host.ended.output[:4000]
    command = re.search(r"when the bootstrap has ended: (dnf .+), then run the bootstrap again$", found[1])
    assert command, found[1]
    return command[1]


@pytest.fixture(scope="module")
def neighbour(host: Installed) -> Node:
    """Return another node of the same networks."""
    return host.lab.start_node("node2")


def test_it_ends_well_and_leaves_the_host_without_a_firewall(host: Installed, neighbour: Node) -> None:
    assert wait_ready(host.node, READY_S) == []
    for address in ("10.77.1.11", "10.77.3.11"):
        assert is_reached(neighbour, address, 10256), "as the warning says, all ports are open"
    shell(host.node, "caisson status")
    after = packages(host.node)
    assert host.packages_before <= after, "a package of the host was changed"
    assert not [name for name in after if name.startswith("firewalld-")]
    assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()


def test_tar_is_there_and_comes_from_the_iso(host: Installed) -> None:
    query = "dnf --config /etc/caisson/dnf/dnf.conf --noplugins repoquery --installed"
    known = shell(host.node, f"{query} --queryformat '%{{name}} %{{from_repo}}\\n' {' '.join(HOST_PACKAGES)}")
    origins = dict(line.split() for line in known.splitlines() if line)
    assert origins["tar"] == "caisson", known
    round_trip = "cd /tmp && tar --create --xz --file etc.tar.xz /etc/hosts && tar --list --file etc.tar.xz"
    assert shell(host.node, round_trip).split()[-1] == "etc/hosts"


def test_firewalld_is_installed_by_the_command_that_the_warning_prints(host: Installed, advice: str) -> None:
    shell(host.node, advice, timeout_s=300)
    assert shell(host.node, "firewall-cmd --state").strip() == "running"
    assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()
    install(host.node)
    assert has_changed(host.node, "firewall")
    rules = shell(host.node, "firewall-cmd --permanent --policy=caisson-nodes --list-rich-rules")
    assert 'source address="10.77.1.0/24" port port="6443"' in rules
    report = json.loads(
        shell(host.node, f"/mnt/caisson/bootstrap.sh check --json --config {CONFIGURATION_FILE}")
    )
    (check,) = (check for check in report["checks"] if check["id"] == "CSN405")
    assert check["status"] == "passed"


def test_a_neighbour_reaches_the_port_table_only_and_pods_are_ready(host: Installed, neighbour: Node) -> None:
    assert wait_ready(host.node, READY_S) == []
    assert is_reached(neighbour, "10.77.1.11", 6443)
    assert is_reached(neighbour, "10.77.1.11", 8443)
    assert not is_reached(neighbour, "10.77.1.11", 10256)
    assert not is_reached(neighbour, "10.77.3.11", 10256)
    assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()
