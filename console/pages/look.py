# SPDX-License-Identifier: Apache-2.0
"""The pages on which things are looked at: nothing is changed by any of them."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

from tornado.web import HTTPError

from console import api, rights
from console.pages.base import Page
from console.sources import LOG_LINES, LOG_S, NODE_LEASES, NODES_S, PODS_S
from console.views import (
    access,
    base,
    certificates,
    controlplane,
    events,
    faults,
    jobs,
    journal,
    media,
    nodes,
    overview,
    pods,
)

NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.:]{0,251}[A-Za-z0-9])?")
OVERVIEW_S, NODES_EVERY_S, LIVE_S, SLOW_S = 8, 6, 5, 30
FAILURES_S = 3600.0


def checked_name(quoted: str) -> str:
    """Return a name of Kubernetes' from an address.

    Raises:
        HTTPError: it can be none.
    """
    name = unquote(quoted)
    if not NAME.fullmatch(name):
        raise HTTPError(404, "%s", "nothing in Kubernetes can be called so")
    return name


class Overview(Page):
    """The first page."""

    async def get(self) -> None:
        """Ask all sources at once, and write how it stands."""
        sources = await self.sources()
        of_host = asyncio.gather(sources.status(), sources.certificates(), sources.jobs())
        of_api = asyncio.gather(sources.nodes(), sources.leases(), sources.pods(), sources.events())
        status, ends, found_jobs = await of_host
        found_nodes, leases, found_pods, found_events = await of_api
        if self.is_revoked(found_nodes, found_pods):
            return
        now = self.core.now()
        facts = faults.Facts(
            now=now,
            health=self.core.health,
            status=status,
            certificates=ends,
            jobs=found_jobs,
            nodes=nodes.nodes_of(found_nodes, leases, now),
            pods=found_pods,
            api_address=self.core.api.address,
        )
        view = overview.view(facts, found_nodes, leases, found_events, self.core.throttle.since(FAILURES_S))
        every_s = LIVE_S if self.core.health.is_down else OVERVIEW_S
        self.show("overview.html", sources, title="Overview", every_s=every_s, reload_s=30, **view)


class Nodes(Page):
    """All nodes."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        found, leases = await asyncio.gather(sources.nodes(), sources.leases())
        if self.is_revoked(found):
            return
        view = nodes.list_view(found, leases, self.core.now())
        self.show("nodes.html", sources, title="Nodes", every_s=NODES_EVERY_S, reload_s=15, **view)


class Node(Page):
    """One node."""

    async def get(self, quoted: str) -> None:
        """Write it."""
        name = checked_name(quoted)
        sources = await self.sources()
        found, lease, status, found_pods, found_events, found_jobs = await asyncio.gather(
            sources.one(api.path_of("nodes", name=name), fresh_s=NODES_S * 2),
            sources.one(f"{NODE_LEASES}/{name}", fresh_s=NODES_S * 2),
            sources.status(),
            sources.pods(node=name),
            sources.events(about=name),
            sources.jobs(),
        )
        if self.is_revoked(found):
            return
        now = self.core.now()
        if found.fault is not None and found.fault.status == 404:
            self.set_status(404)
        view = nodes.one_view(name, found, lease, status, now)
        self.show(
            "node.html",
            sources,
            title=f"Node {name}",
            every_s=10,
            reload_s=15,
            pods=pods.list_view(found_pods, pods.Filter(), now),
            events=events.list_view(found_events, namespace="", wanted="", only_warnings=False, now=now),
            jobs=[job for job in jobs.jobs_of(found_jobs) if name in job.about.split(", ")][:10],
            job_source=base.door_source(found_jobs, now),
            remove=jobs.button(sources, rights.REMOVE_NODE, f"Remove {name}", "remove"),
            **view,
        )


class Pods(Page):
    """All pods, or those of a namespace."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        namespace = self.field("namespace")[:63]
        if namespace:
            checked_name(namespace)
        page = self.field("page", "1")
        wanted = pods.Filter(
            namespace=namespace,
            text=self.field("text")[:100],
            node=self.field("node")[:253],
            only_unwell=self.field("unwell") == "1",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
        )
        found = await sources.pods(namespace, self.field("more")[:2000])
        if not namespace and found.is_refused and self.session.namespace:
            self.redirect(f"/pods?namespace={self.session.namespace}", status=303)
            return
        if self.is_revoked(found):
            return
        if namespace and found.value is not None:
            self.session.namespace = namespace
        view = pods.list_view(found, wanted, self.core.now())
        self.show("pods.html", sources, title="Pods", every_s=LIVE_S, reload_s=15, **view)


class Pod(Page):
    """One pod, with the end of a log."""

    async def get(self, quoted_namespace: str, quoted_name: str) -> None:
        """Write it."""
        namespace, name = checked_name(quoted_namespace), checked_name(quoted_name)
        sources = await self.sources()
        found, found_events = await asyncio.gather(
            sources.one(api.path_of("pods", namespace=namespace, name=name), fresh_s=PODS_S),
            sources.events(namespace, name),
        )
        if self.is_revoked(found):
            return
        now = self.core.now()
        view = pods.one_view(found, now)
        names = view["container_names"]
        container = self.field("container")
        container = container if container in names else (names[-1] if names else "")
        is_previous = self.field("previous") == "1"
        query = {"container": container, "tailLines": str(LOG_LINES), "timestamps": "true"}
        if is_previous:
            query["previous"] = "true"
        path = api.path_of("pods", namespace=namespace, name=name, below="log")
        log = await sources.words(path, fresh_s=LOG_S, **query) if container else None
        if found.fault is not None and found.fault.status == 404:
            self.set_status(404)
        self.show(
            "pod.html",
            sources,
            title=f"Pod {namespace}/{name}",
            every_s=LIVE_S,
            reload_s=10,
            namespace=namespace,
            name=name,
            container=container,
            is_previous=is_previous,
            lines=[] if log is None else pods.log_lines(log),
            log_source=None if log is None else base.api_source(log, now),
            events=events.list_view(
                found_events, namespace=namespace, wanted="", only_warnings=False, now=now
            ),
            **view,
        )


class Events(Page):
    """All events, or those of a namespace."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        namespace = self.field("namespace")[:63]
        if namespace:
            checked_name(namespace)
        found = await sources.events(namespace)
        if not namespace and found.is_refused and self.session.namespace:
            self.redirect(f"/events?namespace={self.session.namespace}", status=303)
            return
        if self.is_revoked(found):
            return
        view = events.list_view(
            found,
            namespace=namespace,
            wanted=self.field("text")[:100],
            only_warnings=self.field("warnings") == "1",
            now=self.core.now(),
        )
        self.show("events.html", sources, title="Events", every_s=15, reload_s=30, **view)


class ControlPlane(Page):
    """The control plane of this host."""

    async def get(self) -> None:
        """Write it."""
        sources = await self.sources()
        status, ready = await asyncio.gather(
            sources.status(), sources.words("/readyz", fresh_s=NODES_S, verbose="true")
        )
        if self.is_revoked(ready):
            return
        view = controlplane.view(status, ready, self.core.now())
        self.show("control-plane.html", sources, title="Control plane", every_s=LIVE_S, reload_s=15, **view)


class Certificates(Page):
    """All certificates."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        view = certificates.list_view(await sources.certificates(), self.core.now())
        self.show("certificates.html", sources, title="Certificates", every_s=SLOW_S, **view)


class Media(Page):
    """ISOs and images."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        found, images = await asyncio.gather(sources.media(), sources.images())
        view = media.view(found, images, self.field("text")[:100], self.core.now())
        self.show("media.html", sources, title="Media and images", every_s=SLOW_S, **view)


class Journal(Page):
    """What was done."""

    async def get(self) -> None:
        """Write it."""
        sources = await self.sources()
        view = journal.view(await sources.journal(), self.core.now())
        self.show("journal.html", sources, title="Journal", every_s=15, **view)


class Access(Page):
    """Who one is, and what one may do."""

    async def get(self) -> None:
        """Write it."""
        sources = await self.sources()
        view = access.view(sources, self.core.now())
        self.show("access.html", sources, title="Access", every_s=SLOW_S, **view)
