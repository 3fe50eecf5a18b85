# SPDX-License-Identifier: Apache-2.0
"""Keep a host that was removed from coming back by itself: its kubelet's certificate is good for a year.

A kubelet that starts registers its own Node, and the API lets it (NodeRestriction). So the names of removed nodes stand
in a ConfigMap, and an admission policy lets no Node of such a name be made, whoever asks. An addition lifts that.
Source: Kubernetes 1.30 and later, ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1).
"""

from __future__ import annotations

import json
from typing import Any

from installer.base.paths import Paths
from installer.base.run import Completed, run

NAME = "caisson-removed-nodes"
NAMESPACE = "kube-system"
LIMIT_S = 60.0
MESSAGE = "this node was removed: 'caisson node add' on the bootstrap node lets it come back"


def policy() -> dict[str, Any]:
    """Return the policy, its binding and, empty, the list of names, as one List. Pure."""
    group = "admissionregistration.k8s.io/v1"
    spec = {
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"]}
            ]
        },
        "validations": [
            {
                "expression": "!has(params.data) || !(object.metadata.name in params.data)",
                "message": MESSAGE,
                # Of what is forbidden a kubelet says no reason in its journal: it asks for its Node instead.
                # Source: Kubernetes 1.36, pkg/kubelet/kubelet_node_status.go, tryRegisterWithAPIServer.
                "reason": "Invalid",
            }
        ],
    }
    reference = {"name": NAME, "namespace": NAMESPACE, "parameterNotFoundAction": "Allow"}
    binding = {"policyName": NAME, "validationActions": ["Deny"], "paramRef": reference}
    items = [
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": NAME}, "spec": spec},
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": binding,
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def fenced(paths: Paths) -> list[str]:
    """Return the names of nodes that may not be made again; none where there is no such list.

    Raises:
        CommandError: the API does not answer.
    """
    words = ["get", "configmap", NAME, "--namespace", NAMESPACE, "--ignore-not-found", "--output=json"]
    said = _kubectl(paths, *words).stdout
    return sorted((json.loads(said).get("data") or {}) if said.strip() else {})


def fence(paths: Paths, name: str) -> bool:
    """Let no Node of this name be made; return whether one could be before.

    Raises:
        CommandError: the API does not answer, or refuses.
    """
    if name in fenced(paths):
        return False
    _kubectl(paths, "apply", "--filename=-", stdin=json.dumps(policy()).encode())
    configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    _kubectl(
        paths, "apply", "--filename=-", "--server-side", f"--field-manager={NAME}", stdin=_text(configmap)
    )
    patch = json.dumps({"data": {name: "removed by caisson node remove"}})
    _kubectl(paths, "patch", "configmap", NAME, "--namespace", NAMESPACE, "--type=merge", f"--patch={patch}")
    return True


def lift(paths: Paths, name: str) -> bool:
    """Let a Node of this name be made again; return whether that was new.

    Raises:
        CommandError: the API does not answer, or refuses.
    """
    if name not in fenced(paths):
        return False
    patch = json.dumps({"data": {name: None}})
    _kubectl(paths, "patch", "configmap", NAME, "--namespace", NAMESPACE, "--type=merge", f"--patch={patch}")
    return True


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _kubectl(paths: Paths, *words: str, stdin: bytes = b"") -> Completed:
    return run(
        ["kubectl", "--kubeconfig", paths.admin_kubeconfig_file, *words], timeout_s=LIMIT_S, stdin=stdin
    )
