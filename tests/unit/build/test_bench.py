# SPDX-License-Identifier: Apache-2.0
"""The measurements, on a bundle that is too small to say anything of speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from build import bench, benchlock
from build.base.errors import MissingError
from tests.unit.build.factory import all_steps, make_project, make_world, write_sources


@pytest.mark.loopback
@pytest.mark.subprocess
def test_made_up_metadata_is_locked_the_same_twice(tmp_path: Path) -> None:
    cold, warm = benchlock.measure(tmp_path, 100)
    assert cold.locked == warm.locked > 0
    assert all(figures.memory_bytes > 0 and figures.cpu_s > 0 for figures in (cold, warm))


@pytest.mark.loopback
@pytest.mark.subprocess
def test_every_figure_can_be_taken(
    tmp_path: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By xorriso, openssl, createrepo_c; doit is only spoken to in words."""
    project = make_project(
        make_world(tmp_path / "world", ballast_bytes=1_500_000), write_sources(tmp_path / "x")
    )
    for step in all_steps(project):
        step.run()
    monkeypatch.setattr(benchlock, "PACKAGES", 300)
    monkeypatch.setattr(bench, "_LARGE_BYTES", 32_000_000)
    monkeypatch.setattr(bench.Bench, "_doit", lambda *_: "lock: 3 packages written in 0.4 s\n")
    rows = list(bench.Bench(project, tmp_path).rows())
    assert [row.what.partition(",")[0].partition(" of ")[0] for row in rows] == [
        "assembly", "peak memory", "bytes read after writing / size", "assembly", "verify", "verify",
        "doit with nothing to do", "warm lock", "first lock", "second lock",
        "most memory", "repodata", "image / unique payload",
    ]  # fmt: skip
    assert all(row.ours for row in rows)
    is_met = {row.what: row.is_met for row in rows}
    assert is_met["warm lock"] is True
    assert is_met["bytes read after writing / size"] is True


def test_without_a_bundle_there_is_nothing_to_measure(tmp_path: Path) -> None:
    project = make_project(make_world(tmp_path / "world"), tmp_path)
    with pytest.raises(MissingError, match="there is no bundle"):
        bench.Bench(project, tmp_path)


def test_the_page(golden: Callable[[str, str], None]) -> None:
    rows = [
        bench.Row(what="assembly", ours="1 GB/s", beside="1.1 GB/s, xorriso", target=">= 0.9", is_met=True),
        bench.Row(what="verify", ours="1 GB/s", target=">= 0.9", is_met=False),
        bench.Row(what="then: MD5", ours="400 MB/s"),
    ]
    text = bench.render_page(rows, date="2026-01-02", machine="2 cores", upstream="lab")
    golden("bench.md", text)
