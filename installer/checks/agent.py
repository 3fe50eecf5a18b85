# SPDX-License-Identifier: Apache-2.0
"""Answer, on another host, what the installer asks about it: one line of JSON for each that is read from stdin.

It runs out of memory (engine/agents.py) with what the preflights need sent along, and changes nothing: the preflights
are those of ``check``, listeners end with it, and what firewalld is told it forgets by itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import ConfigError, InstallerError
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.session import only_looking
from installer.checks import CHECKS, reach
from installer.checks.host import Host, is_ours
from installer.checks.preflight import check_host
from installer.config import bootstrap as config
from installer.config import facts, ports
from installer.media import product

INWARD_INTERFACES = re.compile(r"docker|virbr|podman|lxcbr|lxdbr|incusbr|br-[0-9a-f]{12}\Z")
"""Bridges within a host, which have the same address on all of them by default."""


def serve(mark: str) -> None:
    """Answer until stdin ends. What anything else prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    network = reach.Network()

    def answer(data: Mapping[str, Any]) -> None:
        answers.write(f"{mark} {json.dumps(data)}\n")
        answers.flush()

    with only_looking():
        answer({"ready": True})
        try:
            for line in sys.stdin.buffer:
                answer(_carry_out(json.loads(line), network))
        finally:
            network.close()


def _carry_out(request: Mapping[str, Any], network: reach.Network) -> dict[str, Any]:
    """Return the answer to one request, or what it ran into as its fault."""
    known: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "clock": lambda _: {"time_s": time.time()},
        "look": look,
        "listen": network.listen,
        "connect": network.connect,
        "heard": network.heard,
        "path": network.measure_path,
        "close": network.forget,
    }
    try:
        return known[str(request["do"])](request)
    except InstallerError as exc:
        return {"fault": str(exc)}
    except (OSError, KeyError, ValueError, TypeError) as exc:
        return {"fault": f"{type(exc).__name__}: {exc}"}


def look(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return who this host is and what the preflights find on it, for a node of the role that is asked for.

    Without ``checks`` only who it is. What of the configuration does not fit this host is in ``faults``; the checks
    that need it are skipped then.
    """
    addresses = facts.read_addresses()
    own = [address.address for address in addresses]
    found, misfits = config.parse_checked(str(request["config"]), host_addresses=own)
    found = dataclasses.replace(found, node_name=request["name"] or None)
    gathered, faults = None, list(misfits)
    try:
        gathered = facts.gather(found, addresses)
    except ConfigError as exc:
        # What both have found is told once.
        faults = [fault for fault in faults if ".cidrs: " not in fault] + exc.details.splitlines()
    host = Host(
        config=found,
        facts=gathered,
        product=product.parse(str(request["product"]).encode()),
        ports=ports.of_role(ports.parse_ports(str(request["ports"])), str(request["role"])),
        is_ours=is_ours(Paths()),
    )
    chosen = [check for check in CHECKS if request.get("with_trials", True) or not check.is_trial]
    if not request.get("checks", True):
        chosen = []
    report = check_host(host, chosen, ignored=found.overrides.ignored)
    return {
        "report": report.to_json(),
        "facts": None if gathered is None else dataclasses.asdict(gathered),
        "faults": faults,
        "identity": identify(addresses, gathered, read_links()),
    }


def identify(
    addresses: Sequence[facts.Address],
    gathered: facts.Facts | None,
    links: Mapping[str, Mapping[str, Any]],
    *,
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Return what no two hosts share: names, ids, addresses; ``links`` are the interfaces, as read_links has them."""
    plane = gathered.workload_plane_interface if gathered is not None else ""
    outward = [address for address in addresses if not INWARD_INTERFACES.match(address.interface)]
    interfaces = {address.interface for address in outward}
    return {
        "name": gathered.node_name if gathered is not None else facts.host_name(),
        "machine_id": _read(root / "etc/machine-id"),
        "product_uuid": _read(root / "sys/class/dmi/id/product_uuid").lower(),
        "addresses": sorted(address.address for address in outward),
        "hardware_addresses": sorted(
            {str(links.get(name, {}).get("address", "")) for name in interfaces} - {""}
        ),
        "workload_mtu": int(links.get(plane, {}).get("mtu", 0)),
    }


def read_links() -> dict[str, Mapping[str, Any]]:
    """Ask the kernel for the interfaces of this host; /sys may show those of another network namespace."""
    text = run(["ip", "-json", "link", "show"], timeout_s=10).stdout
    return {str(link["ifname"]): link for link in json.loads(text)}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
