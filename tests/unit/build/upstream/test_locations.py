# SPDX-License-Identifier: Apache-2.0
"""Where a file of a repository is: below it, at every mirror, whatever characters its name has."""

from __future__ import annotations

import pytest

from build.base.errors import IntegrityError
from build.upstream.locations import file_url, relative_location

BASES = ("https://mirror.example/el9/", "http://other.example:8080/a b/")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("Packages/a-1.rpm", "https://h/r/Packages/a-1.rpm"),
        ("Packages/libstdc++-1.rpm", "https://h/r/Packages/libstdc%2B%2B-1.rpm"),
        ("Packages/libstdc%2B%2b-1.rpm", "https://h/r/Packages/libstdc%2B%2b-1.rpm"),
        ("a-1~rc1^2.rpm", "https://h/r/a-1~rc1%5E2.rpm"),
        ("a b?c#d&e=%.rpm", "https://h/r/a%20b%3Fc%23d%26e%3D%25.rpm"),
        ("é.rpm", "https://h/r/%C3%A9.rpm"),
    ],
)
def test_every_character_finds_its_file(location: str, url: str) -> None:
    assert file_url("https://h/r/", location) == url


@pytest.mark.parametrize(
    ("href", "base", "location"),
    [
        ("Packages/a.rpm", "", "Packages/a.rpm"),
        ("./Packages//a.rpm", "", "Packages/a.rpm"),
        ("a.rpm", ".", "a.rpm"),
        ("a.rpm", "Packages/", "Packages/a.rpm"),
        ("x/../a.rpm", "", "a.rpm"),
        ("a-1:2-3.rpm", "", "a-1:2-3.rpm"),
        ("a.rpm", "https://mirror.example/el9", "a.rpm"),
        ("a.rpm", "https://mirror.example/el9/os/", "os/a.rpm"),
        ("a.rpm", "http://MIRROR.example:80//el9/", "a.rpm"),
        ("a.rpm", "http://other.example:8080/a%20b/", "a.rpm"),
        ("https://mirror.example/el9/P/a.rpm", "", "P/a.rpm"),
        ("https://mirror.example/el9/P/a.rpm", "https://elsewhere.example/", "P/a.rpm"),
    ],
)
def test_what_lies_below_the_repository_is_taken(href: str, base: str, location: str) -> None:
    assert relative_location(BASES, href, base, "package a") == location


@pytest.mark.parametrize(
    ("href", "base", "words"),
    [
        ("a.rpm", "https://elsewhere.example/el9/", "metadata says https://elsewhere.example/el9/a.rpm"),
        ("a.rpm", "https://mirror.example/el90/", "(xml:base)"),
        ("a.rpm", "https://mirror.example:8443/el9/", "(xml:base)"),
        ("a.rpm", "media://1/", "(xml:base)"),
        ("//elsewhere.example/a.rpm", "", "elsewhere.example"),
        ("https://mirror.example/el9/../a.rpm", "", "location"),
        ("../a.rpm", "", "location: ../a.rpm"),
        ("/a.rpm", "", "location: /a.rpm"),
        ("a.rpm", "../other", "location: a.rpm"),
        ("", "", "location"),
        ("a.rpm", "https://[::1/", "metadata says https://[::1/a.rpm"),
        ("a.rpm", "https://mirror.example:bad/el9/", "metadata says https://mirror.example:bad/"),
        ("https://mirror.example:99999/a.rpm", "", "metadata says https://mirror.example:99999/"),
    ],
)
def test_what_lies_elsewhere_is_refused_with_words(href: str, base: str, words: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        relative_location(BASES, href, base, "package a")
    assert words in caught.value.details
    assert "package a" in caught.value.message
    assert caught.value.resolution
