# SPDX-License-Identifier: Apache-2.0
"""Keys are made once by a real gpg, sign, and leave no agent behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import keys
from lab.errors import LabError
from lab.run import run


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a cache and a directory for GnuPG homes (short: an agent's socket lies in it)."""
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as homes:
        monkeypatch.setattr(tempfile, "tempdir", homes)
        yield Path(homes)


def agents_of(homes_dir: Path) -> list[int]:
    found = []
    for process_dir in Path("/proc").glob("[0-9]*"):
        try:
            words = (process_dir / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"gpg-agent" in words[0] and any(word.startswith(os.fsencode(homes_dir)) for word in words):
            found.append(int(process_dir.name))
    return found


def test_nobody_else_has_a_key() -> None:
    with pytest.raises(LabError, match="no key for 'epel'"):
        keys.key("epel")


def test_an_empty_listing_is_an_error() -> None:
    with pytest.raises(LabError, match="no key"):
        keys.parse_fingerprint("tru::1:\n")


@pytest.mark.subprocess
def test_a_key_is_made_once_signs_and_leaves_no_agent(own_places: Path, tmp_path: Path) -> None:
    """Starts the real gpg."""
    signer = keys.key("salt")
    assert keys.key("salt") == signer
    assert len(signer.fingerprint) == 40
    assert signer.secret_file.stat().st_mode & 0o077 == 0
    file = tmp_path / "file"
    file.write_text("text")
    with keys.signing_home(signer) as home_dir:
        signature_file = keys.sign_detached(file, signer=signer, home_dir=home_dir)
    assert signature_file.name == "file.asc"
    ring = tmp_path / "ring.gpg"
    run(["gpg", "--batch", "--homedir", tmp_path, "--dearmor", "--output", ring, signer.public_file])
    answer = run(["gpgv", "--keyring", ring, "--status-fd", "1", signature_file, file])
    assert f"VALIDSIG {signer.fingerprint}" in answer.stdout
    assert not list(own_places.iterdir())
    assert not agents_of(own_places)


@pytest.mark.subprocess
def test_what_a_killed_run_left_is_ended(own_places: Path) -> None:
    """Starts the real gpg-agent."""
    dead_pid = 2**22 + 1
    left_over = own_places / f"caisson-gnupg-{dead_pid}-x"
    left_over.mkdir(mode=0o700)
    own = own_places / f"caisson-gnupg-{os.getpid()}-x"
    own.mkdir(mode=0o700)
    run(["gpg-connect-agent", "--homedir", left_over, "/bye"])
    assert agents_of(own_places)
    keys.end_left_over_homes()
    assert not left_over.exists()
    assert own.exists()
    assert not agents_of(own_places)
