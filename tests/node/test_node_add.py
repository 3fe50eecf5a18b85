# SPDX-License-Identifier: Apache-2.0
"""``caisson node add`` on a bootstrap node: a worker joins, a second time changes nothing, no token and no media stay.

node1 boots from a kept disk; node2 is a bare host that is logged in to by a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from lab import cleanup, kept
from lab.node import Lab, Node
from tests.node.installing import KUBECTL, lab_iso, shell, start

pytestmark = pytest.mark.lab

#: More than the goal of 45 s: beside other labs a node takes longer. The bench measures.
ADD_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 180.0
TOKENS = "--namespace kube-system get secrets --field-selector=type=bootstrap.kubernetes.io/token"


@dataclass(frozen=True)
class Site:
    """A cluster of one node, and a host that is to join it; ``words`` name it on the command line."""

    lab: Lab
    driver: Node
    host: Node
    words: tuple[str, ...]

    def caisson(self, *words: str) -> str:
        """Run caisson on the bootstrap node; return what it printed."""
        return self.driver.run(["caisson", *words], timeout_s=ADD_TIMEOUT_S).stdout

    def kubectl(self, *words: str) -> Any:
        """Return the JSON answer of kubectl."""
        return json.loads(self.driver.run([*KUBECTL, *words, "--output=json"], timeout_s=60).stdout)


def told(node: Node, *words: str, code: int = 0) -> Any:
    """Return the JSON that a command prints in a node; it exits with this code."""
    done = node.run(words, check=False, timeout_s=ADD_TIMEOUT_S)
    assert done.returncode == code, done
    return json.loads(done.stdout)


def is_ready(node: dict[str, Any]) -> bool:
    """Tell whether a node is Ready."""
    return any(
        entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"]["conditions"]
    )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a lab of this module's own, with node2 added; at its end nothing of it is left."""
    with Lab() as lab:
        driver = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        host = lab.start_node("node2")
        fingerprint = host.authorize(driver.read_file("/root/id.pub"))
        words: tuple[str, ...] = (host.control_plane_address, "--name", "node2", "--identity", "/root/id")
        words += ("--host-key", fingerprint, "--labels", "rack=r1", "--taints", "gpu=yes:PreferNoSchedule")
        lab.switch.reset()
        found = Site(lab, driver, host, words)
        print(found.caisson("node", "add", *words))
        yield found
    assert cleanup.leftovers(lab.name) == []


def test_it_is_a_node_with_its_pods(site: Site) -> None:
    node = site.kubectl("get", "node", "node2")
    assert {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}["Ready"] == "True"
    assert node["metadata"]["labels"]["rack"] == "r1"
    assert {"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    addresses = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
    assert addresses["InternalIP"] == site.host.control_plane_address
    pods = site.kubectl("--namespace", "kube-system", "get", "pods", "--field-selector=spec.nodeName=node2")
    names = {pod["metadata"]["name"].rsplit("-", 1)[0] for pod in pods["items"]}
    assert {"calico-node", "kube-proxy"} <= names


def test_a_second_time_changes_nothing(site: Site) -> None:
    assert "0 changes" in site.caisson("node", "add", *site.words)


def test_no_token_is_left(site: Site) -> None:
    """Neither in the cluster nor on the host; nor does Salt's job cache name a secret."""
    for secret in site.kubectl(*TOKENS.split())["items"]:
        assert "caisson node add" not in json.dumps(secret)
    left = shell(site.host, "ls /run/caisson-join /etc/kubernetes/bootstrap-kubelet.conf 2>/dev/null || true")
    assert "conf" not in left
    found = shell(
        site.driver,
        "grep -rlE 'PRIVATE KEY|[a-z0-9]{6}\\.[a-z0-9]{16}\\b' /var/cache/caisson/salt-master/jobs "
        "/var/lib/caisson/jobs /etc/caisson/pillar 2>/dev/null || true",
    )
    assert found.split() == []


def test_a_worker_opens_its_own_ports_only(site: Site) -> None:
    rules = shell(site.host, "firewall-cmd --policy caisson-nodes --list-rich-rules")
    assert 'port="10250"' in rules
    for port in ("6443", "2379", "4505", "8443"):
        assert f'port="{port}"' not in rules, rules


def test_it_has_no_media_and_asks_by_name(site: Site) -> None:
    assert shell(site.host, "findmnt --types iso9660 --noheadings || true").strip() == ""
    assert "https://media.lab.internal:8443" in site.host.read_file(
        "/etc/containerd/certs.d/_default/hosts.toml"
    )
    assert "server: https://api.lab.internal:6443" in site.host.read_file("/etc/kubernetes/kubelet.conf")


def test_all_nodes_are_shown_and_each_is_asked(site: Site) -> None:
    """On the bootstrap node all of it, over the bus; on the worker what that is, and which host to ask."""
    shown = told(site.driver, "caisson", "status", "--json")
    jsonschema.validate(shown, schemas.load("status"))
    assert (shown["faults"], shown["exit_code"]) == ([], 0)
    assert [(node["name"], node["is_ready"]) for node in shown["nodes"]] == [("node1", True), ("node2", True)]
    assert all(node["runtime"].startswith("containerd ") and node["kernel"] for node in shown["nodes"])
    (other,) = shown["other_nodes"]
    assert (other["unreached"], other["key_accepted"], other["minion"]) == ("", True, "answers")
    assert {state for name, state in other["own"]["services"].items()} == {"active"}
    assert {one["answer"] for one in other["own"]["endpoints"]} == {"HTTP 200"}
    assert other["own"]["certificates"]
    one = told(site.driver, "caisson", "status", "--node", "node2", "--json")
    jsonschema.validate(one, schemas.load("status"))
    assert (one["node"]["name"], one["exit_code"]) == ("node2", 0)
    assert "Node node2" in site.caisson("status", "--node", "node2")
    own = told(site.host, "caisson", "status", "--json")
    jsonschema.validate(own, schemas.load("status"))
    assert (own["faults"], own["exit_code"]) == ([], 0)
    assert (own["node"]["role"], own["node"]["bootstrap_node"]) == (
        "worker",
        site.driver.control_plane_address,
    )


def test_what_belongs_to_the_bootstrap_node_is_refused_on_a_worker(site: Site) -> None:
    for words in (("config", "diff"), ("node", "add", "10.77.1.99"), ("bootstrap", "--accept-lab-bundle")):
        refused = site.host.run(["caisson", *words], check=False, timeout_s=120)
        assert refused.returncode == 12, refused
        assert f"on {site.driver.control_plane_address}" in refused.stderr
    site.host.run(["caisson", "report", "--output", "/root/report.tar.gz"], timeout_s=300)
    names = shell(site.host, "tar -tzf /root/report.tar.gz")
    assert "status.json" in names
    status = json.loads(shell(site.host, "tar -xzOf /root/report.tar.gz --wildcards '*/status.json'"))
    assert status["node"]["name"] == "node2"


def test_a_worker_is_checked_over_the_bus(site: Site) -> None:
    """As a worker that is there already: its own services and ports are no faults."""
    done = site.driver.run(
        ["caisson", "check", "--node", "node2", "--json"], check=False, timeout_s=ADD_TIMEOUT_S
    )
    found = json.loads(done.stdout)
    jsonschema.validate(found, schemas.load("check"))
    (node,) = found["nodes"]
    assert node["why"] == ""
    failed = [check["id"] for check in node["report"]["checks"] if check["status"] == "failed"]
    assert (failed, done.returncode) == ([], 0), node


def test_labels_and_taints_that_changed_are_set(site: Site) -> None:
    """What an addition of before had asked for is named, and stays."""
    words = [*site.words[: site.words.index("--labels")], "--labels", "row=7,rack=r2"]
    said = site.caisson("node", "add", *words, "--taints", "gpu=no:PreferNoSchedule,slow:PreferNoSchedule")
    node = site.kubectl("get", "node", "node2")
    assert {"rack": "r2", "row": "7"}.items() <= node["metadata"]["labels"].items()
    taints = [taint for taint in node["spec"]["taints"] if taint["key"] in ("gpu", "slow")]
    assert sorted((taint["key"], taint.get("value", "")) for taint in taints) == [("gpu", "no"), ("slow", "")]
    assert "set on node2: taint slow:PreferNoSchedule" in said
    said = site.caisson("node", "add", *site.words)
    assert "kubectl taint node node2 slow:PreferNoSchedule-" in said
    assert "kubectl label node node2 row-" in said
    assert site.kubectl("get", "node", "node2")["metadata"]["labels"]["row"] == "7"


def test_of_a_list_one_broken_host_stops_no_other(site: Site) -> None:
    """A node, two bare hosts and an address that nobody has: three Ready, one row that says why, its exit code."""
    public_key = site.driver.read_file("/root/id.pub")
    entries = [{"address": site.host.control_plane_address, "name": "node2"}]
    for name in ("node3", "node4"):
        host = site.lab.start_node(name)
        entry = {"address": host.control_plane_address, "name": name}
        entries.append({**entry, "hostKey": host.authorize(public_key)})
    entries.insert(2, {"address": "10.77.1.99", "name": "away"})
    listed = [{**entry, "identity": "/root/id"} for entry in entries]
    site.driver.write_file(
        "/root/nodes.yaml", json.dumps({"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": listed})
    )
    done = site.driver.run(
        ["caisson", "node", "add", "--file", "/root/nodes.yaml"], check=False, timeout_s=ADD_TIMEOUT_S
    )
    print(done.stdout)
    assert done.returncode == 14, done
    lines = done.stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("NAME "))
    rows = [line.split() for line in lines[start + 1 : start + 5]]
    assert [(row[0], row[3]) for row in rows] == [
        ("node2", "Ready"),
        ("node3", "Ready"),
        ("away", "failed"),
        ("node4", "Ready"),
    ]
    assert {line.partition(" | ")[0].strip() for line in lines if " | " in line} == {
        "node2",
        "node3",
        "node4",
        "away",
    }
    ready = {node["metadata"]["name"] for node in site.kubectl("get", "nodes")["items"] if is_ready(node)}
    assert ready == {"node1", "node2", "node3", "node4"}
    (newest, *_) = told(site.driver, "caisson", "jobs", "--json")["jobs"][::-1]
    job = told(site.driver, "caisson", "job", newest["id"], "--json", code=14)["job"]
    assert [host["result"] for host in job["hosts"]] == ["Ready", "Ready", "failed", "Ready"]
    assert {phase["host"] for phase in job["phases"]} == {entry["address"] for entry in entries}
    log = site.driver.read_file("/var/log/caisson/node-add.log")
    assert "changed on node3: " in log
    assert newest["id"] in log


def test_a_bootstrap_again_takes_nothing_from_the_further_nodes(site: Site) -> None:
    """Their pillars, keys and names stay; nothing changes; all are Ready and answer."""
    kept = "cd /etc/caisson && sha256sum pillar/top.sls pillar/nodes/* salt/pki/master/minions/* /etc/hosts"
    before = shell(site.driver, kept)
    ended = start(site.driver, site.driver.prepare_bootstrap())
    assert ended.returncode == 0, ended.output[-6000:]
    assert ", 0 changes" in ended.output
    assert "node2 " in ended.output
    assert shell(site.driver, kept) == before
    # Four nodes share the machine with whatever else runs: a minion that answers late is unknown, and no fault.
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        shown = told(site.driver, "caisson", "status", "--json")
        assert (shown["faults"], shown["exit_code"]) == ([], 0)
        minions = {node["name"]: node["minion"] for node in shown["other_nodes"]}
        if set(minions.values()) == {"answers"} or time.monotonic() > deadline:
            break
    assert minions == dict.fromkeys(("node2", "node3", "node4"), "answers")
    assert "0 changes" in site.caisson("node", "add", *site.words)


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
