# SPDX-License-Identifier: Apache-2.0
"""``caisson node add`` and ``caisson node check``: look at hosts, and make them nodes.

All are looked at before the first is touched. The options that name a host, and the reading of them, are those of
every command that is about other hosts.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, LoginError, UsageError
from installer.base.paths import Paths
from installer.base.terminal import Remembering, Terminal
from installer.base.ui import format_table
from installer.cli import jobs
from installer.cli.common import Arguments, add_common, handle_signals, need_root, say
from installer.config import bootstrap as config
from installer.config import nodes
from installer.config.nodes import NodeList, Role
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine.jobrecord import Request
from installer.operations import (
    adding,
    cluster_state,
    etcd_gate,
    etcd_leave,
    host_results,
    leaving,
    node_add,
    node_remove,
    own_state,
    probe,
    removing,
)

KEYS: Mapping[str, str] = {
    key: option.lstrip("-").replace("-", "_").lower() for key, option in nodes.OPTIONS.items()
}
"""Key of an entry in nodes.yaml -> where argparse puts the option that says the same."""
LOGIN_OPTIONS = {"--user": "USER", "--port": "PORT", "--identity": "FILE", "--host-key": "SHA256:.."}
"""The options of them that say how to log in."""
KEYS_OF_LOGIN = {option: key for key, option in nodes.OPTIONS.items() if option in LOGIN_OPTIONS}


def add_commands(commands: Any) -> None:
    """Add the commands."""
    node = commands.add_parser(
        "node", help="add other hosts to the cluster, or see whether they can be added"
    )
    actions = node.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make hosts nodes of the cluster, over SSH")
    add_host_options(add)
    add.add_argument(
        "--replica",
        action="store_true",
        help="control planes among them serve packages and images too, as by 'caisson media replicate'",
    )
    add_common(add, has_config=False)
    add.set_defaults(handler=_add)
    remove = actions.add_parser("remove", help="take a node out of the cluster, and reset its host over SSH")
    _add_remove_options(remove)
    add_common(remove, has_config=False)
    remove.set_defaults(handler=_remove)
    check = actions.add_parser(
        "check", help="look at hosts over SSH, and at what is between them; change nothing there"
    )
    add_host_options(check)
    add_common(check, has_config=False)
    check.set_defaults(handler=_check)


def _add_remove_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the node, as 'kubectl get nodes' shows it")
    parser.add_argument(
        "--dead", action="store_true", help="its host is gone: do all but what needs the host"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also when pods without a controller end, or data stays on its disk",
    )
    parser.add_argument(
        "--drain-timeout",
        type=_seconds,
        metavar="SECONDS",
        default=leaving.DRAIN_TIMEOUT_S,
        help=f"how long its pods may take to move away (default: {leaving.DRAIN_TIMEOUT_S})",
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="where its SSH server listens (default: the node's address)"
    )
    for option, value in LOGIN_OPTIONS.items():
        parser.add_argument(option, metavar=value, help="as with 'node add'")


def _seconds(text: str) -> int:
    """Read a time limit: kubectl's 0, no limit at all, is none."""
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 999999")
    return int(text)


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Add what names one host, or a file with many."""
    parser.add_argument("host", metavar="HOST", nargs="?", help="its IPv4 address")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="a list of hosts, in place of HOST and the options for it"
    )
    for option, value, meaning in (
        ("--role", "ROLE", "what it becomes: worker or control-plane (default: worker)"),
        ("--name", "NAME", "the node's name (default: the host's own)"),
        ("--user", "USER", f"who logs in: root, or who becomes root by sudo (default: {nodes.DEFAULT_USER})"),
        ("--port", "PORT", f"the port of its SSH server (default: {nodes.DEFAULT_PORT})"),
        ("--identity", "FILE", "the private key that logs in (default: a password is asked for)"),
        ("--host-key", "SHA256:..", "the fingerprint of its key (default: it is shown, to be confirmed)"),
        ("--labels", "KEY=VALUE,..", "labels of the node"),
        ("--taints", "KEY=VALUE:EFFECT,..", "taints of the node"),
    ):
        parser.add_argument(option, metavar=value, help=meaning)


def read_hosts(arguments: Arguments, *, loaded: config.Config, control_planes: int) -> NodeList:
    """Return the hosts that are meant; nobody was asked anything yet.

    Raises:
        UsageError: neither a host nor a file is named, or both.
        ConfigError: what is said of them has faults; all of them are in ``details``.
    """
    given = {key: getattr(arguments, name) for key, name in KEYS.items()}
    named = [nodes.OPTIONS[key] for key, value in given.items() if value is not None]
    if arguments.file is None and given["address"] is None:
        raise UsageError("no host is named", resolution="give HOST, its IPv4 address, or --file FILE")
    if arguments.file is None:
        return nodes.from_options(_typed(given), config=loaded, control_planes=control_planes)
    if named:
        raise UsageError(
            f"--file and {', '.join(named)} exclude each other",
            details="the file says all of its hosts",
            resolution=f"write it into {arguments.file}, or leave --file out",
        )
    return nodes.load(arguments.file, config=loaded, control_planes=control_planes)


def _typed(given: Mapping[str, str | None]) -> dict[str, Any]:
    """Return options as they would stand in the file: a number, and a path that is absolute."""
    typed: dict[str, Any] = dict(given)
    if re.fullmatch("[0-9]{1,9}", given["port"] or ""):
        typed["port"] = int(given["port"] or "")
    if given["identity"]:
        typed["identity"] = str(Path(given["identity"]).absolute())
    return typed


# ---- the commands ----------------------------------------------------------------------------------------


def _add(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    """Ask for the job; what only somebody at the terminal can say, the keys and the passwords, is asked before."""
    need_root()
    own_state.refuse_here(paths, "nodes are added")
    loaded = config.load(paths.config_file)
    members = cluster_state.get_members(paths.admin_kubeconfig_file)
    control_planes = sum(member.is_control_plane for member in members)
    hosts = read_hosts(arguments, loaded=loaded, control_planes=control_planes)
    if arguments.replica and not any(entry.role is Role.CONTROL_PLANE for entry in hosts.nodes):
        raise UsageError(
            "--replica is of control planes, and none is to be added",
            resolution="give --role control-plane, or leave --replica out",
        )
    for note in hosts.notes:
        say(f"note: {note}")
    terminal = Remembering(Terminal())
    say(f"the connections to {_count(len(hosts.nodes))}")
    with probe.connections(hosts.nodes, paths=paths, terminal=terminal) as connected:
        errors = {title: found for title, found in connected.items() if isinstance(found, InstallerError)}
    if len(errors) == len(hosts.nodes):
        raise _unreached(hosts, errors)
    for title, error in errors.items():  # at once: the job tells it when all others have ended
        say(f"{title}: {error.code()} {error}")
        if isinstance(error, LoginError):
            terminal.forget(f" on {title}: ")
    data = [nodes.to_data(entry) for entry in hosts.nodes]
    wanted = {"nodes": data, **({"replica": True} if arguments.replica else {})}
    request = Request(node_add.NAME, wanted, _command(arguments))
    return jobs.ask_and_follow(arguments, request, tree_dir, paths, secrets=terminal.secrets)


def _unreached(hosts: NodeList, errors: Mapping[str, InstallerError]) -> InstallerError:
    """Return the error of hosts none of which is reached; of several, one table tells why, as it does of a job."""
    if len(hosts.nodes) > 1:
        rows = [host_results.of_error(entry, errors[entry.title]) for entry in hosts.nodes]
        for line in format_table(host_results.table(rows)):
            say(line)
    return adding.failure(errors, len(hosts.nodes))


def _remove(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    """Ask for the job that removes a node; who logs in to its host is asked before, as for an addition."""
    need_root()
    own_state.refuse_here(paths, "nodes are removed")
    loaded = config.load(paths.config_file)
    etcd_leave.refuse_without_quorum(paths, _etcd_port(tree_dir))
    cluster_state.get_members(paths.admin_kubeconfig_file)  # says when this is no bootstrap node
    name = str(arguments.name)
    address = arguments.address or removing.address_of(paths, name)
    removing.refuse(paths, name, is_dead=arguments.dead, is_forced=arguments.force)
    given = {**login_of(arguments), "address": address, "name": name}
    (entry,) = nodes.from_options(given, config=loaded).nodes
    terminal = Remembering(Terminal())
    if not arguments.dead:
        say(f"the connection to {entry.title}")
        with probe.connections([entry], paths=paths, terminal=terminal) as connected:
            leaving.refuse_other_host(leaving.Leaving(entry, connected[entry.title]).host, name)
    said = {"host": nodes.to_data(entry), "dead": arguments.dead, "force": arguments.force}
    said["drain_timeout_s"] = arguments.drain_timeout
    command = _typed_again(arguments)
    return jobs.ask_and_follow(
        arguments, Request(node_remove.NAME, said, command), tree_dir, paths, secrets=terminal.secrets
    )


def _etcd_port(tree_dir: Path) -> int:
    return next(port.port for port in read_ports(tree_dir / PORTS_FILE) if port.name == etcd_gate.CLIENT_PORT)


def _typed_again(arguments: Arguments) -> tuple[str, ...]:
    words = [str(arguments.program), "node", "remove", str(arguments.name)]
    words += ["--dead"] if arguments.dead else []
    words += ["--force"] if arguments.force else []
    if arguments.drain_timeout != leaving.DRAIN_TIMEOUT_S:
        words += ["--drain-timeout", str(arguments.drain_timeout)]
    return (*words, *login_words(arguments))


def login_of(arguments: Arguments) -> dict[str, Any]:
    """Return how to log in, as it would stand in nodes.yaml."""
    given = {
        KEYS_OF_LOGIN[option]: getattr(arguments, option.lstrip("-").replace("-", "_"))
        for option in LOGIN_OPTIONS
    }
    return _typed(given)


def login_words(arguments: Arguments) -> list[str]:
    """Return what was typed of how to log in, to be typed again."""
    words = []
    for option in ("--address", *LOGIN_OPTIONS):
        value = getattr(arguments, option.lstrip("-").replace("-", "_"))
        words += [option, _typed_file(option, value)] if value is not None else []
    return words


def _typed_file(option: str, value: object) -> str:
    """Return what was typed, so that it means the same in every directory."""
    return str(Path(str(value)).absolute()) if option == "--identity" else str(value)


def _command(arguments: Arguments) -> tuple[str, ...]:
    """Return what was typed, to be typed again."""
    words = [str(arguments.program), "node", "add"]
    words += [arguments.host] if arguments.host else ["--file", str(Path(arguments.file).absolute())]
    for key, option in nodes.OPTIONS.items():
        value = getattr(arguments, KEYS[key])
        if key != "address" and value is not None:
            words += [option, _typed_file(option, value)]
    words += ["--replica"] if arguments.replica else []
    return tuple(words)


def _check(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    own_state.refuse_here(paths, "other hosts are looked at")
    handle_signals()
    loaded = config.load(paths.config_file)
    members = cluster_state.get_members(paths.admin_kubeconfig_file)
    control_planes = sum(member.is_control_plane for member in members)
    hosts = read_hosts(arguments, loaded=loaded, control_planes=control_planes)
    for note in hosts.notes:
        say(f"note: {note}")
    material = probe.gather_material(tree_dir, loaded, members)
    started = time.monotonic()
    say(f"the connections to {_count(len(hosts.nodes))}")
    with probe.connections(hosts.nodes, paths=paths, terminal=Terminal()) as connected:
        found = probe.probe(hosts.nodes, connected, material, say=say, paths=paths)
    _show(arguments, found, time.monotonic() - started)
    return found.exit_code


def _show(arguments: Arguments, found: probe.Probe, took_s: float) -> None:
    if arguments.json:
        print(json.dumps(found.to_json(), indent=1))
        return
    for line in format_table(found.table()):
        print(line)
    titles = [host.title for host in found.fleet.hosts if not host.is_member]
    unfit = [title for title in titles if not found.is_fit(title)]
    said = (
        f"not fit: {', '.join(unfit)}"
        if unfit
        else "fit to become " + ("a node" if len(titles) == 1 else "nodes")
    )
    print(f"{_count(len(titles))} in {took_s:.0f} s: {said}; nothing was changed there")


def _count(number: int) -> str:
    return "1 host" if number == 1 else f"{number} hosts"
