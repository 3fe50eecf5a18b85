# SPDX-License-Identifier: Apache-2.0
"""A small world for the console to look at: what its API server and its door answer, and its clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NIGHT = 1795748400.0
"""2026-11-27, three o'clock in the morning, UTC."""
GROUP = "console.caisson.internal"
ALL = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
VIEW = [
    {
        "verbs": ["get", "list"],
        "apiGroups": [GROUP],
        "resources": ["hosts", "jobs", "media", "images", "certificates", "journal"],
    },
    {
        "verbs": ["get", "list", "watch"],
        "apiGroups": [""],
        "resources": ["nodes", "pods", "pods/log", "events"],
    },
]
ADMIN, VIEWER, OPERATOR, ONE_NAMESPACE = (
    "admin-token-0123456789",
    "viewer-token-0123456789",
    "operator-token-0123456789",
    "team-token-0123456789",
)
CODE = "ABCDEF-GHIJKL-MNOPQR-STUVWX-23"
JOB = "20261127-065500-node-add-0a1b2c"
PROBE = "20261127-065800-probe-0a0b0c"
LOOK = "20261127-065900-probe-0d0e0f"
REPORT = "20261127-064000-report-aabbcc"
FINGERPRINT = "SHA256:" + "k3Y0" * 10 + "abc"


@dataclass
class User:
    """Somebody whom the API knows by a token."""

    name: str
    rules: list[dict[str, Any]]
    groups: tuple[str, ...] = ("system:authenticated",)
    namespace: str = ""


@dataclass
class JobFiles:
    """A job as it lies on a disk: what ``job`` says of it, and the bytes that ``follow`` reads."""

    about: dict[str, Any]
    phases: list[dict[str, Any]] = field(default_factory=list)
    journal: bytes = b""
    log: bytes = b""
    found: dict[str, Any] | None = None
    archive: bytes | None = None

    @property
    def is_running(self) -> bool:
        """Say whether it is at work."""
        return bool(self.about["state"] == "running")


@dataclass
class World:
    """All of it; tests change what they need while the servers run."""

    moves: bool = False
    begun: float = field(default_factory=time.monotonic)
    ahead_s: float = 0.0
    users: dict[str, User] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    leases: dict[str, float] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    readyz: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    certificates: list[dict[str, Any]] = field(default_factory=list)
    media: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, JobFiles] = field(default_factory=dict)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked_api: list[str] = field(default_factory=list)
    asked_door: list[dict[str, Any]] = field(default_factory=list)
    door_said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    door_told: list[dict[str, Any]] = field(default_factory=list)
    refuse: Callable[[Mapping[str, Any]], dict[str, Any] | None] = lambda _: None
    held: set[str] = field(default_factory=set)
    """Verbs of the door, or "api": what is asked so is not answered before the test ends, or lets it go."""
    released: threading.Event = field(default_factory=threading.Event)
    drops: int = 0
    """So many questions to the API are closed without an answer."""

    def now(self) -> float:
        """Return the time that the console believes."""
        return NIGHT + self.ahead_s + (time.monotonic() - self.begun if self.moves else 0.0)


def at(seconds_ago: float) -> str:
    """Return a time as it is written down, so many seconds before the night."""
    return datetime.fromtimestamp(NIGHT - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- what the API has ----------------------------------------------------------------------------------------


def node(name: str, address: str, *, control: bool = False, status: str = "Ready") -> dict[str, Any]:
    """Return a node: its object, with the word that the table has."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    if control:
        labels["node-role.kubernetes.io/control-plane"] = ""
    ready = "True" if status.startswith("Ready") else "Unknown"
    conditions = [
        {
            "type": kind,
            "status": "False",
            "reason": f"KubeletHasNo{kind}",
            "message": f"kubelet has no {kind}",
            "lastTransitionTime": at(90000),
        }
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    message = "kubelet is posting ready status" if ready == "True" else "Kubelet stopped posting node status."
    conditions.append(
        {
            "type": "Ready",
            "status": ready,
            "reason": "KubeletReady",
            "message": message,
            "lastTransitionTime": at(86400),
        }
    )
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": at(900000)},
        "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
        if control
        else {},
        "status": {
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "8", "memory": "32768Mi"},
            "nodeInfo": {
                "kubeletVersion": "v1.36.4",
                "containerRuntimeVersion": "containerd://2.3.7",
                "osImage": "Rocky Linux 9.6 (Blue Onyx)",
                "kernelVersion": "5.14.0-570.el9.x86_64",
            },
            "images": [{"names": ["registry.k8s.io/pause:3.10"], "sizeBytes": 300000}],
        },
        "word": status,
    }


def pod(
    namespace: str, name: str, on: str, *, state: str = "Running", ready: str = "1/1", restarts: str = "0"
) -> dict[str, Any]:
    """Return a pod: its object, with the words that the table has."""
    is_running = state == "Running"
    current: dict[str, Any] = (
        {"running": {"startedAt": at(80000)}}
        if is_running
        else {"waiting": {"reason": state, "message": f"back-off 5m0s restarting failed container={name}"}}
    )
    last = {} if is_running else {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at(130)}}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"app": name},
            "creationTimestamp": at(90000),
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-rs"}],
        },
        "spec": {
            "nodeName": on,
            "containers": [{"name": "main"}],
            "priorityClassName": "system-cluster-critical",
        },
        "status": {
            "phase": "Running",
            "podIP": "10.233.1.5",
            "hostIP": "10.77.1.1",
            "startTime": at(90000),
            "conditions": [{"type": "Ready", "status": "True" if is_running else "False"}],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": is_running,
                    "restartCount": int(restarts.split(maxsplit=1)[0]),
                    "image": f"registry.example/{name}:1",
                    "state": current,
                    "lastState": last,
                }
            ],
        },
        "words": [name, ready, state, restarts, "25h", "10.233.1.5", on, "<none>", "<none>"],
    }


def event(
    kind: str,
    reason: str,
    about: str,
    message: str,
    *,
    seen: str = "3m",
    count: int = 1,
    namespace: str = "default",
) -> dict[str, Any]:
    """Return an event, with the words that the table has."""
    name = f"{about.partition('/')[2]}.{abs(hash((reason, message))) % 10**8:x}"
    words = [seen, kind, reason, about, "", "kubelet, node1", message, "1h", count, name]
    return {
        "metadata": {"namespace": namespace, "name": name},
        "about": about.partition("/")[2],
        "words": words,
    }


# ---- what the door has ---------------------------------------------------------------------------------------


def certificate(
    file: str, user: str, days: int, *, by: str = "kubeadm certs renew", authority: bool = False
) -> dict[str, Any]:
    """Return a certificate as the door has it."""
    return {
        "name": file.rpartition("/")[2].partition(".")[0],
        "file": file,
        "user": user,
        "ends": at(-days * 86400)[:10],
        "days": days,
        "renewed_by": by,
        "authority": authority,
        "fault": f"{file} ends in {days} days" if days <= 30 else "",
        "fix": "kubeadm certs renew all" if days <= 30 else "",
    }


def service(name: str, state: str = "active", **more: Any) -> dict[str, Any]:
    """Return a service as the door has it."""
    return {
        "name": name,
        "state": state,
        "detail": "running" if state == "active" else "dead",
        "result": "success",
        "exit_code": 0,
        "restarts": 0,
        "since": "2026-11-26T06:30:00Z",
        "lines": [],
        **more,
    }


def static_pod(
    name: str, *, running: bool | None = True, namespace: str = "kube-system", **more: Any
) -> dict[str, Any]:
    """Return a static pod as the door has it."""
    return {
        "name": name,
        "namespace": namespace,
        "running": running,
        "restarts": 0,
        "last_exit": None,
        "lines": [],
        **more,
    }


def status(**more: Any) -> dict[str, Any]:
    """Return the state of a host on which all is well."""
    nodes = [
        ("cp1", "10.77.1.1"),
        ("cp2", "10.77.1.2"),
        ("cp3", "10.77.1.3"),
        ("w1", "10.77.1.11"),
        ("w2", "10.77.1.12"),
    ]
    return {
        "format": 1,
        "product": {"version": "0.2.0", "build": "20261120", "profile": "lab", "lab": True},
        "media": {
            "mount_point": "/srv/caisson/0.2.0-20261120",
            "made_from": "/isos/caisson-0.2.0.iso",
            "missing": "",
            "resolution": "",
        },
        "other_media": [],
        "services": {
            "kubelet": "active",
            "containerd": "active",
            "salt-minion": "active",
            "firewalld": "active",
            "console": "listening",
        },
        "firewall": "firewalld is on; the policies caisson-nodes and caisson-services are in it",
        "disks": [
            {
                "places": ["/var/lib/containerd", "/var/lib/kubelet"],
                "free_bytes": 61 * 2**30,
                "size_bytes": 100 * 2**30,
                "free_percent": 61.0,
                "free_inodes_percent": 97.0,
            },
            {
                "places": ["/var/lib/etcd"],
                "free_bytes": 15 * 2**30,
                "size_bytes": 20 * 2**30,
                "free_percent": 75.0,
                "free_inodes_percent": 99.0,
            },
        ],
        "static_pods": [{"name": name, "is_running": True} for name in ("etcd", "kube-apiserver")],
        "etcd": {
            "shown": "3.6.8, 3 members",
            "version": "3.6.8",
            "size_bytes": 84 * 2**20,
            "quota_bytes": 2 * 2**30,
            "members": [
                {"name": f"cp{n}", "is_learner": False, "client_urls": [f"https://10.77.1.{n}:2379"]}
                for n in (1, 2, 3)
            ],
            "alarms": [],
        },
        "nodes": [
            {
                "name": name,
                "version": "v1.36.4",
                "address": address,
                "is_ready": True,
                "roles": "",
                "runtime": "containerd://2.3.7",
                "kernel": "5.14",
            }
            for name, address in nodes
        ],
        "other_nodes": [
            {
                "name": name,
                "address": address,
                "role": "worker" if name[0] == "w" else "control-plane",
                "unreached": "",
                "key_accepted": True,
                "minion": "answers",
                "own": None,
            }
            for name, address in nodes[1:]
        ],
        "vip": {"address": "10.77.1.100", "held_by": ["cp1"]},
        "pods": {"total": 31, "not_ready": [], "site_not_ready": []},
        "endpoints": [
            {"name": name, "url": url, "answer": answer, "needs_media": name == "packages"}
            for name, url, answer in (
                ("images", "https://10.77.1.1:8443/v2/", "HTTP 200"),
                (
                    "packages",
                    "https://10.77.1.1:8443/repo/el9/repodata/repomd.xml",
                    "HTTP 200",
                ),
                ("pushes of images", "https://10.77.1.1:8444/v2/", "HTTP 401"),
                ("registry", "http://127.0.0.1:5000/v2/", "HTTP 200"),
            )
        ],
        "salt": "the minion answers its master",
        "certificates": [],
        "faults": [],
        "fixes": [],
        "exit_code": 0,
        "role": "bootstrap",
        "cluster": "harbour",
        "host": {
            "name": "cp1",
            "time": at(1),
            "uptime_s": 950000,
            "load": [0.42, 0.37, 0.31],
            "processors": 8,
            "memory": {"total_bytes": 32 * 2**30, "available_bytes": 19 * 2**30},
            "services": [service(name) for name in ("kubelet", "containerd", "salt-minion", "firewalld")],
            "static_pods": [
                static_pod(name)
                for name in (
                    "etcd",
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "keepalived",
                    "nginx",
                    "registry",
                    "salt-master",
                )
            ],
            "clock": {"synchronized": True, "service": True, "zone": "UTC"},
            "api": {"url": "https://10.77.1.1:6443/livez", "answers": True, "answer": "HTTP 200"},
            "unknown": [],
        },
        **more,
    }


ADD_PHASES = ("connect", "probe", "send", "install-packages", "keys", "hello", "prepare", "join", "wait")


def phases(reached: int, state: str, *, begun_ago: float = 300.0) -> list[dict[str, Any]]:
    """Return the phases of an addition, of which so many are done and the next is in ``state``."""
    seconds = (2.1, 14.2, 6.0, 31.5, 1.2, 9.3, 48.0, 22.5, 8.8)
    found, moment = [], begun_ago
    for place, name in enumerate(ADD_PHASES):
        now = "done" if place < reached else state if place == reached else "waiting"
        found.append(
            {
                "host": "10.77.1.13",
                "name": name,
                "code": f"CSP{401 + place}",
                "title": name.replace("-", " ") + " the host",
                "state": now,
                "begun": at(moment) if now != "waiting" else "",
                "seconds": None if now == "waiting" else seconds[place],
                "changed": True if now == "done" else None,
                "waits_for": "the image registry.k8s.io/kube-proxy:v1.36.4" if now == "running" else "",
            }
        )
        moment -= seconds[place]
    return found


def job(job_id: str, operation: str, state: str, **more: Any) -> dict[str, Any]:
    """Return a job as ``caisson jobs --json`` has it."""
    return {
        "id": job_id,
        "operation": operation,
        "arguments": {},
        "command": ["caisson", "node", "add", "10.77.1.13"],
        "unit": f"caisson-job@{job_id}.service",
        "state": state,
        "asked": at(305),
        "starts": [{"time": at(304), "process": 4242, "ticks": 1, "boot": "b"}],
        "ended": None if state == "running" else at(60),
        "seconds": 244.0,
        "exit_code": None if state == "running" else 0,
        "summary": "",
        "error": None,
        "directory": f"/var/lib/caisson/jobs/{job_id}",
        "hosts": [],
        "phases": [],
        "asker": {"user": "system:serviceaccount:caisson-users:root", "client": "10.77.1.200"},
        **more,
    }


def journal_of(operation: str, begun: tuple[str, ...]) -> bytes:
    """Return a journal in which so many phases have begun."""
    return b"".join(
        b'{"time": "%s", "run": "r2", "operation": "%s", "phase": "%s", "event": "start"}\n'
        % (at(300 - 10 * place).encode(), operation.encode(), phase.encode())
        for place, phase in enumerate(begun)
    )


def log_of(count: int) -> bytes:
    """Return a log of so many lines."""
    return b"".join(
        b"[%3d/9] line %d of what the job said\n" % (number % 9 + 1, number) for number in range(1, count + 1)
    )


# ---- three worlds --------------------------------------------------------------------------------------------


def let_in(token: str, *, ends_in_s: float = 8 * 3600, user: str = "root") -> dict[str, Any]:
    """Return what a code is redeemed for."""
    return {"token": token, "ends": at(-ends_in_s), "user": user, "role": "admin"}


Make = Callable[[], World]
"""What makes a world."""


def users() -> dict[str, User]:
    """Return who may log in by a token."""
    account = "system:serviceaccount:caisson-users"
    create = {"verbs": ["create"], "apiGroups": [GROUP], "resources": ["hosts", "jobs", "reports"]}
    cancel = {"verbs": ["delete"], "apiGroups": [GROUP], "resources": ["jobs"]}
    return {
        ADMIN: User(f"{account}:root", [ALL], ("system:serviceaccounts", "system:authenticated")),
        VIEWER: User(f"{account}:eve", list(VIEW)),
        OPERATOR: User(f"{account}:olga", [*VIEW, create, cancel]),
        ONE_NAMESPACE: User(f"{account}:team", [], namespace="team"),
    }


def empty() -> World:
    """Return a world in which nothing has happened yet."""
    world = World(
        users=users(), status=status(nodes=[], other_nodes=[], etcd=None, vip=None, disks=[], endpoints=[])
    )
    world.status["host"] = {**world.status["host"], "static_pods": []}
    world.readyz = "[+]ping ok\nreadyz check passed\n"
    world.codes = {CODE: let_in(ADMIN)}
    return world


def full() -> World:
    """Return a cluster of five nodes on which all is well, and a host is being added."""
    world = empty()
    world.status = status()
    names = [(f"cp{n}", f"10.77.1.{n}", True) for n in (1, 2, 3)] + [
        (f"w{n}", f"10.77.1.1{n}", False) for n in (1, 2)
    ]
    world.nodes = [node(name, address, control=control) for name, address, control in names]
    world.leases = {name: NIGHT - 4.0 - place for place, (name, _, _) in enumerate(names)}
    world.pods = [
        pod("kube-system", f"{name}-{on}", on)
        for on, _, control in names
        for name in (("etcd", "kube-apiserver") if control else ("kube-proxy",))
    ]
    world.pods += [pod("team", f"web-{n}", "w1") for n in range(3)]
    world.pods.append(pod("team", "migrate-28x", "w2", state="Completed", ready="0/1"))
    world.events = [
        event(
            "Normal", "Pulled", "pod/web-0", "Container image already present on machine", namespace="team"
        ),
        event(
            "Warning",
            "Unhealthy",
            "pod/web-1",
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
            seen="4m10s",
            count=3,
            namespace="team",
        ),
    ]
    world.logs = {
        "team/web-0": "".join(f"{at(60 - n)[:-1]}.123456789Z GET /item/{n} 200\n" for n in range(40))
    }
    world.readyz = (
        "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac/roles ok\n[+]shutdown ok\nreadyz check passed\n"
    )
    world.certificates = [
        certificate("/etc/kubernetes/pki/apiserver.crt", "kube-apiserver, to its clients", 1700),
        certificate(
            "/var/lib/kubelet/pki/kubelet-client-current.pem",
            "the kubelet, to the API",
            260,
            by="the kubelet",
        ),
        certificate("/etc/caisson/console/tls.crt", "the console", 380, by="caisson bootstrap"),
        certificate(
            "/etc/kubernetes/pki/ca.crt", "the cluster's authority", 3600, by="nobody", authority=True
        ),
    ]
    world.media = [
        {
            "name": "0.2.0-20261120",
            "version": "0.2.0",
            "build": "20261120",
            "profile": "lab",
            "title": "Caisson 0.2.0",
            "in_use": True,
            "mounted": True,
            "mount_point": "/srv/caisson/0.2.0-20261120",
            "made_from": "/isos/caisson-0.2.0.iso",
            "signed_by": "ABCD1234ABCD1234",
            "size_bytes": 1_900_000_000,
            "hidden": [],
            "served_by": [],
            "problem": "",
            "resolution": "",
        },
    ]
    world.images = [
        {
            "name": f"registry.k8s.io/{name}:v1.36.4",
            "origin": "ISO",
            "digest": "sha256:" + f"{place:x}" * 64,
            "size_bytes": 30_000_000 + place,
            "nodes": ["cp1", "w1"],
        }
        for place, name in enumerate(("kube-apiserver", "kube-proxy", "kube-scheduler"))
    ]
    world.images.append(
        {
            "name": "docker.io/site/web:7",
            "origin": "site",
            "digest": "sha256:" + "f" * 64,
            "size_bytes": 12_000_000,
            "nodes": None,
        }
    )
    world.journal = [
        {
            "time": at(90000 - n),
            "run": "r1",
            "operation": "bootstrap",
            "phase": phase,
            "event": kind,
            **({"changed": True, "seconds": 3.25} if kind == "done" else {}),
        }
        for n, (phase, kind) in enumerate(
            (
                ("verify-media", "start"),
                ("verify-media", "done"),
                ("preflight", "start"),
                ("preflight", "done"),
            )
        )
    ]
    world.audit = [
        {
            "time": at(600),
            "who": world.users[ADMIN].name,
            "groups": [],
            "client": "10.77.1.200",
            "uid": 990,
            "verb": "redeem",
            "arguments": {},
            "answer": "ok",
            "code": "",
            "message": "",
        },
        {
            "time": at(305),
            "who": world.users[ADMIN].name,
            "groups": [],
            "client": "10.77.1.200",
            "uid": 990,
            "verb": "start",
            "arguments": {"operation": "add-host", "parameters": {"address": "10.77.1.13"}},
            "answer": "ok",
            "code": "",
            "message": "",
        },
        {
            "time": at(100),
            "who": world.users[VIEWER].name,
            "groups": [],
            "client": "10.77.1.201",
            "uid": 990,
            "verb": "start",
            "arguments": {"operation": "report"},
            "answer": "403",
            "code": "CSE017",
            "message": "eve may not create reports",
        },
    ]
    host = {"address": "10.77.1.13", "role": "worker", "port": 22, "user": "root"}
    world.jobs = {
        REPORT: JobFiles(
            job(
                REPORT,
                "report",
                "succeeded",
                asked=at(1200),
                seconds=21.0,
                summary="312 files, 4.1 MiB, without keys, tokens and passwords",
            ),
            log=log_of(4),
            archive=b"\x1f\x8b" + b"report" * 1000,
        ),
        JOB: JobFiles(
            job(
                JOB,
                "node-add",
                "running",
                arguments={"nodes": [host]},
                phases=[
                    {
                        "host": "10.77.1.13",
                        "name": "prepare",
                        "event": "start",
                        "time": at(240),
                        "changed": None,
                        "seconds": None,
                    }
                ],
                hosts=[
                    {
                        "name": "w3",
                        "address": "10.77.1.13",
                        "role": "worker",
                        "result": "at work",
                        "phase": "",
                        "seconds": None,
                        "why": "",
                        "code": "",
                        "exit_code": 0,
                    }
                ],
            ),
            phases=phases(6, "running"),
            log=log_of(60),
            journal=journal_of("node-add/10.77.1.13", ("connect", "probe", "send")),
        ),
        PROBE: JobFiles(
            job(
                PROBE,
                "probe",
                "succeeded",
                arguments={"host": host},
                asked=at(120),
                seconds=1.2,
                summary="10.77.1.13 shows its keys",
            ),
            found={
                "format": 1,
                "keys": [{"kind": "ssh-ed25519", "fingerprint": FINGERPRINT}],
                "confirmed": "",
                "host": None,
                "look": None,
            },
            log=log_of(2),
        ),
        LOOK: JobFiles(
            job(
                LOOK,
                "probe",
                "succeeded",
                arguments={"host": host},
                asked=at(60),
                seconds=9.0,
                summary="10.77.1.13: fit to become a worker",
            ),
            found={
                "format": 1,
                "keys": [{"kind": "ssh-ed25519", "fingerprint": FINGERPRINT}],
                "confirmed": FINGERPRINT,
                "host": {
                    "hostname": "w3",
                    "os": "Rocky Linux 9.6",
                    "kernel": "5.14.0",
                    "machine_id": "0123456789abcdef",
                    "facts": {"control_plane_address": "10.77.1.13", "workload_plane_address": "10.78.1.13"},
                },
                "look": {
                    "format": 1,
                    "exit_code": 0,
                    "hosts": [
                        {
                            "host": "10.77.1.13",
                            "role": "worker",
                            "fit": True,
                            "error": "",
                            "findings": [
                                {
                                    "id": "CSN214",
                                    "status": "warning",
                                    "title": "Swap is off",
                                    "evidence": "/dev/dm-1 is in use as swap",
                                    "fix": "the addition switches it off",
                                }
                            ],
                        }
                    ],
                },
            },
            log=log_of(3),
        ),
    }
    return world


def failed() -> World:
    """Return the same cluster at its worst: a node, a pod, a disk, a job, a certificate."""
    world = full()
    world.nodes[4] = node("w2", "10.77.1.12", status="NotReady")
    world.leases["w2"] = NIGHT - 400
    world.pods.append(
        pod("team", "api-0", "w1", state="CrashLoopBackOff", ready="0/1", restarts="14 (2m ago)")
    )
    world.certificates[0] = certificate(
        "/etc/kubernetes/pki/apiserver.crt", "kube-apiserver, to its clients", 5
    )
    world.status["disks"][1] = {
        "places": ["/var/lib/etcd"],
        "free_bytes": 2**30,
        "size_bytes": 20 * 2**30,
        "free_percent": 5.0,
        "free_inodes_percent": 99.0,
    }
    world.status["other_nodes"][3]["unreached"] = "10.77.1.12:10250: no route to host"
    world.status["faults"] = ["node w2 is not Ready", "the site's registry has no password file"]
    world.status["fixes"] = ["caisson status --node w2", "caisson bootstrap"]
    world.status["exit_code"] = 21
    world.jobs[JOB].about.update(
        state="failed",
        ended=at(60),
        phases=[],
        error={
            "code": "CSE015",
            "class": "ReachError",
            "message": "10.77.1.13 has no room for images",
            "details": ["/var/lib/containerd: 1.2 GiB free, 6 GiB needed"],
            "resolution": ["df -h /var/lib/containerd"],
            "exit_code": 15,
        },
        hosts=[
            {
                "name": "w3",
                "address": "10.77.1.13",
                "role": "worker",
                "result": "failed",
                "phase": "CSP407 prepare",
                "seconds": 112.0,
                "why": "no room for images",
                "code": "CSE015",
                "exit_code": 15,
            }
        ],
    )
    world.jobs[JOB].phases = phases(6, "failed")
    return world


def api_down(world: World) -> None:
    """Let the host know that the API server and etcd are gone; the server itself is stopped by the test."""
    world.status["host"]["api"] = {
        "url": "https://10.77.1.1:6443/livez",
        "answers": False,
        "answer": "no answer: [Errno 111] Connection refused",
    }
    lines = [
        '{"level":"fatal","msg":"no database","error":"write /var/lib/etcd/member/wal: no space left on device"}',
        "panic: cannot allocate space for the write-ahead log",
    ]
    pods = world.status["host"]["static_pods"]
    pods[0:2] = [
        static_pod(
            "etcd",
            running=False,
            restarts=4,
            last_exit={"code": 1, "reason": "Error", "time": at(130)},
            lines=lines,
        ),
        static_pod(
            "kube-apiserver",
            running=False,
            restarts=4,
            last_exit={"code": 1, "reason": "Error", "time": at(100)},
            lines=["dial tcp 127.0.0.1:2379: connect: connection refused"],
        ),
    ]
    world.status["etcd"] = None
    world.status["faults"] = ["the Kubernetes API does not answer at https://10.77.1.1:6443/livez"]
    world.status["fixes"] = ["journalctl -u kubelet"]
    world.status["exit_code"] = 21
