# SPDX-License-Identifier: Apache-2.0
"""Control planes leave: one that runs without a trace, and what a cluster of two does when one of them is gone.

node1 boots from a kept disk; node2 and node3 are bare hosts that become control planes beside it. The cluster is taken
apart to one node by the page's own commands, and grows again.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import cleanup, kept
from lab.errors import LabError
from lab.node import Lab, Node
from tests.node import snapshot
from tests.node.growing import GROW_TIMEOUT_S, Site, all_ready, until
from tests.node.installing import ROOT_DIR, lab_iso, shell
from tests.node.test_remove import OF_LOGIN

pytestmark = pytest.mark.lab

NAMES = ("node2", "node3")
#: The goal is 30 s; between two writes that got through it is 3 s: both with the machine to itself.
DEAD_LIMIT_S = 90.0
GAP_LIMIT_S = 10.0
COMES_BACK_S = 20.0
PAGE = "docs/how-to/remove-a-node.md"
LOST = "When etcd has lost its quorum"
ETCDCTL = (
    "crictl exec $(crictl ps -q --name '^etcd$') etcdctl --endpoints https://ADDRESS:2379 "
    "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt "
    "--key /etc/kubernetes/pki/etcd/server.key "
)
#: One write each 200 ms, from the bootstrap node to its own API server; a line for each that got through.
WRITES = r"""
umask 077; cd /root
for kind in certificate-authority client-certificate client-key; do
  sed -n "s/^ *$kind-data: //p" /etc/kubernetes/admin.conf | base64 -d > probe.$kind
done
kubectl --kubeconfig /etc/kubernetes/admin.conf create configmap probe >/dev/null
while test -e /root/probe.on; do
  at=$(date +%s.%N)
  curl -sf --max-time 1 --cacert probe.certificate-authority --cert probe.client-certificate --key probe.client-key \
    -X PATCH -H 'Content-Type: application/merge-patch+json' -d "{\"data\": {\"at\": \"$at\"}}" \
    https://api.lab.internal:6443/api/v1/namespaces/default/configmaps/probe >/dev/null && date +%s.%N >> probe.log
  sleep 0.2
done
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Yield three control planes, in a lab of this module's own; at its end nothing of it is left."""
    with Lab() as lab:
        found = Site(lab)
        driver = found.nodes["node1"] = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        public_key = driver.read_file("/root/id.pub")
        lab.switch.reset()
        for name in NAMES:
            host = found.nodes[name] = lab.start_node(name)
            login = ("--identity", "/root/id", "--host-key", host.authorize(public_key))
            words = (host.control_plane_address, "--name", name, *login, "--role", "control-plane")
            found.words[name] = words
        found.before.extend(snapshot.take(found.nodes["node3"]))
        grow(found)
        yield found
    assert cleanup.leftovers(lab.name) == []


def grow(site: Site) -> None:
    """Add both, by one list."""
    entries = [
        {
            "address": words[0],
            "name": name,
            "identity": "/root/id",
            "hostKey": words[6],
            "role": "control-plane",
        }
        for name, words in site.words.items()
    ]
    assert all(str(entry["hostKey"]).startswith("SHA256:") for entry in entries)
    text = json.dumps({"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": entries})
    site.driver.write_file("/root/nodes.yaml", text)
    command = ["caisson", "node", "add", "--file", "/root/nodes.yaml"]
    done = site.driver.run(command, timeout_s=GROW_TIMEOUT_S, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def login(name: str, site: Site) -> tuple[str, ...]:
    """Return how a host is logged in to."""
    return site.words[name][3:7]


def etcdctl(node: Node, words: str, address: str = "127.0.0.1") -> str:
    """Ask etcd from a node."""
    return shell(node, ETCDCTL.replace("ADDRESS", address) + words)


def members(site: Site) -> dict[str, int]:
    """Return name -> id of the members of etcd, all of which must be voters."""
    found = json.loads(etcdctl(site.driver, "member list --write-out=json"))["members"]
    assert not [member for member in found if member.get("isLearner")]
    return {member["name"]: member["ID"] for member in found}


def lead(site: Site, name: str) -> None:
    """Let a member of etcd lead; only the one that leads may be asked for that."""
    wanted, addresses = members(site)[name], [node.control_plane_address for node in site.nodes.values()]
    for address in addresses:
        (said,) = json.loads(etcdctl(site.driver, "endpoint status --write-out=json", address))
        if said["Status"]["header"]["member_id"] == said["Status"]["leader"] != wanted:
            etcdctl(site.driver, f"move-leader {wanted:x}", address)


def longest_gap(lines: list[str]) -> float:
    """Return the longest time between two writes that got through."""
    moments = [float(line) for line in lines]
    assert len(moments) > 10, lines
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def test_one_that_runs_leaves_without_a_trace(site: Site) -> None:
    """It leads etcd at that; who writes to the API waits for no election."""
    lead(site, "node3")
    site.driver.write_file("/root/writes.sh", WRITES)
    shell(site.driver, "touch /root/probe.on; nohup setsid bash /root/writes.sh >/root/writes.out 2>&1 &")
    began = time.monotonic()
    print(site.caisson("node", "remove", "node3", *login("node3", site)))
    took = time.monotonic() - began
    shell(site.driver, "rm /root/probe.on; sleep 1.5")
    gap = longest_gap(shell(site.driver, "cat /root/probe.log").split())
    print(f"3 -> 2: {took:.1f} s, longest time between two writes {gap:.2f} s")
    assert gap <= GAP_LIMIT_S
    assert set(members(site)) == {"node1", "node2"}
    assert site.ready() == all_ready("node1", "node2")
    differing = snapshot.differences(site.before, snapshot.take(site.nodes["node3"]), *OF_LOGIN)
    assert "\n".join(differing) == ""


def test_the_others_know_that_it_is_gone(site: Site) -> None:
    """Etcd is closed to its address, and nobody looks for the API there."""
    address = site.nodes["node3"].control_plane_address
    script = "firewall-cmd --list-all-policies; firewall-cmd --list-all-zones; grep -v ^# /etc/hosts"
    for name in ("node1", "node2"):
        said = shell(site.nodes[name], script)
        assert address not in said.split(), name
        assert f'source address="{address}' not in said, name
        assert site.nodes["node1"].control_plane_address in said, name
    service = site.kubectl("--namespace", "default", "get", "endpointslices", "kubernetes")
    behind = [entry["addresses"][0] for entry in service["endpoints"]]
    assert sorted(behind) == sorted(site.nodes[name].control_plane_address for name in ("node1", "node2"))


def test_of_two_none_may_be_gone_and_the_refusal_says_what_to_do(site: Site) -> None:
    site.nodes["node2"].cut_power()
    began = time.monotonic()
    said = site.caisson("node", "remove", "node2", "--dead", code=11)
    assert "etcd has no quorum: of its 2 members 1 answer, and 2 must" in said
    assert "member node2 of etcd does not answer" in said
    assert "start the control planes that are off" in said
    assert LOST in said
    assert time.monotonic() - began <= DEAD_LIMIT_S


def commands(section: str) -> list[str]:
    """Return the commands of a section of the page."""
    text = (ROOT_DIR / PAGE).read_text(encoding="utf-8").partition(f"## {section}")[2].partition("\n## ")[0]
    return re.findall(r"^# (.+)$", text, flags=re.MULTILINE)


def test_the_one_that_is_left_goes_on_alone_by_the_page(site: Site) -> None:
    *recovery, status, put_back, remove = commands(LOST)
    assert (status, remove) == ("caisson status", "caisson node remove node2 --dead")
    shell(site.driver, "set -e\n" + "\n".join(recovery), timeout_s=120)

    def is_alone() -> bool:
        done = site.driver.run(["caisson", "status"], check=False, timeout_s=60)
        return "1 member," in done.stdout and bool(site.kubectl("get", "nodes")["items"])

    print(f"alone after {until(is_alone, 180):.1f} s")
    shell(site.driver, put_back)
    until(lambda: "--force-new-cluster" not in arguments_of_etcd(site.driver), 120)
    until(lambda: site.ready()["node2"] != "True", 120)
    until(lambda: set(members(site)) == {"node1"}, 120)
    began = time.monotonic()
    print(shell(site.driver, remove, timeout_s=120))
    assert time.monotonic() - began <= DEAD_LIMIT_S
    assert site.ready() == all_ready("node1")
    assert set(members(site)) == {"node1"}


def arguments_of_etcd(node: Node) -> str:
    """Return how etcd runs here; it must answer."""
    etcdctl(node, "endpoint health")
    said = shell(node, "tr '\\0' ' ' < /proc/$(pgrep -x etcd)/cmdline")
    if not said:
        raise LabError("etcd does not run")
    return said


def test_the_last_one_stays(site: Site) -> None:
    said = site.caisson("node", "remove", "node1", code=11)
    assert "node1 is the last control plane" in said


def test_one_that_was_gone_joins_nothing_by_itself(site: Site) -> None:
    node = site.nodes["node2"]
    node.boot(degraded_ok=True)
    ends_at = time.monotonic() + COMES_BACK_S
    while time.monotonic() < ends_at:
        assert list(site.ready()) == ["node1"]
        assert list(members(site)) == ["node1"]
        time.sleep(3)
    # Its own API server may answer by then, and has nothing to say: etcd beside it has no quorum.
    node.run(["caisson", "reset", "--yes", "--force"], timeout_s=300)
    assert shell(node, "ls -A /etc/kubernetes /var/lib/etcd 2>/dev/null || true").split() == []


def test_it_grows_again(site: Site) -> None:
    grow(site)
    assert site.ready() == all_ready("node1", *NAMES)
    assert set(members(site)) == {"node1", *NAMES}
    counts: Any = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
