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

from tests.unit.console.world import LOOK, PROBE, JobFiles, World, at, job

CHUNK = 4096
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
            time.sleep(self.world.slow_s.get(request["verb"], 0.0))
            try:
                if request["verb"] == "follow":
                    given = request["arguments"]
                    self._follow(stream, given["id"], given["journal"], given["log"])
                    return
                answer = self.world.refuse(request) or self._answer(request)
                stream.write(json.dumps({"time": at(0), **answer}).encode() + b"\n")
                stream.flush()
            except (OSError, ValueError):
                return

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        world, given = self.world, request["arguments"]
        verbs: dict[str, Callable[[], dict[str, Any]]] = {
            "status": lambda: world.status,
            "certificates": lambda: {"certificates": world.certificates},
            "media": lambda: {"format": 1, "media": world.media},
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
            return error(403, "CSE020", "this code is not known") if found is None else {"result": found}
        if request["verb"] == "start":
            return self._start(given)
        files = world.jobs.get(given["id"])
        if files is None:
            return error(404, "CSE001", f"there is no job {given['id']}")
        return self._of_job(request["verb"], given, files)

    def _of_job(self, verb: str, given: Mapping[str, Any], files: JobFiles) -> dict[str, Any]:
        if verb == "cancel":
            files.about["state"] = "failed"
            files.about["error"] = {
                "code": "CSE030",
                "message": "it was cancelled",
                "details": [],
                "resolution": [],
            }
            return {"result": {"job": given["id"]}}
        if verb == "again":
            files.about["state"] = "running"
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
        has_key = "hostKey" in given.get("parameters", {})
        made = f"20261127-070000-{operation}-{len(self.world.jobs):06x}"
        done = self.world.jobs.get(LOOK if has_key else PROBE)
        self.world.jobs[made] = JobFiles(
            job(
                made,
                operation,
                "succeeded" if operation == "probe" else "running",
                arguments={"host": dict(given.get("parameters", {}))},
            ),
            log=b"it has begun\n",
            found=done.found if operation == "probe" and done is not None else None,
        )
        self.keys[given["key"]] = made
        return {"result": {"job": made}}

    def _follow(self, stream: Any, job_id: str, journal: int = 0, log: int = 0) -> None:
        while True:
            files = self.world.jobs[job_id]
            is_running = files.is_running
            entries = files.journal[journal:]
            while b"\n" in entries:
                line, _, entries = entries.partition(b"\n")
                journal += len(line) + 1
                _tell(stream, "phase", journal, log, json.loads(line))
            whole = files.log[log:].rpartition(b"\n")[0]
            if whole:
                log += len(whole) + 1
                _tell(stream, "log", journal, log, {"lines": whole.decode(errors="replace").split("\n")})
            if not is_running:
                _tell(stream, "state", journal, log, {"state": files.about["state"]})
                return
            _tell(stream, "beat", journal, log, {})
            time.sleep(0.05)


def _tell(stream: Any, event: str, journal: int, log: int, data: dict[str, Any]) -> None:
    stream.write(json.dumps({"event": event, "journal": journal, "log": log, "data": data}).encode() + b"\n")
    stream.flush()


def error(status: int, code: str, message: str, *, details: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a refusal as the door gives it."""
    return {
        "error": {
            "code": code,
            "class": "X",
            "message": message,
            "details": list(details),
            "resolution": [],
            "exit_code": 1,
            "status": status,
        }
    }
