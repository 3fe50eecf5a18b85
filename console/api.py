# SPDX-License-Identifier: Apache-2.0
"""Ask kube-apiserver, with the token of the user and nothing else.

Lists come as tables (kubectl's own words and columns) from the API server's memory. A Secret is never asked for.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tornado.httpclient import HTTPError, HTTPResponse
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from console.known import SourceError

LIMIT_S = 2.0
HEALTH_LIMIT_S = 1.0
ANSWER_BYTES = 48 * 1024 * 1024
ASIDE_BYTES = 512 * 1024
"""A longer answer is read in a thread, so that other pages go on."""
CONNECTIONS = 40
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
AS_JSON = "application/json"
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,16000}")
LIST_LIMIT = 500


@dataclass(frozen=True)
class Row:
    """One line of a table: the object's namespace and name, its labels, and the cells by their columns."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    cells: Mapping[str, str]
    created: str = ""

    def cell(self, column: str) -> str:
        """Return a cell; empty where there is no such column."""
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Table:
    """A list of objects as kubectl shows them; ``more`` is what to continue with, empty at the end."""

    rows: tuple[Row, ...]
    more: str = ""
    remaining: int = 0


@dataclass(frozen=True)
class Who:
    """Whom a token belongs to."""

    name: str
    groups: tuple[str, ...]


class Api:
    """The way to kube-apiserver. ``health`` is told of every answer, so that it need not ask by itself."""

    def __init__(
        self, url: str, context: ssl.SSLContext, *, heard: Callable[[], None] = lambda: None
    ) -> None:
        self.url = url
        self._context = context
        self._heard = heard
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=CONNECTIONS, max_body_size=ANSWER_BYTES
        )
        self.asked = 0

    async def livez(self) -> None:
        """Ask whether the API server lives; no token goes with it.

        Raises:
            SourceError: it does not, and why.
        """
        await self._fetch("/livez", limit_s=HEALTH_LIMIT_S)

    async def who(self, token: str) -> Who:
        """Return whom a token belongs to.

        Raises:
            SourceError: to nobody (401), or no answer.
        """
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        found = await self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review, token)
        user = part(found, "status", "userInfo")
        name = str(user.get("username", ""))
        if not name:
            raise SourceError("the API does not say who this is", status=401)
        return Who(name, tuple(map(str, user.get("groups") or ())))

    async def get(self, path: str, token: str, **query: str) -> dict[str, Any]:
        """Return one object, or a list of whole ones.

        Raises:
            SourceError: see the module.
        """
        response = await self._fetch(_with(path, query), token=token)
        return await _json(response)

    async def text(self, path: str, token: str, **query: str) -> str:
        """Return what is no JSON: a log, the checks of readyz. Also an answer of 500 has a text there.

        Raises:
            SourceError: see the module.
        """
        response = await self._fetch(
            _with(path, query), token=token, accept="text/plain,*/*", with_faults=True
        )
        return response.body.decode("utf-8", errors="replace")

    async def table(self, path: str, token: str, **query: str) -> Table:
        """Return a list as a table.

        Raises:
            SourceError: see the module.
        """
        wanted = {"resourceVersion": "0", "limit": str(LIST_LIMIT), **query}
        if "continue" in wanted:
            del wanted["resourceVersion"]
        response = await self._fetch(_with(path, wanted), token=token, accept=AS_TABLE)
        if len(response.body) > ASIDE_BYTES:
            return await asyncio.to_thread(parse_table, response.body)
        return parse_table(response.body)

    async def post(self, path: str, body: Mapping[str, Any], token: str) -> dict[str, Any]:
        """Ask a question that Kubernetes takes as a POST and that changes nothing: the reviews.

        Raises:
            SourceError: see the module.
        """
        return await _json(await self._fetch(path, token=token, body=json.dumps(dict(body))))

    async def _fetch(
        self,
        path: str,
        *,
        token: str = "",
        accept: str = AS_JSON,
        body: str | None = None,
        limit_s: float | None = None,
        with_faults: bool = False,
    ) -> HTTPResponse:
        limit_s = LIMIT_S if limit_s is None else limit_s
        headers = {"Accept": accept, "User-Agent": "caisson-console"}
        if token:
            if not TOKEN.fullmatch(token):
                raise SourceError("this is no token", status=401)
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = AS_JSON
        self.asked += 1
        try:
            response = await self._client.fetch(
                self.url + path,
                raise_error=False,
                method="GET" if body is None else "POST",
                headers=headers,
                body=body,
                ssl_options=self._context,
                connect_timeout=limit_s,
                request_timeout=limit_s,
                follow_redirects=False,
                decompress_response=True,
            )
        except (TimeoutError, HTTPTimeoutError) as exc:
            raise SourceError(f"{self.address}: no answer within {limit_s:g} s") from exc
        except (OSError, HTTPError, ValueError) as exc:
            raise SourceError(f"{self.address}: {_reason(exc)}") from exc
        if response.code == 599:
            raise SourceError(f"{self.address}: {_reason(response.error)}")
        return self._judged(response, with_faults=with_faults)

    def _judged(self, response: HTTPResponse, *, with_faults: bool) -> HTTPResponse:
        if response.code < 500:
            self._heard()
        if response.code < 300 or (with_faults and response.code >= 500):
            return response
        message, rule = _refusal(response)
        status = response.code if response.code in (401, 403, 404, 410, 429) else 503
        raise SourceError(
            f"{self.address}: {message}" if status == 503 else message, status=status, rule=rule
        )

    @property
    def address(self) -> str:
        """Return where the API is asked, without the scheme."""
        return self.url.partition("://")[2]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def trusting(ca_file: str) -> ssl.SSLContext:
    """Return how the API's certificate is checked: by the cluster's authority alone."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _with(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def path_of(kind: str, *, namespace: str = "", name: str = "", below: str = "") -> str:
    """Return the path of a core resource, each part of it quoted.

    >>> path_of("pods", namespace="a", name="b/../c", below="log")
    '/api/v1/namespaces/a/pods/b%2F..%2Fc/log'
    """
    parts = ["/api/v1"]
    parts += [f"namespaces/{quote(namespace, safe='')}"] if namespace else []
    parts += [kind, *([quote(name, safe="")] if name else []), *([below] if below else [])]
    return "/".join(parts)


async def _json(response: HTTPResponse) -> dict[str, Any]:
    body = response.body
    try:
        found = await asyncio.to_thread(json.loads, body) if len(body) > ASIDE_BYTES else json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise SourceError("the API has answered with something that is no JSON") from exc
    if not isinstance(found, dict):
        raise SourceError("the API has answered with something that is no object")
    return found


def parse_table(body: bytes) -> Table:
    """Return the table of an answer; only what is shown of it is kept.

    Raises:
        SourceError: it is none.
    """
    try:
        data = json.loads(body)
        columns = [str(column["name"]) for column in data["columnDefinitions"]]
        rows = tuple(_row(columns, row) for row in data.get("rows") or ())
        meta = data.get("metadata") or {}
        return Table(rows, str(meta.get("continue") or ""), int(meta.get("remainingItemCount") or 0))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise SourceError("the API has answered with something that is no table") from exc


def _row(columns: Sequence[str], row: Mapping[str, Any]) -> Row:
    meta = part(row, "object", "metadata")
    cells = {
        name: "" if cell is None else str(cell)
        for name, cell in zip(columns, row.get("cells") or (), strict=False)
    }
    labels = {str(key): str(value) for key, value in (meta.get("labels") or {}).items()}
    return Row(
        str(meta.get("namespace") or ""),
        str(meta.get("name") or cells.get("Name", "")),
        labels,
        cells,
        str(meta.get("creationTimestamp") or ""),
    )


def part(data: Any, *keys: str) -> dict[str, Any]:
    """Return an object inside of others; an empty one where it is not there, or is no object.

    >>> part({"a": {"b": {"c": 1}}}, "a", "b"), part({"a": []}, "a", "b")
    ({'c': 1}, {})
    """
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def items(data: Any, *keys: str) -> list[dict[str, Any]]:
    """Return the objects of a list inside of others."""
    found = part(data, *keys[:-1]).get(keys[-1])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _refusal(response: HTTPResponse) -> tuple[str, str]:
    """Return what the API says of why not, and the rule of RBAC that would be needed."""
    try:
        data = json.loads(response.body)
        message = str(data["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP {response.code}", ""
    return message, rule_for(message) if response.code == 403 else ""


FORBIDDEN = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)


def rule_for(message: str) -> str:
    """Return the rule that a refusal of the API asks for; empty where it names none.

    >>> rule_for('User "a" cannot list resource "pods" in API group "" at the cluster scope')
    'apiGroups: [""], resources: ["pods"], verbs: ["list"]'
    """
    found = FORBIDDEN.search(message)
    if found is None:
        return ""
    return f'apiGroups: ["{found["group"]}"], resources: ["{found["resource"]}"], verbs: ["{found["verb"]}"]'


def _reason(exc: BaseException | None) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc) or type(exc).__name__


class Health:
    """Whether the API answers: up until two questions in a row got no answer.

    Every answer counts, so that it is asked by itself only when nobody else has asked it for a while.
    """

    heard_s, away_s, doubted_s = 9.0, 3.0, 1.0

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.heard_at: float | None = None
        self.down_since: float | None = None
        self.reason = ""
        self._asking: asyncio.Task[None] | None = None
        self._asked = -1e9

    def heard(self) -> None:
        """Note that it has answered."""
        self.heard_at = self._now()
        self.down_since = None
        self.reason = ""

    @property
    def is_down(self) -> bool:
        """Say whether it does not answer."""
        return self.down_since is not None

    async def look(self, ask: Callable[[], Awaitable[None]], *, is_doubted: bool = False) -> None:
        """Ask, unless it has answered or was asked a moment ago; who comes meanwhile waits for the same question.

        ``is_doubted``: another question got no answer just now, which is the first of the two.
        """
        if self._asking is None:
            if is_doubted:
                last, limit_s = self._asked, self.doubted_s
            elif self.is_down:
                last, limit_s = self._asked, self.away_s
            else:
                last, limit_s = max(self._asked, self.heard_at or -1e9), self.heard_s
            if self._now() - last < limit_s:
                return
            self._asked = self._now()
            self._asking = asyncio.create_task(self._ask(ask, 1 if is_doubted or self.is_down else 2))
        await asyncio.shield(self._asking)

    async def _ask(self, ask: Callable[[], Awaitable[None]], times: int) -> None:
        try:
            for _ in range(times):
                try:
                    await ask()
                except SourceError as exc:
                    self.reason = exc.message
                else:
                    self.heard()
                    return
            if self.down_since is None:
                self.down_since = self.heard_at if self.heard_at is not None else self._now()
        finally:
            self._asking = None
