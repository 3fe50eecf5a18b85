# SPDX-License-Identifier: Apache-2.0
"""Check a host before anything on it is changed: the engine; the checks themselves are in ``checks.py``.

Each check has a stable code, a severity, a title, a function that looks, and the text of a fix. It yields
findings, each with its evidence; none means passed. No check stops another, a check that raises or takes too
long is a finding by itself, and none changes the host. The same engine runs in ``bootstrap.sh check``, as a
phase of the bootstrap, and inside Salt's own Python.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable

from installer.checks.host import Host

CHECK_TIMEOUT_S = 240.0
"""For what hangs. A host that is busy with something else takes its time, and that is no finding."""


class Severity(str, Enum):
    """What a finding means: an error stops the bootstrap, a warning is shown."""

    ERROR = "error"
    WARNING = "warning"


class Status(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    IGNORED = "ignored"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found wrong; ``fix`` and ``severity`` replace those of the check."""

    evidence: str
    fix: str = ""
    severity: Severity | None = None


class SkippedError(Exception):
    """A check has nothing to look at (no configuration was given); the text says what is missing."""


@dataclass(frozen=True)
class Check:
    """One check: ``id`` is stable for ever, ``title`` says what should be so, ``fix`` what to do if not.

    ``is_trial`` says that it does something, which takes seconds, where others only look.
    """

    id: str
    severity: Severity
    title: str
    run: Callable[[Host], Iterable[Finding]]
    fix: str
    is_trial: bool = False

    @property
    def why(self) -> str:
        """What it looks at and why: the docstring of its function."""
        return (inspect.getdoc(self.run) or "").replace("``", "`")


@dataclass(frozen=True)
class Result:
    """What came of one check; ``reason`` is why it is ignored or skipped."""

    check: Check
    status: Status
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def fixes(self) -> tuple[str, ...]:
        """What to do, each text once."""
        return tuple(dict.fromkeys(finding.fix or self.check.fix for finding in self.findings))


@dataclass(frozen=True)
class Report:
    """All results, in the order of the checks."""

    results: tuple[Result, ...]
    unused_ignores: tuple[str, ...] = ()

    def of(self, *statuses: Status) -> tuple[Result, ...]:
        """Return the results with one of these statuses."""
        return tuple(result for result in self.results if result.status in statuses)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that stop a bootstrap."""
        return self.of(Status.FAILED)

    @property
    def summary(self) -> str:
        """Return the counts as one line."""
        counts = [(status, len(self.of(status))) for status in Status]
        return ", ".join(f"{count} {status.value}" for status, count in counts if count)

    def lines(self, *statuses: Status) -> list[str]:
        """Return the findings of these statuses as lines: code, title, evidence, fix."""
        return [
            f"{result.check.id} {result.check.title}: {finding.evidence} -> {finding.fix or result.check.fix}"
            for result in self.of(*statuses)
            for finding in result.findings
        ]

    def rows(self, *statuses: Status) -> list[tuple[str, str, str, str]]:
        """Return the table with its heading: one row a finding, of these statuses or of all."""
        rows = [("CODE", "STATUS", "CHECK", "FOUND -> FIX")]
        for result in self.of(*statuses) if statuses else self.results:
            check, status = result.check, result.status
            if status is Status.SKIPPED:
                rows.append((check.id, status.value, check.title, result.reason))
            for finding in result.findings:
                text = f"{finding.evidence} -> {finding.fix or check.fix}"
                if status is Status.IGNORED:
                    text = f"{finding.evidence} (ignored: {result.reason})"
                rows.append((check.id, status.value, check.title, text))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data, format 1."""
        return {
            "format": 1,
            "summary": {status.value: len(self.of(status)) for status in Status},
            "unused_ignores": list(self.unused_ignores),
            "checks": [
                {
                    "id": result.check.id,
                    "title": result.check.title,
                    "severity": result.check.severity.value,
                    "status": result.status.value,
                    "evidence": [finding.evidence for finding in result.findings],
                    "fix": list(result.fixes),
                    "reason": result.reason,
                    "seconds": round(result.seconds, 3),
                }
                for result in self.results
            ],
        }


def check_host(
    host: Host,
    checks: Sequence[Check],
    *,
    ignored: Mapping[str, str] | None = None,
    timeout_s: float = CHECK_TIMEOUT_S,
) -> Report:
    """Run all checks, side by side, each at most ``timeout_s``; ``ignored`` maps a code to the reason.

    Raises nothing for what a check does: an exception inside one is its finding.
    """
    accepted = ignored or {}
    running = [_Running(check, host) for check in checks]
    for entry in running:
        entry.thread.start()
    deadline = time.monotonic() + timeout_s
    results = []
    for entry in running:
        entry.thread.join(max(0.0, deadline - time.monotonic()))
        results.append(_accept(entry.result(timeout_s), accepted))
    own = {check.id for check in checks}
    # Those between hosts (CSN6xx) are of other hosts.
    unused = sorted(
        code for code in accepted if is_own_code(code) and code not in own and not code.startswith("CSN6")
    )
    return Report(tuple(results), tuple(unused))


@dataclass
class _Running:
    """One check in its thread; the thread is a daemon, so one that hangs does not keep the process."""

    check: Check
    host: Host
    outcome: Result | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name=self.check.id, daemon=True
        )

    def _work(self) -> None:
        started = time.monotonic()
        try:
            findings = tuple(self.check.run(self.host))
            result = _judge(self.check, findings)
        except SkippedError as exc:
            result = Result(self.check, Status.SKIPPED, reason=str(exc))
        except Exception as exc:  # noqa: BLE001  whatever a check runs into is its finding
            result = _judge(self.check, (_broken(f"the check itself failed: {type(exc).__name__}: {exc}"),))
        self.outcome = Result(
            self.check, result.status, result.findings, result.reason, time.monotonic() - started
        )

    def result(self, timeout_s: float) -> Result:
        """Return what came of it; a check that still runs has failed."""
        if self.outcome is not None:
            return self.outcome
        late = _judge(self.check, (_broken(f"no answer within {timeout_s:g} s"),))
        return Result(self.check, late.status, late.findings, seconds=timeout_s)


def is_own_code(code: str) -> bool:
    """Say whether a name has the shape of Caisson's codes; all others are kubeadm's.

    >>> is_own_code("CSN101"), is_own_code("SystemVerification")
    (True, False)
    """
    return code.startswith("CSN")


def _broken(evidence: str) -> Finding:
    return Finding(evidence, fix="find out by hand what it looks at, or ignore the check by its code")


def _judge(check: Check, findings: tuple[Finding, ...]) -> Result:
    if not findings:
        return Result(check, Status.PASSED)
    severities = {finding.severity or check.severity for finding in findings}
    return Result(check, Status.FAILED if Severity.ERROR in severities else Status.WARNING, findings)


def _accept(result: Result, ignored: Mapping[str, str]) -> Result:
    reason = ignored.get(result.check.id)
    if reason is None or result.status not in (Status.FAILED, Status.WARNING):
        return result
    return Result(result.check, Status.IGNORED, result.findings, reason, result.seconds)
