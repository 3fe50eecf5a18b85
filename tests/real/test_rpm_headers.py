# SPDX-License-Identifier: Apache-2.0
"""Headers of real packages are read as rpm reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import createrepo_c
import pytest

from build.base.run import run
from build.upstream.rpmheader import read_header

Files = Callable[[str], list[Path]]
_FORMAT = "%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}"


@pytest.mark.parametrize("folder", ["fedora41", "nvidia", "rpm-rs", "rpm-tests", "createrepo_c", "elaverick"])
def test_every_package_says_its_name_as_rpm_does(real_files: Files, folder: str) -> None:
    """Formats 3, 4 and 6, names that are no UTF-8, damaged payloads: the header is read all the same."""
    for file in real_files(f"rpm/{folder}/*.rpm"):
        expected = run(["rpm", "-qp", "--nosignature", "--nodigest", "--qf", _FORMAT, file]).stdout
        assert read_header(file, file.name).nevra == expected.replace("-0:", "-"), file.name


def test_the_first_64_kib_of_a_package_are_enough_for_most(real_files: Files) -> None:
    (file,) = real_files("rpm/docker/*.first64k")
    assert read_header(file, file.name).nevra == "docker-ce-rootless-extras-29.2.0-1.fc41.x86_64"


@pytest.mark.parametrize("folder", ["almalinux9", "sle15-obs"])
def test_what_was_cut_from_an_rpm_database_is_read(real_files: Files, folder: str) -> None:
    for file in real_files(f"rpm-head/{folder}/*.rpm-head"):
        header = read_header(file, file.name)
        assert (header.nevra, header.lacks) == (file.name.removesuffix(".rpm-head"), ())


def test_createrepo_reads_names_that_are_no_utf8(real_files: Files) -> None:
    for file in real_files("rpm/createrepo_c/balicek-*.rpm"):
        package = createrepo_c.package_from_rpm(str(file))
        assert package.name == read_header(file, file.name).nevra.rsplit("-", 2)[0]
