# SPDX-License-Identifier: Apache-2.0
"""States: objects are in the cluster as wanted, and everything is Ready."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

APPLIED_ANNOTATION = "caisson.io/applied-sha256"


def calico_applied(name: str, source: str, pod_cidr: str, workload_cidrs: list[str]) -> dict[str, Any]:
    """Make sure that Calico's manifest (file ``source``), made fit for this cluster, is applied.

    The digest of what was applied stands as an annotation on the DaemonSet, so a second run asks once and is quiet.
    """
    try:
        upstream = __salt__["caisson_kubernetes.read_text"](source)
        wanted = __salt__["caisson_kubernetes.calico_manifest"](upstream, pod_cidr, workload_cidrs)
        digest = __salt__["caisson_kubernetes.sha256"](wanted)
        if _annotation("daemonset", "calico-node") == digest:
            return {"name": name, "result": True, "changes": {}, "comment": "Calico's manifest is applied"}
        changes = {"calico": f"manifest {digest[:12]} applied"}
        if __opts__["test"]:
            return {
                "name": name,
                "result": None,
                "changes": changes,
                "comment": "would apply Calico's manifest",
            }
        documents = __salt__["caisson_kubernetes.split_documents"](wanted)
        definitions = [text for text in documents if __salt__["caisson_kubernetes.is_definition"](text)]
        others = [text for text in documents if text not in definitions]
        # Definitions first: the API server must know a kind before it can take an object of it.
        for batch in (definitions, others):
            __salt__["caisson_kubernetes.apply"]("---\n".join(batch))
        annotation = f"{APPLIED_ANNOTATION}={digest}"
        arguments = (
            "--namespace",
            "kube-system",
            "annotate",
            "--overwrite",
            "daemonset",
            "calico-node",
            annotation,
        )
        __salt__["caisson_kubernetes.kubectl"](*arguments)
    except (RuntimeError, ValueError, OSError) as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    return {"name": name, "result": True, "changes": changes, "comment": "Calico's manifest applied"}


def _annotation(kind: str, name: str) -> str:
    arguments = ("--namespace", "kube-system", "get", kind, name, "--ignore-not-found", "--output", "json")
    answer = __salt__["caisson_kubernetes.kubectl"](*arguments)
    if not answer.strip():
        return ""
    return str(json.loads(answer)["metadata"].get("annotations", {}).get(APPLIED_ANNOTATION, ""))


def corefile_fits(name: str, nameservers: list[str]) -> dict[str, Any]:
    """Make sure that CoreDNS asks nobody outside (see ``caisson_kubernetes.corefile``)."""
    try:
        now = __salt__["caisson_kubernetes.corefile_now"]()
        wanted = __salt__["caisson_kubernetes.corefile"](now, nameservers)
        if wanted == now:
            return {"name": name, "result": True, "changes": {}, "comment": "the Corefile fits"}
        changes = {"Corefile": {"old": now, "new": wanted}}
        if __opts__["test"]:
            return {"name": name, "result": None, "changes": changes, "comment": "would change the Corefile"}
        __salt__["caisson_kubernetes.write_corefile"](wanted)
    except RuntimeError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    return {"name": name, "result": True, "changes": changes, "comment": "Corefile changed"}


def applied_ready(name: str, node: str, timeout_s: int = 300) -> dict[str, Any]:
    """Wait until what Caisson applied is Ready, and this ``node``; on failure say which are not and why."""
    if __opts__["test"]:
        return {"name": name, "result": True, "changes": {}, "comment": "not waited for in test mode"}
    started = time.monotonic()
    while True:
        try:
            lines = __salt__["caisson_kubernetes.not_ready"](node)
        except RuntimeError as error:
            lines = [str(error)]
        waited = time.monotonic() - started
        if not lines:
            return {"name": name, "result": True, "changes": {}, "comment": f"all Ready after {waited:.1f} s"}
        if waited > timeout_s:
            comment = f"not Ready after {timeout_s} s:\n" + "\n".join(lines)
            return {"name": name, "result": False, "changes": {}, "comment": comment}
        log.info("caisson waits: %s", "; ".join(lines)[:300])
        time.sleep(1)
