# SPDX-License-Identifier: Apache-2.0
"""Which node gets which pillar: by the real Salt's compiler of pillars, on the files that the installer writes."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.pillar

from installer.base.paths import Paths
from installer.engine import pillartop, saltcall
from tests.sls import compiler  # it makes Salt fit to be imported beside pytest
from tests.unit.installer.helpers import make_context

assert compiler.GRAINS

NAMES = ("node2", "node2.example", "not", "10023", "null", "node-2", "e")


def told(name: str) -> dict[str, Any]:
    """Return what a node of that name is told, as short as may be."""
    return {"node": {"name": name, "role": "worker"}}


def pillar_of(paths: Paths, scratch_dir: Path, name: str) -> dict[str, Any]:
    """Return what a master gives to a minion of that name."""
    options = salt.config.apply_minion_config(
        {
            "root_dir": str(scratch_dir),
            "id": name,
            "file_client": "local",
            "pillar_roots": {"base": [str(paths.pillar_dir)]},
        }
    )
    found: dict[str, Any] = salt.pillar.Pillar(options, {"id": name}, name, "base").compile_pillar()
    assert not found.get("_errors"), found
    caisson: dict[str, Any] = found.get("caisson", {})
    return caisson


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Return the bootstrap node ``node1`` with some further nodes."""
    context = make_context(tmp_path / "root")
    assert saltcall.write_configuration(context)
    for name in NAMES:
        assert pillartop.write(context.paths, "node1", told(name))
    return context.paths


def test_each_node_gets_its_own_and_no_other(paths: Paths, tmp_path: Path) -> None:
    for name in NAMES:
        assert pillar_of(paths, tmp_path / "salt", name) == told(name)
    assert pillar_of(paths, tmp_path / "salt", "node1")["node"]["role"] == "bootstrap"
    assert pillar_of(paths, tmp_path / "salt", "stranger") == {}
    assert pillar_of(paths, tmp_path / "salt", "node") == {}


def test_it_is_roots_alone(paths: Paths) -> None:
    assert sorted(NAMES) == pillartop.known(paths)
    for file in paths.pillar_dir.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_second_time_changes_nothing(paths: Paths) -> None:
    assert not pillartop.write(paths, "node1", told("node2"))
    assert pillartop.write(paths, "node1", {**told("node2"), "more": 1})


def test_a_bootstrap_that_is_run_again_knows_the_nodes(paths: Paths, tmp_path: Path) -> None:
    """Else the second run would take the others' pillar away, and call Salt's configuration outdated before."""
    context = make_context(tmp_path / "root")
    assert saltcall.outdated_configuration(context) == []
    assert not saltcall.write_configuration(context)


def test_a_node_that_leaves_is_forgotten(paths: Paths, tmp_path: Path) -> None:
    assert pillartop.forget(paths, "node1", "node2")
    assert not pillartop.forget(paths, "node1", "node2")
    assert pillar_of(paths, tmp_path / "salt", "node2") == {}
    assert pillar_of(paths, tmp_path / "salt", "node2.example") == told("node2.example")
