# SPDX-License-Identifier: Apache-2.0
"""The minion's key pair, made before its first start so that the master can know it beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import salt.crypt


def make_key(pki_dir: str) -> bool:
    """Make ``minion.pem`` and ``minion.pub`` in ``pki_dir`` unless they exist; return whether they were made."""
    private_key = Path(pki_dir) / "minion.pem"
    if private_key.exists() and private_key.with_suffix(".pub").exists():
        return False
    os.makedirs(pki_dir, mode=0o700, exist_ok=True)
    salt.crypt.write_keys(pki_dir, "minion", 4096)
    return True
