# SPDX-License-Identifier: Apache-2.0
"""Ask etcd on this host how it is, directly: it answers when the API, the kubelet or containerd do not.

etcd serves its maintenance calls as JSON on its client port, for whoever has a client certificate; kubeadm makes one
for the health check. Source: etcd 3.6, "Why gRPC gateway", api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from installer.base.paths import Paths
from installer.base.ui import format_bytes
from installer.operations import containers
from installer.operations.asking import COMMAND_LIMIT_S, Fault
from installer.operations.endpoints import client_context

PKI_DIR = "/etc/kubernetes/pki/etcd"
MANIFEST_FILE = "/etc/kubernetes/manifests/etcd.yaml"
ADDRESS = "127.0.0.1"
DEFAULT_QUOTA_BYTES = 2 * 1024**3
"""What etcd takes when no quota is given, and what it says nothing of before 3.6."""
FULL_PERCENT = 80.0
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v3/maintenance/status", {}),
    ("/v3/maintenance/alarm", {"action": "GET"}),
    ("/v3/cluster/member/list", {"linearizable": False}),
)
FAULTS = (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError)
"""It does not answer, or with data of another shape."""
LOG_FIX = f"see: {containers.listing('etcd')}; and: {containers.log('etcd')}"
SPACE_FIX = (
    "remove objects that nothing needs (old events, Helm's releases), then compact etcd, defragment it and clear its "
    "alarm, in this order: see 'Disk full' of the page 'When something is wrong'"
)


@dataclass(frozen=True)
class EtcdMember:
    """A member of etcd; one that never started has no name."""

    name: str
    is_learner: bool
    client_urls: tuple[str, ...]


@dataclass(frozen=True)
class EtcdState:
    """What the member on this host says; sizes in bytes, 0 when it said nothing."""

    shown: str
    version: str = ""
    size_bytes: int = 0
    quota_bytes: int = 0
    members: tuple[EtcdMember, ...] = ()
    alarms: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def ask_etcd(paths: Paths, port: int, *, host: str = ADDRESS) -> EtcdState | None:
    """Ask the etcd of this host; None where kubeadm made none (yet)."""
    if not paths.at(MANIFEST_FILE).exists() and not paths.at(PKI_DIR).exists():
        return None
    try:
        return parse(*call(paths, port, *QUESTIONS, host=host))
    except FAULTS as exc:
        return EtcdState(
            "no answer", faults=(Fault(f"etcd does not answer at {host}:{port}: {exc}", LOG_FIX),)
        )


def parse(status: dict[str, Any], alarms: dict[str, Any], members: dict[str, Any]) -> EtcdState:
    """Judge the three answers; numbers of 64 bits are text in them, and what is zero is left out.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are of another shape.
    """
    size_bytes = int(status.get("dbSize", 0))
    quota_bytes = int(status.get("dbSizeQuota", 0)) or DEFAULT_QUOTA_BYTES
    raised = tuple(str(entry["alarm"]) for entry in alarms.get("alarms", ()))
    found = tuple(
        EtcdMember(
            str(entry.get("name", "")),
            bool(entry.get("isLearner", False)),
            tuple(map(str, entry.get("clientURLs", ()))),
        )
        for entry in members["members"]
    )
    faults = [Fault(f"etcd has raised the alarm {alarm}", SPACE_FIX) for alarm in raised]
    faults += [Fault(f"etcd: {text}", LOG_FIX) for text in map(str, status.get("errors", ())) if not raised]
    if int(status.get("leader", 0)) == 0:
        faults.append(Fault("etcd has no leader: more than half of its members must run", LOG_FIX))
    if 100.0 * size_bytes / quota_bytes >= FULL_PERCENT:
        text = f"the database of etcd has {format_bytes(size_bytes)} of at most {format_bytes(quota_bytes)}"
        faults.append(Fault(text, SPACE_FIX))
    faults += [
        Fault(f"a member of etcd has never started or is a learner: {member.name or '(no name)'}", LOG_FIX)
        for member in found
        if not member.name or member.is_learner
    ]
    shown = f"{len(found)} member{'' if len(found) == 1 else 's'}, {format_bytes(size_bytes)}"
    shown += f", alarms: {', '.join(raised)}" if raised else ", no alarm"
    return EtcdState(shown, str(status["version"]), size_bytes, quota_bytes, found, raised, tuple(faults))


def member_rows(state: EtcdState) -> list[tuple[str, ...]]:
    """Return the table of members."""
    return [
        ("NAME", "VOTES", "CLIENTS"),
        *(
            (member.name or "(no name)", "no" if member.is_learner else "yes", ", ".join(member.client_urls))
            for member in state.members
        ),
    ]


def call(
    paths: Paths, port: int, *questions: tuple[str, dict[str, Any]], host: str = ADDRESS
) -> list[dict[str, Any]]:
    """Return what a member answers to calls, each a path and its body; over one connection.

    Raises:
        OSError, http.client.HTTPException, ValueError: it does not answer, or refuses.
    """
    connection = _connect(paths, host, port)
    try:
        return [_call(connection, path, body) for path, body in questions]
    finally:
        connection.close()


def _connect(paths: Paths, host: str, port: int) -> http.client.HTTPSConnection:
    """Return a connection with kubeadm's certificate for the health check; one for all calls.

    Raises:
        OSError: a file of it cannot be read.
    """
    directory = paths.at(PKI_DIR)
    context = client_context(directory / "ca.crt")
    context.load_cert_chain(directory / "healthcheck-client.crt", directory / "healthcheck-client.key")
    return http.client.HTTPSConnection(host, port, timeout=COMMAND_LIMIT_S, context=context)


def _call(connection: http.client.HTTPSConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what etcd answers to one call.

    Raises:
        OSError, http.client.HTTPException, ValueError: it does not answer, or not with JSON.
    """
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read(1_000_000)
    if response.status != 200:
        raise ValueError(f"HTTP {response.status} {content[:200].decode(errors='replace')}")
    data: dict[str, Any] = json.loads(content)
    return data
