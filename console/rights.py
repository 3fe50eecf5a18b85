# SPDX-License-Identifier: Apache-2.0
"""Know what a user may do in the whole cluster, so that a page can say which rule is missing.

What is shown of the host is given by the console, so the rules must be those of the whole cluster: a RoleBinding in
one namespace gives nothing here. The API tells the rules of one namespace; ``-`` is the name of none, and none can have
it, so the answer has the rules of ClusterRoleBindings alone. Before an act the door asks by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console import api

GROUP = "console.caisson.internal"
NO_NAMESPACE = "-"
PATH = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
ANY = "*"


@dataclass(frozen=True)
class Act:
    """Something of the console that needs a right: in plain words, and as RBAC has it."""

    title: str
    verb: str
    resource: str
    group: str = GROUP

    @property
    def rule(self) -> str:
        """Return the rule that allows it."""
        return f'apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]'


SEE_HOST = Act("see this host: services, disks, static pods, etcd", "get", "hosts")
SEE_JOBS = Act("see jobs and their logs", "list", "jobs")
SEE_MEDIA = Act("see the ISOs", "list", "media")
SEE_IMAGES = Act("see the images", "list", "images")
SEE_CERTIFICATES = Act("see when certificates end", "list", "certificates")
SEE_JOURNAL = Act("see the journal", "list", "journal")
ADD_HOST = Act("look at a host and add it", "create", "hosts")
REMOVE_NODE = Act("remove a node", "delete", "hosts")
CANCEL_JOB = Act("cancel a job", "delete", "jobs")
MAKE_REPORT = Act("make a report", "create", "reports")
FETCH_REPORT = Act("fetch a report", "get", "reports")
SEE_NODES = Act("see nodes", "list", "nodes", "")
SEE_PODS = Act("see pods of all namespaces", "list", "pods", "")
SEE_LOGS = Act("see logs of pods", "get", "pods/log", "")
SEE_EVENTS = Act("see events of all namespaces", "list", "events", "")

READS = (SEE_HOST, SEE_JOBS, SEE_MEDIA, SEE_IMAGES, SEE_CERTIFICATES, SEE_JOURNAL)
ACTS = (ADD_HOST, REMOVE_NODE, CANCEL_JOB, MAKE_REPORT, FETCH_REPORT)
KUBERNETES = (SEE_NODES, SEE_PODS, SEE_LOGS, SEE_EVENTS)
OF_OPERATION = {
    "probe": ADD_HOST,
    "add-host": ADD_HOST,
    "node-add": ADD_HOST,
    "remove-node": REMOVE_NODE,
    "node-remove": REMOVE_NODE,
    "report": MAKE_REPORT,
}


@dataclass(frozen=True)
class Rule:
    """One rule of RBAC that holds for a user."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def allows(self, act: Act) -> bool:
        """Say whether the rule allows an act on every object of its resource."""
        return not self.names and all(
            ANY in found or wanted in found
            for found, wanted in (
                (self.groups, act.group),
                (self.resources, act.resource),
                (self.verbs, act.verb),
            )
        )


@dataclass(frozen=True)
class Rights:
    """All that a user may do."""

    rules: tuple[Rule, ...] = ()

    def may(self, act: Act) -> bool:
        """Say whether the user may."""
        return any(rule.allows(act) for rule in self.rules)


LOCAL = Rights(
    (
        Rule((GROUP,), tuple(act.resource for act in READS), ("get", "list")),
        Rule((GROUP,), (MAKE_REPORT.resource,), (MAKE_REPORT.verb, FETCH_REPORT.verb)),
    )
)
"""Of a session that was begun while the API did not answer."""
NONE = Rights()


def review() -> Mapping[str, Any]:
    """Return the question."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NO_NAMESPACE},
    }


def parse(answer: Mapping[str, Any]) -> Rights:
    """Return the rights of an answer."""
    rules = api.items(answer, "status", "resourceRules")
    return Rights(
        tuple(
            Rule(
                _texts(rule.get("apiGroups")),
                _texts(rule.get("resources")),
                _texts(rule.get("verbs")),
                _texts(rule.get("resourceNames")),
            )
            for rule in rules
        )
    )


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, Sequence) and not isinstance(found, str) else ()
