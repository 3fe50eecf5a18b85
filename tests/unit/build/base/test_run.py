# SPDX-License-Identifier: Apache-2.0
"""The door to commands: what they see, what they say, how their failures read. Starts sh, cat, sleep."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from build.base.errors import CommandError
from build.base.run import plan_environment, run

pytestmark = pytest.mark.subprocess


def test_output_comes_verbatim_and_stdin_is_empty() -> None:
    assert run(["cat"]).stdout_bytes == b""
    assert run(["cat"], input_text="words\n").stdout == "words\n"
    assert run(["printf", r"\377\n"]).stdout_bytes == b"\xff\n"


def test_long_output_is_whole() -> None:
    assert len(run(["head", "-c", "5000000", "/dev/zero"]).stdout_bytes) == 5_000_000


def test_a_failure_can_be_pasted_and_has_the_last_words() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "for i in $(seq 30); do echo line $i >&2; done; exit 3"])
    error = caught.value
    assert error.message == "command 'sh' failed with exit code 3"
    assert error.details.startswith("command: sh -c 'for i in")
    lines = error.details.splitlines()[1:]
    assert lines[0] == "line 11"
    assert lines[-1] == "line 30"


def test_a_signal_is_named() -> None:
    with pytest.raises(CommandError, match="signal SIGTERM"):
        run(["sh", "-c", "kill -TERM $$"])


def test_a_failure_may_be_expected() -> None:
    assert run(["sh", "-c", "exit 7"], check=False).returncode == 7


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    late = tmp_path / "late"
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 0\.2 s"):
        run(["sh", "-c", f"(sleep 1; touch {late}) & sleep 30"], timeout_s=0.2)
    assert time.monotonic() - start < 5
    time.sleep(1.2)
    assert not late.exists()


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="'no-such-program' is not installed"):
        run(["no-such-program", "--version"])


def test_the_log_has_command_and_output(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    run(["sh", "-c", "echo out; echo err >&2"], log_file=log)
    assert log.read_text(encoding="utf-8") == "$ sh -c 'echo out; echo err >&2'\nout\nerr\n[exit code 0]\n"


def test_the_environment_is_rebuilt() -> None:
    current = {"PATH": "/bin", "LANG": "de_DE", "LD_PRELOAD": "x.so", "PIP_CERT": "c", "https_proxy": "p"}
    assert plan_environment(current, {"EXTRA": "1"}) == {
        "PATH": "/bin",
        "PIP_CERT": "c",
        "https_proxy": "p",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "EXTRA": "1",
    }
