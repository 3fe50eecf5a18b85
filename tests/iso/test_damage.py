# SPDX-License-Identifier: Apache-2.0
"""Random bytes of the lab's ISO flipped, one at a time: each is found, with its place."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import VerifyError
from build.bundle.frame import Frame, frame_file, parse_frame
from build.bundle.iso import checksum_file
from build.evidence.verify import run_verify, verify_iso
from installer.base.errors import MediaError
from installer.media import mounting as media
from installer.media.signature import UNLISTED_FILE_NAMES

FLIPS = 100
TIMEOUT_S = 120
#: Starts the installer of a media ($2) in a box ($1) of its own: namespaces, a root of its own in memory, programs that
#: cannot be written to, one address, no systemd. Whatever it did could not be felt outside. Then names what it wrote.
BOX = """
set -eu
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir -p etc.new etc.work root/{usr,etc,media,dev,proc,run,tmp,var,root}
cp -a /bin /sbin /lib /lib64 root/
mount --rbind /usr root/usr
mount --rbind "$2" root/media
mount -o remount,bind,ro root/usr
mount -o remount,bind,ro root/media
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc.new,workdir=etc.work root/etc
for name in null zero urandom; do touch "root/dev/$name"; mount --bind "/dev/$name" "root/dev/$name"; done
mount -t proc proc root/proc
hostname node1
ip link add eth0 type veth peer name other
ip address add 192.0.2.10/24 dev eth0
ip link set eth0 up
export PATH=/usr/sbin:/usr/bin
chroot root /media/bootstrap.sh config init --output /root/bootstrap.yaml
status=0
chroot root /media/bootstrap.sh --config /root/bootstrap.yaml --accept-lab-bundle || status=$?
find root etc.new -xdev -type f ! -path 'root/dev/*' -printf 'wrote: %p\n'
exit "$status"
"""
#: Where a job has its directory, which is named by its time and by chance.
JOB = re.compile(r"/jobs/\d{8}-\d{6}-bootstrap-[0-9a-f]{6}/")
#: What the installer writes before its first phase, and the configuration that it is given.
WRITTEN = {
    "root/root/bootstrap.yaml", "etc.new/caisson/bootstrap.yaml", "root/run/caisson.lock",
    "root/var/lib/caisson/journal.jsonl", "root/var/log/caisson/bootstrap.log",
    *(f"root/var/lib/caisson/jobs/ID/{name}" for name in ("job.json", "journal.jsonl", "output.log", "result.json")),
}  # fmt: skip


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
    for path, position in inside:
        with flipped(tree_dir / path, position), pytest.raises(MediaError) as caught:
            media.verify(tree_dir, progress=lambda _: None)
        assert path in caught.value.details or path in UNLISTED_FILE_NAMES, f"seed {seed}, {path}, {position}"


def test_bootstrap_sh_refuses_a_flipped_byte(tree_dir: Path, tmp_path: Path) -> None:
    """The real one, with all that comes before its first phase, and nothing of what comes after."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - to be repeated with the printed seed
    file = chance.choice([path for path in sorted((tree_dir / "oci/blobs").rglob("*")) if path.is_file()])
    with flipped(file, chance.randrange(file.stat().st_size)):
        code, said, written = bootstrap(tree_dir, tmp_path)
    assert code == MediaError.exit_code, said
    assert "error: CSE006 CSP101 verify-media: the media /media is damaged: 1 files" in said
    assert f"differs: {file.relative_to(tree_dir)} " in said
    assert written == WRITTEN


def test_bootstrap_sh_goes_on_with_a_whole_media(tree_dir: Path, tmp_path: Path) -> None:
    """To its next phase, which finds that the media is a directory and no mounted ISO."""
    code, said, written = bootstrap(tree_dir, tmp_path)
    assert code == MediaError.exit_code, said
    assert "error: CSE006 CSP102 mount-media: /media is not a mounted ISO" in said
    assert {path for path in written if not path.startswith("root/var/log/caisson/")} <= WRITTEN


def bootstrap(tree_dir: Path, box_dir: Path) -> tuple[int, str, set[str]]:
    """Start the media's ``bootstrap.sh`` in a box; return its exit code, what it printed, and what it wrote."""
    done = subprocess.run(
        [
            "unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork",
            "bash", "-c", BOX, "box", box_dir, tree_dir,
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    written = {
        JOB.sub("/jobs/ID/", line.removeprefix("wrote: "))
        for line in done.stdout.splitlines()
        if line.startswith("wrote: ")
    }
    return done.returncode, done.stdout, written


@contextlib.contextmanager
def flipped(file: Path, position: int) -> Iterator[None]:
    """Have a bit of a file changed for a block; afterwards the file is as before: other tests read it too."""
    before = file.stat()
    file.chmod(before.st_mode | 0o200)
    flip(file, position)
    try:
        yield
    finally:
        flip(file, position)
        file.chmod(before.st_mode)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_site_without_the_frame_still_finds_it(damaged: Path) -> None:
    frame_file(damaged).unlink()
    run_verify(damaged)
    flip(damaged, 100)
    with pytest.raises(VerifyError, match="is damaged"):
        run_verify(damaged)
