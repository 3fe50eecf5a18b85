# SPDX-License-Identifier: Apache-2.0
"""The switch's packet filter and what its listing is read as; packets are tested in tests/node."""

from __future__ import annotations

from typing import Any

from lab.switch import Counts, counts_of, rules
from tests.conftest import GoldenCheck


def listing(*elements: dict[str, Any]) -> dict[str, Any]:
    """Return what ``nft --json list table`` prints, shortened to what is read."""
    sources: dict[str, Any] = {"family": "inet", "name": "sources", "table": "caisson", "type": "ipv4_addr"}
    if elements:
        sources["elem"] = list(elements)
    return {
        "nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"table": {"family": "inet", "name": "caisson", "handle": 1}},
            {"set": sources},
            {"counter": {"family": "inet", "name": "leaving", "packets": 9, "bytes": 700}},
            {"counter": {"family": "inet", "name": "chatter", "packets": 4, "bytes": 300}},
            {"chain": {"family": "inet", "name": "arriving", "hook": "prerouting", "policy": "accept"}},
        ]
    }


def test_rules(golden: GoldenCheck) -> None:
    golden("switch.nft", rules())


def test_counts_by_sender_in_order_of_address() -> None:
    elements = [
        {"elem": {"val": "10.77.3.110", "counter": {"packets": 2, "bytes": 100}}},
        {"elem": {"val": "10.77.3.11", "counter": {"packets": 7, "bytes": 600}}},
    ]
    counts = counts_of(listing(*elements))
    assert counts == Counts(packets=9, chatter=4, packets_by_source={"10.77.3.11": 7, "10.77.3.110": 2})
    assert list(counts.packets_by_source) == ["10.77.3.11", "10.77.3.110"]


def test_no_sender_yet() -> None:
    assert counts_of(listing()) == Counts(packets=9, chatter=4)
