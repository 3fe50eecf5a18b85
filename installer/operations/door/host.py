# SPDX-License-Identifier: Apache-2.0
"""Tell of this host what systemd, files and containerd know: it is asked most when the API does not answer.

Each part is asked by itself, side by side and within a bound; what gives no answer is None, never a good word.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import printable
from installer.base.units import parse_units
from installer.engine.jobs import stamp
from installer.operations import endpoints, static_pods
from installer.operations.asking import COMMAND_LIMIT_S, Fault, Question
from installer.operations.endpoints import Endpoint

UNITS = ("kubelet.service", "containerd.service", "salt-minion.service", "firewalld.service")
PROPERTIES = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,StateChangeTimestamp"
LINES = 20
LINE_LENGTH = 500
TAIL_BYTES = 64 * 1024
POD_LOGS_DIR = "/var/log/pods"
"""Source: Kubernetes, pkg/kubelet/kuberuntime: NAMESPACE_NAME_UID/CONTAINER/RESTARTS.log, also without containerd."""
NO_LOG_FILE = Path("/dev/null")
LOG_LINE = re.compile(r"^\S+ (?:stdout|stderr) [FP] ")
"""What containerd writes before each line. Source: Kubernetes, CRI logging format."""
CLUSTER_CA_FILE = "/etc/kubernetes/pki/ca.crt"
HEALTH_CODES = (200,)
CLOCK_PROPERTIES = "NTPSynchronized,NTP,Timezone"


@dataclass(frozen=True)
class Service:
    """A service as systemd has it; ``lines`` are its last words, asked for where it does not run."""

    name: str
    state: str
    detail: str
    result: str
    exit_code: int
    restarts: int
    since: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exit:
    """How the last container of a pod that has ended did so."""

    code: int
    reason: str
    time: str


@dataclass(frozen=True)
class Pod:
    """A static pod; ``running`` is None where containerd does not say, ``restarts`` where no log is there."""

    name: str
    namespace: str
    running: bool | None
    restarts: int | None
    last_exit: Exit | None
    lines: tuple[str, ...]


def gather(paths: Paths, *, address: str, api_port: int) -> dict[str, Any]:
    """Look at the host; ``address`` is its own in the control plane, empty before it has one."""
    asked: Mapping[str, Question[Any]] = {
        "services": Question("systemd", _services),
        "static_pods": Question("the static pods", partial(_pods, paths)),
        "clock": Question("the clock", _clock),
        "api": Question("the API of this host", partial(_api, paths, address, api_port)),
    }
    lost: list[Fault] = []
    found = {name: question.answer(None, lost) for name, question in asked.items()}
    return {
        "name": socket.gethostname(),
        "time": stamp(),
        "uptime_s": round(time.clock_gettime(time.CLOCK_BOOTTIME)),
        "load": [round(number, 2) for number in os.getloadavg()],
        "processors": os.cpu_count(),
        "memory": _memory(),
        **found,
        "unknown": [fault.text for fault in lost],
    }


# ---- services ------------------------------------------------------------------------------------------------


def _services() -> list[dict[str, Any]] | None:
    try:
        words = ["systemctl", "show", "--timestamp=unix", f"--property={PROPERTIES}", *UNITS]
        shown = run(words, timeout_s=COMMAND_LIMIT_S / 2, check=False, log_file=NO_LOG_FILE).stdout
    except (CommandError, HostError):
        return None
    units = parse_units(shown)
    return [asdict(_service(unit, units[unit])) for unit in UNITS if unit in units]


def _service(unit: str, facts: Mapping[str, str]) -> Service:
    state = "not installed" if facts.get("LoadState") == "not-found" else facts.get("ActiveState", "unknown")
    return Service(
        name=unit.rpartition(".service")[0],
        state=state,
        detail=facts.get("SubState", ""),
        result=facts.get("Result", ""),
        exit_code=_number(facts.get("ExecMainStatus")) or 0,
        restarts=_number(facts.get("NRestarts")) or 0,
        since=_moment_of(facts.get("StateChangeTimestamp", "")),
        lines=() if state in ("active", "not installed") else _words_of(unit),
    )


def _words_of(unit: str) -> tuple[str, ...]:
    words = ["journalctl", f"--unit={unit}", f"--lines={LINES}", "--no-pager", "--output=short-iso"]
    try:
        said = run(words, timeout_s=COMMAND_LIMIT_S / 2, check=False, log_file=NO_LOG_FILE).stdout
    except (CommandError, HostError):
        return ()
    return shown(said.splitlines())


def _moment_of(text: str) -> str:
    """Return a time of systemd's as all others are written; empty where there is none.

    >>> _moment_of("@1764316800"), _moment_of("n/a")
    ('2025-11-28T08:00:00Z', '')
    """
    found = re.fullmatch(r"@(\d{1,11})", text)
    return stamp(time.gmtime(int(found[1]))) if found and int(found[1]) else ""


def utc(text: str) -> str:
    """Return a time of containerd's, which has a zone and parts of a second, as all others are written.

    >>> utc("2026-11-28T09:59:00.123456789+02:00"), utc("2026-11-28T07:59:00Z"), utc("0001-01-01T00:00:00Z"), utc("x")
    ('2026-11-28T07:59:00Z', '2026-11-28T07:59:00Z', '', '')
    """
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if found is None or found[1].startswith("0001"):
        return ""
    zone = "+00:00" if found[2] == "Z" else found[2]
    try:
        return stamp(datetime.fromisoformat(found[1] + zone).utctimetuple())
    except ValueError:
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,10}", text) else None


def shown(lines: Sequence[str]) -> tuple[str, ...]:
    r"""Return the last lines, none too long, no character in them that is not to be seen.

    >>> shown(["a", "b\x1b[2J"])
    ('a', 'b?[2J')
    """
    return tuple(printable(line.replace("\t", "    "))[:LINE_LENGTH] for line in lines[-LINES:])


# ---- static pods ---------------------------------------------------------------------------------------------


def _pods(paths: Paths) -> list[dict[str, Any]]:
    """Return the static pods by their manifests; restarts and last words by their logs; the rest from containerd."""
    manifests = static_pods.static_pods(paths.at("/etc/kubernetes/manifests"))
    containers = _containers()
    return [asdict(_pod(paths, namespace, name, containers)) for namespace, name in manifests]


def _pod(paths: Paths, namespace: str, name: str, containers: list[dict[str, Any]] | None) -> Pod:
    restarts, lines = _log_of(paths, namespace, name)
    own = [one for one in containers or () if _is_of(one, namespace, name)]
    is_running = any(one.get("state") == "CONTAINER_RUNNING" for one in own)
    attempts = [int((one.get("metadata") or {}).get("attempt", 0)) for one in own]
    return Pod(
        name,
        namespace,
        None if containers is None else is_running,
        max(attempts) if attempts else restarts,
        _last_exit(own),
        lines,
    )


def _is_of(container: Mapping[str, Any], namespace: str, name: str) -> bool:
    """Say whether a container is of a static pod: the kubelet adds the node's name to the pod's."""
    labels = container.get("labels") or {}
    pod = str(labels.get("io.kubernetes.pod.name", ""))
    is_named = pod == name or pod.startswith(f"{name}-")
    own = str(labels.get("io.kubernetes.container.name", name))
    return is_named and own == name and labels.get("io.kubernetes.pod.namespace") == namespace


def _containers() -> list[dict[str, Any]] | None:
    """Return all containers; None where containerd does not answer."""
    words = ["crictl", "ps", "--all", "--output=json"]
    try:
        listed = json.loads(run(words, timeout_s=COMMAND_LIMIT_S / 2, log_file=NO_LOG_FILE).stdout)
        return list(listed["containers"] or ())
    except (CommandError, HostError, ValueError, KeyError, TypeError):
        return None


def _last_exit(own: Sequence[Mapping[str, Any]]) -> Exit | None:
    ended = [one for one in own if one.get("state") == "CONTAINER_EXITED"]
    if not ended:
        return None
    newest = max(ended, key=lambda one: int(one.get("createdAt", 0)))
    words = ["crictl", "inspect", "--output=json", str(newest.get("id", ""))]
    try:
        status = json.loads(run(words, timeout_s=COMMAND_LIMIT_S / 4, log_file=NO_LOG_FILE).stdout)["status"]
        return Exit(int(status["exitCode"]), str(status.get("reason", "")), utc(str(status["finishedAt"])))
    except (CommandError, HostError, ValueError, KeyError, TypeError):
        return None


def _log_of(paths: Paths, namespace: str, name: str) -> tuple[int | None, tuple[str, ...]]:
    """Return how often the container of a pod was started again, and its last words, by its newest log."""
    found = [
        (file.stat().st_mtime, int(file.stem), file)
        for file in paths.at(POD_LOGS_DIR).glob(f"{namespace}_{name}-*/{name}/*.log")
        if file.stem.isdigit() and file.is_file()
    ]
    if not found:
        return None, ()
    _, restarts, newest = max(found)
    return restarts, shown([LOG_LINE.sub("", line) for line in tail(newest)])


def tail(file: Path) -> list[str]:
    """Return the last lines of a file, as far as they can be read; the first may be without its beginning."""
    try:
        with file.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - TAIL_BYTES))
            return source.read().decode("utf-8", errors="replace").splitlines()[-LINES:]
    except OSError:
        return []


# ---- the rest ------------------------------------------------------------------------------------------------


def _clock() -> dict[str, Any]:
    """Return whether the clock is kept; None where that is not known. Source: timedatectl(1), show."""
    try:
        words = ["timedatectl", "show", f"--property={CLOCK_PROPERTIES}"]
        said = run(words, timeout_s=COMMAND_LIMIT_S / 2, check=False, log_file=NO_LOG_FILE).stdout
    except (CommandError, HostError):
        said = ""
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    answers = {"yes": True, "no": False}
    return {
        "synchronized": answers.get(found.get("NTPSynchronized", "")),
        "service": answers.get(found.get("NTP", "")),
        "zone": found.get("Timezone", ""),
    }


def _api(paths: Paths, address: str, port: int) -> dict[str, Any] | None:
    if not address:
        return None
    url = f"https://{address}:{port}/livez"
    state = endpoints.ask(
        Endpoint("Kubernetes API", url, HEALTH_CODES, "kube-apiserver"), paths.at(CLUSTER_CA_FILE)
    )
    return {"url": url, "answers": state.fault is None, "answer": state.answer}


def _memory() -> dict[str, int | None]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        text = ""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    size = {name: int(kilobytes) * 1024 for name, kilobytes in found.items()}
    return {"total_bytes": size.get("MemTotal"), "available_bytes": size.get("MemAvailable")}
