# SPDX-License-Identifier: Apache-2.0
"""The cluster's names in /etc/hosts, and in the copies of it that pods of the host's network have.

The kubelet makes such a copy when a container starts, and never again; the container has that very file mounted.
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


def put_into(app: str) -> None:
    """Put the cluster's names into the copies of the running pods of ``app``. Raises OSError, RuntimeError.

    Each is written in place, for a new file would not be the one that is mounted. The resolver of Go reads it again
    within five seconds (go 1.26, net/hosts.go, cacheMaxAge).
    """
    wanted = lines(_read(Path(HOSTS_FILE)))
    for uid in outdated(app):
        copy = Path(PODS_DIR) / uid / "etc-hosts"
        text = with_names(_read(copy), wanted).encode("utf-8", errors="surrogateescape")
        with copy.open("r+b") as file:
            file.write(text)
            file.truncate()


def with_names(text: str, wanted: list[str]) -> str:
    r"""Return the text of a copy with these lines of names, where its own were, else at its end. Pure.

    >>> with_names("# a\n10.0.0.1 api # caisson\n10.9.9.9 printer\n", ["10.0.0.2 api # caisson"])
    '# a\n10.0.0.2 api # caisson\n10.9.9.9 printer\n'
    """
    before = text.removesuffix("\n").split("\n")
    own = lines(text)
    kept = [line for line in before if line not in own]
    place = before.index(own[0]) if own else len(kept)
    return "\n".join([*kept[:place], *wanted, *kept[place:]]) + "\n"


def still_outdated(app: str) -> str:
    """Return which pods of ``app`` do not know the names yet, "" when all do."""
    found = outdated(app)
    return f"{app} to know the cluster's names: {', '.join(found)}" if found else ""
