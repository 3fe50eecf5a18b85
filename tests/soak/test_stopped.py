# SPDX-License-Identifier: Apache-2.0
"""The installer is stopped by Ctrl-C and by SIGTERM in the middle of its work: all that it had started ends with it.

Packages are whole: what rpm has begun it finishes. Started again, it goes on to a cluster that is Ready.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.node import Lab, Node
from tests.node.installing import Ended, Moment, Victim, journal, lab_iso, shell, start, unready

pytestmark = pytest.mark.lab

#: Ctrl-C while dnf installs, then while images are imported; SIGTERM while kubeadm works.
MOMENTS = (
    Moment(phase="install-minion", delay_s=1.0, victim=Victim.ASKED_BY_KEY),
    Moment(phase="container-runtime", delay_s=4.0, victim=Victim.ASKED_BY_KEY),
    Moment(phase="control-plane", delay_s=3.0, victim=Victim.ASKED_BY_SIGTERM),
)
#: Programs that the installer or its salt-call start, and that must not outlive it.
STARTED = "dnf rpm salt-call kubeadm ctr crictl kubectl"


@pytest.fixture(scope="module")
def stopped_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def node(stopped_lab: Lab) -> Node:
    """Return a node on which nothing is installed yet."""
    return stopped_lab.start_node("node1", iso=lab_iso())


@pytest.fixture(scope="module")
def command(node: Node) -> list[str]:
    """Mount the ISO and return what starts the bootstrap from it."""
    return node.prepare_bootstrap()


@pytest.fixture(scope="module")
def stopped(node: Node, command: list[str]) -> list[tuple[Ended, str]]:
    """Stop the bootstrap once for each moment; with each, what it had started and still ran at once afterwards."""
    found = []
    for moment in MOMENTS:
        ended = start(node, command, killed_at=moment)
        left = shell(node, f"for name in {STARTED}; do pgrep -a -x $name; done; ls /run/caisson", check=False)
        found.append((ended, left))
    return found


def test_it_says_that_it_was_stopped_and_leaves_nothing_running(stopped: list[tuple[Ended, str]]) -> None:
    for moment, (ended, left) in zip(MOMENTS, stopped, strict=True):
        assert ended.returncode == 130, (str(moment), ended.output[-2000:])
        assert f" {moment.phase}: stopped" in ended.output
        assert f"--from {moment.phase}" in ended.output
        assert left == "", str(moment)


def test_the_journal_closes_what_was_stopped(stopped: list[tuple[Ended, str]], node: Node) -> None:
    assert len(stopped) == len(MOMENTS)
    failed = [entry["phase"] for entry in journal(node) if entry["event"] == "failed"]
    assert failed == [moment.phase for moment in MOMENTS]


def test_packages_are_whole_and_the_next_start_ends_well(
    stopped: list[tuple[Ended, str]], node: Node
) -> None:
    assert len(stopped) == len(MOMENTS)
    again = start(node, node.prepare_bootstrap())
    assert again.returncode == 0, again.output[-4000:]
    assert "was interrupted" not in again.output
    names = shell(node, "rpm -qa --qf '%{NAME}\\n'").split()
    # A host has several kernels at once, and a name for each key.
    twice = {
        name for name in names if names.count(name) > 1 and not name.startswith(("kernel", "gpg-pubkey"))
    }
    assert twice == set()
    verified = shell(node, "rpm --verify salt salt-minion containerd.io kubelet --nomtime", check=False)
    # Configuration files are what the bootstrap writes.
    assert [line for line in verified.splitlines() if "  c /" not in line] == []
    assert unready(node) == []
