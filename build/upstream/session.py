# SPDX-License-Identifier: Apache-2.0
"""Connections of one thread, and the logins that go over them: to whom a login is given, and to whom not."""

from __future__ import annotations

import dataclasses
import netrc
import os
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from typing_extensions import override

from build.upstream.authorities import trusted_authorities


class Login(Protocol):
    """What gives the Authorization header of requests to one place."""

    def header(self) -> str | None:
        """Return the header for the next request; None for none."""

    def renew(self, refused: str | None, challenge: str) -> bool:
        """Say whether another try makes sense, after a 401 with this WWW-Authenticate to this header."""


@dataclasses.dataclass(frozen=True)
class FixedLogin:
    """One header, or none, that no refusal changes."""

    value: str | None = None

    def header(self) -> str | None:
        """Return the header."""
        return self.value

    def renew(self, _refused: str | None, _challenge: str) -> bool:
        """Return False: there is no other header."""
        return False


NO_LOGIN = FixedLogin()


class Authorization(AuthBase):
    """Send one Authorization header, or none: requests would put netrc's over a header given by hand."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    @override
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class Session(requests.Session):
    """A session that gives a login to the host it is for, and not to where that host redirects."""

    def __init__(self, user_agent: str) -> None:
        """Trust what the system trusts. Raises: NetworkError, see :func:`trusted_authorities`."""
        super().__init__()
        self.headers["User-Agent"] = user_agent
        self.verify = trusted_authorities() or True

    @override
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Take the header off at another host; of netrc only an entry of that very host counts, no default."""
        url = str(prepared_request.url)
        if _is_another_place(str(response.request.url), url):
            prepared_request.headers.pop("Authorization", None)
            login = _netrc_login(urlsplit(url).hostname or "")
            if login is not None:
                prepared_request.prepare_auth(login)


def _is_another_place(before: str, after: str) -> bool:
    """Say whether a redirect leaves the place that a login is for; the same host with TLS is the same place."""
    old, new = urlsplit(before), urlsplit(after)
    if old.hostname != new.hostname:
        return True
    if (old.scheme, new.scheme, old.port or 80, new.port or 443) == ("http", "https", 80, 443):
        return False
    default = {"http": 80, "https": 443}.get(new.scheme)
    return old.scheme != new.scheme or (old.port or default) != (new.port or default)


def _netrc_login(host: str) -> tuple[str, str] | None:
    """Return user and password that netrc has under the very name of a host."""
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entry = netrc.netrc(file).hosts.get(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return None if entry is None else (entry[0], entry[2] or "")
