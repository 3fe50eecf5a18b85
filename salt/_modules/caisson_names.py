# SPDX-License-Identifier: Apache-2.0
"""The cluster's names in /etc/hosts, and in the copies of it that pods of the host's network have.

The kubelet makes such a copy when a container starts, and never again.
Source: kubernetes 1.36, pkg/kubelet/kubelet_pods.go, makeMounts, ensureHostsFile.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

HOSTS_FILE = "/etc/hosts"
PODS_DIR = "/var/lib/kubelet/pods"
MARK = "# caisson"
TIMEOUT_S = 60


def are_known() -> bool:
    """Tell whether the names that the pillar has are in /etc/hosts. Raises RuntimeError."""
    return _settling("knows_cluster")


def put() -> None:
    """Put the names that the pillar has into /etc/hosts. Raises RuntimeError."""
    _settling("name_cluster")


def _settling(function: str) -> bool:
    paths = __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
    said = __salt__["caisson_installer.call"](
        "installer.operations.settling", function, paths, __pillar__["caisson"]
    )
    return bool(said)


def lines(text: str) -> list[str]:
    r"""Return the lines of the cluster's names, in their order. Pure.

    >>> lines("127.0.0.1 localhost\n10.0.0.1 api.x.internal # caisson\n")
    ['10.0.0.1 api.x.internal # caisson']
    """
    return [line for line in text.split("\n") if line.endswith(MARK)]


def outdated(app: str) -> list[str]:
    """Return the running pods of ``app`` here whose copy is not of /etc/hosts as it is now. Raises RuntimeError.

    One whose container has not started yet has no copy, and will get one as the file is then.
    """
    wanted = lines(_read(Path(HOSTS_FILE)))
    copies = {uid: Path(PODS_DIR) / uid / "etc-hosts" for uid in _running(app)}
    return [uid for uid, copy in copies.items() if copy.exists() and lines(_read(copy)) != wanted]


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _running(app: str) -> list[str]:
    words = [
        "crictl",
        "pods",
        "--state",
        "ready",
        "--namespace",
        "^kube-system$",
        "--label",
        f"k8s-app={app}",
    ]
    listed = __salt__["cmd.run_all"]([*words, "--output", "json"], python_shell=False, timeout=TIMEOUT_S)
    if listed["retcode"] != 0:
        raise RuntimeError(f"crictl lists no pods: {listed['stderr'].strip()[-500:]}")
    return [str(pod["metadata"]["uid"]) for pod in json.loads(listed["stdout"])["items"] or []]


def still_outdated(app: str) -> str:
    """Return which pods of ``app`` do not know the names yet, "" when all do."""
    found = outdated(app)
    return f"{app} to start with the cluster's names: {', '.join(found)}" if found else ""
