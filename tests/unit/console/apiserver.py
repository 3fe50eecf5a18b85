# SPDX-License-Identifier: Apache-2.0
"""A small real HTTPS server that answers as kube-apiserver does, in the shapes that kubectl gets."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.console.world import NIGHT, User, World, at

HELD_S = 120.0
NODE_COLUMNS = (
    "Name",
    "Status",
    "Roles",
    "Age",
    "Version",
    "Internal-IP",
    "External-IP",
    "OS-Image",
    "Kernel-Version",
    "Container-Runtime",
)
POD_COLUMNS = (
    "Name",
    "Ready",
    "Status",
    "Restarts",
    "Age",
    "IP",
    "Node",
    "Nominated Node",
    "Readiness Gates",
)
EVENT_COLUMNS = (
    "Last Seen",
    "Type",
    "Reason",
    "Object",
    "Subobject",
    "Source",
    "Message",
    "First Seen",
    "Count",
    "Name",
)


class ApiServer:
    """The server; ``stop`` and ``start`` take it away and bring it back at the same port."""

    def __init__(self, world: World, certificate: tuple[Path, Path]) -> None:
        self.world = world
        self._certificate = certificate
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Begin to answer."""
        world = self.world

        class Handler(_Handler):
            pass

        Handler.world = world
        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        server.allow_reuse_address = True
        server.daemon_threads = True
        server.server_bind()
        server.server_activate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Answer no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    world: World
    timeout = 10

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Answer; who has gone has gone."""
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a review."""
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = parts.path
        self.world.asked_api.append(f"{self.command} {self.path}")
        if self.world.drops > 0:
            self.world.drops -= 1
            self.close_connection = True
            return
        if "api" in self.world.held:
            self.world.released.wait(HELD_S)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/livez":
            self._send(200, b"ok", "text/plain")
            return
        user = self.world.users.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if user is None:
            self._status(401, "Unauthorized")
            return
        if path.endswith("selfsubjectreviews"):
            self._json(201, {"status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}})
        elif path.endswith("selfsubjectrulesreviews"):
            assert json.loads(body)["spec"]["namespace"] == "-"
            self._json(
                201, {"status": {"resourceRules": user.rules, "nonResourceRules": [], "incomplete": True}}
            )
        elif path == "/readyz":
            is_good = "[-]" not in self.world.readyz
            self._send(200 if is_good else 500, self.world.readyz.encode(), "text/plain")
        else:
            self._resource(path, query, user)

    def _resource(self, path: str, query: dict[str, str], user: User) -> None:
        pieces = [unquote(piece) for piece in path.strip("/").split("/")]
        if pieces[:2] == ["api", "v1"]:
            pieces = pieces[2:]
        elif pieces[0] == "apis":
            pieces = pieces[3:]
        namespace = ""
        if pieces[0] == "namespaces":
            namespace, pieces = pieces[1], pieces[2:]
        kind, name, below = (*pieces, "", "")[:3]
        resource = f"{kind}/{below}" if below else kind
        if not _may(user, resource, namespace):
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            verb = "get" if name else "list"
            self._status(
                403,
                f'{kind} is forbidden: User "{user.name}" cannot {verb} resource "{resource}" in API group "" {where}',
            )
            return
        if kind == "leases":
            self._leases(name)
        elif below == "log":
            self._send(200, self.world.logs.get(f"{namespace}/{name}", "").encode(), "text/plain")
        elif name:
            self._one(kind, namespace, name)
        else:
            self._table(kind, namespace, query)

    def _leases(self, name: str) -> None:
        found = [
            {"metadata": {"name": node}, "spec": {"renewTime": at_micro(moment), "holderIdentity": node}}
            for node, moment in self.world.leases.items()
            if name in ("", node)
        ]
        if name and not found:
            self._status(404, f'leases "{name}" not found')
        else:
            self._json(200, found[0] if name else {"items": found})

    def _one(self, kind: str, namespace: str, name: str) -> None:
        for one in {"nodes": self.world.nodes, "pods": self.world.pods}.get(kind, []):
            meta = one["metadata"]
            if meta["name"] == name and meta.get("namespace", "") == namespace:
                self._json(200, {key: value for key, value in one.items() if key not in ("word", "words")})
                return
        self._status(404, f'{kind} "{name}" not found')

    def _table(self, kind: str, namespace: str, query: dict[str, str]) -> None:
        field, _, wanted = query.get("fieldSelector", "").partition("=")
        if kind == "nodes":
            columns: tuple[str, ...] = NODE_COLUMNS
            rows = [(one, _node_words(one)) for one in self.world.nodes]
        elif kind == "pods":
            columns = POD_COLUMNS
            rows = [
                (one, one["words"])
                for one in self.world.pods
                if field != "spec.nodeName" or one["spec"]["nodeName"] == wanted
            ]
        else:
            columns = EVENT_COLUMNS
            rows = [
                (one, one["words"])
                for one in self.world.events
                if field != "involvedObject.name" or one["about"] == wanted
            ]
        data = {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "4711"},
            "columnDefinitions": [
                {"name": name, "type": "string", "format": "", "description": "", "priority": 0}
                for name in columns
            ],
            "rows": [
                {
                    "cells": words,
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": one["metadata"],
                    },
                }
                for one, words in rows
                if namespace in ("", one["metadata"].get("namespace", ""))
            ],
        }
        self._json(200, data)

    def _status(self, code: int, message: str) -> None:
        self._json(
            code,
            {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code},
        )

    def _json(self, code: int, data: dict[str, Any]) -> None:
        self._send(code, json.dumps(data).encode(), "application/json")

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _may(user: User, resource: str, namespace: str) -> bool:
    if user.namespace and namespace == user.namespace:
        return True
    if resource == "leases":
        return bool(user.rules)
    return any(
        ("*" in rule["resources"] or resource in rule["resources"])
        and ("*" in rule["apiGroups"] or "" in rule["apiGroups"])
        for rule in user.rules
    )


def _node_words(one: dict[str, Any]) -> list[str]:
    info, address = one["status"]["nodeInfo"], one["status"]["addresses"][0]["address"]
    roles = (
        "control-plane" if "node-role.kubernetes.io/control-plane" in one["metadata"]["labels"] else "<none>"
    )
    return [
        one["metadata"]["name"],
        one["word"],
        roles,
        "10d",
        info["kubeletVersion"],
        address,
        "<none>",
        info["osImage"],
        info["kernelVersion"],
        info["containerRuntimeVersion"],
    ]


def at_micro(moment: float) -> str:
    """Return a time as a Lease has it."""
    return at(NIGHT - moment)[:-1] + ".000000Z"
