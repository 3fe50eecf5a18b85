# SPDX-License-Identifier: Apache-2.0
"""``caisson vip``: give the control plane a virtual address, and move it for planned work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

from installer.base import files
from installer.base.paths import Paths
from installer.cli import bootstrap, jobs
from installer.cli.common import Arguments, add_common, need_root, say
from installer.config import bootstrap as config
from installer.config import facts
from installer.config.ports import PORTS_FILE, read_ports
from installer.config.vip import with_vip
from installer.engine import lock
from installer.engine.jobrecord import Request
from installer.media import product
from installer.operations import vip_away, vip_set


def add_command(commands: Any) -> None:
    """Add the command."""
    vip = commands.add_parser(
        "vip", help="give the control plane a virtual address, and move it for planned work"
    )
    actions = vip.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("set", help="give the control plane an address, or another one")
    new.add_argument("address", metavar="ADDRESS", help="a free IPv4 address in the control plane's network")
    add_common(new, has_config=False)
    new.set_defaults(handler=_set)
    away = actions.add_parser("away", help="let another control plane have it, until 'back' or a reboot")
    add_common(away, has_config=False)
    away.set_defaults(handler=_away)
    back = actions.add_parser("back", help="let this node have it again, when it is free")
    add_common(back, has_config=False)
    back.set_defaults(handler=_back)


def _set(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    """Write the address into bootstrap.yaml, then let a job bootstrap this node again, which applies it."""
    need_root()
    found = product.load(tree_dir)
    text = with_vip(config.load(paths.config_file).text, arguments.address, file=paths.config_file)
    loaded = config.parse(
        text, file=paths.config_file, host_addresses=[one.address for one in facts.read_addresses()]
    )
    vip_set.refuse(paths, arguments.address, facts.gather(loaded, facts.read_addresses()))
    words = ["bootstrap", "--config", str(paths.config_file)]
    words += ["--accept-lab-bundle"] if found.is_lab else []  # the host was installed from one
    with lock.hold(paths.lock_file):
        files.write_file(paths.config_file, text, mode=0o600, dir_mode=0o700)
    return jobs.ask_and_follow(
        arguments, Request(bootstrap.NAME, {}, (str(arguments.program), *words)), tree_dir, paths
    )


def _away(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    has_moved = vip_away.send_away(paths, ports["kube-apiserver"], say=_once())
    text = (
        "the virtual address has moved to another node" if has_moved else "the virtual address was not here"
    )
    _tell(arguments, changed=has_moved, text=f"{text}; this node does not take it before 'caisson vip back'")
    return 0


def _back(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    has_changed = vip_away.take_back(paths)
    text = "this node takes the virtual address again when nobody has it"
    _tell(arguments, changed=has_changed, text=text if has_changed else f"nothing to do: {text}")
    return 0


def _tell(arguments: Arguments, *, changed: bool, text: str) -> None:
    print(json.dumps({"format": 1, "changed": changed}) if arguments.json else text)


def _once() -> Callable[[str], None]:
    """Return what says a line unless it was the last one said."""
    said: list[str] = []

    def tell(line: str) -> None:
        if said[-1:] != [line]:
            said.append(line)
            say(f"waiting for {line}")

    return tell
