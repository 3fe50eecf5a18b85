# SPDX-License-Identifier: Apache-2.0
"""Let further control planes serve packages and images too, as the work of a job: ``caisson media replicate``.

Each host by its phases, one after the other, over the SSH of ``node add``: the ISOs are copied, verified and mounted
there, nginx gets a certificate of its own and serves them, and every node is told. Each phase looks first, so that a
run that was cut off anywhere is gone on with by the same command.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from installer.base.errors import HostError, InstallerError, MediaError, PreflightError
from installer.base.paths import Paths
from installer.base.terminal import Told
from installer.base.ui import Ui
from installer.config import nodes, x509
from installer.config.nodes import NodeEntry, Role
from installer.engine import controlplanes, nodepillar, pillartop, remotecopy, remotefiles, runner
from installer.engine.context import Context
from installer.engine.jobrun import Task
from installer.engine.journal import Journal
from installer.engine.phase import Operation, Phase
from installer.engine.remotefiles import RemoteFile
from installer.media import custody, mounting, notes, state
from installer.operations import (
    adding,
    cluster_state,
    containers,
    joining,
    leaving,
    media,
    media_certificate,
    media_maps,
    media_serving,
    node_add,
    node_jobs,
    other_nodes,
    probe,
    push_login,
    replica_certificate,
    telling,
)
from installer.operations.images import Site, site_at
from installer.operations.joining import Joining
from installer.operations.media import Media
from installer.operations.node_jobs import Detached

NAME = "media-replicate"
KEEP_TIMEOUT_S = 3600.0
LOOK_TIMEOUT_S = 120.0
SIGN_S = 5.0
SERVED_S = 60.0
SERVE = Detached(("firewall.ports", "registry.replica", "nginx.running"))


def work(task: Task) -> str:
    """Let the hosts that the job names serve; return what to say of it in one line.

    Raises:
        InstallerError: one could not; with several, an error of the class that weighs most.
    """
    return replicate(task, nodes.from_data(task.job.arguments["nodes"]))


def add(task: Task) -> str:
    """Add the hosts that the job names, then let their control planes serve, if that is wanted (``--replica``).

    Raises:
        InstallerError: one could not be added, or could not serve.
    """
    said = adding.work(task)
    if not task.job.arguments.get("replica"):
        return said
    names = {address: name for name, address, _ in other_nodes.known(task.paths)}
    entries = [
        replace(entry, name=names.get(entry.address, entry.name))
        for entry in nodes.from_data(task.job.arguments["nodes"])
        if entry.role is Role.CONTROL_PLANE
    ]
    return f"{said}; {replicate(task, entries)}"


def replicate(task: Task, entries: Sequence[NodeEntry]) -> str:
    """Let control planes serve, one after the other; one that fails stops no other.

    Raises:
        InstallerError: one could not; with several, an error of the class that weighs most.
    """
    base = adding.context_of(task)
    members = cluster_state.get_members(task.paths.admin_kubeconfig_file)
    material = probe.gather_material(task.tree_dir, base.config, members)
    errors: dict[str, InstallerError] = {}
    said = []
    with probe.connections(entries, paths=task.paths, terminal=Told(task.secrets)) as connected:
        for entry in entries:
            operation = replace(OPERATION, name=f"{NAME}/{entry.name}")
            journal = Journal(
                task.paths.journal_file, operation=operation.name, copy_file=task.job.journal_file
            )
            node = Joining(entry, connected[entry.title], material)
            context = replace(base, journal=journal, joining=node)
            try:
                outcomes = runner.run_phases(operation, operation.phases, context)
                said.append(f"{entry.name}: {runner.describe(outcomes)}")
            except InstallerError as exc:
                errors[entry.title] = exc
                task.ui.note(f"{exc.code()} {exc}")
            finally:
                context.salt.close()
    if errors:
        raise adding.failure(errors, len(entries))
    return "; ".join(said)


def choose(names: Sequence[str], paths: Paths) -> list[str]:
    """Return the control planes that are meant: those named, or all further ones.

    Raises:
        PreflightError: one is none, or there is none.
    """
    there = {
        str(caisson["node"]["name"]): caisson["node"]
        for caisson in pillartop.pillars(paths)
        if not controlplanes.is_leaving(caisson)
    }
    able = sorted(name for name, node in there.items() if node["role"] == controlplanes.ROLE)
    unfit = [name for name in names if name not in able]
    if unfit or not able:
        raise PreflightError(
            f"{', '.join(unfit)}: is no further control plane"
            if unfit
            else "there is no further control plane",
            details=f"further control planes: {', '.join(able) or 'none'}",
            resolution="a control plane serves packages and images; 'caisson node add --role control-plane' adds one",
        )
    return list(dict.fromkeys(names)) or able


# ---- the phases ----------------------------------------------------------------------------------------------


def run_know(context: Context) -> bool:
    """Look that the host is the node that is meant, and a control plane that has joined; change nothing."""
    node = joining.of(context)
    leaving.refuse_other_host(node.host, node.entry.name)
    node.caisson = pillartop.read(context.paths, node.entry.name)
    told = node.caisson.get("node", {})
    if told.get("role") != controlplanes.ROLE or not told.get("serves"):
        raise PreflightError(
            f"{node.entry.name} is no control plane that has joined",
            details=f"its role: {told.get('role', 'none')}",
            resolution="'caisson node add --role control-plane' adds one, or goes on with one that was cut off",
        )
    return False


def isos(context: Context) -> list[tuple[Media, Path, int]]:
    """Return each ISO of this host with its file or drive and its size, the one in use first.

    Raises:
        MediaError: one is not as it was verified: it is put right or removed first.
    """
    found = []
    for one in media.known(context.paths):
        how = state.media_state(one, context.paths)
        if how.missing or one.note is None:
            raise MediaError(
                f"{one.full_version} cannot be copied",
                details=how.missing or "nobody noted what it was when it was verified",
                resolution=how.resolution
                or "caisson bootstrap, or caisson media add of its file, notes that",
            )
        unit = mounting.unit_name(context.paths.media_dir(one.full_version))
        file = Path(state.read_made_from(context.paths.units_dir / unit))
        size = one.note.size_bytes or notes.volume_bytes(notes.descriptor(file)) or file.stat().st_size
        found.append((one, file, max(size, file.stat().st_size)))
    return found


def target_of(name: str) -> str:
    """Return where the copy of an ISO is on the other host. Pure."""
    return f"{custody.PLACE}/{name}.iso"


def run_copy(context: Context) -> bool:
    """Copy each ISO that the host does not keep already; what arrived before a cut is not sent again."""
    node, sent = joining.of(context), 0
    known = kept(node)
    for one, file, size in isos(context):
        if known.get(one.full_version) == _sums(one):
            continue
        copied = remotecopy.copy(node.host, file, target_of(one.full_version), size, say=context.ui.progress)
        sent += copied.sent_bytes
    return bool(sent)


def run_keep(context: Context) -> bool:
    """Let the host verify each copy, every byte, and mount it; what this host has no more it gives up."""
    node, changed = joining.of(context), False
    names = []
    for one, _, _ in isos(context):
        names.append(one.full_version)
        words = ["keep-media", one.full_version, target_of(one.full_version), _sums(one)]
        with _signs(context.ui, f"{node.name}: every byte of {one.full_version} is compared"):
            changed = bool(_on_node(node, *words, timeout_s=KEEP_TIMEOUT_S)) or changed
    return bool(_on_node(node, "kept-media", *names)["gone"]) or changed


def run_certificate(context: Context) -> bool:
    """Give nginx there a certificate of its own, for that host's address."""
    node = joining.of(context)
    return replica_certificate.send(
        node.host, node.name, node.address, context.config.media_name, context.paths
    )


def run_serve(context: Context) -> bool:
    """Let nginx there serve the ISOs, and a registry what the site pushed; ask for an image of the one in use."""
    node = joining.of(context)
    builds = [one.full_version for one, _, _ in isos(context)]
    node.caisson = {**node.caisson, "node": {**node.caisson["node"], "media": builds}}
    told = [
        RemoteFile(path, text.encode(), 0o600) for path, text in nodepillar.local_files(node.caisson).items()
    ]
    maps_dir = context.paths.media_maps_dir
    names = (media_maps.DIRECTORIES, media_maps.TYPES, media_maps.TAGS, media_maps.LISTS)
    maps = [
        RemoteFile(f"/etc/caisson/nginx/media/{name}", (maps_dir / name).read_bytes())
        for name in names
        if (maps_dir / name).is_file()
    ]
    missing = remotefiles.differing(node.host, [*told, *maps, *_logins(context)])
    if missing:
        remotefiles.put(node.host, missing, is_secret=True)
    changed = SERVE(context)
    if missing or not _has_certificate(context, node) or context.journal.was_cut_since("serve"):
        _reload(node)
    _await_served(context, node)
    return bool(missing) or changed


def _logins(context: Context) -> list[RemoteFile]:
    """Return the registry's users and nginx' own password: those of this host, which pushes there what it is given.

    Raises:
        HostError: they are not there, or do not belong together.
    """
    push_login.check(context.paths)
    files = (context.paths.htpasswd_file, context.paths.read_login_file)
    return [
        RemoteFile("/" + str(file.relative_to(context.paths.root)), file.read_bytes(), 0o600)
        for file in files
    ]


def run_tell(context: Context) -> bool:
    """Let every node ask this one too: containerd and dnf; what is open there is asked from the next pull on."""
    node = joining.of(context)
    changed = pillartop.write(context.paths, context.facts.node_name, node.caisson)
    return telling.tell(context, "", limit_s=telling.LIMIT_S) or changed


def kept(node: Joining) -> dict[str, str]:
    """Return the builds that a host keeps as they should be, with the digests of their sums."""
    said = _on_node(node, "kept-media")["kept"]
    return {str(one["name"]): str(one["sums_sha256"]) for one in said if not one["missing"]}


def _sums(one: Media) -> str:
    return one.note.sums_sha256 if one.note is not None else ""


def _on_node(node: Joining, *words: str, timeout_s: float = LOOK_TIMEOUT_S) -> Any:
    """Return what ``caisson on-node`` answers there. Raises: InstallerError, what it failed for."""
    command = [node_jobs.COMMAND_FILE, "on-node", *words, "--json"]
    said = node.host.run(command, timeout_s=timeout_s, check=False)
    return node_jobs.answer_of(said.stdout, node, words[0])


def _reload(node: Joining) -> None:
    """Let nginx there read its files again: its certificate, and the maps of the ISOs."""
    found = node.host.run(
        ["crictl", "ps", "--quiet", "--state", "Running", *containers.selection("nginx")], timeout_s=60
    ).stdout.split()
    if not found:
        raise HostError(
            f"nginx does not run on {node.name}",
            details="its manifest is in place there",
            resolution=f"see there: {containers.listing('nginx')}",
        )
    node.host.run(["crictl", "exec", found[0], *media_serving.RELOAD], timeout_s=60)


def _has_certificate(context: Context, node: Joining) -> bool:
    """Say whether nginx there serves the certificate that it was given last."""
    site = _site(context, node)
    try:
        wanted = x509.read_der(replica_certificate.note_file(context.paths, node.name))
    except (OSError, ValueError):
        return False
    return media_certificate.served((node.address, site.ports["media-https"])) == wanted


def _site(context: Context, node: Joining) -> Site:
    names = (context.facts.node_name, context.config.media_name)
    own = site_at(str(context.facts.control_plane_address), names, context.paths, context.source_dir)
    return Site(node.address, own.ports, (), context.paths)


def _await_served(context: Context, node: Joining) -> None:
    """Ask for an image of the ISO in use until it is served with its digest. Raises: HostError."""
    site = _site(context, node)
    image = media.own_layout(context.product, context.paths).images[0]
    if not media_serving.await_name(site, image.name, image.digest, limit_s=SERVED_S):
        raise HostError(
            f"{node.name} does not serve {image.name} as its ISO says",
            details=f"asked at {node.address}:{site.ports['media-https']} from here",
            resolution=f"see there: {containers.log('nginx')}; is its port open to this node: caisson node check",
        )


@contextlib.contextmanager
def _signs(ui: Ui, text: str) -> Iterator[None]:
    """Say every few seconds what is waited for."""
    is_over = threading.Event()

    def tell() -> None:
        waited = 0.0
        while not is_over.wait(SIGN_S):
            waited += SIGN_S
            ui.progress(f"{text}, {waited:.0f} s")

    thread = threading.Thread(target=tell, name="caisson-signs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=SIGN_S)


ON_THE_HOST = "on that host: "
PHASES: tuple[Phase, ...] = (
    Phase(
        code="CSP701",
        name="reach-host",
        title="connect to the host",
        applies=node_add.run_connect,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP702",
        name="know",
        title="look that it is the control plane that is meant",
        applies=run_know,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP703",
        name="copy",
        title="copy the ISOs",
        applies=run_copy,
        undo=f"{ON_THE_HOST}rm the copies, {custody.PLACE}/VERSION-BUILD.iso and .iso.part",
    ),
    Phase(
        code="CSP704",
        name="keep",
        title="verify the copies there, and mount them",
        applies=run_keep,
        undo=f"{ON_THE_HOST}systemctl disable --now "
        '"$(systemd-escape --path --suffix=mount /srv/caisson/VERSION-BUILD)"',
    ),
    Phase(
        code="CSP705",
        name="certificate",
        title="give nginx there a certificate of its own",
        applies=run_certificate,
        undo=f"rm {replica_certificate.NOTES_DIR}/NODE.crt; {ON_THE_HOST}rm -r /etc/caisson/tls",
    ),
    Phase(
        code="CSP706",
        name="serve",
        title="let nginx there serve the ISOs",
        applies=run_serve,
        undo=f"{ON_THE_HOST}rm /etc/kubernetes/manifests/nginx.yaml",
    ),
    Phase(
        code="CSP707",
        name="tell-of-media",
        title="let every node ask it too",
        applies=run_tell,
        undo="none: who is asked in vain goes on to the next; goes with the node",
    ),
)
OPERATION = Operation(NAME, PHASES, begins_anywhere=False)
