# SPDX-License-Identifier: Apache-2.0
"""A whole small bundle: every step, by the real tools; built twice, verified, damaged."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from build.base.errors import BuildError, IntegrityError, VerifyError, WorkspaceError
from build.base.plan import Step
from build.bundle import product as product_files
from build.bundle.frame import frame_file, parse_frame, read_back
from build.bundle.iso import checksum_file
from build.bundle.isodirectory import outside, read_directory
from build.evidence import verify
from build.inventory.model import Digest
from build.store import filelist
from tests.unit.build.factory import (
    EPOCH,
    World,
    all_steps,
    build_bundle,
    make_project,
    make_world,
    write_sources,
)

BALLAST_BYTES = 1_500_000  # checkisomd5 wants a mebibyte


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), ballast_bytes=BALLAST_BYTES)


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(world, tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def built(bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle and what lies beside it, to be damaged."""
    for beside in (checksum_file(bundle), frame_file(bundle)):
        shutil.copy(beside, tmp_path)
    return Path(shutil.copy(bundle, tmp_path))


@pytest.fixture
def bare(built: Path) -> Path:
    """Return the same without its frame: as from a site that keeps only image and checksum."""
    frame_file(built).unlink()
    return built


@pytest.mark.subprocess
def test_two_builds_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    """By rpm2archive and xorriso; in another place, with another umask and other dates and modes of files."""
    one = build_bundle(world, tmp_path / "one")
    before = os.umask(0o077)
    try:
        project = make_project(world, tmp_path / "two" / "deeper")
        shutil.copytree(tmp_path / "one", tmp_path / "two" / "deeper", ignore=shutil.ignore_patterns("_out"))
        for file in (tmp_path / "two" / "deeper").rglob("*.sls"):
            file.chmod(0o777)
            os.utime(file, (1, 1))
        for step in all_steps(project):
            step.run()
    finally:
        os.umask(before)
    assert project.iso_file.read_bytes() == one.read_bytes()
    assert checksum_file(project.iso_file).read_text() == checksum_file(one).read_text()


@pytest.mark.subprocess
def test_a_second_run_changes_nothing(world: World, tmp_path: Path) -> None:
    """By rpm2archive and xorriso."""
    iso_file = build_bundle(world, tmp_path)
    before = iso_file.read_bytes()
    assert build_bundle(world, tmp_path).read_bytes() == before


@pytest.mark.subprocess
def test_the_image_as_xorriso_reads_it(built: Path, tmp_path: Path) -> None:
    """By xorriso and sha256sum: names, modes, dates, and every file's content."""
    tree = tmp_path / "tree"
    subprocess.run(
        ["xorriso", "-report_about", "FAILURE", "-osirrox", "on", "-indev", built, "-extract", "/", tree],
        check=True,
        timeout=60,
    )
    for directory in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o555
    files = [path for path in tree.rglob("*") if path.is_file()]
    modes = {str(path.relative_to(tree)): stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes.pop("bootstrap.sh") == 0o755
    assert set(modes.values()) == {0o444}
    assert {int(path.stat().st_mtime) for path in tree.rglob("*")} == {EPOCH}
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=tree, check=True, timeout=60)
    product = json.loads((tree / "product.json").read_text())
    assert product["images"]["salt-master"]["preload"] is True
    for path in tree.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


@pytest.mark.subprocess
def test_the_checksum_file_is_sha256sum_s(built: Path) -> None:
    """By sha256sum."""
    subprocess.run(
        ["sha256sum", "--check", checksum_file(built).name], cwd=built.parent, check=True, timeout=60
    )


@pytest.mark.subprocess
def test_a_good_image_has_no_fault(built: Path) -> None:
    """By xorriso, which makes it."""
    report = verify.verify_iso(built)
    assert report.faults == ()
    assert report.is_whole_checked
    assert report.size_bytes == built.stat().st_size
    assert json.loads(report.as_json())["ok"] is True


DAMAGED_FILES = pytest.mark.parametrize(
    ("prefix", "owner"),
    [
        ("repo/el9/Packages/kubelet", "package kubelet-1.36.4-150500.1.1.noarch"),
        ("oci/blobs/sha256/CONFIG", "image docker.io/library/nginx:1.30"),
        ("salt/top.sls", ""),
    ],
)


def damage(world: World, iso_file: Path, prefix: str) -> str:
    """Change one byte inside a file of the image; return the file's path."""
    prefix = prefix.replace("CONFIG", world.lock.image("nginx").config.digest.hex)
    (file,) = [found for found in read_directory(iso_file) if found.path.startswith(prefix)]
    flip(iso_file, file.extents[0].offset + file.size_bytes // 2)
    return file.path


@pytest.mark.subprocess
@DAMAGED_FILES
def test_a_wrong_byte_names_the_file_and_what_it_belongs_to(
    world: World, built: Path, prefix: str, owner: str
) -> None:
    """By xorriso, which makes the image."""
    path = damage(world, built, prefix)
    (fault,) = verify.verify_iso(built).faults
    assert (fault.path, owner in fault.owners or not owner) == (path, True)
    with pytest.raises(VerifyError) as caught:
        verify.run_verify(built)
    assert path in caught.value.details
    assert owner in caught.value.details


@pytest.mark.subprocess
@pytest.mark.parametrize("kind", ["layer", "package", "manifest", "key"])
def test_a_rotten_object_of_the_store_never_gets_on_an_iso(tmp_path: Path, kind: str) -> None:
    """By xorriso. The byte changes where only reading tells: size, inode and time are as they were."""
    world = make_world(tmp_path / "world")
    project = make_project(world, write_sources(tmp_path / "checkout"))
    *steps, image = all_steps(project)
    run_all(steps)
    lock = world.lock
    damaged = {
        "layer": lock.image("etcd").layers[0].digest,
        "package": lock.package("kubelet").digest,
        "manifest": lock.manifests[0].digest,
        "key": lock.keys[0].digest,
    }[kind]
    rot(world.store.path(damaged))
    with pytest.raises(IntegrityError) as caught:
        image.run()
    assert damaged.hex in caught.value.details
    assert "now removed from it" in caught.value.details
    assert "doit.sh fetch" in caught.value.resolution
    assert not list(project.out_dir.glob("*.iso*")) + list(project.out_dir.glob(".*.tmp"))
    assert not world.store.path(damaged).exists()


@pytest.mark.subprocess
@pytest.mark.parametrize("kind", ["package", "manifest of an image", "base layer"])
def test_a_rotten_object_stops_the_step_that_reads_it(tmp_path: Path, kind: str) -> None:
    """By rpm2archive."""
    world = make_world(tmp_path / "world")
    lock = world.lock
    damaged = {
        "package": lock.package("kubelet").digest,
        "manifest of an image": lock.image("etcd").digest,
        "base layer": lock.image("base-os").layers[0].digest,
    }[kind]
    rot(world.store.path(damaged))
    steps = all_steps(make_project(world, write_sources(tmp_path / "checkout")))
    with pytest.raises(IntegrityError, match="damaged in the store"):
        run_all(steps)
    assert not world.store.path(damaged).exists()


@pytest.mark.subprocess
def test_an_assembly_that_has_no_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rpm2archive."""
    project = make_project(make_world(tmp_path / "world"), write_sources(tmp_path / "checkout"))
    *steps, image = all_steps(project)
    run_all(steps)
    monkeypatch.setattr("build.base.space.free_bytes", lambda _: 100)
    with pytest.raises(WorkspaceError, match=r"not enough space for 'caisson-0\.1\.0-") as caught:
        image.run()
    assert caught.value.details.endswith(f"free 100 B, in {project.out_dir}")


@pytest.mark.subprocess
def test_a_made_file_that_changed_never_gets_on_an_iso(tmp_path: Path) -> None:
    """By xorriso."""
    project = make_project(make_world(tmp_path / "world"), write_sources(tmp_path / "checkout"))
    *steps, image = all_steps(project)
    run_all(steps)
    rot(project.workspace.tree_dir / "salt" / "top.sls")
    with pytest.raises(IntegrityError, match=r"1 file of the bundle") as caught:
        image.run()
    assert "salt/top.sls" in caught.value.details
    assert not list(project.out_dir.glob("*.iso"))


@pytest.mark.subprocess
def test_a_finished_image_is_read_once(tmp_path: Path) -> None:
    """By xorriso. What the process asks the kernel for is counted, the page cache's answers too."""
    project = make_project(
        make_world(tmp_path / "world", ballast_bytes=8_000_000), write_sources(tmp_path / "checkout")
    )
    *steps, image = all_steps(project)
    run_all(steps)
    known = image.run()
    parts = (*project.parts(), product_files.part_file(project.workspace))
    sums = filelist.describe_file(
        "SHA256SUMS", product_files.sums_file(project.workspace), owners=("checksums",)
    )
    entries = [*filelist.merge_parts(parts), sums]
    size_bytes = project.iso_file.stat().st_size
    before = bytes_read()
    reading = read_back(project.iso_file, entries)
    overhead = bytes_read() - before
    assert size_bytes <= overhead <= size_bytes + 4096  # reading the counter is counted too
    assert reading.whole == Digest.of_file(project.iso_file)
    # ... and doit is told, so that it reads nothing to learn what was made.
    assert known is not None
    assert known[project.iso_file] == reading.whole.hex
    assert known[frame_file(project.iso_file)] == Digest.of_file(frame_file(project.iso_file)).hex


def run_all(steps: Sequence[Step]) -> None:
    for step in steps:
        step.run()


def bytes_read() -> int:
    """Return how many bytes this process has asked the kernel for. Source: proc_pid_io(5), rchar."""
    return int(Path("/proc/self/io").read_text().split()[1])


def rot(file: Path) -> None:
    """Change a byte in the middle of a file, and nothing else that could be seen."""
    status = file.stat()
    file.chmod(0o644)
    flip(file, status.st_size // 2)
    file.chmod(stat.S_IMODE(status.st_mode))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.subprocess
@DAMAGED_FILES
def test_without_its_frame_too(world: World, bare: Path, prefix: str, owner: str) -> None:
    """By xorriso, which makes the image."""
    path = damage(world, bare, prefix)
    with pytest.raises(VerifyError) as caught:
        verify.run_verify(bare)
    lines = caught.value.details.splitlines()
    assert lines[0].startswith(path + (f" ({owner})" if owner else "") + ": sha256 ")
    assert lines[1].startswith("whole image: sha256 ")
    assert len(lines) == 2


@pytest.mark.subprocess
def test_a_wrong_byte_outside_any_file_has_an_offset(built: Path) -> None:
    """By xorriso, which makes the image. The first 16 sectors belong to no file."""
    size_bytes = built.stat().st_size
    (directory, *_) = outside(
        (extent for file in read_directory(built) for extent in file.extents), size_bytes
    )
    for offset in (100, directory.offset + directory.size_bytes - 1, size_bytes - 1):
        flip(built, offset)
        report = verify.verify_iso(built)
        assert [(fault.offset, fault.size_bytes, fault.path) for fault in report.faults] == [(offset, 1, "")]
        assert str(report.faults[0]) == f"offset {offset}: 1 byte changed outside any file"
        flip(built, offset)
    assert verify.verify_iso(built).faults == ()


@pytest.mark.subprocess
def test_without_its_frame_the_digest_of_the_whole_finds_it(bare: Path) -> None:
    """By xorriso, which makes the image."""
    flip(bare, 100)
    (fault,) = verify.verify_iso(bare).faults
    assert "the change is outside any file" in str(fault)


@pytest.mark.subprocess
def test_with_nothing_beside_it_the_implanted_sum_finds_it(bare: Path) -> None:
    """By xorriso, which makes the image."""
    checksum_file(bare).unlink()
    assert verify.verify_iso(bare).faults == ()
    flip(bare, 100)
    report = verify.verify_iso(bare)
    assert [str(fault).partition(":")[0] for fault in report.faults] == ["whole image"]
    assert not report.is_whole_checked


@pytest.mark.subprocess
def test_a_frame_that_nobody_vouches_for_is_not_believed(built: Path) -> None:
    """By xorriso, which makes the image. An attacker would change the image and its frame together."""
    flip(built, 100)
    frame = frame_file(built)
    entries = parse_frame(frame.read_bytes(), frame.name)
    frame.write_bytes(frame.read_bytes().replace(b'"format":1', b'"format":1 '))
    report = verify.verify_iso(built)
    assert f"{frame.name}: not the file that {checksum_file(built).name} names" in map(str, report.faults)
    assert any("whole image: sha256" in str(fault) for fault in report.faults)
    assert entries.size_bytes == built.stat().st_size


@pytest.mark.subprocess
def test_the_frame_and_the_files_are_the_whole_image(built: Path) -> None:
    """By xorriso, which makes the image."""
    frame = parse_frame(frame_file(built).read_bytes(), "frame")
    covered = sum(file.size_bytes for file in frame.files) + len(frame.outside)
    assert covered == frame.size_bytes == built.stat().st_size


@pytest.mark.subprocess
def test_an_image_with_another_file_has_no_frame(built: Path) -> None:
    """By xorriso, which makes the image."""
    with pytest.raises(BuildError, match="other files than were meant"):
        read_back(built, [])


@pytest.mark.subprocess
def test_verify_needs_no_directory_where_there_is_a_frame(built: Path) -> None:
    """By xorriso, which makes the image."""
    with built.open("r+b") as image:
        image.seek(16 * 2048 + 156)
        image.write(b"\xff" * 34)
    faults = verify.verify_iso(built).faults
    assert all(fault.path == "" and 16 * 2048 + 156 <= fault.offset < 16 * 2048 + 190 for fault in faults)


@pytest.mark.subprocess
def test_a_truncated_image_is_found(built: Path) -> None:
    """By xorriso, which makes the image."""
    os.truncate(built, built.stat().st_size // 2)
    with pytest.raises(VerifyError):
        verify.run_verify(built)


@pytest.mark.subprocess
def test_a_damaged_directory_is_found(bare: Path) -> None:
    """By xorriso, which makes the image."""
    with bare.open("r+b") as image:
        image.seek(16 * 2048 + 156)  # the record of the root directory in the volume descriptor
        image.write(b"\xff" * 34)
    with pytest.raises(VerifyError, match="damaged outside any file"):
        verify.run_verify(bare)


@pytest.mark.subprocess
def test_the_command_line_ends_with_the_code_of_the_class(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By xorriso, which makes the image."""
    assert verify.main([str(built)]) == 0
    flip(built, 100)
    assert verify.main([str(built), "--json"]) == VerifyError.exit_code
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert verify.main([str(built)]) == VerifyError.exit_code
    assert verify.main([str(built.with_name("none.iso"))]) == VerifyError.exit_code
    assert "there is no file" in capsys.readouterr().err


def flip(iso_file: Path, offset: int) -> None:
    """Change one byte of the image."""
    with iso_file.open("r+b") as image:
        image.seek(offset)
        byte = image.read(1)[0]
        image.seek(offset)
        image.write(bytes([byte ^ 0x01]))
