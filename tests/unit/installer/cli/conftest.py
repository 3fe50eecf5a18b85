# SPDX-License-Identifier: Apache-2.0
"""Give the tests of the command line a media tree on a host with three networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.cli import bootstrap
from installer.config import facts
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT, make_tree, product_bytes


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a media tree; the host has three networks, the user is root, signals are left alone."""
    monkeypatch.setattr(facts, "read_addresses", lambda: ADDRESSES)
    monkeypatch.setattr(facts, "read_default_interface", lambda: "eth0")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "handle_signals", lambda: None)
    (tmp_path / "b.yaml").write_text(CONFIG_TEXT + "node: {name: node1}\n")
    return make_tree(tmp_path / "iso", {"product.json": product_bytes().decode()})
