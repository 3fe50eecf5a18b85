# SPDX-License-Identifier: Apache-2.0
"""Give a node the labels and taints that were asked for, also one that has been a node for long.

Those that are asked for are set whenever a node is added, the first time or again; the kubelet itself may not set all
of them (NodeRestriction), and sets taints only when it registers. Others are left alone: they may be anybody's. Those
of an earlier addition that are no longer asked for are named, with the command that takes them away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from installer.base.paths import Paths
from installer.base.run import run
from installer.config.nodes import NodeEntry, Taint

KUBECTL_TIMEOUT_S = 60.0


def lacking_labels(entry: NodeEntry, node: Mapping[str, Any]) -> list[str]:
    """Return the labels to be set on a node, as kubectl takes them. Pure."""
    there = node["metadata"].get("labels") or {}
    return [f"{key}={value}" for key, value in sorted(entry.labels.items()) if there.get(key) != value]


def lacking_taints(entry: NodeEntry, node: Mapping[str, Any]) -> list[str]:
    """Return the taints to be set on a node, as kubectl takes them. Pure."""
    taints = node.get("spec", {}).get("taints") or ()
    there = {Taint(taint["key"], taint.get("value", ""), taint["effect"]) for taint in taints}
    return [str(taint) for taint in entry.taints if taint not in there]


def put(paths: Paths, name: str, entry: NodeEntry) -> list[str]:
    """Set what is lacking, and return what was set, for people.

    Raises:
        CommandError: the API refuses it, or does not answer.
    """
    kubectl = ["kubectl", "--kubeconfig", str(paths.admin_kubeconfig_file)]
    if not entry.labels and not entry.taints:
        return []
    shown = run([*kubectl, "get", "node", name, "--output=json"], timeout_s=KUBECTL_TIMEOUT_S).stdout
    node = json.loads(shown)
    done = []
    for word, lacking in (("label", lacking_labels(entry, node)), ("taint", lacking_taints(entry, node))):
        if lacking:
            run([*kubectl, word, "node", name, "--overwrite", *lacking], timeout_s=KUBECTL_TIMEOUT_S)
            done += [f"{word} {text}" for text in lacking]
    return done


def left(name: str, entry: NodeEntry, earlier: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an earlier addition had asked for and this one does not; ``earlier`` is the node's pillar of then.

    >>> earlier = {"labels": {"rack": "r1"}, "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}
    >>> [text.split(": ")[-1] for text in left("node2", NodeEntry("10.0.0.2"), {"node": earlier})]
    ['kubectl label node node2 rack-', 'kubectl taint node node2 gpu:NoSchedule-']
    """
    before = earlier.get("node", {})
    for key, value in sorted(before.get("labels", {}).items()):
        if key not in entry.labels:
            yield _left(name, "label", f"{key}={value}", f"{key}-")
    wanted = {(taint.key, taint.effect) for taint in entry.taints}
    for taint in _taints(before.get("taints", ())):
        if (taint.key, taint.effect) not in wanted:
            yield _left(name, "taint", str(taint), f"{taint.key}:{taint.effect}-")


def _left(name: str, kind: str, text: str, removal: str) -> str:
    return (
        f"note: the {kind} {text} of an earlier addition is no longer asked for, and stays; to take it away: "
        f"kubectl {kind} node {name} {removal}"
    )


def _taints(found: Sequence[Mapping[str, str]]) -> Iterator[Taint]:
    for taint in found:
        yield Taint(taint["key"], taint["value"], taint["effect"])
