# SPDX-License-Identifier: Apache-2.0
"""Ask root's door: one connection, one line of JSON, one line or many back. The door's own reference has the verbs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.known import SourceError

CONNECT_S = 2.0
READ_S = 60.0
ACT_S = 30.0
ANSWER_BYTES = 8 * 1024 * 1024
REQUEST_BYTES = 64 * 1024
BEATLESS_S = 45.0
"""The door tells of itself every 15 s; after three missed times nobody is there."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """For whom the door is asked: a token or a grant, never both, and from which address."""

    client: str = ""
    token: str = field(default="", repr=False)
    grant: str = field(default="", repr=False)


NOBODY = Asker()


@dataclass(frozen=True)
class Door:
    """The way to the door."""

    socket: Path

    async def call(
        self,
        verb: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        asker: Asker = NOBODY,
        limit_s: float = READ_S,
    ) -> dict[str, Any]:
        """Return the result of a verb.

        Raises:
            SourceError: the door does not answer, or refuses; with the words and the number that it gave.
        """
        reader, writer = await self._connect()
        try:
            async with asyncio.timeout(limit_s):
                await _send(writer, verb, arguments or {}, asker)
                line = await reader.readline()
        except TimeoutError as exc:
            raise SourceError(f"the door has not answered within {limit_s:g} s") from exc
        except (OSError, ValueError) as exc:
            raise SourceError(f"the door was cut off: {exc}") from exc
        finally:
            writer.close()
        return _result(line)

    async def follow(self, job_id: str, *, journal: int, log: int) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a job from these places on, until it has ended.

        Raises:
            SourceError: the door does not answer, refuses, or has gone in the middle.
        """
        reader, writer = await self._connect()
        is_over = False
        try:
            await _send(writer, "follow", {"id": job_id, "journal": journal, "log": log}, NOBODY)
            while True:
                async with asyncio.timeout(BEATLESS_S):
                    line = await reader.readline()
                if not line and is_over:
                    return
                if not line:
                    raise SourceError("the door has gone in the middle")
                event = _parse(line)
                if "error" in event:
                    _result(line)
                if event.get("event") == "state":
                    is_over = _state_of(event) != "running"
                if "event" in event:
                    yield event
        except TimeoutError as exc:
            raise SourceError(f"the door has not said a word for {BEATLESS_S:g} s") from exc
        except (OSError, ValueError) as exc:
            raise SourceError(f"the door was cut off: {exc}") from exc
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_unix_connection(str(self.socket), limit=ANSWER_BYTES)
        except (OSError, TimeoutError) as exc:
            why = getattr(exc, "strerror", None) or "no answer"
            raise SourceError(
                f"the door does not open: {self.socket}: {why}",
                resolution="systemctl status caisson-door.socket",
            ) from exc


def _state_of(event: Mapping[str, Any]) -> object:
    data = event.get("data")
    return data.get("state") if isinstance(data, dict) else None


async def _send(writer: asyncio.StreamWriter, verb: str, arguments: Mapping[str, Any], asker: Asker) -> None:
    request = {
        "verb": verb,
        "arguments": dict(arguments),
        "token": asker.token or None,
        "grant": asker.grant or None,
        "client": asker.client or None,
    }
    line = json.dumps(request).encode("ascii") + b"\n"
    if len(line) > REQUEST_BYTES:
        raise SourceError("what was typed is too long", status=413, resolution="at most 64 kB go to the door")
    writer.write(line)
    with contextlib.suppress(ConnectionError):  # it may have refused before it read all: its answer says why
        await writer.drain()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise SourceError("the door has answered with something that is no JSON") from exc
    if not isinstance(found, dict):
        raise SourceError("the door has answered with something that is no object")
    return found


def _result(line: bytes) -> dict[str, Any]:
    if not line:
        raise SourceError(
            "the door has closed without an answer", resolution="journalctl -u 'caisson-door@*' -n 50"
        )
    found = _parse(line)
    error = found.get("error")
    if isinstance(error, dict):
        details = "; ".join(map(str, error.get("details") or ()))
        message = str(error.get("message", "refused"))
        status = error.get("status")
        raise SourceError(
            f"{error.get('code', '')} {message}".strip(),
            status=status if isinstance(status, int) else 500,
            rule=details,
            resolution="\n".join(map(str, error.get("resolution") or ())),
        )
    result = found.get("result")
    if not isinstance(result, dict):
        raise SourceError("the door has answered with neither a result nor an error")
    return result
