# SPDX-License-Identifier: Apache-2.0
"""The API server, through ``kubectl`` and the administrator's kubeconfig; and pure edits of what is applied.

The edits (``calico_manifest``, ``corefile``) change upstream's own texts as little as needed; each change is listed
where it is made.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

KUBECONFIG = "/etc/kubernetes/admin.conf"
FIELD_MANAGER = "caisson"
# The block of the Corefile that kubeadm writes.
OWN_BLOCK = ".:53"
# Takes addresses over from host-local IPAM, which no cluster of Caisson's has ever had.
UPGRADE_CONTAINER = "upgrade-ipam"


def kubectl(*arguments: str, stdin: str | None = None, timeout_s: int = 60) -> str:
    """Run ``kubectl``; return its output. Raises RuntimeError with its last words."""
    # Not through cmd.run: it turns every backslash-n of its stdin into a newline (salt.utils.timed_subprocess).
    command = ["kubectl", "--kubeconfig", KUBECONFIG, *arguments]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"kubectl {' '.join(arguments[:3])}: no answer after {timeout_s} s") from error
    except OSError as error:
        raise RuntimeError(f"kubectl cannot be started: {error.strerror or error}") from error
    if done.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def calico_manifest(text: str, pod_cidr: str, workload_cidrs: list[str]) -> str:
    """Return Calico's VXLAN manifest, made fit for this cluster.

    Changes: the pool is ``pod_cidr`` with VXLAN always (upstream: CrossSubnet, which needs a fabric that routes pod
    addresses within a subnet); the node's address is looked for in ``workload_cidrs``; usage reports are off; both
    workloads get a startup probe (see ``startup_probe``); without ``upgrade-ipam``, which upstream's own comment lets
    a fresh installation leave out.
    """
    environment = {
        "CALICO_IPV4POOL_CIDR": pod_cidr,
        "CALICO_IPV4POOL_VXLAN": "Always",
        "CALICO_IPV4POOL_IPIP": "Never",
        "CALICO_IPV6POOL_VXLAN": "Never",
        "IP_AUTODETECTION_METHOD": "cidr=" + ",".join(workload_cidrs),
        "FELIX_USAGEREPORTINGENABLED": "false",
    }
    variables = {"calico-node": environment, "calico-kube-controllers": {}}
    texts = split_documents(text)
    patched = set()
    for position, document_text in enumerate(texts):
        if not is_workload(document_text):
            continue
        document = yaml.safe_load(document_text)
        pod = document["spec"]["template"]["spec"]
        if "initContainers" in pod:
            pod["initContainers"] = [one for one in pod["initContainers"] if one["name"] != UPGRADE_CONTAINER]
        for container in pod["containers"]:
            if container["name"] in variables:
                _fit_container(container, variables[container["name"]])
                patched.add(container["name"])
        texts[position] = yaml.safe_dump(document, sort_keys=False)
    if missing := sorted(set(variables) - patched):
        raise ValueError(f"the manifest has no container {' and no container '.join(missing)}")
    return "---\n".join(texts)


def _fit_container(container: dict[str, Any], environment: dict[str, str]) -> None:
    """Set variables of a container, others stay as they are, and let it start with a probe of its own."""
    kept = [entry for entry in container.get("env", []) if entry["name"] not in environment]
    container["env"] = kept + [{"name": name, "value": environment[name]} for name in sorted(environment)]
    if "readinessProbe" in container:
        container.setdefault("startupProbe", startup_probe(container["readinessProbe"]))


def startup_probe(readiness: dict[str, Any]) -> dict[str, Any]:
    """Return a startup probe that asks each second what the readiness probe asks, for ten minutes.

    Upstream asks for readiness each ten seconds, so that a pod is Ready up to ten seconds late. Once the startup probe
    is through, the kubelet asks for readiness at once, then in upstream's rhythm. Until then it does not ask whether
    the container lives. Source: Kubernetes 1.36, pkg/kubelet/prober, UpdatePodStatus.
    """
    return {**readiness, "periodSeconds": 1, "failureThreshold": 600}


def split_documents(text: str) -> list[str]:
    """Return the YAML documents of ``text`` as texts, each with its last newline; empty ones are left out."""
    parts = re.split(r"^---[ \t]*\n", text, flags=re.MULTILINE)
    return [part if part.endswith("\n") else part + "\n" for part in parts if part.strip()]


def is_definition(document_text: str) -> bool:
    """Tell whether a document defines a kind."""
    return bool(re.search(r"^kind: CustomResourceDefinition$", document_text, flags=re.MULTILINE))


def is_workload(document_text: str) -> bool:
    """Tell whether a document is one that makes pods."""
    return bool(re.search(r"^kind: (DaemonSet|Deployment)$", document_text, flags=re.MULTILINE))


def corefile(text: str, nameservers: list[str]) -> str:
    """Return kubeadm's Corefile, made fit for a site without a way out; what the site has added stays.

    Changes: without a nameserver on the host ``forward . /etc/resolv.conf`` goes (CoreDNS exits on an empty one);
    ``loop`` goes from kubeadm's own block, because at every start it sends a query of its own to the site's
    nameserver. That nameserver is not a loop is checked by the installer: a loopback address counts as none.
    Source: kubeadm 1.36, phases/addons/dns, manifests.go; the Corefile's comments and braces: corefile(5).
    """
    kept: list[str] = []
    blocks: list[list[str]] = []  # the words that open each block, from the outermost on
    dropped_depth = 0  # of a block that is left out, 0 when none is
    for line in text.splitlines(keepends=True):
        words = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].split()
        is_unwanted = bool(blocks) and _is_unwanted(words, blocks, nameservers)
        if words[-1:] == ["{"]:
            blocks.append(words[:-1])
            dropped_depth = dropped_depth or (len(blocks) if is_unwanted else 0)
        if not (dropped_depth or is_unwanted):
            kept.append(line)
        if words == ["}"] and blocks:
            dropped_depth = 0 if dropped_depth == len(blocks) else dropped_depth
            blocks.pop()
    return "".join(kept)


def _is_unwanted(words: list[str], blocks: list[list[str]], nameservers: list[str]) -> bool:
    """Tell whether a line of a Corefile, or the block that it opens, goes."""
    if len(blocks) != 1:
        return False
    directive = words[:-1] if words[-1:] == ["{"] else words
    if directive == ["loop"]:
        return OWN_BLOCK in (word.rstrip(",") for word in blocks[0])
    return not nameservers and directive == ["forward", ".", "/etc/resolv.conf"]


def corefile_now() -> str:
    """Return the Corefile that the cluster has."""
    answer = kubectl("--namespace", "kube-system", "get", "configmap", "coredns", "--output", "json")
    return str(json.loads(answer)["data"]["Corefile"])


def write_corefile(text: str) -> None:
    """Replace the cluster's Corefile."""
    patch = json.dumps({"data": {"Corefile": text}})
    kubectl(
        "--namespace", "kube-system", "patch", "configmap", "coredns", "--type", "merge", "--patch", patch
    )


def apply(text: str) -> None:
    """Apply the documents of ``text`` (server side, as field manager ``caisson``)."""
    arguments = (
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager",
        FIELD_MANAGER,
        "--filename",
        "-",
    )
    kubectl(*arguments, stdin=text, timeout_s=120)


def differing(text: str) -> list[str]:
    """Return which objects of ``text``, a List, the cluster has not, or otherwise in what ``text`` says of them."""
    wanted = list(yaml.safe_load(text)["items"])
    names = [title(item) for item in wanted]
    answer = kubectl("get", *names, "--ignore-not-found", "--output", "json")
    found = json.loads(answer) if answer.strip() else {"items": []}
    there = {title(item): item for item in found.get("items", [found])}
    return [name for name, item in zip(names, wanted) if not _has(there.get(name, {}), item)]


def title(item: dict[str, Any]) -> str:
    """Return the kind and the name of an object as kubectl takes them. Pure.

    >>> title({"kind": "ClusterRole", "metadata": {"name": "x"}})
    'clusterrole/x'
    """
    return f"{item['kind'].lower()}/{item['metadata']['name']}"


def _has(found: Any, wanted: Any) -> bool:
    """Tell whether what the API has says all that is wanted; a mapping may say more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in wanted.items())
    return bool(found == wanted)


def await_network(node: str) -> None:
    """Say of ``node`` that it has no network yet: no pod is put there until its calico-node runs, which takes it back.

    Calico's plugin is in place before calico-node runs. A pod that starts in between is refused, and tried again some
    ten seconds later. Source: Kubernetes, node condition NetworkUnavailable and its taint, which calico-node tolerates;
    calico-node writes the condition at the end of its start (Calico, release notes of 19 Feb 2019).
    """
    condition = {
        "type": "NetworkUnavailable",
        "status": "True",
        "reason": "CalicoIsNotRunning",
        "message": "calico-node has not started on this node yet",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    kubectl("patch", "node", node, "--subresource", "status", "--type", "strategic", "--patch", patch)


def sha256(text: str) -> str:
    """Return the digest of ``text``, as the stamp of what was applied."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_text(path: str) -> str:
    """Return the text of the file ``path``."""
    return Path(path).read_text()


# What the bootstrap applies, all in kube-system. Everything else is the site's: it is not waited for.
WORKLOADS = ("coredns", "calico-kube-controllers", "calico-node", "kube-proxy")
STATIC_PODS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "nginx",
    "registry",
    "salt-master",
)


def not_ready(node: str) -> list[str]:
    """Return one line for each part that Caisson applied and that is not Ready; ``node`` is this host's.

    A site's own workloads are its own, and so are nodes that are away. A Deployment is Ready when it has the pods that
    it wants: one that was evicted and replaced is no fault, and one on a node that is away is not waited for, which
    takes Kubernetes five minutes to put elsewhere. Raises RuntimeError when the API server does not answer.
    """
    # One question: it is asked each second, and a kubectl is not cheap. A namespace says nothing to nodes.
    words = ("--namespace", "kube-system", "get", "nodes,deployments,daemonsets,pods", "--output", "json")
    listed: dict[str, list[dict[str, Any]]] = {}
    for item in json.loads(kubectl(*words))["items"]:
        listed.setdefault(item["kind"], []).append(item)
    this = [item for item in listed.get("Node", []) if item["metadata"]["name"] == node]
    is_ready = bool(this) and _is_ready(this[0]["status"].get("conditions", []))
    lines = [] if is_ready else [f"node {node}: not Ready"]
    made = [*listed.get("Deployment", []), *listed.get("DaemonSet", [])]
    workloads = {item["metadata"]["name"]: item for item in made}
    pods = listed.get("Pod", [])
    here = {pod["metadata"]["name"]: pod for pod in pods if pod["spec"].get("nodeName") == node}
    away = {
        item["metadata"]["name"]
        for item in listed.get("Node", [])
        if item["metadata"]["name"] != node and not _is_ready(item["status"].get("conditions", []))
    }
    lost = [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") in away]
    for name in WORKLOADS:
        lines += _workload_faults(name, workloads.get(name), here, lost)
    for name in STATIC_PODS:
        pod = here.get(f"{name}-{node}")
        if pod is None:
            lines.append(f"pod {name}-{node}: not there")
        elif not _is_ready(pod["status"].get("conditions", [])):
            lines.append(f"pod {name}-{node}: {_pod_reason(pod['status'])}")
    return lines


def _workload_faults(
    name: str, item: dict[str, Any] | None, here: dict[str, Any], lost: list[str]
) -> list[str]:
    """Return why a workload is not Ready; ``lost`` are the pods of nodes that are away.

    Of a DaemonSet the pod on this node counts: others come and go.
    """
    if item is None:
        return [f"{name}: not there"]
    kind, status = item["kind"].lower(), item["status"]
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return [f"{kind} {name}: not looked at yet"]
    if kind == "deployment":
        wanted, ready = item["spec"]["replicas"], status.get("readyReplicas", 0)
        excused = sum(pod.startswith(f"{name}-") for pod in lost)
        return (
            []
            if ready >= max(wanted - excused, min(wanted, 1))
            else [f"{kind} {name}: {ready} of {wanted} ready"]
        )
    own = [
        pod
        for pod in here.values()
        if any(
            owner["uid"] == item["metadata"]["uid"] for owner in pod["metadata"].get("ownerReferences", [])
        )
    ]
    if any(_is_ready(pod["status"].get("conditions", [])) for pod in own):
        return []
    return [f"{kind} {name}: {_pod_reason(own[0]['status']) if own else 'no pod on this node yet'}"]


def _is_ready(conditions: list[dict[str, Any]]) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _pod_reason(status: dict[str, Any]) -> str:
    for entry in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = entry.get("state", {}).get("waiting", {})
        if waiting.get("reason"):
            return f"{entry['name']}: {waiting['reason']} {waiting.get('message', '')[:200]}".strip()
    return str(status.get("phase", "unknown"))
