# SPDX-License-Identifier: Apache-2.0
"""Ask for one person: each source with what it needs, no oftener than a page may, and never when it cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from console import api, rights, text
from console.api import Api, Health, Table
from console.door import Door
from console.known import API, DOOR, Cache, Known, SourceError, nothing
from console.rights import Act, Rights
from console.sessions import Session

T = TypeVar("T")
DOOR_S, RIGHTS_S = 2.0, 60.0
HALF_S = 1.0
"""So long an answer is waited for before it is asked whether the API lives, and then once more."""
NODES_S, LEASES_S, PODS_S, EVENTS_S, LOG_S = 3.0, 9.0, 4.5, 14.0, 2.5
NODE_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LOG_LINES = 300


@dataclass(kw_only=True)
class Sources:
    """What one person is shown comes through here."""

    session: Session
    cache: Cache
    api: Api
    door: Door
    health: Health
    rights: Known[Rights]

    # ---- the door ------------------------------------------------------------------------------------------

    async def _of_door(
        self, act: Act, verb: str, fresh_s: float = DOOR_S, **arguments: Any
    ) -> Known[dict[str, Any]]:
        refused = self.refusal(act, DOOR)
        if refused is not None:
            return refused
        key = ("door", verb, *sorted(arguments.items()))
        return await self.cache.get(key, DOOR, lambda: self.door.call(verb, arguments), fresh_s=fresh_s)

    def refusal(self, act: Act, source: str) -> Known[Any] | None:
        """Return why an act is refused; None where it is not."""
        if self.rights.value is not None and self.rights.value.may(act):
            return None
        if self.rights.value is None:
            why = self.rights.fault.message if self.rights.fault else "no answer yet"
            return nothing(source, f"it is not known what you may do: {why}")
        return nothing(source, f"you may not {act.title}", status=403, rule=act.rule)

    def may(self, act: Act) -> bool:
        """Say whether the person may."""
        return self.rights.value is not None and self.rights.value.may(act)

    async def status(self) -> Known[dict[str, Any]]:
        """Return what ``caisson status --json`` says, and what the host knows of itself."""
        return await self._of_door(rights.SEE_HOST, "status")

    async def certificates(self) -> Known[dict[str, Any]]:
        """Return all certificates of this host."""
        return await self._of_door(rights.SEE_CERTIFICATES, "certificates", fresh_s=30.0)

    async def media(self) -> Known[dict[str, Any]]:
        """Return the ISOs."""
        return await self._of_door(rights.SEE_MEDIA, "media", fresh_s=10.0)

    async def images(self) -> Known[dict[str, Any]]:
        """Return the images."""
        return await self._of_door(rights.SEE_IMAGES, "images", fresh_s=30.0)

    async def journal(self, limit: int = 200) -> Known[dict[str, Any]]:
        """Return the last entries of the journal and of the console's own log."""
        return await self._of_door(rights.SEE_JOURNAL, "journal", limit=limit)

    async def jobs(self) -> Known[dict[str, Any]]:
        """Return all jobs."""
        return await self._of_door(rights.SEE_JOBS, "jobs")

    async def job(self, job_id: str) -> Known[dict[str, Any]]:
        """Return one job."""
        return await self._of_door(rights.SEE_JOBS, "job", fresh_s=0.5, id=job_id)

    # ---- kube-apiserver --------------------------------------------------------------------------------------

    async def _of_api(self, name: str, ask: Callable[[str], Awaitable[T]], *, fresh_s: float) -> Known[T]:
        if self.session.is_local:
            return nothing(API, "this session has no token: it was begun while the API did not answer")
        key = (self.session.digest, name)
        if self.health.is_down:
            return self._as_of_then(key)
        token = self.session.token

        async def once() -> Known[T]:
            return await self.cache.get(key, API, lambda: ask(token), fresh_s=fresh_s, wait_s=HALF_S)

        known = await once()
        if known.at is not None and not known.is_silent:
            return known
        return await once() if await self._answers(is_doubted=known.is_silent) else self._as_of_then(key)

    async def _answers(self, *, is_doubted: bool) -> bool:
        """Return whether the API answers, after a look where that is in doubt."""
        if is_doubted:
            await self.health.look(self.api.livez, is_doubted=True)
        return not self.health.is_down

    def _as_of_then(self, key: tuple[str, str]) -> Known[Any]:
        since = text.clock(self.health.down_since)
        fault = SourceError(f"no answer since {since} UTC: {self.health.reason}")
        return replace(self.cache.peek(key, API), fault=fault)

    async def table(self, path: str, *, fresh_s: float, **query: str) -> Known[Table]:
        """Return a list as a table."""
        name = f"{path}?{sorted(query.items())}"
        return await self._of_api(name, lambda token: self.api.table(path, token, **query), fresh_s=fresh_s)

    async def one(self, path: str, *, fresh_s: float, **query: str) -> Known[dict[str, Any]]:
        """Return one object, or a list of whole ones."""
        name = f"{path}?{sorted(query.items())}&whole"
        return await self._of_api(name, lambda token: self.api.get(path, token, **query), fresh_s=fresh_s)

    async def words(self, path: str, *, fresh_s: float, **query: str) -> Known[str]:
        """Return what is no JSON."""
        name = f"{path}?{sorted(query.items())}&text"
        return await self._of_api(name, lambda token: self.api.text(path, token, **query), fresh_s=fresh_s)

    async def nodes(self) -> Known[Table]:
        """Return all nodes."""
        return await self.table(api.path_of("nodes"), fresh_s=NODES_S)

    async def leases(self) -> Known[dict[str, Any]]:
        """Return when each kubelet was heard last."""
        return await self.one(NODE_LEASES, fresh_s=LEASES_S, resourceVersion="0")

    async def pods(self, namespace: str = "", more: str = "", node: str = "") -> Known[Table]:
        """Return pods: all, or those of a namespace or of a node."""
        query = {"continue": more} if more else {}
        if node:
            query["fieldSelector"] = f"spec.nodeName={node}"
        return await self.table(api.path_of("pods", namespace=namespace), fresh_s=PODS_S, **query)

    async def events(self, namespace: str = "", about: str = "") -> Known[Table]:
        """Return events: all, or those of a namespace or of one object."""
        query = {"fieldSelector": f"involvedObject.name={about}"} if about else {}
        return await self.table(api.path_of("events", namespace=namespace), fresh_s=EVENTS_S, **query)
