# SPDX-License-Identifier: Apache-2.0
"""``caisson console``: let somebody in to the console by a code, and keep its users. No password exists."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from installer.base.errors import ClusterError, UsageError
from installer.base.files import read_file
from installer.base.paths import Paths
from installer.base.ui import format_table
from installer.cli.common import Arguments, add_common, need_root, say
from installer.operations import console
from installer.operations.door import audit, codes, users
from installer.operations.door.audit import Line

FORMAT = 1
DEFAULT_ROLE = "admin"
UNITS = {"m": 60, "h": 3600, "d": 86_400}
LOGIN_FILE = Path("/proc/self/loginuid")
NOBODY = 2**32 - 1
"""The login of a process that nobody has logged in for. Source: proc(5), loginuid."""


def add_command(commands: Any) -> None:
    """Add the commands."""
    parser = commands.add_parser("console", help="let somebody in to the console, and keep its users")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    login = actions.add_parser("login", help="make a code for one log-in, within five minutes")
    login.add_argument("--as", dest="user", metavar="NAME", help="who logs in (default: who you are)")
    login.add_argument(
        "--role",
        choices=users.ROLES,
        help=f"what a new user may do (default: {DEFAULT_ROLE})",
    )
    login.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=_seconds,
        default=users.DEFAULT_SECONDS,
        help="how long the session may last, as 30m, 8h or 2d (default: 8h)",
    )
    add_common(login, has_config=False)
    login.set_defaults(handler=_login)

    user = actions.add_parser("user", help="keep the users of the console")
    verbs = user.add_subparsers(dest="verb", metavar="VERB", required=True)
    add = verbs.add_parser("add", help="add a user, or give one another role")
    add.add_argument("name", metavar="NAME", help="small letters, digits and '-'")
    add.add_argument("--role", choices=users.ROLES, required=True, help="what the user may do")
    add_common(add, has_config=False)
    add.set_defaults(handler=_add)
    listing = verbs.add_parser("list", help="show the users and their roles")
    add_common(listing, has_config=False)
    listing.set_defaults(handler=_list)
    remove = verbs.add_parser("remove", help="remove a user; its sessions end within a minute")
    remove.add_argument("name", metavar="NAME", help="as 'caisson console user list' shows it")
    add_common(remove, has_config=False)
    remove.set_defaults(handler=_remove)


def _seconds(text: str) -> int:
    """Read a time like 8h."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not users.LEAST_SECONDS <= seconds <= users.MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no time from 10m to 7d, like 30m, 8h or 2d")
    return seconds


# ---- the commands --------------------------------------------------------------------------------------------


def _login(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    found = console.find(paths, tree_dir)
    name = users.check_name(arguments.user) if arguments.user else users.check_name(_name_of(_who()))
    role, has_api = _role(arguments, paths, name)
    with audit.opened(paths) as output:
        code = codes.make(paths, name, role, arguments.seconds, maker=_who())
        given = {"user": name, "role": role, "seconds": arguments.seconds}
        audit.write(output, Line("login", who=_who(), arguments=given))
    if arguments.json:
        shown = {"url": f"{found.url}/login", "code": code, "user": name, "role": role, "api": has_api}
        more = {"code_seconds": int(codes.CODE_LIFE_S), "session_seconds": arguments.seconds}
        print(json.dumps({"format": FORMAT, **shown, **more, "fingerprint": found.fingerprint}, indent=1))
        return 0
    rows = [
        ("open", f"{found.url}/login"),
        ("code", code),
        ("for", f"{name}, {role}; one log-in, within {codes.CODE_LIFE_S / 60:.0f} minutes"),
        ("certificate", f"SHA-256 {found.fingerprint}"),
    ]
    print("\n".join(format_table(rows)))
    return 0


def _role(arguments: Arguments, paths: Paths, name: str) -> tuple[str, bool]:
    """Return the role with which somebody logs in, and whether the API could be asked; a new user is made.

    Raises:
        UsageError: the user has another role than the one that was given.
        HostError: there is no control plane on this host.
    """
    read_file(
        paths.admin_kubeconfig_file,
        "the administrator's kubeconfig",
        resolution="start this on a control-plane node",
    )
    try:
        role = users.role_of(paths, name)
        if role and arguments.role and role != arguments.role:
            raise UsageError(
                f"the user '{name}' is there already, as {role}",
                resolution=f"leave --role out, or change it: caisson console user add {name} --role {arguments.role}",
            )
        if not role:
            role = arguments.role or DEFAULT_ROLE
            users.ensure(paths, name, role)
    except ClusterError as exc:
        say(f"note: {exc.message}: {exc.details}")
        say("note: as long as that is so, whoever logs in may look, and make a report")
        return arguments.role or DEFAULT_ROLE, False
    return role, True


def _add(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    console.find(paths, tree_dir)
    name = users.check_name(arguments.name)
    with audit.opened(paths) as output:
        has_changed = users.ensure(paths, name, arguments.role)
        audit.write(output, Line("user add", who=_who(), arguments={"user": name, "role": arguments.role}))
    if arguments.json:
        shown = {"user": name, "role": arguments.role, "changed": has_changed}
        print(json.dumps({"format": FORMAT, **shown}, indent=1))
    else:
        print(f"{name}: {arguments.role}{'' if has_changed else ', as before'}")
    return 0


def _list(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    console.find(paths, tree_dir)
    found = users.listed(paths)
    if arguments.json:
        print(json.dumps({"format": FORMAT, "users": [asdict(user) for user in found]}, indent=1))
        return 0
    rows = [(user.name, user.role or "none", user.created or "-") for user in found]
    if not rows:
        print("nobody has logged in yet, and no user was added")
        return 0
    print("\n".join(format_table([("NAME", "ROLE", "ADDED"), *rows])))
    return 0


def _remove(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    console.find(paths, tree_dir)
    name = str(arguments.name)
    with audit.opened(paths) as output:
        codes.forget(paths, name)
        users.remove(paths, name)
        audit.write(output, Line("user remove", who=_who(), arguments={"user": name}))
    if arguments.json:
        print(json.dumps({"format": FORMAT, "user": name, "changed": True}, indent=1))
    else:
        print(f"{name}: removed, and its tokens with it")
    return 0


# ---- who sits there ------------------------------------------------------------------------------------------


def _who() -> str:
    """Return who has logged in to this host: root, by sudo, is somebody."""
    name = os.environ.get("SUDO_USER", "")
    try:
        number = int(LOGIN_FILE.read_text(encoding="ascii"))
        name = pwd.getpwuid(number).pw_name if number != NOBODY else name
    except (OSError, ValueError, KeyError):
        pass
    return name or "root"


def _name_of(login: str) -> str:
    """Return the name of a login as one of Kubernetes.

    >>> _name_of("Anna.Muster@example.com"), _name_of("__")
    ('anna-muster', 'root')
    """
    return re.sub(r"[^a-z0-9]+", "-", login.partition("@")[0].lower()).strip("-")[:63].strip("-") or "root"
