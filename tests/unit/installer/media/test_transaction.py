# SPDX-License-Identifier: Apache-2.0
"""What a cut transaction has brought is told from what the site has installed since."""

from __future__ import annotations

import pytest

from installer.media.rpmdb import Build, Package
from installer.media.transaction import Cut, find_cut


def build(version: str, name: str = "nftables") -> Package:
    return Package(name, version, "x86_64")


OFFERED = frozenset({Build("nftables", "1.0.9-3"), Build("nftables", "1.0.9-4"), Build("kubelet", "1-1")})


@pytest.mark.parametrize("version", ["1.0.9-3", "1.0.9-4"])
def test_either_build_of_the_media_is_of_the_transaction(version: str) -> None:
    """Two builds of a name are for two minor releases: a host gets the newest that fits, which may be the older."""
    found = find_cut(frozenset(), frozenset({build(version)}), OFFERED)
    assert found == Cut(fresh=(build(version),))


def test_the_newer_build_of_the_media_in_the_place_of_the_older() -> None:
    before = frozenset({build("1.0.9-3")})
    found = find_cut(before, before | {build("1.0.9-4")}, OFFERED)
    assert found == Cut(replaced=(build("1.0.9-4"),), leftover=(build("1.0.9-3"),))


@pytest.mark.parametrize(
    "before",
    [frozenset(), frozenset({build("1.0.6-1")}), frozenset({build("1.0.9-3")})],
    ids=["new", "old", "offered"],
)
@pytest.mark.parametrize(
    "beside", [frozenset(), frozenset({build("1.0.9-4")})], ids=["alone", "beside the media's"]
)
def test_a_build_that_the_media_lacks_is_the_site_s(
    before: frozenset[Package], beside: frozenset[Package]
) -> None:
    """The site's own update, also one that was cut in its turn and left the build of before beside it."""
    kubelet = build("1-1", "kubelet")
    found = find_cut(before, before | beside | {build("1.0.9-5"), kubelet}, OFFERED)
    assert found == Cut(fresh=(kubelet,))
