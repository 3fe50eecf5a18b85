# SPDX-License-Identifier: Apache-2.0
"""The yum repository: real small RPMs, metadata that is the same at any time."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import createrepo_c
import pytest

from build.base.errors import BuildError, IntegrityError
from build.bundle import rpmrepo
from build.inventory.model import Digest, LockedKey, LockedPackage
from build.store import filelist
from build.store.objects import Store
from tests.unit.build.factory import BUILD_TIME, EPOCH, Member, Pot


@pytest.fixture
def pot(tmp_path: Path) -> Pot:
    return Pot(Store(tmp_path / "store"))


def packages_of(pot: Pot) -> tuple[LockedPackage, ...]:
    return (
        pot.package(
            "kubelet", "1.36.4", "150500.1.1", members=[Member(path="/usr/bin/kubelet", data=b"elf")]
        ),
        pot.package("socat", "1.7", "1.el9"),
    )


def make(pot: Pot, packages: tuple[LockedPackage, ...], root: Path, keys: tuple[LockedKey, ...] = ()) -> Path:
    rpmrepo.run_rpms(packages, keys, EPOCH, pot.store, root / "repodata", root / "part.json")
    return root / "repodata"


def test_metadata_names_every_package_by_its_place_and_digest(pot: Pot, tmp_path: Path) -> None:
    packages = packages_of(pot)
    make(pot, packages, tmp_path)
    metadata = createrepo_c.Metadata()
    metadata.locate_and_load_xml(str(tmp_path))
    listed = [metadata.get(key) for key in metadata.keys()]  # noqa: SIM118 - not a mapping
    assert {package.location_href: package.pkgId for package in listed} == {
        "Packages/kubelet-1.36.4-150500.1.1.noarch.rpm": packages[0].digest.hex,
        "Packages/socat-1.7-1.el9.noarch.rpm": packages[1].digest.hex,
    }
    assert {package.time_file for package in listed} == {BUILD_TIME}


def test_metadata_is_the_same_whatever_the_clock_and_the_order(pot: Pot, tmp_path: Path) -> None:
    packages = packages_of(pot)
    one = make(pot, packages, tmp_path / "one")
    for package in packages:
        os.utime(pot.store.path(package.digest), (1, 1))
    two = make(pot, packages[::-1], tmp_path / "two")
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in two.iterdir()
    }
    for file in one.glob("*.gz"):
        assert file.read_bytes()[4:8] == b"\0\0\0\0", "a gzip header without a time"
        assert gzip.decompress(file.read_bytes())


def test_packages_stay_in_the_store(pot: Pot, tmp_path: Path) -> None:
    packages = packages_of(pot)
    directory = make(pot, packages, tmp_path)
    entries = {entry.path: entry for entry in filelist.read_part(tmp_path / "part.json")}
    entry = entries["repo/el9/Packages/socat-1.7-1.el9.noarch.rpm"]
    assert entry.source == pot.store.path(packages[1].digest)
    assert entry.owners == ("package socat-1.7-1.el9.noarch",)
    listed = {path for path in entries if path.startswith("repo/el9/repodata/")}
    assert listed == {f"repo/el9/repodata/{file.name}" for file in directory.iterdir()}
    assert "repo/el9/repodata/repomd.xml" in listed


def test_metadata_of_yesterday_does_not_stay(pot: Pot, tmp_path: Path) -> None:
    make(pot, packages_of(pot), tmp_path)
    directory = make(pot, packages_of(pot)[:1], tmp_path)
    assert len(list(directory.iterdir())) == 4
    assert [path.name for path in directory.parent.iterdir() if path.is_dir()].count("repodata") == 1


def test_a_header_with_another_name_is_refused(pot: Pot, tmp_path: Path) -> None:
    package = dataclasses.replace(packages_of(pot)[0], version="1.36.5")
    with pytest.raises(IntegrityError) as caught:
        make(pot, (package,), tmp_path)
    assert "package kubelet-1.36.5-150500.1.1.noarch says" in caught.value.message
    assert "kubelet-0:1.36.4-150500.1.1.noarch" in caught.value.message
    assert not (tmp_path / "part.json").exists()


def test_two_packages_with_one_file_name_are_refused(pot: Pot, tmp_path: Path) -> None:
    package = packages_of(pot)[0]
    with pytest.raises(BuildError) as caught:
        make(pot, (package, dataclasses.replace(package, epoch=1)), tmp_path)
    assert "kubelet-1:1.36.4-150500.1.1.noarch" in caught.value.details


def key(repository: str, letter: str) -> LockedKey:
    data = f"key {letter}".encode()
    return LockedKey(
        repository=repository, fingerprint=letter * 40, digest=Digest.of_bytes(data), size_bytes=len(data)
    )


def test_keys_are_named_after_their_repository(pot: Pot, tmp_path: Path) -> None:
    keys = (key("baseos", "A"), key("kubernetes", "B"), key("kubernetes", "C"))
    assert list(rpmrepo.key_paths(keys).values()) == [
        "keys/baseos.asc",
        "keys/kubernetes-bbbbbbbbbbbbbbbb.asc",
        "keys/kubernetes-cccccccccccccccc.asc",
    ]
    pot.put(b"key A")
    make(pot, (), tmp_path, keys[:1])
    assert "keys/baseos.asc" in {entry.path for entry in filelist.read_part(tmp_path / "part.json")}
