# SPDX-License-Identifier: Apache-2.0
"""States that wait until something answers; they never change anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


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


def _until(name: str, probe: Callable[[], str], timeout_s: int) -> dict[str, Any]:
    said: dict[str, Any] = __salt__["caisson_result.wait"](name, probe, timeout_s, test=__opts__["test"])
    return said
