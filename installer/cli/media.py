# SPDX-License-Identifier: Apache-2.0
"""``caisson media``: list the ISOs of this host, verify them, add one beside the one in use, use it, remove it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, MediaError, UsageError
from installer.base.paths import Paths
from installer.base.terminal import Remembering, Terminal
from installer.base.ui import format_bytes, format_seconds, format_table
from installer.cli import bootstrap, jobs, nodes
from installer.cli.common import Arguments, add_common, handle_signals, need_root, say
from installer.config import bootstrap as config
from installer.config import nodes as node_list
from installer.engine import lock as lockfile
from installer.engine.jobrecord import Request
from installer.media import product
from installer.media.product import Product
from installer.operations import (
    following_images,
    images,
    installed,
    leaving,
    media,
    media_adding,
    media_certificate,
    media_using,
    own_state,
    probe,
    removing,
    replicas,
    replicating,
)
from installer.operations.following_images import Followed
from installer.operations.media import Row, Verified
from installer.operations.media_maps import Clash
from installer.operations.replicas import Replica

FORMAT = 1
SHOWN_NAMES = 20


def add_commands(commands: Any) -> None:
    """Add ``media`` and what it does."""
    parser = commands.add_parser("media", help="list, verify, add, use and remove the ISOs of this host")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list the ISOs, where they are and what is wrong with them")
    add_common(listing, has_config=False)
    listing.set_defaults(handler=_list)

    verify = actions.add_parser("verify", help="compare every file of the mounted ISOs with its checksum")
    verify.add_argument(
        "build",
        metavar="BUILD",
        nargs="?",
        default="",
        help="as 'caisson media list' shows it (default: all that are mounted)",
    )
    add_common(verify, has_config=False)
    verify.set_defaults(handler=_verify)

    add = actions.add_parser(
        "add", help="verify an ISO, mount it beside the others, now and at each boot, and serve it"
    )
    add.add_argument("iso", metavar="ISO|DEVICE", help="the ISO's file, which stays where it is, or a drive")
    add_common(add, has_config=False)
    add.set_defaults(handler=_add)

    use = actions.add_parser(
        "use",
        help="install from another ISO that was added, if it has the same versions: its states, packages and maps of "
        "images; a bootstrap of it follows",
    )
    use.add_argument("build", metavar="BUILD", help="as 'caisson media list' shows it")
    add_common(use, has_config=False)
    use.set_defaults(handler=_use)

    replicate = actions.add_parser(
        "replicate", help="let further control planes serve packages and images too, over SSH"
    )
    replicate.add_argument(
        "names", metavar="NODE", nargs="*", help="a control plane (default: all further ones)"
    )
    replicate.add_argument(
        "--address",
        metavar="ADDRESS",
        help="where its SSH server listens, of one node (default: the node's address)",
    )
    for option, value in nodes.LOGIN_OPTIONS.items():
        replicate.add_argument(option, metavar=value, help="as with 'node add'")
    add_common(replicate, has_config=False)
    replicate.set_defaults(handler=_replicate)

    follow = actions.add_parser(
        "follow",
        help="bring the site's images to the control planes that serve too; a timer does that each quarter of an hour",
    )
    add_common(follow, has_config=False)
    follow.set_defaults(handler=_follow)

    remove = actions.add_parser("remove", help="serve an ISO no more and unmount it; its file stays")
    remove.add_argument("build", metavar="BUILD", help="as 'caisson media list' shows it")
    add_common(remove, has_config=False)
    remove.set_defaults(handler=_remove)


def _begin(tree_dir: Path, paths: Paths) -> Product:
    """Return the product in use, once it is one of this host that is asked.

    Raises:
        HostError: it is another user than root, or a further node.
        OtherBundleError: this is the program of an ISO that is not in use.
    """
    need_root()
    own_state.refuse_here(paths, "ISOs are listed, verified, added and removed")
    own = product.load(tree_dir)
    installed.refuse_other(own, paths)
    return own


def _list(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    own = _begin(tree_dir, paths)
    found = media.rows(paths, own)
    copies = replicas.find(paths)
    followed = list(following_images.known(paths))
    if arguments.json:
        data = {
            "media": [asdict(row) for row in found],
            "replicas": [asdict(one) for one in copies],
            "followed": _followed(followed),
        }
        print(json.dumps({"format": FORMAT, **data}, indent=1))
        return 0
    if not found:
        print("there is no ISO on this host")
        return 0
    shown = [("BUILD", "PROFILE", "IN USE", "MOUNTED", "SIZE", "SIGNED BY", "FROM", "ALSO ON")]
    print("\n".join(format_table([*shown, *(_cells(row) for row in found)])))
    for row in found:
        if row.problem:
            print(f"\n{row.name}: {row.problem}")
            print("\n".join(f"  -> {line}" for line in row.resolution.splitlines()))
        if row.hidden:
            print(f"\n{row.name}: of these names another ISO's image is served:")
            print("\n".join(f"  {line}" for line in _shortened(row.hidden)))
    _print_replicas(copies, followed)
    return 0


def _print_replicas(copies: Iterable[Replica], followed: Iterable[Followed]) -> None:
    """Say what other control planes that serve have not as this host has it, and how to put that right."""
    for copy in copies:
        if copy.missing:
            print(f"\n{copy.name}, which serves too: {copy.missing}\n  -> {copy.resolution}")
    for one in followed:
        when = f"as they were {format_seconds(one.age_s)} ago" if one.at else "not yet"
        print(f"\n{one.name} has the site's images {when}" + (f" ({one.images})" if one.at else ""))
        if one.to_remove:
            print(f"  {one.to_remove} removed here and still there\n  -> caisson media follow")
        if one.fault:
            print(f"  -> {one.fault}")


def _cells(row: Row) -> tuple[str, ...]:
    signed = {None: "not noted", "": "nobody"}.get(row.signed_by, f"{(row.signed_by or '')[-16:]}")
    return (
        row.name,
        row.profile or "not known",
        "yes" if row.in_use else "no",
        "yes" if row.mounted else "NO",
        format_bytes(row.size_bytes) if row.size_bytes else "not known",
        signed,
        row.made_from or "nowhere",
        ", ".join(row.served_by) or "-",
    )


def _shortened(names: Sequence[str]) -> list[str]:
    shown = list(names[:SHOWN_NAMES])
    return [*shown, f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else shown


def _verify(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    _begin(tree_dir, paths)
    pinned = _pinned(paths)
    wanted = [media.find(arguments.build, paths)] if arguments.build else media.known(paths)
    found: list[Verified] = []
    away: list[MediaError] = []
    for known in wanted:
        try:
            found.append(media.verify(known, paths, pinned=pinned, say=say))
        except MediaError as exc:
            if arguments.build:
                raise
            away.append(exc)
    error = _damage(found, away)
    if arguments.json:
        data = [
            {**asdict(one), "faults": [asdict(fault) for fault in one.faults], "notes": list(one.notes)}
            for one in found
        ]
        lost = [{"message": exc.message, "resolution": exc.resolution.splitlines()} for exc in away]
        code = error.exit_code if error else 0
        print(json.dumps({"format": FORMAT, "verified": data, "away": lost, "exit_code": code}, indent=1))
        return code
    for one in found:
        print(
            f"{one.name}: {one.files} files, {format_bytes(one.size_bytes)}: "
            f"{len(one.faults) or 'none'} damaged or missing"
        )
        print("".join(f"  note: {text}\n" for text in one.notes), end="")
    if error is not None:
        raise error
    return 0


def _damage(found: Sequence[Verified], away: Sequence[MediaError]) -> InstallerError | None:
    """Return the error that says which files are wrong, every one, and which ISOs could not be looked at."""
    lines = [f"{one.name}: {fault}" for one in found for fault in one.faults]
    lines += [exc.message for exc in away]
    if not lines:
        return None
    fixes = [line for exc in away for line in exc.resolution.splitlines()]
    if any(one.faults for one in found):
        fixes = [
            "put a whole copy of the ISO in its place: 'caisson media list' says where; check the disk",
            *fixes,
        ]
    return MediaError(
        lines[0] if len(lines) == 1 else f"{len(lines)} things are wrong with the ISOs of this host",
        details="\n".join(lines),
        resolution="\n".join(dict.fromkeys(fixes)),
    )


def _add(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    own = _begin(tree_dir, paths)
    site = images.find_site(paths, tree_dir)
    pinned = _pinned(paths)
    handle_signals()
    with lockfile.hold(paths.lock_file):
        media_certificate.keep_quietly(paths, tree_dir, say=say)
        added = media_adding.add(str(arguments.iso), site, own, pinned=pinned, say=say)
    _say_copies(paths)
    if arguments.json:
        data = {**asdict(added), "clashes": [asdict(clash) for clash in added.clashes]}
        print(json.dumps({"format": FORMAT, **data}, indent=1))
        return 0
    where = f"{added.name}, from {added.made_from}"
    if not added.changed:
        print(f"{where}: was here already, nothing was changed")
    elif added.in_use:
        print(f"{where}: is mounted again")
    else:
        print(f"{where}: is mounted now and after each boot; its images and packages are served")
        print(f"packages: https://{site.address}:{site.ports['media-https']}/media/{added.name}/repo/el9/")
    if added.clashes:
        print("\nThese names stand for different images on two ISOs:")
        print("\n".join(f"  {line}" for line in _shortened([_clash(clash) for clash in added.clashes])))
    return 0


def _say_copies(paths: Paths) -> None:
    """Say which control planes that serve too have other ISOs now, and how they get these."""
    for copy in replicas.find(paths):
        if copy.missing:
            say(f"note: {copy.name} serves too, and {copy.missing}: {copy.resolution}")


def _clash(clash: Clash) -> str:
    return f"{clash.name}: served from {clash.served_from}, not from {clash.hidden_from}"


def _use(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  the ISO's own tree counts
    """Note which ISO is in use, then let a job bootstrap this node from it; either program may be asked, again too."""
    need_root()
    own_state.refuse_here(paths, "ISOs are listed, verified, added and removed")
    with lockfile.hold(paths.lock_file):
        found = media_using.choose(media.find(str(arguments.build), paths), paths)
    say(f"{found.full_version} is in use from now on; its bootstrap follows")
    media_dir = paths.media_dir(found.full_version)
    words = ["bootstrap", "--config", str(paths.config_file)]
    words += ["--accept-lab-bundle"] if found.is_lab else []  # the host was installed from one
    request = Request(bootstrap.NAME, {}, (str(arguments.program), *words))
    return jobs.ask_and_follow(arguments, request, media_dir, paths)


def _replicate(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    """Ask for the job; who logs in to the hosts is asked before, as for an addition."""
    _begin(tree_dir, paths)
    chosen = replicating.choose(arguments.names, paths)
    if arguments.address and len(chosen) != 1:
        raise UsageError(
            "--address is of one node", details=", ".join(chosen), resolution="name the node, or leave it out"
        )
    login = nodes.login_of(arguments)
    loaded = config.load(paths.config_file)
    entries = [
        entry
        for name in chosen
        for entry in node_list.from_options(
            {**login, "address": arguments.address or removing.address_of(paths, name), "name": name},
            config=loaded,
        ).nodes
    ]
    terminal = Remembering(Terminal())
    say(f"the connections to {', '.join(entry.title for entry in entries)}")
    with probe.connections(entries, paths=paths, terminal=terminal) as connected:
        for entry in entries:
            leaving.refuse_other_host(leaving.Leaving(entry, connected[entry.title]).host, entry.name)
    words = [str(arguments.program), "media", "replicate", *chosen, *nodes.login_words(arguments)]
    request = Request(
        replicating.NAME, {"nodes": [node_list.to_data(entry) for entry in entries]}, tuple(words)
    )
    return jobs.ask_and_follow(arguments, request, tree_dir, paths, secrets=terminal.secrets)


def _follow(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    _begin(tree_dir, paths)
    site = images.find_site(paths, tree_dir)
    handle_signals()
    with lockfile.hold(paths.at(following_images.LOCK_FILE)):
        found = following_images.follow(site, say=say)
    error = following_images.failure(found)
    if arguments.json:
        code = error.exit_code if error else 0
        print(json.dumps({"format": FORMAT, "followed": _followed(found), "exit_code": code}, indent=1))
        return code
    if not found:
        print("no further control plane serves packages and images")
    if error is not None:
        raise error
    return 0


def _followed(found: Iterable[Followed]) -> list[dict[str, Any]]:
    return [one.to_json() for one in found]


def _remove(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    own = _begin(tree_dir, paths)
    site = images.find_site(paths, tree_dir)
    handle_signals()
    with lockfile.hold(paths.lock_file):
        media_certificate.keep_quietly(paths, tree_dir, say=say)
        removed = media_adding.remove(media.find(str(arguments.build), paths), site, own, say=say)
    _say_copies(paths)
    if arguments.json:
        print(json.dumps({"format": FORMAT, **asdict(removed)}, indent=1))
    else:
        stays = f"; {removed.made_from} is yours to delete" if removed.made_from else ""
        print(f"{removed.name} is removed: it is neither mounted nor served any more{stays}")
    return 0


def _pinned(paths: Paths) -> str:
    """Return the key that must have signed an ISO; empty where the configuration names none."""
    return config.load(paths.config_file).signing_key
