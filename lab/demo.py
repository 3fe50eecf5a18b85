# SPDX-License-Identifier: Apache-2.0
"""Show the main job: an air-gapped node, the ISO, ``bootstrap.sh``, a cluster; and count what would have left it.

With more than one node it goes on: bare hosts, and one ``caisson node add`` that makes them nodes of the cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lab import hosts
from lab.errors import LabError
from lab.node import Lab, Node, require_iso
from lab.progress import step

BOOTSTRAP_TIMEOUT_S = 900.0
ADD_TIMEOUT_S = 1800.0
STATUS_TIMEOUT_S = 120.0
OBSERVED_S = 60
#: How the pods begin that are started again on purpose while nodes are added.
MEANT = ("kube-proxy-",)
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m lab demo``."""
    parser.add_argument("--iso", type=Path, required=True, help="the lab bundle to install")
    parser.add_argument("--keep", action="store_true", help="leave the node up")
    parser.add_argument(
        "--observe", type=int, default=OBSERVED_S, metavar="SECONDS", help="default: %(default)s"
    )
    parser.add_argument(
        "--nodes",
        default="1",
        metavar="N",
        help="of how many nodes: 2 has a worker; 3 three control planes; 4 and 5 workers besides",
    )
    parser.set_defaults(do=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 only if the nodes are Ready, nothing restarted and nothing tried to leave.

    Raises:
        LabError: there cannot be so many nodes, one did not boot, the counter is blind, or a command failed.
    """
    count = hosts.checked_count(arguments.nodes)
    require_iso(arguments.iso)
    with Lab() as lab:
        node = _first_node(lab, arguments.iso, count)
        _bootstrap(node)
        if count > 1:
            _grow(lab, node, hosts.further(count))
        _observe(lab, node, arguments.observe)
        if arguments.keep:
            lab.keep()
        for line in what_next(lab.name, list(lab.nodes), is_kept=arguments.keep):
            _say(line)
    return 0


def _first_node(lab: Lab, iso: Path, count: int) -> Node:
    """Boot the node that is bootstrapped, and make sure that the switch counts."""
    _say("booting an air-gapped node")
    with _told(hosts.FIRST, count):
        node = lab.start_node(hosts.FIRST, iso=iso)
    proof = lab.switch.probe(node)
    _say(
        f"the switch sees what would leave: {proof.packets} packets and {proof.dns_queries} queries of a probe"
    )
    lab.switch.reset()
    return node


def _bootstrap(node: Node) -> None:
    command = node.prepare_bootstrap()
    _run(node, command, timeout_s=BOOTSTRAP_TIMEOUT_S, name="bootstrap.sh")


def _grow(lab: Lab, node: Node, roles: Mapping[str, str]) -> None:
    """Start bare hosts, and add them all by one list."""
    public_key, entries = hosts.make_identity(node), []
    for name, role in roles.items():
        with step(f"a bare host that is to become {name}, {role}"):
            entries.append(hosts.admit(lab.start_node(name), role, public_key))
    text = hosts.write_list(node, entries)
    _say(f"{hosts.LIST_FILE} on {node.name}, with the key of each host as its own console shows it:")
    _print(text)
    _run(node, hosts.ADD_COMMAND, timeout_s=ADD_TIMEOUT_S, name="caisson node add")


def _run(node: Node, command: Sequence[str], *, timeout_s: float, name: str) -> None:
    """Run a command and show what it says as it says it."""
    _say(" ".join(command))
    started = time.monotonic()
    returncode = node.stream(command, _print, timeout_s=timeout_s)
    if returncode != 0:
        raise LabError(
            f"{name} exited with {returncode}",
            details="its output stands above",
            resolution="do what its last lines say, then start the demo again",
        )
    _say(f"{name} took {time.monotonic() - started:.0f} s")


def _observe(lab: Lab, node: Node, seconds: float) -> None:
    """Let some time go by, show nodes and pods, and say what left the nodes and what restarted meanwhile.

    Raises:
        LabError: a packet, a query or a restart; or a node is not Ready at the end.
    """
    _say(f"watching for {seconds} s")
    before, count = _restarts(node), len(lab.nodes)
    with _told("watch", count):
        time.sleep(seconds)
    after = _restarts(node)
    _show(node, count)
    counts = lab.switch.counts()
    whom = "the node since its boot" if count == 1 else f"the {count} nodes since their boot"
    _say(f"left {whom}: {counts.packets} packets, {counts.dns_queries} DNS queries")
    _say(f"pods {len(after)}, restarts {sum(after.values())}{_why_restarted(after) if count > 1 else ''}")
    if counts.packets or counts.dns_queries:
        raise LabError("packets or queries tried to leave the node", details=str(counts))
    if before != after or unmeant_restarts(after, count):
        raise LabError("pods restarted", details=f"before: {before}\nafter: {after}")
    if unready := unready_nodes(
        json.loads(_kubectl(node, "get", "nodes", "--output", "json")), list(lab.nodes)
    ):
        raise LabError("nodes are not Ready", details="\n".join(unready))


def unready_nodes(answer: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return which of the nodes are not Ready, or not there, as the API answers."""
    ready = [
        entry["metadata"]["name"]
        for entry in answer["items"]
        if any(one["type"] == "Ready" and one["status"] == "True" for one in entry["status"]["conditions"])
    ]
    return [name for name in names if name not in ready]


def unmeant_restarts(after: Mapping[str, int], count: int) -> dict[str, int]:
    """Return the pods that restarted, but for those that ``node add`` starts again.

    It lets kube-proxy read the names of the control planes anew when one more has joined.
    """
    meant = MEANT if count > 1 else ()
    return {name: restarts for name, restarts in after.items() if restarts and not name.startswith(meant)}


def _why_restarted(after: Mapping[str, int]) -> str:
    meant = sum(restarts for name, restarts in after.items() if name.startswith(MEANT))
    return (
        f", {meant} of them kube-proxy's, meant: it finds each control plane that has joined" if meant else ""
    )


def _show(node: Node, count: int) -> None:
    """Show nodes and pods; of several nodes how each is, too, in the words of the product."""
    if count == 1:
        _print(_kubectl(node, "get", "nodes,pods", "--all-namespaces", "--output", "wide"))
        return
    _print(node.run(["caisson", "status"], check=False, timeout_s=STATUS_TIMEOUT_S).stdout)
    _print(_kubectl(node, "get", "pods", "--all-namespaces", "--output", "wide"))
    _print(_kubectl(node, "get", "nodes"))


def _kubectl(node: Node, *words: str) -> str:
    return node.run([*KUBECTL, *words], timeout_s=60).stdout


def what_next(lab: str, names: Sequence[str], *, is_kept: bool) -> list[str]:
    """Return the lines that end a demo: how to look further."""
    python = ".venv/bin/python -m lab"
    if len(names) == 1:
        return [
            f"the node stays; enter it:   {python} node enter {names[0]} --lab {lab}",
            f"                 remove it: {python} node stop {names[0]} --lab {lab}",
        ][: 2 * is_kept]
    if not is_kept:
        return [
            "all of it goes now; to look further: the same with --keep, or docs/tutorials/grow-it.md by hand"
        ]
    return [
        f"the nodes stay; enter one:     {python} node enter {names[0]} --lab {lab}",
        f"                ask kubectl:   {python} node enter {names[0]} --lab {lab} -- {' '.join(KUBECTL)} get pods -A",
        f"                switch it off: {python} node enter {names[-1]} --lab {lab} -- systemctl poweroff",
        f"                and on again:  {python} node start {names[-1]} --lab {lab}",
        f"                remove all:    {python} clean --lab {lab}",
    ]


def _restarts(node: Node) -> dict[str, int]:
    """Return pod name -> restarts of all its containers."""
    answer = _kubectl(node, "get", "pods", "--all-namespaces", "--output", "json")
    return {
        pod["metadata"]["name"]: sum(
            entry["restartCount"] for entry in pod["status"].get("containerStatuses", [])
        )
        for pod in json.loads(answer)["items"]
    }


def _told(label: str, count: int) -> AbstractContextManager[None]:
    """Tell from time to time that something is still done, in a demo of several nodes, which is a long one."""
    return step(label) if count > 1 else nullcontext()


def _print(line: str) -> None:
    print(line, flush=True)


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
