# SPDX-License-Identifier: Apache-2.0
"""The lab's stand-in for a minimal host, compared with real metadata: the same names require each other."""

from __future__ import annotations

import lzma
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from build.upstream.repodata import parse_comps
from lab import core, el9

#: What the lab's distribution calls otherwise, and what joined the closure after 2022.
_OTHER_NAMES = {
    *("almalinux-gpg-keys", "almalinux-release", "almalinux-repos"),
    *("kbd-legacy", "libcap-ng-python3"),
}


@pytest.fixture
def repository_data(real_dir: Path) -> Path:
    """Return the metadata of a real BaseOS."""
    return real_dir / "repo" / "c9s-2022-02-baseos"


def test_the_group_has_the_mandatory_names_of_the_real_one(repository_data: Path) -> None:
    text = (repository_data / "comps.xml").read_bytes()
    assert sorted(parse_comps(text, "core", "the real group")) == list(core.CORE_GROUP)


def test_the_packages_of_the_closure_are_real_ones(repository_data: Path) -> None:
    text = lzma.decompress((repository_data / "core-primary.xml.xz").read_bytes())
    names = {element.text for element in ET.fromstring(text).iterfind("{*}package/{*}name")}  # noqa: S314
    ours = {package.name for package in core.BASELINE}
    assert ours - names == _OTHER_NAMES
    extras = {package.name for package in el9.BASEOS_EXTRAS}
    # The lab's own release package, the two that later builds do not need, and what no host of the group has.
    assert names - ours - extras == {
        *("centos-gpg-keys", "centos-stream-release", "centos-stream-repos"),
        *("libibverbs", "libpcap", "sos"),
    }
