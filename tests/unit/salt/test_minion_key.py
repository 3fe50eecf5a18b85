# SPDX-License-Identifier: Apache-2.0
"""The minion's key pair: whole or made again, whatever a kill or a power cut left.

Their subprocess is ``ldconfig``: Salt asks it for libcrypto when its module of keys is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

pytestmark = pytest.mark.subprocess
HALVES = [("minion.pem", None), ("minion.pub", None), ("minion.pub", ""), ("minion.pem", "")]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    found: Any = load("caisson_minion")
    monkeypatch.setattr(found, "KEY_BITS", 2048)
    return found


def assert_pair(pki_dir: Path) -> None:
    key = load_pem_private_key((pki_dir / "minion.pem").read_bytes(), None)
    public = load_pem_public_key((pki_dir / "minion.pub").read_bytes())
    assert key.public_key() == public
    assert sorted(file.name for file in pki_dir.iterdir()) == ["minion.pem", "minion.pub"]


@pytest.mark.parametrize(("name", "text"), HALVES)
def test_a_half_is_made_whole(module: Any, tmp_path: Path, name: str, text: str | None) -> None:
    """Killed between the two files, or power lost before their bytes were on the disk."""
    assert module.make_key(str(tmp_path)) is True
    assert_pair(tmp_path)
    assert module.make_key(str(tmp_path)) is False
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    (tmp_path / ".caisson-new").mkdir()
    assert module.has_key(str(tmp_path)) is False
    assert module.make_key(str(tmp_path)) is True
    assert_pair(tmp_path)


def test_the_state(module: Any, tmp_path: Path) -> None:
    state: Any = load("caisson_minion", STATES_DIR)
    functions = {f"caisson_minion.{name}": getattr(module, name) for name in ("has_key", "make_key")}
    functions["caisson_result.ensure"] = load("caisson_result").ensure
    state.__dict__.update(__salt__=functions, __opts__={"test": False})
    assert state.key_made("x", str(tmp_path))["changes"]
    assert state.key_made("x", str(tmp_path))["changes"] == {}
    (tmp_path / "minion.pub").unlink()
    assert state.key_made("x", str(tmp_path))["changes"]
    assert_pair(tmp_path)
