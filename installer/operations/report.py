# SPDX-License-Identifier: Apache-2.0
"""Tell what the bootstrap has made: the closing report."""

from __future__ import annotations

from collections.abc import Sequence

from installer.base.ui import format_seconds
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import journal
from installer.engine.context import Context
from installer.operations import cluster_state, console
from installer.operations.cluster_state import NodeState, PodState


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
    for line in console_lines(context):
        context.ui.note(line)
    context.ui.note("")
    return False


def console_lines(context: Context) -> list[str]:
    """Return where the console is, by what it is known, and how somebody gets in; none where there is no console."""
    if not context.paths.at(console.CERTIFICATE_FILE).exists():
        return []
    found = console.find(context.paths, context.source_dir)
    return [
        "",
        f"UI ready at {found.url}",
        f"its certificate, SHA-256: {found.fingerprint}",
        f"a log-in code: {console.LOGIN_COMMAND}",
    ]


def node_rows(nodes: Sequence[NodeState]) -> list[tuple[str, ...]]:
    """Return the table of nodes."""
    return [
        ("NAME", "STATE", "ROLES", "VERSION", "ADDRESS", "RUNTIME", "KERNEL"),
        *(
            (
                node.name,
                "Ready" if node.is_ready else "NotReady",
                node.roles,
                node.version,
                node.address,
                node.runtime,
                node.kernel,
            )
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
    address, vip = context.facts.control_plane_address, context.config.networks.vip
    rows: list[tuple[str, ...]] = [
        (
            "Kubernetes API",
            f"https://{context.facts.endpoint}:{ports.get('kube-apiserver', 6443)} ({vip or address})",
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
