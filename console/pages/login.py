# SPDX-License-Identifier: Apache-2.0
"""Let people in by a code that root has made or by a token of Kubernetes, and out again. There is no password."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

from console import guard, text
from console.door import Asker
from console.known import SourceError
from console.pages.base import Guarded, Page
from console.sessions import LONGEST_S, Ended, Session

CODE = re.compile(r"[A-Za-z0-9 -]{16,64}")
WRONG = "This code or token is not accepted. A code works once, for five minutes."
NO_API = (
    "The Kubernetes API does not answer, so no token can be checked. "
    "A code still works: on a control-plane node type 'sudo caisson console login'."
)
TOO_MANY = "Too many log-ins have failed. Try again in {} s."
NO_DOOR = "This host cannot check codes now: {why}"


@dataclass(frozen=True, kw_only=True)
class Let:
    """Who is let in, and until when."""

    user: str
    ends: float
    token: str = ""
    grant: str = ""
    groups: tuple[str, ...] = ()


class RefusedError(Exception):
    """Nobody is let in; the text is for the page. ``is_guess``: it counts as an attempt."""

    def __init__(self, message: str, *, is_guess: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.is_guess = is_guess


class Login(Guarded):
    """The page on which one logs in."""

    async def get(self) -> None:
        """Write the form."""
        await self.core.look_at_api()
        session, why = self.core.sessions.find(self.get_cookie(guard.COOKIE), self.client)
        if session is not None:
            self.redirect(guard.local_path(self.field("next", "/")), status=303)
            return
        name = self.field("why").upper()
        self._form(reason=Ended[name] if name in Ended.__members__ else why)

    async def post(self) -> None:
        """Let somebody in."""
        wait_s = self.core.throttle.wait_s()
        if wait_s > 0:
            self.set_status(429)
            self.set_header("Retry-After", str(int(wait_s) + 1))
            self._form(fault=TOO_MANY.format(int(wait_s) + 1))
            return
        await self.core.look_at_api()
        try:
            let = await self._check()
        except RefusedError as exc:
            if exc.is_guess:
                self.core.throttle.failed(self.client)
            self.set_status(403 if exc.is_guess else 503)
            self._form(fault=exc.message)
            return
        cookie, session = begin(self, let)
        await self.core.rights_of(session)
        self.set_header("Set-Cookie", f"{guard.COOKIE}={cookie}; {guard.COOKIE_ATTRIBUTES}")
        self.redirect(guard.local_path(self.field("next", "/")), status=303)

    async def _check(self) -> Let:
        code, token = self.field("code").strip(), self.field("token").strip()
        if bool(code) == bool(token):
            raise RefusedError("Give either a code or a token.", is_guess=False)
        return await by_code(self, code) if code else await by_token(self, token)

    def _form(self, *, fault: str = "", reason: Ended | None = None) -> None:
        self.page(
            "login.html",
            title="Log in",
            fault=fault,
            reason=reason.value if reason is not None and not fault else "",
            next=guard.local_path(self.field("next", "/")),
            fingerprint=self.core.fingerprint,
        )


def begin(handler: Guarded, let: Let) -> tuple[str, Session]:
    """Begin the session of somebody who is let in."""
    return handler.core.sessions.begin(
        user=let.user,
        client=handler.client,
        ends=let.ends,
        token=let.token,
        grant=let.grant,
        groups=let.groups,
    )


async def by_code(handler: Guarded, code: str) -> Let:
    """Return whom a code lets in.

    Raises:
        RefusedError: nobody.
    """
    if not CODE.fullmatch(code):
        raise RefusedError(WRONG)
    try:
        found = await handler.core.door.call(
            "redeem", {"code": code}, asker=Asker(client=handler.client), limit_s=20.0
        )
    except SourceError as exc:
        if exc.status in (0, 500, 503):
            raise RefusedError(NO_DOOR.format(why=exc.message), is_guess=False) from exc
        raise RefusedError(WRONG) from exc
    now = handler.core.now()
    ends = text.moment(found.get("ends")) or now + 3600.0
    user, token = str(found.get("user") or "unknown"), str(found.get("token") or "")
    if not token:
        return Let(user=user, ends=ends, grant=str(found.get("grant") or ""))
    groups: tuple[str, ...] = ()
    if not handler.core.health.is_down:
        try:
            who = await handler.core.api.who(token)
            user, groups = who.name, who.groups
        except SourceError as exc:
            if exc.status == 401:
                raise RefusedError(WRONG) from exc
    return Let(user=user, ends=ends, token=token, groups=groups)


async def by_token(handler: Guarded, token: str) -> Let:
    """Return whom a token lets in: whoever the API says.

    Raises:
        RefusedError: nobody.
    """
    try:
        who = await handler.core.api.who(token)
    except SourceError as exc:
        if exc.status in (401, 403):
            raise RefusedError(WRONG) from exc
        raise RefusedError(NO_API, is_guess=False) from exc
    now = handler.core.now()
    ends = expiry(token)
    return Let(user=who.name, ends=now + LONGEST_S if ends is None else ends, token=token, groups=who.groups)


def expiry(token: str) -> float | None:
    """Return when a token says that it ends; only to be shown: the API decides.

    >>> expiry("a.eyJleHAiOiA2MH0.b"), expiry("opaque")
    (60.0, None)
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        data: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(data["exp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Logout(Page):
    """The way out."""

    async def post(self) -> None:
        """End the session, and have the browser forget it."""
        self.core.sessions.end(self.session, Ended.LOGGED_OUT)
        self.set_header("Set-Cookie", f"{guard.COOKIE}=; {guard.COOKIE_ATTRIBUTES}; Max-Age=0")
        self.set_header("Clear-Site-Data", guard.CLEAR_SITE_DATA)
        self.redirect("/login?why=logged_out", status=303)


class Renew(Page):
    """More time, without leaving the page: because somebody is here, or by another code."""

    async def post(self) -> None:
        """Renew the session."""
        code = self.field("code").strip()
        if code:
            wait_s = self.core.throttle.wait_s()
            if wait_s > 0:
                self.fail(SourceError(TOO_MANY.format(int(wait_s) + 1), status=429))
                return
            try:
                let = await by_code(self, code)
            except RefusedError as exc:
                if exc.is_guess:
                    self.core.throttle.failed(self.client)
                self.fail(SourceError(exc.message, status=400))
                return
            self._take(let)
        self.core.sessions.use(self.session)
        if self.is_live:
            self.set_status(204)
            self.finish()
        else:
            self.redirect(guard.local_path(self.field("next", "/")), status=303)

    def _take(self, let: Let) -> None:
        """Go on with the new token; another person's code begins a session of that person."""
        if let.user == self.session.user:
            self.core.forget(self.session)
            self.session.token, self.session.grant = let.token, let.grant
            self.session.ends, self.session.begun = let.ends, self.core.now()
            return
        self.core.sessions.end(self.session, Ended.LOGGED_OUT)
        cookie, self.session = begin(self, let)
        self.set_header("Set-Cookie", f"{guard.COOKIE}={cookie}; {guard.COOKIE_ATTRIBUTES}")
