# SPDX-License-Identifier: Apache-2.0
"""A whole small bundle: every step, by the real tools; built twice, verified, damaged."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from build import verify
from build.errors import VerifyError
from build.iso import checksum_file
from tests.unit.build.factory import EPOCH, World, all_steps, build_bundle, make_project, make_world

BALLAST_BYTES = 1_500_000  # checkisomd5 wants a mebibyte


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), ballast_bytes=BALLAST_BYTES)


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(world, tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def built(bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle and its checksum file, to be damaged."""
    shutil.copy(checksum_file(bundle), tmp_path)
    return Path(shutil.copy(bundle, tmp_path))


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


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("prefix", "owner"),
    [
        ("repo/el9/Packages/kubelet", "package kubelet-1.36.4-150500.1.1.noarch"),
        ("oci/blobs/sha256/CONFIG", "image docker.io/library/nginx:1.30"),
        ("salt/top.sls", ""),
    ],
)
def test_a_wrong_byte_names_the_file_and_what_it_belongs_to(
    world: World, built: Path, prefix: str, owner: str
) -> None:
    """By xorriso, which makes the image."""
    prefix = prefix.replace("CONFIG", world.lock.image("nginx").config.digest.hex)
    (file,) = [found for found in verify.read_directory(built) if found.path.startswith(prefix)]
    flip(built, file.extents[0].offset + file.size_bytes // 2)
    with pytest.raises(VerifyError) as caught:
        verify.run_verify(built)
    lines = caught.value.details.splitlines()
    assert lines[0].startswith(file.path + (f" ({owner})" if owner else "") + ": sha256 ")
    assert lines[1].startswith("whole image: sha256 ")
    assert len(lines) == 2


@pytest.mark.subprocess
def test_a_wrong_byte_outside_any_file_is_found(built: Path) -> None:
    """By xorriso, which makes the image. The first 16 sectors belong to no file."""
    flip(built, 100)
    (fault,) = verify.verify_iso(built).faults
    assert fault.endswith("the change is outside any file")


@pytest.mark.subprocess
def test_without_the_checksum_file_only_files_are_checked(built: Path) -> None:
    """By xorriso, which makes the image."""
    checksum_file(built).unlink()
    flip(built, 100)
    report = verify.verify_iso(built)
    assert (report.faults, report.is_whole_checked) == ((), False)


@pytest.mark.subprocess
def test_a_truncated_image_is_found(built: Path) -> None:
    """By xorriso, which makes the image."""
    os.truncate(built, built.stat().st_size // 2)
    with pytest.raises(VerifyError):
        verify.run_verify(built)


@pytest.mark.subprocess
def test_a_damaged_directory_is_found(built: Path) -> None:
    """By xorriso, which makes the image."""
    with built.open("r+b") as image:
        image.seek(16 * 2048 + 156)  # the record of the root directory in the volume descriptor
        image.write(b"\xff" * 34)
    with pytest.raises(VerifyError, match="damaged outside any file"):
        verify.run_verify(built)


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
