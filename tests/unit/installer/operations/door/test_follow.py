# SPDX-License-Identifier: Apache-2.0
"""Whoever follows a job misses nothing and hears nothing twice, wherever the connection broke."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.engine import jobrecord, jobs, jobunit
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.operations.door import follow
from installer.operations.door.follow import Follower, Tail
from tests.door_shapes import check_event

REQUEST = Request("node-add", {"nodes": [{"address": "10.0.0.5"}]}, ("caisson", "node", "add", "10.0.0.5"))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, "ActiveState=inactive\n", ""))
    return jobrecord.prepare(Paths(tmp_path), REQUEST)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(20)
        yield ours, theirs


def told(theirs: socket.socket) -> Iterator[dict[str, Any]]:
    with theirs.makefile("rb") as lines:
        for line in lines:
            event = json.loads(line)
            check_event(event)
            yield event


def run(ours: socket.socket, job: Job, *, journal: int = 0, log: int = 0) -> None:
    Follower(ours, job, journal=journal, log=log).run()
    ours.shutdown(socket.SHUT_RDWR)


def test_a_job_is_told_from_its_beginning_to_its_end(
    job: Job, pair: tuple[socket.socket, socket.socket]
) -> None:
    """While it runs, in this process."""
    ours, theirs = pair
    thread = threading.Thread(target=run, args=(ours, job))
    with jobrecord.carried_out(job) as outcome:
        thread.start()
        journal = Journal(job.journal_file, operation="node-add/10.0.0.5")
        for name in ("connect", "probe"):
            journal.start(name)
            with job.output_file.open("a") as output:
                output.write(f"{name} begins\n")
            time.sleep(0.3)
            journal.done(name, changed=False, seconds=0.3)
        outcome.summary = "one host"
    events = list(told(theirs))
    thread.join()
    phases = [
        (event["data"]["phase"], event["data"]["event"]) for event in events if event["event"] == "phase"
    ]
    assert phases == [("connect", "start"), ("connect", "done"), ("probe", "start"), ("probe", "done")]
    first = next(event["data"] for event in events if event["event"] == "phase")
    assert (first["code"], first["host"]) == ("CSP401", "10.0.0.5")
    lines = [line for event in events if event["event"] == "log" for line in event["data"]["lines"]]
    assert lines == ["connect begins", "probe begins"]
    states = [event["data"]["state"] for event in events if event["event"] == "state"]
    assert states == ["running", "succeeded"]
    assert events[-1]["event"] == "state"
    assert events[-1]["data"]["job"]["summary"] == "one host"


def test_from_every_place_the_rest_is_told_and_nothing_twice(job: Job) -> None:
    """A job that has failed, asked for again from behind each event."""
    journal = Journal(job.journal_file, operation="node-add/10.0.0.5")
    journal.start("connect")
    journal.failed("connect", seconds=1)
    job.output_file.write_text("one\ntwo \x1b[2J\nthree without an end")
    jobrecord.finish(job, error=ClusterError("etcd is red"))

    def events_from(journal: int, log: int) -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.settimeout(20)
            run(ours, job, journal=journal, log=log)
            return list(told(theirs))

    def content(events: list[dict[str, Any]]) -> tuple[list[Any], list[str]]:
        return (
            [(e["data"]["phase"], e["data"]["event"]) for e in events if e["event"] == "phase"],
            [line for e in events if e["event"] == "log" for line in e["data"]["lines"]],
        )

    whole = events_from(0, 0)
    phases, lines = content(whole)
    assert phases == [("connect", "start"), ("connect", "failed")]
    assert lines == ["one", "two ?[2J", "three without an end"]
    for place, event in enumerate(whole[:-1]):
        before, after = content(whole[: place + 1]), content(events_from(event["journal"], event["log"]))
        assert (before[0] + after[0], before[1] + after[1]) == (phases, lines)
    assert content(events_from(10**9, 10**9)) == ([], [])
    assert whole[-1]["data"]["job"]["error"]["message"] == "etcd is red"


def test_somebody_who_goes_away_is_noticed(job: Job, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with jobrecord.carried_out(job):
        thread = threading.Thread(target=run, args=(ours, job))
        thread.start()
        next(told(theirs))
        theirs.shutdown(socket.SHUT_WR)
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_silence_is_told(
    job: Job, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BEAT_S", 0.3)
    ours, theirs = pair
    with jobrecord.carried_out(job):
        thread = threading.Thread(target=run, args=(ours, job))
        thread.start()
        events = told(theirs)
        assert [next(events)["event"] for _ in range(3)] == ["state", "beat", "beat"]
        theirs.shutdown(socket.SHUT_WR)
        thread.join(timeout=10)


def test_an_interrupted_job_is_said_to_be_so(job: Job, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    run(ours, jobs.read(job.directory))
    (event,) = told(theirs)
    assert event["data"]["state"] == "interrupted"


def test_a_line_that_never_ends_is_told_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * (follow.CHUNK_BYTES + 10))
    tail = Tail(file, 0)
    assert [len(line) for _, line in tail.lines(to_end=False)] == [follow.CHUNK_BYTES]
    assert tail.lines(to_end=False) == []
    assert [len(line) for _, line in tail.lines(to_end=True)] == [10]
