# SPDX-License-Identifier: Apache-2.0
"""``caisson reset`` on a bootstrap node: killed once, gone on with; the host is what it was, no byte of a site's goes.

The node boots from a kept disk; what it was before is taken from a node of the same name that nobody has touched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node
from tests.node import snapshot
from tests.node.growing import KILL_DRIVER
from tests.node.installing import KUBECTL, lab_iso, shell

pytestmark = pytest.mark.lab

RESET_TIMEOUT_S = 400.0
#: A file server's share in a pod's volume is such: a bind mount has the device of the root file system, too.
SITE = """
mkdir -p /srv/site /var/lib/kubelet/pods/of-site/volumes/share /etc/kubernetes/manifests
echo precious > /srv/site/data
mount --bind /srv/site /var/lib/kubelet/pods/of-site/volumes/share
sed -i '1i 10.0.0.9 build.example' /etc/hosts
echo 'kind: Secret' > /etc/kubernetes/of-site.yaml
firewall-cmd --quiet --permanent --zone=public --add-port=8080/tcp && firewall-cmd --quiet --reload
nft add table inet site
"""
OF_SITE = (
    r" /srv/site|  /etc/hosts$|8080/tcp|dport 8080|^\s+ports: |/etc/firewalld/zones/public\.xml",
    r"^nft (table inet site|\}|$)",
)


@dataclass(frozen=True)
class Taken:
    """A node that was bootstrapped and then reset; ``before``: what a host is that nobody has touched."""

    node: Node
    before: list[str]
    after: list[str]
    shown: str
    cut: str
    output: str
    seconds: float


@pytest.fixture(scope="module")
def taken() -> Iterator[Taken]:
    """Reset a node, killed once in the middle; at the end nothing of the lab is left."""
    with Lab() as lab:
        before = snapshot.take(lab.start_node("node1", iso=lab_iso()))
    with Lab() as lab:
        node = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        shell(node, SITE)
        shown = node.run(["caisson", "reset"], timeout_s=120).stdout
        cut = _killed_at(node, "delete-data")
        began = time.monotonic()
        output = node.run(["caisson", "reset", "--yes"], timeout_s=RESET_TIMEOUT_S).stdout
        seconds = time.monotonic() - began
        yield Taken(node, before, snapshot.take(node), shown, cut, output, seconds)
    assert cleanup.leftovers(lab.name) == []


def _killed_at(node: Node, phase: str) -> str:
    """Start a reset and kill it in a phase; return what it had said by then."""
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if f" {phase}: " in line:
            shell(node, KILL_DRIVER)

    code = node.stream(["caisson", "reset", "--yes"], on_line, timeout_s=RESET_TIMEOUT_S)
    assert code in (-9, 137), lines
    return "\n".join(lines)


def test_alone_it_shows_all_and_does_nothing(taken: Taken) -> None:
    for text in (
        "stop-pods",
        "unmount",
        "kube-proxy of nftables",
        "delete /var/lib/etcd",
        "remove-packages: remove ",
    ):
        assert text in taken.shown
    assert "nothing was changed" in taken.shown


def test_one_that_was_cut_goes_on(taken: Taken) -> None:
    assert "CSP609" in taken.cut
    assert "CSP610" not in taken.cut
    assert "interrupted in the phase 'delete-data'" in taken.output
    assert "13 phases in" in taken.output


def test_the_host_is_what_it_was(taken: Taken) -> None:
    assert snapshot.differences(taken.before, taken.after, *OF_SITE) == []


def test_what_is_the_site_s_is_there(taken: Taken) -> None:
    assert shell(taken.node, "cat /srv/site/data") == "precious\n"
    assert shell(taken.node, "head -n 1 /etc/hosts") == "10.0.0.9 build.example\n"
    saved = shell(taken.node, "cat /var/log/caisson/before-reset-*/etc/kubernetes/of-site.yaml")
    assert saved == "kind: Secret\n"
    assert "8080/tcp" in shell(taken.node, "firewall-cmd --zone=public --list-ports")
    assert "table inet site" in shell(taken.node, "nft list tables")


def test_no_key_is_left(taken: Taken) -> None:
    places = "/etc /var/lib /var/cache /var/log /opt /root"
    found = shell(taken.node, f"grep -rl 'PRIVATE KEY' --exclude='*.iso' {places} 2>/dev/null || true")
    assert [name for name in found.split() if "/ssh/ssh_host_" not in name] == []


def test_from_the_media_there_is_nothing_left_to_do_also_after_a_boot(taken: Taken) -> None:
    taken.node.reboot()
    taken.node.mount_iso()
    said = taken.node.run(["/mnt/caisson/bootstrap.sh", "reset", "--yes"], timeout_s=120).stdout
    assert "0 changes" in said
    assert shell(taken.node, "ss -Hltn | grep -cE ':(6443|2379|10250|4505|8443) ' || true").strip() == "0"


def test_a_bootstrap_makes_it_a_node_again(taken: Taken) -> None:
    done = taken.node.run(taken.node.prepare_bootstrap(), timeout_s=600)
    assert done.returncode == 0
    nodes = json.loads(taken.node.run([*KUBECTL, "get", "nodes", "--output=json"], timeout_s=60).stdout)[
        "items"
    ]
    conditions = {entry["type"]: entry["status"] for entry in nodes[0]["status"]["conditions"]}
    assert conditions["Ready"] == "True"
