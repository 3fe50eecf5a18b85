# SPDX-License-Identifier: Apache-2.0
"""What comes to the door may be anything: each connection gets one answer that says what was wrong, and that is all.

Real processes behind a real Unix socket, as systemd starts them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from installer.operations.door import wire
from installer.operations.door.wire import RefusalError
from tests.unit.installer.operations.door.conftest import Doors

SCHEMA = schemas.load("door")
ANSWER = jsonschema.Draft7Validator({**SCHEMA["definitions"]["answer"], "definitions": SCHEMA["definitions"]})
JOB = "20261128-080000-node-add-0123ab"
BAD = {
    "nothing": b"\n",
    "no JSON": b"GET / HTTP/1.1\n",
    "no UTF-8": b'{"verb": "jobs\xff"}\n',
    "a list": b'["jobs"]\n',
    "a number": b"7\n",
    "no verb": b"{}\n",
    "unknown verb": b'{"verb": "shell"}\n',
    "unknown key": b'{"verb": "jobs", "path": "/etc/shadow"}\n',
    "unknown argument": b'{"verb": "jobs", "arguments": {"limit": 5}}\n',
    "arguments are text": b'{"verb": "jobs", "arguments": "x"}\n',
    "another type": b'{"verb": "journal", "arguments": {"limit": "5"}}\n',
    "too many": b'{"verb": "journal", "arguments": {"limit": 5000}}\n',
    "a path": b'{"verb": "job", "arguments": {"id": "../../../etc"}}\n',
    "a path behind an ID": f'{{"verb": "job", "arguments": {{"id": "{JOB}/../x"}}}}\n'.encode(),
    "an ID and a line": f'{{"verb": "job", "arguments": {{"id": "{JOB}\\n"}}}}\n'.encode(),
    "a key twice": b'{"verb": "jobs", "verb": "status"}\n',
    "no number": b'{"verb": "journal", "arguments": {"limit": NaN}}\n',
    "deep": b'{"verb": "jobs", "arguments": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n",
    "two requests": b'{"verb": "jobs"}\n{"verb": "jobs"}\n',
    "a short key": b'{"verb": "start", "arguments": {"operation": "report", "key": "abc"}}\n',
    "an unknown operation": b'{"verb": "start", "arguments": {"operation": "reset", "key": "0123456789abcdef"}}\n',
}


def check(answer: dict[str, Any]) -> dict[str, Any]:
    ANSWER.validate(answer)
    return answer


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_told_what_is_wrong_with_it(line: bytes) -> None:
    """Each is refused before anything is looked at."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(line)
        with pytest.raises(RefusalError) as caught:
            wire.read_request(ours, limit_s=2)
    assert caught.value.status == 400
    assert caught.value.error.details
    check(wire.of_refusal(caught.value))


@pytest.mark.subprocess
def test_the_door_answers_each_connection_by_a_process_that_ends(doors: Doors) -> None:
    """Real processes: good and bad requests, side by side."""
    lines = [*BAD.values(), b'{"verb": "jobs"}\n', b'{"verb": "journal"}\n']
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda given=line: answers.append(doors.ask(given))) for line in lines[-10:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 10
    assert sum("result" in check(answer) for answer in answers) == 2
    assert "Traceback" not in doors.said()
    assert {process.returncode for process in doors.started} == {0}


@pytest.mark.subprocess
def test_the_door_takes_no_more_than_64_kb(doors: Doors) -> None:
    """A line without an end fills nobody's memory; real processes."""
    with doors.connect() as connection:
        sent = 0
        try:
            while sent < 10 * wire.LIMIT_BYTES:
                sent += connection.send(b"x" * 4096)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 10 * wire.LIMIT_BYTES
    limit = b'{"verb": "jobs", "token": "' + b"x" * wire.LIMIT_BYTES + b'"}\n'
    assert check(doors.ask(limit))["error"]["status"] == 413


@pytest.mark.subprocess
def test_the_door_waits_five_seconds_and_no_longer(doors: Doors) -> None:
    """Also for somebody who sends a byte now and then; a real process."""
    with doors.connect() as connection:
        began = time.monotonic()
        connection.sendall(b'{"verb"')
        for _ in range(3):
            time.sleep(1.2)
            connection.sendall(b" ")
        with connection.makefile("rb") as said:
            answer = json.loads(said.readline())
        assert 4.5 < time.monotonic() - began < 15
    assert check(answer)["error"]["status"] == 400
    assert "within 5 s" in answer["error"]["message"]


@pytest.mark.subprocess
@pytest.mark.parametrize("is_rude", [False, True], ids=["half closed", "gone"])
def test_a_request_cut_in_the_middle_does_nothing(doors: Doors, *, is_rude: bool) -> None:
    """No process is left, nothing was done; a real process."""
    with doors.connect() as connection:
        connection.sendall(b'{"verb": "start", "arguments": {"operation": "report", "key": "0123456789')
        if not is_rude:
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as said:
                assert "cut off" in check(json.loads(said.readline()))["error"]["message"]
    assert "Traceback" not in doors.said()
    assert not (doors.root / "var/lib/caisson/jobs").exists()


@pytest.mark.subprocess
def test_another_user_is_refused_before_a_byte_is_read(doors: Doors) -> None:
    """The kernel says who connects; the refusal is written down. A real process."""
    doors.allowed = os.getuid() + 1
    answer = check(doors.ask({"verb": "jobs"}))
    assert answer["error"]["status"] == 403
    log = (doors.root / "var/log/caisson/console.jsonl").read_text()
    assert json.loads(log)["uid"] == os.getuid()
    assert json.loads(log)["answer"] == "403"


@pytest.mark.subprocess
def test_a_door_without_a_connection_says_who_starts_it(doors: Doors) -> None:
    """Somebody may type it; a real process."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from tests.unit.installer.operations.door.conftest import PROGRAM, REPOSITORY_DIR  # noqa: PLC0415

    words = [str(doors.root), str(doors.tree), "0", "/"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=REPOSITORY_DIR, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "stdin is no connection" in done.stderr


def test_bytes_at_random_never_raise_anything_else() -> None:
    """Two thousand lines, half of them damaged good ones."""
    dice = random.Random(7)  # noqa: S311  the same ones in each run
    good = json.dumps({"verb": "follow", "arguments": {"id": JOB, "journal": 7}, "token": "x"}).encode()
    for _ in range(2000):
        line = bytearray(good if dice.random() < 0.5 else dice.randbytes(dice.randrange(80)))
        for _ in range(dice.randrange(1, 4)):
            if line:
                line[dice.randrange(len(line))] = dice.randrange(256)
        with contextlib.suppress(RefusalError):
            assert wire.parse(bytes(line)).verb


def test_a_secret_in_a_bad_request_is_not_told_again() -> None:
    """Its faults name the key, not what stands there."""
    secret = "hunter2" * 200
    arguments = {"operation": "probe", "key": "0123456789abcdef", "secrets": {"password": secret}}
    with pytest.raises(RefusalError) as caught:
        wire.parse(json.dumps({"verb": "start", "arguments": arguments}).encode())
    assert "secrets.password" in caught.value.error.details
    assert "hunter2" not in str(caught.value.error)
    line = json.dumps({"verb": "start", "arguments": {**arguments, "secrets": {"password": secret}}}).encode()
    with pytest.raises(RefusalError) as caught:
        wire.parse(line[:-2])
    assert "hunter2" not in str(caught.value.error)
