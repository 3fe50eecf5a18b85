# SPDX-License-Identifier: Apache-2.0
"""Find out where the user's own pip gets packages from: addresses of indexes, and links.

pip itself is not run. Source: pip's documentation, "Configuration" (files, their order, environment).
"""

from __future__ import annotations

import base64
import configparser
import dataclasses
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from build.base.errors import NetworkError
from build.upstream.session import FixedLogin

# In this order: what a later one says counts.
_SECTIONS = ("global", "download")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """One place of packages: the address of an index, or (``is_links``) of a page or directory of files.

    ``url`` has no login in it: that is in ``login``, for requests to ``url``'s own host.
    """

    url: str
    is_links: bool = False
    login: FixedLogin = dataclasses.field(default_factory=FixedLogin, repr=False)

    @classmethod
    def of(cls, text: str, *, is_links: bool = False) -> Place:
        """Return the place of an address as people write it, a login perhaps in it."""
        parts = urlsplit(text)
        userinfo, _, host = parts.netloc.rpartition("@")
        if not userinfo:
            return cls(url=text, is_links=is_links)
        user, _, password = userinfo.partition(":")
        login = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        return cls(url=url, is_links=is_links, login=FixedLogin(f"Basic {login}"))

    def login_for(self, url: str) -> FixedLogin:
        """Return the login for a file that this place names: another host gets none."""
        is_same = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return self.login if is_same else FixedLogin()


def python_places(
    indexes: tuple[str, ...], environment: Mapping[str, str] = os.environ, prefix: str = sys.prefix
) -> tuple[Place, ...]:
    """Return where Python packages come from, in the order in which they are asked.

    ``indexes`` are those of the profile; without any, pip's configuration says it: links, index, more indexes.

    Raises: NetworkError when pip's configuration cannot be read, or names no place at all.
    """
    if indexes:
        return tuple(Place.of(url) for url in indexes)
    settings = _settings(environment, prefix)
    places = [Place.of(text, is_links=True) for text in settings.get("find-links", "").split()]
    if settings.get("no-index", "").strip().lower() not in ("1", "true", "yes", "on", "y", "t"):
        index = settings.get("index-url", "").strip() or _default_index()
        places += [Place.of(url) for url in (index, *settings.get("extra-index-url", "").split())]
    if not places:
        raise NetworkError(
            "pip's configuration names no place for packages",
            details="no-index is set, and find-links is not",
            resolution="set index-url or find-links (pip config set), or python_index in the profile",
        )
    return tuple(places)


def _settings(environment: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    """Return pip's settings: of its files, then of the environment."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for file in config_files(environment, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as exc:
            raise NetworkError(
                "pip's configuration cannot be read",
                details=f"{file}: {type(exc).__name__}",
                resolution="correct the file: pip config debug shows which are read",
            ) from exc
        for section in _SECTIONS:
            if parser.has_section(section):
                found[section] |= {_key(name): value for name, value in parser.items(section) if value}
    named = {
        _key(name.removeprefix("PIP_")): value
        for name, value in environment.items()
        if name.startswith("PIP_") and value
    }
    return {**found["global"], **found["download"], **named}


def config_files(environment: Mapping[str, str], prefix: str) -> Iterator[Path]:
    """Yield the files of pip's configuration, the ones that count less first; whether they are there or not."""
    given = environment.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return
    for directory in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(directory, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if not (given and Path(given).exists()):
        home = Path(environment.get("HOME") or "/")
        yield home / ".pip" / "pip.conf"
        yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(prefix, "pip.conf")
    if given:
        yield Path(given)


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


def _default_index() -> str:
    """Return the index that pip takes when nobody names one.

    Raises: NetworkError when there is no pip to know it.
    """
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError) as exc:
        raise NetworkError(
            "no Python package index is named",
            details="neither the profile nor pip's configuration has one, and no pip is installed that has a default",
            resolution="set python_index in the profile, or index-url in pip's configuration",
        ) from exc
