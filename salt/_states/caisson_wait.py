# SPDX-License-Identifier: Apache-2.0
"""States that wait until something answers; they never change anything."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Callable

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def _until(name: str, probe: Callable[[], str], timeout_s: int) -> dict[str, Any]:
    if __opts__["test"]:
        return {"name": name, "result": True, "changes": {}, "comment": "not waited for in test mode"}
    started = time.monotonic()
    while True:
        fault = probe()
        waited = time.monotonic() - started
        if not fault:
            return {"name": name, "result": True, "changes": {}, "comment": f"answered after {waited:.1f} s"}
        if waited > timeout_s:
            comment = f"no answer after {timeout_s} s; last: {fault}"
            return {"name": name, "result": False, "changes": {}, "comment": comment}
        log.info("caisson waits: %s", fault)
        time.sleep(0.25)


def port_accepts(name: str, host: str, port: int, timeout_s: int = 120) -> dict[str, Any]:
    """Wait until ``host:port`` (TCP) accepts connections."""
    return _until(name, lambda: str(__salt__["caisson_wait.probe_tcp"](host, port)), timeout_s)


def url_answers(name: str, url: str, ca_file: str = "", timeout_s: int = 120) -> dict[str, Any]:
    """Wait until ``url`` answers 200 with a certificate of the CA in ``ca_file``."""
    return _until(name, lambda: str(__salt__["caisson_wait.probe_url"](url, ca_file)), timeout_s)


def command_succeeds(name: str, command: list[str], timeout_s: int = 120) -> dict[str, Any]:
    """Wait until ``command`` exits with 0."""

    def probe() -> str:
        result = __salt__["cmd.run_all"](command, python_shell=False, timeout=30, ignore_retcode=True)
        return "" if result["retcode"] == 0 else f"{' '.join(command)}: {result['stderr'].strip()[-500:]}"

    return _until(name, probe, timeout_s)
