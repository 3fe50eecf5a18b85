# SPDX-License-Identifier: Apache-2.0
"""What is needed, what is there, and where, in one error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from build.base import space
from build.base.errors import BuildError, WorkspaceError
from build.base.space import free_bytes, require_space


def test_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert abs(free_bytes(tmp_path / "a" / "b") - free) < 100_000_000


def test_too_little_is_told_with_both_figures(tmp_path: Path) -> None:
    require_space(1, tmp_path, "it", kind=WorkspaceError, resolution="free some")
    with pytest.raises(WorkspaceError, match="not enough space for it") as caught:
        require_space(10**18, tmp_path, "it", kind=WorkspaceError, resolution="free some")
    assert caught.value.details.startswith("needed 1000000000.0 GB, free ")
    assert caught.value.details.endswith(f", in {tmp_path}")


def test_what_rounding_hides_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _directory: 5_000_000_000)
    with pytest.raises(BuildError, match=r"needed 5\.0 GB, free 5\.0 GB \(7 bytes too few\), in"):
        space.require_space(5_000_000_007, tmp_path, "it", kind=BuildError, resolution="free some")
