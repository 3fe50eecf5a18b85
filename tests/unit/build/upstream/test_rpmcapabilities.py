# SPDX-License-Identifier: Apache-2.0
"""What packages give and require, as rpm compares it."""

from __future__ import annotations

import pytest

from build.upstream.rpmcapabilities import EQUAL, GREATER, LESS, Capability, Given, overlaps
from build.upstream.rpmtags import Tags
from tests.unit.build.factory import Member, header_blob, tiny_rpm

GIVEN = Given(
    Tags.of_blob(header_blob(rpm))
    for rpm in (
        tiny_rpm("bash", "5.1.8", "9.el9", members=[Member(path="/usr/bin/bash")]),
        tiny_rpm("openssl-libs", "3.5.1"),
    )
)


@pytest.mark.parametrize(
    ("name", "sense", "evr", "has"),
    [
        ("bash", 0, "", True),
        ("bash", EQUAL, "5.1.8", True),
        ("bash", EQUAL, "5.1.8-9.el9", True),
        ("bash", GREATER | EQUAL, "5.1.10", False),
        ("bash", GREATER | EQUAL, "0:5.1", True),
        ("bash", LESS, "1:0", True),
        ("/usr/bin/bash", 0, "", True),
        ("/usr/bin/zsh", 0, "", False),
        ("(bash and openssl-libs)", 0, "", True),
        ("(bash >= 6 or openssl-libs = 3.5.1)", 0, "", True),
        ("(bash and zsh)", 0, "", False),
        ("(zsh if fish)", 0, "", True),
        ("(zsh if bash)", 0, "", False),
        ("(zsh if bash else fish)", 0, "", False),
        ("(zsh if fish else bash)", 0, "", True),
        ("(zsh unless bash)", 0, "", False),
        ("(bash without zsh)", 0, "", True),
        ("((bash or zsh) and (fish or openssl-libs))", 0, "", True),
        ("(bash and", 0, "", False),
        ("(" * 5000, 0, "", False),
    ],
)
def test_what_is_given(name: str, sense: int, evr: str, has: bool) -> None:
    assert GIVEN.has(Capability(name, sense, evr)) is has


def test_ranges_meet_in_a_version() -> None:
    one = Capability("a", LESS, "2")
    assert overlaps(one, Capability("a", GREATER, "1"))
    assert not overlaps(one, Capability("a", GREATER | EQUAL, "2"))
    assert overlaps(one, Capability("a", LESS, "1"))
