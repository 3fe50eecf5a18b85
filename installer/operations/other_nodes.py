# SPDX-License-Identifier: Apache-2.0
"""Ask the other nodes how they are, from the bootstrap node: their kubelets' port, their minions' keys, themselves.

All side by side and within a bound. A node that cannot be reached, or that says nothing, is a row that says so, never
the end of the look at the others. Nothing needs SSH: the bus asks each minion (``caisson_node.look``). What it says is
another host's word: of another shape it is no answer, and no character of it moves the cursor of who reads it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jsonschema

from installer.base import ui
from installer.base.errors import CommandError, HostError, UsageError
from installer.base.paths import Paths
from installer.engine import pillartop
from installer.operations import bus, minionkeys, schemas, unfinished
from installer.operations.asking import Fault, Question
from installer.operations.salt_state import BUSY_LOAD

REACH_TIMEOUT_S = 2.0
REACHED_AT_ONCE = 16
SALT_TIMEOUT_S = 6
LIMIT_S = 9.0
"""A start of Salt, the questions, what each node may take: less than ten silent seconds."""
LOOK = "caisson_node.look"
NUMBER_LIMIT, SHOWN = 1 << 63, 200
SILENT, ANSWERS, NOT_KNOWN = "does not answer", "answers", "not known"
KEY_WORDS: Mapping[bool | None, str] = {True: "accepted", False: "NOT ACCEPTED", None: NOT_KNOWN}
ADD_FIX = "run the 'caisson node add' of that host again: it gives the master its key"
MINION_FIX = "on that node: journalctl -u salt-minion -n 50; then: systemctl restart salt-minion"
REACH_FIX = "see whether that host is on and in the network, and there: systemctl status kubelet firewalld"


@dataclass(frozen=True)
class OtherNode:
    """One further node, as this host knows it, and as it says itself (``own``, empty where it does not).

    ``way``: empty when its kubelet's port accepts connections, else why not. ``minion`` is for people.
    ``is_key_accepted`` is None where nobody could look.
    """

    name: str
    address: str
    role: str
    way: str
    is_key_accepted: bool | None
    minion: str
    own: Mapping[str, Any]
    faults: tuple[Fault, ...] = ()

    @property
    def is_heard(self) -> bool:
        """Say whether anybody knows what the node says of itself: that it says nothing is something, too."""
        return not self.minion.startswith(NOT_KNOWN)

    @property
    def cells(self) -> tuple[str, ...]:
        """Return it as a row of the table."""
        return (
            self.name,
            self.role,
            self.address,
            self.way or "yes",
            KEY_WORDS[self.is_key_accepted],
            self.minion,
            self._services,
            self._answer("images, packages"),
            self._ends,
        )

    @property
    def _services(self) -> str:
        states = self.own.get("services", {})
        down = [f"{name} {state}" for name, state in states.items() if state != "active"]
        return ", ".join(down) or ("all active" if states else "-")

    def _answer(self, name: str) -> str:
        return next((str(one["answer"]) for one in self.own.get("endpoints", ()) if one["name"] == name), "-")

    @property
    def _ends(self) -> str:
        found = self.own.get("certificates") or ({"ends": "-"},)
        return str(found[0]["ends"] or "unreadable")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "name": self.name,
            "address": self.address,
            "role": self.role,
            "unreached": self.way,
            "key_accepted": self.is_key_accepted,
            "minion": self.minion,
            "own": dict(self.own) or None,
        }


HEADING = ("NAME", "ROLE", "ADDRESS", "REACHED", "KEY", "MINION", "SERVICES", "MEDIA", "CERTIFICATE ENDS")


def rows(nodes: Sequence[OtherNode]) -> list[tuple[str, ...]]:
    """Return the table."""
    return [HEADING, *(node.cells for node in nodes)]


def known(paths: Paths) -> list[tuple[str, str, str]]:
    """Return name, address and role of each further node, as it was told last."""
    found = []
    for name in pillartop.known(paths):
        node = pillartop.read(paths, name).get("node", {})
        found.append((name, str(node.get("control_plane_address", "")), str(node.get("role", ""))))
    return found


def ask_nodes(
    paths: Paths, kubelet_port: int, *, only: str = "", limit_s: float = LIMIT_S
) -> tuple[OtherNode, ...]:
    """Ask all of them, or ``only`` one."""
    nodes = [node for node in known(paths) if only in ("", node[0])]
    if not nodes:
        return ()
    names = [name for name, _, _ in nodes]
    answers = Question("the minions", partial(_ask_minions, names, limit_s), limit_s=limit_s + 1.0)
    with ThreadPoolExecutor(min(REACHED_AT_ONCE, len(nodes))) as pool:
        ways = list(pool.map(lambda node: _way(node[1], kubelet_port), nodes))
    odd = [node[:2] for node, way in zip(nodes, ways) if way or not _is_key_accepted(paths, node[0])]
    fixes = unfinished.fixes(paths, odd)
    said, why = answers.answer(({}, "its answer took too long"), [])
    return tuple(
        _node(paths, node, way, said.get(node[0]), why, fixes.get(node[0], ""))
        for node, way in zip(nodes, ways)
    )


def silent(name: str, paths: Paths) -> OtherNode:
    """Return a node of which nothing was found out in time, its key at the master included."""
    address, role = next(
        ((address, role) for known_name, address, role in known(paths) if known_name == name), ("", "")
    )
    minion = f"{NOT_KNOWN}: no answer in time"
    return OtherNode(name, address, role, NOT_KNOWN, is_key_accepted=None, minion=minion, own={})


def _way(address: str, port: int) -> str:
    """Return why the kubelet's port of a node accepts no connection; empty when it does."""
    if not address:
        return "no address is known"
    try:
        socket.create_connection((address, port), timeout=REACH_TIMEOUT_S).close()
    except OSError as exc:  # of one that took too long Python 3.9 has no strerror
        return f"{address}:{port}: {exc.strerror or 'no answer'}"
    return ""


def _ask_minions(names: Sequence[str], limit_s: float) -> tuple[Mapping[str, Any], str]:
    """Return what each minion says, and why those that say nothing could not be asked, empty when they could."""
    try:
        found = bus.ask_all(names, LOOK, timeout_s=SALT_TIMEOUT_S, limit_s=limit_s)
    except (CommandError, HostError) as exc:
        return {}, exc.message
    return ({}, bus.NO_MASTER) if found is None else (found, "")


def _is_key_accepted(paths: Paths, name: str) -> bool:
    key = paths.at(minionkeys.MASTER_PKI_DIR) / minionkeys.ACCEPTED_DIR / name
    return key.is_file() and key.stat().st_size > 0


def _node(
    paths: Paths, node: tuple[str, str, str], way: str, said: Any, why: str, unfinished_fix: str
) -> OtherNode:
    name, address, role = node
    is_accepted = _is_key_accepted(paths, name)
    own = taken(said, "status", "own")
    minion = ANSWERS if own else _why_silent(said, why)
    faults = list(_faults(name, way, minion, own, unfinished_fix, is_accepted=is_accepted))
    return OtherNode(name, address, role, way, is_accepted, minion, own, tuple(faults))


def taken(said: Any, schema: str, definition: str) -> dict[str, Any]:
    """Return another host's words without what moves a cursor; empty where they are of another shape."""
    try:
        clean = printable(said)
        is_shaped = isinstance(clean, dict) and _is_valid(clean, schema, definition) and _can_be_shown(clean)
    except RecursionError:  # lists within lists
        return {}
    return clean if is_shaped else {}


def _is_valid(value: Any, schema: str, definition: str) -> bool:
    """Say whether data has the shape of a definition in one of our schemas."""
    found = {**schemas.load(schema), "$ref": f"#/definitions/{definition}", "oneOf": [{}]}
    return bool(jsonschema.Draft7Validator(found).is_valid(value))


def _can_be_shown(value: Any) -> bool:
    """Say whether all numbers can be counted with and are JSON: no schema tells NaN, and Python knows no largest."""
    if isinstance(value, (dict, list)):
        return all(map(_can_be_shown, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, (int, float)) or -NUMBER_LIMIT < value < NUMBER_LIMIT


def unknown(name: str, known: Sequence[str]) -> UsageError:
    """Return the error of a node that this host knows nothing of."""
    return UsageError(
        f"this host has added no node '{name}'",
        details=f"further nodes: {', '.join(known) or 'none'}",
        resolution="'caisson status' shows this host and all of them",
    )


def printable(value: Any) -> Any:
    """Return data with no character in its texts that is not to be seen."""
    if isinstance(value, dict):
        return {printable(key): printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [printable(entry) for entry in value]
    if isinstance(value, str):
        return ui.printable(value)
    return value


def shown(said: Any) -> str:
    """Return how data begins, in one line."""
    try:
        return str(printable(str(said)[:SHOWN]))
    except RecursionError:
        return "lists within lists"


def _why_silent(said: Any, why: str) -> str:
    if why:
        return f"{NOT_KNOWN}: {why}"
    if said is not None:
        return f"says something else: {shown(said)}"
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return SILENT if load <= BUSY_LOAD else f"{NOT_KNOWN}: no answer in time (load {load:.1f} a CPU here)"


def _faults(
    name: str, way: str, minion: str, own: Mapping[str, Any], unfinished_fix: str, *, is_accepted: bool
) -> Iterator[Fault]:
    """Yield what is not as it should be with a node, causes before what follows from them.

    ``unfinished_fix``: what was begun with the node is to be gone on with. Of one without a key that is all there is to
    do; one with a key may be off for another reason.
    """
    if way:
        fixes = [unfinished_fix, *([REACH_FIX] if is_accepted or not unfinished_fix else [])]
        yield Fault(f"node {name} cannot be reached: {way}", "; or ".join(filter(None, fixes)))
    if not is_accepted:
        yield Fault(f"the salt-master does not know the key of {name}", unfinished_fix or ADD_FIX)
    elif minion != ANSWERS and not minion.startswith(NOT_KNOWN) and not way:
        yield Fault(f"the salt-minion of {name} {minion}", MINION_FIX)
    for fault in own.get("faults", ()):
        yield Fault(f"{name}: {fault['text']}", f"on {name}: {fault['fix']}" if fault["fix"] else "")


def holders(
    address: str, own_addresses: Sequence[str], own_name: str, nodes: Sequence[OtherNode]
) -> list[str]:
    """Return the nodes that have an address now, a virtual one for example. Pure."""
    found = [own_name] if address in own_addresses else []
    return found + [node.name for node in nodes if address in node.own.get("node", {}).get("addresses", ())]
