# SPDX-License-Identifier: Apache-2.0
"""Serve: TLS, the limits of connections and sizes, and which address is which page."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler

from console.core import Core
from console.pages import live, login, look, remove, work
from console.pages.base import Health, NotFound, Static

CONNECTIONS = 200
HEADER_BYTES, BODY_BYTES = 16 * 1024, 64 * 1024
BODY_S, IDLE_S = 10, 60
LOG = logging.getLogger("console")


class Server(HTTPServer):
    """A server that takes no more than so many connections at once."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Count from nothing."""
        super().initialize(*args, **kwargs)
        self.open = 0

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Take a connection, or close it at once."""
        if self.open >= CONNECTIONS:
            stream.close()
            return
        self.open += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        """Count what has gone."""
        self.open -= 1
        super().on_close(server_conn)


def application(core: Core) -> Application:
    """Return which address is which page."""
    routes: list[tuple[str, type[RequestHandler]]] = [
        (r"/", look.Overview),
        (r"/login", login.Login),
        (r"/logout", login.Logout),
        (r"/session/renew", login.Renew),
        (r"/nodes", look.Nodes),
        (r"/nodes/([^/]+)", look.Node),
        (r"/pods", look.Pods),
        (r"/pods/([^/]+)/([^/]+)", look.Pod),
        (r"/events", look.Events),
        (r"/control-plane", look.ControlPlane),
        (r"/certificates", look.Certificates),
        (r"/nodes/([^/]+)/remove", remove.RemoveNode),
        (r"/media", look.Media),
        (r"/journal", look.Journal),
        (r"/access", look.Access),
        (r"/hosts", work.Hosts),
        (r"/hosts/add", work.HostAdd),
        (r"/hosts/look", work.HostLook),
        (r"/hosts/join", work.HostJoin),
        (r"/hosts/add/([^/]+)", work.HostLooked),
        (r"/jobs", work.Jobs),
        (r"/jobs/([^/]+)", work.Job),
        (r"/jobs/([^/]+)/again", work.Again),
        (r"/jobs/([^/]+)/cancel", work.Cancel),
        (r"/jobs/([^/]+)/stream", live.Stream),
        (r"/jobs/([^/]+)/log", live.LogFile),
        (r"/jobs/([^/]+)/archive", live.Archive),
        (r"/report", work.Report),
        (r"/static/([0-9a-f]+)/([a-z0-9.-]+)", Static),
        (r"/healthz", Health),
    ]
    return Application(
        [(pattern, handler, {"core": core}) for pattern, handler in routes],
        default_handler_class=NotFound,
        default_handler_args={"core": core},
        log_function=_log,
        serve_traceback=False,
    )


def server(core: Core, context: ssl.SSLContext) -> Server:
    """Return a server that listens nowhere yet."""
    return Server(
        application(core),
        ssl_options=context,
        max_header_size=HEADER_BYTES,
        max_body_size=BODY_BYTES,
        body_timeout=BODY_S,
        idle_connection_timeout=IDLE_S,
    )


def tls_context(core: Core) -> ssl.SSLContext:
    """Return how the console shows who it is.

    Raises:
        OSError: certificate or key cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(core.settings.certificate_file, core.settings.key_file)
    return context


def _log(handler: RequestHandler) -> None:
    """Log what has failed; addresses without what was typed, and no one's name."""
    status = handler.get_status()
    if status >= 500:
        LOG.error("%d %s %s", status, handler.request.method, handler.request.path)
