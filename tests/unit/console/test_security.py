# SPDX-License-Identifier: Apache-2.0
"""What is let in and what is not: headers, hosts, forms of other sites, sizes."""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import time
from urllib.parse import urlencode

import pytest

from console import guard
from tests.unit.console import world as worlds
from tests.unit.console.running import SAME, Browser, Running

pytestmark = pytest.mark.loopback

PAGES = (
    "/",
    "/nodes",
    "/nodes/cp1",
    "/nodes/w2/remove",
    "/pods",
    "/pods/team/web-0",
    "/events",
    "/control-plane",
    "/certificates",
    "/media",
    "/journal",
    "/access",
    "/hosts",
    "/hosts/add",
    f"/hosts/add/{worlds.PROBE}",
    f"/hosts/add/{worlds.LOOK}",
    "/jobs",
    f"/jobs/{worlds.JOB}",
    "/report",
)
POSTS = (
    "/nodes/w2/remove",
    "/logout",
    "/session/renew",
    "/hosts/look",
    "/hosts/join",
    f"/jobs/{worlds.JOB}/again",
    f"/jobs/{worlds.JOB}/cancel",
    "/report",
)


@pytest.mark.parametrize("path", [*PAGES, "/login", "/healthz", "/nowhere", "/nodes/nope"])
def test_every_answer_has_the_headers(admin: Browser, path: str) -> None:
    answer = admin.get(path)
    for name, value in guard.HEADERS.items():
        assert answer.headers.get_all(name) == [value], name
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


def test_the_policy_is_the_one_of_the_table() -> None:
    """No 'unsafe', no other origin, and no text that becomes markup."""
    assert guard.CONTENT_SECURITY_POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    assert guard.HEADERS["Referrer-Policy"] == "same-origin"


def test_static_files_stay_for_ever_under_their_digest(console: Running) -> None:
    browser = console.browser()
    digest = console.core.static_digest
    for name, kind in (
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = browser.get(f"/static/{digest}/{name}")
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == guard.FOREVER
        assert answer.headers.get_content_type() == kind
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert browser.get("/static/0123456789abcdef/console.css").status == 404
    assert browser.get(f"/static/{digest}/..%2fserver.py").status == 404


@pytest.mark.parametrize(
    "path", [*PAGES, "/nowhere", f"/jobs/{worlds.JOB}/log", f"/jobs/{worlds.JOB}/stream"]
)
def test_nothing_is_shown_to_nobody(console: Running, path: str) -> None:
    answer = console.browser().get(path)
    if path == "/nowhere":
        assert answer.status == 404
    else:
        assert (answer.status, answer.location.partition("?")[0]) == (303, "/login")
    assert not console.world.asked_door


@pytest.mark.parametrize("path", POSTS)
def test_c14_nothing_is_done_for_nobody(console: Running, path: str) -> None:
    answer = console.browser().post(path, {"key": "k" * 20, "csrf": "x"})
    assert answer.status == 303
    assert not [
        request for request in console.world.asked_door if request["verb"] in ("start", "again", "cancel")
    ]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "console.harbour.internal.evil.example:{port}",
        "",
    ],
)
def test_t06_another_name_is_turned_away(console: Running, host: str) -> None:
    """A name that was made to lead here (DNS rebinding) is none of the console's."""
    answer = console.browser().ask("GET", "/login", headers={**SAME, "Host": host.format(port=console.port)})
    assert answer.status in (400, 421)


def test_its_own_names_are_let_in(console: Running) -> None:
    for name in (f"console.harbour.internal:{console.port}", f"CONSOLE.harbour.internal:{console.port}"):
        assert console.browser().ask("GET", "/login", headers={**SAME, "Host": name}).status == 200


# ---- forms of other sites ------------------------------------------------------------------------------------

OWN, FOREIGN = "https://{host}", "https://evil.example"
MATRIX = [
    # Sec-Fetch-Site, Origin, the token of the session is right -> let in
    ("same-origin", OWN, True, True),
    ("same-origin", None, True, True),
    ("same-origin", OWN, False, False),
    ("same-site", OWN, True, False),
    ("cross-site", FOREIGN, True, False),
    ("cross-site", OWN, True, False),
    ("none", None, True, False),
    (None, OWN, True, True),
    (None, OWN, False, False),
    (None, FOREIGN, True, False),
    (None, "null", True, False),
    (None, None, True, False),
    (None, "http://{host}", True, False),
    (None, "https://{host}.evil.example", True, False),
]


@pytest.mark.parametrize(("site", "origin", "has_token", "is_let_in"), MATRIX)
def test_t06_only_forms_of_this_console_are_taken(
    admin: Browser, site: str | None, origin: str | None, has_token: bool, is_let_in: bool
) -> None:
    admin.get("/report")
    found = {name: re.search(rf'name="{name}" value="([^"]+)"', admin.last) for name in ("csrf", "key")}
    values = {name: match[1] for name, match in found.items() if match}
    if not has_token:
        values["csrf"] = values["csrf"][::-1]
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    if origin is not None:
        headers["Origin"] = origin.format(host=admin.running.host)
    answer = admin.ask("POST", "/report", urlencode(values), headers)
    assert answer.status == (303 if is_let_in else 403)
    started = [request for request in admin.running.world.asked_door if request["verb"] == "start"]
    assert bool(started) is is_let_in


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_only_forms_are_taken(admin: Browser, kind: str) -> None:
    admin.get("/report")
    assert admin.ask("POST", "/report", "{}", {**SAME, "Content-Type": kind}).status in (400, 415)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(admin: Browser, method: str) -> None:
    assert admin.ask(method, "/report", None, SAME).status in (405, 415)


@pytest.mark.parametrize("path", ["/logout", "/hosts/look", "/hosts/join", f"/jobs/{worlds.JOB}/cancel"])
def test_a_get_changes_nothing(admin: Browser, path: str) -> None:
    assert admin.get(path).status == 405
    assert admin.get("/").status == 200


def test_t06_another_site_may_link_but_not_embed(admin: Browser) -> None:
    """A link is followed by a second step of our own: browsers withhold the cookie of a strict site once."""
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert admin.ask("GET", "/", headers=embedded).status == 403
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert admin.ask("GET", "/", headers=framed).status == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    admin.cookie = ""
    answer = admin.ask("GET", f"/jobs/{worlds.JOB}", headers=link)
    assert answer.status == 200
    assert f'content="0;url=/jobs/{worlds.JOB}"' in answer.text
    assert admin.get(f"/jobs/{worlds.JOB}").location.startswith("/login")


# ---- sizes ---------------------------------------------------------------------------------------------------


def test_a_long_form_is_not_read(admin: Browser) -> None:
    admin.get("/report")
    try:
        status = admin.post("/report", {"x": "y" * 70_000}).status
    except (ConnectionError, ssl.SSLError):
        status = 400
    assert status in (400, 413)
    assert admin.get("/").status == 200


def test_long_headers_are_not_read(admin: Browser) -> None:
    try:
        status = admin.get("/", X_Long="y" * 20_000).status
    except (OSError, http.client.HTTPException):
        status = 400
    assert status in (400, 431)


def test_more_connections_than_allowed_are_closed(console: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.server.CONNECTIONS", 4)
    held = [socket.create_connection(("127.0.0.1", console.port)) for _ in range(8)]
    try:
        closed: set[int] = set()
        deadline = time.monotonic() + 60
        while len(closed) < 4 and time.monotonic() < deadline:
            open_ones = [one for one in held if one.fileno() not in closed]
            closed |= {one.fileno() for one in select.select(open_ones, [], [], 1.0)[0]}
        open_ones = [one for one in held if one.fileno() not in closed]
        assert len(open_ones) == 4
        assert select.select(open_ones, [], [], 0.2)[0] == []
    finally:
        for one in held:
            one.close()


def test_a_name_of_kubernetes_cannot_lead_elsewhere(admin: Browser) -> None:
    for path in (
        "/nodes/..%2f..%2fsecrets",
        "/pods/team/%2e%2e%2fsecrets",
        "/pods/a%3fb/c",
        "/nodes/x%00y",
        "/pods?namespace=../secrets",
    ):
        assert admin.get(path).status == 404
    assert not [asked for asked in admin.running.world.asked_api if "secrets" in asked]
