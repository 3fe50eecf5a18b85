# SPDX-License-Identifier: Apache-2.0
"""Speak a registry's protocol: with nginx to push, with the registry itself to list, read and delete.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from installer.base.errors import HostError
from installer.operations import containers
from installer.operations.endpoints import client_context

TIMEOUT_S = 960.0
"""A layer is read once more before it is answered for: longer than nginx waits for that."""
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
PAGE = 200


@dataclass(frozen=True)
class Reply:
    """What a registry answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """What it said is wrong, as it said it."""
        try:
            errors = json.loads(self.body)["errors"]
            return "; ".join(f"{entry['code']}: {entry.get('message', '')}" for entry in errors)
        except (ValueError, KeyError, TypeError):
            return self.body.decode(errors="replace").strip()[:300]


class Registry:
    """A connection to one, with a login; requests follow each other on it."""

    def __init__(self, host: str, port: int, login: tuple[str, str], *, ca_file: Path | None = None) -> None:
        """``ca_file``: the authority of its certificate; none on loopback, where it speaks plain HTTP."""
        self.place = f"{host}:{port}"
        pair = base64.b64encode(":".join(login).encode()).decode()
        self._headers = {"Authorization": f"Basic {pair}", "Accept": ", ".join(MANIFEST_TYPES)}
        self._connection: http.client.HTTPConnection
        if ca_file is None:
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        else:
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=client_context(ca_file)
            )

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | BinaryIO | None = None,
        size_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask once and return what is answered, whatever it is.

        Raises:
            HostError: nobody answers.
        """
        more = {"Content-Length": str(size_bytes)} if size_bytes is not None else {}
        try:
            try:
                self._connection.request(
                    method, path, body=body, headers={**self._headers, **more, **dict(headers or {})}
                )
            except (BrokenPipeError, ConnectionResetError):
                # It has answered before it took all: what it says is the reason.
                if self._connection.sock is None:
                    raise
            answer = self._connection.getresponse()
            return Reply(answer.status, dict(answer.headers.items()), answer.read())
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise HostError(
                f"the registry at {self.place} does not answer",
                details=f"{method} {path.partition('?')[0]}: {str(exc) or type(exc).__name__}",
                resolution=f"see 'caisson status', and: {containers.log('nginx')}; {containers.log('registry')}",
            ) from exc

    def get(self, method: str, path: str, *wanted: int, **more: Any) -> Reply:
        """Ask and return an answer with one of the codes that are wanted.

        Raises:
            HostError: it answers another.
        """
        reply = self.ask(method, path, **more)
        if reply.status in wanted:
            return reply
        raise refused(self.place, reply)

    def names(self) -> Iterator[str]:
        """Yield the names under which something is stored, or was."""
        return self._listed(f"/v2/_catalog?n={PAGE}", "repositories")

    def tags(self, name: str) -> Iterator[str]:
        """Yield the tags of a name; none where all were removed."""
        return self._listed(f"/v2/{name}/tags/list?n={PAGE}", "tags")

    def _listed(self, path: str, key: str) -> Iterator[str]:
        while path:
            reply = self.get("GET", path, 200, 404)
            if reply.status == 404:
                return
            yield from json.loads(reply.body).get(key) or ()
            found = re.search(r"<([^>]*)>;\s*rel=\"?next", reply.headers.get("Link", ""))
            parts = urllib.parse.urlsplit(found.group(1)) if found else None
            path = f"{parts.path}?{parts.query}" if parts is not None else ""

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def refused(place: str, reply: Reply) -> HostError:
    """Return the error of a registry that says no."""
    fixes = {
        401: "give pushes a new password: caisson images login --rotate",
        403: "push it under another name or tag, or from the bootstrap node, as it says",
        503: "wait until 'caisson images remove' has ended, then run it again; if none runs: caisson bootstrap",
    }
    return HostError(
        f"the registry at {place} refuses it: HTTP {reply.status}",
        details=reply.words,
        resolution=fixes.get(reply.status, f"see: {containers.log('registry')}"),
    )
