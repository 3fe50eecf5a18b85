# SPDX-License-Identifier: Apache-2.0
"""Show nodes: how each is, by what the API said and by when its kubelet was heard last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console import api, text
from console.api import Row, Table
from console.known import Known
from console.views import base
from console.views.base import Mark

HEARTBEAT_S = 25.0
"""A kubelet renews its lease every 10 s. The API waits 40 s or more before it says NotReady: here it is unknown."""
ROLE_LABEL = "node-role.kubernetes.io/"
IDLE_CONDITION = "False"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node in a list."""

    name: str
    mark: Mark
    state: str
    why: str
    roles: str
    version: str
    address: str
    age: str
    heard_s: float | None
    is_control_plane: bool
    system: str = ""


def leases_of(known: Known[dict[str, Any]]) -> dict[str, float]:
    """Return when each kubelet renewed its lease."""
    found = {}
    for lease in api.items(known.value, "items"):
        moment = text.moment(api.part(lease, "spec").get("renewTime"))
        if moment is not None:
            found[str(api.part(lease, "metadata").get("name", ""))] = moment
    return found


def nodes_of(nodes: Known[Table], leases: Known[dict[str, Any]], now: float) -> list[Node]:
    """Return all nodes, those that are not well first."""
    if nodes.value is None:
        return []
    is_fresh = nodes.is_fresh(now, base.API_FRESH_S)
    heard = leases_of(leases)
    has_leases = leases.value is not None and leases.is_fresh(now, base.API_FRESH_S)
    found = [
        _node(row, heard.get(row.name) if has_leases else None, now, is_fresh=is_fresh)
        for row in nodes.value.rows
    ]
    order = {Mark.BAD: 0, Mark.UNKNOWN: 1, Mark.WARN: 2}
    return sorted(found, key=lambda node: (order.get(node.mark, 3), not node.is_control_plane, node.name))


def _node(row: Row, heard_at: float | None, now: float, *, is_fresh: bool) -> Node:
    heard_s = None if heard_at is None else max(0.0, now - heard_at)
    mark, state, why = judge(row.cell("Status"), heard_s, is_fresh=is_fresh)
    roles = sorted(label.removeprefix(ROLE_LABEL) for label in row.labels if label.startswith(ROLE_LABEL))
    return Node(
        name=row.name,
        mark=mark,
        state=state,
        why=why,
        roles=", ".join(roles) or "worker",
        version=row.cell("Version"),
        address=row.cell("Internal-IP"),
        age=row.cell("Age"),
        heard_s=heard_s,
        is_control_plane="control-plane" in roles,
        system=row.cell("OS-Image"),
    )


def judge(status: str, heard_s: float | None, *, is_fresh: bool) -> tuple[Mark, str, str]:
    """Return how a node is: "Ready" only as long as the API says so now and its kubelet was heard of late.

    >>> judge("Ready", 4.0, is_fresh=True)[:2], judge("Ready", 31.0, is_fresh=True)[:2]
    ((<Mark.GOOD: 'good'>, 'Ready'), (<Mark.UNKNOWN: 'unknown'>, 'unknown'))
    """
    parts = status.split(",")
    if not is_fresh:
        return Mark.UNKNOWN, "unknown", f"was {status or 'unknown'} when the API answered last"
    if parts[0] == "Ready" and heard_s is not None and heard_s > HEARTBEAT_S:
        return Mark.UNKNOWN, "unknown", f"its kubelet has not been heard for {text.age(heard_s)}"
    if parts[0] == "Ready":
        if "SchedulingDisabled" in parts:
            return Mark.WARN, "Ready, no new pods", "it is cordoned"
        return Mark.GOOD, "Ready", ""
    return Mark.BAD, status or "unknown", "the API has no good word from its kubelet"


def list_view(nodes: Known[Table], leases: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page of all nodes shows."""
    found = nodes_of(nodes, leases, now)
    return {
        "nodes": found,
        "groups": groups(found),
        "source": base.api_source(nodes, now),
        "lease_source": base.api_source(leases, now),
        "more": "" if nodes.value is None else nodes.value.more,
    }


def groups(found: list[Node]) -> list[tuple[str, list[Node]]]:
    """Return nodes by what they are, for the picture."""
    control = sorted((node for node in found if node.is_control_plane), key=lambda node: node.name)
    workers = sorted((node for node in found if not node.is_control_plane), key=lambda node: node.name)
    return [(title, nodes) for title, nodes in (("control plane", control), ("workers", workers)) if nodes]


# ---- one node ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition of a node."""

    name: str
    mark: Mark
    state: str
    why: str
    since: float | None


def one_view(
    name: str,
    node: Known[dict[str, Any]],
    lease: Known[dict[str, Any]],
    status: Known[dict[str, Any]],
    now: float,
) -> dict[str, Any]:
    """Return what the page of one node shows of the node itself."""
    data: Mapping[str, Any] = node.value or {}
    conditions = [_condition(one) for one in api.items(data, "status", "conditions")]
    ready = next((one for one in conditions if one.name == "Ready"), None)
    heard = text.moment(api.part(lease.value, "spec").get("renewTime"))
    heard_s = None if heard is None else max(0.0, now - heard)
    is_fresh = node.is_fresh(now, base.API_FRESH_S)
    words = "" if ready is None else "Ready" if ready.state == "True" else "NotReady"
    if words and api.part(data, "spec").get("unschedulable") is True:
        words += ",SchedulingDisabled"
    mark, state, why = judge(words, heard_s, is_fresh=is_fresh)
    if ready is not None and mark is Mark.BAD:
        why = ready.why
    info = api.part(data, "status", "nodeInfo")
    labels = api.part(data, "metadata", "labels")
    return {
        "name": name,
        "is_there": node.value is not None,
        "mark": mark,
        "state": state,
        "why": why,
        "heard_s": heard_s,
        "conditions": conditions,
        "facts": [
            (
                "Roles",
                ", ".join(sorted(k.removeprefix(ROLE_LABEL) for k in labels if k.startswith(ROLE_LABEL)))
                or "worker",
            ),
            *(
                (str(one.get("type", "")), str(one.get("address", "")))
                for one in api.items(data, "status", "addresses")
            ),
            ("Kubelet", base.words(info.get("kubeletVersion"))),
            ("Container runtime", base.words(info.get("containerRuntimeVersion"))),
            ("System", base.words(info.get("osImage"))),
            ("Kernel", base.words(info.get("kernelVersion"))),
            ("Processors", base.words(api.part(data, "status", "capacity").get("cpu"))),
            ("Memory", base.words(api.part(data, "status", "capacity").get("memory"))),
            ("Taints", ", ".join(_taint(one) for one in api.items(data, "spec", "taints")) or "none"),
        ],
        "labels": sorted((str(key), str(value)) for key, value in labels.items()),
        "images": len(api.items(data, "status", "images")),
        "own": own_of(name, status),
        "source": base.api_source(node, now),
        "lease_source": base.api_source(lease, now),
        "status_source": base.door_source(status, now),
    }


def _condition(data: Mapping[str, Any]) -> Condition:
    name, state = base.words(data.get("type")), base.words(data.get("status"))
    is_good = state == ("True" if name == "Ready" else IDLE_CONDITION)
    mark = Mark.GOOD if is_good else Mark.UNKNOWN if state == "Unknown" else Mark.BAD
    why = f"{base.words(data.get('reason'))}: {base.words(data.get('message'))}"
    return Condition(
        name=name, mark=mark, state=state, why=why, since=text.moment(data.get("lastTransitionTime"))
    )


def _taint(data: Mapping[str, Any]) -> str:
    value = f"={data['value']}" if data.get("value") else ""
    return f"{data.get('key', '')}{value}:{data.get('effect', '')}"


def own_of(name: str, status: Known[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what Caisson knows of a further node; None where it knows nothing."""
    for other in api.items(status.value, "other_nodes"):
        if other.get("name") == name:
            own = api.part(other, "own")
            return {
                "role": base.words(other.get("role")),
                "address": base.words(other.get("address")),
                "unreached": base.words(other.get("unreached")),
                "minion": base.words(other.get("minion")),
                "faults": [
                    (base.words(f.get("text")), base.words(f.get("fix"))) for f in api.items(own, "faults")
                ],
                "services": sorted((str(k), str(v)) for k, v in api.part(own, "services").items()),
                "disks": disks_of(own),
            }
    return None


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A file system of a host."""

    places: str
    mark: Mark
    used_percent: float
    free_bytes: int | None
    size_bytes: int | None
    inodes_percent: float | None


LOW_PERCENT, VERY_LOW_PERCENT = 15.0, 10.0


def disks_of(data: Any) -> list[Disk]:
    """Return the file systems of a status."""
    found = []
    for disk in api.items(data, "disks"):
        free, inodes = base.number(disk.get("free_percent")), base.number(disk.get("free_inodes_percent"))
        least = min((part for part in (free, inodes) if part is not None), default=None)
        if least is None:
            mark = Mark.UNKNOWN
        else:
            mark = Mark.BAD if least < VERY_LOW_PERCENT else Mark.WARN if least < LOW_PERCENT else Mark.GOOD
        found.append(
            Disk(
                places=", ".join(base.texts(disk.get("places"))),
                mark=mark,
                used_percent=min(100.0, max(0.0, 100.0 - (free or 0.0))),
                free_bytes=base.whole(disk.get("free_bytes")),
                size_bytes=base.whole(disk.get("size_bytes")),
                inodes_percent=inodes,
            )
        )
    return found
