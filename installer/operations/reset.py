# SPDX-License-Identifier: Apache-2.0
"""The phases of a reset, in the order in which they run: a host that Caisson made a node is what it was before.

Never ``kubeadm reset``: it empties the directory of static pods, leaves rules and interfaces, and unmounts what is
not its own. Each phase looks what is there and takes that away; a reset that was cut is gone on with by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from installer.engine.phase import Operation, Phase
from installer.operations import (
    reset_ending,
    reset_files,
    reset_host,
    reset_mounts,
    reset_network,
    reset_plan,
    reset_pods,
)
from installer.operations.reset_plan import Action, Plan, ResetContext, carry_out

UNDO = "none: a bootstrap, or 'caisson node add', makes the host a node again"


def plan_note(context: ResetContext) -> Sequence[Action]:
    """Note what is kept, before anything is changed: once the cluster is gone nobody else can tell."""
    if reset_plan.read(context.paths) is not None or not context.paths.state_dir.is_dir():
        return []
    return [
        Action("note what is the site's and stays", lambda: reset_plan.write(context.paths, context.noted))
    ]


STEPS: tuple[tuple[str, str, str, Plan], ...] = (
    ("CSP601", "note", "note what stays", plan_note),
    ("CSP602", "stop-kubelet", "stop the kubelet", reset_pods.plan_kubelet),
    ("CSP603", "stop-pods", "stop all pods, the static ones last", reset_pods.plan_pods),
    (
        "CSP604",
        "stop-services",
        "stop containerd, the minion and Caisson's services",
        reset_pods.plan_services,
    ),
    ("CSP605", "unmount", "unmount what the pods had", reset_mounts.plan),
    ("CSP606", "clear-network", "take the cluster out of the kernel's network", reset_network.plan),
    ("CSP607", "close-firewall", "take the cluster out of firewalld", reset_host.plan_firewall),
    ("CSP608", "restore-host", "put names, swap and settings of the kernel back", reset_host.plan_host),
    ("CSP609", "delete-data", "delete the data and the configuration of the node", reset_files.plan),
    ("CSP610", "remove-packages", "remove the packages that Caisson brought", reset_files.plan_packages),
    ("CSP611", "remove-remains", "remove the directories that are empty now", reset_files.plan_remains),
    ("CSP612", "unmount-media", "unmount the media", reset_ending.plan_media),
    ("CSP613", "remove-self", "remove Caisson itself", reset_ending.plan_self),
)
PHASES: tuple[Phase, ...] = tuple(
    Phase(
        code=code,
        name=name,
        title=title,
        applies=partial(carry_out, plan=plan),
        undo=UNDO,
        about=(plan.__doc__ or "").partition("\n\n")[0],
    )
    for code, name, title, plan in STEPS
)
OPERATION = Operation(reset_plan.NAME, PHASES, begins_anywhere=False)


def look(context: ResetContext) -> dict[str, list[str]]:
    """Return what each phase would do now, in words; later ones may find less by then. Only looks."""
    return {name: [action.text for action in plan(context)] for _, name, _, plan in STEPS}
