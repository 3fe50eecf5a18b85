# SPDX-License-Identifier: Apache-2.0
"""Random bytes of the lab's ISO flipped, one at a time: each is found, with its place."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from build.errors import VerifyError
from build.frame import Frame, frame_file, parse_frame
from build.iso import checksum_file
from build.verify import run_verify, verify_iso
from installer import media
from installer.errors import MediaError
from installer.signature import UNLISTED_FILE_NAMES

FLIPS = 100
#: Of those inside of a file, how many the installer looks at: it reads the whole media each time.
INSTALLER_FLIPS = 10


@pytest.fixture
def damaged(iso_file: Path, tmp_path: Path) -> Path:
    """Return a copy of the ISO with what lies beside it, to be damaged."""
    for file in (checksum_file(iso_file), frame_file(iso_file)):
        shutil.copy(file, tmp_path)
    return Path(shutil.copy(iso_file, tmp_path))


def flip(file: Path, offset: int) -> None:
    """Change one bit of a file; twice is nothing."""
    with file.open("r+b") as stream:
        byte = os.pread(stream.fileno(), 1, offset)
        os.pwrite(stream.fileno(), bytes([byte[0] ^ 0x10]), offset)


def place_of(frame: Frame, offset: int) -> tuple[str, int]:
    """Return the file that has a byte of the image, and where in the file it is; no name outside of files."""
    for file in frame.files:
        start = 0
        for extent in file.extents:
            if extent.offset <= offset < extent.offset + extent.size_bytes:
                return file.path, start + offset - extent.offset
            start += extent.size_bytes
    return "", offset


def test_every_flipped_byte_is_found(
    damaged: Path, tree_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of them anywhere in the image, half outside of files, where there is little to hit."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - to be repeated with the printed seed
    frame = parse_frame(frame_file(damaged).read_bytes(), "frame")
    gaps = [
        gap.offset + index for gap in frame.gaps for index in (0, gap.size_bytes // 2, gap.size_bytes - 1)
    ]
    offsets = [chance.randrange(frame.size_bytes) for _ in range(FLIPS // 2)]
    offsets += chance.sample(gaps, FLIPS - len(offsets))
    inside = []
    for offset in offsets:
        path, position = place_of(frame, offset)
        flip(damaged, offset)
        (fault,) = verify_iso(damaged).faults
        assert fault.path == path, f"seed {seed}, offset {offset}"
        if path:
            inside.append((path, position))
        else:
            assert (fault.offset, fault.size_bytes) == (offset, 1), f"seed {seed}, offset {offset}"
        flip(damaged, offset)
    run_verify(damaged)
    assert inside
    for path, position in inside[:INSTALLER_FLIPS]:
        _check_installer(tree_dir, path, position)


def _check_installer(tree_dir: Path, path: str, position: int) -> None:
    file = tree_dir / path
    before = file.stat()
    file.chmod(0o600)
    flip(file, position)
    try:
        with pytest.raises(MediaError) as caught:
            media.verify(tree_dir, progress=lambda _: None)
        assert path in caught.value.details or path in UNLISTED_FILE_NAMES
    finally:
        flip(file, position)
        file.chmod(before.st_mode)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # other tests read the tree too


def test_a_site_without_the_frame_still_finds_it(damaged: Path) -> None:
    frame_file(damaged).unlink()
    run_verify(damaged)
    flip(damaged, 100)
    with pytest.raises(VerifyError, match="is damaged"):
        run_verify(damaged)
