# SPDX-License-Identifier: Apache-2.0
"""Answer one connection: who asks, what, may it be, the answer, the line in the log of the console."""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, from_exception
from installer.base.paths import Paths
from installer.operations.door import acts, audit, codes, reads, wire
from installer.operations.door.acts import Act
from installer.operations.door.audit import Line
from installer.operations.door.follow import Follower
from installer.operations.door.reads import Asked
from installer.operations.door.wire import RefusalError, Request

REDEEM, FOLLOW = "redeem", "follow"
NOTED = (wire.BAD_REQUEST, wire.UNKNOWN_USER, wire.FORBIDDEN, wire.TOO_LARGE)
"""Refusals of these kinds are written down, whatever was asked."""


@dataclass(frozen=True)
class Door:
    """What answers; ``program`` is the command line of this installer, which jobs are started with."""

    paths: Paths
    tree_dir: Path
    program: Sequence[str]
    allowed: Iterable[int]

    def serve(self, connection: socket.socket) -> None:
        """Answer one request. Whatever goes wrong is an answer; nothing is raised for it."""
        line = Line("")
        try:
            peer = wire.peer(connection)
            line.uid = peer.uid
            wire.need_known(peer, self.allowed)
            request = wire.read_request(connection)
            line.verb, line.client, line.arguments = request.verb, request.client, request.arguments
            if request.verb == FOLLOW:
                self._follow(connection, request)
                return
            answer = wire.of_result(self._result(request, line))
        except Exception as exc:  # noqa: BLE001  the last resort: whoever asks is told
            refusal = _refusal(exc)
            is_act = line.verb in acts.ACTS or line.verb == REDEEM
            if is_act or refusal.status in NOTED:
                _fail(line, refusal)
                audit.note(self.paths, line)
            answer = wire.of_refusal(refusal)
        wire.send(connection, answer)

    def _result(self, request: Request, line: Line) -> Mapping[str, Any]:
        if request.verb == REDEEM:
            return self._redeem(request, line)
        if request.verb in acts.ACTS:
            return self._act(request, line)
        return reads.READS[request.verb](Asked(request.arguments, self.paths, self.tree_dir))

    def _follow(self, connection: socket.socket, request: Request) -> None:
        given = request.arguments
        job = reads.find(self.paths, str(given["id"]))
        places = {name: int(given.get(name, 0)) for name in ("journal", "log")}
        Follower(connection, job, **places).run()

    def _redeem(self, request: Request, line: Line) -> Mapping[str, Any]:
        with audit.opened(self.paths) as output:
            entry, result = codes.redeem(self.paths, str(request.arguments["code"]))
            line.who = str(result["user"])
            line.message = f"the code was made by {entry.maker}"
            audit.write(output, line)
        return result

    def _act(self, request: Request, line: Line) -> Mapping[str, Any]:
        act = Act(request, self.paths, self.tree_dir, self.program)
        user = acts.user_of(act, acts.right_of(act))
        line.who, line.groups = user.name, user.groups
        with audit.opened(self.paths) as output:
            result = acts.carry_out(act, user)
            line.message = str(result.get("job", ""))
            audit.write(output, line)
        return result


def _fail(line: Line, refusal: RefusalError) -> None:
    line.answer = str(refusal.status)
    line.code, line.message = refusal.error.code(), refusal.error.message


def _refusal(exc: Exception) -> RefusalError:
    if isinstance(exc, RefusalError):
        return exc
    if not isinstance(exc, InstallerError):
        # Where it is, not what it says: a secret may be in that.
        traceback.print_tb(exc.__traceback__, file=sys.stderr)
    return wire.refusal_of(from_exception(exc))
