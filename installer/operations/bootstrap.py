# SPDX-License-Identifier: Apache-2.0
"""The phases of the bootstrap, in the order in which they run, and the runner.

Each phase may be run again at any time: it looks, and acts only where something is not as it should be. The
runner writes to the journal before and after each, so a kill or a power cut is seen by the next run, which
simply starts again from the first phase.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base import files
from installer.base.errors import InstallerError, MediaError, PreflightError, StoppedError, UsageError
from installer.base.run import run
from installer.base.ui import format_bytes, format_seconds
from installer.checks import readiness
from installer.checks.preflight import Status
from installer.engine.context import Context
from installer.media import dnf, rpmkeys, signature
from installer.media import mounting as media
from installer.media.product import FILE_NAME
from installer.operations import cluster, installed, report

SELF_FILES = ("product.json", "salt/parameters/ports.yaml")
HANDED_OVER_FILE = "/etc/salt/minion.d/90-caisson.conf"
MINION_PACKAGES = ("salt-minion",)
#: One of these on the host: it is installed from a bundle, wholly or in part.
NOTED_PACKAGES = ("salt", "salt-minion", "kubelet")


@dataclass(frozen=True)
class Phase:
    """One phase; ``run`` returns whether it changed anything, ``undo`` says how a person takes it back.

    ``code`` is stable for ever: a phase may get another place or name, never another code.
    """

    code: str
    name: str
    title: str
    run: Callable[[Context], bool]
    undo: str

    @property
    def label(self) -> str:
        """Code and name, as they are shown."""
        return f"{self.code} {self.name}"


@dataclass(frozen=True)
class Outcome:
    """How one phase went."""

    name: str
    has_changed: bool
    seconds: float


# ---- the phases that are carried out here ----------------------------------------------------------------


def run_verify_media(context: Context) -> bool:
    """Check who signed SHA256SUMS, compare every byte of the media with it, then check each package's signature."""
    signature.check(context.source_dir, context.config.signing_key, note=context.ui.note)
    verified = media.verify(context.source_dir, progress=context.ui.progress)
    context.ui.detail(f"{verified.files} files, {format_bytes(verified.size_bytes)} verified")
    keys = [context.source_dir / name for name in context.product.rpm_keys]
    packages = sorted((context.source_dir / "repo/el9/Packages").rglob("*.rpm"))
    context.ui.progress(f"the signatures of {len(packages)} packages")
    rpmkeys.check_signatures(keys, packages)
    return False


def run_mount_media(context: Context) -> bool:
    """Mount the media at its lasting place, now and after each boot."""
    return media.keep_mounted(
        context.product, context.source_dir, context.media_dir, context.paths.units_dir, note=context.ui.note
    )


def run_install_self(context: Context) -> bool:
    """Copy the installer to this host, so that it works when the media is gone."""
    paths = context.paths
    target = paths.self_dir(context.product.full_version)
    written = (
        files.replace_tree(target, self_files(context.media_dir)),
        files.write_file(paths.command_file, render_command(target), mode=0o755),
    )
    return any(written)


def self_files(tree_dir: Path) -> dict[str, Path]:
    """Return what the installer needs of the media to work without it: relative path to file."""
    found = {
        str(file.relative_to(tree_dir)): file
        for file in sorted((tree_dir / "installer").rglob("*"))
        if file.is_file() and files.BYTECODE_DIR not in file.parts
    }
    return {**found, **{name: tree_dir / name for name in SELF_FILES}}


def render_command(target: Path) -> str:
    """Return the text of /usr/bin/caisson."""
    return (
        "#!/bin/bash\n"
        "# Written by Caisson: starts the installer's own copy, which works when the media is gone.\n"
        "set -euo pipefail\n"
        "main() {\n"
        "  local python=/usr/libexec/platform-python\n"
        '  [[ -x "${python}" ]] || python=python3\n'
        f'  exec "${{python}}" -I -S -B -X utf8 "{target}/installer" --program caisson "$@"\n'
        "}\n"
        'main "$@"\n'
    )


def run_preflight(context: Context) -> bool:
    """Check the host; any error that is not ignored by its code stops the bootstrap."""
    found = readiness.assess_known(
        context.media_dir, context.config, context.facts, context.product, paths=context.paths
    )
    accepted = found.rows(Status.WARNING, Status.IGNORED, Status.SKIPPED)
    if len(accepted) > 1:
        context.ui.table(accepted)
    context.ui.detail(found.summary)
    if found.failed:
        raise PreflightError(
            "1 check failed" if len(found.failed) == 1 else f"{len(found.failed)} checks failed",
            details="\n".join(found.lines(Status.FAILED)),
            resolution="mend each, or accept it by its code in overrides.ignorePreflights, with the reason",
        )
    return False


def run_stop_minion(context: Context) -> bool:
    """Stop and disable a salt-minion that is not this cluster's; none is fine, and so is our own."""
    if context.paths.at(HANDED_OVER_FILE).exists():
        return False
    unit = "salt-minion.service"
    is_active = run(["systemctl", "is-active", unit], timeout_s=30, check=False).stdout.strip()
    is_enabled = run(["systemctl", "is-enabled", unit], timeout_s=30, check=False).stdout.strip()
    if is_active not in ("active", "activating", "reloading", "deactivating") and is_enabled != "enabled":
        return False
    run(["systemctl", "disable", "--now", unit], timeout_s=120)
    return True


def run_install_minion(context: Context) -> bool:
    """Install salt-minion from the media; its package starts it, so stop it again until it is handed over."""
    installed.note(context.product, context.paths)
    try:
        is_changed = dnf.install(
            MINION_PACKAGES,
            paths=context.paths,
            media_dir=context.media_dir,
            product=context.product,
            ui=context.ui,
        )
    except InstallerError:
        # A database that can be read knows rpm itself.
        if set(dnf.installed_versions(("rpm", *NOTED_PACKAGES))) == {"rpm"}:
            installed.forget(context.paths)
        raise
    return run_stop_minion(context) or is_changed


PHASES: tuple[Phase, ...] = (
    Phase(
        "CSP101",
        "verify-media",
        "compare the media with its checksums",
        run_verify_media,
        "none: changes nothing",
    ),
    Phase(
        "CSP102",
        "mount-media",
        "mount the media for good",
        run_mount_media,
        "systemctl disable --now the mount unit of /srv/caisson/VERSION-BUILD and remove it",
    ),
    Phase(
        "CSP103",
        "install-self",
        "copy the installer to this host",
        run_install_self,
        "remove /opt/caisson/VERSION-BUILD and /usr/bin/caisson",
    ),
    Phase("CSP104", "preflight", "check the host", run_preflight, "none: changes nothing"),
    Phase(
        "CSP105",
        "stop-minion",
        "stop a salt-minion that runs",
        run_stop_minion,
        "systemctl enable --now salt-minion",
    ),
    Phase(
        "CSP106",
        "install-minion",
        "install salt-minion from the media",
        run_install_minion,
        "dnf remove salt-minion salt",
    ),
    Phase(
        "CSP107",
        "minion-local",
        "let Salt work from the media",
        cluster.run_minion_local,
        "remove /etc/caisson",
    ),
    Phase(
        "CSP108",
        "node-checks",
        "check the host through Salt",
        cluster.run_node_checks,
        "none: changes nothing",
    ),
    Phase(
        "CSP201",
        "container-runtime",
        "prepare the host, start containerd, import the first images",
        cluster.run_container_runtime,
        "systemctl disable --now containerd; dnf remove containerd.io; remove /var/lib/containerd",
    ),
    Phase(
        "CSP202",
        "kubelet-standalone",
        "install the kubelet and start it alone",
        cluster.run_kubelet_standalone,
        "systemctl disable --now kubelet; dnf remove kubelet kubeadm kubectl",
    ),
    Phase(
        "CSP203",
        "salt-master",
        "start the salt-master",
        cluster.run_salt_master,
        "remove its manifest from /etc/kubernetes/manifests",
    ),
    Phase(
        "CSP204",
        "minion-connected",
        "hand the minion over to its master",
        cluster.run_minion_connected,
        "remove /etc/salt/minion.d/90-caisson.conf, then run the bootstrap again",
    ),
    Phase(
        "CSP205",
        "registry",
        "start the registry",
        cluster.run_registry,
        "remove its manifest from /etc/kubernetes/manifests",
    ),
    Phase(
        "CSP206",
        "nginx",
        "serve packages and images from the media",
        cluster.run_nginx,
        "remove its manifest from /etc/kubernetes/manifests",
    ),
    Phase(
        "CSP207",
        "firewall",
        "open the cluster's ports in firewalld",
        cluster.run_firewall,
        "remove zones/caisson-pods.xml and policies/caisson-*.xml from /etc/firewalld; firewall-cmd --reload",
    ),
    Phase(
        "CSP301",
        "control-plane",
        "start the control plane by kubeadm's phases",
        cluster.run_control_plane,
        "none: a control plane is removed with its host",
    ),
    Phase("CSP303", "addons", "apply kube-proxy and CoreDNS", cluster.run_addons, "kubectl delete them"),
    Phase("CSP302", "network", "apply Calico", cluster.run_network, "kubectl delete its manifest"),
    Phase(
        "CSP304",
        "verify-cluster",
        "wait until all is Ready",
        cluster.run_verify_cluster,
        "none: changes nothing",
    ),
    Phase("CSP305", "report", "report", report.run_report, "none: changes nothing"),
)


# ---- the runner ------------------------------------------------------------------------------------------


def select(phases: Sequence[Phase], start_from: str, context: Context) -> Sequence[Phase]:
    """Return the phases from ``start_from`` on (all, if it is empty).

    Raises:
        UsageError: there is no such phase, or one before it was never finished on this host.
    """
    if not start_from:
        return phases
    names = [phase.name for phase in phases]
    if start_from not in names:
        raise UsageError(f"there is no phase '{start_from}'", resolution=f"one of: {', '.join(names)}")
    index = names.index(start_from)
    missing = [name for name in names[:index] if not context.journal.has_done(name)]
    if missing:
        raise UsageError(
            f"--from {start_from}: the phase '{missing[0]}' before it was never finished on this host",
            details=f"never finished: {', '.join(missing)}",
            resolution=f"start with --from {missing[0]}, or without --from",
        )
    if index > names.index("mount-media") and not (context.media_dir / FILE_NAME).is_file():
        raise MediaError(
            f"--from {start_from}: the media is not mounted at {context.media_dir}",
            resolution="start without --from: the phase mount-media mounts it",
        )
    return phases[index:]


def run_phases(
    context: Context, phases: Sequence[Phase], *, clock: Callable[[], float] = time.monotonic
) -> tuple[Outcome, ...]:
    """Run the phases in turn, each announced, timed and journalled; stop at the first that fails.

    Raises:
        InstallerError: what the phase raised; ``details`` then also says which phase it was.
    """
    left_open = context.journal.interrupted()
    if left_open is not None:
        context.ui.note(f"the last run was interrupted in the phase '{left_open}': going on")
    outcomes: list[Outcome] = []
    all_names = [phase.name for phase in PHASES]
    for phase in phases:
        number = all_names.index(phase.name) + 1 if phase.name in all_names else len(outcomes) + 1
        context.journal.start(phase.name)
        context.ui.phase(phase.label, phase.title, number=number, total=max(len(all_names), len(phases)))
        started = clock()
        try:
            has_changed = phase.run(context)
        except BaseException as exc:
            context.ui.phase_end(f"FAILED after {format_seconds(clock() - started)}")
            context.journal.failed(phase.name, seconds=clock() - started)
            if isinstance(exc, KeyboardInterrupt):
                raise _in_phase(phase, StoppedError("stopped")) from exc
            if isinstance(exc, InstallerError):
                raise _in_phase(phase, exc) from exc
            raise
        seconds = clock() - started
        context.journal.done(phase.name, changed=has_changed, seconds=seconds)
        context.ui.phase_end(f"{'changed' if has_changed else 'ok'}, {format_seconds(seconds)}")
        outcomes.append(Outcome(phase.name, has_changed, seconds))
    return tuple(outcomes)


def describe(outcomes: Sequence[Outcome]) -> str:
    """Return the last line of a bootstrap.

    >>> describe([Outcome("a", False, 1.0), Outcome("b", False, 0.5)])
    '2 phases in 1.5 s, 0 changes'
    """
    changed = sum(outcome.has_changed for outcome in outcomes)
    total = format_seconds(sum(outcome.seconds for outcome in outcomes))
    return f"{len(outcomes)} phases in {total}, {changed} change{'' if changed == 1 else 's'}"


def _in_phase(phase: Phase, error: InstallerError) -> InstallerError:
    """Return the error with the name of its phase and how to go on."""
    again = f"run the same command again; to begin at this phase: --from {phase.name}"
    resolution = f"{error.resolution}\n{again}" if error.resolution else again
    return type(error)(f"{phase.label}: {error.message}", details=error.details, resolution=resolution)
