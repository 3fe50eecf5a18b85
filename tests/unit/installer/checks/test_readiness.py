# SPDX-License-Identifier: Apache-2.0
"""Which checks are run: all, or those that only look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.paths import Paths
from installer.checks import CHECKS, preflight, readiness
from installer.checks.preflight import Check, Report
from tests.unit.installer.helpers import make_product


@pytest.mark.parametrize("with_trials", [True, False])
def test_trials_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_trials: bool
) -> None:
    (tmp_path / "salt/parameters").mkdir(parents=True)
    (tmp_path / "salt/parameters/ports.yaml").write_text("ports: []\n")
    seen: list[str] = []

    def remember(host: object, checks: Sequence[Check], *, ignored: object) -> Report:
        seen.extend(check.id for check in checks)
        return Report(())

    monkeypatch.setattr(preflight, "check_host", remember)
    readiness.assess_known(
        tmp_path, None, None, make_product(), paths=Paths(tmp_path), with_trials=with_trials
    )
    left_out = {check.id for check in CHECKS} - set(seen)
    trials = {"CSN305", "CSN501", "CSN502", "CSN503", "CSN504", "CSN505"}
    assert left_out == (set() if with_trials else trials)
