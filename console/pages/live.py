# SPDX-License-Identifier: Apache-2.0
"""Send what goes on for a while: the news of a job as a stream, its log and its archive as files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from console import api, joblog, rights, text
from console.door import Asker
from console.known import SourceError
from console.pages.base import Page
from console.pages.work import checked_id
from console.views import base

PLACE = re.compile(r"(\d{1,15})\.(\d{1,15})")
STREAMS_EACH, STREAMS_ALL = 12, 100
ARCHIVE_BYTES = 512 * 1024 * 1024


class Stream(Page):
    """The news of a job, as server-sent events; the id of each is where journal and log were by then."""

    _task: asyncio.Task[None] | None = None

    async def get(self, job_id: str) -> None:
        """Send them until the job has ended, the browser has gone, or the session is over."""
        checked_id(job_id)
        if not (await self.sources()).may(rights.SEE_JOBS):
            raise HTTPError(403, "%s", rights.SEE_JOBS.rule)
        session = self.session
        if session.streams >= STREAMS_EACH or self.core.streams >= STREAMS_ALL:
            raise HTTPError(429, "%s", "too many pages are live: close some")
        journal, log = place_of(self.request.headers.get("Last-Event-ID") or self.field("from"))
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        session.streams += 1
        self.core.streams += 1
        self._task = asyncio.create_task(self._send(job_id, journal, log))
        try:
            await self._task
        except (asyncio.CancelledError, StreamClosedError):
            return
        finally:
            session.streams -= 1
            self.core.streams -= 1

    def on_connection_close(self) -> None:
        """Stop when the browser has gone."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self, job_id: str, journal: int, log: int) -> None:
        place = f"{journal}.{log}"
        self.write("retry: 2000\n\n")
        await self.flush()
        try:
            events = self.core.door.follow(job_id, journal=journal, log=log)
            async with contextlib.aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    if not self.core.sessions.is_open(self.session):
                        await self._event("over", {}, place)
                        return
                    place = f"{base.whole(event.get('journal')) or 0}.{base.whole(event.get('log')) or 0}"
                    await self._event(*_shown(event), place)
        except SourceError as exc:
            await self._event("fault", {"message": text.one_line(exc.message)}, place)
            return
        await self._event("end", {}, place)

    async def _event(self, kind: str, data: dict[str, Any], place: str) -> None:
        self.core.last_used = self.core.now()
        self.write(f"id: {place}\nevent: {kind}\ndata: {json.dumps(data)}\n\n")
        await self.flush()


def place_of(found: str) -> tuple[int, int]:
    """Return places in journal and log; the beginning where there are none.

    >>> place_of("12.340"), place_of("nonsense")
    ((12, 340), (0, 0))
    """
    match = PLACE.fullmatch(found)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _shown(event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind, data = base.words(event.get("event")), api.part(event, "data")
    if kind == "log":
        return kind, {"lines": [text.log_line(line) for line in base.texts(data.get("lines"))]}
    if kind == "state":
        return kind, {"state": base.words(data.get("state"))}
    return (kind, {}) if kind in ("phase", "beat") else ("beat", {})


class LogFile(Page):
    """The whole log of a job, as a file."""

    async def get(self, job_id: str) -> None:
        """Send it."""
        checked_id(job_id)
        sources = await self.sources()
        known = await sources.job(job_id)
        if known.value is None:
            self.fail(known.fault or SourceError("no answer", status=503))
            return
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{job_id}.log"')
        journal, size = joblog.sizes_of(known.value)
        with contextlib.suppress(SourceError, StreamClosedError):
            async for lines, _ in joblog.until(self.core.door, job_id, journal=journal, log=0, size=size):
                self.write("".join(f"{text.visible(line)}\n" for line in lines))
                await self.flush()
        self.finish()


class Archive(Page):
    """The archive of a report, as a file."""

    async def get(self, job_id: str) -> None:
        """Send it piece by piece; a piece that does not come ends the transfer as broken, not as whole."""
        checked_id(job_id)
        refused = (await self.sources()).refusal(rights.FETCH_REPORT, "the door")
        if refused is not None and refused.fault is not None:
            self.fail(refused.fault)
            return
        asker = Asker(client=self.client)
        try:
            piece = await self.core.door.call("archive", {"id": job_id, "offset": 0}, asker=asker)
        except SourceError as exc:
            self.fail(exc)
            return
        size, name = base.whole(piece.get("size")) or 0, base.words(piece.get("name"))
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name) or not 0 < size <= ARCHIVE_BYTES:
            self.fail(SourceError("the archive has no name or no size that could be right", status=500))
            return
        self.set_header("Content-Type", "application/gzip")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Content-Length", str(size))
        offset = 0
        while True:
            data = base64.b64decode(base.words(piece.get("data")))
            offset += len(data)
            self.write(data)
            await self.flush()
            if offset >= size or not data:
                break
            piece = await self.core.door.call("archive", {"id": job_id, "offset": offset}, asker=asker)
        self.finish()
