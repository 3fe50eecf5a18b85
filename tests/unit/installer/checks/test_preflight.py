# SPDX-License-Identifier: Apache-2.0
"""The engine of the preflights: no check stops another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity, SkippedError, Status, check_host


def passes(host: Host) -> Iterator[Finding]:
    yield from ()


def fails(host: Host) -> Iterator[Finding]:
    yield Finding("it is red")
    yield Finding("it is blue", fix="paint it")


def warns(host: Host) -> Iterator[Finding]:
    yield Finding("it is pale", severity=Severity.WARNING)


def skips(host: Host) -> Iterator[Finding]:
    raise SkippedError("no lamp")


def breaks(host: Host) -> Iterator[Finding]:
    yield Finding("first")
    raise KeyError("x")


def hangs(host: Host) -> Iterator[Finding]:
    time.sleep(30)
    yield Finding("never")


CHECKS = tuple(
    Check(f"CSN90{number}", Severity.ERROR, f"title {number}", run, "mend it")
    for number, run in enumerate((passes, fails, warns, skips, breaks, hangs))
)


def test_all_ends(tmp_path: Path) -> None:
    started = time.monotonic()
    report = check_host(
        Host(root=tmp_path), CHECKS, ignored={"CSN904": "we know", "CSN999": "", "Other": ""}, timeout_s=0.3
    )
    assert time.monotonic() - started < 5
    assert [result.status for result in report.results] == [
        Status.PASSED,
        Status.FAILED,
        Status.WARNING,
        Status.SKIPPED,
        Status.IGNORED,
        Status.FAILED,
    ]
    assert report.summary == "1 passed, 1 warning, 2 failed, 1 ignored, 1 skipped"
    assert report.unused_ignores == ("CSN999",)
    assert report.lines(Status.FAILED) == [
        "CSN901 title 1: it is red -> mend it",
        "CSN901 title 1: it is blue -> paint it",
        (
            "CSN905 title 5: no answer within 0.3 s -> "
            "find out by hand what it looks at, or ignore the check by its code"
        ),
    ]
    assert report.rows()[1:] == [
        ("CSN901", "failed", "title 1", "it is red -> mend it"),
        ("CSN901", "failed", "title 1", "it is blue -> paint it"),
        ("CSN902", "warning", "title 2", "it is pale -> mend it"),
        ("CSN903", "skipped", "title 3", "no lamp"),
        ("CSN904", "ignored", "title 4", "the check itself failed: KeyError: 'x' (ignored: we know)"),
        ("CSN905", "failed", "title 5", report.rows()[-1][3]),
    ]
    assert len(report.rows(Status.WARNING)) == 2


def test_json(tmp_path: Path) -> None:
    data = check_host(Host(root=tmp_path), CHECKS[:2]).to_json()
    assert data["format"] == 1
    assert data["summary"] == {"passed": 1, "warning": 0, "failed": 1, "ignored": 0, "skipped": 0}
    found = dict(data["checks"][1])
    assert found.pop("seconds") >= 0
    assert found == {
        "id": "CSN901",
        "title": "title 1",
        "severity": "error",
        "status": "failed",
        "evidence": ["it is red", "it is blue"],
        "fix": ["mend it", "paint it"],
        "reason": "",
    }
