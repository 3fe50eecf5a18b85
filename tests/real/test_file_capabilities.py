# SPDX-License-Identifier: Apache-2.0
"""File capabilities of real packages: as rpm says them, and in the kernel's form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from build.base.run import run
from build.bundle.filecaps import encode, read_file_capabilities
from build.upstream.rpmheader import read_header
from build.upstream.rpmtags import Tags

Files = Callable[[str], list[Path]]


def test_the_package_that_rpm_tests_capabilities_with(real_files: Files) -> None:
    """Two files with an empty set, written in two ways, and one with none."""
    (file,) = real_files("rpm/rpm-tests/capstest-1.0-1.noarch.rpm")
    found = read_file_capabilities(file, file.name)
    assert found == {"a/emptyCaps1": "=", "a/emptyCaps2": "="}
    assert {encode(text) for text in found.values()} == {b""}


def test_every_package_says_its_files_and_capabilities_as_rpm_does(real_files: Files) -> None:
    for file in [*real_files("rpm/fedora41/*.rpm"), *real_files("rpm/rpm-tests/*.rpm")]:
        words = ["rpm", "-qp", "--nosignature", "--nodigest", "--qf", "[%{FILENAMES}\n]", str(file)]
        tags = Tags.of_blob(read_header(file, file.name).signed[8:])
        assert list(tags.files) == run(words).stdout.split("\n")[:-1], file.name
        for text in read_file_capabilities(file, file.name).values():
            encode(text)
