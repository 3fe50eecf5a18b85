# SPDX-License-Identifier: Apache-2.0
"""The port table, proved by packets: who reaches which port of a node, at which moment, with which address.

Neighbours stand in each network of the node and outside of all its CIDRs. What came past every packet filter is noted
behind them (packets.py), so that a port is judged whether somebody listens there or not. The tests run in the order
written: the one that reboots the node is last.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import frames, load
from lab.neighbour import Neighbour
from lab.node import Node, bootstrap_config
from lab.places import CONTROL_PLANE, UPLINK, WORKLOAD_PLANE

from .conftest import Cluster
from .installing import install, lab_iso, shell
from .packets import EVERY_PORT, Seen, send, unwatch
from .test_bootstrap import reboot, wait_ready_again

pytestmark = pytest.mark.lab

ROOT_DIR = Path(__file__).parents[2]
TABLE = yaml.safe_load((ROOT_DIR / "salt/parameters/ports.yaml").read_text())["ports"]
SSH = ("tcp", 22)
#: Whose plane is it; inside: of the control plane; outside: on its cable, but of no CIDR.
PLACES = {
    "inside": (CONTROL_PLANE, "10.77.1.150/24", "control_plane"),
    "near": (CONTROL_PLANE, "10.77.1.100/24", "control_plane"),
    "outside": (CONTROL_PLANE, "198.18.1.2/24", ""),
    "work": (WORKLOAD_PLANE, "10.77.2.150/24", "workload_plane"),
    "up": (UPLINK, "10.77.3.150/24", ""),
}
OUTSIDE_NETWORK = "198.18.1.0/24"
#: Those of the table and some that are not in it: what people guess, and next to what is open.
SAMPLE = sorted(
    {entry["port"] for entry in TABLE}
    | {entry["port"] + 1 for entry in TABLE}
    | {22, 53, 80, 111, 443, 3306, 5432, 8080, 8472, 9090, 9100, 10255, 30000, 32767, 65535}
)
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
UNLISTED = 5432
LOAD_FILE = "/root/load.py"
RATE = 1000


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[Node]:
    """Return the shared node, which finds the way back to the neighbour outside."""
    one = cluster.node
    if not any(one.places.media_dir.iterdir()):
        one.attach_iso(lab_iso())
    answer_outside(one)
    yield one
    unwatch(one)
    shell(one, f"ip route delete {OUTSIDE_NETWORK}", check=False)


@pytest.fixture(scope="module")
def neighbours(cluster: Cluster, node: Node) -> Iterator[dict[str, Neighbour]]:
    """Return the neighbours by name."""
    made = {
        name: Neighbour(lab=cluster.lab.name, name=name, plane=plane, address=address)
        for name, (plane, address, _) in PLACES.items()
    }
    for neighbour in made.values():
        neighbour.connect()
    yield made
    for neighbour in made.values():
        neighbour.remove()


@pytest.fixture(scope="module")
def pods(node: Node) -> Iterator[dict[str, str]]:
    """Return two pods, name -> what enters its network: a server of a service on port 80, and a client."""
    image = shell(node, "crictl images --output json | grep --only-matching '[^\"]*/pause:[^\"]*'").strip()
    for name in ("server", "client"):
        shell(node, f"{KUBECTL} run {name} --image={image} --image-pull-policy=Never --restart=Never")
    shell(node, f"{KUBECTL} expose pod server --port=80 --target-port=8080 --type=NodePort")
    shell(node, f"{KUBECTL} wait pod server client --for=condition=Ready --timeout=60s", timeout_s=90)
    node.write_file(LOAD_FILE, Path(load.__file__).read_text())
    entering = {name: f"nsenter --target {process_of_pod(node, name)} --net" for name in ("server", "client")}
    started = f"systemd-run --unit=load-server {entering['server']} python3 {LOAD_FILE} serve 0.0.0.0 8080"
    shell(node, started)
    yield entering
    remove_pods(node)


def remove_pods(node: Node) -> None:
    """Take the two pods away, if they are there."""
    removed = "service/server pod/server pod/client"
    shell(
        node, f"systemctl stop load-server; {KUBECTL} delete --now {removed}; rm -f {LOAD_FILE}", check=False
    )


def answer_outside(node: Node) -> None:
    """Let the node answer those outside on the cable they came by: a refusal must be the firewall's."""
    shell(node, f"ip route replace {OUTSIDE_NETWORK} dev {CONTROL_PLANE.interface}")


def process_of_pod(node: Node, name: str) -> str:
    """Return the number of the first process of a pod's only container."""
    script = f"crictl inspect $(crictl ps --quiet --state running --name '^{name}$')"
    return str(json.loads(shell(node, script))["info"]["pid"])


def service_address(node: Node, name: str, namespace: str = "default") -> str:
    """Return the address of a service."""
    return shell(node, f"{KUBECTL} -n {namespace} get service {name} -o jsonpath={{.spec.clusterIP}}")


def pod_address(node: Node) -> str:
    """Return the address of a pod that listens on port 53."""
    selected = "-n kube-system get pods -l k8s-app=kube-dns -o jsonpath={.items[0].status.podIP}"
    return shell(node, f"{KUBECTL} {selected}")


def as_peers(node: Node, neighbours: dict[str, Neighbour]) -> None:
    """Let Calico take VXLAN from every neighbour, as from a node of the cluster: what it drops firewalld never sees."""
    for neighbour in neighbours.values():
        shell(node, f"ipset add -exist cali40all-vxlan-net {neighbour.source}")


def as_strangers(node: Node, neighbours: dict[str, Neighbour]) -> None:
    """Take that back."""
    for neighbour in neighbours.values():
        shell(node, f"ipset del -exist cali40all-vxlan-net {neighbour.source}")


def table_for(name: str) -> set[tuple[str, int]]:
    """Return what the table opens for a neighbour, and what every host of EL9 opens itself."""
    source = PLACES[name][2]
    return {SSH} | {(entry["protocol"], entry["port"]) for entry in TABLE if source == entry["source"]}


def openings(
    node: Node, neighbours: dict[str, Neighbour], ports: Iterable[int] = SAMPLE
) -> dict[str, set[tuple[str, int]]]:
    """Return which of ``ports`` are open for whom, each on the network where it stands."""
    found = {}
    for name, neighbour in neighbours.items():
        as_peers(node, {name: neighbour})
        found[name] = set(send(neighbour, node, neighbour.plane.address(node.number), ports).input)
    as_strangers(node, neighbours)
    return found


def connects(neighbour: Neighbour, address: str, port: int) -> bool:
    """Tell whether a neighbour gets a connection."""
    words = ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
    return neighbour.run(words, check=False).returncode == 0


EXPECTED = {name: table_for(name) for name in PLACES}


def test_the_table_opens_something_for_whom_it_names() -> None:
    """The ports of etcd are open to control planes alone, by their addresses: a cluster of one has no other."""
    assert {("tcp", 6443), ("tcp", 8443)} < EXPECTED["inside"]
    assert not {("tcp", 2379), ("tcp", 2380)} & EXPECTED["inside"]
    assert EXPECTED["work"] == {SSH, ("udp", 4789)}
    assert EXPECTED["outside"] == EXPECTED["up"] == {SSH}


@pytest.mark.parametrize("name", ["inside", "outside", "work", "up"])
def test_of_all_ports_those_of_the_table_are_open_and_no_other(
    node: Node, neighbours: dict[str, Neighbour], name: str
) -> None:
    as_peers(node, neighbours)
    neighbour = neighbours[name]
    found = send(neighbour, node, neighbour.plane.address(node.number), EVERY_PORT)
    as_strangers(node, neighbours)
    assert found.packets >= 2 * len(EVERY_PORT), "the node did not get them all"
    assert found.input == EXPECTED[name]
    assert found.forward == frozenset()


def test_the_address_of_another_network_opens_nothing_more(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    for name in ("work", "up", "outside"):
        for plane in (CONTROL_PLANE, WORKLOAD_PLANE, UPLINK):
            found = send(neighbours[name], node, plane.address(node.number), SAMPLE)
            assert found.input == {SSH}, (name, plane.name)


def test_a_listener_is_reached_from_the_node_and_not_from_a_neighbour(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    """It is the firewall that closes a port, not that nobody listens."""
    address, closed = CONTROL_PLANE.address(node.number), (5000, 10257, UNLISTED)
    for port in closed:
        listener = f"python3 -m http.server --bind {address} {port}"
        shell(node, f"systemd-run --unit=listener-{port} {listener}")
    try:
        for port in closed:
            shell(
                node,
                f"curl --silent --retry 9 --retry-connrefused --output /dev/null http://{address}:{port}",
            )
        for name in ("inside", "outside"):
            assert connects(neighbours[name], address, 22), "the way there is open"
            assert [port for port in closed if connects(neighbours[name], address, port)] == []
        listened = [
            entry["port"]
            for entry in TABLE
            if entry["source"] == "control_plane"
            and not connects(neighbours["inside"], address, entry["port"])
        ]
        assert listened == [], "open, and somebody listens"
        assert not connects(neighbours["outside"], address, 6443)
    finally:
        shell(node, f"systemctl stop {' '.join(f'listener-{port}' for port in closed)}", check=False)


@pytest.mark.parametrize("moment", ["firewall-cmd --reload", "systemctl restart firewalld"])
def test_it_stays_so_after(node: Node, neighbours: dict[str, Neighbour], moment: str) -> None:
    """Systemd calls firewalld started once it has its name on D-Bus: its rules come after, and then it answers."""
    shell(node, f"{moment} && firewall-cmd --state")
    assert openings(node, neighbours) == EXPECTED


def claimed(node: Node) -> dict[str, str]:
    """Return addresses that a neighbour may claim to have."""
    return {
        "a pod's": pod_address(node),
        "a pod's, of another node": "10.233.77.7",
        "a service's": service_address(node, "kubernetes"),
        "the node's own": CONTROL_PLANE.address(node.number),
        "loopback": "127.0.0.1",
    }


def spoofed(node: Node, neighbours: dict[str, Neighbour]) -> list[str]:
    """Return what came through of packets with a false source, one line each."""
    api, dns = service_address(node, "kubernetes"), service_address(node, "kube-dns", "kube-system")
    through = []
    for name in ("inside", "work"):
        neighbour = neighbours[name]
        own = neighbour.plane.address(node.number)
        for what, source in claimed(node).items():
            for target, ports in ((own, SAMPLE), (api, [443]), (dns, [53]), (pod_address(node), [53, 8080])):
                found = send(neighbour, node, target, ports, source=source)
                assert found.packets == 2 * len(ports), (name, what, target)
                through += described(found, f"{name} as {what} {source} to {target}")
    return through


def described(found: Seen, what: str) -> list[str]:
    """Return a line for each port that let something through."""
    return [f"{what}: {protocol} {port}" for protocol, port in sorted(found.input | found.forward)]


def test_a_neighbour_that_claims_another_address_gets_nowhere(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    assert spoofed(node, neighbours) == []


def test_a_neighbour_that_answers_in_a_pod_s_name_gets_nowhere(
    node: Node, neighbours: dict[str, Neighbour], pods: dict[str, str]
) -> None:
    """Although the connection is known: a pod has asked the one whose address the neighbour claims."""
    asked, port = pod_address(node), 5555
    client = shell(node, f"{KUBECTL} get pod client -o jsonpath={{.status.podIP}}")
    asking = (
        "import socket; client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        f"client.bind(('', {port})); client.sendto(b'x', ('{asked}', {frames.SOURCE_PORT}))"
    )
    for name in ("inside", "work"):
        shell(node, f'{pods["client"]} python3 -c "{asking}"')
        found = send(neighbours[name], node, client, [port], source=asked)
        assert (found.packets, described(found, name)) == (2, [])


def services_reached(node: Node, neighbours: dict[str, Neighbour]) -> list[str]:
    """Return which services and pods a neighbour reaches that sends their packets to the node."""
    targets = {
        service_address(node, "kubernetes"): [443],
        service_address(node, "kube-dns", "kube-system"): [53],
        pod_address(node): [53, 8080],
    }
    return [
        line
        for name, neighbour in neighbours.items()
        for target, ports in targets.items()
        for line in described(send(neighbour, node, target, ports), f"{name} to {target}")
    ]


def test_a_neighbour_that_routes_by_the_node_reaches_no_service_and_no_pod(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    """kube-proxy rewrites before firewalld looks, which accepts what was rewritten: the guard stands before both."""
    assert services_reached(node, neighbours) == []
    shell(node, "nft delete table inet caisson")
    try:
        reached = services_reached(node, neighbours)
    finally:
        shell(node, "systemctl reload caisson-guard")
    assert any(line.startswith("outside to") and line.endswith("tcp 6443") for line in reached), (
        "firewalld closes this by itself: the guard is needed no more"
    )


def test_a_tunnel_of_somebody_who_is_no_node_ends_at_the_node(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    """Inside the CIDRs that firewalld opens for VXLAN it is Calico that knows the nodes."""
    link = json.loads(shell(node, "ip -json link show vxlan.calico"))[0]
    work = neighbours["work"]
    inner = {"mac": link["address"], "network": 4096}
    tunnel = {**inner, "source": work.source, "target": WORKLOAD_PLANE.address(node.number)}
    own, source = CONTROL_PLANE.address(node.number), "10.233.77.7"
    # A restart of firewalld, as a test before makes, takes Calico's rules too: Felix writes them again within 90 s.
    ends_at = time.monotonic() + 180
    while send(work, node, own, SAMPLE, source=source, tunnel=tunnel).packets and time.monotonic() < ends_at:
        time.sleep(5)
    assert send(work, node, own, SAMPLE, source=source, tunnel=tunnel).packets == 0
    as_peers(node, neighbours)
    seen_as_peer = send(work, node, own, SAMPLE, source=source, tunnel=tunnel)
    as_strangers(node, neighbours)
    assert seen_as_peer.packets == 2 * len(SAMPLE), "a node's would arrive"


def test_a_pod_reaches_every_listener_of_the_node_as_the_docs_say(node: Node, pods: dict[str, str]) -> None:
    address = CONTROL_PLANE.address(node.number)
    shell(node, f"systemd-run --unit=listener python3 -m http.server --bind {address} {UNLISTED}")
    ports = [entry["port"] for entry in TABLE if entry["bind"] == "control_plane"]
    try:
        for port in (*ports, UNLISTED):
            opened = f"{pods['client']} timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
            shell(node, f"for try in 1 2 3 4 5; do {opened} && exit; sleep 1; done; exit 1")
    finally:
        shell(node, "systemctl stop listener", check=False)


def test_a_node_port_is_open_to_every_network_as_the_docs_say(
    node: Node, neighbours: dict[str, Neighbour], pods: dict[str, str]
) -> None:
    port = int(shell(node, f"{KUBECTL} get service server -o jsonpath={{.spec.ports[0].nodePort}}"))
    address = CONTROL_PLANE.address(node.number)
    for name in ("inside", "outside"):
        assert send(neighbours[name], node, address, [port]).forward == {("tcp", 8080)}
    for source in claimed(node).values():
        found = send(neighbours["outside"], node, address, [port], source=source)
        assert (found.packets, described(found, "")) == (2, [])


def test_no_request_of_a_thousand_a_second_fails_through_a_reload(node: Node, pods: dict[str, str]) -> None:
    """What is new while firewalld reloads is dropped: such a connection comes a second later, none is refused."""
    target = service_address(node, "server")
    reports: list[dict[str, Any]] = []

    def ask() -> None:
        command = f"{pods['client']} python3 {LOAD_FILE} ask {target} 80 {RATE} 10"
        reports.append(json.loads(shell(node, command, timeout_s=60)))

    client = threading.Thread(target=ask)
    client.start()
    for _ in range(2):
        time.sleep(3)
        shell(node, "firewall-cmd --reload")
    client.join()
    (report,) = reports
    assert report["failures"] == {}, report
    assert report["sent"] >= 9.5 * RATE, report
    assert report["slowest_s"] < 10, report


def test_the_ban_of_the_docs_bars_a_host_and_lets_it_in_again(
    node: Node, neighbours: dict[str, Neighbour]
) -> None:
    page = (ROOT_DIR / "docs/reference/ports.md").read_text()
    (block,) = re.findall(r"```\n(firewall-cmd.+?)```", page, re.DOTALL)
    freeing = re.findall(r"`(firewall-cmd --permanent --delete-[^`]+)`", page)
    assert len(freeing) == 2
    shell(node, "set -e\n" + block.replace("192.0.2.66", neighbours["inside"].source))
    try:
        assert openings(node, neighbours) == {**EXPECTED, "inside": set()}
    finally:
        shell(node, "\n".join(["set -e", *freeing, "firewall-cmd --reload"]))
    assert openings(node, neighbours) == EXPECTED


def test_a_narrowed_range_closes_and_opens_again(node: Node, neighbours: dict[str, Neighbour]) -> None:
    """And a guard that somebody flushed is there again, and one that somebody changed, mark and all."""
    narrowed = bootstrap_config("node1").replace(CONTROL_PLANE.cidr, "10.77.1.0/25")
    shell(node, "nft delete table inet caisson")
    install(node, narrowed)
    assert openings(node, neighbours) == {**EXPECTED, "inside": {SSH}}
    assert services_reached(node, neighbours) == []
    shell(node, "sed -i '/ daddr .* drop/d' /etc/caisson/guard.nft; systemctl reload caisson-guard")
    assert services_reached(node, neighbours) != []
    install(node)
    assert openings(node, neighbours) == EXPECTED
    assert services_reached(node, neighbours) == []


def test_it_is_so_after_a_reboot(cluster: Cluster, node: Node, neighbours: dict[str, Neighbour]) -> None:
    """Of all ports, for everybody."""
    remove_pods(node)
    since = reboot(cluster)
    answer_outside(node)
    assert wait_ready_again(cluster, since, 120) == []
    assert openings(node, neighbours, EVERY_PORT) == EXPECTED
    assert spoofed(node, neighbours) == []
    assert services_reached(node, neighbours) == []
