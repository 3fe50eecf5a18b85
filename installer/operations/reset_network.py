# SPDX-License-Identifier: Apache-2.0
"""Take what kube-proxy, the kubelet, Calico and the plugins have put into the kernel's network out of it.

No program of theirs takes all of it back (kubernetes/kubeadm#689). Only what bears their names goes: tables of
nftables, chains of iptables and rules that lead into them, sets, interfaces, routes. A table that only they had filled
goes too; a rule of the site's in it keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from installer.base.errors import CommandError, HostError
from installer.base.run import Completed, run
from installer.config import changes
from installer.engine import traces
from installer.operations.reset_plan import Action, ResetContext

LIMIT_S = 30.0
FAMILIES = {"ip": "iptables", "ip6": "ip6tables"}


def plan(context: ResetContext) -> Sequence[Action]:
    """Take interfaces, addresses, routes, rules and sets of the cluster out of the kernel."""
    actions = [
        Action(
            f"take the virtual address off {interface}",
            partial(_must, "ip", "address", "delete", address, "dev", interface),
        )
        for address, interface in _virtual_addresses(context)
    ]
    actions += [
        Action(f"remove the interface {name}", partial(_delete_interface, name))
        for name in interfaces(_json("ip", "-json", "-details", "link", "show"))
    ]
    routes = _json("ip", "-json", "route", "show", "type", "blackhole", "proto", traces.ROUTE_PROTOCOL)
    for destination in (str(route["dst"]) for route in routes):
        words = ("ip", "route", "delete", "blackhole", destination, "proto", traces.ROUTE_PROTOCOL)
        actions.append(Action(f"remove the route that holds {destination} back", partial(_must, *words)))
    actions += _plan_tables()
    for name in _said("ipset", "list", "-name").split():
        if traces.SETS.match(name):
            actions.append(Action(f"remove the set {name}", partial(_must, "ipset", "destroy", name)))
    return actions


def _virtual_addresses(context: ResetContext) -> list[tuple[str, str]]:
    """Return the cluster's virtual address where it is here still, and its interface: what held it was killed."""
    networks = (changes.recorded(context.paths) or {}).get("networks") or {}
    vip = str(networks.get("vip") or "")
    shown = _json("ip", "-json", "address", "show", "to", f"{vip}/32") if vip else []
    return held(shown, vip)


def held(links: Iterable[Mapping[str, Any]], address: str) -> list[tuple[str, str]]:
    """Return an address as keepalived gives it, alone in its network, with its interface. Pure.

    One that the site has given the host itself has the network's length, and stays.
    """
    return [
        (f"{address}/32", str(link["ifname"]))
        for link in links
        for entry in link.get("addr_info", ())
        if entry.get("local") == address and entry.get("prefixlen") == 32
    ]


def _delete_interface(name: str) -> None:
    """Delete an interface; one half of a pair goes by itself when the network of its pod does, a little later."""
    done = run(["ip", "link", "delete", "dev", name], timeout_s=LIMIT_S, check=False)
    if done.returncode != 0 and name in interfaces(_json("ip", "-json", "-details", "link", "show")):
        _must("ip", "link", "delete", "dev", name)


def interfaces(links: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the interfaces of the cluster, of what ``ip -json link`` shows. Pure."""
    found = []
    for link in links:
        name, kind = str(link.get("ifname", "")), str((link.get("linkinfo") or {}).get("info_kind", ""))
        is_of_pod = kind == "veth" and bool(traces.POD_INTERFACE.match(name))
        if is_of_pod or (kind == "vxlan" and name in traces.INTERFACES):
            found.append(name)
    return found


# ---- rules -----------------------------------------------------------------------------------------------------


def _plan_tables() -> list[Action]:
    ruleset = _ruleset()
    actions = [
        Action(
            f"remove the table {family} {name} of nftables",
            partial(_must, "nft", "delete", "table", family, name),
        )
        for family, name in own_tables(ruleset)
    ]
    for family, program in FAMILIES.items():
        script = take_out(_said(f"{program}-save"))
        if script:
            text = f"remove the cluster's chains and rules of {program}"
            actions.append(Action(text, partial(_restore, program, script)))
        if script or empty_tables(ruleset, family):
            actions.append(
                Action(f"remove the tables of {program} that are empty then", partial(_drop_empty, family))
            )
    return actions


def own_tables(ruleset: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return family and name of the tables that are Caisson's, kube-proxy's or Calico's. Pure."""
    tables = [entry["table"] for entry in ruleset if "table" in entry]
    found = [(str(table["family"]), str(table["name"])) for table in tables]
    return [
        (family, name)
        for family, name in found
        if (family, name) in traces.NFT_TABLES or (family in FAMILIES and name in traces.PROGRAM_TABLES)
    ]


def take_out(saved: str) -> str:
    r"""Return what ``iptables-restore --noflush`` is told, to take the cluster's part out of what was saved. Pure.

    A chain that is named again is emptied; then the rules of other chains that lead there go, then the chains.

    >>> print(take_out("*nat\n:OUT ACCEPT [0:0]\n:cali-O - [0:0]\n-A OUT -j cali-O\n-A OUT -j MINE\nCOMMIT\n"))
    *nat
    :cali-O - [0:0]
    -D OUT -j cali-O
    -X cali-O
    COMMIT
    <BLANKLINE>
    """
    return "".join(
        "\n".join([f"*{table}", *lines, "COMMIT", ""])
        for table, lines in ((table, list(_of_table(content))) for table, content in _tables(saved))
        if lines
    )


def _tables(saved: str) -> Iterator[tuple[str, list[str]]]:
    table = ""
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, lines = line[1:].strip(), []
        elif line == "COMMIT":
            yield table, lines
        else:
            lines.append(line)


def _of_table(lines: Sequence[str]) -> Iterator[str]:
    declared = [line[1:].split()[0] for line in lines if line.startswith(":")]
    shared = [name for name in declared if name.startswith(traces.CNI_CHAINS)]
    is_free = all(traces.SHARED_CHAINS.match(name) for name in shared)
    chains = [name for name in declared if traces.CHAINS.match(name) or (is_free and name in shared)]
    yield from (f":{name} - [0:0]" for name in chains)
    for line in lines:
        words = line.split()
        if words[:1] != ["-A"] or words[1] in chains:
            continue
        targets = {words[index + 1] for index, word in enumerate(words[:-1]) if word in ("-j", "-g")}
        if targets & set(chains) or traces.RULE_MARK in line:
            yield f"-D{line[2:]}"
    yield from (f"-X {name}" for name in chains)


def _restore(program: str, script: str) -> None:
    run([f"{program}-restore", "--noflush", "--wait=10"], timeout_s=LIMIT_S, stdin=script.encode())


def _drop_empty(family: str) -> None:
    for name in empty_tables(_ruleset(), family):
        _must("nft", "delete", "table", family, name)


def empty_tables(ruleset: Sequence[Mapping[str, Any]], family: str) -> list[str]:
    """Return the tables of iptables in which there is no rule, no chain of anybody, and which refuse nothing. Pure."""
    filled = set()
    for entry in ruleset:
        for kind, facts in entry.items():
            if kind in ("metainfo", "table") or facts.get("family") != family:
                continue
            is_plain = kind == "chain" and "hook" in facts and facts.get("policy", "accept") == "accept"
            if not is_plain:
                filled.add(str(facts.get("table")))
    tables = [
        str(entry["table"]["name"]) for entry in ruleset if entry.get("table", {}).get("family") == family
    ]
    return [name for name in tables if name in traces.LEGACY_TABLES and name not in filled]


# ---- the programs that are asked -------------------------------------------------------------------------------


def _ruleset() -> list[dict[str, Any]]:
    found = _json("nft", "-j", "list", "ruleset")
    return list(found["nftables"]) if isinstance(found, dict) else []


def _json(*words: str) -> Any:
    try:
        return json.loads(_said(*words) or "[]")
    except ValueError:
        return []


def _said(*words: str) -> str:
    """Return what a program says; nothing where it is not installed, or refuses."""
    try:
        completed = run(words, timeout_s=LIMIT_S, check=False)
    except (HostError, CommandError):
        return ""
    return completed.stdout if completed.returncode == 0 else ""


def _must(*words: str) -> Completed:
    return run(words, timeout_s=LIMIT_S)
