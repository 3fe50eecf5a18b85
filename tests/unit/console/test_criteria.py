# SPDX-License-Identifier: Apache-2.0
"""What users of other consoles have complained of, as far as no browser is needed: fifteen criteria, by number.

Further tests of the same numbers stand beside what they test, and in ``tests/ui``.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from console.sessions import Ended
from console.views.nodes import HEARTBEAT_S
from installer.operations.door import codes
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import SAME, Browser, Running, cost_s, program, running
from tests.unit.console.test_pages import words
from tests.unit.console.test_security import PAGES, POSTS
from tests.unit.console.test_work import HOST, lines_of
from tests.unit.console.world import ADMIN, CODE, FINGERPRINT, JOB, LOOK, NIGHT, OPERATOR, VIEWER

pytestmark = pytest.mark.loopback

TESTS_DIR = Path(__file__).parents[2]


def main_of(page: str) -> str:
    """Return what stands between the bars at the top and the foot of a page, as one reads it."""
    return words(page[page.index("<main") : page.index("</main>")])


def test_each_criterion_has_a_test_that_is_named_after_it() -> None:
    found = {
        int(number)
        for folder in ("unit/console", "ui")
        for file in (TESTS_DIR / folder).glob("test_*.py")
        for number in re.findall(r"^def test_c(\d\d)_", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == set(range(1, 16))


def test_c01_a_job_belongs_to_no_browser_and_to_no_console(console: Running, tmp_path: Path) -> None:
    """It is begun by one, whose browser and console go away; another sees phases, log, end and reason."""
    world = console.world
    first = console.browser()
    first.login(ADMIN)
    first.get("/hosts/add")
    job = first.post("/hosts/join", {**HOST, "fingerprint": FINGERPRINT}).location
    files = world.jobs[job.rpartition("/")[2]]
    files.phases, files.log = worlds.phases(6, "running"), worlds.log_of(60)
    seen = words(first.get(job).text)
    with running(world, tmp_path / "another") as other:
        second = other.browser()
        second.login(VIEWER)
        assert second.get(job).status == 200
        page = words(second.get(job).text)
        assert [line for line in page.splitlines() if "phase" in line or "line " in line] == [
            line for line in seen.splitlines() if "phase" in line or "line " in line
        ]
        files.about.update(worlds.failed().jobs[JOB].about, id=files.about["id"])
        files.phases = worlds.phases(6, "failed")
        world.ahead_s += 1
        for browser in (first, second):
            page = words(browser.get(job).text)
            assert "CSE015 10.77.1.13 has no room for images" in page
            assert lines_of(page) == [str(n) for n in range(1, 61)]


def test_c01_a_job_of_the_command_line_is_there_too(console: Running) -> None:
    made = "20261127-065950-node-add-112233"
    console.world.jobs[made] = worlds.JobFiles(
        worlds.job(made, "node-add", "running", asker={}), phases=worlds.phases(2, "running")
    )
    browser = console.browser()
    browser.login(VIEWER)
    assert f'href="/jobs/{made}"' in browser.get("/jobs").text
    assert "phase 3 of 9" in browser.get(f"/jobs/{made}").text


@pytest.mark.parametrize("gone", ["api", "door", "kubelet", "lease"])
def test_c02_nothing_is_called_well_past_ten_seconds(start: Start, gone: str) -> None:
    """Of what has not answered meanwhile no good mark is left; the door is asked for longer, and says so at once."""
    console = start(worlds.full())
    browser = console.browser()
    browser.login(ADMIN)
    for path in ("/", "/nodes", "/pods", "/control-plane"):
        browser.get(path)
    world = console.world
    if gone == "api":
        console.api.stop()
        world.ahead_s += 10.1
    elif gone == "door":
        console.door.stop()
        world.ahead_s += 2.1
    elif gone == "kubelet":
        world.nodes[3] = worlds.node("w1", "10.77.1.11", status="NotReady")
        world.ahead_s += 10.1
    else:
        world.leases["w1"] = NIGHT - HEARTBEAT_S
        world.ahead_s += 10.1
    assert "All is well" not in browser.get("/").text
    nodes = browser.get("/nodes").text
    ready = re.findall(r'<tr id="n-(\w+)"><td><span class="mark good">Ready', nodes)
    if gone == "api":
        assert ready == []
        assert 'class="mark good">Running' not in browser.get("/pods").text
    if gone in ("kubelet", "lease"):
        assert "w1" not in ready
    if gone == "door":
        page = browser.get("/control-plane").text
        assert re.findall(r'class="mark good">(?:active|running|images|registry|HTTP)', page) == []


def test_c03_a_job_that_failed_says_code_cause_lines_and_next_step(start: Start) -> None:
    browser = start(worlds.failed()).browser()
    browser.login(VIEWER)
    page = words(browser.get(f"/jobs/{JOB}").text)
    for said in (
        "CSE015 10.77.1.13 has no room for images",
        "/var/lib/containerd: 1.2 GiB free, 6 GiB needed",
        "df -h /var/lib/containerd",
        "line 60 of",
        "Start again",
    ):
        assert said in page


def test_c03_a_job_that_was_killed_is_interrupted_within_five_seconds(admin: Browser) -> None:
    page = admin.get(f"/jobs/{JOB}").text
    every = re.search(r'<body data-every="(\d+)">', page)
    assert every is not None
    assert 0 < int(every[1]) <= 5
    admin.running.world.jobs[JOB].about.update(state="interrupted", exit_code=None)
    admin.running.world.ahead_s += int(every[1])
    assert 'class="mark warn">interrupted' in admin.live(f"/jobs/{JOB}").text


def test_c04_no_page_names_another_origin(start: Start) -> None:
    for world in (worlds.full(), worlds.failed()):
        browser = start(world).browser()
        browser.login(ADMIN)
        for path in (*PAGES, "/login"):
            page = browser.get(path).text
            found = re.findall(r'(?:href|src|action|content|data-\w+)="((?:[a-z]+:)?//[^"]*)"', page)
            assert found == [], path


@pytest.mark.parametrize(
    ("why", "later_s"),
    [(Ended.IDLE, 31 * 60), (Ended.TOKEN, 601), (Ended.REVOKED, 61), (Ended.LOGGED_OUT, 0)],
)
def test_c05_the_log_in_says_why_one_is_out(console: Running, why: Ended, later_s: float) -> None:
    browser = console.browser()
    console.world.codes[CODE] = worlds.let_in(ADMIN, ends_in_s=600 if why is Ended.TOKEN else 8 * 3600)
    browser.post("/login", {"code": CODE}, fill=False)
    assert "logged in until" in words(browser.get("/nodes").text)
    if why is Ended.REVOKED:
        del console.world.users[ADMIN]
    console.world.ahead_s += later_s
    answer = browser.post("/logout") if why is Ended.LOGGED_OUT else browser.get("/nodes")
    assert why.value in unescape(browser.get(answer.location).text)


def test_c06_nobody_comes_in_without_root(console: Running) -> None:
    """There is no first user and no password: each way in wants a code or a token, and codes are guessed by nobody."""
    browser = console.browser()
    page = browser.get("/login").text
    assert re.findall(r'<(?:input|textarea)[^>]* name="(\w+)"', page.replace('name="next"', "")) == [
        "code",
        "token",
    ]
    for path in POSTS:
        assert browser.post(path, {"key": "k" * 20, "csrf": ""}).location.startswith("/login")
    for values in ({"code": "A" * 26}, {"token": "admin:admin"}, {"code": "admin"}, {"user": "admin"}):
        assert browser.post("/login", values, fill=False).status in (403, 429, 503)
    assert not browser.cookie
    assert (codes.CODE_BYTES * 8, codes.CODE_LIFE_S) == (128, 300)


DOWN = {
    "api": ("The Kubernetes API has not answered",),
    "etcd": ("etcd does not run",),
    "kubelet": ("kubelet does not run",),
    "containerd": ("containerd does not run",),
    "all": ("containerd does not run", "kubelet does not run"),
}


@pytest.mark.parametrize("what", DOWN)
def test_c07_a_code_lets_in_and_the_cause_is_among_the_first_lines(start: Start, what: str) -> None:
    world = worlds.full()
    services: list[dict[str, Any]] = world.status["host"]["services"]
    if what in ("etcd", "all"):
        worlds.api_down(world)
    for one in services:
        if what in (one["name"], "all") and one["name"] in DOWN:
            one.update(state="failed", detail="failed", result="exit-code", exit_code=1)
    if what in ("containerd", "all"):
        for pod in world.status["host"]["static_pods"]:
            pod.update(running=None)
    is_down = what in ("api", "etcd", "all")
    if is_down:
        world.codes[CODE] = {"grant": "g" * 43, "ends": worlds.at(-3600), "user": "local", "role": ""}
    console = start(world)
    if is_down:
        console.api.stop()
    browser = console.browser()
    assert browser.post("/login", {"code": CODE}, fill=False).status == 303
    faults = re.findall(r"<h2>(?:<a [^>]*>)?([^<]+)", browser.get("/").text.partition("<ol")[2])[:3]
    for cause in DOWN[what]:
        assert any(cause in unescape(line) for line in faults), faults
    assert cost_s(browser, "/") < 2.0


def test_c12_what_ends_is_seen_long_before_and_without_the_api(start: Start) -> None:
    world = worlds.full()
    world.certificates = [
        worlds.certificate(f"/etc/kubernetes/pki/{name}.crt", name, days)
        for name, days in (("soon", 6), ("month", 29), ("quarter", 89), ("year", 91))
    ]
    console = start(world)
    browser = console.browser()
    browser.login(ADMIN)

    def look() -> None:
        rows = re.findall(r"<tr[^>]*>(.*?)</tr>", browser.get("/certificates").text, re.DOTALL)
        marks = {
            name: re.findall(r'class="mark (\w+)"', row)[0]
            for row in rows
            for name in ("soon", "month", "quarter", "year")
            if f"pki/{name}.crt" in row
        }
        assert marks == {"soon": "bad", "month": "bad", "quarter": "warn", "year": "good"}
        assert "ends in 6 days" in main_of(browser.get("/").text).splitlines()[0]

    look()
    console.api.stop()
    world.ahead_s += 12
    look()


SECRET = "hunter2-" + "s3cr3t" * 3


@pytest.mark.subprocess
def test_c14_a_secret_is_nowhere_but_where_it_is_needed(console: Running) -> None:
    """T12: the real program is given a password, a key, a token and a code; all that it writes is searched for them."""
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nQUJDREVG\n-----END OPENSSH PRIVATE KEY-----"
    typed = {
        **HOST,
        "fingerprint": FINGERPRINT,
        "secret_password": SECRET,
        "secret_sudo": SECRET,
        "secret_passphrase": SECRET,
        "secret_key": private,
    }
    with program(console) as it:
        browser = it.console.browser()
        assert browser.login(ADMIN).status == 303
        said: list[str] = []

        def seen(answer: Any) -> Any:
            said.append(answer.text + str(answer.headers).replace(browser.cookie, ""))
            return answer

        for path in PAGES:
            seen(browser.get(path))
        for path in ("/hosts/look", "/hosts/join"):
            seen(browser.get("/hosts/add"))
            seen(browser.get(seen(browser.post(path, typed)).location))
        seen(browser.get("/hosts/add"))
        seen(browser.post("/hosts/look", {**typed, "port": "0"}))
        seen(browser.get("/nodes/w2/remove"))
        seen(browser.post("/nodes/w2/remove", {**typed, "confirm": "w1"}))
        seen(it.console.browser().post("/login", {"code": "WRONG-" + SECRET}, fill=False))
        seen(it.console.browser().post("/login", {"token": "wrong-" + SECRET}, fill=False))
        address = Path(f"/proc/{it.process.pid}")
        said += [(address / name).read_text(errors="replace") for name in ("cmdline", "environ")]
        said.append(it.log_file.read_text(encoding="utf-8"))
    whole = "\n".join(said)
    for secret in (SECRET, "QUJDREVG", ADMIN, browser.cookie, CODE):
        assert secret not in whole
    assert not [
        file for file in console.directory.rglob("*") if file.is_file() and SECRET in file.read_text()
    ]
    assert not [line for line in console.world.asked_api if SECRET in line or ADMIN in line]
    sent = [r["arguments"]["secrets"] for r in console.world.asked_door if r["verb"] == "start"]
    assert [one["password"] for one in sent] == [SECRET, SECRET]


def test_c14_a_console_without_a_session_starts_nothing(console: Running) -> None:
    """Whoever has taken it over has nobody's token: what the door is sent of an act always has one."""
    browser = console.browser()
    for path in POSTS:
        browser.ask("POST", path, "csrf=&key=" + "k" * 20, SAME)
    assert console.world.asked_door == []
    browser.login(OPERATOR)
    browser.get("/hosts/add")
    browser.post("/hosts/look", HOST)
    assert {(r["verb"], r["token"]) for r in console.world.asked_door if r["token"]} == {("start", OPERATOR)}


def test_c15_the_console_starts_again_and_what_was_typed_stays(console: Running, tmp_path: Path) -> None:
    """The address of a step has all of it but secrets: F5, the way back and another console show it again."""
    browser = console.browser()
    browser.login(OPERATOR)
    browser.get("/hosts/add")
    step = browser.post("/hosts/look", {**HOST, "secret_password": SECRET}).location
    with running(console.world, tmp_path / "again") as again:
        other = again.browser()
        answer = other.get(step)
        assert answer.location.startswith("/login?next=")
        other.login(OPERATOR)
        for _ in range(2):
            page = other.get(step).text
            for value in ("10.77.1.14", "olga", "w4"):
                assert f'value="{value}"' in page
            assert SECRET not in page
    assert LOOK in console.world.jobs
