# SPDX-License-Identifier: Apache-2.0
"""States: objects are in the cluster as wanted, and everything is Ready."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

SERVICE_TIMEOUT_S = 120.0
# A kubectl takes a fifth of a second of a core, and the pods that are waited for want it too.
READY_INTERVAL_S = 0.8
APPLIED_ANNOTATION = "caisson.io/applied-sha256"


def calico_applied(
    name: str, source: str, pod_cidr: str, workload_cidrs: list[str], service_url: str, node: str
) -> dict[str, Any]:
    """Make sure that Calico's manifest (file ``source``), made fit for this cluster, is applied.

    Its workloads come last, once ``service_url`` answers, which is kube-proxy's health: their first call to the API
    goes to a service address, and would leave by the default route. Meanwhile the rest is applied. Where there was no
    calico-node before, this ``node`` gets no pods until it runs (see ``caisson_kubernetes.await_network``).

    The digest of what was applied stands as an annotation on the DaemonSet, so a second run asks once and is quiet. A
    workload that somebody has deleted is applied again, with all else.
    """
    wanted = {"text": "", "digest": ""}
    there: dict[str, dict[str, str]] = {}

    def look() -> tuple[dict[str, Any], str]:
        upstream = __salt__["caisson_kubernetes.read_text"](source)
        wanted["text"] = __salt__["caisson_kubernetes.calico_manifest"](upstream, pod_cidr, workload_cidrs)
        wanted["digest"] = __salt__["caisson_kubernetes.sha256"](wanted["text"])
        there.clear()
        there.update(_workload_annotations())
        digest = there.get("DaemonSet", {}).get(APPLIED_ANNOTATION, "")
        if "Deployment" in there and digest == wanted["digest"]:
            return {}, "Calico's manifest is applied"
        return {"calico": f"manifest {wanted['digest'][:12]} applied"}, "would apply Calico's manifest"

    def act() -> str:
        documents = __salt__["caisson_kubernetes.split_documents"](wanted["text"])
        definitions = [text for text in documents if __salt__["caisson_kubernetes.is_definition"](text)]
        workloads = [text for text in documents if __salt__["caisson_kubernetes.is_workload"](text)]
        others = [text for text in documents if text not in (*definitions, *workloads)]
        # Definitions first: the API server must know a kind before it can take an object of it.
        for batch in filter(None, (definitions, others)):
            __salt__["caisson_kubernetes.apply"]("---\n".join(batch))
        __salt__["caisson_result.until"](
            lambda: __salt__["caisson_wait.probe_url"](service_url), SERVICE_TIMEOUT_S
        )
        if "DaemonSet" not in there:
            __salt__["caisson_kubernetes.await_network"](node)
        __salt__["caisson_kubernetes.apply"]("---\n".join(workloads))
        annotation = f"{APPLIED_ANNOTATION}={wanted['digest']}"
        words = ("annotate", "--overwrite", "daemonset", "calico-node", annotation)
        __salt__["caisson_kubernetes.kubectl"]("--namespace", "kube-system", *words)
        return "Calico's manifest applied"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def _workload_annotations() -> dict[str, dict[str, str]]:
    """Return the annotations of Calico's workloads by kind; one that is not there is left out."""
    workloads = ("daemonset/calico-node", "deployment/calico-kube-controllers")
    arguments = ("--namespace", "kube-system", "get", *workloads, "--ignore-not-found", "--output", "json")
    answer = __salt__["caisson_kubernetes.kubectl"](*arguments)
    found = json.loads(answer) if answer.strip() else {"items": []}
    return {item["kind"]: item["metadata"].get("annotations", {}) for item in found.get("items", [found])}


def objects_applied(name: str, source: str) -> dict[str, Any]:
    """Make sure that the cluster has the objects of a file of the tree (``source``), as it says them.

    They are compared with what the API has: one that somebody has changed or deleted is applied again.
    """
    wanted = {"text": ""}

    def look() -> tuple[dict[str, Any], str]:
        cached = __salt__["cp.cache_file"](source)
        if not cached:
            raise RuntimeError(f"{source} is not in the tree")
        wanted["text"] = __salt__["caisson_kubernetes.read_text"](cached)
        others = __salt__["caisson_kubernetes.differing"](wanted["text"])
        if not others:
            return {}, "the cluster has them"
        return dict.fromkeys(others, "applied"), f"not so yet: {', '.join(others)}"

    def act() -> str:
        __salt__["caisson_kubernetes.apply"](wanted["text"])
        return "applied"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def corefile_fits(name: str, nameservers: list[str]) -> dict[str, Any]:
    """Make sure that CoreDNS asks nobody outside (see ``caisson_kubernetes.corefile``)."""
    change: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        now = __salt__["caisson_kubernetes.corefile_now"]()
        wanted = __salt__["caisson_kubernetes.corefile"](now, nameservers)
        if wanted == now:
            return {}, "the Corefile fits"
        change["Corefile"] = {"old": now, "new": wanted}
        return change, "would change the Corefile"

    def act() -> str:
        __salt__["caisson_kubernetes.write_corefile"](change["Corefile"]["new"])
        return "Corefile changed"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def applied_ready(name: str, node: str, timeout_s: int = 300) -> dict[str, Any]:
    """Wait until what Caisson applied is Ready, and this ``node``; on failure say which are not and why."""

    def probe() -> str:
        return "\n".join(__salt__["caisson_kubernetes.not_ready"](node))

    said: dict[str, Any] = __salt__["caisson_result.wait"](
        name, probe, timeout_s, test=__opts__["test"], interval_s=READY_INTERVAL_S
    )
    return said
