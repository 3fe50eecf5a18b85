# SPDX-License-Identifier: Apache-2.0
"""Where the user's own pip gets packages from, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import NetworkError
from build.upstream.pipconfig import Place, config_files, python_places
from build.upstream.session import FixedLogin


def urls(environment: dict[str, str], tmp_path: Path) -> list[str]:
    defaults = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
    return [place.url for place in python_places((), defaults | environment, str(tmp_path / "prefix"))]


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_which_files_are_read(tmp_path: Path) -> None:
    found = [str(file) for file in config_files({"HOME": "/h", "XDG_CONFIG_DIRS": "/x:/y"}, "/venv")]
    assert found == [
        "/x/pip/pip.conf",
        "/y/pip/pip.conf",
        "/etc/pip.conf",
        "/h/.pip/pip.conf",
        "/h/.config/pip/pip.conf",
        "/venv/pip.conf",
    ]
    given = tmp_path / "pip.conf"
    given.touch()
    found = [str(file) for file in config_files({"HOME": "/h", "PIP_CONFIG_FILE": str(given)}, "/venv")]
    assert found == ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/venv/pip.conf", str(given)]
    assert not list(config_files({"PIP_CONFIG_FILE": "/dev/null"}, "/venv"))


def test_what_counts(tmp_path: Path) -> None:
    """The user's file, then that of the environment of Python, then variables; a section of the command first."""
    user = tmp_path / ".config/pip/pip.conf"
    write(user, "[global]\nindex-url = https://user/simple\nextra-index-url =\n  https://a/\n  https://b/\n")
    assert urls({}, tmp_path) == ["https://user/simple", "https://a/", "https://b/"]
    write(tmp_path / "prefix/pip.conf", "[global]\nindex_url = https://venv/simple\n")
    assert urls({}, tmp_path)[0] == "https://venv/simple"
    write(user, "[download]\nindex-url = https://command/simple\n[install]\nindex-url = https://no/\n")
    assert urls({}, tmp_path) == ["https://command/simple"]
    assert urls(
        {"PIP_INDEX_URL": "https://env/", "PIP_EXTRA_INDEX_URL": "https://c/ https://d/"}, tmp_path
    ) == [
        "https://env/",
        "https://c/",
        "https://d/",
    ]
    assert urls({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels https://links/"}, tmp_path) == [
        "/wheels",
        "https://links/",
    ]


def test_the_profile_s_index_comes_first(tmp_path: Path) -> None:
    assert [
        place.url for place in python_places(("https://mirror/",), {"PIP_INDEX_URL": "https://env/"})
    ] == ["https://mirror/"]


def test_a_login_in_an_address_is_for_its_host() -> None:
    place = Place.of("https://me%40x:p%3Aw@index.example.com/simple")
    assert place.url == "https://index.example.com/simple"
    assert "p%3Aw" not in repr(place)
    assert place.login_for("https://index.example.com/files/x").value == "Basic bWVAeDpwOnc="
    for url in (
        "https://files.example.com/x",
        "http://index.example.com/x",
        "https://index.example.com:8443/x",
    ):
        assert place.login_for(url) == FixedLogin()


def test_no_place_at_all(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="names no place"):
        urls({"PIP_NO_INDEX": "true"}, tmp_path)
    write(tmp_path / ".pip/pip.conf", "index-url = x")
    with pytest.raises(NetworkError, match="cannot be read"):
        urls({}, tmp_path)


def test_pip_knows_the_default(tmp_path: Path) -> None:
    (found,) = urls({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path)
    assert found.startswith("https://")
