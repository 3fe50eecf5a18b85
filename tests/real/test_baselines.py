# SPDX-License-Identifier: Apache-2.0
"""Real hosts as baselines: the group core of CentOS Stream 9, and what built images printed for ``rpm -qa``."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from build.inventory.model import Baseline
from build.lock.solver import Universe
from build.lock.solvfiles import RepositoryFiles
from build.upstream.repodata import parse_comps


@pytest.fixture
def repository(real_dir: Path, tmp_path: Path) -> Path:
    """Unpack the metadata of BaseOS that closes the group core, and return its directory."""
    for kind in ("primary", "filelists"):
        packed = real_dir / f"repo/c9s-2022-02-baseos/core-{kind}.xml.xz"
        (tmp_path / f"{kind}.xml").write_bytes(lzma.decompress(packed.read_bytes()))
    return tmp_path


def universe_of(repository: Path) -> Universe:
    files = RepositoryFiles(
        id="baseos",
        primary=repository / "primary.xml",
        filelists=repository / "filelists.xml",
        solv_file=repository / "baseos.solv",
        base_urls=("https://baseos.example/",),
    )
    return Universe([files], ["baseos"])


def baseline(**fields: tuple[str, ...] | str) -> Baseline:
    return Baseline(id="el9", release="9.0", repositories=("baseos",), source="packages.yaml:1", **fields)  # type: ignore[arg-type]


def core(real_dir: Path) -> tuple[str, ...]:
    comps = real_dir / "repo/c9s-2022-02-baseos/comps.xml"
    return parse_comps(comps.read_bytes(), "core", "comps.xml")


def test_core_is_what_a_minimal_host_has(real_dir: Path, repository: Path) -> None:
    names = core(real_dir)
    assert len(names) == 46
    host = universe_of(repository).baseline(baseline(group="core"), names)
    assert len(host.ids) == 260
    assert host.notes == ()


def test_what_dracut_requires_stays(real_dir: Path, repository: Path) -> None:
    without = ("firewalld", "tar", "xz")
    host = universe_of(repository).baseline(baseline(group="core", without=without), core(real_dir))
    assert host.notes == ("not without xz: the rest of group 'core' requires it",)


def test_real_hosts_are_taken_as_they_are(real_files: Callable[[str], list[Path]], repository: Path) -> None:
    universe = universe_of(repository)
    for file in real_files("rpm-qa/*.txt"):
        lines = tuple(
            sorted(
                line for line in file.read_text(encoding="utf-8").split() if not line.startswith("gpg-pubkey")
            )
        )
        host = universe.listed(baseline(packages=lines, group=""))
        foreign = [line for line in lines if not line.endswith((".x86_64", ".noarch"))]
        assert len(host.ids) == len(lines) - len(foreign), file.name
        solution = universe.close([], host)
        assert solution.packages == (), file.name
        assert solution.kept == frozenset(host.ids), file.name
