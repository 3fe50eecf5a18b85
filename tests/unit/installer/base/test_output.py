# SPDX-License-Identifier: Apache-2.0
"""A reader that goes away, a terminal that hangs up, a full disk: the exit code is that of what was found."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.base.output import Output
from installer.base.ui import Ui

pytestmark = pytest.mark.subprocess

ROOT_DIR = Path(__file__).parents[4]
#: A check that has found something to fail, and says much of it.
FAILING = """
import sys
from installer.checks import CHECKS, readiness
from installer.checks.preflight import Finding, Report, Result, Status
from installer.cli import main as cli
found = Report(tuple(Result(check, Status.FAILED, (Finding("x" * 4000),)) for check in CHECKS))
readiness.assess = lambda *_, **__: found
sys.exit(cli.main(sys.argv[1:]))
"""


def code_of(stdout: int, *words: str, stderr: int = subprocess.DEVNULL, script: str = FAILING) -> int:
    """Return the exit code of a command of the installer, in a process of its own."""
    command = [sys.executable, "-X", "utf8", "-c", script, *words]
    return subprocess.run(
        command, cwd=ROOT_DIR, stdout=stdout, stderr=stderr, check=False, timeout=60
    ).returncode


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def hung_up_terminal() -> int:
    master, slave = os.openpty()
    os.close(master)
    return slave


@pytest.mark.parametrize("make", [closed_pipe, hung_up_terminal], ids=["pipe", "terminal"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("check",), 4),
        (("check", "--json"), 4),
        (("explain", "exit-codes"), 0),
        (("explain", "nonesuch"), 2),
        (("--help",), 0),
        (("config", "explain"), 0),
    ],
)
def test_nobody_reads(make: object, words: tuple[str, ...], expected: int) -> None:
    assert callable(make)
    descriptor = make()
    try:
        assert code_of(descriptor, *words) == expected
        assert code_of(descriptor, *words, stderr=descriptor) == expected
    finally:
        os.close(descriptor)


def test_a_full_disk_is_an_error_unless_there_is_a_worse_one() -> None:
    with Path("/dev/full").open("wb") as full:
        assert code_of(full.fileno(), "explain", "exit-codes") == 12
        assert code_of(full.fileno(), "check") == 4


def test_a_process_without_streams(tmp_path: Path) -> None:
    """Files that are opened first would get the numbers of the streams, and what is said to those."""
    script = (
        "import os, sys; [os.close(number) for number in (0, 1, 2)];"
        f"sys.path.insert(0, {str(ROOT_DIR)!r});"
        "from installer.base.output import open_standard_streams; open_standard_streams();"
        f"number = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); sys.exit(number)"
    )
    assert code_of(subprocess.DEVNULL, script=script) == 3


def test_a_name_with_any_bytes_can_be_shown(tmp_path: Path) -> None:
    """By Python: a path that is no UTF-8 has lone surrogates in it."""
    name = os.fsdecode(b"caf\xe9.iso")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Output(stream).write(name)
    stream.flush()
    stream.seek(0)
    assert stream.read() == "caf\\udce9.iso"
    ui = Ui(io.StringIO(), log_file=tmp_path / "log", is_terminal=False)
    ui.note(name)
    assert "caf\\udce9.iso" in (tmp_path / "log").read_text()
