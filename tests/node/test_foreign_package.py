# SPDX-License-Identifier: Apache-2.0
"""A package signed by another key, put onto the ISO behind the pipeline with every checksum remade, is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import createrepo_c
import pytest

from installer.base.errors import PackageError
from lab.node import Lab, Node
from lab.rpms import build_foreign_rpm
from lab.run import run
from tests.node.installing import Ended, lab_iso, repository_files, start

pytestmark = pytest.mark.lab

PACKAGES_DIR = "/repo/el9/Packages"
REPODATA_DIR = "/repo/el9/repodata"


def forge(iso: Path, foreign_rpm: Path, work_dir: Path) -> Path:
    """Return a copy of an ISO with one package replaced by ``foreign_rpm``, and repodata and SHA256SUMS remade."""
    tree_dir, forged_iso = work_dir / "tree", work_dir / iso.name
    work_dir.mkdir()
    extract: list[str | Path] = ["xorriso", "-report_about", "FAILURE", "-osirrox", "on", "-indev", iso]
    run([*extract, "-extract", "/repo/el9", tree_dir, "-extract", "/SHA256SUMS", work_dir / "SHA256SUMS"])
    run(["chmod", "-R", "u+w", work_dir])
    replaced = tree_dir / "Packages" / foreign_rpm.name
    assert replaced.is_file(), f"{foreign_rpm.name} is not the name of a package on the ISO"
    assert createrepo_c.package_from_rpm(str(replaced)).nevra() == nevra(foreign_rpm)
    replaced.write_bytes(foreign_rpm.read_bytes())
    run(["createrepo_c", "--quiet", "--no-database", "--workers", "2", tree_dir], timeout_s=300)
    remake_sums(work_dir / "SHA256SUMS", tree_dir)
    change: list[str | Path] = ["-indev", iso, "-outdev", forged_iso, "-boot_image", "any", "discard"]
    change += [
        "-map",
        replaced,
        f"{PACKAGES_DIR}/{replaced.name}",
        "-map",
        work_dir / "SHA256SUMS",
        "/SHA256SUMS",
    ]
    change += ["-rm_r", REPODATA_DIR, "--", "-map", tree_dir / "repodata", REPODATA_DIR]
    run(["xorriso", "-report_about", "FAILURE", "-overwrite", "on", *change, "-commit"], timeout_s=300)
    return forged_iso


def nevra(rpm: Path) -> str:
    """Return name, epoch, version, release and architecture of an RPM."""
    return str(createrepo_c.package_from_rpm(str(rpm)).nevra())


def remake_sums(sums_file: Path, tree_dir: Path) -> None:
    """Write SHA256SUMS anew for what lies below repo/el9; the other lines stay."""
    prefix = "repo/el9/"
    kept = [
        line for line in sums_file.read_text().splitlines() if not line.split("  ", 1)[1].startswith(prefix)
    ]
    made = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {prefix}{file.relative_to(tree_dir)}"
        for file in tree_dir.rglob("*")
        if file.is_file()
    ]
    lines = sorted([*kept, *made], key=lambda line: line.split("  ", 1)[1])
    sums_file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab of this module's own."""
    with Lab() as instance:
        yield instance


@pytest.fixture(scope="module")
def node(lab: Lab) -> Node:
    return lab.start_node("node1")


@pytest.fixture(scope="module")
def repository_files_before(node: Node) -> str:
    return repository_files(node)


def install_from(node: Node, iso: Path) -> Ended:
    """Put another ISO into the node and start its bootstrap."""
    node.run(["umount", "/mnt/caisson"], check=False, timeout_s=60)
    node.detach_iso()
    node.attach_iso(iso)
    return start(node, node.prepare_bootstrap())


def refuse(node: Node, repository_files_before: str, work_dir: Path, name: str) -> None:
    """Replace a package by one of its name with a foreign signature: nothing is installed from that media."""
    foreign_rpm = build_foreign_rpm(name)
    ended = install_from(node, forge(lab_iso(), foreign_rpm, work_dir / "forged"))
    assert ended.phase == "verify-media", ended.output[-3000:]
    assert ended.returncode == PackageError.exit_code, ended.output[-3000:]
    said = ended.output[ended.output.index("error: ") :]
    assert "Traceback" not in said, said
    assert re.search(rf"package {re.escape(foreign_rpm.stem)}\b", said), said
    assert "signature" in said
    assert "do not install from it" in said
    assert node.run(["rpm", "-q", name], check=False, timeout_s=60).returncode != 0
    assert repository_files(node) == repository_files_before


def test_a_package_with_a_foreign_signature_stops_the_bootstrap(
    node: Node, repository_files_before: str, tmp_path: Path
) -> None:
    """One that Salt's state of it would install; ``tests/soak`` has one that the installer itself would."""
    refuse(node, repository_files_before, tmp_path, "containerd.io")
