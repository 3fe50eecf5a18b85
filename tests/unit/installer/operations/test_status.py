# SPDX-License-Identifier: Apache-2.0
"""``caisson status``."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import ClusterError, DegradedError, UnhealthyError, UsageError
from installer.base.mounts import Mount
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config import facts
from installer.config.bootstrap import parse as parse_config
from installer.engine import mediaservers, saltcall
from installer.engine.mediaservers import MediaServer
from installer.media import mounting as media
from installer.media import state as media_state
from installer.operations import (
    bus,
    cluster_state,
    endpoints,
    etcd_state,
    fencing,
    host_state,
    installed,
    other_nodes,
    replicas,
    salt_state,
    static_pods,
    status,
)
from installer.operations.asking import Fault
from installer.operations.cluster_state import Member, NodeState, PodState
from installer.operations.etcd_state import EtcdMember, EtcdState
from installer.operations.media import Media
from installer.operations.other_nodes import OtherNode
from installer.operations.salt_state import SaltState
from tests.unit.installer import workers
from tests.unit.installer.helpers import (
    ADDRESSES,
    CONFIG_TEXT,
    make_config,
    make_context,
    make_product,
    product_bytes,
)
from tests.unit.installer.hosts import NODES, PODS, Host, node, pod

SCHEMA: Any = json.loads(Path(status.__file__).with_name("status.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host()
    for module in (bus, host_state, cluster_state, salt_state):
        monkeypatch.setattr(module, "run", fake)
    media_dir = tmp_path / "srv/caisson/0.1.0"
    media_dir.mkdir(parents=True)
    (media_dir / "product.json").write_bytes(product_bytes())
    mount = Mount(str(media_dir), "/", "iso9660", "/dev/loop0")
    monkeypatch.setattr(media_state, "read_mounts", lambda: (mount,))
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    iso = tmp_path / "c.iso"
    iso.write_bytes(b"\0" * 32_768 + b"\1CD001 one" + b"\0" * 2048)
    (units / media.unit_name(media_dir)).write_text(f"[Mount]\nWhat={iso}\n")
    manifests = tmp_path / "etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "etcd.yaml").write_text("metadata: {name: etcd, namespace: kube-system}\n")
    (tmp_path / "etc/kubernetes/admin.conf").write_text("users: [{user: {token: x}}]\n")
    monkeypatch.setattr(etcd_state, "ask_etcd", lambda *_: EtcdState("1 member, 2.3 MiB, no alarm"))
    monkeypatch.setattr(host_state, "ask_disks", lambda _: ())
    return fake


def state_of(tmp_path: Path) -> status.State:
    state = status.gather_state(make_product(), Paths(tmp_path))
    jsonschema.Draft7Validator(SCHEMA).validate(json.loads(json.dumps(state.to_json(make_product()))))
    return state


def test_the_console_s_sockets_are_part_of_a_host_that_has_one(tmp_path: Path, host: Host) -> None:
    del tmp_path
    assert "console" not in host_state.ask_services().states
    host.sockets = {"caisson-console.socket": "active", "caisson-door.socket": "active"}
    found = host_state.ask_services()
    assert (found.states["console"], found.faults) == ("listening", ())
    host.sockets["caisson-door.socket"] = "failed"
    found = host_state.ask_services()
    assert found.states["console"] == "not listening"
    (fault,) = found.faults
    assert "caisson-door.socket is failed" in fault.text
    assert fault.fix == host_state.CONSOLE_FIX


def test_nodes() -> None:
    assert cluster_state.parse_nodes(NODES) == (
        NodeState("node1", "v1.36.4", "10.77.1.11", is_ready=True, roles="control-plane"),
    )


def test_who_the_nodes_are() -> None:
    worker = {"metadata": {"name": "a"}, "status": {"nodeInfo": {"machineID": "ab"}}}
    assert cluster_state.parse_members({"items": [*NODES["items"], worker]}) == (
        Member("a", "ab", is_control_plane=False),
        Member("node1", "", is_control_plane=True),
    )


def test_without_a_cluster_it_has_no_nodes(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no cluster on this host yet"):
        cluster_state.get_members(tmp_path / "admin.conf")


def test_pods() -> None:
    found = {pod.name: pod for pod in cluster_state.parse_pods(PODS)}
    assert list(found) == ["calico", "coredns", "done", "etcd-node1", "thrown-out"]
    assert found["etcd-node1"] == PodState(
        "kube-system", "etcd-node1", "Running", is_ready=True, restarts=2, node="node1", is_ours=True
    )
    assert (found["coredns"].state, found["coredns"].is_ready) == ("ErrImagePull", False)
    assert (found["calico"].state, found["done"].is_ready) == ("Pending", True)
    assert found["thrown-out"].state == "Evicted"


def test_all_is_well(host: Host, tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert state.error() is None
    data = state.to_json(make_product())
    assert (data["exit_code"], data["pods"]["total"], data["media"]["missing"]) == (0, 2, "")
    titles = [title for title, _ in state.tables(make_product())]
    assert titles[-1] == "2 pods, all Ready"


def test_the_media_is_gone(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_state, "read_mounts", lambda: ())
    (tmp_path / "c.iso").unlink()
    error = state_of(tmp_path).error()
    assert isinstance(error, DegradedError)
    assert error.exit_code == 20
    assert f"{tmp_path / 'c.iso'} is not there" in error.details
    assert error.resolution.startswith(f"put the ISO back as {tmp_path / 'c.iso'}, then: systemctl start")


def test_the_media_is_only_not_mounted(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_state, "read_mounts", lambda: ())
    state = state_of(tmp_path).media
    assert state.missing == f"nothing is mounted at {tmp_path / 'srv/caisson/0.1.0'}"
    assert state.resolution.startswith("systemctl start '")


def test_another_media_is_mounted(host: Host, tmp_path: Path) -> None:
    (tmp_path / "srv/caisson/0.1.0/product.json").write_bytes(product_bytes(lock_sha256="other"))
    assert "another media than Caisson 0.1.0" in state_of(tmp_path).media.missing


def test_a_mounted_media_that_cannot_be_read(host: Host, tmp_path: Path) -> None:
    (tmp_path / "srv/caisson/0.1.0/product.json").unlink()
    assert "cannot be read" in state_of(tmp_path).media.missing


def test_faults_come_before_a_missing_media(host: Host, tmp_path: Path) -> None:
    host.services["kubelet"] = "failed"
    host.services["firewalld"] = "inactive"
    host.running = []
    host.pods = PODS
    error = state_of(tmp_path).error()
    assert isinstance(error, UnhealthyError)
    assert error.details.splitlines() == [
        "kubelet.service is failed",
        "firewalld is installed, but inactive: every host that reaches this one reaches its ports",
        "static pod etcd does not run",
        "pod kube-system/calico is not Ready: Pending",
        "pod kube-system/coredns is not Ready: ErrImagePull",
    ]


def test_pods_of_the_site_are_shown_and_change_no_exit_code(host: Host, tmp_path: Path) -> None:
    """A crashing, a pending and an evicted one, one of them in kube-system and called like ours."""
    waiting = {"restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    site = [
        {**pod("crashing", containerStatuses=[waiting]), "spec": {"nodeName": "node1"}},
        pod("waiting", phase="Pending"),
        pod("thrown-out", phase="Failed", reason="Evicted"),
        pod("calico-node", phase="Pending"),
    ]
    for item in site[:3]:
        item["metadata"]["namespace"] = "shop"
    host.pods = {"items": [*PODS["items"][:2], *site]}
    state = state_of(tmp_path)
    assert state.error() is None
    data = state.to_json(make_product())
    assert data["pods"]["not_ready"] == []
    assert [entry["name"] for entry in data["pods"]["site_not_ready"]] == [
        "calico-node",
        "crashing",
        "thrown-out",
        "waiting",
    ]
    title, rows = state.tables(make_product())[-1]
    assert title == "Pods of the site that are not Ready (no fault of the node)"
    assert ("shop", "crashing", "CrashLoopBackOff", "no", "9") in rows


def test_a_deployment_that_is_called_like_a_static_pod_hides_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc/kubernetes/manifests/nginx.yaml").write_text(
        "metadata: {name: nginx, namespace: kube-system}\n"
    )
    host.running, host.namespace = ["etcd-node1", "nginx-7c5ddbdf54-x2v9k"], "shop"
    assert "static pod nginx does not run" in state_of(tmp_path).faults
    install(tmp_path)
    monkeypatch.setattr(endpoints, "endpoints", lambda *_: ())
    monkeypatch.setattr(salt_state, "ask_salt", lambda *_: SaltState("node1 answers its master"))
    host.namespace = "kube-system"
    assert state_of(tmp_path).faults == ("static pod nginx does not run",)


def test_a_static_pod_of_the_site_runs_in_its_own_namespace(host: Host, tmp_path: Path) -> None:
    manifests = tmp_path / "etc/kubernetes/manifests"
    for file in manifests.iterdir():
        file.unlink()
    (manifests / "haproxy.yaml").write_text("metadata: {name: haproxy, namespace: edge}\n")
    host.running, host.namespace = ["haproxy-node1"], "edge"
    assert state_of(tmp_path).faults == ()
    host.namespace = "shop"
    (fault,) = state_of(tmp_path).all_faults
    assert fault.text == "static pod haproxy does not run"
    assert "see: crictl ps -a --label io.kubernetes.pod.namespace=edge; and" in fault.fix


def test_the_api_is_down(host: Host, tmp_path: Path) -> None:
    host.has_api = False
    state = state_of(tmp_path)
    assert state.faults == ("the Kubernetes API does not answer",)
    assert state.static_pods.pods == (static_pods.StaticPodState("etcd", is_running=True),)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("metadata: {name: a-pod}\n")
    (tmp_path / "b.yaml").write_text("[")
    (tmp_path / ".hidden.yaml").write_text("[")
    assert static_pods.static_pods(tmp_path) == (("default", "a-pod"), ("", "b.yaml"))
    assert static_pods.static_pods(tmp_path / "none") == ()


# ---- what is asked besides ---------------------------------------------------------------------------------


def install(tmp_path: Path, extra: str = "") -> None:
    """Let the host have a control plane: its values and the stamp of its first phase."""
    saltcall.write_configuration(make_context(tmp_path, config=make_config(extra)))
    stamp = tmp_path / "var/lib/caisson/kubeadm/certs-all.json"
    stamp.parent.mkdir(parents=True)
    stamp.touch()


def test_every_fault_comes_with_what_to_do_about_it(host: Host, tmp_path: Path) -> None:
    host.has_api = False
    host.services["containerd"] = "failed"
    host.running = []
    error = state_of(tmp_path).error()
    assert error is not None
    assert error.resolution.splitlines() == [
        "see 'journalctl -u containerd -n 50', then 'systemctl restart containerd'",
        (
            "see: crictl ps -a --label io.kubernetes.pod.namespace=kube-system --name '^etcd$'; "
            "and: journalctl -u kubelet -n 50"
        ),
        "see 'crictl ps -a' and 'journalctl -u kubelet' on a control-plane node",
    ]


@pytest.mark.parametrize(
    ("change", "shown", "faults", "fix"),
    [
        ({"absent": {"firewalld"}}, "not installed: every host", 0, ""),
        ({"services": {"firewalld": "inactive"}}, "inactive", 1, "systemctl enable --now firewalld"),
        (
            {"policies": ["allow-host-ipv6"]},
            "active, without Caisson's caisson-nodes, caisson-services",
            1,
            "firewall-cmd",
        ),
        ({"zones": ["public"]}, "active, without Caisson's caisson-pods", 1, "firewall-cmd --reload"),
        ({"hanging": {"busctl"}}, "active, but does not answer", 1, "journalctl -u firewalld"),
        ({}, "active, with Caisson's policies", 0, ""),
    ],
)
def test_firewalld(
    host: Host,
    tmp_path: Path,
    change: dict[str, Any],
    shown: str,
    faults: int,
    fix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_state, "COMMAND_LIMIT_S", 0.2)
    policy = tmp_path / "etc/firewalld/policies/caisson-nodes.xml"
    policy.parent.mkdir(parents=True)
    policy.touch()
    for name, value in change.items():
        setattr(host, name, {**host.services, **value} if name == "services" else value)
    state = state_of(tmp_path)
    assert state.firewall.shown.startswith(shown)
    assert len(state.faults) == faults, state.faults
    assert all(fix in fault.fix for fault in state.all_faults)


@pytest.mark.parametrize(
    ("change", "fault", "fix"),
    [
        ({}, "", ""),
        ({"guard": (1, "")}, "the guard before it is gone", "systemctl reload caisson-guard"),
        (
            {"guard": (0, "table inet caisson {}")},
            "the guard before it is gone",
            "systemctl reload caisson-guard",
        ),
        ({"hanging": {"nft"}}, "the packet filter does not answer", "see 'nft list table inet caisson'"),
        (
            {"guard": (1, ""), "services": {"firewalld": "inactive"}},
            "firewalld is installed, but",
            "firewalld",
        ),
    ],
)
def test_the_guard_before_firewalld(
    host: Host, tmp_path: Path, change: dict[str, Any], fault: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``nft flush ruleset`` takes it away, and its unit stays "active (exited)"."""
    monkeypatch.setattr(host_state, "COMMAND_LIMIT_S", 0.2)
    (tmp_path / "etc/systemd/system/caisson-guard.service").touch()
    for name, value in change.items():
        setattr(host, name, {**host.services, **value} if name == "services" else value)
    state = state_of(tmp_path)
    assert [found.text.startswith(fault) and fix in found.fix for found in state.all_faults] == [True] * bool(
        fault
    )
    assert ("but the guard" in state.firewall.shown) == fault.startswith("the guard")


def test_no_guard_is_asked_for_where_none_was_made(host: Host, tmp_path: Path) -> None:
    host.guard = (1, "")
    assert state_of(tmp_path).faults == ()
    assert not [words for words in host.commands if words[0] == "nft"]


def test_a_site_may_go_without_firewalld_when_it_says_why(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "overrides: {ignorePreflights: [{id: CSN405, reason: a firewall of our own}]}\n")
    host.services["firewalld"] = "inactive"
    monkeypatch.setattr(endpoints, "endpoints", lambda *_: ())
    monkeypatch.setattr(salt_state, "ask_salt", lambda *_: SaltState("node1 answers its master"))
    state = state_of(tmp_path)
    assert state.firewall == host_state.FirewallState("inactive (accepted: CSN405)")
    assert state.faults == ()


def test_a_program_that_hangs_holds_up_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once: what each would take alone is the bound."""
    monkeypatch.setattr("installer.operations.asking.LIMIT_S", 1.0)
    host.hanging = {"systemctl", "kubectl", "crictl", "busctl"}
    began = time.monotonic()
    state = state_of(tmp_path)
    assert time.monotonic() - began < 6.0
    assert "systemd does not answer" in state.faults[0]
    assert {"containerd does not answer", "the Kubernetes API does not answer"} <= set(state.faults)
    assert max(host.timeouts.values()) <= 5.0


def test_an_unforeseen_failure_of_one_part_hides_no_other(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> EtcdState:
        raise RuntimeError("odd")

    monkeypatch.setattr(etcd_state, "ask_etcd", fail)
    host.services["kubelet"] = "failed"
    assert state_of(tmp_path).faults == (
        "kubelet.service is failed",
        "etcd could not be asked: RuntimeError: odd",
    )


def test_a_full_disk_is_a_fault_that_names_the_strictest_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in host_state.FREE_PERCENT:
        (tmp_path / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    space = os.statvfs(tmp_path)

    def with_free(blocks: float, inodes: float) -> tuple[host_state.DiskState, ...]:
        class Space:
            f_blocks, f_frsize, f_files = 1000, 4096, 1000
            f_bavail, f_favail = int(1000 * blocks), int(1000 * inodes)

        monkeypatch.setattr(os, "statvfs", lambda _: Space)
        return host_state.ask_disks(Paths(tmp_path))

    assert space.f_blocks
    (disk,) = with_free(0.5, 0.5)
    assert disk.places == tuple(host_state.FREE_PERCENT)
    assert (disk.free_percent, disk.faults) == (50.0, ())
    (disk,) = with_free(0.12, 0.5)
    assert [fault.text for fault in disk.faults] == [
        "/ has 12 % free (480.0 KiB); /var/lib/containerd needs 15 %"
    ]
    (disk,) = with_free(0.5, 0.02)
    assert [fault.text for fault in disk.faults] == ["/ has 2 % of its inodes free of the 5 % it needs"]


@pytest.mark.parametrize(
    ("started_s", "answers", "hangs", "load", "faults"),
    [
        (0, True, False, 0.5, 0),
        (0, False, False, 0.5, 1),
        (-1, False, False, 0.5, 0),
        (0, False, True, 0.5, 0),
        (0, False, False, 7.0, 0),
    ],
)
@pytest.mark.loopback
def test_salt_is_pinged_and_a_slow_start_is_no_fault(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    started_s: int,
    answers: bool,
    hangs: bool,
    load: float,
    faults: int,
) -> None:
    monkeypatch.setattr(salt_state, "COMMAND_LIMIT_S", 0.5)
    monkeypatch.setattr(os, "getloadavg", lambda: (load * (os.cpu_count() or 1), 0.0, 0.0))
    host.answers_ping = answers
    host.minion_started_s = int(time.monotonic()) - 10 if started_s else 0
    host.hanging = {"crictl"} if hangs else set()
    with socket.create_server(("127.0.0.1", 0)) as publish, socket.create_server(("127.0.0.1", 0)) as back:
        ports = {"salt-publish": publish.getsockname()[1], "salt-return": back.getsockname()[1]}
        assert len(salt_state.ask_salt("127.0.0.1", ports, "node1").faults) == faults
    found = salt_state.ask_salt("127.0.0.1", ports, "node1")
    assert "does not accept connections" in found.shown


@pytest.mark.loopback
def test_salt_has_one_bound_for_all_that_it_is_asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step within the bound is not enough: connections, the container, the ping, the age of the minion."""
    monkeypatch.setattr(salt_state, "COMMAND_LIMIT_S", 1.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    host.answers_ping = False

    def slow(args: list[str], *, timeout_s: float, check: bool = True) -> Completed:
        took_s = min(timeout_s, 0.9)
        time.sleep(took_s)
        return host(args, timeout_s=timeout_s, check=check)

    for module in (bus, salt_state):
        monkeypatch.setattr(module, "run", slow)
    with socket.create_server(("127.0.0.1", 0)) as publish, socket.create_server(("127.0.0.1", 0)) as back:
        ports = {"salt-publish": publish.getsockname()[1], "salt-return": back.getsockname()[1]}
        began = time.monotonic()
        salt_state.ask_salt("127.0.0.1", ports, "node1")
    assert time.monotonic() - began < 1.6
    listed = next(words for words in host.commands if "--quiet" in words)
    assert "--label" in listed
    assert "io.kubernetes.pod.namespace=kube-system" in listed


# ---- the other nodes -------------------------------------------------------------------------------------


def with_others(host: Host, monkeypatch: pytest.MonkeyPatch, *others: OtherNode) -> None:
    """Let node2 have been added, its Node be there, and it be looked at with this result."""
    host.nodes = {"items": [*NODES["items"], node("node2")]}
    monkeypatch.setattr(other_nodes, "ask_nodes", lambda *_, **__: others)
    monkeypatch.setattr(other_nodes, "known", lambda _: [("node2", "10.77.1.12", "worker")])


GOOD = OtherNode(
    "node2", "10.77.1.12", "worker", "", is_key_accepted=True, minion="answers", own=workers.own()
)
AWAY = replace(
    GOOD,
    way="no answer at 10.77.1.12:10250",
    minion="does not answer",
    own={},
    faults=(Fault("away", "look"),),
)


def test_the_other_nodes_are_rows_and_their_faults_are_of_the_cluster(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_others(host, monkeypatch, GOOD)
    state = state_of(tmp_path)
    assert state.error() is None
    tables = dict(state.tables(make_product()))
    assert tables["Further nodes, asked"][1][0] == "node2"
    assert state.to_json(make_product())["other_nodes"][0]["own"]["node"]["name"] == "node2"
    with_others(host, monkeypatch, AWAY)
    state = state_of(tmp_path)
    assert state.faults == ("away",)
    assert isinstance(state.error(), UnhealthyError)
    assert state.to_json(make_product())["other_nodes"][0]["own"] is None


def test_a_look_at_other_nodes_that_takes_long_is_never_silent(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that hangs ends with its bound."""

    def hang(*_: object, **__: object) -> tuple[OtherNode, ...]:
        time.sleep(60)
        return ()

    with_others(host, monkeypatch)
    monkeypatch.setattr(other_nodes, "ask_nodes", hang)
    monkeypatch.setattr(other_nodes, "LIMIT_S", -1.0)
    monkeypatch.setattr(status, "SAY_INTERVAL_S", 0.2)
    said: list[str] = []
    started = time.monotonic()
    found = status.gather_node("node2", Paths(tmp_path), progress=said.append)
    assert found.other.minion == "not known: no answer in time"
    assert found.other.cells[3:6] == ("not known", "not known", "not known: no answer in time")
    assert [fault.text for fault in found.all_faults] == ["node node2 gave no answer within 1 s"]
    assert "waiting for the answers of: node node2" in said[0]
    state = status.gather_state(make_product(), Paths(tmp_path), progress=said.append)
    assert state.others == ()
    assert state.faults == ("the further nodes gave no answer within 1 s",)
    assert "the further nodes" in said[-1]
    assert time.monotonic() - started < 20


def test_of_a_node_that_is_away_its_pods_are_no_further_faults(host: Host, tmp_path: Path) -> None:
    host.nodes = {"items": [*NODES["items"], node("node2", "Unknown")]}
    lost = {**pod("calico-node-x", phase="Pending"), "spec": {"nodeName": "node2"}}
    lost["metadata"].update(
        labels={"k8s-app": "calico-node"}, ownerReferences=[{"kind": "DaemonSet", "name": "c"}]
    )
    host.pods = {"items": [*PODS["items"][:2], lost]}
    state = state_of(tmp_path)
    assert state.faults == ("node node2 is not Ready",)
    assert [one["name"] for one in state.to_json(make_product())["pods"]["not_ready"]] == ["calico-node-x"]
    lost["spec"]["nodeName"] = "node1"
    assert state_of(tmp_path).faults[1:] == ("pod kube-system/calico-node-x is not Ready: Pending",)


def test_who_has_the_virtual_address(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vip = "10.77.1.100"
    said = workers.own()
    said["node"]["addresses"] = ["10.77.1.12", vip]
    monkeypatch.setattr(facts, "read_addresses", lambda: list(ADDRESSES))
    with_others(host, monkeypatch, replace(GOOD, own=said))
    config = CONFIG_TEXT.replace("10.77.1.0/24]}", f"10.77.1.0/24], vip: {vip}}}")
    saltcall.write_configuration(make_context(tmp_path, config=parse_config(config)))
    (tmp_path / "var/lib/caisson/kubeadm").mkdir(parents=True)
    (tmp_path / "var/lib/caisson/kubeadm/certs-all.json").touch()
    monkeypatch.setattr(endpoints, "endpoints", lambda *_: ())
    monkeypatch.setattr(salt_state, "ask_salt", lambda *_: SaltState("node1 answers its master"))
    state = state_of(tmp_path)
    assert state.to_json(make_product())["vip"] == {"address": vip, "held_by": ("node2",)}
    assert (f"virtual address {vip}", "held by node2") in state.tables(make_product())[0][1]
    with_others(host, monkeypatch, AWAY)
    assert (f"virtual address {vip}", "held by no node that answers") in state_of(tmp_path).tables(
        make_product()
    )[0][1]


def test_several_members_of_etcd_are_a_table(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = tuple(
        EtcdMember(name, is_learner=False, client_urls=(f"https://{name}:2379",))
        for name in ("node1", "node2")
    )
    monkeypatch.setattr(etcd_state, "ask_etcd", lambda *_: EtcdState("2 members", members=members))
    tables = dict(state_of(tmp_path).tables(make_product()))
    assert tables["Members of etcd"][1:] == [
        ("node1", "yes", "https://node1:2379"),
        ("node2", "yes", "https://node2:2379"),
    ]


def test_one_node_and_more_of_it(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name; one that was never added is refused."""
    with_others(host, monkeypatch, GOOD)

    def look() -> status.NodeLook:
        found = status.gather_node("node2", Paths(tmp_path))
        data = json.loads(json.dumps(found.to_json(make_product())))
        jsonschema.Draft7Validator(SCHEMA).validate(data)
        return found

    found = look()
    assert found.error() is None
    titles = [title for title, _ in found.tables(make_product())]
    assert titles[1:] == [
        "Node",
        "Node node2",
        "Disks of node2",
        "Certificates of node2, those that end first first",
    ]
    host.nodes = {"items": [node("node2", "False")]}
    assert look().to_json(make_product())["faults"] == ["node node2 is not Ready"]
    with_others(host, monkeypatch, AWAY)
    assert [title for title, _ in look().tables(make_product())][1:] == ["Node"]
    with pytest.raises(UsageError, match="no node 'node9'") as caught:
        status.gather_node("node9", Paths(tmp_path))
    assert "node2" in caught.value.details


def test_a_node_that_was_added_and_that_the_cluster_has_no_node_of(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 'kubectl delete node': its kubelet runs and its minion answers, so nothing else tells."""
    text = "node2 was added and the cluster has no Node of it"
    with_others(host, monkeypatch, GOOD)
    monkeypatch.setattr(fencing, "fenced", lambda _: [])
    host.nodes = NODES
    state, one = state_of(tmp_path), status.gather_node("node2", Paths(tmp_path))
    assert state.faults == (text,)
    assert [fault.text for fault in one.all_faults] == [text]
    for found in (state, one):
        error = found.error()
        assert isinstance(error, UnhealthyError)
        assert "caisson node add" in error.resolution
        assert "caisson node remove node2" in error.resolution
    monkeypatch.setattr(fencing, "fenced", lambda _: ["node2"])
    removal = "its removal was not finished: caisson node remove node2"
    assert [fault.fix for fault in state_of(tmp_path).all_faults] == [removal]
    assert [fault.fix for fault in status.gather_node("node2", Paths(tmp_path)).all_faults] == [removal]
    # Nobody knows which Nodes there are when the API says nothing.
    host.has_api = False
    assert state_of(tmp_path).faults == ("the Kubernetes API does not answer",)


def test_the_node_of_this_host_was_deleted(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its static pods go on, and no Node is left that could be not Ready."""
    install(tmp_path)
    monkeypatch.setattr(endpoints, "endpoints", lambda *_: ())
    monkeypatch.setattr(salt_state, "ask_salt", lambda *_: SaltState("node1 answers its master"))
    assert state_of(tmp_path).faults == ()
    host.nodes = {"items": [node("node5")]}
    (fault,) = state_of(tmp_path).all_faults
    assert fault.text == "the cluster has no Node of this host, node1"
    assert "systemctl restart kubelet" in fault.fix
    assert "label node node1 node-role.kubernetes.io/control-plane=" in fault.fix


def test_pods_that_are_not_told_hide_no_fault_of_nodes(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> tuple[PodState, ...]:
        raise ClusterError("the API is odd", resolution="look")

    with_others(host, monkeypatch, GOOD)
    host.nodes = {"items": [node("node1", "False")]}
    monkeypatch.setattr(cluster_state, "get_pods", fail)
    monkeypatch.setattr(fencing, "fenced", lambda _: [])
    assert state_of(tmp_path).faults == (
        "the API is odd",
        "node node1 is not Ready",
        "node2 was added and the cluster has no Node of it",
    )


@pytest.mark.parametrize(
    ("has_api", "heard", "faults"),
    [
        (False, True, ["the Kubernetes API does not answer"]),
        (True, False, ["what node2 says of itself is not known: no container salt-master is running"]),
        (
            False,
            False,
            [
                "the Kubernetes API does not answer",
                "what node2 says of itself is not known: no container salt-master is running",
            ],
        ),
    ],
)
def test_what_nobody_knows_of_one_node_is_a_fault(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_api: bool,
    heard: bool,
    faults: list[str],
) -> None:
    """The API is silent, the bus is down: then nobody says that all is well."""
    unheard = replace(GOOD, minion="not known: no container salt-master is running", own={})
    with_others(host, monkeypatch, GOOD if heard else unheard)
    host.has_api = has_api
    found = status.gather_node("node2", Paths(tmp_path))
    data = json.loads(json.dumps(found.to_json(make_product())))
    jsonschema.Draft7Validator(SCHEMA).validate(data)
    assert data["faults"] == faults
    assert len(data["fixes"]) == len(faults)
    assert data["exit_code"] == 21
    error = found.error()
    assert isinstance(error, UnhealthyError)
    assert error.resolution


def test_of_one_node_of_which_nothing_was_found_out_nothing_is_told(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that it was reached, nor that its key is accepted; the API may say that it is Ready."""

    def fail(*_: object, **__: object) -> tuple[OtherNode, ...]:
        raise OSError("odd")

    with_others(host, monkeypatch)
    monkeypatch.setattr(other_nodes, "ask_nodes", fail)
    found = status.gather_node("node2", Paths(tmp_path))
    data = json.loads(json.dumps(found.to_json(make_product())))
    jsonschema.Draft7Validator(SCHEMA).validate(data)
    assert data["other_node"]["key_accepted"] is None
    assert data["other_node"]["unreached"] == "not known"
    shown = dict(zip(other_nodes.HEADING, found.other.cells, strict=True))
    assert shown["KEY"] == "not known"
    assert shown["REACHED"] == "not known"
    assert "node node2 could not be asked: OSError: odd" in data["faults"]
    assert data["exit_code"] == 21


# ---- the ISO behind the mount ----------------------------------------------------------------------------


def loop_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sys/block/loop0/loop/backing_file"
    file.parent.mkdir(parents=True)
    file.write_text(f"{text}\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/loop0").write_bytes((tmp_path / "c.iso").read_bytes())


def test_an_iso_that_was_moved_is_missed_before_the_reboot(host: Host, tmp_path: Path) -> None:
    iso = tmp_path / "c.iso"
    loop_is(tmp_path, str(tmp_path / "elsewhere.iso"))
    iso.rename(tmp_path / "elsewhere.iso")
    state = state_of(tmp_path)
    assert isinstance(state.error(), DegradedError)
    assert state.media.missing == f"{iso} is no longer there: the media is lost with the next reboot"
    assert state.media.resolution == f"it was moved: mv {tmp_path / 'elsewhere.iso'} {iso}"


@pytest.mark.parametrize("seen", ["c.iso", "elsewhere.iso"])
def test_an_iso_that_something_else_covers(host: Host, tmp_path: Path, seen: str) -> None:
    """Mounted over its directory, or its file system unmounted, which may leave another file of the name it had."""
    iso = tmp_path / "c.iso"
    loop_is(tmp_path, str(tmp_path / seen))
    iso.unlink()
    (tmp_path / "elsewhere.iso").write_bytes(b"\0" * 32_768 + b"\1CD001 two" + b"\0" * 2048)
    resolution = state_of(tmp_path).media.resolution
    assert "mv " not in resolution
    assert f"see 'findmnt -T {tmp_path}'" in resolution


def test_an_iso_that_was_deleted_can_be_written_again(host: Host, tmp_path: Path) -> None:
    iso = tmp_path / "c.iso"
    loop_is(tmp_path, f"{iso} (deleted)")
    iso.unlink()
    assert state_of(tmp_path).media.resolution == (
        f"do not reboot; write it again from what is mounted: cp /dev/loop0 {iso}"
    )


def test_an_iso_that_was_replaced_by_another(host: Host, tmp_path: Path) -> None:
    iso = tmp_path / "c.iso"
    loop_is(tmp_path, f"{iso} (deleted)")
    assert state_of(tmp_path).media.missing == "", "the same ISO, copied there again"
    iso.write_bytes(b"\0" * 32_768 + b"\1CD001 two" + b"\0" * 2048)
    assert "is another file than the one that is mounted" in state_of(tmp_path).media.missing


def test_an_iso_beside_the_one_in_use_is_shown_and_missed(host: Host, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    installed.note(make_product(), paths)
    unit = media.unit_name(paths.media_dir("0.1.0-20261102.bb"))
    (paths.units_dir / unit).write_text(
        f"# Written by Caisson.\n[Mount]\nWhat=/nowhere/b.iso\nWhere={paths.media_dir('0.1.0-20261102.bb')}\n"
    )
    state = state_of(tmp_path)
    (other,) = state.other_media
    assert other.name == "0.1.0-20261102.bb"
    error = state.error()
    assert isinstance(error, DegradedError)
    assert error.message.startswith("an ISO beside the one in use is missing")
    assert error.resolution.startswith("put the ISO back as /nowhere/b.iso, then: systemctl start")
    shown = dict(row for row in state.tables(make_product())[0][1] if len(row) == 2)
    assert shown["media 0.1.0-20261102.bb"].endswith("/nowhere/b.iso is not there")


def test_a_control_plane_that_serves_too_with_other_isos_is_told_with_the_command(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.note(make_product(), Paths(tmp_path))
    servers = (
        MediaServer("cp2", "10.77.1.12", ("0.0.9-1",)),
        MediaServer("cp3", "10.77.1.13", ("0.1.0", "0.0.9-1")),
    )
    monkeypatch.setattr(mediaservers, "known", lambda _: servers)
    monkeypatch.setattr(status, "_ask_endpoints", lambda *_: ())
    state = state_of(tmp_path)
    error = state.error()
    assert isinstance(error, DegradedError)
    assert error.message.startswith("a control plane that serves too has other ISOs")
    assert error.details.splitlines()[0] == "cp2: it lacks 0.1.0; it still has 0.0.9-1, removed here"
    assert error.resolution.splitlines()[0] == "caisson media replicate cp2"
    shown = dict(row for row in state.tables(make_product())[0][1] if len(row) == 2)
    assert shown["copies on cp3"] == "it still has 0.0.9-1, removed here"


def test_another_iso_in_use_than_that_of_the_copy_is_told() -> None:
    old, new = (Media(n, n, "", "", "", "", n == "new", None) for n in ("old", "new"))
    server = MediaServer("cp2", "10.77.1.12", ("old", "new"))
    (found,) = replicas.compare([server], [new, old])
    assert found.missing == "its packages are those of old, and new is in use here"
    (found,) = replicas.compare([dataclasses.replace(server, builds=("new", "old"))], [new, old])
    assert (found.missing, found.resolution, found.shown) == ("", "", "has new, old")


def test_a_mount_unit_that_is_gone_or_not_enabled(host: Host, tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir()
    (unit,) = units.glob("*.mount")
    assert state_of(tmp_path).media.resolution == f"systemctl enable '{unit.name}'"
    (wants / unit.name).symlink_to(unit)
    assert state_of(tmp_path).media.missing == ""
    unit.unlink()
    assert "there is no" in state_of(tmp_path).media.missing
