# SPDX-License-Identifier: Apache-2.0
"""Let a request in or turn it away, and give each page what all pages have."""

from __future__ import annotations

import http
import logging
from typing import Any
from urllib.parse import quote

from tornado.web import HTTPError, RequestHandler

from console import guard
from console.core import Core
from console.known import Known, SourceError
from console.render import STATIC_TYPES
from console.sessions import WARN_S, Ended, Session
from console.sources import Sources

LOG = logging.getLogger("console")
LIVE_HEADER = "X-Caisson-Live"
NAVIGATION = (
    ("/", "Overview"),
    ("/nodes", "Nodes"),
    ("/hosts", "Hosts"),
    ("/jobs", "Jobs"),
    ("/pods", "Pods"),
    ("/events", "Events"),
    ("/control-plane", "Control plane"),
    ("/certificates", "Certificates"),
    ("/media", "Media and images"),
    ("/journal", "Journal"),
    ("/report", "Report"),
    ("/access", "Access"),
)


class Guarded(RequestHandler):
    """A request that has passed the guard; whose session it is, is not asked yet."""

    core: Core

    def initialize(self, core: Core) -> None:
        """Take what all requests share."""
        self.core = core

    def set_default_headers(self) -> None:
        """Set the headers that every answer has, errors too."""
        self.clear_header("Server")
        for name, value in guard.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", guard.NO_STORE)

    def refuse(self, refused: guard.Refused | None) -> None:
        """Turn a request away, if there is a reason."""
        if refused is not None:
            raise HTTPError(
                refused.status, "%s", refused.reason, reason=http.HTTPStatus(refused.status).phrase
            )

    async def prepare(self) -> None:
        """Look at the request before anything is done for it."""
        self.core.last_used = self.core.now()
        headers = self.request.headers
        self.refuse(
            guard.host_refused(self.request.host, names=self.core.settings.names, port=self.core.port)
        )
        if self.request.method in guard.SAFE_METHODS:
            self.refuse(guard.get_refused(headers))
        else:
            self.refuse(guard.post_refused(headers, self.request.host))

    @property
    def client(self) -> str:
        """Return the address of the browser, as the kernel has it: no header is believed."""
        return str(self.request.remote_ip)

    @property
    def is_live(self) -> bool:
        """Say whether the page asks by itself, for what is new: nobody has done anything."""
        return LIVE_HEADER in self.request.headers

    def field(self, name: str, default: str = "") -> str:
        """Return one field of a form or of the address; the first, if there are several."""
        found = self.request.arguments.get(name)
        if not found:
            return default
        return found[0].decode("utf-8", errors="replace").replace("\0", "")

    def page(self, template: str, **context: Any) -> None:
        """Write a page."""
        everywhere: dict[str, Any] = {
            "core": self.core,
            "settings": self.core.settings,
            "static": f"/static/{self.core.static_digest}",
            "now": self.core.now(),
            "path": self.request.path,
            "session": None,
            "remaining_s": None,
            "is_ending": False,
            "health": self.core.health,
            "navigation": NAVIGATION,
            "every_s": 0,
            "reload_s": 0,
            "here": self.request.uri or "/",
        }
        self.set_header("Content-Type", "text/html; charset=utf-8")
        made = self.core.environment.get_template(template)
        self.finish(made.render({**everywhere, **context}).encode("utf-8", errors="replace"))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write what went wrong as a page; nothing of the inside is on it."""
        exc = kwargs.get("exc_info", (None, None, None))[1]
        reason = (exc.log_message or "") % exc.args if isinstance(exc, HTTPError) and exc.log_message else ""
        if status_code == 404 and not reason:
            reason = "there is no such page"
        title = http.HTTPStatus(status_code).phrase if status_code in set(http.HTTPStatus) else "Error"
        self.page(
            "error.html",
            title=title,
            status=status_code,
            reason=reason or "the console has failed here; its log has more: journalctl -u caisson-console",
            command="",
            rule="",
        )

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what nobody has foreseen; what was refused is the browser's to know."""
        if not isinstance(value, HTTPError):
            LOG.error("%s %s", self.request.method, self.request.path, exc_info=(typ, value, tb))


class Page(Guarded):
    """A page of somebody who is logged in."""

    session: Session

    async def prepare(self) -> None:
        """Let in who has a session; all others go to the log-in, and come back from there."""
        await super().prepare()
        if self._finished:
            return
        session, why = self.core.sessions.find(self.get_cookie(guard.COOKIE), self.client)
        if session is None:
            self._to_login(why)
            return
        self.session = session
        if self.request.method not in guard.SAFE_METHODS:
            self.refuse(guard.token_refused(self.field("csrf"), session.csrf))
        if not self.is_live:
            self.core.sessions.use(session)

    def _to_login(self, why: Ended | None) -> None:
        if why is None and self.request.method == "GET" and guard.is_foreign_link(self.request.headers):
            self.page("bounce.html", title="One moment")
            return
        reason = f"&why={why.name.lower()}" if why is not None else ""
        if self.is_live:
            self.set_status(401)
            self.finish()
            return
        self.redirect(f"/login?next={quote(self.way_back(), safe='')}{reason}", status=303)

    def way_back(self) -> str:
        """Return where to come back to after a log-in."""
        return (self.request.uri or "/") if self.request.method == "GET" else "/"

    async def sources(self) -> Sources:
        """Return the sources of this person."""
        return await self.core.sources_for(self.session)

    def show(self, template: str, sources: Sources, **context: Any) -> None:
        """Write a page for the person, unless the cluster has said meanwhile that it knows the token no more."""
        if self.is_revoked(sources.rights):
            return
        remaining_s = max(0.0, self.session.last_moment - self.core.now())
        self.page(
            template,
            session=self.session,
            remaining_s=remaining_s,
            is_ending=remaining_s <= WARN_S,
            sources=sources,
            csrf=self.session.csrf,
            **context,
        )

    def is_revoked(self, *found: Known[Any]) -> bool:
        """End the session if a source has refused its token; say whether it was so."""
        if self._finished:
            return True
        if any(known.fault is not None and known.fault.status == 401 for known in found):
            self.core.sessions.end(self.session, Ended.REVOKED)
            self._to_login(Ended.REVOKED)
            return True
        return False

    def fail(self, error: SourceError) -> None:
        """Write why something was refused, with the rule that is missing or what to do."""
        status = error.status if 400 <= error.status < 600 else 503
        if status == 401:
            self.core.sessions.end(self.session, Ended.REVOKED)
            self._to_login(Ended.REVOKED)
            return
        self.set_status(status)
        self.page(
            "error.html",
            title="Not done",
            status=status,
            reason=error.message,
            rule=error.rule,
            command=error.resolution,
            session=self.session,
            csrf=self.session.csrf,
            remaining_s=self.session.last_moment - self.core.now(),
        )


class NotFound(Guarded):
    """Every other address."""

    async def prepare(self) -> None:
        """Turn it away, after the guard had a look."""
        await super().prepare()
        raise HTTPError(404, "%s", "there is no such page")


class Static(RequestHandler):
    """Style, script and pictures: under the digest of their content they never change."""

    def initialize(self, core: Core) -> None:
        """Take the files."""
        self.core = core

    def set_default_headers(self) -> None:
        """Set the same headers as everywhere."""
        self.clear_header("Server")
        for name, value in guard.HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", guard.NO_STORE)

    def get(self, digest: str, name: str) -> None:
        """Write one file."""
        content = self.core.static.get(name) if digest == self.core.static_digest else None
        if content is None:
            self.set_status(404)
            self.finish()
            return
        self.set_header("Content-Type", STATIC_TYPES["." + name.rpartition(".")[2]])
        self.set_header("Cache-Control", guard.FOREVER)
        self.finish(content)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write nothing but the number."""
        del status_code, kwargs
        self.finish()


class Health(Guarded):
    """Whether the console itself is at work: for whoever waits for it."""

    def get(self) -> None:
        """Write one word."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("ok\n")
