# SPDX-License-Identifier: Apache-2.0
"""What the container runtime knows of pods, asked through the CRI: works with and without an API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

DIGEST_ANNOTATION = "caisson.io/configuration-sha256"
ENTERED_ANNOTATION = "caisson.io/entered"
MANIFESTS_DIR = Path("/etc/kubernetes/manifests")
# What the kubelet notes on a pod of its manifest directory. Source: Kubernetes 1.36, pkg/kubelet/types, pod_update.go.
SOURCE_ANNOTATION, FROM_FILE = "kubernetes.io/config.source", "file"


def _crictl(*arguments: str) -> dict[str, Any]:
    result = __salt__["cmd.run_all"](
        ["crictl", *arguments], python_shell=False, timeout=30, ignore_retcode=True
    )
    if result["retcode"] != 0:
        return {}
    answer: dict[str, Any] = json.loads(result["stdout"])
    return answer


def _sandboxes(name: str) -> list[dict[str, Any]]:
    """Return the ready sandboxes of pod ``name`` (or of its mirror, ``name-NODE``)."""
    return _named(_crictl("pods", "--state", "ready", "--output", "json").get("items", []), name)


def _named(pods: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == "kube-system"
        and (pod["metadata"]["name"] == name or pod["metadata"]["name"].startswith(name + "-"))
    ]


def static_sandboxes(name: str) -> list[str]:
    """Return the ids of the sandboxes of static pod ``name`` that are ready, whichever manifest it is of.

    Raises RuntimeError when the container runtime does not answer: that it names none is what is waited for.
    """
    result = __salt__["cmd.run_all"](
        ["crictl", "pods", "--state", "ready", "--output", "json"],
        python_shell=False,
        timeout=30,
        ignore_retcode=True,
    )
    if result["retcode"] != 0:
        raise RuntimeError(f"crictl pods: {result['stderr'].strip()[-500:]}")
    pods = json.loads(result["stdout"]).get("items") or []
    return [
        str(pod["id"])
        for pod in _named(pods, name)
        if (pod.get("annotations") or {}).get(SOURCE_ANNOTATION) == FROM_FILE
    ]


def running_containers(name: str, digest: str | None) -> list[str]:
    """Return the names of the running containers of static pod ``name`` whose configuration digest is ``digest``.

    None: those of a manifest that has none.
    """
    sandboxes = {
        pod["id"] for pod in _sandboxes(name) if pod.get("annotations", {}).get(DIGEST_ANNOTATION) == digest
    }
    if not sandboxes:
        return []
    containers = _crictl("ps", "--state", "running", "--output", "json").get("containers", [])
    return [entry["metadata"]["name"] for entry in containers if entry["podSandboxId"] in sandboxes]


def is_entered(name: str) -> bool:
    """Tell whether static pod ``name`` has the annotation with which it was entered in the cluster."""
    file = MANIFESTS_DIR / f"{name}.yaml"
    return file.is_file() and ENTERED_ANNOTATION in file.read_text()


def explain(name: str) -> str:
    """Return the last words of pod ``name``: container states, log tails, the kubelet's last complaints."""
    parts: list[str] = []
    sandboxes = {pod["id"] for pod in _sandboxes(name)}
    for entry in _crictl("ps", "--all", "--output", "json").get("containers", []):
        if entry["podSandboxId"] not in sandboxes:
            continue
        parts.append(f"container {entry['metadata']['name']}: {entry['state']}")
        tail = __salt__["cmd.run_all"](
            ["crictl", "logs", "--tail", "10", entry["id"]],
            python_shell=False,
            timeout=30,
            ignore_retcode=True,
        )
        parts.append((tail["stdout"] + "\n" + tail["stderr"]).strip())
    if not parts:
        journal = __salt__["cmd.run_stdout"](
            ["journalctl", "--unit", "kubelet", "--lines", "15", "--no-pager", "--output", "cat"],
            python_shell=False,
            timeout=30,
            ignore_retcode=True,
        )
        parts.append("no container was made; the kubelet says:\n" + journal)
    return "\n".join(parts)
