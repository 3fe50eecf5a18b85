# SPDX-License-Identifier: Apache-2.0
"""Salt's modules reach the installer's copy on the host; Salt's own search path stays as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.media import product
from tests.unit.salt.test_modules import installer


def test_what_the_installer_says_comes_whole(tmp_path: Path) -> None:
    module = installer()
    searched = list(sys.path)
    with pytest.raises(MediaError) as own:
        product.load(tmp_path)
    with pytest.raises(RuntimeError) as told:
        module.call("installer.media.product", "load", module.tree_dir() / tmp_path)
    said = str(told.value)
    assert own.value.message in said
    assert own.value.resolution in said
    assert sys.path == searched
