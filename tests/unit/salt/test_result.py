# SPDX-License-Identifier: Apache-2.0
"""What every state says: that all is well, what it would do, what it did, or in words why it could not."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_modules import load

STATES_DIR = Path(__file__).parents[3] / "salt" / "_states"


def ensure(
    *, changes: dict[str, Any], act: Callable[[], str | None] = lambda: "done", test: bool = False
) -> Any:
    return load("caisson_result").ensure("it", lambda: (changes, "looked"), act, test=test)


def test_what_is_so_is_left_alone() -> None:
    assert ensure(changes={}) == {"name": "it", "result": True, "changes": {}, "comment": "looked"}


def test_what_is_not_so_is_told_in_test_mode_and_changed_otherwise() -> None:
    acted: list[str] = []
    change = {"file": "new"}
    told = ensure(changes=change, act=lambda: acted.append("x"), test=True)
    assert told == {"name": "it", "result": None, "changes": change, "comment": "looked"}
    assert acted == []
    assert ensure(changes=change) == {"name": "it", "result": True, "changes": change, "comment": "done"}


@pytest.mark.parametrize(
    ("error", "comment"),
    [
        (RuntimeError("two\nlines"), "two\nlines"),
        (
            FileNotFoundError(2, "No such file or directory", "ctr"),
            "[Errno 2] No such file or directory: 'ctr'",
        ),
        (subprocess.TimeoutExpired(["crictl", "pull", "x"], 310), "crictl pull x: no answer after 310 s"),
        (PermissionError(), "PermissionError"),
    ],
)
def test_an_error_is_its_words(error: Exception, comment: str) -> None:
    def act() -> str:
        raise error

    failed = {"name": "it", "result": False, "changes": {}, "comment": comment}
    assert ensure(changes={"a": "b"}, act=act) == failed
    assert load("caisson_result").ensure("it", act) == failed


def test_an_error_of_salt_s_own_is_its_words() -> None:
    module: Any = load("caisson_result")

    def look() -> tuple[dict[str, Any], str]:
        raise module.SaltException("Unable to run command")

    said = module.ensure("it", look)
    assert (said["result"], said["comment"]) == (False, "Unable to run command")


def test_a_fault_of_our_own_is_one_line_and_its_traceback_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def act() -> str:
        raise KeyError("digest")

    with caplog.at_level(logging.ERROR):
        said = ensure(changes={"a": "b"}, act=act)
    assert said["result"] is False
    assert said["comment"].splitlines() == [said["comment"]]
    assert "KeyError: 'digest'" in said["comment"]
    assert "Traceback" in caplog.text


def test_waiting_asks_until_there_is_no_fault_and_errors_are_faults() -> None:
    module = load("caisson_result")
    faults: list[str | Exception] = ["not yet", OSError("refused"), ""]

    def probe() -> str:
        fault = faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault

    assert module.until(probe, 5, interval_s=0) < 5
    assert faults == []
    said = module.wait("it", lambda: "refused", 0, test=False)
    assert (said["result"], said["comment"]) == (False, "still, after 0 s: refused")
    assert module.wait("it", lambda: "refused", 0, test=True)["result"] is True


def test_no_state_writes_a_result_by_hand() -> None:
    """One helper: what a state says, and how an error is told, is the same everywhere."""
    by_hand = re.compile(r"""["']result["']\s*:|except Exception""")
    found = [file.name for file in STATES_DIR.glob("*.py") if by_hand.search(file.read_text())]
    # kubeadm's phases tell more results than these, and errors of their own.
    assert set(found) <= {"caisson_kubeadm.py"}
