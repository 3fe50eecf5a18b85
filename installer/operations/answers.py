# SPDX-License-Identifier: Apache-2.0
"""Read what a host answers that is looked at: another host's words are taken only in the shape that they must have.

It runs the installer's code, or says so. Its addresses stand in other hosts' rules for a time, its name in files here,
its findings on the terminal. Each reader returns the answer without what nobody asked for, or raises one of WRONG.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Callable, TypeVar

from installer.base.errors import HostError
from installer.checks.reach import NO_WAY, OPEN, REFUSED, SILENT
from installer.config.bootstrap import Config
from installer.config.facts import NODE_NAME, Facts
from installer.engine.agents import Agent
from installer.operations import other_nodes

OUTCOMES = (OPEN, REFUSED, NO_WAY, SILENT)
IDENTITY_TEXTS = ("name", "machine_id", "product_uuid")
IDENTITY_LISTS = ("addresses", "hardware_addresses")
NAME_LIMIT = 63
INTERFACE_LIMIT = 15
"""Source: Linux, include/uapi/linux/if.h, IFNAMSIZ, with its NUL."""
MTU_LIMIT = 1 << 20
WRONG = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer of another shape raises; the last also json, of brackets within brackets."""

Answer = TypeVar("Answer")
Read = Callable[[Any], Answer]


def ask(agent: Agent, request: Mapping[str, Any], read: Read[Answer], *, timeout_s: float) -> Answer:
    """Return the answer to a request, as ``read`` takes it.

    Raises:
        CommandError: there is none, or the host says what it ran into.
        HostError: it is another answer than Caisson's own code gives.
    """
    answer: Any = None
    try:
        answer = agent.ask(request, timeout_s=timeout_s)
        return read(other_nodes.printable(answer))
    except WRONG as exc:
        raise odd(agent.title, str(request["do"]), exc, answer) from exc


def odd(title: str, asked: str, exc: Exception, answer: Any = None) -> HostError:
    """Return the error of a host that answers otherwise than Caisson's code does."""
    lines = [f"{type(exc).__name__}: {str(exc)[: other_nodes.SHOWN]}"]
    if answer is not None:
        lines.append(f"it said: {other_nodes.shown(answer)}")
    return HostError(
        f"{title} does not answer to '{asked}' as Caisson does",
        details="\n".join(map(other_nodes.printable, lines)),
        resolution="look at that host: what answers there is not what was sent to it; its own Python must be whole "
        "(rpm -V python3-libs)",
    )


# ---- the answers, by what was asked ----------------------------------------------------------------------


def look(config: Config) -> Read[dict[str, Any]]:
    """Return the reader of who a host is and what its preflights found, in a cluster of this configuration."""

    def read(answer: Any) -> dict[str, Any]:
        report, found = other_nodes.taken(answer["report"], "check", "report"), answer["facts"]
        if not report:
            raise ValueError("its report has another shape")
        return {
            "report": report,
            "facts": None if found is None else _facts(found, config),
            "faults": _texts(answer["faults"]),
            "identity": _identity(answer["identity"]),
        }

    return read


def clock(answer: Any) -> float:
    """Return the time that the host has."""
    time_s = answer["time_s"]
    if not isinstance(time_s, (int, float)) or isinstance(time_s, bool) or not math.isfinite(time_s):
        raise ValueError(f"no time: {time_s!r}")
    return float(time_s)


def listen(ports: Sequence[Mapping[str, Any]]) -> Read[list[Mapping[str, Any]]]:
    """Return the reader of which of these ports others hold there."""

    def read(answer: Any) -> list[Mapping[str, Any]]:
        held = _list(answer["held"])
        if any(port not in ports for port in held):
            raise ValueError("a port that it was not asked about")
        return [port for port in ports if port in held]

    return read


def connect(count: int) -> Read[list[tuple[str, str]]]:
    """Return the reader of what came of so many connections: the outcome, and the word that was sent."""

    def read(answer: Any) -> list[tuple[str, str]]:
        outcomes, words = _texts(answer["outcomes"]), _texts(answer["words"])
        if len(outcomes) != count or len(words) != count or not set(outcomes) <= set(OUTCOMES):
            raise ValueError(f"no outcomes of {count} connections")
        return list(zip(outcomes, words))

    return read


def heard(answer: Any) -> set[str]:
    """Return the words that came in datagrams."""
    return set(_texts(answer["words"]))


def path(mtu: int) -> Read[int]:
    """Return the reader of the largest packet, up to ``mtu``, that comes through."""
    return lambda answer: _number(answer["passes"], mtu)


def closed(answer: Any) -> None:
    """Return nothing: it was told, not asked."""


# ---- the parts -------------------------------------------------------------------------------------------


def _facts(found: Any, config: Config) -> dict[str, Any]:
    """Return the addresses in the planes, each in a network of the configuration; Source: config/facts.py, gather."""
    texts = {field.name: _text(found[field.name]) for field in fields(Facts) if field.name != "nameservers"}
    for plane, cidrs in (
        ("control_plane", config.networks.control_plane_cidrs),
        ("workload_plane", config.networks.workload_plane_cidrs),
    ):
        address = ipaddress.IPv4Address(texts[f"{plane}_address"])
        network = next((cidr for cidr in cidrs if str(cidr) == texts[f"{plane}_cidr"]), None)
        if network is None or address not in network:
            raise ValueError(f"{address} is in no network of the {plane.replace('_', ' ')}")
        _interface(texts[f"{plane}_interface"])
    if not NODE_NAME.match(texts["node_name"]) or len(texts["node_name"]) > NAME_LIMIT:
        raise ValueError(f"no node's name: {texts['node_name']!r}")
    if texts["endpoint"] != config.endpoint:
        raise ValueError(f"another endpoint: {texts['endpoint']!r}")
    return {**texts, "nameservers": _texts(found["nameservers"])}


def _identity(found: Any) -> dict[str, Any]:
    identity: dict[str, Any] = {key: _text(found[key]) for key in IDENTITY_TEXTS}
    identity.update({key: _texts(found[key]) for key in IDENTITY_LISTS})
    for address in identity["addresses"]:
        ipaddress.ip_address(address)
    return {**identity, "workload_mtu": _number(found["workload_mtu"], MTU_LIMIT)}


def _interface(name: str) -> None:
    if not 0 < len(name) <= INTERFACE_LIMIT or "/" in name or " " in name:
        raise ValueError(f"no interface: {name!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"no list: {value!r}")
    return value


def _texts(value: Any) -> list[str]:
    return [_text(entry) for entry in _list(value)]


def _number(value: Any, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ValueError(f"no number from 0 to {largest}: {value!r}")
    return value
