# SPDX-License-Identifier: Apache-2.0
"""Hold what all requests share: settings, sessions, sources, templates, the clock."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment

from console import api, render, rights
from console.api import Api, Health
from console.door import Door
from console.known import API, Cache, Known, nothing
from console.rights import Rights
from console.sessions import Session, Sessions
from console.settings import Settings
from console.sources import RIGHTS_S, Sources
from console.throttle import Throttle

Clock = Callable[[], float]


@dataclass(kw_only=True)
class Core:
    """What all requests share."""

    settings: Settings
    now: Clock
    api: Api
    door: Door
    health: Health
    cache: Cache
    sessions: Sessions
    throttle: Throttle
    environment: Environment
    static_digest: str
    static: dict[str, bytes]
    fingerprint: str
    streams: int = 0
    last_used: float = 0.0

    @property
    def port(self) -> int:
        """Return the port that browsers name."""
        return self.settings.port

    async def look_at_api(self) -> None:
        """See whether the API answers."""
        await self.health.look(self.api.livez)

    async def rights_of(self, session: Session) -> Known[Rights]:
        """Return what a person may do."""
        if session.is_local:
            return Known(source=API, value=rights.LOCAL, at=self.now())
        key, token = (session.digest, "rights"), session.token
        if self.health.is_down:
            found = self.cache.peek(key, API)
            return found if found.value is not None else nothing(API, "the API does not answer")

        async def ask() -> Rights:
            return rights.parse(await self.api.post(rights.PATH, rights.review(), token))

        return await self.cache.get(key, API, ask, fresh_s=RIGHTS_S)

    async def sources_for(self, session: Session) -> Sources:
        """Return the sources of one person."""
        await self.look_at_api()
        return Sources(
            session=session,
            cache=self.cache,
            api=self.api,
            door=self.door,
            health=self.health,
            rights=await self.rights_of(session),
        )

    def forget(self, session: Session) -> None:
        """Forget what was asked for a person."""
        self.cache.forget(lambda key: isinstance(key, tuple) and key[0] == session.digest)

    async def close(self) -> None:
        """Close what is open."""
        await self.cache.close()
        self.api.close()


def make(settings: Settings, *, context: ssl.SSLContext | None = None, now: Clock = time.time) -> Core:
    """Return what all requests share; ``context`` is for a test whose authority is in memory.

    Raises:
        OSError: the authority of the API, or the console's certificate, cannot be read.
    """
    health = Health(now)
    digest, static = render.read_static()
    core = Core(
        settings=settings,
        now=now,
        api=Api(settings.api_url, context or api.trusting(str(settings.api_ca_file)), heard=health.heard),
        door=Door(settings.door_socket),
        health=health,
        cache=Cache(now),
        sessions=Sessions(now),
        throttle=Throttle(now),
        environment=render.environment(),
        static_digest=digest,
        static=static,
        fingerprint=fingerprint_of(settings),
        last_used=now(),
    )
    core.sessions.forgotten = core.forget
    return core


def fingerprint_of(settings: Settings) -> str:
    """Return the SHA-256 of the console's certificate, as browsers show it.

    Raises:
        OSError: it cannot be read.
    """
    pem = settings.certificate_file.read_text(encoding="ascii")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = pem[pem.index(begin) : pem.index(end) + len(end)]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()
    return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))
