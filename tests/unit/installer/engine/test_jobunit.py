# SPDX-License-Identifier: Apache-2.0
"""What systemd is told of a job, and what is understood of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from installer.base.run import Completed
from installer.base.session import TERMINATION_GRACE_S, TRANSACTION_GRACE_S
from installer.engine import jobunit


def test_a_unit_ends_politely_and_never_kills_what_rpm_does() -> None:
    line = jobunit.command_line("caisson-job@x.service", ["/usr/bin/caisson", "job", "x", "--run"])
    assert line[-5:] == ["--", "/usr/bin/caisson", "job", "x", "--run"]
    assert {"--collect", "--unit=caisson-job@x.service", "--property=KillMode=process"} <= set(line)
    limit_s = next(int(word.rpartition("=")[2]) for word in line if "TimeoutStopSec" in word)
    assert limit_s > TRANSACTION_GRACE_S + 2 * TERMINATION_GRACE_S


@pytest.mark.parametrize(
    ("said", "is_at_work"),
    [
        ("ActiveState=active\n", True),
        ("ActiveState=activating\n", True),
        ("ActiveState=deactivating\n", True),
        ("ActiveState=failed\n", False),
        ("ActiveState=inactive\n", False),
        ("", False),
    ],
)
def test_a_unit_is_at_work(monkeypatch: pytest.MonkeyPatch, said: str, *, is_at_work: bool) -> None:
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, said, ""))
    assert jobunit.is_active("caisson-job@x.service") == is_at_work


def test_an_earlier_start_that_failed_is_not_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def record(words: list[str], **_: Any) -> Completed:
        ran.append(words)
        return Completed(0, "", "")

    monkeypatch.setattr(jobunit, "run", record)
    jobunit.start("caisson-job@x.service", ["true"])
    assert [words[:2] for words in ran] == [["systemctl", "reset-failed"], ["systemd-run", "--quiet"]]
