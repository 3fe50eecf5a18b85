# SPDX-License-Identifier: Apache-2.0
"""WWW-Authenticate as RFC 9110 lets servers write it."""

from __future__ import annotations

import pytest

from build.upstream.challenge import parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate YII=", [("negotiate", {})]),
        (
            'Bearer realm="https://x/token",service="s"',
            [("bearer", {"realm": "https://x/token", "service": "s"})],
        ),
        (
            "Bearer realm=https://x/t?a=b, service=s",
            [("bearer", {"realm": "https://x/t?a=b", "service": "s"})],
        ),
        (
            'Basic realm="a, Bearer realm=\\"b\\"", BEARER Realm = "c" ,\tscope="repository:x:pull,push"',
            [
                ("basic", {"realm": 'a, Bearer realm="b"'}),
                ("bearer", {"realm": "c", "scope": "repository:x:pull,push"}),
            ],
        ),
        ("Negotiate, Basic, Bearer realm=x", [("negotiate", {}), ("basic", {}), ("bearer", {"realm": "x"})]),
        (", ,Basic realm=x,,", [("basic", {"realm": "x"})]),
        ('Basic realm="x', [("basic", {})]),
        ("=", []),
        ('realm="x"', []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(item.scheme, dict(item.parameters)) for item in parse_challenges(header)] == expected


def test_a_long_header_is_read_in_no_time() -> None:
    assert parse_challenges('Basic realm="' + "\\" * 100_000) is not None
    assert parse_challenges("a " * 100_000) is not None
