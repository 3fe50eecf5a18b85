# SPDX-License-Identifier: Apache-2.0
"""A control plane gets a virtual address, of one node: it is held, again after a power cut too, and given up.

Everything that asks for the API by its name goes through it. The tests run in the order written, on a copy of a kept
disk. From the bootstrap on a host of test_site.py has one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node, bootstrap_config
from lab.places import CONTROL_PLANE
from tests.node.installing import KUBECTL, boot_again, is_reached, lab_iso, shell, start

pytestmark = pytest.mark.lab

VIP = "10.77.1.100"
#: Three adverts and the start of what was killed; beside other labs a node takes its time.
TAKEN_AGAIN_S = 30.0
READY_S = 240.0
READY = f"curl --silent --max-time 2 --cacert /etc/kubernetes/pki/ca.crt https://{VIP}:6443/readyz"


@dataclass(frozen=True)
class Site:
    """A node with a cluster, and a bare one beside it."""

    lab: Lab
    node: Node
    neighbour: Node


def configuration() -> str:
    text = bootstrap_config("node1")
    plane = f"    cidrs: [192.0.2.0/24, {CONTROL_PLANE.cidr}]\n"
    assert plane in text
    return text.replace(plane, f"{plane}    vip: {VIP}\n", 1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Boot a node that has no virtual address yet; at the end nothing of its lab is left."""
    with Lab() as lab:
        node, neighbour = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso()), lab.start_node("node2")
        lab.switch.reset()
        yield Site(lab, node, neighbour)
    assert cleanup.leftovers(lab.name) == []


def has_address(node: Node, address: str = VIP) -> bool:
    return f" {address}/" in shell(node, "ip -4 -oneline address show dev eth0")


def place_of_the_api(node: Node) -> list[str]:
    """Return where its name leads, for the host and for kube-proxy, which has a copy of the host's table."""
    container = shell(node, "crictl ps --quiet --name '^kube-proxy$'").split()[0]
    copied = node.run(["crictl", "exec", container, "cat", "/etc/hosts"], timeout_s=60).stdout
    in_pod = next(line.split()[0] for line in copied.splitlines() if " api.lab.internal" in line)
    return [shell(node, "getent ahostsv4 api.lab.internal").split()[0], in_pod]


def wait_until_ready(node: Node, timeout_s: float) -> float:
    """Wait until the API is ready at the address; return how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if shell(node, READY, check=False).strip() == "ok":
            return time.monotonic() - began
        time.sleep(0.5)
    pytest.fail(f"{VIP} is not ready: {shell(node, 'crictl ps; journalctl -u kubelet -n 30', check=False)}")


def test_a_taken_address_is_refused(site: Site) -> None:
    """Asked of the network: the neighbour's own."""
    before = site.node.read_file("/etc/caisson/bootstrap.yaml")
    words = ["caisson", "vip", "set", site.neighbour.control_plane_address]
    answer = site.node.run(words, check=False, timeout_s=60)
    assert answer.returncode != 0
    assert f"another host has {site.neighbour.control_plane_address}" in answer.stderr
    assert site.node.read_file("/etc/caisson/bootstrap.yaml") == before


def test_it_is_set(site: Site) -> None:
    """The certificate, the API server, the name and its copies follow; a second time changes nothing."""
    words = ["caisson", "vip", "set", VIP]
    answer = site.node.run(words, check=False, timeout_s=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"https://api.lab.internal:6443 ({VIP})" in answer.stdout
    assert has_address(site.node)
    assert place_of_the_api(site.node) == [VIP, VIP]
    assert shell(site.node, READY).strip() == "ok"
    assert shell(site.node, f"{' '.join(KUBECTL)} get --raw /readyz").strip() == "ok"
    listening = shell(site.node, "ss --listening --tcp --numeric --no-header 'sport = :6443'").split()
    assert listening[3] in ("*:6443", "0.0.0.0:6443")
    assert " 0 changes" in site.node.run(words, timeout_s=900).stdout


def test_its_pod_may_do_what_it_must_and_no_more(site: Site) -> None:
    # Kubelet writes the mirror pod when the API answers it again: its next look may be a minute later.
    words = [*KUBECTL, "--namespace=kube-system", "wait", "--for=create", "pod/keepalived-node1"]
    words += ["--timeout=150s", "--output=json"]
    pod = json.loads(site.node.run(words, timeout_s=180).stdout)
    (container,) = pod["spec"]["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW", "SETGID"], "drop": ["ALL"]}
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    log = shell(site.node, "crictl logs $(crictl ps --quiet --name '^keepalived$') 2>&1")
    assert "Entering MASTER STATE" in log
    assert not [word for word in ("denied", "not permitted", "rror", "Unable", "ignoring") if word in log], (
        log
    )


def test_the_network_sees_the_api_at_the_address_of_its_plane_only(site: Site) -> None:
    """It listens on every address, and firewalld limits it."""
    assert is_reached(site.neighbour, VIP, 6443)
    assert is_reached(site.neighbour, site.node.control_plane_address, 6443)
    assert not is_reached(site.neighbour, site.node.workload_plane_address, 6443)


def test_adverts_stay_at_home_where_nobody_shares_the_address(site: Site) -> None:
    rules = shell(site.node, "firewall-cmd --policy caisson-nodes --list-rich-rules")
    assert "vrrp" not in rules
    assert "127.0.0.2" in site.node.read_file("/etc/caisson/keepalived/keepalived.conf")


def test_status_says_who_has_it(site: Site) -> None:
    said = site.node.run(["caisson", "status", "--json"], check=False, timeout_s=60).stdout
    assert json.loads(said)["vip"] == {"address": VIP, "held_by": ["node1"]}


def test_it_is_not_sent_away_where_nobody_could_take_it(site: Site) -> None:
    answer = site.node.run(["caisson", "vip", "away"], check=False, timeout_s=60)
    assert answer.returncode != 0
    assert "no other control plane can take the virtual address" in answer.stderr
    assert has_address(site.node)


def test_a_bootstrap_with_it_changes_nothing(site: Site) -> None:
    ended = start(site.node, site.node.prepare_bootstrap(configuration()))
    assert ended.returncode == 0, ended.output
    assert " 0 changes" in ended.output


def test_a_keepalived_that_is_killed_takes_it_again(site: Site) -> None:
    """What was killed leaves the address on the interface; the next one takes it off, and has it again."""
    container = shell(site.node, "crictl ps --quiet --name '^keepalived$'")
    shell(site.node, "kill -9 $(pidof keepalived)")
    wait_until_ready(site.node, TAKEN_AGAIN_S)
    time.sleep(5)  # the one that was killed may have left it: the next one has begun by now
    wait_until_ready(site.node, TAKEN_AGAIN_S)
    assert shell(site.node, "crictl ps --quiet --name '^keepalived$'") == container, "the pod went on"


def test_it_is_held_again_after_a_power_cut(site: Site) -> None:
    site.node.cut_power()
    boot_again(site.node)
    wait_until_ready(site.node, READY_S)
    assert has_address(site.node)
    assert shell(site.node, "getent ahostsv4 api.lab.internal").split()[0] == VIP


def test_it_is_given_up(site: Site) -> None:
    """All leads to the node's own address again, and the API server listens there alone."""
    text = configuration().replace(f"    vip: {VIP}\n", "", 1)
    ended = start(site.node, site.node.prepare_bootstrap(text))
    assert ended.returncode == 0, ended.output
    own = site.node.control_plane_address
    assert not has_address(site.node)
    assert place_of_the_api(site.node) == [own, own]
    assert shell(site.node, f"{' '.join(KUBECTL)} get --raw /readyz").strip() == "ok"
    assert "keepalived" not in shell(site.node, "crictl ps; ls /etc/kubernetes/manifests /etc/caisson")
    said = site.node.run(["caisson", "status", "--json"], check=False, timeout_s=60).stdout
    assert json.loads(said)["vip"] is None


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
