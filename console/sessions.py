# SPDX-License-Identifier: Apache-2.0
"""Keep who is logged in, in memory: a restart logs everybody out, and their jobs go on.

The browser holds 256 random bits; the table here is by their SHA-256, so that what leaks from it opens nothing. A
session is bound to the address that it was begun from: cookies are not separated by port (RFC 6265, 8.5), and another
server of the same address is sent them, too.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from console.door import Asker

IDLE_S = 30 * 60.0
LONGEST_S = 8 * 3600.0
WARN_S = 5 * 60.0
MOST = 50
SECRETS_S = 10 * 60.0
REMEMBERED = 200


class Ended(StrEnum):
    """Why a session is no more; the value is what the log-in page says."""

    IDLE = "You were logged out: nothing was done for 30 minutes."
    TOKEN = "You were logged out: your token has come to its end."  # noqa: S105 -- a sentence
    LONGEST = "You were logged out: a session lasts 8 hours at most."
    REVOKED = (
        "You were logged out: the cluster does not accept your token any more. "
        "It was revoked, or the account is gone."
    )
    LOGGED_OUT = "You have logged out."
    MOVED = (
        "You were logged out: your session was used from another address. "
        "If that was not you, tell whoever runs the cluster."
    )
    PUSHED_OUT = "You were logged out: more than 50 people are logged in, and yours was idle the longest."
    UNKNOWN = "You are logged in no more: the console was started again. Jobs go on."


@dataclass(kw_only=True)
class Session:
    """One person, logged in. ``token`` is Kubernetes'; a local session has a ``grant`` of the door instead."""

    digest: str
    user: str
    client: str
    token: str = field(default="", repr=False)
    grant: str = field(default="", repr=False)
    groups: tuple[str, ...] = ()
    begun: float
    used: float
    ends: float
    csrf: str = field(repr=False)
    namespace: str = ""
    streams: int = 0
    kept: dict[str, tuple[float, dict[str, str]]] = field(default_factory=dict, repr=False)

    @property
    def is_local(self) -> bool:
        """Say whether it was begun while the API did not answer."""
        return not self.token

    @property
    def asker(self) -> Asker:
        """Return for whom the door is asked."""
        return Asker(client=self.client, token=self.token, grant=self.grant)

    @property
    def last_moment(self) -> float:
        """Return when it ends unless something is done."""
        return min(self.ends, self.begun + LONGEST_S, self.used + IDLE_S)

    @property
    def ends_by_itself(self) -> bool:
        """Say whether doing something would make it last longer."""
        return self.used + IDLE_S < min(self.ends, self.begun + LONGEST_S)

    def why_ended(self, now: float) -> Ended | None:
        """Return why it is over, or None."""
        if now >= self.begun + LONGEST_S:
            return Ended.LONGEST
        if now >= self.ends:
            return Ended.TOKEN
        return Ended.IDLE if now >= self.used + IDLE_S else None

    def keep_secrets(self, key: str, found: dict[str, str], now: float) -> None:
        """Keep what was typed for one host, for ten minutes, in memory: it is asked for once, not at each step."""
        self.kept = {name: entry for name, entry in self.kept.items() if now - entry[0] < SECRETS_S}
        self.kept[key] = (now, found)

    def secrets_for(self, key: str, now: float) -> dict[str, str]:
        """Return what was typed for a host; empty when it is gone."""
        entry = self.kept.get(key)
        return dict(entry[1]) if entry is not None and now - entry[0] < SECRETS_S else {}

    def forget_secrets(self, key: str) -> None:
        """Forget what was typed for a host."""
        self.kept.pop(key, None)


def digest_of(cookie: str) -> str:
    """Return under which key a session of this cookie is kept."""
    return hashlib.sha256(cookie.encode("utf-8", errors="replace")).hexdigest()


class Sessions:
    """All sessions, and why the last ones ended."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._open: dict[str, Session] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()
        self.forgotten: Callable[[Session], None] = lambda _: None

    def __len__(self) -> int:
        """Return how many are open."""
        self.tidy()
        return len(self._open)

    def begin(self, *, user: str, client: str, ends: float, **more: Any) -> tuple[str, Session]:
        """Begin a session; return what the browser is given, and the session."""
        self.tidy()
        while len(self._open) >= MOST:
            self.end(min(self._open.values(), key=lambda one: one.used), Ended.PUSHED_OUT)
        cookie, now = secrets.token_urlsafe(32), self._now()
        session = Session(
            digest=digest_of(cookie),
            user=user,
            client=client,
            begun=now,
            used=now,
            ends=ends,
            csrf=secrets.token_urlsafe(24),
            **more,
        )
        self._open[session.digest] = session
        return cookie, session

    def find(self, cookie: str | None, client: str) -> tuple[Session | None, Ended | None]:
        """Return the session of a cookie, else why there is none; neither where no cookie came."""
        if not cookie:
            return None, None
        self.tidy()
        digest = digest_of(cookie)
        session = self._open.get(digest)
        if session is None:
            return None, self._ended.get(digest, Ended.UNKNOWN)
        if session.client != client:
            self.end(session, Ended.MOVED)
            return None, Ended.MOVED
        return session, None

    def use(self, session: Session) -> None:
        """Note that the person has done something."""
        session.used = self._now()

    def end(self, session: Session, why: Ended) -> None:
        """End a session."""
        self._open.pop(session.digest, None)
        self._ended[session.digest] = why
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        session.token = session.grant = ""
        session.kept.clear()
        self.forgotten(session)

    def is_open(self, session: Session) -> bool:
        """Say whether it has not ended meanwhile."""
        self.tidy()
        return session.digest in self._open

    def tidy(self) -> None:
        """End those whose time is over."""
        now = self._now()
        for session in list(self._open.values()):
            why = session.why_ended(now)
            if why is not None:
                self.end(session, why)
