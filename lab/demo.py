# SPDX-License-Identifier: Apache-2.0
"""Show the main job: an air-gapped node, the ISO, ``bootstrap.sh``, a cluster; and count what would have left it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.node import Lab, Node

BOOTSTRAP_TIMEOUT_S = 900.0
OBSERVED_S = 60
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m lab demo``."""
    parser.add_argument("--iso", type=Path, required=True, help="the lab bundle to install")
    parser.add_argument("--keep", action="store_true", help="leave the node up")
    parser.add_argument(
        "--observe", type=int, default=OBSERVED_S, metavar="SECONDS", help="default: %(default)s"
    )
    parser.set_defaults(do=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 only if the node is Ready, nothing restarted and nothing tried to leave.

    Raises:
        LabError: the node did not boot, the counter is blind, or the bootstrap failed.
    """
    with Lab() as lab:
        _say("booting an air-gapped node")
        node = lab.start_node("node1", iso=arguments.iso)
        proof = lab.switch.probe(node)
        _say(
            f"the switch sees what would leave: {proof.packets} packets and {proof.dns_queries} queries of a probe"
        )
        lab.switch.reset()
        _bootstrap(node)
        _say(f"watching for {arguments.observe} s")
        before = _restarts(node)
        time.sleep(arguments.observe)
        after = _restarts(node)
        print(
            node.run(
                [*KUBECTL, "get", "nodes,pods", "--all-namespaces", "--output", "wide"], timeout_s=60
            ).stdout
        )
        counts = lab.switch.counts()
        _say(f"left the node since its boot: {counts.packets} packets, {counts.dns_queries} DNS queries")
        restarted = {name: count for name, count in after.items() if count}
        _say(f"pods {len(after)}, restarts {sum(restarted.values())}")
        if counts.packets or counts.dns_queries:
            raise LabError("packets or queries tried to leave the node", details=str(counts))
        if restarted or before != after:
            raise LabError("pods restarted", details=f"before: {before}\nafter: {after}")
        if arguments.keep:
            lab.keep()
            _say(f"the node stays; enter it:   .venv/bin/python -m lab node enter node1 --lab {lab.name}")
            _say(f"                 remove it: .venv/bin/python -m lab node stop node1 --lab {lab.name}")
    return 0


def _bootstrap(node: Node) -> None:
    command = node.prepare_bootstrap()
    _say(" ".join(command))
    started = time.monotonic()
    returncode = node.stream(command, print, timeout_s=BOOTSTRAP_TIMEOUT_S)
    if returncode != 0:
        raise LabError(f"bootstrap.sh exited with {returncode}", details="its output stands above")
    _say(f"bootstrap.sh took {time.monotonic() - started:.0f} s")


def _restarts(node: Node) -> dict[str, int]:
    """Return pod name -> restarts of all its containers."""
    answer = node.run([*KUBECTL, "get", "pods", "--all-namespaces", "--output", "json"], timeout_s=60).stdout
    return {
        pod["metadata"]["name"]: sum(
            entry["restartCount"] for entry in pod["status"].get("containerStatuses", [])
        )
        for pod in json.loads(answer)["items"]
    }


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
