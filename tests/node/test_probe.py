# SPDX-License-Identifier: Apache-2.0
"""Hosts that are to become nodes are looked at over SSH, on bare lab nodes: a fit one, one with every fault.

The installer of node1 (not bootstrapped: a few listeners stand in for its services) looks at node2, where it logs in
with a password and becomes root by sudo with that, and at node3, by a key.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cleanup
from lab.node import Lab, Node, bootstrap_config
from lab.run import run
from tests.unit.installer.helpers import pack_installer, product_bytes

pytestmark = pytest.mark.lab

PASSWORD = "correct horse' 1"
TREE = "/root/tree"
SERVICES = (6443, 4505, 4506, 8443)
WRONG_KEY = "SHA256:" + "A" * 43
FILTER = """
table inet bad {
    chain input { type filter hook input priority -300; tcp dport 10250 drop; udp dport 4789 drop; }
}
"""
DRIVER = """
import json, sys, time
sys.path[:0] = ["/root/tree/installer/vendor", "/root/tree"]
from pathlib import Path
from installer.base.paths import Paths
from installer.base.terminal import Terminal
from installer.config import bootstrap, nodes
from installer.operations import probe

request = json.loads(sys.stdin.read())

class Typist(Terminal):
    is_there = True
    def ask_secret(self, question):
        return request["password"]

config = bootstrap.load(Path("/root/bootstrap.yaml"))
entries = nodes.parse(request["nodes"], config=config).nodes
material = probe.Material(
    config, request["product"], request["ports"], Path("/root/installer.zip").read_bytes(), {"node1": ""}
)
started = time.monotonic()
with probe.connections(entries, paths=Paths(), terminal=Typist()) as connected:
    found = probe.probe(entries, connected, material)
print(json.dumps({
    "seconds": time.monotonic() - started,
    "table": found.table(),
    "clocks": {host.title: host.clock and [host.clock.offset_s, host.clock.bound_s] for host in found.fleet.hosts},
    "tried": [[t.source, t.target, t.port.name, t.outcome] for t in found.fleet.tried],
    "paths": [[p.source, p.target, p.mtu, p.passes] for p in found.fleet.paths],
    **found.to_json(),
}))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab of this module's own; at its end nothing of it is left."""
    with Lab() as instance:
        yield instance
    assert cleanup.leftovers(instance.name) == []


@pytest.fixture(scope="module")
def driver(lab: Lab, repository_dir: Path) -> Node:
    """Return node1 with the installer, and with listeners where a bootstrap node has its services."""
    node = lab.start_node("node1")
    packed = pack_installer(repository_dir)
    archive = Path(node.places.dir) / "installer.zip"
    archive.write_bytes(packed)
    node.copy_in(archive, "/root/installer.zip")
    assert zipfile.is_zipfile(io.BytesIO(packed))
    python = "/usr/libexec/platform-python"
    node.run([python, "-m", "zipfile", "-e", "/root/installer.zip", TREE], timeout_s=60)
    node.write_file("/root/bootstrap.yaml", bootstrap_config("node1"), 0o600)
    node.write_file("/root/probe.py", DRIVER)
    for port in SERVICES:
        server = [python, "-m", "http.server", str(port), "--bind", node.control_plane_address]
        node.run(["systemd-run", f"--unit=stands-in-{port}", *server], timeout_s=60)
    ports = [f"--add-port={port}/tcp" for port in SERVICES]
    node.run(["firewall-cmd", *ports], timeout_s=60)
    node.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
    return node


@pytest.fixture(scope="module")
def keys(lab: Lab, driver: Node) -> dict[str, str]:
    """Return the fingerprints of node2, which is fit, and of node3, which shares an id and hides behind a filter."""
    public = driver.read_file("/root/id.pub")
    fit, unfit = lab.start_node("node2"), lab.start_node("node3")
    found = {
        "node2": fit.authorize(public, user="admin", password=PASSWORD, sudoers="ALL=(ALL) ALL"),
        "node3": unfit.authorize(public),
    }
    unfit.write_file("/etc/machine-id", fit.read_file("/etc/machine-id"))
    unfit.run(["nft", "-f", "-"], input_text=FILTER, timeout_s=60)
    run(["ip", "-n", lab.switch.places.switch_netns, "link", "set", "work3", "mtu", "1400"])
    return found


def look(lab: Lab, driver: Node, keys: dict[str, str], repository_dir: Path) -> dict[str, Any]:
    """Let node1 look at both, and return what it found."""
    text = f"""\
apiVersion: caisson/v1
kind: NodeList
nodes:
  - {{address: {lab.nodes["node2"].control_plane_address}, name: node2, user: admin, hostKey: "{keys["node2"]}"}}
  - {{address: {lab.nodes["node3"].control_plane_address}, name: node3, identity: /root/id, hostKey: "{keys["node3"]}"}}
"""
    request = {
        "nodes": text,
        "password": PASSWORD,
        "product": product_bytes().decode(),
        "ports": (repository_dir / "salt/parameters/ports.yaml").read_text(),
    }
    said = driver.run(
        ["/usr/libexec/platform-python", "-I", "-S", "-B", "-X", "utf8", "/root/probe.py"],
        input_text=json.dumps(request),
        timeout_s=300,
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def failed(found: dict[str, Any], name: str) -> dict[str, list[str]]:
    """Return code -> what was found, of what stops a host."""
    codes: dict[str, list[str]] = {}
    for host, code, status, _, text in found["table"][1:]:
        if host.startswith(name) and status == "failed":
            codes.setdefault(code, []).append(text)
    return codes


def test_one_is_fit_and_the_other_has_every_fault(
    lab: Lab, driver: Node, keys: dict[str, str], repository_dir: Path
) -> None:
    fit, unfit = lab.nodes["node2"], lab.nodes["node3"]
    for node in (fit, unfit):
        node.run(["touch", "/root/marker"], timeout_s=60)
    lab.switch.reset()
    found = look(lab, driver, keys, repository_dir)
    print(json.dumps(found, indent=1))
    assert failed(found, "this host") == {}
    assert failed(found, "node2") == {}
    faults = failed(found, "node3")
    assert sorted(faults) == ["CSN612", "CSN616", "CSN617"]
    assert "is that of node2" in faults["CSN612"][0]
    assert any(":10250 (kubelet)" in text for text in faults["CSN616"])
    assert any("packets up to 1400 bytes pass" in text for text in faults["CSN617"])
    assert [host["fit"] for host in found["hosts"]] == [True, False]
    for title, clock in found["clocks"].items():
        assert title == "this host" or abs(clock[0]) <= clock[1] + 0.01
    assert ["this host", "node2 (10.77.1.12)", "kubelet", "open"] in found["tried"]
    assert ["node2 (10.77.1.12)", "this host", "kube-apiserver", "open"] in found["tried"]
    counts = lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    for node in (fit, unfit):
        assert left_on(node) == ""


def left_on(node: Node) -> str:
    """Return the files of a node's disk that are newer than its marker, but for what logins themselves leave."""
    others = ("/var/log/*", "/var/lib/sudo/*", "/var/lib/systemd/*", "/var/*/systemd-private-*")
    skipped = [word for pattern in others for word in ("-not", "-path", pattern)]
    said = node.run(
        ["find", "/", "-xdev", "-newer", "/root/marker", "-not", "-type", "d", *skipped], timeout_s=120
    ).stdout
    rules = node.run(["firewall-cmd", "--list-rich-rules"], timeout_s=60).stdout
    running = node.run(["pgrep", "-fa", "caisson|memfd"], check=False, timeout_s=60).stdout
    run_files = node.run(["find", "/run", "-name", "*caisson*"], timeout_s=60).stdout
    return (said + rules + running + run_files).strip()


def test_with_another_key_nothing_is_sent(
    lab: Lab, driver: Node, keys: dict[str, str], repository_dir: Path
) -> None:
    unfit = lab.nodes["node3"]
    before = _logins(unfit)
    found = look(lab, driver, {**keys, "node3": WRONG_KEY}, repository_dir)
    faults = failed(found, "node3")
    assert list(faults) == ["CSN602"]
    assert WRONG_KEY in faults["CSN602"][0]
    assert keys["node3"] in faults["CSN602"][0]
    assert failed(found, "node2") == {}
    assert _logins(unfit) == before


def _logins(node: Node) -> list[str]:
    """Return what sshd says of logins, those that worked and those that did not."""
    said = node.run(["journalctl", "-u", "ssh.service", "-o", "cat"], timeout_s=60).stdout
    return [line for line in said.splitlines() if line.startswith(("Accepted", "Failed", "Invalid"))]


def test_a_host_that_is_off_is_one_row(
    lab: Lab, driver: Node, keys: dict[str, str], repository_dir: Path
) -> None:
    lab.nodes["node3"].stop()
    found = look(lab, driver, keys, repository_dir)
    assert list(failed(found, "node3")) == ["CSN601"]
    assert failed(found, "node2") == {}
    assert found["seconds"] < 60
