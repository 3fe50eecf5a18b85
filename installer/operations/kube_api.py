# SPDX-License-Identifier: Apache-2.0
"""Ask the Kubernetes API by the paths of its own documentation, through kubectl and the administrator's kubeconfig.

What is sent and what is answered is logged nowhere: tokens are in both. Source: Kubernetes, API reference; kubectl,
``--raw``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from installer.base.errors import ClusterError, CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import run

TIMEOUT_S = 4.0
VERBS = {"GET": "get", "POST": "create", "PUT": "replace", "DELETE": "delete"}
SERVER_SAID = re.compile(r"^Error from server(?: \((?P<reason>\w+)\))?: (?P<message>.*)", re.MULTILINE)
NOT_AVAILABLE = frozenset({"", "ServiceUnavailable", "Timeout", "InternalError", "TooManyRequests"})
"""What an API server says whose etcd is away, say: it has not decided anything."""


class RefusedError(ClusterError):
    """The API has answered, and not done what was asked; ``reason`` is its own word for why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(
            f"the Kubernetes API refuses: {message}",
            details=f"reason: {reason}",
            resolution="see 'caisson status'",
        )
        self.reason = reason


def call(
    paths: Paths,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Send one request and return what is answered.

    Raises:
        RefusedError: the API says no; ``reason`` is NotFound, AlreadyExists, Forbidden, ..
        ClusterError: it does not answer, or cannot decide.
    """
    words = ["kubectl", "--kubeconfig", str(paths.admin_kubeconfig_file), f"--request-timeout={timeout_s:g}s"]
    words += [VERBS[method], "--raw", path, *(["-f", "-"] if body is not None else [])]
    stdin = b"" if body is None else json.dumps(body).encode("utf-8")
    try:
        said = run(words, timeout_s=timeout_s + 1, check=False, stdin=stdin, is_secret=True)
    except (CommandError, HostError) as exc:
        raise unanswered(exc.message) from exc
    if said.returncode != 0:
        found = SERVER_SAID.search(said.stderr)
        if found is None or (found["reason"] or "") in NOT_AVAILABLE:
            raise unanswered(said.stderr.strip().splitlines()[-1][:300] if said.stderr.strip() else "no word")
        raise RefusedError(found["reason"], found["message"][:300])
    try:
        answer: dict[str, Any] = json.loads(said.stdout)
        return dict(answer)
    except (ValueError, TypeError) as exc:
        raise unanswered("what it says is no JSON") from exc


def unanswered(why: str) -> ClusterError:
    """Return the error of an API that does not answer."""
    return ClusterError(
        "the Kubernetes API does not answer",
        details=why,
        resolution="see 'caisson status', and 'crictl ps -a' on a control-plane node",
    )


def is_ready(paths: Paths) -> bool:
    """Say whether the API answers, and what it lives by."""
    words = ["kubectl", "--kubeconfig", str(paths.admin_kubeconfig_file), "--request-timeout=2s"]
    try:
        said = run([*words, "get", "--raw", "/readyz"], timeout_s=3, check=False)
    except (CommandError, HostError):
        return False
    return said.returncode == 0 and said.stdout.strip() == "ok"
