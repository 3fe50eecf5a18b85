# SPDX-License-Identifier: Apache-2.0
"""Swap goes out of /etc/fstab; every other byte of the file stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load


@pytest.mark.parametrize("comment", [b"# B\xfcro\n", b"# plain\r\n", "# one\u2028line\n".encode()])
def test_only_the_lines_of_swap_change(tmp_path: Path, comment: bytes) -> None:
    state: Any = load("caisson_host", STATES_DIR)
    state.FSTAB = tmp_path / "fstab"
    swap = b"/dev/sda3 none swap defaults 0 0 # \xfc\n"
    state.FSTAB.write_bytes(comment + swap + b"/dev/sda1 / xfs defaults 0 0\n")
    state.__dict__.update(
        __opts__={"test": False},
        __salt__={
            "caisson_host.active_swaps": list,
            "caisson_host.swap_lines": load("caisson_host").swap_lines,
        },
    )
    answer = state.swap_off("x")
    assert answer["result"]
    json.dumps(answer).encode()
    assert state.FSTAB.read_bytes() == comment + b"# caisson: " + swap + b"/dev/sda1 / xfs defaults 0 0\n"
    assert state.swap_off("x")["changes"] == {}
