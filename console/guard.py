# SPDX-License-Identifier: Apache-2.0
"""Decide what is let in, and with which headers it goes out. Pure: the server asks here and acts."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: forms would then come with "Origin: null". Source: Fetch, "serialize a request origin".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Origin-Agent-Cluster": "?1",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-read=()",
}
NO_STORE = "no-store"
FOREVER = "public, max-age=31536000, immutable"
CLEAR_SITE_DATA = '"cache", "storage"'
COOKIE = "__Host-caisson"
COOKIE_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
FORM_TYPE = "application/x-www-form-urlencoded"
SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Refused:
    """Why a request is not answered: a number of HTTP and a sentence."""

    status: int
    reason: str


def split_host(host: str) -> tuple[str, str]:
    """Return name and port of a Host header.

    >>> split_host("A.example:9443"), split_host("[::1]:9443"), split_host("a")
    (('a.example', '9443'), ('::1', '9443'), ('a', ''))
    """
    text = host.strip().lower()
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = text.partition(":")
    return name, port


def host_refused(host: str, *, names: frozenset[str], port: int) -> Refused | None:
    """Refuse a Host that is not on the list: a foreign name that was made to lead here (DNS rebinding)."""
    name, found = split_host(host)
    if name in names and found == ("" if port == 443 and not found else str(port)):
        return None
    return Refused(421, "this name is none of the console's")


def get_refused(headers: Mapping[str, str]) -> Refused | None:
    """Refuse what another site embeds or fetches; a link from there to a page is let in."""
    if headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
        return None
    is_page = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return None if is_page else Refused(403, "another site may not use the console's pages")


def post_refused(headers: Mapping[str, str], host: str) -> Refused | None:
    """Refuse a POST that does not come from a page of this very console, or is no form."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != FORM_TYPE:
        return Refused(415, "only forms are taken")
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return None if site == "same-origin" else Refused(403, "the form was sent by another site")
    if headers.get("Origin", "").lower() == f"https://{host.lower()}":
        return None
    return Refused(403, "it is not known which site has sent the form")


def token_refused(given: str, wanted: str) -> Refused | None:
    """Refuse a form without the token of the session that it was made for."""
    if wanted and hmac.compare_digest(given.encode("utf-8", errors="replace"), wanted.encode("utf-8")):
        return None
    return Refused(403, "the form belongs to another session: load the page again, then send it again")


def is_foreign_link(headers: Mapping[str, str]) -> bool:
    """Say whether somebody has followed a link of another site: browsers then withhold the cookie once."""
    return (
        headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def local_path(path: str) -> str:
    r"""Return where to go after the log-in: a page of this console, else the first one.

    >>> local_path("/jobs/1?x=2"), local_path("//evil.example/"), local_path("/\\evil"), local_path("https://evil")
    ('/jobs/1?x=2', '/', '/', '/')
    """
    is_ours = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable()
    is_plain = "\\" not in path and not path.startswith(("/login", "/logout"))
    return path if is_ours and is_plain and len(path) < 2000 else "/"
