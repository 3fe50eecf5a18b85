# SPDX-License-Identifier: Apache-2.0
"""The door to commands, with real small commands (bash, sleep, env)."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.base.errors import CommandError, HostError
from installer.base.run import Conversation, run

pytestmark = pytest.mark.subprocess


def test_what_a_command_leaves(tmp_path: Path) -> None:
    found = run(["bash", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (3, "out\n", "err\n")


def test_nothing_is_inherited_and_stdin_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("http_proxy", "http://proxy")
    found = run(["bash", "-c", "env; cat"], timeout_s=10, env={"MORE": "1"})
    assert "SECRET" not in found.stdout
    assert "proxy" not in found.stdout
    assert "MORE=1" in found.stdout


def test_a_failure_has_the_command_ready_to_paste(tmp_path: Path) -> None:
    script = "for i in $(seq 30); do echo line$i >&2; done; exit 4"
    with pytest.raises(CommandError) as caught:
        run(["bash", "-c", script], timeout_s=10, log_file=tmp_path / "commands.log")
    error = caught.value
    assert error.message == "'bash' failed: exit code 4"
    assert f"command: bash -c '{script}'" in error.details
    assert "| line30" in error.details
    assert "| line10" not in error.details
    assert f"log: {tmp_path / 'commands.log'}" in error.details
    assert "exit code 4" in (tmp_path / "commands.log").read_text()


def test_no_log_where_no_directory_is(tmp_path: Path) -> None:
    run(["true"], timeout_s=10, log_file=tmp_path / "none/log")
    assert not (tmp_path / "none").exists()


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(HostError, match="no command 'nonesuch'"):
        run(["nonesuch"], timeout_s=10)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(HostError, match="cannot be executed"):
        run([tmp_path / "x"], timeout_s=10)


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"did not finish within 0\.3 s") as caught:
        run(["bash", "-c", f"echo begun; sleep 60 & echo $! >{tmp_path}/pid; wait"], timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert "| begun" in caught.value.details
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(child)


def test_a_signal_has_its_name() -> None:
    with pytest.raises(CommandError, match="ended by SIGKILL"):
        run(["bash", "-c", f"kill -{int(signal.SIGKILL)} $$"], timeout_s=10)


def test_what_a_killed_command_had_started_does_not_live_on(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; kill -9 $$"
    with pytest.raises(CommandError, match="ended by SIGKILL"):
        run(["bash", "-c", script], timeout_s=10, running_dir=tmp_path)
    assert not _is_alive(int((tmp_path / "pid").read_text()))
    assert [file.name for file in tmp_path.iterdir()] == ["pid"]


def test_bytes_that_are_no_text() -> None:
    assert run(["printf", r"\xff"], timeout_s=10).stdout == "�"


def _is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    os.kill(process_id, 0)
    return state != "Z"


def test_a_running_command_is_noted_while_it_runs(tmp_path: Path) -> None:
    script = f"sleep 0.5; ls {tmp_path}; cat {tmp_path}/$$; cut -d ' ' -f 22 /proc/$$/stat"
    found = run(["bash", "-c", script], timeout_s=10, running_dir=tmp_path)
    _, name, noted, started = found.stdout.splitlines()
    assert (name, noted) == ("bash", started)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_stays_does_not_hold_the_command_up() -> None:
    started = time.monotonic()
    found = run(["bash", "-c", "sleep 3 & echo done"], timeout_s=30)
    assert time.monotonic() - started < 2
    assert found.stdout == "done\n"


ECHO = """
import sys, time
for line in sys.stdin:
    word = line.strip()
    if word == "hang": time.sleep(60)
    if word == "die": print("no more of this", file=sys.stderr); sys.exit(7)
    if word == "big": word = "x" * 200_000
    print(word, flush=True)
open(sys.argv[1], "w").write("ended by itself")
"""


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Conversation]:
    """Return a real Python that repeats what it is told."""
    running_dir = tmp_path / "running"
    running_dir.mkdir()
    conversation = Conversation([sys.executable, "-c", ECHO, tmp_path / "end"], running_dir=running_dir)
    yield conversation
    conversation.end()
    assert list(running_dir.iterdir()) == []


@pytest.mark.subprocess
def test_a_conversation_answers_line_for_line_and_ends_by_itself(
    talking: Conversation, tmp_path: Path
) -> None:
    """By Python. What is longer than a pipe holds comes whole, and the note is there as long as it runs."""
    log_file = tmp_path / "commands.log"
    assert talking.ask("one", timeout_s=10, log_file=log_file) == "one"
    assert len(talking.ask("big", timeout_s=10, log_file=log_file)) == 200_000
    assert len(list((tmp_path / "running").iterdir())) == 1
    talking.close()
    assert (tmp_path / "end").read_text() == "ended by itself"
    assert "'<<' one" in log_file.read_text()


@pytest.mark.subprocess
def test_a_conversation_that_dies_says_how(talking: Conversation, tmp_path: Path) -> None:
    """By Python."""
    with pytest.raises(CommandError, match="did not answer: exit code 7") as caught:
        talking.ask("die", timeout_s=10, log_file=tmp_path / "none" / "log")
    assert "no more of this" in caught.value.details


@pytest.mark.subprocess
def test_a_conversation_that_hangs_is_ended(talking: Conversation, tmp_path: Path) -> None:
    """By Python."""
    with pytest.raises(CommandError, match=r"no answer within 0\.3 s"):
        talking.ask("hang", timeout_s=0.3, log_file=tmp_path / "commands.log")
    assert " no answer within 0.3 s, ended by SIGTERM 0." in (tmp_path / "commands.log").read_text()
    assert not (tmp_path / "end").exists()


@pytest.mark.subprocess
def test_signs_of_life_give_a_conversation_more_time(talking: Conversation, tmp_path: Path) -> None:
    """By Python."""
    log_file, until = tmp_path / "commands.log", time.monotonic() + 2.5
    with pytest.raises(CommandError, match=r"no answer within 1 s"):
        talking.ask("hang", timeout_s=1, last_sign=lambda: min(time.monotonic(), until), log_file=log_file)
    assert until + 0.9 < time.monotonic() < until + 10


@pytest.mark.subprocess
def test_what_a_dead_command_had_started_is_ended_with_it(tmp_path: Path) -> None:
    """By bash. Its leader is killed, as by the kernel when memory is short; its child would go on."""
    script = f"sleep 60 & echo $! >{tmp_path}/pid; read; kill -9 $$"
    conversation = Conversation(["bash", "-c", script], running_dir=tmp_path)
    with pytest.raises(CommandError, match="ended by SIGKILL"):
        conversation.ask("go", timeout_s=10, log_file=tmp_path / "commands.log")
    assert not _is_alive(int((tmp_path / "pid").read_text()))
    assert {file.name for file in tmp_path.iterdir()} == {"pid", "commands.log"}


def test_what_a_command_is_told_stands_in_no_log(tmp_path: Path) -> None:
    log_file = tmp_path / "commands.log"
    data = bytes(range(256)) * 1000 + b"hunter2"
    found = run(["sha256sum"], timeout_s=10, stdin=data, log_file=log_file)
    assert found.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert "hunter2" not in log_file.read_text()


def test_a_secret_answer_stands_neither_in_the_log_nor_in_the_error(tmp_path: Path) -> None:
    log_file = tmp_path / "commands.log"
    words = ["bash", "-c", "tee /dev/stderr; exit 3"]
    said = run(words, timeout_s=10, stdin=b"hunter2", is_secret=True, check=False, log_file=log_file)
    assert (said.stdout, said.stderr) == ("hunter2", "hunter2")
    with pytest.raises(CommandError) as caught:
        run(words, timeout_s=10, stdin=b"hunter2", is_secret=True, log_file=log_file)
    assert "hunter2" not in caught.value.details
    assert "exit code 3" in log_file.read_text()
    assert "hunter2" not in log_file.read_text()


def test_a_conversation_is_told_much_and_heard_line_by_line(tmp_path: Path) -> None:
    talk = Conversation([sys.executable, "-c", TALKING], running_dir=tmp_path)
    try:
        data = b"x" * 3_000_000
        talk.tell(b"%d\n" % len(data) + data)
        assert talk.hear(timeout_s=10) == b"first"
        assert talk.hear(timeout_s=10) == hashlib.sha256(data).hexdigest().encode()
        assert talk.hear(timeout_s=0.2) is None
        assert talk.returncode is None
    finally:
        talk.close(timeout_s=5)
    assert talk.returncode == 0


TALKING = (
    "import sys, hashlib; b = sys.stdin.buffer; d = b.read(int(b.readline())); "
    "print('first'); print(hashlib.sha256(d).hexdigest(), flush=True); b.read()"
)
