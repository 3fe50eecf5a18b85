# SPDX-License-Identifier: Apache-2.0
"""Ask Kubernetes who holds a token and what it may do, by the administrator's own leave, before each act.

The console is not believed: what it found out about its user it may have made up. Source: Kubernetes, API reference,
TokenReview (authentication.k8s.io/v1) and SubjectAccessReview (authorization.k8s.io/v1). RBAC compares the names of
groups and resources as texts: no API of this group has to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.base.errors import AccessError
from installer.base.paths import Paths
from installer.operations import kube_api
from installer.operations.door.wire import FORBIDDEN, UNKNOWN_USER, RefusalError

GROUP = "console.caisson.internal"
WHO_IS_IT = "/apis/authentication.k8s.io/v1/tokenreviews"
WHAT_MAY_IT = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True)
class User:
    """Whom a token belongs to, as the API says."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Right:
    """What an act needs: a verb on a resource of :data:`GROUP`."""

    verb: str
    resource: str

    @property
    def rule(self) -> str:
        """Return the rule that gives it, as it would stand in a role."""
        return f'apiGroups: ["{GROUP}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]'


def who(paths: Paths, token: str) -> User:
    """Return whom the token belongs to.

    Raises:
        RefusalError: to nobody, or there is none.
        ClusterError: the API does not answer.
    """
    if not token:
        raise RefusalError(UNKNOWN_USER, _unknown("no token came with it"))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = kube_api.call(paths, "POST", WHO_IS_IT, review).get("status") or {}
    user = status.get("user") or {}
    if status.get("authenticated") is not True or not user.get("username"):
        raise RefusalError(UNKNOWN_USER, _unknown(str(status.get("error", ""))[:300]))
    return User(
        str(user["username"]),
        str(user.get("uid", "")),
        tuple(map(str, user.get("groups") or ())),
        dict(user.get("extra") or {}),
    )


def _unknown(why: str) -> AccessError:
    return AccessError(
        "the cluster does not know this user, or does not any more",
        details=why,
        resolution="log in again: 'sudo caisson console login' on a control-plane node makes a code",
    )


def need(paths: Paths, user: User, right: Right) -> None:
    """Refuse who may not.

    Raises:
        RefusalError: the user may not; its details have the rule that would be needed.
        ClusterError: the API does not answer.
    """
    spec = {
        "user": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": dict(user.extra),
        "resourceAttributes": {"group": GROUP, "resource": right.resource, "verb": right.verb},
    }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    status = kube_api.call(paths, "POST", WHAT_MAY_IT, review).get("status") or {}
    if status.get("allowed") is not True:
        raise RefusalError(
            FORBIDDEN,
            AccessError(
                f"{user.name} may not {right.verb} {right.resource}",
                details=f"the rule that is missing: {right.rule}",
                resolution="ask a cluster administrator: 'caisson console user add NAME --role operator' gives it",
            ),
        )
