# SPDX-License-Identifier: Apache-2.0
"""``caisson images``: push to the site's registry, list, remove, verify; say how other tools log in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from installer.base.errors import UnhealthyError
from installer.base.paths import Paths
from installer.base.ui import format_bytes, format_table
from installer.cli.common import Arguments, add_common, need_root, say
from installer.engine import lock as lockfile
from installer.engine import traces
from installer.media import product
from installer.operations import images, own_state, push_login
from installer.operations.images import Listed, Site

FORMAT = 1
CERTIFICATES = {
    "podman": "/etc/containers/certs.d",
    "skopeo": "/etc/containers/certs.d",
    "docker": "/etc/docker/certs.d",
    "nerdctl": "/etc/docker/certs.d",
}
"""Where each tool looks for the authority of a registry. Source: containers-certs.d(5); docs.docker.com; nerdctl."""


def add_commands(commands: Any) -> None:
    """Add ``images`` and what it does."""
    parser = commands.add_parser(
        "images", help="push images to the site's registry; list, remove, verify them"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    login = actions.add_parser("login", help="say how podman, skopeo, docker and nerdctl log in to push")
    login.add_argument(
        "--rotate", action="store_true", help="make a new password first; the old one is refused"
    )
    login.add_argument(
        "--show-password", action="store_true", help="show it here (default: the file it is in)"
    )
    add_common(login, has_config=False)
    login.set_defaults(handler=_login)

    push = actions.add_parser("push", help="push an image to the site's registry")
    push.add_argument(
        "image", metavar="FILE|DIRECTORY|NAME", help="an archive, an OCI layout, or an image of this host"
    )
    push.add_argument(
        "--as", dest="wanted", metavar="NAME:TAG", default="", help="under this name (default: its own)"
    )
    add_common(push, has_config=False)
    push.set_defaults(handler=_push)

    listing = actions.add_parser("list", help="list the images of the ISO and the site's, and where they are")
    add_common(listing, has_config=False)
    listing.set_defaults(handler=_list)

    remove = actions.add_parser("remove", help="remove an image of the site's, and what only it needed")
    remove.add_argument("image", metavar="NAME:TAG", help="as 'caisson images list' shows it")
    add_common(remove, has_config=False)
    remove.set_defaults(handler=_remove)

    verify = actions.add_parser("verify", help="compare every blob of the site's images with its digest")
    add_common(verify, has_config=False)
    verify.set_defaults(handler=_verify)


def _site(paths: Paths, tree_dir: Path) -> Site:
    need_root()
    own_state.refuse_here(paths, "images are pushed, listed and removed")
    return images.find_site(paths, tree_dir)


def _login(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    site = _site(paths, tree_dir)
    if arguments.rotate:
        with lockfile.hold(paths.lock_file):
            push_login.rotate(paths)
    password = push_login.get(paths)
    commands = login_commands(site.own)
    if arguments.json:
        data = {
            "format": FORMAT,
            "registry": site.own,
            "user": push_login.PUSH_USER,
            "password_file": str(paths.push_password_file),
            "ca_file": images.CA_FILE,
            "commands": commands,
            **({"password": password} if arguments.show_password else {}),
        }
        print(json.dumps(data, indent=1))
        return 0
    rows = [("registry", site.own), ("user", push_login.PUSH_USER)]
    rows += [
        ("password", password if arguments.show_password else f"in {paths.push_password_file}, root's alone")
    ]
    rows += [("authority", images.CA_FILE)]
    print("\n".join(format_table(rows)))
    print(
        "\nFrom a host of the control plane's networks that is no further node; copy the authority's file there:"
    )
    for tool, lines in commands.items():
        print(f"\n{tool}:")
        print("\n".join(f"  {line}" for line in lines))
    return 0


def login_commands(registry: str) -> dict[str, list[str]]:
    """Return what is typed for each tool; the password is asked for, it is in no command.

    >>> login_commands("10.0.0.1:8555")["skopeo"][-1]
    'skopeo login --username caisson 10.0.0.1:8555'
    """
    hosts_dir = f" --hosts-dir {CERTIFICATES['nerdctl']}"
    return {
        tool: [
            f"install -D -m 0644 ca.crt {directory}/{registry}/ca.crt",
            f"{tool}{hosts_dir if tool == 'nerdctl' else ''} login --username {push_login.PUSH_USER} {registry}",
        ]
        for tool, directory in CERTIFICATES.items()
    }


def _push(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    site = _site(paths, tree_dir)
    scratch_dir = paths.at(traces.CACHE_DIR)
    with images.source_of(str(arguments.image), scratch_dir, say) as (source, said):
        pushed = images.push(source, site, wanted=str(arguments.wanted), said=said, say=say)
    if arguments.json:
        print(json.dumps({"format": FORMAT, "images": [asdict(entry) for entry in pushed]}, indent=1))
        return 0
    for entry in pushed:
        sent = (
            f"{entry.sent_blobs} blobs, {format_bytes(entry.sent_bytes)} sent"
            if entry.sent_blobs
            else "all there"
        )
        print(f"{entry.name}\n  {entry.digest}; {sent}")
    return 0


def _list(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    site = _site(paths, tree_dir)
    found = images.list_images(site, product.load(tree_dir))
    if arguments.json:
        print(json.dumps({"format": FORMAT, "images": [_data(entry) for entry in found]}, indent=1))
        return 0
    rows = [("IMAGE", "FROM", "SIZE", "DIGEST", "ON NODES")]
    rows += [
        (entry.name, entry.origin, format_bytes(entry.size_bytes), entry.digest[:19], _nodes(entry))
        for entry in found
    ]
    print("\n".join(format_table(rows)))
    return 0


def _data(entry: Listed) -> dict[str, Any]:
    return {**asdict(entry), "nodes": None if entry.nodes is None else list(entry.nodes)}


def _nodes(entry: Listed) -> str:
    return "not known" if entry.nodes is None else ", ".join(entry.nodes) or "none"


def _remove(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    site = _site(paths, tree_dir)
    with lockfile.hold(paths.lock_file):
        removed = images.remove(site, str(arguments.image), say=say)
    if arguments.json:
        print(json.dumps({"format": FORMAT, **asdict(removed)}, indent=1))
    else:
        print(
            f"{removed.name} is removed, {format_bytes(removed.freed_bytes)} freed; nodes that have it keep it"
        )
    return 0


def _verify(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    site = _site(paths, tree_dir)
    found = images.verify(site, say=say)
    lines = [
        f"{fault.digest} {fault.what}: {', '.join(fault.images) or 'no image'}" for fault in found.faults
    ]
    error = None
    if lines:
        error = UnhealthyError(
            f"{len(lines)} blobs of the site's images are damaged" if len(lines) > 1 else lines[0],
            details="\n".join(lines),
            resolution="'caisson images remove' each image that is named, then push it again; check the disk",
        )
    if arguments.json:
        data = {"format": FORMAT, "blobs": found.blobs, "size_bytes": found.size_bytes}
        faults = [{**asdict(fault), "images": list(fault.images)} for fault in found.faults]
        print(json.dumps({**data, "faults": faults, "exit_code": error.exit_code if error else 0}, indent=1))
        return error.exit_code if error else 0
    print(f"{found.blobs} blobs, {format_bytes(found.size_bytes)}: {len(lines)} damaged")
    if error is not None:
        raise error
    return 0
