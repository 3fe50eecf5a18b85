# SPDX-License-Identifier: Apache-2.0
"""Bare hosts for a cluster to grow by, and the one ``nodes.yaml`` that names them.

public_key = make_identity(driver)          # a node with a cluster
entries = [admit(lab.start_node(name), role, public_key) for name, role in further(3).items()]
write_list(driver, entries)
driver.stream(ADD_COMMAND, print)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lab.errors import LabError
from lab.node import Node

FIRST = "node1"
MOST_NODES = 5
MOST_CONTROL_PLANES = 3
#: As nodes.yaml has them.
CONTROL_PLANE, WORKER = "control-plane", "worker"
IDENTITY_FILE = "/root/id"
LIST_FILE = "/root/nodes.yaml"
ADD_COMMAND: Sequence[str] = ("caisson", "node", "add", "--file", LIST_FILE)


def checked_count(text: str) -> int:
    """Return how many nodes a cluster of the lab shall have, of what somebody typed.

    Raises:
        LabError: it is no number, or one that there are no roles for.
    """
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_NODES:
        return int(text)
    raise LabError(
        f"a cluster of the lab cannot have {text!r} nodes",
        details="2: a worker beside the first node; 3: three control planes; 4 and 5: three, and one or two workers",
        resolution=f"give a number from 1 to {MOST_NODES}: --nodes 3",
    )


def further(count: int) -> dict[str, str]:
    """Return name -> role of the nodes that a cluster of so many has beside its first.

    From three on it has three control planes, which survive the loss of one; two of them would survive none.

    >>> further(2)
    {'node2': 'worker'}
    >>> further(4)
    {'node2': 'control-plane', 'node3': 'control-plane', 'node4': 'worker'}
    """
    control_planes = MOST_CONTROL_PLANES if count >= MOST_CONTROL_PLANES else 1
    return {
        f"node{number}": CONTROL_PLANE if number <= control_planes else WORKER
        for number in range(2, count + 1)
    }


def make_identity(driver: Node) -> str:
    """Make the key that the driver logs in with to other hosts; return its public half, one line."""
    driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", IDENTITY_FILE], timeout_s=60)
    return driver.read_file(f"{IDENTITY_FILE}.pub")


def admit(host: Node, role: str, public_key: str) -> dict[str, Any]:
    """Let a key log in to a host as root, by its sshd; return the host's entry of ``nodes.yaml``."""
    return {
        "address": host.control_plane_address,
        "name": host.name,
        "role": role,
        "identity": IDENTITY_FILE,
        "hostKey": host.authorize(public_key),
    }


def write_list(driver: Node, entries: Sequence[Mapping[str, Any]]) -> str:
    """Write ``nodes.yaml`` on the driver, where ``ADD_COMMAND`` has it; return its text."""
    document = {"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": [dict(entry) for entry in entries]}
    text: str = yaml.safe_dump(document, sort_keys=False)
    driver.write_file(LIST_FILE, text)
    return text
