# SPDX-License-Identifier: Apache-2.0
"""``caisson node add`` on a bootstrap node: workers join, a second time changes nothing, no token and no media stay."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from lab.node import Node
from tests.node.growing import ADD_TIMEOUT_S, Site, told, until
from tests.node.installing import KUBECTL, shell, start

pytestmark = pytest.mark.lab

ANSWER_TIMEOUT_S = 180.0
EVERYWHERE = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere, namespace: default}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers: [{name: pause, image: "IMAGE"}]
"""
SERVER = "/usr/libexec/platform-python -B -m http.server 8080 --directory /mnt"
#: The host's own programs, in the network of the pod of that DaemonSet.
IN_POD = (
    "nsenter --net=$(crictl inspectp $(crictl pods --quiet --state ready --label app=everywhere) | "
    "grep --only-matching '/[a-z/]*netns/cni-[^\"]*' | head -1)"
)


def test_it_is_a_node_with_its_pods(site: Site) -> None:
    node = site.kubectl("get", "node", site.worker_name)
    assert {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}["Ready"] == "True"
    assert node["metadata"]["labels"]["rack"] == "r1"
    assert {"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    addresses = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
    assert addresses["InternalIP"] == site.worker.control_plane_address
    pods = site.kubectl("--namespace", "kube-system", "get", "pods", "--field-selector=spec.nodeName=node2")
    names = {pod["metadata"]["name"].rsplit("-", 1)[0] for pod in pods["items"]}
    assert {"calico-node", "kube-proxy"} <= names


def test_a_second_time_changes_nothing(site: Site) -> None:
    assert "0 changes" in site.add(site.worker_name)


def test_a_worker_opens_its_own_ports_only(site: Site) -> None:
    rules = shell(site.worker, "firewall-cmd --policy caisson-nodes --list-rich-rules")
    assert 'port="10250"' in rules
    for port in ("6443", "2379", "4505", "8443"):
        assert f'port="{port}"' not in rules, rules


def test_pods_of_all_nodes_answer_each_other(site: Site) -> None:
    image = shell(
        site.driver, "crictl images --output json | grep --only-matching '[^\"]*/pause:[^\"]*'"
    ).strip()
    site.driver.write_file("/root/everywhere.yaml", EVERYWHERE.replace("IMAGE", image))
    site.driver.run([*KUBECTL, "apply", "--filename=/root/everywhere.yaml"], timeout_s=60)
    try:
        until(lambda: len(_addresses(site)) == len(site.names), ANSWER_TIMEOUT_S)
        addresses = _addresses(site)
        for node in site.nodes.values():
            shell(node, f"systemd-run --quiet --unit=answers {IN_POD} {SERVER}")
        for name, node in site.nodes.items():
            others = " ".join(address for other, address in addresses.items() if other != name)
            # A server that has just been started does not listen yet.
            asked = (
                "curl --silent --output /dev/null --max-time 30 --connect-timeout 9 --retry 20 --retry-delay 1 "
                "--retry-connrefused http://$address:8080/ || echo $address"
            )
            assert (
                shell(node, f"for address in {others}; do {IN_POD} {asked}; done", timeout_s=300).split()
                == []
            ), name
    finally:
        for node in site.nodes.values():
            shell(node, "systemctl stop answers", check=False)
        site.driver.run([*KUBECTL, "delete", "daemonset", "everywhere"], timeout_s=60)


def _addresses(site: Site) -> dict[str, str]:
    """Return the address of the pod of each node that has one."""
    pods = site.kubectl("get", "pods", "--selector=app=everywhere")["items"]
    return {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")}


def test_it_has_no_media_and_asks_by_name(site: Site) -> None:
    assert shell(site.worker, "findmnt --types iso9660 --noheadings || true").strip() == ""
    assert "https://media.lab.internal:8443" in site.worker.read_file(
        "/etc/containerd/certs.d/_default/hosts.toml"
    )
    assert "server: https://api.lab.internal:6443" in site.worker.read_file("/etc/kubernetes/kubelet.conf")


def all_answer(site: Site) -> dict[str, Any]:
    """Return the status in which all minions have answered: there is no fault, also while one is late.

    Several nodes share the machine with whatever else runs: a minion that answers late is unknown, and no fault.
    """
    ends_at = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        shown: dict[str, Any] = told(site.driver, "caisson", "status", "--json")
        assert (shown["faults"], shown["exit_code"]) == ([], 0)
        minions = {node["name"]: node["minion"] for node in shown["other_nodes"]}
        if set(minions.values()) == {"answers"} or time.monotonic() > ends_at:
            assert minions == dict.fromkeys(site.names[1:], "answers")
            return shown


def told_at_last(node: Node, *words: str) -> str:
    """Return what a command prints that ends well; ask again until it does."""
    done = []

    def ends_well() -> bool:
        done.append(node.run(words, check=False, timeout_s=60))
        return done[-1].returncode == 0

    until(ends_well, ANSWER_TIMEOUT_S)
    return done[-1].stdout


def test_all_nodes_are_shown_and_each_is_asked(site: Site) -> None:
    """On the bootstrap node all of it, over the bus; on the worker what that is, and which host to ask."""
    shown = all_answer(site)
    jsonschema.validate(shown, schemas.load("status"))
    assert [(node["name"], node["is_ready"]) for node in shown["nodes"]] == [
        (name, True) for name in site.names
    ]
    assert all(node["runtime"].startswith("containerd ") and node["kernel"] for node in shown["nodes"])
    assert [other["name"] for other in shown["other_nodes"]] == list(site.names[1:])
    for other in shown["other_nodes"]:
        assert (other["unreached"], other["key_accepted"], other["minion"]) == ("", True, "answers"), other
        services = dict(other["own"]["services"])
        # systemd listens for the console, which runs only while somebody looks.
        assert services.pop("console", "listening") in ("listening", "active"), other
        assert set(services.values()) == {"active"}, other
        assert {one["answer"] for one in other["own"]["endpoints"]} == {"HTTP 200"}, other
        assert other["own"]["certificates"]
    one = json.loads(told_at_last(site.driver, "caisson", "status", "--node", site.worker_name, "--json"))
    jsonschema.validate(one, schemas.load("status"))
    assert (one["node"]["name"], one["exit_code"]) == (site.worker_name, 0)
    shown_of_one = told_at_last(site.driver, "caisson", "status", "--node", site.worker_name)
    assert f"Node {site.worker_name}" in shown_of_one
    own = told(site.worker, "caisson", "status", "--json")
    jsonschema.validate(own, schemas.load("status"))
    assert (own["faults"], own["exit_code"]) == ([], 0)
    assert (own["node"]["role"], own["node"]["bootstrap_node"]) == (
        "worker",
        site.driver.control_plane_address,
    )


def test_what_belongs_to_the_bootstrap_node_is_refused_on_a_worker(site: Site) -> None:
    for words in (("config", "diff"), ("node", "add", "10.77.1.99"), ("bootstrap", "--accept-lab-bundle")):
        refused = site.worker.run(["caisson", *words], check=False, timeout_s=120)
        assert refused.returncode == 12, refused
        assert f"on {site.driver.control_plane_address}" in refused.stderr
    site.worker.run(["caisson", "report", "--output", "/root/report.tar.gz"], timeout_s=300)
    names = shell(site.worker, "tar -tzf /root/report.tar.gz")
    assert "status.json" in names
    status = json.loads(shell(site.worker, "tar -xzOf /root/report.tar.gz --wildcards '*/status.json'"))
    shell(site.worker, "rm /root/report.tar.gz")
    assert status["node"]["name"] == site.worker_name


def test_a_worker_is_checked_over_the_bus(site: Site) -> None:
    """As a worker that is there already: its own services and ports are no faults."""
    done = site.driver.run(
        ["caisson", "check", "--node", site.worker_name, "--json"], check=False, timeout_s=ADD_TIMEOUT_S
    )
    found = json.loads(done.stdout)
    jsonschema.validate(found, schemas.load("check"))
    (node,) = found["nodes"]
    assert node["why"] == ""
    failed = [check["id"] for check in node["report"]["checks"] if check["status"] == "failed"]
    assert (failed, done.returncode) == ([], 0), node


def test_labels_and_taints_that_changed_are_set(site: Site) -> None:
    """What an addition of before had asked for is named, and stays."""
    name = site.worker_name
    words = site.words[name]
    others = ("--labels", "row=7,rack=r2", "--taints", "gpu=no:PreferNoSchedule,slow:PreferNoSchedule")
    said = site.caisson("node", "add", *words[: words.index("--labels")], *others)
    node = site.kubectl("get", "node", name)
    assert {"rack": "r2", "row": "7"}.items() <= node["metadata"]["labels"].items()
    taints = [taint for taint in node["spec"]["taints"] if taint["key"] in ("gpu", "slow")]
    assert sorted((taint["key"], taint.get("value", "")) for taint in taints) == [("gpu", "no"), ("slow", "")]
    assert f"set on {name}: taint slow:PreferNoSchedule" in said
    said = site.add(name)
    assert f"kubectl taint node {name} slow:PreferNoSchedule-" in said
    assert f"kubectl label node {name} row-" in said
    assert site.kubectl("get", "node", name)["metadata"]["labels"]["row"] == "7"


def test_of_a_list_one_broken_host_stops_no_other(site: Site) -> None:
    """Bare hosts and an address that nobody has: they are Ready, one row says why that is not."""
    begins = next(index for index, line in enumerate(site.listed) if line.startswith("NAME "))
    rows = [line.split() for line in site.listed[begins + 1 : begins + 1 + len(site.names)]]
    assert [(row[0], row[3]) for row in rows] == [
        ("away", "failed"),
        *((name, "Ready") for name in site.names[1:]),
    ]
    heads = {line.partition(" | ")[0].strip() for line in site.listed if " | " in line}
    assert heads == {"away", *site.names[1:]}
    assert site.is_whole()
    jobs = told(site.driver, "caisson", "jobs", "--json")["jobs"]
    first = next(job for job in jobs if job["operation"] == "node-add")
    job = told(site.driver, "caisson", "job", first["id"], "--json", code=14)["job"]
    assert [host["result"] for host in job["hosts"]] == ["failed", *("Ready" for _ in site.names[1:])]
    addresses = {site.nodes[name].control_plane_address for name in site.names[1:]}
    assert addresses < {phase["host"] for phase in job["phases"]}
    log = site.driver.read_file("/var/log/caisson/node-add.log")
    assert f"changed on {site.names[-1]}: " in log
    assert first["id"] in log


def test_a_bootstrap_again_takes_nothing_from_the_further_nodes(site: Site) -> None:
    """Their pillars, keys and names stay; nothing changes; all are Ready and answer."""
    kept = "cd /etc/caisson && sha256sum pillar/top.sls pillar/nodes/* salt/pki/master/minions/* /etc/hosts"
    before = shell(site.driver, kept)
    ended = start(site.driver, site.driver.prepare_bootstrap())
    assert ended.returncode == 0, ended.output[-6000:]
    assert ", 0 changes" in ended.output
    assert f"{site.worker_name} " in ended.output
    assert shell(site.driver, kept) == before
    all_answer(site)
    assert "0 changes" in site.add(site.worker_name)


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
