# SPDX-License-Identifier: Apache-2.0
"""The bus's side of jobs: the installer's own engine answers, and Salt's command line is not believed about types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.engine import detached, nodepillar
from tests.unit.salt.test_modules import installer, load


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    found: Any = load("caisson_job")
    monkeypatch.setitem(found.__dict__, "__salt__", {"caisson_installer.call": installer().call})
    monkeypatch.setitem(found.__dict__, "_paths", lambda: Paths(tmp_path))
    return found


def test_it_is_the_installer_s_engine_that_starts_and_looks(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def start(*words: Any) -> Any:
        asked.append(words)
        return words[1]

    monkeypatch.setattr(detached, "start", start)
    monkeypatch.setattr(detached, "look", lambda *words: {"state": "running", "asked": words[1]})
    assert module.start("host-ab12", "host", "images.node") == "host-ab12"
    assert asked[0][2] == ["host", "images.node"]
    assert module.start(25, "host") == "25"  # as Salt's command line makes a number of it
    assert module.look(25) == {"state": "running", "asked": "25"}


def test_what_it_refuses_is_told_in_the_installer_s_words(module: Any) -> None:
    with pytest.raises(RuntimeError, match="is no job"):
        module.start("../x", "host")


def test_what_the_master_tells_is_written_before_it_is_acted_upon(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fresh, not what the minion holds in memory, and not the asterisks that Salt shows for it."""
    caisson = {
        "node": {"name": "node2"},
        "media_dir": "/opt/caisson/1",
        "control_planes": [],
        "elsewhere": {},
    }

    def items(*, unmask: bool) -> Any:
        return {"caisson": caisson if unmask else "****"}

    told = {f"{tmp_path}{path}": text for path, text in nodepillar.local_files(caisson).items()}
    monkeypatch.setitem(module.__salt__, "pillar.items", items)
    monkeypatch.setattr(nodepillar, "local_files", lambda _: told)
    monkeypatch.setattr(detached, "start", lambda _, job_id, sls: f"{job_id} {sls}")
    assert module.follow("cluster-told-1") == "cluster-told-1 ['cluster.told']"
    for path, text in told.items():
        assert Path(path).read_text() == text
        assert Path(path).stat().st_mode & 0o777 == 0o600


def test_what_was_told_is_nothing_before_it_was_acted_upon(module: Any, tmp_path: Path) -> None:
    module.TOLD_FILE = str(tmp_path / "told")
    assert module.told() == ""
    (tmp_path / "told").write_text("abc\n")
    assert module.told() == "abc"
