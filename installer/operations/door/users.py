# SPDX-License-Identifier: Apache-2.0
"""Keep the console's users: ServiceAccounts in a namespace of their own, each bound to one of three roles.

No password exists: who may become whom says root, by a code (codes.py), or the API, by a token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from installer.base.errors import ClusterError, UsageError
from installer.base.paths import Paths
from installer.operations import kube_api
from installer.operations.kube_api import RefusedError

NAMESPACE = "caisson-users"
ROLES = ("viewer", "operator", "admin")
ROLE_ANNOTATION = "caisson.io/role"
LABEL = "caisson.io/console-user"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
NAMESPACES = "/api/v1/namespaces"
DEFAULT_SECONDS = 8 * 3600
LEAST_SECONDS, MOST_SECONDS = 600, 7 * 86_400
"""Source: Kubernetes, TokenRequest: not under ten minutes."""


@dataclass(frozen=True)
class Account:
    """A user of the console; ``role`` is empty where its binding is gone."""

    name: str
    role: str
    created: str

    @property
    def full_name(self) -> str:
        """Return its name as Kubernetes has it."""
        return f"system:serviceaccount:{NAMESPACE}:{self.name}"


@dataclass(frozen=True)
class Token:
    """What an account proves itself with until ``ends`` (UTC)."""

    token: str
    ends: str


def check_name(name: str) -> str:
    """Return the name, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of a user",
            details="small letters, digits and '-', at most 63, a letter or digit at both ends",
            resolution="give another name",
        )
    return name


def listed(paths: Paths) -> list[Account]:
    """Return the users, by name.

    Raises:
        ClusterError: the API does not answer, or the phase 'console' has not run.
    """
    found = kube_api.call(paths, "GET", f"{ACCOUNTS}?labelSelector={LABEL}%3Dtrue").get("items") or []
    bound = _bound(paths)
    accounts = [_account(item, bound) for item in found]
    return sorted(accounts, key=lambda account: account.name)


def _bound(paths: Paths) -> dict[str, str]:
    """Return user -> role of the bindings that this has made."""
    items = kube_api.call(paths, "GET", f"{BINDINGS}?labelSelector={LABEL}%3Dtrue").get("items") or []
    return {
        str(subject["name"]): str(item["roleRef"]["name"])[len("caisson-") :]
        for item in items
        for subject in item.get("subjects") or ()
    }


def _account(item: dict[str, Any], bound: dict[str, str]) -> Account:
    metadata = item["metadata"]
    return Account(
        str(metadata["name"]),
        bound.get(str(metadata["name"]), ""),
        str(metadata.get("creationTimestamp", "")),
    )


def ensure(paths: Paths, name: str, role: str) -> bool:
    """Make sure that there is a user of this name with this role; return whether it was otherwise.

    Raises:
        ClusterError: the API does not answer, or the phase 'console' has not run.
    """
    labels = {LABEL: "true"}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "automountServiceAccountToken": False,
    }
    is_new = _create(paths, ACCOUNTS, account)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _binding(name), "labels": labels},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": f"caisson-{role}",
        },
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    }
    if _bound(paths).get(name) == role:
        return is_new
    # What a binding refers to can not be changed: another one takes its place. Source: Kubernetes, "Using RBAC".
    _delete(paths, f"{BINDINGS}/{_binding(name)}")
    _create(paths, BINDINGS, binding)
    return True


def role_of(paths: Paths, name: str) -> str:
    """Return the role of a user; empty where there is no such user.

    Raises:
        ClusterError: the API does not answer.
    """
    return next((account.role for account in listed(paths) if account.name == name), "")


def remove(paths: Paths, name: str) -> None:
    """Remove a user, whose tokens end with it.

    Raises:
        UsageError: there is none of this name.
        ClusterError: the API does not answer.
    """
    known = [account.name for account in listed(paths)]
    if name not in known:
        raise UsageError(
            f"there is no user '{name}'",
            details=f"users: {', '.join(known) or 'none'}",
            resolution="'caisson console user list' shows all of them",
        )
    _delete(paths, f"{BINDINGS}/{_binding(name)}")
    _delete(paths, f"{ACCOUNTS}/{name}")


def token(paths: Paths, name: str, seconds: int) -> Token:
    """Let the API make a token, which it may make shorter.

    Raises:
        ClusterError: the API does not answer, or refuses.
    """
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    }
    status = kube_api.call(paths, "POST", f"{ACCOUNTS}/{name}/token", request).get("status") or {}
    if not status.get("token"):
        raise ClusterError(
            "the Kubernetes API made no token", resolution="see 'caisson status', then log in again"
        )
    return Token(str(status["token"]), str(status.get("expirationTimestamp", "")))


def _binding(name: str) -> str:
    return f"caisson-user-{name}"


def _create(paths: Paths, path: str, body: dict[str, Any]) -> bool:
    """Create an object, unless it is there; return whether it was not."""
    try:
        kube_api.call(paths, "POST", path, body)
    except RefusedError as exc:
        if exc.reason == "AlreadyExists":
            return False
        if exc.reason == "NotFound":
            raise ClusterError(
                f"the cluster has no namespace {NAMESPACE}",
                details=exc.message,
                resolution="run 'caisson bootstrap' again: its phase 'console' makes it",
            ) from exc
        raise
    return True


def _delete(paths: Paths, path: str) -> None:
    try:
        kube_api.call(paths, "DELETE", path)
    except RefusedError as exc:
        if exc.reason != "NotFound":
            raise
