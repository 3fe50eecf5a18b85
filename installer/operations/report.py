# SPDX-License-Identifier: Apache-2.0
"""Tell what the bootstrap has made, and later how it is: the closing report, and ``caisson status``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from installer.base.errors import ClusterError, DegradedError, InstallerError, MediaError, UnhealthyError
from installer.base.mounts import is_mounted, read_mounts
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import format_seconds
from installer.config import changes
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import journal
from installer.engine.context import Context
from installer.media import mounting as media
from installer.media.product import Product, load
from installer.operations import cluster_state
from installer.operations.certificates import CertificateState, certificate_rows, find_certificates
from installer.operations.cluster_state import NodeState, PodState

SERVICES = ("containerd", "kubelet", "salt-minion", "firewalld")
REQUIRED_SERVICES = ("containerd", "kubelet", "salt-minion")


# ---- the closing report ----------------------------------------------------------------------------------


def run_report(context: Context) -> bool:
    """Show nodes, pods, times of the phases, addresses; changes nothing.

    Raises:
        ClusterError: the API does not answer.
    """
    kubeconfig_file = context.paths.admin_kubeconfig_file
    nodes = cluster_state.get_nodes(kubeconfig_file)
    pods = cluster_state.get_pods(kubeconfig_file)
    for title, rows in (
        ("Nodes", node_rows(nodes)),
        ("Pods", pod_rows(pods)),
        ("Phases", phase_rows(context.journal.entries, context.journal.run_id)),
        ("Where", address_rows(context)),
    ):
        context.ui.note("")
        context.ui.note(title)
        context.ui.table(rows)
    context.ui.note("")
    return False


def node_rows(nodes: Sequence[NodeState]) -> list[tuple[str, ...]]:
    """Return the table of nodes."""
    return [
        ("NAME", "STATE", "ROLES", "VERSION", "ADDRESS"),
        *(
            (node.name, "Ready" if node.is_ready else "NotReady", node.roles, node.version, node.address)
            for node in nodes
        ),
    ]


def pod_rows(pods: Sequence[PodState]) -> list[tuple[str, ...]]:
    """Return the table of pods."""
    return [
        ("NAMESPACE", "NAME", "STATE", "READY", "RESTARTS"),
        *(
            (pod.namespace, pod.name, pod.state, "yes" if pod.is_ready else "no", str(pod.restarts))
            for pod in pods
        ),
    ]


def phase_rows(entries: Sequence[journal.Entry], run_id: str) -> list[tuple[str, ...]]:
    """Return the table of the phases that this run has closed, with their sum."""
    rows: list[tuple[str, ...]] = [("PHASE", "TIME", "CHANGED")]
    total_s = 0.0
    for entry in entries:
        if entry.run_id != run_id or entry.event == journal.START:
            continue
        total_s += entry.seconds or 0.0
        outcome = "failed" if entry.event == journal.FAILED else "yes" if entry.changed else "no"
        rows.append((entry.phase, format_seconds(entry.seconds or 0.0), outcome))
    rows.append(("all", format_seconds(total_s), ""))
    return rows


def address_rows(context: Context) -> list[tuple[str, ...]]:
    """Return where everything is."""
    ports = {port.name: port.port for port in read_ports(context.source_dir / PORTS_FILE)}
    address = context.facts.control_plane_address
    rows: list[tuple[str, ...]] = [
        (
            "Kubernetes API",
            f"https://{context.facts.endpoint}:{ports.get('kube-apiserver', 6443)} ({address})",
        ),
        ("kubeconfig", str(context.paths.admin_kubeconfig_file)),
    ]
    if "media-https" in ports:
        rows.append(("packages, images", f"https://{address}:{ports['media-https']}"))
    if "registry-push" in ports:
        rows.append(("pushes of images", f"https://{address}:{ports['registry-push']}"))
    rows += [
        ("media", str(context.media_dir)),
        ("configuration", str(context.config_file)),
        ("logs", str(context.paths.log_dir)),
        ("next", "caisson status"),
    ]
    return rows


# ---- caisson status --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MediaState:
    """Whether the media is where it should be; ``missing`` says what is not, empty when all is well."""

    mount_point: str
    made_from: str
    missing: str
    resolution: str


@dataclass(frozen=True)
class StaticPodState:
    """A static pod of this host, by its manifest."""

    name: str
    is_running: bool


@dataclass(frozen=True)
class State:
    """All that ``caisson status`` looks at; ``faults`` are ready to read."""

    media: MediaState
    services: dict[str, str]
    static_pods: tuple[StaticPodState, ...]
    nodes: tuple[NodeState, ...]
    pods: tuple[PodState, ...]
    certificates: tuple[CertificateState, ...]
    faults: tuple[str, ...]

    def error(self) -> InstallerError | None:
        """Return the error that this state is, None when everything is up."""
        if self.faults:
            return UnhealthyError(
                f"{len(self.faults)} things are not as they should be"
                if len(self.faults) > 1
                else self.faults[0],
                details="\n".join([*self.faults, *([self.media.missing] if self.media.missing else [])]),
                resolution="see the journal of the service, or 'kubectl describe' of the pod",
            )
        if self.media.missing:
            return DegradedError(
                "the media is missing; the cluster is up all the same",
                details=self.media.missing,
                resolution=self.media.resolution,
            )
        return None

    def to_json(self, product: Product) -> dict[str, Any]:
        """Return the state as JSON data, format 1."""
        error = self.error()
        return {
            "format": 1,
            "product": {
                "version": product.version,
                "build": product.build,
                "profile": product.profile_name,
                "lab": product.is_lab,
            },
            "media": asdict(self.media),
            "services": self.services,
            "static_pods": [asdict(pod) for pod in self.static_pods],
            "nodes": [asdict(node) for node in self.nodes],
            "pods": {
                "total": len(self.pods),
                "not_ready": [asdict(pod) for pod in self.pods if not pod.is_ready and pod.is_ours],
                "site_not_ready": [asdict(pod) for pod in self.pods if not pod.is_ready and not pod.is_ours],
            },
            "certificates": [asdict(certificate) for certificate in self.certificates],
            "faults": list(self.faults),
            "exit_code": 0 if error is None else error.exit_code,
        }

    def tables(self, product: Product) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Return the tables for people, each with its title."""
        shown = self.media.missing or f"mounted at {self.media.mount_point}, from {self.media.made_from}"
        parts: list[tuple[str, ...]] = [("media", shown)]
        parts += list(self.services.items())
        parts += [
            (f"static pod {pod.name}", "running" if pod.is_running else "NOT RUNNING")
            for pod in self.static_pods
        ]
        not_ready = [pod for pod in self.pods if not pod.is_ready]
        tables = [(product.title, parts), ("Nodes", node_rows(self.nodes))]
        for title, found in (
            ("Pods that are not Ready", [pod for pod in not_ready if pod.is_ours]),
            (
                "Pods of the site that are not Ready (no fault of the node)",
                [p for p in not_ready if not p.is_ours],
            ),
        ):
            if found:
                tables.append((title, pod_rows(found)))
        if self.pods and not not_ready:
            tables.append((f"{len(self.pods)} pods, all Ready", []))
        if self.certificates:
            tables.append(("Certificates, those that end first first", certificate_rows(self.certificates)))
        return tables


def gather_state(product: Product, paths: Paths) -> State:
    """Look at the media, the services, the static pods, and what the API says; each without the others."""
    faults: list[str] = []
    services = {name: _service_state(name) for name in SERVICES}
    faults += [
        f"{name}.service is {services[name]}" for name in REQUIRED_SERVICES if services[name] != "active"
    ]
    static_pods = _static_pods(paths, faults)
    nodes: tuple[NodeState, ...] = ()
    pods: tuple[PodState, ...] = ()
    try:
        nodes = cluster_state.get_nodes(paths.admin_kubeconfig_file)
        pods = cluster_state.get_pods(paths.admin_kubeconfig_file)
    except ClusterError as exc:
        faults.append(exc.message)
    faults += [f"node {node.name} is not Ready" for node in nodes if not node.is_ready]
    faults += [
        f"pod {pod.namespace}/{pod.name} is not Ready: {pod.state}"
        for pod in pods
        if pod.is_ours and not pod.is_ready
    ]
    certificates = find_certificates(paths)
    faults += [certificate.fault for certificate in certificates if certificate.fault]
    return State(media_state(product, paths), services, static_pods, nodes, pods, certificates, tuple(faults))


def media_state(product: Product, paths: Paths) -> MediaState:
    """Look whether the media of ``product`` is mounted, and if not, what is missing."""
    mount_point = paths.media_dir(product.full_version)
    unit = media.unit_name(mount_point)
    made_from = _made_from(paths.units_dir / unit)
    missing = ""
    resolution = f"systemctl start '{unit}'"
    if not is_mounted(mount_point, read_mounts()):
        missing = f"nothing is mounted at {mount_point}"
        if made_from and not Path(made_from).exists():
            missing += f": {made_from} is not there"
            resolution = f"put the ISO back as {made_from}, then: {resolution}"
        elif not made_from:
            resolution = (
                "mount the ISO anywhere and start its bootstrap.sh: it finds everything else in place"
            )
    else:
        try:
            if load(mount_point).sha256 != product.sha256:
                missing = f"another media than {product.title} is mounted at {mount_point}"
        except MediaError as exc:
            missing = exc.message
    return MediaState(str(mount_point), made_from, missing, resolution if missing else "")


def _made_from(unit_file: Path) -> str:
    """Return what the mount unit mounts, empty when there is no unit."""
    try:
        match = re.search(r"^What=(.+)$", unit_file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1).replace("%%", "%") if match else ""


def _service_state(name: str) -> str:
    return (
        run(["systemctl", "is-active", f"{name}.service"], timeout_s=15, check=False).stdout.strip()
        or "unknown"
    )


def _static_pods(paths: Paths, faults: list[str]) -> tuple[StaticPodState, ...]:
    pods = static_pods(paths.at("/etc/kubernetes/manifests"))
    try:
        running = cluster_state.get_running_pods()
    except ClusterError as exc:
        faults.append(exc.message)
        return tuple(StaticPodState(name, is_running=False) for _, name in pods)
    known = changes.installed(paths)
    node = str(known["node"]["name"]) if known else ""
    states = tuple(
        StaticPodState(
            name,
            is_running=(namespace, f"{name}-{node}") in running
            if node
            else any(found == namespace and pod.startswith(f"{name}-") for found, pod in running),
        )
        for namespace, name in pods
    )
    faults += [f"static pod {state.name} does not run" for state in states if not state.is_running]
    return states


def static_pods(manifests_dir: Path) -> tuple[tuple[str, str], ...]:
    """Return namespace and name of the pods of a manifest directory; a file that cannot be read stands for itself.

    The site may have static pods too, in a namespace of its own; without one, the kubelet takes ``default``.
    """
    pods = []
    for file in sorted(manifests_dir.glob("[!.]*.yaml")) if manifests_dir.is_dir() else ():
        try:
            metadata = yaml.safe_load(file.read_text(encoding="utf-8"))["metadata"]
            pods.append((str(metadata.get("namespace") or "default"), str(metadata["name"])))
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            pods.append(("", file.name))
    return tuple(pods)
