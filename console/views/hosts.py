# SPDX-License-Identifier: Apache-2.0
"""Show hosts that are no nodes, and the three steps of adding one: look, confirm its key and log in, add."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from console import api
from console.known import Known
from console.views import base
from console.views.base import Mark

USER = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.@\\]*\$?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
ROLES = ("worker", "control-plane")
SECRETS = ("password", "key", "passphrase", "sudo")


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What was typed of a host, without a secret; all of it is text, as it was typed."""

    address: str = ""
    port: str = "22"
    user: str = "root"
    name: str = ""
    role: str = "worker"
    fingerprint: str = ""

    def to_query(self) -> str:
        """Return it as part of an address of a page: so nothing is lost by a reload or a log-in."""
        return urlencode({key: value for key, value in vars(self).items() if value})

    def parameters(self) -> dict[str, Any]:
        """Return it as the door takes a host."""
        found: dict[str, Any] = {
            "address": self.address,
            "port": int(self.port),
            "user": self.user,
            "role": self.role,
        }
        if self.name:
            found["name"] = self.name
        if self.fingerprint:
            found["hostKey"] = self.fingerprint
        return found

    @property
    def key(self) -> str:
        """Return what secrets of this host are kept under."""
        return f"{self.user}@{self.address}:{self.port}"


@dataclass(frozen=True)
class Faults:
    """What is wrong with what was typed, by field."""

    by_field: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Say whether anything is wrong."""
        return bool(self.by_field)


def typed_of(values: Mapping[str, str]) -> Typed:
    """Return what was typed."""
    known = {key: values[key].strip() for key in vars(Typed()) if values.get(key, "").strip()}
    return Typed(**known)


def check(typed: Typed) -> Faults:
    """Return all that is wrong with what was typed."""
    faults = {}
    try:
        ipaddress.IPv4Address(typed.address)
    except ValueError:
        faults["address"] = "This is no IPv4 address. A name will not do: no nameserver is asked."
    if not (typed.port.isascii() and typed.port.isdigit() and 0 < int(typed.port[:9]) < 65536):
        faults["port"] = "A port is a number from 1 to 65535."
    if not USER.fullmatch(typed.user) or len(typed.user) > 64:
        faults["user"] = "A user's name has letters, digits and _ . @ - and does not begin with a dash."
    if typed.name and (not NAME.fullmatch(typed.name) or len(typed.name) > 63):
        faults["name"] = "A node's name has small letters, digits, dashes and dots, at most 63."
    if typed.role not in ROLES:
        faults["role"] = "A node is a worker or a control plane."
    if typed.fingerprint and not FINGERPRINT.fullmatch(typed.fingerprint):
        faults["fingerprint"] = "A fingerprint is SHA256: and 43 characters, as ssh-keygen -lf shows it."
    return Faults(faults)


def list_view(status: Known[dict[str, Any]], jobs: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page of hosts shows: what was looked at and is no node yet, and the further nodes."""
    nodes = {base.words(node.get("name")) for node in api.items(status.value, "nodes")}
    addresses = {base.words(node.get("address")) for node in api.items(status.value, "nodes")}
    seen: dict[str, dict[str, Any]] = {}
    for job in api.items(jobs.value, "jobs"):
        if job.get("operation") not in ("probe", "node-add"):
            continue
        for host in _hosts_of(job):
            if host["address"] in addresses or (host["name"] and host["name"] in nodes):
                continue
            seen[host["address"]] = {
                **host,
                "job": base.words(job.get("id")),
                "state": base.words(job.get("state")),
            }
    others = [
        {
            "name": base.words(one.get("name")),
            "address": base.words(one.get("address")),
            "role": base.words(one.get("role")),
            "mark": Mark.BAD if one.get("unreached") else Mark.GOOD,
            "reach": base.words(one.get("unreached")) or "its kubelet's port answers",
            "minion": base.words(one.get("minion")),
        }
        for one in api.items(status.value, "other_nodes")
    ]
    return {
        "hosts": list(reversed(seen.values())),
        "others": others,
        "status_source": base.door_source(status, now),
        "job_source": base.door_source(jobs, now),
    }


def _hosts_of(job: Mapping[str, Any]) -> list[dict[str, str]]:
    arguments = api.part(job, "arguments")
    hosts = api.items(arguments, "nodes") or (
        [api.part(arguments, "host")] if api.part(arguments, "host") else []
    )
    return [
        {
            "address": base.words(host.get("address")),
            "name": base.words(host.get("name")),
            "port": base.words(host.get("port")) or "22",
            "user": base.words(host.get("user")) or "root",
            "role": base.words(host.get("role")) or "worker",
        }
        for host in hosts
        if host.get("address")
    ]


def host_of_job(answer: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the host of a look, as it was typed."""
    found = _hosts_of(api.part(answer, "job"))
    return found[0] if found else {}


def found_view(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what a look at a host has found: its keys, who it is, what is wrong with it."""
    if not found:
        return None
    host = api.part(found, "host")
    looks = api.items(found, "look", "hosts")
    look = looks[-1] if looks else None
    order = {"failed": 0, "warning": 1, "ignored": 2}
    findings = sorted(
        (
            {
                "host": base.words(one.get("host")),
                "id": base.words(finding.get("id")),
                "mark": {"failed": Mark.BAD, "warning": Mark.WARN}.get(
                    base.words(finding.get("status")), Mark.UNKNOWN
                ),
                "status": base.words(finding.get("status")),
                "title": base.words(finding.get("title")),
                "evidence": base.words(finding.get("evidence")),
                "fix": base.words(finding.get("fix")),
            }
            for one in looks
            for finding in api.items(one, "findings")
        ),
        key=lambda one: order.get(str(one["status"]), 3),
    )
    facts = api.part(host, "facts")
    return {
        "host_keys": [
            {"kind": base.words(key.get("kind")), "fingerprint": base.words(key.get("fingerprint"))}
            for key in api.items(found, "keys")
        ],
        "confirmed": base.words(found.get("confirmed")),
        "about": [
            (title, base.words(host.get(key)))
            for title, key in (
                ("Name", "hostname"),
                ("System", "os"),
                ("Kernel", "kernel"),
                ("Machine", "machine_id"),
            )
            if host.get(key)
        ]
        + [
            (title, base.words(facts.get(key)))
            for title, key in (
                ("Control-plane address", "control_plane_address"),
                ("Workload address", "workload_plane_address"),
            )
            if facts.get(key)
        ],
        "is_looked_at": look is not None,
        "is_fit": look is not None and look.get("fit") is True,
        "error": "" if look is None else base.words(look.get("error")),
        "findings": findings,
    }
