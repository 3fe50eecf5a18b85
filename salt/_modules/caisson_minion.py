# SPDX-License-Identifier: Apache-2.0
"""The minion's key pair, made before its first start so that the master can know it beforehand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import salt.crypt

KEY_BITS = 4096


def has_key(pki_dir: str) -> bool:
    """Tell whether both halves of the key pair are there and whole: a kill or a power cut can leave one alone."""
    return all(_is_whole(Path(pki_dir) / name) for name in ("minion.pem", "minion.pub"))


def make_key(pki_dir: str) -> bool:
    """Make ``minion.pem`` and ``minion.pub`` in ``pki_dir`` unless both are whole; return whether they were made.

    They are made beside it and then renamed, the public half last: ``salt.crypt.write_keys`` makes no public half
    where there is a private one.
    """
    if has_key(pki_dir):
        return False
    os.makedirs(pki_dir, mode=0o700, exist_ok=True)
    made_dir = Path(pki_dir) / ".caisson-new"
    shutil.rmtree(made_dir, ignore_errors=True)
    made_dir.mkdir(mode=0o700)
    salt.crypt.write_keys(str(made_dir), "minion", KEY_BITS)
    os.sync()
    for name in ("minion.pub", "minion.pem"):
        (Path(pki_dir) / name).unlink(missing_ok=True)
    for name in ("minion.pem", "minion.pub"):
        (made_dir / name).rename(Path(pki_dir) / name)
    made_dir.rmdir()
    return True


def _is_whole(pem_file: Path) -> bool:
    return pem_file.is_file() and b"-----END " in pem_file.read_bytes()
