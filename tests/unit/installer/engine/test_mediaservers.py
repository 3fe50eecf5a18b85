# SPDX-License-Identifier: Apache-2.0
"""Who serves packages and images, and in which order a node asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from installer.config.facts import Facts
from installer.config.nodes import NodeEntry, Role
from installer.engine import controlplanes, mediaservers, nodepillar, pillartop, saltcall
from installer.engine.context import Context
from tests.unit.installer.helpers import make_context, make_facts

MEDIA = "media.lab.internal"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


def node(context: Context, name: str, address: str, *, builds: tuple[str, ...] = ()) -> dict[str, Any]:
    """Write the pillar of a further control plane, and return it."""
    facts = Facts(**{**vars(make_facts()), "node_name": name, "control_plane_address": address})
    entry = NodeEntry(address, name=name, role=Role.CONTROL_PLANE)
    caisson = nodepillar.pillar(context, entry, facts, media_port=8443, cluster_ca_sha256="ab")
    if builds:
        caisson["node"]["media"] = list(builds)
    pillartop.write(context.paths, "node1", caisson)
    return caisson


def asked(caisson: dict[str, Any]) -> list[str]:
    return [server["address"] for server in caisson["media_servers"]]


def test_alone_the_bootstrap_node_is_all(context: Context) -> None:
    assert asked(saltcall.pillar(context)) == ["10.77.1.11"]
    assert asked(node(context, "cp2", "10.77.1.12")) == [MEDIA]
    assert mediaservers.known(context.paths) == ()


def test_all_are_told_of_one_that_serves_and_it_asks_itself_first(context: Context) -> None:
    old, serving = (
        node(context, "cp2", "10.77.1.12"),
        node(context, "cp3", "10.77.1.13", builds=("0.1.0-aa",)),
    )
    assert asked(saltcall.pillar(context)) == ["10.77.1.11", "10.77.1.13"]
    told = nodepillar.told_again(context, old)
    assert sorted(asked(told)) == ["10.77.1.13", MEDIA]
    assert nodepillar.digest(told) != nodepillar.digest(old), "so it is told"
    own = nodepillar.told_again(context, serving)
    assert asked(own) == ["10.77.1.13", MEDIA]
    assert own["repository"] == {
        "url": f"https://10.77.1.13:8443/repo/el9 https://{MEDIA}:8443/repo/el9",
        "ca_file": "/etc/caisson/ca.crt",
    }
    assert nodepillar.told_again(context, own) == own
    (server,) = mediaservers.known(context.paths)
    assert (server.name, server.address, server.builds) == ("cp3", "10.77.1.13", ("0.1.0-aa",))


def test_one_that_is_added_again_goes_on_to_serve(context: Context) -> None:
    node(context, "cp3", "10.77.1.13", builds=("0.1.0-aa",))
    assert node(context, "cp3", "10.77.1.13")["node"]["media"] == ["0.1.0-aa"]


def test_one_that_is_being_removed_is_asked_no_more(context: Context) -> None:
    serving = node(context, "cp3", "10.77.1.13", builds=("0.1.0-aa",))
    pillartop.write(context.paths, "node1", controlplanes.leaving(serving))
    assert asked(saltcall.pillar(context)) == ["10.77.1.11"]


def test_not_all_begin_with_the_same(context: Context) -> None:
    servers = [mediaservers.MediaServer(f"cp{number}", f"10.0.0.{number}") for number in (1, 2, 3)]
    first = {mediaservers.in_order(servers, f"worker{number}")[0].name for number in range(20)}
    assert first == {"cp1", "cp2", "cp3"}
    for name in ("worker1", "cp2"):
        assert len(mediaservers.in_order(servers, name)) == 3
