# SPDX-License-Identifier: Apache-2.0
"""Pages of Python package indexes, and which file of a release is taken."""

from __future__ import annotations

import json

import pytest

from build.base.errors import NetworkError
from build.inventory.model import Digest, PythonArtifact
from build.upstream.pythonindex import IndexFile, choose_file, fits_python, normal, parse_html, parse_json

URL = "https://index.example.com/simple/tiny/"
HEX = "0" * 64


def test_a_json_page() -> None:
    entry = {
        "filename": "tiny-1.0.tar.gz",
        "url": "../../files/tiny-1.0.tar.gz",
        "hashes": {"sha256": HEX, "md5": "x"},
        "requires-python": ">=3.8",
        "size": 7,
        "yanked": "bad",
    }
    bare: dict[str, object] = {
        "filename": "b.whl",
        "url": "https://files.example.com/b.whl",
        "hashes": {},
        "requires-python": None,
    }
    one, two = parse_json(json.dumps({"files": [entry, bare]}).encode(), URL)
    assert one == IndexFile(
        name="tiny-1.0.tar.gz",
        url="https://index.example.com/files/tiny-1.0.tar.gz",
        digest=Digest(HEX),
        size_bytes=7,
        requires_python=">=3.8",
    )
    assert (two.url, two.digest, two.size_bytes) == ("https://files.example.com/b.whl", None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"files": [{}]}', b'{"files": 1}', b"<html>"])
def test_a_page_that_is_none(body: bytes) -> None:
    with pytest.raises(NetworkError, match="cannot be read"):
        parse_json(body, URL)


def test_an_html_page() -> None:
    page = f"""<!DOCTYPE html><base href="/files/"><body>
    <A HREF="tiny-1.0%2Blocal.tar.gz#egg=tiny&amp;sha256={HEX.upper()}" data-requires-python="&gt;=3.8">x</A>
    <a href="https://other.example.com/tiny-2.0.zip#md5=1">y</a><a name="z">z</a>"""
    one, two = parse_html(page.encode(), URL)
    assert (one.name, one.digest, one.requires_python) == ("tiny-1.0+local.tar.gz", Digest(HEX), ">=3.8")
    assert one.url == "https://index.example.com/files/tiny-1.0%2Blocal.tar.gz"
    assert (two.name, two.digest) == ("tiny-2.0.zip", None)


def chosen(names: list[str], artifact: PythonArtifact = PythonArtifact.WHEEL) -> str | None:
    found = choose_file([IndexFile(name=name, url=name) for name in names], "Tiny.Pkg", "1.0", artifact)
    return found.name if found else None


def test_a_wheel_for_any_machine_is_chosen() -> None:
    others = [
        "tiny_pkg-1.0-cp39-cp39-manylinux2014_x86_64.whl",
        "tiny_pkg-1.0-py2-none-any.whl",
        "tiny_pkg-1.0-py310-none-any.whl",
        "tiny_pkg-1.0.1-py3-none-any.whl",
        "tiny_pkg_more-1.0-py3-none-any.whl",
        "tiny_pkg-1.0.tar.gz",
        "tiny_pkg-1.0-py3-none-any.whl.metadata",
    ]
    assert chosen(others) is None
    assert chosen([*others, "Tiny.Pkg-1.0-py2.py3-none-any.whl"]) == "Tiny.Pkg-1.0-py2.py3-none-any.whl"
    assert chosen([*others, "tiny_pkg-1-1-py36-none-any.whl", "tiny_pkg-1.0-py39-none-any.whl"]) == (
        "tiny_pkg-1.0-py39-none-any.whl"
    )


@pytest.mark.parametrize("name", ["Tiny.Pkg-1.0.tar.gz", "tiny_pkg-1.0.tar.gz", "tiny-pkg-1.0.zip"])
def test_an_sdist_is_chosen(name: str) -> None:
    others = ["tiny_pkg-1.0-py3-none-any.whl", "tiny_pkg-1.0rc1.tar.gz", "pkg-1.0.tar.gz", "1.0.tar.gz"]
    assert chosen(others, PythonArtifact.SDIST) is None
    assert chosen([*others, name], PythonArtifact.SDIST) == name


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ("", True),
        (">=3.7", True),
        (">= 3.9.2, <4", True),
        ("~=3.6", True),
        ("==3.9.*", True),
        (">3.8", True),
        ("what?", True),
        (">=3.10", False),
        ("<3.9", False),
        ("!=3.9.*", False),
        ("~=2.7", False),
        (">3.9", False),
    ],
)
def test_the_hosts_python(requires: str, expected: bool) -> None:
    assert fits_python(requires) is expected


def test_names() -> None:
    assert normal("A__b.-C") == "a-b-c"
