# SPDX-License-Identifier: Apache-2.0
"""The lab's commands: ``python -m lab upstream|node|demo|bench|clean``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import bench, cleanup, demo, kept, layers, upstream
from lab.errors import LabError
from lab.node import DISK_SIZE_BYTES, Lab, Node, require_iso
from lab.places import GATEWAY, checked_lab_name

CLI_LAB = "cli"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["upstream"]:
        return upstream.main(words[1:])
    own = words[: words.index("--")] if "--" in words else words
    try:
        arguments = _parser().parse_args(own)
        arguments.command = words[len(own) + 1 :]
        return int(arguments.do(arguments))
    except LabError as error:
        if "--debug" in own:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="The miniature upstream and the air-gapped nodes."
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    areas = parser.add_subparsers(required=True, metavar="upstream|node|demo|bench|layers|clean")
    areas.add_parser("upstream", help="the miniature upstream: up, down, status", add_help=False)
    nodes = areas.add_parser("node", help="nodes that stay until they are stopped").add_subparsers(
        required=True
    )

    start = nodes.add_parser("start", help="make and boot a node, or boot it again when it is down")
    start.add_argument("name", help="for example node1: the number makes the addresses")
    start.add_argument("--iso", type=Path, help="an ISO file that the node shall see")
    start.add_argument(
        "--lab", default=CLI_LAB, type=checked_lab_name, help="name of the lab (default: %(default)s)"
    )
    start.add_argument("--no-nameserver", action="store_true", help="leave the node's resolv.conf empty")
    start.add_argument(
        "--disk-gib", type=int, default=DISK_SIZE_BYTES >> 30, help="size of its (sparse) disk"
    )
    start.add_argument(
        "--bootstrapped",
        action="store_true",
        help="with a cluster of the ISO: from a kept disk, which the first time is made by a bootstrap",
    )
    start.set_defaults(do=_start)

    enter = nodes.add_parser("enter", help="a shell in a node, or the command after --")
    enter.add_argument("name")
    enter.add_argument("--lab", type=checked_lab_name, help="which lab, when several have such a node")
    enter.set_defaults(do=_enter)

    stop = nodes.add_parser("stop", help="stop and remove a node; with the last one its lab goes")
    stop.add_argument("name")
    stop.add_argument("--lab", type=checked_lab_name, help="which lab, when several have such a node")
    stop.set_defaults(do=_stop)

    listing = nodes.add_parser("list", help="all labs, their nodes and what tried to leave them")
    listing.set_defaults(do=_list)

    demo.add_arguments(areas.add_parser("demo", help="a node, the ISO, a cluster"))
    bench.add_arguments(areas.add_parser("bench", help="the installer beside kubeadm by hand"))

    layers.add_arguments(areas.add_parser("layers", help="containerd's layers, kept or discarded"))
    clean = areas.add_parser("clean", help="remove what dead runs left behind")
    clean.add_argument("--all", action="store_true", help="also the labs that were kept")
    clean.add_argument("--lab", type=checked_lab_name, help="only this lab, even if it was kept")
    clean.add_argument("--disks", action="store_true", help="also the kept disks of bootstrapped nodes")
    clean.set_defaults(do=_clean)
    return parser


def _start(arguments: argparse.Namespace) -> int:
    name = arguments.name
    if arguments.bootstrapped and arguments.iso is None:
        raise LabError("a bootstrapped node needs an ISO", resolution="name it with --iso")
    if arguments.bootstrapped and arguments.disk_gib != DISK_SIZE_BYTES >> 30:
        raise LabError("the size of a kept disk is not to be chosen", resolution="leave --disk-gib out")
    if arguments.iso is not None:
        require_iso(arguments.iso)  # before there is a lab, which would be kept without a node
    if cleanup.is_in_use(arguments.lab):
        lab = Lab.attached(arguments.lab)
    else:
        lab = Lab(arguments.lab)
        lab.open()
        lab.keep()
    node = lab.nodes.get(name)
    if node is not None and node.record.boots == 0:  # its making was interrupted
        node.remove()
        del lab.nodes[name]
        node = None
    if node is None:
        try:
            node = _make(lab, arguments)
        except KeyboardInterrupt:
            _remove(Node(arguments.lab, name))
            raise
    elif node.is_up:
        print(f"{name} runs already")
        return 0
    else:
        node.boot()
    print(
        f"{name} is up after {node.boot_s:.1f} s: {node.control_plane_address}, {node.workload_plane_address}"
    )
    print(f"enter it with: .venv/bin/python -m lab node enter {name}")
    return 0


def _make(lab: Lab, arguments: argparse.Namespace) -> Node:
    nameserver = None if arguments.no_nameserver else GATEWAY
    if not arguments.bootstrapped:
        size_bytes = arguments.disk_gib << 30
        return lab.start_node(
            arguments.name, iso=arguments.iso, nameserver=nameserver, disk_size_bytes=size_bytes
        )
    return kept.start_bootstrapped_node(
        lab, arguments.name, iso=arguments.iso, nameserver=nameserver, say=print
    )


def _enter(arguments: argparse.Namespace) -> int:
    _find(arguments.name, arguments.lab).enter(arguments.command)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    _remove(_find(arguments.name, arguments.lab))
    return 0


def _remove(node: Node) -> None:
    """Remove a node and, with the last one, its lab, whoever made it: the user asked for it by name."""
    lab = node.places.lab
    node.remove()
    if not cleanup.read_nodes(lab):
        Lab.attached(lab).remove()


def _list(_arguments: argparse.Namespace) -> int:
    for name in cleanup.labs():
        print(cleanup.describe(name))
        lab = Lab.attached(name)
        for node in lab.nodes.values():
            state = "up" if node.is_up else "down"
            print(
                f"  {node.name:10} {state:5} {node.control_plane_address:14} {node.workload_plane_address:14}"
            )
        if cleanup.is_in_use(name) and lab.nodes:
            counts = lab.switch.counts()
            print(f"  tried to leave: {counts.packets} packets, {counts.dns_queries} questions for names")
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    removed = cleanup.sweep(kept=arguments.all or arguments.lab is not None, only=arguments.lab)
    print(f"removed: {', '.join(removed) or 'nothing'}")
    for name in cleanup.labs():
        if arguments.lab in (None, name):
            print(f"left alone: {cleanup.describe(name)}")
    if arguments.disks:
        print(f"removed: {kept.drop_disks()} disks of bootstrapped nodes")
    if disks := kept.kept_disks():
        print(
            f"kept: {len(disks)} disks of bootstrapped nodes, {kept.size_bytes() / 1e9:.1f} GB; "
            "remove them with '.venv/bin/python -m lab clean --disks'"
        )
    return 0


def _find(name: str, lab: str | None) -> Node:
    found = [
        Node(one, record.name)
        for one in cleanup.labs()
        for record in cleanup.read_nodes(one)
        if record.name == name and lab in (None, one)
    ]
    if len(found) == 1:
        return found[0]
    where = ", ".join(node.places.lab for node in found)
    raise LabError(
        f"there are {len(found)} nodes called {name!r}" if found else f"there is no node {name!r}",
        details=f"in the labs {where}" if found else "",
        resolution="say which one with --lab" if found else "see '.venv/bin/python -m lab node list'",
    )


if __name__ == "__main__":
    sys.exit(main())
