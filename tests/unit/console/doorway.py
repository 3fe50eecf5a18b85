# SPDX-License-Identifier: Apache-2.0
"""A small real door: a Unix socket that speaks the protocol of ``caisson door``."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.unit.console.world import ADD_PHASES, LOOK, PROBE, JobFiles, World, at, job

CHUNK = 4096
HELD_S = 120.0
BEAT_S = 0.05
"""The real door beats each 15 seconds: no test waits so long to see that somebody has gone."""
TITLES = {name: (f"CSP{401 + place}", f"{name} the host") for place, name in enumerate(ADD_PHASES)}
UNKNOWN_JOB = ("CSE002", "UsageError", 2)
UNKNOWN_CODE = ("CSE017", "AccessError", 17)
KEYS = {"verb", "arguments", "token", "grant", "client"}


class Doorway:
    """The door; ``stop`` takes it away."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self.path = path
        self.keys: dict[str, str] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Open to nobody any more."""
        self.path.unlink(missing_ok=True)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb", buffering=0) as stream:
            line = stream.readline(65 * 1024)
            request = json.loads(line)
            assert set(request) <= KEYS
            self.world.asked_door.append(request)
            if request["verb"] in self.world.held:
                self.world.released.wait(HELD_S)
            try:
                if request["verb"] == "follow":
                    given = request["arguments"]
                    self._follow(stream, given["id"], given["journal"], given["log"])
                    return
                answer = self.world.refuse(request) or self._answer(request)
                whole = {"time": at(0), **answer}
                self.world.door_said.append((request["verb"], whole))
                stream.write(json.dumps(whole).encode() + b"\n")
                stream.flush()
            except (OSError, ValueError):
                return

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        world, given = self.world, request["arguments"]
        verbs: dict[str, Callable[[], dict[str, Any]]] = {
            "status": lambda: world.status,
            "certificates": lambda: {"certificates": world.certificates},
            "media": lambda: {"format": 1, "media": world.media, "followed": []},
            "images": lambda: {"format": 1, "images": world.images},
            "journal": lambda: {"journal": world.journal, "console": world.audit},
            "jobs": lambda: {
                "format": 1,
                "jobs": [files.about for _, files in sorted(world.jobs.items())],
                "unreadable": [],
            },
        }
        if request["verb"] in verbs:
            return {"result": verbs[request["verb"]]()}
        if request["verb"] == "redeem":
            found = world.codes.pop(given["code"], None)
            unknown = error(401, "this code is not known", kind=UNKNOWN_CODE)
            return unknown if found is None else {"result": found}
        if request["verb"] == "start":
            return self._start(given)
        files = world.jobs.get(given["id"])
        if files is None:
            return error(404, f"there is no job {given['id']}", kind=UNKNOWN_JOB)
        return self._of_job(request["verb"], given, files)

    def _of_job(self, verb: str, given: Mapping[str, Any], files: JobFiles) -> dict[str, Any]:
        if verb == "cancel":
            # It is told to end, and ends a moment later.
            told = {"job": given["id"], "state": files.about["state"]}
            files.about.update(state="failed", ended=at(0), exit_code=130)
            files.about["error"] = {
                "code": "CSE130",
                "class": "StoppedError",
                "message": "it was cancelled",
                "details": [],
                "resolution": [],
                "exit_code": 130,
            }
            return {"result": told}
        if verb == "again":
            files.about.update(state="running", ended=None, exit_code=None, error=None)
            return {"result": {"job": given["id"]}}
        if verb == "archive":
            content, offset = files.archive or b"", given.get("offset", 0)
            piece = base64.b64encode(content[offset : offset + CHUNK]).decode()
            return {
                "result": {
                    "name": "caisson-report-cp1.tar.gz",
                    "size": len(content),
                    "sha256": "0" * 64,
                    "offset": offset,
                    "data": piece,
                }
            }
        archive = (
            None
            if files.archive is None
            else {"name": "caisson-report-cp1.tar.gz", "size": len(files.archive), "sha256": "0" * 64}
        )
        return {
            "result": {
                "format": 1,
                "job": files.about,
                "phases": files.phases,
                "lines": [],
                "files": {"journal": len(files.journal), "log": len(files.log)},
                "found": files.found,
                "archive": archive,
            }
        }

    def _start(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if given["key"] in self.keys:
            return {"result": {"job": self.keys[given["key"]]}}
        operation = {"add-host": "node-add", "remove-node": "node-remove"}.get(
            given["operation"], given["operation"]
        )
        parameters = given.get("parameters", {})
        has_key = "hostKey" in parameters
        made = f"20261127-070000-{operation}-{len(self.world.jobs):06x}"
        done = self.world.jobs.get(LOOK if has_key else PROBE)
        self.world.jobs[made] = JobFiles(
            job(
                made,
                operation,
                "succeeded" if operation == "probe" else "running",
                arguments=_arguments(operation, parameters),
            ),
            log=b"it has begun\n",
            found=done.found if operation == "probe" and done is not None else None,
        )
        self.keys[given["key"]] = made
        return {"result": {"job": made}}

    def _follow(self, stream: Any, job_id: str, journal: int = 0, log: int = 0) -> None:
        def tell(event: str, data: dict[str, Any]) -> None:
            line = {"event": event, "journal": journal, "log": log, "data": data}
            self.world.door_told.append(line)
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()

        told_state = ""
        while True:
            files = self.world.jobs[job_id]
            state, is_running = files.about["state"], files.is_running
            entries = files.journal[journal:]
            while b"\n" in entries:
                line, _, entries = entries.partition(b"\n")
                journal += len(line) + 1
                tell("phase", _entry(json.loads(line)))
            whole = files.log[log:].rpartition(b"\n")[0]
            if whole:
                log += len(whole) + 1
                tell("log", {"lines": whole.decode(errors="replace").split("\n")})
            if state != told_state or not is_running:
                tell("state", {"state": state, "job": dict(files.about)})
                told_state = state
            if not is_running:
                return
            tell("beat", {})
            time.sleep(BEAT_S)


def _entry(data: dict[str, Any]) -> dict[str, Any]:
    code, title = TITLES.get(data["phase"], ("", ""))
    return {**data, "code": code, "title": title, "host": data["operation"].partition("/")[2]}


def _arguments(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job is given, as the real door prepares it."""
    if operation == "node-add":
        return {"nodes": [dict(given)]}
    if operation == "probe":
        return {"host": dict(given)}
    if operation == "node-remove":
        host = {"address": "10.77.1.12", "role": "worker", "user": "root", "port": 22, "name": given["name"]}
        return {"host": host, "dead": bool(given.get("dead")), "force": bool(given.get("force"))}
    return {}


def error(
    status: int,
    message: str,
    *,
    kind: tuple[str, str, int] = UNKNOWN_CODE,
    details: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return a refusal as the door gives it; ``kind`` is the code, the class and the exit code of its error."""
    code, name, exit_code = kind
    return {
        "error": {
            "code": code,
            "class": name,
            "message": message,
            "details": list(details),
            "resolution": [],
            "exit_code": exit_code,
            "status": status,
        }
    }
