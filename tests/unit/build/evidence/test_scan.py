# SPDX-License-Identifier: Apache-2.0
"""What is inside of layers and packages: real small databases, whatever upstream may put there."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from build.evidence.gobuildinfo import GoBinary
from build.evidence.inside.model import Package, Release
from build.evidence.scan import Scan, Scanner, merge_layers
from build.inventory.model import Digest
from tests.unit.build.factory import Member, tar_layer, tiny_rpm, tiny_rpmdb, zipped
from tests.unit.build.goprograms import TOOL, elf, information

APK = b"""C:Q1abc=
P:libssl3
V:3.5.1-r0
A:x86_64
L:Apache-2.0
o:openssl
F:usr/lib
R:libssl.so.3

P:musl
V:1.2.5-r10
A:x86_64
L:MIT
o:musl
"""
DPKG = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.41-12)
Version: 2.41-12+deb13u1
Description: GNU C Library
 more words
 Package: not-this

Package: removed
Status: deinstall ok config-files
Version: 1

Package: unpacked
Status: install ok unpacked
Architecture: all
Version: 1:2.0~rc1
"""
METADATA = (
    b"Metadata-Version: 2.4\r\nName: Jinja2\r\nVersion: 3.1.6\r\nLicense: BSD\r\n\r\nName: not this\r\n"
)
DEBIAN = b'ID=debian\nVERSION_ID="13"\n'


def scan(tmp_path: Path, *layers: bytes) -> Scan:
    """Return what an image of these layers holds, read once and once more from what was remembered."""
    scanner = Scanner(tmp_path / "cache")
    scans = []
    for number, data in enumerate(layers):
        file = tmp_path / f"layer-{number}"
        file.write_bytes(data)
        digest = Digest.of_file(file)
        scans.append(scanner.layer(file, digest))
        assert Scanner(tmp_path / "cache").layer(tmp_path / "absent", digest) == scans[-1]
        file.unlink()
    return merge_layers(scans)


def names(found: Scan) -> list[str]:
    return [package.name for packages in found.packages.values() for package in packages]


def test_a_layer_of_programs(tmp_path: Path) -> None:
    data = zipped(tar_layer({"./usr/bin/tool": elf(information()), "etc/x": b"x", "bin": "usr/bin"}))
    assert scan(tmp_path, data) == Scan(programs={"usr/bin/tool": TOOL})


def test_alpines_database(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        tar_layer({"lib/apk/db/installed": APK, "etc/os-release": b"ID=alpine\nVERSION_ID=3.23.0\n"}),
    )
    assert found.release == Release(id="alpine", version="3.23.0")
    assert found.packages["lib/apk/db/installed"] == (
        Package(
            kind="apk",
            name="libssl3",
            version="3.5.1-r0",
            arch="x86_64",
            source="openssl",
            licence="Apache-2.0",
        ),
        Package(kind="apk", name="musl", version="1.2.5-r10", arch="x86_64", licence="MIT"),
    )


def test_debians_database_and_that_of_images_without_dpkg(tmp_path: Path) -> None:
    tzdata = b"Package: tzdata\nVersion: 2025b-4\nArchitecture: all\n"
    found = scan(
        tmp_path,
        tar_layer(
            {
                "var/lib/dpkg/status": DPKG,
                "var/lib/dpkg/status.d/tzdata": tzdata,
                "var/lib/dpkg/status.d/tzdata.md5sums": b"00  usr/share/zoneinfo\n",
                "etc/os-release": "../usr/lib/os-release",
                "usr/lib/os-release": DEBIAN,
            }
        ),
    )
    assert found.release == Release(id="debian", version="13")
    assert found.packages == {
        "var/lib/dpkg/status": (
            Package(
                kind="deb", name="libc6", version="2.41-12+deb13u1", arch="amd64", source="glibc@2.41-12"
            ),
            Package(kind="deb", name="unpacked", version="1:2.0~rc1", arch="all"),
        ),
        "var/lib/dpkg/status.d/tzdata": (Package(kind="deb", name="tzdata", version="2025b-4", arch="all"),),
    }


@pytest.mark.parametrize("directory", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_the_database_of_rpm(tmp_path: Path, directory: str) -> None:
    database = tiny_rpmdb(
        tiny_rpm("bash", "5.1.8", "9.el9", arch="x86_64"), tiny_rpm("gpg-pubkey"), tiny_rpm("tar")
    )
    found = scan(tmp_path, zipped(tar_layer({f"{directory}/rpmdb.sqlite": database})))
    assert names(found) == ["bash", "tar"]
    assert found.packages[f"{directory}/rpmdb.sqlite"][0] == Package(
        kind="rpm",
        name="bash",
        version="5.1.8-9.el9",
        arch="x86_64",
        source="bash-5.1.8-9.el9.src.rpm",
        licence="MIT",
    )


def test_what_is_only_in_the_log_of_a_database_counts(tmp_path: Path) -> None:
    """An image taken while rpm had not yet moved its last writes into the database itself."""
    file = tmp_path / "rpmdb.sqlite"
    file.write_bytes(tiny_rpmdb(tiny_rpm("bash")))
    with contextlib.closing(sqlite3.connect(file)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        late = tiny_rpmdb(tiny_rpm("late"))
        (tmp_path / "late").write_bytes(late)
        base.execute("ATTACH ? AS late", (str(tmp_path / "late"),))
        base.execute("INSERT INTO Packages (blob) SELECT blob FROM late.Packages")
        base.commit()
        log = tmp_path / "rpmdb.sqlite-wal"
        layer = tar_layer(
            {"var/lib/rpm/rpmdb.sqlite-wal": log.read_bytes(), "var/lib/rpm/rpmdb.sqlite": file.read_bytes()}
        )
    assert names(scan(tmp_path, layer)) == ["bash", "late"]


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("var/lib/rpm/Packages", b"\0" * 12 + b"\x62\x31\x05\0", "a form before SQLite"),
        ("usr/lib/sysimage/rpm/Packages.db", b"RpmP", "a form before SQLite"),
        ("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + b"\xff" * 2000, "no database of rpm"),
        ("var/lib/rpm/rpmdb.sqlite", b"text", "no database of rpm"),
    ],
)
def test_a_database_that_cannot_be_read_is_named(tmp_path: Path, path: str, data: bytes, reason: str) -> None:
    assert reason in scan(tmp_path, tar_layer({path: data})).unread[path]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum FROM n) SELECT * FROM n",
        "CREATE TABLE Other (x)",
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, other BLOB)",
    ],
)
def test_a_hostile_database_is_named(tmp_path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "base")) as base:
        base.execute(statement)
        base.commit()
    layer = tar_layer({"var/lib/rpm/rpmdb.sqlite": (tmp_path / "base").read_bytes()})
    assert "no database of rpm" in scan(tmp_path, layer).unread["var/lib/rpm/rpmdb.sqlite"]


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\1", b"\xff" * 64, b"\0\0\0\1\0\0\0\4" + b"\0" * 4])
def test_a_header_that_is_none_is_named(tmp_path: Path, blob: bytes) -> None:
    file = tmp_path / "base"
    file.write_bytes(tiny_rpmdb(tiny_rpm("bash")))
    with contextlib.closing(sqlite3.connect(file)) as base:
        base.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
        base.commit()
    assert scan(tmp_path, tar_layer({"var/lib/rpm/rpmdb.sqlite": file.read_bytes()})).unread


@pytest.mark.parametrize(
    "path",
    [
        "opt/salt/lib/python3.14/site-packages/jinja2-3.1.6.dist-info/METADATA",
        "usr/lib/python3/dist-packages/Jinja2.egg-info/PKG-INFO",
        "usr/lib/python3/dist-packages/Jinja2-3.1.6.egg-info",
    ],
)
def test_a_python_distribution(tmp_path: Path, path: str) -> None:
    found = scan(tmp_path, tar_layer({path: METADATA, "a/dist-info/METADATA": b"Name: x\nVersion: 1\n"}))
    assert found.packages == {path: (Package(kind="pypi", name="Jinja2", version="3.1.6", licence="BSD"),)}


@pytest.mark.subprocess
def test_a_python_distribution_in_a_package(tmp_path: Path) -> None:
    """By rpm2archive."""
    rpm = tmp_path / "salt.rpm"
    member = Member(path="/opt/salt/jinja2-3.1.6.dist-info/METADATA", data=METADATA)
    rpm.write_bytes(tiny_rpm("salt", members=[member]))
    assert names(Scanner(tmp_path / "cache").package(rpm, Digest.of_file(rpm))) == ["Jinja2"]


def test_the_database_of_the_uppermost_layer_counts(tmp_path: Path) -> None:
    later = DPKG.replace(b"Package: unpacked", b"Package: added")
    layers = [tar_layer({"var/lib/dpkg/status": data}) for data in (DPKG, later)]
    assert names(scan(tmp_path, *layers)) == ["libc6", "added"]


@pytest.mark.parametrize(
    "upper",
    [
        {"opt/.wh.app": b""},
        {"opt/app/.wh.x.dist-info": b""},
        {"opt/app/.wh..wh..opq": b""},
        {".wh..wh..opq": b""},
        {"opt/app": "elsewhere"},
        {"opt/app/x.dist-info/METADATA": b"removed"},
        {"opt/app/x.dist-info/METADATA": "link"},
    ],
    ids=["directory", "file", "opaque", "all", "replaced-directory", "replaced-file", "replaced-by-link"],
)
def test_what_an_upper_layer_hides_is_not_there(tmp_path: Path, upper: dict[str, bytes | str]) -> None:
    lower = {"opt/app/x.dist-info/METADATA": METADATA, "opt/application/x.dist-info/METADATA": METADATA}
    left = [] if ".wh..wh..opq" in upper else ["opt/application/x.dist-info/METADATA"]
    assert list(scan(tmp_path, tar_layer(lower), tar_layer(upper)).packages) == left


def test_a_program_that_an_upper_layer_replaces_by_a_script_is_not_there(tmp_path: Path) -> None:
    lower, upper = (tar_layer({"bin/tool": data}) for data in (elf(information()), b"#!/bin/sh\n"))
    assert scan(tmp_path, lower, upper).programs == {}


def test_layers_hide_what_is_below() -> None:
    upper = Scan(hidden=("a/gone", "b/"))
    programs: dict[str, GoBinary] = dict.fromkeys(["a/gone", "a/kept", "b/c/deep", "bb"], TOOL)
    assert sorted(merge_layers([Scan(programs=programs), upper]).programs) == ["a/kept", "bb"]


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    """As tar has them: bytes. A whiteout, a program and a distribution of such a name."""
    bad = b"caf\xe9".decode(errors="surrogateescape")
    lower = {
        f"{bad}/tool": elf(information()),
        f"{bad}.dist-info/METADATA": METADATA,
        f"gone-{bad}": elf(information()),
    }
    found = scan(tmp_path, tar_layer(lower), tar_layer({f".wh.gone-{bad}": b""}))
    assert list(found.programs) == [f"{bad}/tool"]
    assert names(found) == ["Jinja2"]


@pytest.mark.parametrize("data", [b"\x28\xb5\x2f\xfd" + b"zstd is not read" * 100, zipped(b"x" * 5000)[:40]])
def test_a_layer_that_is_no_tar_says_so(tmp_path: Path, data: bytes) -> None:
    assert not scan(tmp_path, data).is_readable
