# SPDX-License-Identifier: Apache-2.0
"""Salt's modules reach the installer's copy on the host; Salt's own search path stays as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import MediaError
from installer.media import product
from tests.unit.salt.test_modules import load


def test_what_the_installer_says_comes_whole(repository_dir: Path, tmp_path: Path) -> None:
    module: Any = load("caisson_installer")
    module.__dict__["__pillar__"] = {"caisson": {"self_dir": str(repository_dir)}}
    searched = list(sys.path)
    with pytest.raises(MediaError) as own:
        product.load(tmp_path)
    with pytest.raises(RuntimeError) as told:
        module.call("installer.media.product", "load", module.tree_dir() / tmp_path)
    said = str(told.value)
    assert own.value.message in said
    assert own.value.resolution in said
    assert sys.path == searched
