# SPDX-License-Identifier: Apache-2.0
"""The lab's door to other programs, with real small programs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.errors import CommandError, LabError
from lab.run import environment, run, spawn, stream


def test_environment_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("PATH", "/somewhere")
    rebuilt = environment({"EXTRA": "1"})
    assert "SECRET_TOKEN" not in rebuilt
    assert rebuilt["LC_ALL"] == rebuilt["LANG"] == "C.UTF-8"
    assert rebuilt["GOFLAGS"] == "-mod=mod"
    assert rebuilt["EXTRA"] == "1"
    assert rebuilt["PATH"] == "/somewhere:/usr/sbin:/sbin"


def test_an_error_has_three_parts() -> None:
    error = LabError("what", details="one\ntwo", resolution="do this")
    assert str(error) == "what\n  details: one\n    two\n  resolution: do this"


@pytest.mark.subprocess
def test_outputs_and_input(tmp_path: Path) -> None:
    """Starts bash and cat: their pipes are what is tested."""
    done = run(["bash", "-c", "cat; echo err >&2; pwd"], input_text="in\n", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"in\n{tmp_path}\n", "err\n")
    assert run(["cat"]).stdout == ""


@pytest.mark.subprocess
def test_failure_names_command_code_and_last_lines() -> None:
    """Starts bash: it fails in the ways that count."""
    with pytest.raises(CommandError) as caught:
        run(["bash", "-c", "seq 1 30 >&2; exit 7"])
    assert caught.value.message == "bash ended with code 7"
    assert caught.value.returncode == 7
    lines = caught.value.details.splitlines()
    assert lines[0] == "bash -c 'seq 1 30 >&2; exit 7'"
    assert lines[1:] == [str(number) for number in range(11, 31)]
    with pytest.raises(CommandError, match="was ended by SIGKILL"):
        run(["bash", "-c", "kill -KILL $$"])
    with pytest.raises(CommandError, match="cannot be started"):
        run(["/nonexistent/program"])
    assert run(["false"], check=False).returncode == 1


@pytest.mark.subprocess
def test_a_command_that_takes_too_long_is_ended_with_all_its_children(tmp_path: Path) -> None:
    """Starts bash and sleep: the sleep must not survive."""
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s"):
        run(["bash", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout_s=0.5)
    assert time.monotonic() - began < 5
    stat_file = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    ends_at = time.monotonic() + 5  # it was killed; the kernel may need a moment
    while is_running(stat_file) and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert not is_running(stat_file)


def is_running(stat_file: Path) -> bool:
    """Tell whether a process is neither gone nor a zombie."""
    try:
        return stat_file.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.subprocess
def test_stream_hands_on_lines_as_they_come(tmp_path: Path) -> None:
    """Starts bash, which goes on when its first line was seen."""
    seen_file = tmp_path / "seen"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        seen_file.touch()

    script = f"echo one; until [[ -e {seen_file} ]]; do sleep 0.05; done; echo two >&2; printf three; exit 3"
    assert stream(["bash", "-c", script], on_line, timeout_s=30) == 3
    assert lines == ["one", "two", "three"]


@pytest.mark.subprocess
def test_stream_does_not_wait_for_what_a_command_left_behind() -> None:
    """Starts bash and a sleep in a session of its own, which keeps the pipe open."""
    began = time.monotonic()
    lines: list[str] = []
    assert stream(["bash", "-c", "setsid sleep 8 & echo $!"], lines.append) == 0
    assert time.monotonic() - began < 5
    os.kill(int(lines[0]), 9)


@pytest.mark.subprocess
def test_stream_keeps_its_time_limit() -> None:
    """Starts bash: it talks all the time and never ends."""
    lines: list[str] = []
    with pytest.raises(CommandError, match="did not end within"):
        stream(["bash", "-c", "while :; do echo x; sleep 0.1; done"], lines.append, timeout_s=0.6)


@pytest.mark.subprocess
def test_spawn_joins_control_groups_and_writes_to_its_file(tmp_path: Path) -> None:
    """Starts echo: a plain file stands in for cgroup.procs."""
    (tmp_path / "cgroup.procs").write_text("")
    process = spawn(["echo", "hello"], output_file=tmp_path / "out", control_groups=[tmp_path])
    assert process.wait(10) == 0
    assert (tmp_path / "out").read_text() == "hello\n"
    assert (tmp_path / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("way", ["run", "spawn"])
@pytest.mark.subprocess
def test_a_signal_while_a_command_starts_leaves_no_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, way: str
) -> None:
    """It is heard once the process is known: what it would have made nobody would take away."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*words, **options))
        os.kill(os.getpid(), number)
        return started[0]

    def interrupt(heard: int, _: object) -> None:
        raise KeyboardInterrupt(heard)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    ways: dict[str, Callable[[list[str]], object]] = {
        "run": run,
        "spawn": partial(spawn, output_file=tmp_path / "output"),
    }
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ways[way](["sleep", "60"])
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert started[0].returncode == -signal.SIGKILL
