# SPDX-License-Identifier: Apache-2.0
"""Which control planes there are, and whom each node asks: from the pillars alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from installer.config.nodes import NodeEntry, Role
from installer.engine import controlplanes, nodepillar, pillartop, saltcall
from installer.engine.context import Context
from installer.engine.controlplanes import ControlPlane
from tests.unit.installer.helpers import make_context

ENDPOINT = "api.lab.internal"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


def add(context: Context, name: str, number: int, role: Role, *, serves: bool = False) -> dict[str, Any]:
    """Write the pillar of a node that is added, as the phases do; return it."""
    facts = replace(context.facts, node_name=name, control_plane_address=f"10.77.1.{number}")
    entry = NodeEntry(facts.control_plane_address, role, name)
    caisson = nodepillar.pillar(context, entry, facts, media_port=8443, cluster_ca_sha256="c")
    if serves:
        caisson = nodepillar.told_again(context, caisson, serves=True)
    pillartop.write(context.paths, context.facts.node_name, caisson)
    return caisson


def test_the_bootstrap_node_alone(context: Context) -> None:
    assert controlplanes.known(context) == (ControlPlane("node1", "10.77.1.11", serves=True),)
    own = saltcall.pillar(context)
    assert own["control_planes"] == [{"name": "node1", "address": "10.77.1.11"}]
    assert own["elsewhere"] == {}


def test_etcd_lets_a_new_one_in_before_it_joins_and_the_endpoint_names_it_after(context: Context) -> None:
    joining = add(context, "node2", 12, Role.CONTROL_PLANE)
    assert [entry["name"] for entry in joining["control_planes"]] == ["node1", "node2"]
    assert saltcall.pillar(context)["control_planes"] == joining["control_planes"]
    assert saltcall.pillar(context)["elsewhere"] == {}
    assert add(context, "node3", 13, Role.WORKER)["elsewhere"][ENDPOINT] == ["10.77.1.11"]
    add(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    assert saltcall.pillar(context)["elsewhere"] == {ENDPOINT: ["10.77.1.12"]}
    worker = add(context, "node3", 13, Role.WORKER)
    assert sorted(worker["elsewhere"][ENDPOINT]) == ["10.77.1.11", "10.77.1.12"]
    assert worker["control_planes"] == []


def test_one_that_has_joined_stays_so_when_it_is_added_again(context: Context) -> None:
    joined = add(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    assert joined["node"]["serves"] is True
    assert add(context, "node2", 12, Role.CONTROL_PLANE) == joined


def test_one_that_is_removed_is_known_no_more(context: Context) -> None:
    add(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    pillartop.forget(context.paths, "node1", "node2")
    assert [entry.name for entry in controlplanes.known(context)] == ["node1"]
    assert saltcall.pillar(context)["elsewhere"] == {}


def test_a_control_plane_asks_itself_first(context: Context) -> None:
    add(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    third = add(context, "node3", 13, Role.CONTROL_PLANE)
    assert third["elsewhere"][ENDPOINT][0] == "10.77.1.13"
    assert sorted(third["elsewhere"][ENDPOINT][1:]) == ["10.77.1.11", "10.77.1.12"]


def test_workers_do_not_all_begin_at_the_same_one() -> None:
    three = [ControlPlane(f"cp{number}", f"10.0.0.{number}", serves=True) for number in (1, 2, 3)]
    orders = {tuple(controlplanes.endpoint_addresses(three, f"worker{number}")) for number in range(20)}
    assert {order[0] for order in orders} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert all(sorted(order) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"] for order in orders)


def test_the_digest_is_that_of_what_changes_with_them(context: Context) -> None:
    worker = add(context, "node3", 13, Role.WORKER)
    assert nodepillar.digest({**worker, "version": "9"}) == nodepillar.digest(worker)
    add(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    assert nodepillar.digest(nodepillar.told_again(context, worker)) != nodepillar.digest(worker)


def test_a_control_plane_gets_all_of_the_site_s_patches(context: Context) -> None:
    given = {"etcd1+merge.yaml": "{}", "kubeletconfiguration1+merge.yaml": "{}"}
    overrides = replace(context.config.overrides, kubeadm_patches=given)
    changed = replace(context, config=replace(context.config, overrides=overrides))
    entries = [NodeEntry("10.77.1.12", role, "node2") for role in (Role.CONTROL_PLANE, Role.WORKER)]
    found = [
        nodepillar.pillar(changed, entry, context.facts, media_port=8443, cluster_ca_sha256="c")
        for entry in entries
    ]
    assert [list(caisson["overrides"]["kubeadm_patches"]) for caisson in found] == [
        ["etcd1+merge.yaml", "kubeletconfiguration1+merge.yaml"],
        ["kubeletconfiguration1+merge.yaml"],
    ]
