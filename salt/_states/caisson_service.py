# SPDX-License-Identifier: Apache-2.0
"""States: a service runs with what its files say now, whoever wrote them, and however the run ended that did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def running(
    name: str,
    unit: str,
    reads: list[str] | None = None,
    check: str = "",
    *,
    reloads: bool = False,
    waits: bool = True,
) -> dict[str, Any]:
    """Make sure that ``unit`` is enabled and runs, started after the files in ``reads`` became what they are.

    When the first of them is not there, a service that runs is left alone. ``check`` names a function that raises when
    the service could not start with them; it is asked before anything is restarted. One that ``reloads`` reads all of
    them again without an end in between. With ``waits=False`` systemd is told to start it, and no more: whoever needs
    the service waits for it.
    """
    changes: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        changes.update(_needed(unit, reads or [], "reloaded" if reloads else "restarted"))
        return changes, f"{unit}: not so yet: {', '.join(changes)}" if changes else f"{unit} runs"

    def act() -> str:
        digest = __salt__["caisson_service.digest"](reads or [])
        if check and unit in changes:
            __salt__[check]()
        if "unit files" in changes:
            __salt__["caisson_service.systemctl"]("daemon-reload")
        if "at boot" in changes:
            __salt__["caisson_service.systemctl"]("enable", unit)
        if unit in changes:
            verb = "reload-or-restart" if reloads else "restart"
            __salt__["caisson_service.systemctl"](verb, *([] if waits else ["--no-block"]), unit)
            __salt__["caisson_service.write_stamp"](unit, digest)
        return f"{unit}: " + ", ".join(f"{what} {how}" for what, how in changes.items())

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def _needed(unit: str, reads: list[str], again: str) -> dict[str, str]:
    """Return what has to be done, in the order in which it is: what -> how."""
    facts, digest = __salt__["caisson_service.facts"](unit), __salt__["caisson_service.digest"](reads)
    is_old = bool(digest) and digest != __salt__["caisson_service.stamp"](unit)
    needed = {} if not facts["is_stale"] else {"unit files": "read again"}
    if not facts["is_enabled"]:
        needed["at boot"] = "enabled"
    if is_old or not facts["is_active"]:
        needed[unit] = again if facts["is_active"] else "started"
    return needed


def enabled(name: str, unit: str) -> dict[str, Any]:
    """Make sure that ``unit`` is started at each boot; it is not started now."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_service.facts"](unit)["is_enabled"]:
            return {}, f"{unit} is enabled"
        return {"at boot": "enabled"}, f"{unit} is not enabled"

    def act() -> str:
        __salt__["caisson_service.systemctl"]("enable", unit)
        return f"{unit} enabled"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def reloaded(name: str, unit: str, reads: list[str]) -> dict[str, Any]:
    """Make sure that ``unit``, if it runs, was told to read ``reads`` again since they became what they are."""

    def look() -> tuple[dict[str, Any], str]:
        if not __salt__["caisson_service.facts"](unit)["is_active"]:
            return {}, f"{unit} does not run"
        if __salt__["caisson_service.digest"](reads) == __salt__["caisson_service.stamp"](unit):
            return {}, f"{unit} has read {', '.join(reads)}"
        return {unit: "reloaded"}, f"{unit} has not read {', '.join(reads)}"

    def act() -> str:
        digest = __salt__["caisson_service.digest"](reads)
        __salt__["caisson_service.systemctl"]("--no-block", "reload", unit)
        __salt__["caisson_service.write_stamp"](unit, digest)
        return f"{unit} reloaded"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def renewed(name: str, unit: str, reads: list[str]) -> dict[str, Any]:
    """Make sure that ``unit``, if it runs, was started after ``reads`` were written; one that does not is left alone.

    For a service that comes and goes by itself: it reads them whenever it starts.
    """

    def look() -> tuple[dict[str, Any], str]:
        started_s = __salt__["caisson_service.started_s"](unit)
        if not started_s:
            return {}, f"{unit} does not run"
        written = __salt__["caisson_service.newer"](reads, started_s)
        if not written:
            return {}, f"{unit} has read {', '.join(reads)}"
        return {unit: "restarted"}, f"{unit} has not read {', '.join(written)}"

    def act() -> str:
        __salt__["caisson_service.systemctl"]("daemon-reload")
        __salt__["caisson_service.systemctl"]("try-restart", unit)
        return f"{unit} restarted"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def unit_files_read(name: str, unit: str) -> dict[str, Any]:
    """Make sure that systemd has read the unit files and drop-ins of ``unit`` as they are on the disk."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_service.facts"](unit)["is_stale"]:
            return {"unit files": "read again"}, f"systemd has old unit files of {unit}"
        return {}, f"systemd has read the unit files of {unit}"

    def act() -> str:
        __salt__["caisson_service.systemctl"]("daemon-reload")
        return "systemd has read its unit files again"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
