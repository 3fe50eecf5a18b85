# SPDX-License-Identifier: Apache-2.0
"""Three control planes share a virtual address: whatever happens to the node that has it, another one takes it.

node1 boots from a kept disk, node2 and node3 join it; node4 is a bare host that asks for the API all the time, each
time by a new connection: by the name, as a worker does, and at the address, with the administrator's certificate, as
kubectl does. The table of the page 'Keep a virtual address' is what these tests print:

    pytest -s tests/soak/test_vip_moves.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node
from tests.node.growing import GROW_TIMEOUT_S, Site, all_ready, until
from tests.node.installing import lab_iso, shell
from tests.node.test_vip import VIP, configuration, has_address

pytestmark = pytest.mark.lab

NAMES = ("node1", "node2", "node3")
ASKER = "node4"
NAME = "api.lab.internal"
BACK_TIMEOUT_S = 300.0
MANIFESTS = "/etc/kubernetes/manifests"
ASK = r"""
import http.client, json, ssl, sys, time
host, path, limit_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
context = ssl.create_default_context(cafile="/root/ca.crt")
context.load_cert_chain("/root/admin.crt", "/root/admin.key")
moments, began = [], time.time()
while time.time() < began + limit_s:
    asked_at = time.time()
    try:
        connection = http.client.HTTPSConnection(host, 6443, timeout=0.5, context=context)
        connection.request("GET", path)
        is_fine = connection.getresponse().status == 200
        connection.close()
    except OSError:
        is_fine = False
    if is_fine:
        moments.append(time.time())
    time.sleep(max(0.0, asked_at + 0.1 - time.time()))
gaps = [(round(after - before, 2), before) for before, after in zip(moments, moments[1:])]
is_back = moments[-1] > time.time() - 2
print(json.dumps({"asked": len(moments), "longest": max(gaps)[0], "is_back": is_back}))
"""
AWAY_AND_STOPPED = (
    "mv MANIFESTS/POD.yaml /root/ && crictl stop --timeout=0 $(crictl ps --quiet --name '^POD$')"
)


@dataclass(frozen=True)
class Event:
    """What happens to the node that has the address, and how that is undone; ``limit_s`` for the longest gap.

    The limits are three times the goals: other labs run beside this one.
    """

    title: str
    do: Callable[[Node], object]
    undo: Callable[[Node], object]
    limit_s: float
    watch_s: float = 25.0


def _shell(script: str, pod: str = "") -> Callable[[Node], object]:
    text = script.replace("MANIFESTS", MANIFESTS).replace("POD", pod)
    return lambda node: shell(node, text, timeout_s=120)


EVENTS = {
    "planned": Event("caisson vip away", _shell("caisson vip away"), _shell("caisson vip back"), 3.0),
    "api-server": Event(
        "its API server stopped",
        _shell(AWAY_AND_STOPPED, "kube-apiserver"),
        _shell("mv /root/POD.yaml MANIFESTS/", "kube-apiserver"),
        9.0,
    ),
    "hangs": Event(
        "its API server hangs (SIGSTOP)",
        _shell("kill -STOP $(pgrep -x kube-apiserver)"),
        _shell("kill -CONT $(pgrep -x kube-apiserver)"),
        12.0,
    ),
    "etcd": Event(
        "its etcd stopped",
        _shell(AWAY_AND_STOPPED, "etcd"),
        _shell("mv /root/POD.yaml MANIFESTS/", "etcd"),
        12.0,
    ),
    "keepalived": Event("keepalived killed", _shell("kill -9 $(pidof keepalived)"), _shell("true"), 12.0),
    "power": Event(
        "its power cut", lambda node: node.cut_power(), lambda node: node.boot(degraded_ok=True), 10.5
    ),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Yield three control planes that share an address, and a bare host; at the end nothing of their lab is left."""
    with Lab() as lab:
        found = Site(lab)
        driver = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso(), configuration=configuration())
        found.nodes["node1"] = driver
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        public_key = driver.read_file("/root/id.pub")
        lab.switch.reset()
        entries = []
        for name in NAMES[1:]:
            host = found.nodes[name] = lab.start_node(name)
            entry = {"address": host.control_plane_address, "name": name, "role": "control-plane"}
            entries.append({**entry, "identity": "/root/id", "hostKey": host.authorize(public_key)})
        text = json.dumps({"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": entries})
        driver.write_file("/root/nodes.yaml", text)
        command = ["caisson", "node", "add", "--file", "/root/nodes.yaml"]
        print(driver.run(command, timeout_s=GROW_TIMEOUT_S).stdout)
        _prepare_asker(found)
        yield found
    assert cleanup.leftovers(lab.name) == []


def _prepare_asker(site: Site) -> None:
    asker = site.nodes[ASKER] = site.lab.start_node(ASKER)
    for kind, name in (
        ("certificate-authority", "ca.crt"),
        ("client-certificate", "admin.crt"),
        ("client-key", "admin.key"),
    ):
        script = f"sed -n 's/^ *{kind}-data: //p' /etc/kubernetes/admin.conf | base64 -d"
        asker.write_file(f"/root/{name}", shell(site.driver, script), 0o600)
    asker.write_file("/root/ask.py", ASK)
    shell(asker, f"echo '{VIP} {NAME}' >> /etc/hosts")


def holders(site: Site) -> list[str]:
    """Return who has the address."""
    return [name for name in NAMES if site.nodes[name].is_up and has_address(site.nodes[name])]


def settled(site: Site) -> bool:
    """Tell whether every API server is ready and one node has the address."""
    ready = "curl --silent --max-time 2 --cacert /etc/kubernetes/pki/ca.crt https://ADDRESS:6443/readyz"
    for name in NAMES:
        node = site.nodes[name]
        if shell(node, ready.replace("ADDRESS", node.control_plane_address), check=False).strip() != "ok":
            return False
    return len(holders(site)) == 1


def ask_during(site: Site, event: Event, node: Node) -> dict[str, dict[str, float]]:
    """Let an event happen while the bare host asks; return what it has seen on each way."""
    asker = site.nodes[ASKER]
    for way, words in (("name", f"{NAME} /readyz"), ("address", f"{VIP} /api/v1/namespaces/default")):
        shell(asker, f"nohup setsid python3 /root/ask.py {words} {event.watch_s} > /root/{way}.json 2>&1 &")
    time.sleep(3)
    began = time.monotonic()
    event.do(node)
    time.sleep(max(0.0, event.watch_s + 2 - (time.monotonic() - began)))
    return {way: json.loads(asker.read_file(f"/root/{way}.json")) for way in ("name", "address")}


def test_one_of_them_has_it_and_each_hears_the_others_alone(site: Site) -> None:
    until(lambda: settled(site), BACK_TIMEOUT_S)
    assert site.ready() == all_ready(*NAMES)
    addresses = {name: site.nodes[name].control_plane_address for name in NAMES}
    for name in NAMES:
        node, others = site.nodes[name], sorted(addresses[other] for other in NAMES if other != name)
        rules = shell(node, "firewall-cmd --policy caisson-nodes --list-rich-rules").splitlines()
        opened = [rule.split('"')[3] for rule in rules if "vrrp" in rule]
        assert sorted(opened) == [f"{address}/32" for address in others], name
        said = node.read_file("/etc/caisson/keepalived/keepalived.conf")
        peers = said.partition("unicast_peer {")[2].partition("}")[0].split()
        assert sorted(peers) == others, name
        assert shell(node, f"getent ahostsv4 {NAME}").split()[0] == VIP, name
        # What listens on a node's own address alone refuses who asks at the virtual one.
        assert "--bind-address" not in node.read_file(f"{MANIFESTS}/kube-apiserver.yaml"), name


def test_their_pods_were_not_started_again_by_the_joins_of_others(site: Site) -> None:
    """Also after the joins of others: who has the address kept it, for its pod was not started again."""
    for name in NAMES:
        listed = json.loads(shell(site.nodes[name], "crictl ps --all --name '^keepalived$' --output json"))
        assert len(listed["containers"]) == 1, name


@pytest.mark.parametrize("name", list(EVENTS))
def test_another_one_takes_it(site: Site, name: str) -> None:
    event = EVENTS[name]
    until(lambda: settled(site), BACK_TIMEOUT_S)
    (holder,) = holders(site)
    node = site.nodes[holder]
    said = ask_during(site, event, node)
    now = holders(site)
    event.undo(node)
    print(f"| {event.title} | {said['name']['longest']} | {said['address']['longest']} | {holder} -> {now} |")
    assert len(now) == 1
    assert name == "keepalived" or now != [holder]
    for way in ("name", "address"):
        assert said[way]["is_back"], said
        assert said[way]["longest"] <= event.limit_s, said


def test_the_loss_of_another_one_is_not_noticed(site: Site) -> None:
    until(lambda: settled(site), BACK_TIMEOUT_S)
    (holder,) = holders(site)
    other = site.nodes[next(name for name in NAMES[1:] if name != holder)]
    event = Event("another one's power cut", lambda node: node.cut_power(), lambda node: node, 3.0)
    said = ask_during(site, event, other)
    print(f"| {event.title} | {said['name']['longest']} | {said['address']['longest']} | {holder} |")
    assert holders(site) == [holder]
    assert all(said[way]["longest"] <= event.limit_s for way in said), said
    assert all(said[way]["is_back"] for way in said), said
    # With a second one gone there is no quorum: it would be better nowhere, and stays.
    third = next(name for name in NAMES if name not in (holder, other.name))
    site.nodes[third].cut_power()
    for _ in range(15):
        assert holders(site) == [holder]
        time.sleep(1)


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
