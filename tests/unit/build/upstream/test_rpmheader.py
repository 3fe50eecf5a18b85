# SPDX-License-Identifier: Apache-2.0
"""The beginning of an RPM, read as far as it is needed."""

from __future__ import annotations

import pytest

from build.base.errors import IntegrityError
from build.upstream.rpmheader import ShortError, fetch_header, parse_header
from tests.unit.build.factory import Member, tiny_rpm

DATA = tiny_rpm(
    "tool", "1.2", "3.el9", arch="x86_64", members=[Member(path="/usr/bin/tool", data=b"x" * 5000)]
)


def test_what_it_says_of_itself() -> None:
    header = parse_header(DATA, "it")
    assert header.nevra == "tool-1.2-3.el9.x86_64"
    assert header.signature is None
    assert header.lacks == ()
    assert header.signed in DATA
    assert header.signed.startswith(b"\x8e\xad\xe8\x01")


def test_digests_that_are_not_there() -> None:
    """Their tags are overwritten by ones that nobody knows."""
    data = DATA.replace((273).to_bytes(4), (9273).to_bytes(4), 1).replace(
        (5092).to_bytes(4), (9092).to_bytes(4), 1
    )
    assert parse_header(data, "it").lacks == (
        "SHA-256 digest of its header",
        "SHA-256 digest of its payload",
    )


def test_no_more_is_read_than_is_needed() -> None:
    asked = []

    def get(size_bytes: int) -> bytes:
        asked.append(size_bytes)
        return DATA[: min(size_bytes, 200)] if len(asked) == 1 else DATA[:size_bytes]

    with pytest.raises(IntegrityError, match="it is cut off"):
        fetch_header(get, "it")
    with pytest.raises(ShortError) as caught:
        parse_header(DATA[:300], "it")
    assert 300 < caught.value.needed_bytes <= len(DATA)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>not an RPM</html>", "is no RPM"),
        (DATA[:96] + b"\0" * 2000, "a header that cannot be read"),
        (DATA[:104] + b"\xff" * 2000, "a header that cannot be read"),
    ],
)
def test_what_is_none(data: bytes, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        parse_header(data, "it")
