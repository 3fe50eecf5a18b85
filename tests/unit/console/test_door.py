# SPDX-License-Identifier: Apache-2.0
"""The way to the door: answers that are cut, long, odd or late; and what is remembered of each source."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console import known
from console.door import Asker, Door
from console.known import Cache, SourceError

Answering = Callable[[bytes], Door]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """Return what opens a door that says certain bytes to each question."""
    opened: list[socket.socket] = []

    def open_it(answer: bytes) -> Door:
        path = tmp_path / f"door{len(opened)}.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        opened.append(listening)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(70_000)
                    try:
                        connection.sendall(answer)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        return Door(path)

    yield open_it
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "without an answer"),
        (b"{", "no JSON"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b"[]\n", "no object"),
        (b"{}\n", "neither a result nor an error"),
        (b'{"result": 7}\n', "neither a result nor an error"),
        (b'{"error": 7}\n', "neither a result nor an error"),
        (b"\xff\xfe\n", "no JSON"),
        (b"x" * (9 * 1024 * 1024), "cut off"),
    ],
)
def test_an_odd_answer_is_a_source_that_does_not_answer(
    answering: Answering, answer: bytes, says: str
) -> None:
    with pytest.raises(SourceError, match=says):
        asyncio.run(answering(answer).call("status"))


def test_an_error_keeps_its_words_and_its_number(answering: Answering) -> None:
    error = {"code": "CSE018", "message": "no", "details": ["a", "b"], "resolution": ["c"], "status": 403}
    door = answering(json.dumps({"time": "", "error": error}).encode() + b"\n")
    with pytest.raises(SourceError) as caught:
        asyncio.run(door.call("start"))
    found = caught.value
    assert (found.status, found.message, found.rule, found.resolution) == (403, "CSE018 no", "a; b", "c")


def test_a_long_request_is_not_sent(answering: Answering) -> None:
    with pytest.raises(SourceError, match="too long"):
        asyncio.run(answering(b"{}\n").call("start", {"secrets": {"key": "x" * 70_000}}))


def test_a_late_answer_is_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "door.sock"))
        listening.listen()
        with pytest.raises(SourceError, match=r"not answered within 0\.2 s"):
            asyncio.run(Door(tmp_path / "door.sock").call("status", limit_s=0.2))


def test_no_door_says_what_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not open") as caught:
        asyncio.run(Door(tmp_path / "none.sock").call("status"))
    assert caught.value.resolution == "systemctl status caisson-door.socket"


@pytest.mark.parametrize(
    "last", [b"", b'{"event": "state", "data": {"state": "running"}}\n', b'{"event": "beat"}\n']
)
def test_a_door_that_goes_in_the_middle_is_no_end_of_a_job(answering: Answering, last: bytes) -> None:
    async def follow(door: Door) -> None:
        async for _ in door.follow("an-id", journal=0, log=0):
            pass

    with pytest.raises(SourceError, match="in the middle"):
        asyncio.run(follow(answering(last)))
    asyncio.run(follow(answering(last + b'{"event": "state", "data": {"state": "interrupted"}}\n')))


def test_a_token_and_a_grant_are_not_printed() -> None:
    asker = Asker(client="192.0.2.1", token="secret-token", grant="secret-grant")
    assert "secret" not in repr(asker)


# ---- what is remembered --------------------------------------------------------------------------------------


def test_each_source_is_asked_once_at_a_time() -> None:
    asked = []

    async def slow() -> int:
        asked.append(1)
        await asyncio.sleep(0.05)
        return len(asked)

    async def all_at_once() -> list[Any]:
        cache = Cache()
        return await asyncio.gather(*(cache.get("k", "s", slow, fresh_s=5) for _ in range(20)))

    assert {found.value for found in asyncio.run(all_at_once())} == {1}
    assert len(asked) == 1


def test_what_is_old_stays_with_its_date_and_the_reason() -> None:
    clock = [100.0]

    async def run() -> tuple[known.Known[int], known.Known[int]]:
        cache = Cache(lambda: clock[0])

        async def good() -> int:
            return 7

        async def gone() -> int:
            raise SourceError("nobody there")

        first = await cache.get("k", "s", good, fresh_s=2)
        clock[0] = 200.0
        return first, await cache.get("k", "s", gone, fresh_s=2)

    first, second = asyncio.run(run())
    assert first.is_fresh(101.0, 2)
    assert (second.value, second.at) == (7, 100.0)
    assert not second.is_fresh(200.0, 1000)
    assert second.is_silent


def test_what_may_not_be_seen_any_more_is_forgotten() -> None:
    clock = [100.0]

    async def run() -> known.Known[int]:
        cache = Cache(lambda: clock[0])

        async def good() -> int:
            return 7

        async def refused() -> int:
            raise SourceError("you may not", status=403)

        await cache.get("k", "s", good, fresh_s=2)
        clock[0] = 200.0
        return await cache.get("k", "s", refused, fresh_s=2)

    assert asyncio.run(run()).value is None


def test_a_slow_answer_is_there_for_the_next_page() -> None:
    async def run() -> tuple[Any, Any]:
        cache, may_answer = Cache(), asyncio.Event()

        async def slow() -> int:
            await may_answer.wait()
            return 7

        first = await cache.get("k", "s", slow, fresh_s=5, wait_s=0.01)
        may_answer.set()
        return first, await cache.get("k", "s", slow, fresh_s=5, wait_s=60.0)

    first, second = asyncio.run(run())
    assert first.value is None
    assert "still waiting" in first.fault.message
    assert second.value == 7


def test_no_more_than_so_many_answers_are_kept() -> None:
    async def run() -> int:
        cache = Cache()

        async def one() -> int:
            return 1

        for number in range(known.KEPT + 50):
            await cache.get(number, "s", one, fresh_s=5)
        return len(cache._entries)

    assert asyncio.run(run()) == known.KEPT
