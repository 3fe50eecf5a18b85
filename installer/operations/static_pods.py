# SPDX-License-Identifier: Apache-2.0
"""Look which static pods of this host run: by their manifests, and by what containerd says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.operations import cluster_state, containers
from installer.operations.asking import COMMAND_LIMIT_S, Fault

STATIC_POD_FIX = "see: {listing}; and: journalctl -u kubelet -n 50"


@dataclass(frozen=True)
class StaticPodState:
    """A static pod of this host, by its manifest."""

    name: str
    is_running: bool


@dataclass(frozen=True)
class StaticPods:
    """All static pods of this host; ``is_known``: containerd said which of them run."""

    pods: tuple[StaticPodState, ...]
    faults: tuple[Fault, ...] = ()
    is_known: bool = True


def ask_static_pods(paths: Paths, node: str) -> StaticPods:
    """Look which static pods of this host run, by the name of its node where that is known."""
    pods = static_pods(paths.at("/etc/kubernetes/manifests"))
    try:
        running = cluster_state.get_running_pods(timeout_s=COMMAND_LIMIT_S)
    except ClusterError as exc:
        fault = Fault(exc.message, exc.resolution)
        unknown = tuple(StaticPodState(name, is_running=False) for _, name in pods)
        return StaticPods(unknown, (fault,), is_known=False)
    states = tuple(
        StaticPodState(
            name,
            is_running=(namespace, f"{name}-{node}") in running
            if node
            else any(found == namespace and pod.startswith(f"{name}-") for found, pod in running),
        )
        for namespace, name in pods
    )
    faults = [
        Fault(
            f"static pod {state.name} does not run",
            STATIC_POD_FIX.format(listing=containers.listing(state.name, namespace=namespace)),
        )
        for state, (namespace, _) in zip(states, pods)
        if not state.is_running
    ]
    return StaticPods(states, tuple(faults))


def static_pods(manifests_dir: Path) -> tuple[tuple[str, str], ...]:
    """Return namespace and name of the pods of a manifest directory; a file that cannot be read stands for itself.

    The site may have static pods too, in a namespace of its own; without one, the kubelet takes ``default``.
    """
    pods = []
    for file in sorted(manifests_dir.glob("[!.]*.yaml")) if manifests_dir.is_dir() else ():
        try:
            metadata = yaml.safe_load(file.read_text(encoding="utf-8"))["metadata"]
            pods.append((str(metadata.get("namespace") or "default"), str(metadata["name"])))
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            pods.append(("", file.name))
    return tuple(pods)
