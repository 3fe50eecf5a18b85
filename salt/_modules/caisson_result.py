# SPDX-License-Identifier: Apache-2.0
"""The one way in which Caisson's states look, act, wait, and say how it went.

An execution module, because Salt loads each file by itself: a state reaches this one through ``__salt__``, in local
mode and connected to a master alike.
"""

from __future__ import annotations

import logging
import subprocess
import time
from typing import Any, Callable

from salt.exceptions import SaltException

log = logging.getLogger(__name__)

# What can be told by its own words. Anything else is a fault of Caisson's, and its traceback goes to the log.
FAULTS = (RuntimeError, OSError, ValueError, subprocess.SubprocessError, SaltException)


def ensure(
    name: str,
    look: Callable[[], tuple[dict[str, Any], str]],
    act: Callable[[], str | None] | None = None,
    *,
    test: bool = False,
) -> dict[str, Any]:
    """Carry out one state and return what Salt wants to hear of it.

    ``look`` returns what would change, and what to say: that all is well when nothing would, else the plan, which
    test mode shows. ``act`` changes it and returns what to say afterwards; it may complete the changes. Either
    raises when it cannot: the error's words are the comment, nothing else has to be handled by a state.
    """
    said: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        changes, comment = look()
        if not changes or act is None:
            return {**said, "comment": comment}
        if test:
            return {**said, "result": None, "changes": changes, "comment": comment}
        done = act()
    except FAULTS as error:
        return {**said, "result": False, "comment": words(error)}
    except Exception as error:
        log.exception("caisson: the state %s", name)
        comment = f"a fault of Caisson's own, its traceback is in Salt's log: {type(error).__name__}: {error}"
        return {**said, "result": False, "comment": comment}
    return {**said, "changes": changes, "comment": done or comment}


def wait(
    name: str, probe: Callable[[], str], timeout_s: float, *, test: bool, interval_s: float = 0.25
) -> dict[str, Any]:
    """Carry out a state that only waits until ``probe`` finds no fault (returns "")."""

    def look() -> tuple[dict[str, Any], str]:
        if test:
            return {}, "not waited for in test mode"
        return {}, f"so after {until(probe, timeout_s, interval_s=interval_s):.1f} s"

    return ensure(name, look)


def until(probe: Callable[[], str], timeout_s: float, *, interval_s: float = 0.25) -> float:
    """Ask ``probe`` until it finds no fault; return the seconds that it took.

    It is asked at least once. Its faults, and errors that it raises, are shown as what is waited for.
    Raises RuntimeError with the last fault when the time is over.
    """
    started = time.monotonic()
    while True:
        try:
            fault = probe()
        except FAULTS as error:
            fault = words(error)
        waited = time.monotonic() - started
        if not fault:
            return waited
        if waited > timeout_s:
            raise RuntimeError(f"still, after {timeout_s:g} s: {fault}")
        log.info("caisson waits: %s", "; ".join(fault.splitlines())[:300])
        time.sleep(interval_s)


def words(error: BaseException) -> str:
    """Return what an error says to a person; never nothing.

    >>> words(FileNotFoundError(2, "No such file or directory", "crictl"))
    "[Errno 2] No such file or directory: 'crictl'"
    >>> words(subprocess.TimeoutExpired(["ctr", "images", "list"], 60))
    'ctr images list: no answer after 60 s'
    >>> words(ValueError())
    'ValueError'
    """
    if isinstance(error, subprocess.TimeoutExpired):
        command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
        return f"{command}: no answer after {error.timeout:g} s"
    return str(error) or type(error).__name__
