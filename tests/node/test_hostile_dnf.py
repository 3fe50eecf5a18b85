# SPDX-License-Identifier: Apache-2.0
"""A host whose own dnf is slow, locked and cut off: the bootstrap is neither slower nor different."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from lab.errors import LabError
from lab.node import Lab, Node

from .conftest import Cluster, bootstrap, lab_iso, repository_files

pytestmark = pytest.mark.lab

PLUGIN_SLEEP_S = 60
PLUGIN = f"""\
import time
import dnf

class Slow(dnf.Plugin):
    name = "slow"

    def __init__(self, base, cli):
        super().__init__(base, cli)
        time.sleep({PLUGIN_SLEEP_S})
"""
DEAD_MIRROR = """\
[dead]
name=a mirror that answers nobody
baseurl=http://203.0.113.99/el9/
enabled=1
gpgcheck=0
"""
MAKE_HOSTILE = """
echo 'exclude=containerd*' >> /etc/dnf/dnf.conf
echo 'plugins=1' >> /etc/dnf/dnf.conf
mkdir -p /etc/dnf/plugins
echo 'kubelet-0:1.30.1-1.*' > /etc/dnf/plugins/versionlock.list
printf '[main]\\nenabled=1\\n' > /etc/dnf/plugins/slow.conf
"""
# A phase that waits for one sleep of the plugin takes this much longer than on the clean node.
TOLERANCE_S = 45.0
INSTALLING_PHASES = ("install-minion", "container-runtime", "kubelet-standalone")


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[Lab, Node]]:
    """Start a node of a lab of its own and spoil its dnf."""
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        node.run(["bash", "-euc", MAKE_HOSTILE], timeout_s=30)
        plugins_dir = node.run(
            ["python3", "-c", "import dnf.const; print(dnf.const.PLUGINPATH)"], timeout_s=30
        ).stdout.strip()
        node.write_file(f"{plugins_dir}/slow.py", PLUGIN)
        node.write_file("/etc/yum.repos.d/dead.repo", DEAD_MIRROR)
        yield lab, node


def test_the_hosts_own_dnf_is_as_bad_as_it_was_made(hostile: tuple[Lab, Node]) -> None:
    """Or the test below would prove nothing."""
    _, node = hostile
    with pytest.raises(LabError, match="10 s"):
        node.run(["dnf", "repolist"], timeout_s=10)


def test_the_bootstrap_is_neither_slower_nor_different(hostile: tuple[Lab, Node], cluster: Cluster) -> None:
    """Compared with the shared cluster, whose node is clean."""
    lab, node = hostile
    files_before = repository_files(node)
    returncode, output = bootstrap(lab, node)
    assert returncode == 0, output[-6000:]
    took, clean = phase_seconds(node), phase_seconds(cluster.node)
    assert {name for name in INSTALLING_PHASES if took[name] > clean[name] + TOLERANCE_S} == set(), took
    assert "CSN409  warning" in output
    assert "/etc/dnf/dnf.conf excludes 'containerd*': not applied to containerd.io" in output
    assert "versionlock.list locks 'kubelet-0:1.30.1-1.*': not applied to kubelet" in output
    installed = "rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\\n' | sort"
    assert node.run(["bash", "-c", installed], timeout_s=60).stdout == cluster.shell(installed)
    assert repository_files(node) == files_before


def phase_seconds(node: Node) -> dict[str, float]:
    """Return phase -> seconds, from the journal of the installer."""
    lines = node.read_file("/var/lib/caisson/journal.jsonl").splitlines()
    entries = [json.loads(line) for line in lines if re.match(r"^\{", line)]
    return {entry["phase"]: float(entry["seconds"]) for entry in entries if entry.get("seconds") is not None}
