# SPDX-License-Identifier: Apache-2.0
"""The bus's side of jobs: the installer's own engine answers, and Salt's command line is not believed about types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.engine import detached
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
