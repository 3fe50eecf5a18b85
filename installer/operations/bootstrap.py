# SPDX-License-Identifier: Apache-2.0
"""The phases of the bootstrap, in the order in which they run, and what of them the installer does itself.

Each phase may be run again at any time: it looks, and acts only where something is not as it should be. Up to
``minion-connected`` Salt works from the mounted media (local mode), afterwards through the master.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from installer.base import files
from installer.base.errors import HostError, InstallerError, MediaError, PreflightError
from installer.base.ui import format_bytes
from installer.checks import readiness
from installer.checks.host import is_ours
from installer.checks.preflight import Status
from installer.config import hosts
from installer.engine import traces
from installer.engine.context import Context
from installer.engine.journal import BOOTSTRAP
from installer.engine.phase import Operation, Phase, States
from installer.media import dnf, notes, repair, rpmdb, rpmkeys, signature, state, transaction
from installer.media import mounting as media
from installer.media.product import FILE_NAME
from installer.operations import (
    before,
    cluster,
    handed_over,
    installed,
    media_certificate,
    media_using,
    report,
    site_images,
    vip_set,
)

BYTECODE_DIR = "/run/caisson-console/bytecode"
SELF_TREES = ("installer", "console")
SELF_FILES = ("product.json", "salt/parameters/ports.yaml")
#: One of these on the host: it is installed from a bundle, wholly or in part.
NOTED_PACKAGES = ("salt", "salt-minion", "kubelet")
#: How a person takes a phase back: commands, to be run from the last phase to the first. They remove what Caisson made,
#: file by file where others write too: keys, volumes and settings of a site are never in the way of them.
MOUNT_UNIT = '"$(systemd-escape --path --suffix=mount /srv/caisson/VERSION-BUILD)"'
MOUNT_UNDO = (
    f"systemctl disable --now {MOUNT_UNIT}; rm /etc/systemd/system/{MOUNT_UNIT}; systemctl daemon-reload"
)
PACKAGES_UNDO = (
    "dnf remove those of salt-minion salt containerd.io kubelet kubeadm kubectl that were not there before (the log in "
    "/var/log/caisson/dnf names what was installed; dnf lists what else would go, and asks); "
    "rm /var/lib/caisson/installed.json"
)
LOCAL_UNDO = (
    f"rm {' '.join(traces.LOCAL_FILES)}; sed -i '/{hosts.MARK}$/d' /etc/hosts; bootstrap.yaml and the keys of the "
    "authorities stay"
)
RUNTIME_UNDO = (
    f"systemctl disable --now containerd {' '.join(traces.HOSTS_UNITS)}; "
    "rm -r --one-file-system /var/lib/containerd; "
    f"rm {' '.join(traces.RUNTIME_FILES)}; systemctl daemon-reload; "
    f"sed -i 's/^{traces.FSTAB_MARK}//' /etc/fstab; "
    "where swap units were masked (/var/log/caisson/salt.log names them; others are yours): 'systemctl unmask' of them "
    "and of swap.target, and rename each /etc/systemd/system/NAME.swap.caisson back to NAME.swap; reboot: with "
    "/var/lib/containerd go images that were only imported, push those of yours to a registry first"
)
#: Volumes of pods are mounted below the kubelet's directory: as long as one cannot be unmounted nothing is removed. A
#: bind mount of the same file system is none that --one-file-system would see.
KUBELET_UNDO = (
    "systemctl disable --now kubelet; crictl rmp --all --force; "
    "findmnt --noheadings --list --output TARGET | grep '^/var/lib/kubelet/' | sort --reverse | "
    r"xargs --no-run-if-empty --delimiter '\n' umount && rm -r --one-file-system /var/lib/kubelet; "
    f"rm -f {' '.join(traces.KUBELET_FILES)}; "
    "systemctl daemon-reload"
)
NGINX_UNDO = (
    "systemctl disable --now caisson-renew.timer caisson-follow.timer; "
    f"rm {' '.join(traces.NGINX_FILES)}; find {traces.BARRED_NODES_DIR} -delete; "
    f"rm -rf {traces.MEDIA_MAPS_DIR} {traces.TIMER_STAMP_FILE}; systemctl daemon-reload"
)
FIREWALL_UNDO = (
    f"systemctl disable --now caisson-guard; rm {' '.join(traces.GUARD_FILES)}; "
    f"rm {' '.join(traces.FIREWALL_FILES)}; systemctl daemon-reload; firewall-cmd --reload"
)
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
#: Without the ConfigMap: the Corefile may be the site's.
ADDONS_UNDO = (
    f"{KUBECTL} -n kube-system delete deployment/coredns service/kube-dns serviceaccount/coredns "
    "clusterrolebinding/system:coredns clusterrole/system:coredns: no name is resolved in pods; the ConfigMap coredns "
    "stays"
)
#: With a kind (CRD) of Calico's all its objects would go, whoever made them.
NETWORK_UNDO = (
    f"{KUBECTL} get -f /srv/caisson/VERSION-BUILD/manifests/calico-vxlan.yaml --ignore-not-found --output name | "
    f"grep --invert-match '^customresourcedefinition' | xargs {KUBECTL} -n kube-system delete: pods lose their "
    "network; Calico's own kinds (CRDs) stay, and so do your network policies and address pools"
)
CONSOLE_UNDO = (
    "systemctl disable --now caisson-console.socket caisson-door.socket; systemctl stop caisson-console.service; "
    f"rm -f {' '.join(traces.CONSOLE_FILES)}; systemctl daemon-reload; userdel {traces.CONSOLE_USER}; "
    f"{KUBECTL} delete namespace/caisson-users clusterrole/caisson-viewer clusterrole/caisson-operator "
    f"clusterrole/caisson-admin; {KUBECTL} delete clusterrolebinding --selector caisson.io/console-user=true: the "
    "users of the console go"
)
CONTROL_PLANE_UNDO = (
    "none by itself: 'caisson reset' takes the whole node back. Never run 'kubeadm reset': it deletes etcd's data, and "
    "with /etc/kubernetes/manifests also nginx, the registry and the salt-master"
)


# ---- the phases that are carried out here ----------------------------------------------------------------


def run_verify_media(context: Context) -> bool:
    """Look who can change the ISO and who signed SHA256SUMS, compare every byte, check each package's signature.

    Signatures that were good of the same bytes, by the same keys, are not asked for again.
    """
    media.check_custody(context.source_dir)
    signature.check(context.source_dir, context.config.signing_key, note=context.ui.note)
    verified = media.verify(context.source_dir, progress=context.ui.progress)
    context.ui.detail(f"{verified.files} files, {format_bytes(verified.size_bytes)} verified")
    keys = [context.source_dir / name for name in context.product.rpm_keys]
    packages = sorted((context.source_dir / "repo/el9/Packages").rglob("*.rpm"))
    if _is_noted(context):
        context.ui.detail(
            f"the signatures of {len(packages)} packages were good when these bytes were verified first"
        )
    else:
        rpmkeys.check_signatures(keys, packages, progress=context.ui.progress)
    return False


def _is_noted(context: Context) -> bool:
    """Tell whether an ISO with the same SHA256SUMS was verified on this host before: keys and packages are in them."""
    with contextlib.suppress(HostError):  # a note that cannot be read says nothing
        note = notes.read(context.product.full_version, context.paths.media_notes_dir)
        return note is not None and note.sums_sha256 == notes.sums_digest(context.source_dir)
    return False


def run_mount_media(context: Context) -> bool:
    """Mount the media at its own place, now and after each boot, and note what was verified."""
    paths = context.paths
    is_changed = media.keep_mounted(
        context.product, context.source_dir, context.media_dir, paths.units_dir, note=context.ui.note
    )
    file = state.read_made_from(paths.units_dir / media.unit_name(context.media_dir))
    note = notes.make(context.product, context.media_dir, Path(file))
    return notes.write(note, paths.media_notes_dir) or is_changed


def check_mounted(context: Context) -> None:
    """Look whether the media is at its own place, and still root's alone.

    Raises:
        MediaError: it is not.
    """
    media.check_custody(context.media_dir)
    if not (context.media_dir / FILE_NAME).is_file():
        raise MediaError(
            f"the media is not mounted at {context.media_dir}",
            resolution="the phase mount-media mounts it",
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
        for tree in SELF_TREES
        for file in sorted((tree_dir / tree).rglob("*"))
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
        "  local cache=(-B)\n"
        "  # The console asks often: what was compiled is kept, in memory.\n"
        f'  [[ "${{1:-}}" != door ]] || cache=(-X pycache_prefix={BYTECODE_DIR})\n'
        f'  exec "${{python}}" -I -S "${{cache[@]}}" -X utf8 "{target}/installer" --program caisson "$@"\n'
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
            resolution="fix each, or ignore it by its code in overrides.ignorePreflights, with the reason",
        )
    media_certificate.refuse(context.config, str(context.facts.control_plane_address), paths=context.paths)
    vip_set.refuse(context.paths, str(context.config.networks.vip or ""), context.facts)
    site_images.check(context)
    return False


def run_stop_minion(context: Context) -> bool:
    """Stop and disable a salt-minion that is not this cluster's; none is fine, and so is our own."""
    return handed_over.keep_off(context.paths, ["salt-minion.service"])


def run_install_minion(context: Context) -> bool:
    """Install all packages that the bootstrap needs, in one transaction; what they start is stopped until its phase.

    After a run that was cut off, packages of which files are damaged are installed again first.
    """
    was_cut = context.journal.was_cut_since("install-minion")
    is_repaired = was_cut and _repair(context)
    installed.note(context.product, context.paths)
    if not is_ours(context.paths):
        before.note(context.paths)
    try:
        is_changed = dnf.install(
            dnf.HOST_PACKAGES,
            paths=context.paths,
            media_dir=context.media_dir,
            product=context.product,
            progress=context.ui.progress,
            detail=context.ui.detail,
        )
    except InstallerError:
        # A database that can be read knows rpm itself.
        is_untouched = not transaction.read(context.paths).is_open
        if is_untouched and set(rpmdb.installed(("rpm", *NOTED_PACKAGES))) == {"rpm"}:
            installed.forget(context.paths)
        raise
    if was_cut and is_changed:
        # Of a package that rpm's database had lost an empty configuration file is nobody's, and rpm keeps it.
        _repair(context)
    return handed_over.keep_off(context.paths, list(handed_over.HANDED_OVER)) or is_changed or is_repaired


def await_nginx(context: Context) -> None:
    """Let nginx read a newer certificate, and the maps of the ISOs beside the one in use."""
    media_certificate.await_served(context)
    media_using.serve_added(context)


def _repair(context: Context) -> bool:
    return repair.repair(
        paths=context.paths, media_dir=context.media_dir, product=context.product, ui=context.ui
    )


PHASES: tuple[Phase, ...] = (
    Phase(
        code="CSP101",
        name="verify-media",
        title="compare the media with its checksums",
        applies=run_verify_media,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP102",
        name="mount-media",
        title="mount the media, now and at each boot",
        applies=run_mount_media,
        standing=check_mounted,
        undo=MOUNT_UNDO,
    ),
    Phase(
        code="CSP103",
        name="install-self",
        title="copy the installer to this host",
        applies=run_install_self,
        undo="rm -r /opt/caisson/VERSION-BUILD /usr/bin/caisson",
    ),
    Phase(
        code="CSP104",
        name="preflight",
        title="check the host",
        applies=run_preflight,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP105",
        name="stop-minion",
        title="stop a salt-minion that runs",
        applies=run_stop_minion,
        undo="where one ran before: systemctl enable --now salt-minion",
    ),
    Phase(
        code="CSP106",
        name="install-minion",
        title="install the packages of the host from the media",
        applies=run_install_minion,
        undo=PACKAGES_UNDO,
    ),
    Phase(
        code="CSP107",
        name="minion-local",
        title="let Salt work from the media",
        applies=cluster.run_minion_local,
        standing=cluster.check_minion_local,
        undo=LOCAL_UNDO,
    ),
    Phase(
        code="CSP108",
        name="node-checks",
        title="check the host through Salt",
        applies=cluster.run_node_checks,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP201",
        name="container-runtime",
        title="prepare the host, start containerd, import the first images",
        applies=States(("host", "containerd", "images.imported"), local=True),
        undo=RUNTIME_UNDO,
        about="Prepare the host, install and start containerd, import what must run before nginx.",
    ),
    Phase(
        code="CSP202",
        name="kubelet-standalone",
        title="install the kubelet and start it alone",
        applies=States(("kubelet",), local=True),
        undo=KUBELET_UNDO,
        about="Install the kubelet and let it run static pods, before there is an API server.",
    ),
    Phase(
        code="CSP203",
        name="salt-master",
        title="start the salt-master",
        applies=States(
            ("salt_master.placed", "static_pods.placed", "images.begun", "salt_master"),
            local=True,
            before=cluster.make_logins,
        ),
        standing=cluster.check_keys,
        undo=f"rm {' '.join(traces.MASTER_FILES)}; its keys stay",
        about="Start salt-master, which knows the minion's key beforehand; registry and nginx start beside it, with "
        "passwords that are made here.",
    ),
    Phase(
        code="CSP204",
        name="minion-connected",
        title="hand the minion over to its master",
        applies=cluster.run_minion_connected,
        undo=f"systemctl disable --now salt-minion; rm {' '.join(traces.MINION_FILES)}",
    ),
    Phase(
        code="CSP205",
        name="registry",
        title="start the registry",
        applies=States(
            ("registry",),
            local=True,
            tells="Compare the registry with the media's",
            steps=(
                "Import the image of the registry",
                "Remove the manifest of the registry",
                "Wait until the registry is down",
                "Run registry",
                "Wait for the registry",
            ),
        ),
        undo=f"rm {' '.join((*traces.REGISTRY_FILES, *traces.LOGIN_FILES))}; "
        f"rm -f {traces.REPLACED_FILE}; pushed images stay in /var/lib/caisson/registry",
        about="Start the site's registry, on loopback. Where the media's is newer it takes the place of the one that "
        "runs: its image is imported, the manifest removed, the old one waited for until it is down, the manifest "
        "written, the registry waited for until it answers; each is in the journal. An older one is left on the media.",
    ),
    Phase(
        code="CSP206",
        name="nginx",
        title="serve packages and images from the media",
        applies=States(("nginx",), local=True),
        awaits=await_nginx,
        undo=NGINX_UNDO,
        about="Serve packages and images from the media over HTTPS; images are pulled while other phases run.",
    ),
    Phase(
        code="CSP207",
        name="firewall",
        title="open the cluster's ports in firewalld",
        applies=States(("firewall",), local=True),
        undo=FIREWALL_UNDO,
        about="Open in firewalld what the port table names, for the planes it names.",
    ),
    Phase(
        code="CSP301",
        name="control-plane",
        title="start the control plane by kubeadm's phases",
        applies=States(
            (
                "control_plane.certified",
                "images.control_plane",
                "keepalived",
                "control_plane.started",
                "images.network_begun",
                "control_plane",
                "kube_proxy.names",
            ),
            local=True,
        ),
        undo=CONTROL_PLANE_UNDO,
        about="Run the phases of ``kubeadm init`` that are not done yet, or whose configuration has changed, wait for "
        "their pods, apply kube-proxy. A virtual address is held by keepalived before anything asks for the API there. "
        "A control plane of this cluster that Caisson did not make is left alone.",
    ),
    Phase(
        code="CSP303",
        name="addons",
        title="apply CoreDNS",
        applies=States(("addons",), local=True),
        undo=ADDONS_UNDO,
    ),
    Phase(
        code="CSP302",
        name="network",
        title="apply Calico",
        applies=States(("images.network", "calico"), local=True),
        undo=NETWORK_UNDO,
    ),
    Phase(
        code="CSP304",
        name="verify-cluster",
        title="wait until all is Ready",
        applies=States(("cluster.ready",), local=True),
        undo="none: changes nothing",
        about="Wait until what the bootstrap applied is Ready, and this node; the site's own pods are its own. "
        "Wait for the minion to answer its master, too.",
        awaits=cluster.await_answer,
    ),
    Phase(
        code="CSP306",
        name="site-images",
        title="push the images of the site",
        applies=site_images.run_site_images,
        undo="rm -f /var/lib/caisson/site-images.json; 'caisson images remove NAME' of each image",
    ),
    Phase(
        code="CSP307",
        name="console",
        title="start the console",
        applies=States(("console",), local=True),
        undo=CONSOLE_UNDO,
        about="Make the user, the certificate and the units of the console, let Kubernetes know its roles, and wait "
        "until it answers. It runs only while somebody looks: systemd starts it with the first connection.",
    ),
    Phase(
        code="CSP305",
        name="report",
        title="report",
        applies=report.run_report,
        undo="none: changes nothing",
    ),
)

OPERATION = Operation(BOOTSTRAP, PHASES)
