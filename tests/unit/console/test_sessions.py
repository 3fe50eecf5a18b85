# SPDX-License-Identifier: Apache-2.0
"""Log-ins and their ends: by code, by token, too often, from elsewhere, too late, again."""

from __future__ import annotations

import pytest

from console.sessions import MOST, Ended, Sessions, digest_of
from console.throttle import Throttle
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.doorway import error
from tests.unit.console.running import Browser, Running
from tests.unit.console.world import ADMIN, CODE, JOB, NIGHT, VIEWER, at

pytestmark = pytest.mark.loopback


def test_c06_a_code_lets_in_once(console: Running) -> None:
    first, second = console.browser(), console.browser()
    answer = first.post("/login", {"code": CODE, "next": "/nodes"}, fill=False)
    assert (answer.status, answer.location) == (303, "/nodes")
    assert first.get("/").status == 200
    answer = second.post("/login", {"code": CODE}, fill=False)
    assert answer.status == 403
    assert "is not accepted" in answer.text
    assert not second.cookie


def test_the_cookie_is_bound_to_this_host_and_hidden_from_scripts(console: Running) -> None:
    answer = console.browser().login(ADMIN)
    name, _, attributes = answer.headers["Set-Cookie"].partition("; ")
    assert name.startswith("__Host-caisson=")
    assert len(name.partition("=")[2]) >= 43
    assert set(attributes.split("; ")) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}


def test_a_token_that_nobody_knows_does_not_let_in(console: Running) -> None:
    for token in ("unknown-token-0123456789", "x", "a b", "\r\nX: y" * 9, "ü" * 30):
        answer = console.browser().post("/login", {"token": token}, fill=False)
        assert answer.status == 403
        assert "is not accepted" in answer.text


def test_what_was_typed_never_comes_back(console: Running) -> None:
    answer = console.browser().post("/login", {"token": "wrong-token-0123456789"}, fill=False)
    assert "wrong-token" not in answer.text
    answer = console.browser().post("/login", {"code": "WRONGC-ODEWRO-NGCODE"}, fill=False)
    assert "WRONGC" not in answer.text


def test_failures_make_everybody_wait(console: Running) -> None:
    """Five are free; then it takes longer and longer, also with what is right, until time has gone by."""
    for _ in range(5):
        assert console.browser().login("unknown-token-0123456789").status == 403
    answer = console.browser().login(ADMIN)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 2
    console.world.ahead_s += 3
    assert console.browser().login(ADMIN).status == 303


def test_the_wait_grows_up_to_a_minute() -> None:
    clock = [1000.0]
    throttle = Throttle(lambda: clock[0])
    waits = []
    for _ in range(12):
        throttle.failed("192.0.2.1")
        waits.append(throttle.wait_s())
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]
    clock[0] += 61
    assert throttle.wait_s() == 0


@pytest.mark.parametrize(
    "way", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/login", "javascript:alert(1)"]
)
def test_the_way_back_leads_nowhere_else(console: Running, way: str) -> None:
    answer = console.browser().post("/login", {"token": ADMIN, "next": way}, fill=False)
    assert (answer.status, answer.location) == (303, "/")


def test_a_session_ends_when_nothing_is_done(admin: Browser) -> None:
    admin.running.world.ahead_s += 29 * 60
    assert admin.get("/nodes").status == 200
    admin.running.world.ahead_s += 31 * 60
    answer = admin.get("/nodes")
    assert answer.location == "/login?next=%2Fnodes&why=idle"
    assert Ended.IDLE.value in admin.get(answer.location).text


def test_a_page_that_asks_by_itself_does_not_keep_a_session(admin: Browser) -> None:
    for _ in range(4):
        admin.running.world.ahead_s += 7 * 60
        assert admin.live("/nodes").status == 200
    admin.running.world.ahead_s += 3 * 60
    answer = admin.live("/nodes")
    assert answer.status == 401
    assert answer.body == b""


def test_a_session_ends_with_its_token(console: Running) -> None:
    console.world.codes[CODE]["ends"] = at(-600)
    browser = console.browser()
    browser.post("/login", {"code": CODE}, fill=False)
    console.world.ahead_s += 601
    assert browser.get("/").location.endswith("why=token")


def test_a_session_lasts_eight_hours_at_most(admin: Browser) -> None:
    for _ in range(19):
        admin.running.world.ahead_s += 25 * 60
        assert admin.get("/healthz").status == 200
        admin.get("/access")
    admin.running.world.ahead_s += 10 * 60
    assert admin.get("/").location.endswith("why=longest")


def test_a_revoked_token_ends_the_session_and_says_so(admin: Browser) -> None:
    del admin.running.world.users[ADMIN]
    admin.running.world.ahead_s += 61
    answer = admin.get("/nodes")
    assert answer.location == "/login?next=%2Fnodes&why=revoked"
    assert Ended.REVOKED.value in admin.get(answer.location).text


def test_c14_a_stolen_cookie_ends_the_session(admin: Browser) -> None:
    """Cookies are not separated by port: another server of the same address is sent them, too."""
    thief = admin.running.browser("127.0.0.2")
    thief.cookie = admin.cookie
    assert thief.get("/nodes").location.endswith("why=moved")
    assert admin.get("/nodes").location.endswith("why=moved")


def test_logging_out_ends_it_and_clears_the_browser(admin: Browser) -> None:
    admin.get("/")
    answer = admin.post("/logout")
    assert (answer.status, answer.location) == (303, "/login?why=logged_out")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert admin.get("/").status == 303
    assert not len(admin.running.core.sessions)


def test_a_cookie_of_an_earlier_console_is_told_why(console: Running) -> None:
    browser = console.browser()
    browser.cookie = "left-over-from-before-the-restart"
    answer = browser.get("/jobs")
    assert answer.location.endswith("why=unknown")
    assert Ended.UNKNOWN.value in browser.get(answer.location).text


def test_c05_the_end_is_said_before_it_comes_and_a_word_is_enough(admin: Browser) -> None:
    admin.running.world.ahead_s += 26 * 60
    page = admin.live("/nodes").text
    assert "You will be logged out in" in page
    assert "Stay logged in" in page
    admin.last = page
    answer = admin.post("/session/renew", {"next": "/nodes"})
    assert (answer.status, answer.location) == (303, "/nodes")
    assert "You will be logged out in" not in admin.live("/nodes").text


def test_another_code_renews_a_session_whose_token_ends(console: Running) -> None:
    console.world.codes = {CODE: worlds.let_in(ADMIN, ends_in_s=240)}
    browser = console.browser()
    browser.post("/login", {"code": CODE}, fill=False)
    assert "A new code" in browser.get("/nodes").text
    console.world.codes["SECOND-" + CODE] = worlds.let_in(ADMIN)
    cookie = browser.cookie
    assert browser.post("/session/renew", {"code": "SECOND-" + CODE, "next": "/nodes"}).status == 303
    assert browser.cookie == cookie
    console.world.ahead_s += 600
    assert browser.get("/nodes").status == 200


def test_another_persons_code_is_another_session(console: Running) -> None:
    browser = console.browser()
    browser.login(VIEWER)
    browser.get("/")
    cookie = browser.cookie
    assert browser.post("/session/renew", {"code": CODE}).status == 303
    assert browser.cookie != cookie
    assert len(console.core.sessions) == 1


def test_no_more_than_fifty_are_logged_in() -> None:
    clock = [NIGHT]
    sessions = Sessions(lambda: clock[0])
    cookies = []
    for _ in range(MOST + 1):
        cookie, _ = sessions.begin(user="a", client="192.0.2.1", ends=NIGHT + 9e9, token="t")
        cookies.append(cookie)
        clock[0] += 1
    assert len(sessions) == MOST
    assert sessions.find(cookies[0], "192.0.2.1") == (None, Ended.PUSHED_OUT)
    assert sessions.find(cookies[1], "192.0.2.1")[0] is not None


def test_what_is_kept_of_a_session_opens_nothing(admin: Browser) -> None:
    """The table is by the digest of the cookie; secrets are not in what is printed of it."""
    session, _ = admin.running.core.sessions.find(admin.cookie, "127.0.0.1")
    assert session is not None
    assert session.digest == digest_of(admin.cookie)
    assert admin.cookie not in repr(session)
    assert ADMIN not in repr(session)
    assert session.csrf not in repr(session)


def test_a_door_that_does_not_open_is_no_wrong_code(console: Running) -> None:
    console.door.stop()
    for _ in range(6):
        answer = console.browser().post("/login", {"code": CODE}, fill=False)
        assert answer.status == 503
        assert "cannot check codes now" in answer.text
    assert console.browser().login(ADMIN).status == 303


def test_both_or_neither_is_no_log_in(console: Running) -> None:
    for values in ({}, {"code": CODE, "token": ADMIN}):
        answer = console.browser().post("/login", values, fill=False)
        assert answer.status == 503
        assert "either a code or a token" in answer.text


def test_a_refused_code_tells_nothing_of_why(start: Start) -> None:
    world = worlds.full()
    world.refuse = lambda request: (
        error(401, "this code was used up at 07:00") if request["verb"] == "redeem" else None
    )
    answer = start(world).browser().post("/login", {"code": CODE}, fill=False)
    assert "used up" not in answer.text


def test_the_log_in_page_has_no_form_of_a_session(console: Running) -> None:
    page = console.browser().get("/login").text
    assert "csrf" not in page
    assert console.core.fingerprint in page
    assert "The Kubernetes API answers" in page
    assert JOB not in page
