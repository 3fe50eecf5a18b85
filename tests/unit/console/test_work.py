# SPDX-License-Identifier: Apache-2.0
"""Jobs and hosts: a stream that goes on where it was cut, forms that are sent twice, secrets that stay nowhere."""

from __future__ import annotations

import re
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from console import known
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.doorway import error
from tests.unit.console.running import Browser
from tests.unit.console.world import ADMIN, FINGERPRINT, JOB, LOOK, OPERATOR, PROBE, REPORT, VIEWER

pytestmark = pytest.mark.loopback

HOST = {"address": "10.77.1.14", "port": "22", "user": "olga", "name": "w4", "role": "worker"}


def lines_of(stream: str) -> list[str]:
    """Return the numbers of the log lines of a stream."""
    return re.findall(r"line (\d+) of", stream)


def test_c03_a_job_shows_phase_time_wait_and_log(admin: Browser) -> None:
    page = admin.get(f"/jobs/{JOB}").text
    assert "phase 7 of 9, prepare the host" in page
    assert "waits for the image registry.k8s.io/kube-proxy:v1.36.4" in page
    assert lines_of(page) == [str(n) for n in range(1, 61)]


def test_the_page_and_the_stream_meet_without_a_gap(admin: Browser) -> None:
    """What the page has, the stream does not repeat; what comes after it, the stream has."""
    files = admin.running.world.jobs[JOB]
    page = admin.get(f"/jobs/{JOB}").text
    source = re.search(r'data-stream="([^"]+)"', page)
    assert source is not None
    files.log += worlds.log_of(70)[len(worlds.log_of(60)) :]
    files.about["state"] = "succeeded"
    stream = admin.get(source[1]).text
    assert lines_of(page) + lines_of(stream) == [str(n) for n in range(1, 71)]
    assert stream.rstrip().endswith("event: end\ndata: {}")
    assert admin.get(source[1]).headers.get_content_type() == "text/event-stream"


def test_a_stream_resumes_from_the_last_event(admin: Browser) -> None:
    files = admin.running.world.jobs[JOB]
    files.about["state"] = "failed"
    whole = admin.get(f"/jobs/{JOB}/stream").text
    assert lines_of(whole) == [str(n) for n in range(1, 61)]
    assert whole.count("event: phase") == 3
    place = f"{len(files.journal)}.{len(worlds.log_of(33))}"
    rest = admin.get(f"/jobs/{JOB}/stream?from=0.0", Last_Event_ID=place).text
    assert lines_of(rest) == [str(n) for n in range(34, 61)]
    assert "event: phase" not in rest


def test_a_stream_goes_on_while_the_job_does(admin: Browser) -> None:
    files = admin.running.world.jobs[JOB]
    before = len(files.log)

    def work() -> None:
        for number in range(61, 71):
            time.sleep(0.03)
            files.log += worlds.log_of(number)[len(worlds.log_of(number - 1)) :]
        files.about["state"] = "succeeded"

    thread = threading.Thread(target=work)
    thread.start()
    stream = admin.get(f"/jobs/{JOB}/stream?from=0.{before}").text
    thread.join()
    assert lines_of(stream) == [str(n) for n in range(61, 71)]


def test_a_stream_ends_with_the_session(admin: Browser) -> None:
    core = admin.running.core

    def leave() -> None:
        time.sleep(0.4)
        admin.running.world.ahead_s += 3600

    thread = threading.Thread(target=leave)
    thread.start()
    stream = admin.get(f"/jobs/{JOB}/stream").text
    thread.join()
    assert stream.rstrip().endswith("data: {}")
    assert "event: over" in stream
    assert core.streams == 0


def test_the_log_is_a_file_too(admin: Browser) -> None:
    admin.running.world.jobs[JOB].log = worlds.log_of(5000)
    answer = admin.get(f"/jobs/{JOB}/log")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{JOB}.log"'
    assert answer.headers.get_content_type() == "text/plain"
    assert lines_of(answer.text) == [str(n) for n in range(1, 5001)]
    page = admin.get(f"/jobs/{JOB}").text
    assert "Only the end is shown." in page
    assert lines_of(page)[-1] == "5000"
    assert len(page) < 70_000


def test_c03_an_interrupted_job_says_so(start: Start) -> None:
    world = worlds.full()
    world.jobs[JOB].about.update(state="interrupted", exit_code=None)
    world.jobs[JOB].phases = worlds.phases(6, "interrupted")
    browser = start(world).browser()
    browser.login(ADMIN)
    page = browser.get(f"/jobs/{JOB}").text
    assert "interrupted" in page
    assert "Start again" in page
    assert "Give up" in page
    assert "was interrupted" in browser.get("/").text


def test_a_job_that_the_host_is_slow_to_tell_of_is_asked_for_again(
    admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is not known yet nothing is said but that, the page goes on asking, and its log comes from the start."""
    monkeypatch.setattr(known, "WAIT_S", 0.1)
    admin.running.world.held.add("job")
    page = admin.get(f"/jobs/{JOB}").text
    assert "Nothing is known of this job yet" in page
    assert f'data-stream="/jobs/{JOB}/stream?from=0.0"' in page
    assert 'data-every="2"' in page
    page = admin.get(f"/hosts/add/{LOOK}").text
    assert "is not known yet" in page
    assert "The look is over" not in page
    assert 'action="/hosts/look"' not in page
    assert 'data-every="2"' in page


def test_a_job_is_cancelled_and_started_again(admin: Browser) -> None:
    admin.get(f"/jobs/{JOB}")
    assert admin.post(f"/jobs/{JOB}/cancel").location == f"/jobs/{JOB}"
    page = admin.get(f"/jobs/{JOB}").text
    assert "it was cancelled" in page
    assert admin.post(f"/jobs/{JOB}/again", {"secret_password": "hunter2"}).location == f"/jobs/{JOB}"
    asked = [r for r in admin.running.world.asked_door if r["verb"] in ("cancel", "again")]
    assert [r["token"] for r in asked] == [ADMIN, ADMIN]
    assert asked[1]["arguments"]["secrets"] == {"password": "hunter2"}


def test_what_the_door_refuses_is_said_with_the_rule(start: Start) -> None:
    world = worlds.full()
    world.refuse = lambda request: (
        error(
            403,
            "olga may not create hosts",
            details=('the rule that is missing: apiGroups: ["x"]',),
        )
        if request["verb"] == "start"
        else None
    )
    browser = start(world).browser()
    browser.login(OPERATOR)
    browser.get("/hosts/add")
    answer = browser.post("/hosts/look", HOST)
    assert answer.status == 403
    assert "CSE017 olga may not create hosts" in answer.text
    assert "the rule that is missing: apiGroups: [&#34;x&#34;]" in answer.text


def test_a_host_is_added_in_three_steps(start: Start) -> None:
    world = worlds.full()
    browser = start(world).browser()
    browser.login(OPERATOR)
    browser.get("/hosts/add")
    answer = browser.post("/hosts/look", HOST)
    assert answer.status == 303
    page = browser.get(answer.location).text
    assert FINGERPRINT in page
    assert 'value="w4"' in page
    typed = {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()}
    assert typed == HOST
    answer = browser.post(
        "/hosts/look",
        {**typed, "fingerprint": FINGERPRINT, "secret_password": "hunter2", "secret_sudo": "sesame"},
    )
    assert "hunter2" not in answer.location
    page = browser.get(answer.location).text
    assert "Fit to become a node" in page
    assert "CSN214" in page
    assert "is kept in memory for ten minutes" in page
    assert "hunter2" not in page
    answer = browser.post("/hosts/join", {**HOST, "role": "control-plane", "fingerprint": FINGERPRINT})
    assert re.fullmatch(r"/jobs/[0-9a-z-]+", answer.location)
    assert browser.get(answer.location).status == 200
    first, second, third = [r["arguments"] for r in world.asked_door if r["verb"] == "start"]
    assert (first["operation"], first["secrets"], "hostKey" in first["parameters"]) == ("probe", {}, False)
    assert second["parameters"] == {
        "address": "10.77.1.14",
        "port": 22,
        "user": "olga",
        "role": "worker",
        "name": "w4",
        "hostKey": FINGERPRINT,
    }
    assert second["secrets"] == third["secrets"] == {"password": "hunter2", "sudo": "sesame"}
    assert (third["operation"], third["parameters"]["role"]) == ("add-host", "control-plane")
    session, _ = browser.running.core.sessions.find(browser.cookie, "127.0.0.1")
    assert session is not None
    assert not session.kept


def test_c15_sent_twice_is_one_job(admin: Browser) -> None:
    admin.get("/hosts/add")
    first, second = admin.post("/hosts/look", HOST), admin.post("/hosts/look", HOST)
    assert first.location == second.location
    admin.get("/hosts/add")
    assert admin.post("/hosts/look", HOST).location != first.location


def test_secrets_are_forgotten_after_ten_minutes(admin: Browser) -> None:
    admin.get("/hosts/add")
    answer = admin.post("/hosts/look", {**HOST, "fingerprint": FINGERPRINT, "secret_password": "hunter2"})
    admin.running.world.ahead_s += 601
    assert "Password for sudo" in admin.get(answer.location).text


def test_c15_what_was_typed_outlives_the_session_but_not_the_secrets(admin: Browser) -> None:
    admin.get("/hosts/add")
    admin.running.world.ahead_s += 31 * 60
    answer = admin.post("/hosts/look", {**HOST, "secret_password": "hunter2"})
    assert answer.status == 303
    assert "hunter2" not in answer.location
    query = parse_qs(urlsplit(answer.location).query)
    back = admin.post("/login", {"token": ADMIN, "next": query["next"][0]}, fill=False).location
    page = admin.get(back).text
    for value in ("10.77.1.14", "olga", "w4"):
        assert f'value="{value}"' in page


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("address", "db.example", "no IPv4 address"),
        ("address", "10.0.0.300", "no IPv4 address"),
        ("port", "0", "from 1 to 65535"),
        ("port", "22 ", ""),
        ("port", "\u0662\u0662", "from 1 to 65535"),
        ("user", "-oProxyCommand=x", "does not begin with a dash"),
        ("name", "W4", "small letters"),
        ("role", "king", "a worker or a control plane"),
        ("fingerprint", "MD5:aa", "SHA256: and 43"),
    ],
)
def test_what_cannot_be_so_is_said_at_the_field(admin: Browser, field: str, value: str, says: str) -> None:
    admin.get("/hosts/add")
    answer = admin.post("/hosts/look", {**HOST, field: value})
    assert answer.status == (422 if says else 303)
    assert says in answer.text
    if says:
        assert 'value="10.77.1.14"' in answer.text or field == "address"


def test_no_host_is_added_without_its_key(admin: Browser) -> None:
    admin.get("/hosts/add")
    answer = admin.post("/hosts/join", HOST)
    assert answer.status == 422
    assert "key has to be confirmed first" in answer.text


# ---- a node leaves -------------------------------------------------------------------------------------------


def test_a_node_is_removed_once_its_name_is_typed(admin: Browser) -> None:
    assert 'href="/nodes/w2/remove"' in admin.get("/nodes/w2").text
    page = admin.get("/nodes/w2/remove").text
    assert 'name="confirm" value=""' in page
    for typed in ("", "w1", "W2"):
        answer = admin.post("/nodes/w2/remove", {"confirm": typed, "user": "olga", "force": "1"})
        assert answer.status == 422
        assert "Type the name of the node, w2" in answer.text
        assert 'name="user" value="olga"' in answer.text
        assert 'name="force" value="1" checked' in answer.text
    assert not [r for r in admin.running.world.asked_door if r["verb"] == "start"]
    answer = admin.post("/nodes/w2/remove", {"confirm": "w2", "user": "olga", "secret_password": "hunter2"})
    assert answer.status == 303
    assert answer.location.startswith("/jobs/")
    (asked,) = [r for r in admin.running.world.asked_door if r["verb"] == "start"]
    assert asked["token"] == ADMIN
    assert asked["arguments"]["operation"] == "remove-node"
    assert asked["arguments"]["parameters"] == {"name": "w2", "dead": False, "force": False, "user": "olga"}
    assert asked["arguments"]["secrets"] == {"password": "hunter2"}
    assert admin.post("/nodes/w2/remove", {"confirm": "w2"}).location == answer.location
    assert "Remove a node" in admin.get(answer.location).text


@pytest.mark.parametrize(
    ("field", "value"), [("address", "w2.example"), ("user", "-oProxyCommand=x"), ("port", "0")]
)
def test_what_cannot_be_so_of_a_removal_is_said(admin: Browser, field: str, value: str) -> None:
    admin.get("/nodes/w2/remove")
    answer = admin.post("/nodes/w2/remove", {"confirm": "w2", field: value})
    assert answer.status == 422
    assert f'id="about-{field}"' in answer.text
    assert answer.text.count('class="fieldfault"') == 1
    assert not [r for r in admin.running.world.asked_door if r["verb"] == "start"]


def test_an_operator_removes_no_node_and_is_told_the_rule(start: Start) -> None:
    browser = start(worlds.full()).browser()
    browser.login(OPERATOR)
    for path in ("/nodes/w2", "/nodes/w2/remove"):
        page = browser.get(path).text
        assert '<button type="button" disabled>Remove w2</button>' in page
        assert "resources: [&#34;hosts&#34;], verbs: [&#34;delete&#34;]" in page


def test_a_removal_outlives_the_session_but_neither_name_nor_secret(admin: Browser) -> None:
    admin.get("/nodes/w2/remove")
    admin.running.world.ahead_s += 31 * 60
    typed = {"confirm": "w2", "dead": "1", "user": "olga", "secret_password": "hunter2"}
    answer = admin.post("/nodes/w2/remove", typed)
    query = parse_qs(urlsplit(answer.location).query)
    assert query["next"] == ["/nodes/w2/remove?user=olga&dead=1"]


def test_a_report_is_made_and_fetched_whole(admin: Browser) -> None:
    page = admin.get("/report").text
    assert f"/jobs/{REPORT}/archive" in page
    answer = admin.get(f"/jobs/{REPORT}/archive")
    assert answer.body == admin.running.world.jobs[REPORT].archive
    assert answer.headers["Content-Disposition"] == 'attachment; filename="caisson-report-cp1.tar.gz"'
    assert answer.headers.get_content_type() == "application/gzip"


def test_a_report_is_for_whoever_may_make_one(start: Start) -> None:
    browser = start(worlds.full()).browser()
    browser.login(VIEWER)
    assert browser.get(f"/jobs/{REPORT}/archive").status == 403


def test_a_job_that_is_not_there(admin: Browser) -> None:
    assert admin.get("/jobs/20260101-000000-probe-000000").status == 404
    for odd in ("..%2f..%2fetc", "x", JOB + "%00", "20260101-000000-Probe-000000"):
        assert admin.get(f"/jobs/{odd}").status == 404


def test_a_look_goes_on_with_what_its_job_knows(admin: Browser) -> None:
    """Also where the address of the page has lost what was typed."""
    for job_id in (PROBE, LOOK):
        assert 'name="address" value="10.77.1.13"' in admin.get(f"/hosts/add/{job_id}").text


def test_no_secret_stays(admin: Browser) -> None:
    """Neither in a page nor in an address; and not in what is printed of a session."""
    admin.get("/hosts/add")
    answer = admin.post(
        "/hosts/look",
        {
            **HOST,
            "fingerprint": FINGERPRINT,
            "secret_password": "hunter2",
            "secret_key": "-----BEGIN KEY-----\r\nabc\r\n",
        },
    )
    seen = (
        answer.location + admin.get(answer.location).text + admin.get("/hosts").text + admin.get("/jobs").text
    )
    assert "hunter2" not in seen
    assert "BEGIN KEY" not in seen
    session, _ = admin.running.core.sessions.find(admin.cookie, "127.0.0.1")
    assert "hunter2" not in repr(session)
    (sent,) = [r["arguments"]["secrets"] for r in admin.running.world.asked_door if r["verb"] == "start"]
    assert sent["key"] == "-----BEGIN KEY-----\nabc\n"
