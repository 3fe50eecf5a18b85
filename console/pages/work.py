# SPDX-License-Identifier: Apache-2.0
"""The pages on which jobs are seen, started, cancelled: the door decides and does, here it is asked."""

from __future__ import annotations

import re
import secrets
from typing import Any
from urllib.parse import quote

from tornado.web import HTTPError

from console import rights
from console.joblog import UNREAD, collect
from console.known import Known, SourceError
from console.pages.base import Page
from console.views import base, hosts, jobs
from console.views.hosts import Faults, Typed

JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z]+(?:-[a-z]+)*-[0-9a-f]{6}")
KEY = re.compile(r"[A-Za-z0-9_-]{16,128}")
ACT_S = 30.0


def new_key() -> str:
    """Return what makes a form one: sent twice it starts one job."""
    return secrets.token_urlsafe(18)


def checked_id(job_id: str) -> str:
    """Return the ID of a job.

    Raises:
        HTTPError: it can be none.
    """
    if not JOB_ID.fullmatch(job_id):
        raise HTTPError(404, "%s", "no job can be called so")
    return job_id


def is_not_told(known: Known[dict[str, Any]]) -> bool:
    """Say whether the host has said nothing of a job yet, and may still: not that there is none, or who may see it."""
    return known.value is None and (known.fault is None or known.fault.status not in (403, 404))


class Acting(Page):
    """A page that asks the door to do something."""

    def form_key(self) -> str:
        """Return the key of the form that was sent."""
        key = self.field("key")
        if not KEY.fullmatch(key):
            raise HTTPError(400, "%s", "the form is incomplete: load the page again")
        return key

    def typed_secrets(self) -> dict[str, str]:
        """Return the secrets that were typed; a private key ends with an end of line, as its file does."""
        found = {name: self.field(f"secret_{name}") for name in hosts.SECRETS}
        found["key"] = found["key"].replace("\r\n", "\n").strip()
        if found["key"]:
            found["key"] += "\n"
        return {name: value for name, value in found.items() if value}

    async def act(self, verb: str, **arguments: Any) -> dict[str, Any] | None:
        """Ask the door; write why not and return None where it refuses."""
        try:
            found = await self.core.door.call(verb, arguments, asker=self.session.asker, limit_s=ACT_S)
        except SourceError as exc:
            self.fail(exc)
            return None
        self.core.cache.forget(
            lambda key: isinstance(key, tuple) and key[:2] in (("door", "jobs"), ("door", "job"))
        )
        return found


class Jobs(Page):
    """All jobs."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        view = jobs.list_view(await sources.jobs(), self.core.now())
        self.show("jobs.html", sources, title="Jobs", every_s=5, reload_s=10, **view)


class Job(Page):
    """One job: phases, what it waits for, what it said."""

    async def get(self, job_id: str) -> None:
        """Write it; what asks for news alone is given no log, for that comes as a stream."""
        checked_id(job_id)
        sources = await self.sources()
        known = await sources.job(job_id)
        view = jobs.one_view(known, sources, self.core.now())
        if known.value is None and known.fault is not None and known.fault.status == 404:
            self.set_status(404)
        is_awaited = is_not_told(known)
        log = UNREAD if is_awaited and not self.is_live else None
        if known.value is not None and not self.is_live:
            log = await collect(self.core.door, job_id, known.value)
        is_running = view["job"].state == "running"
        self.show(
            "job.html",
            sources,
            title=f"Job {job_id}",
            every_s=5 if is_running else 2 if is_awaited else 0,
            reload_s=10 if is_running else 3 if is_awaited else 0,
            is_awaited=is_awaited,
            job_id=job_id,
            log=log,
            key=new_key(),
            look=hosts.found_view(view["found"]),
            **view,
        )


class Again(Acting):
    """A job that failed or was cut off, once more."""

    async def post(self, job_id: str) -> None:
        """Ask for it."""
        found = await self.act(
            "again", id=checked_id(job_id), key=self.form_key(), secrets=self.typed_secrets()
        )
        if found is not None:
            self.redirect(f"/jobs/{quote(str(found.get('job', job_id)), safe='')}", status=303)


class Cancel(Acting):
    """A job that is to end."""

    async def post(self, job_id: str) -> None:
        """Ask for it."""
        if await self.act("cancel", id=checked_id(job_id)) is not None:
            self.redirect(f"/jobs/{job_id}", status=303)


# ---- hosts ---------------------------------------------------------------------------------------------------


class Hosts(Page):
    """Hosts that are no nodes, and how this one reaches the others."""

    async def get(self) -> None:
        """Write them."""
        sources = await self.sources()
        status, found = await sources.status(), await sources.jobs()
        view = hosts.list_view(status, found, self.core.now())
        add = jobs.button(sources, rights.ADD_HOST, "Add a host", "add")
        self.show("hosts.html", sources, title="Hosts", every_s=10, reload_s=15, add=add, **view)


class HostForm(Acting):
    """What the steps of adding a host have in common."""

    def way_back(self) -> str:
        """Come back to the form, with all that was typed but the secrets."""
        if self.request.method == "GET":
            return self.request.uri or "/"
        return f"/hosts/add?{self._typed().to_query()}"

    def _typed(self) -> Typed:
        return hosts.typed_of({name: self.field(name)[:300] for name in vars(Typed())})

    async def _form(self, typed: Typed, faults: Faults) -> None:
        sources = await self.sources()
        if faults:
            self.set_status(422)
        allowed = jobs.button(sources, rights.ADD_HOST, "Ask for its keys", "look")
        self.show(
            "host-add.html",
            sources,
            title="Add a host",
            every_s=60,
            typed=typed,
            faults=faults.by_field,
            allowed=allowed,
            key=new_key(),
            job=None,
            look=None,
            error=None,
            parts_of=[],
            is_awaited=False,
            job_id="",
            has_secrets=False,
            source=None,
        )


class HostAdd(HostForm):
    """The first step: where the host is."""

    async def get(self) -> None:
        """Write the form, with what is known already."""
        await self._form(self._typed(), Faults())


class HostLook(HostForm):
    """A look at the host: without a confirmed key only its keys are asked for."""

    async def post(self) -> None:
        """Start the look."""
        typed, given = self._typed(), self.typed_secrets()
        faults = hosts.check(typed)
        if faults:
            await self._form(typed, faults)
            return
        if given:
            self.session.keep_secrets(typed.key, given, self.core.now())
        found = await self.act(
            "start", operation="probe", parameters=typed.parameters(), key=self.form_key(), secrets=given
        )
        if found is not None:
            self.redirect(
                f"/hosts/add/{quote(str(found.get('job', '')), safe='')}?{typed.to_query()}", status=303
            )


class HostLooked(HostForm):
    """The second and the third step: compare the key and log in; read the table and add."""

    async def get(self, job_id: str) -> None:
        """Write how the look goes, then what it found with the next form."""
        checked_id(job_id)
        sources = await self.sources()
        known = await sources.job(job_id)
        view = jobs.one_view(known, sources, self.core.now())
        typed = self._typed()
        if not typed.address:
            typed = hosts.typed_of(hosts.host_of_job(known.value))
        is_running = view["job"].state == "running"
        is_awaited = is_not_told(known)
        look = hosts.found_view(view["found"])
        label = "Add this host" if look is not None and look["is_looked_at"] else "Log in and look"
        self.show(
            "host-add.html",
            sources,
            title="Add a host",
            every_s=2 if is_running or is_awaited else 60,
            reload_s=3 if is_running or is_awaited else 0,
            is_awaited=is_awaited,
            typed=typed,
            faults={},
            allowed=jobs.button(sources, rights.ADD_HOST, label, "join"),
            key=new_key(),
            job=view["job"],
            job_id=job_id,
            look=look,
            error=view["error"],
            parts_of=view["phase_parts"],
            has_secrets=bool(self.session.secrets_for(typed.key, self.core.now())),
            source=base.door_source(known, self.core.now()),
        )


class HostJoin(HostForm):
    """The host is added: a job of minutes."""

    async def post(self) -> None:
        """Start the job."""
        typed, given = self._typed(), self.typed_secrets()
        faults = hosts.check(typed)
        if not typed.fingerprint:
            faults = Faults({**faults.by_field, "fingerprint": "The host's key has to be confirmed first."})
        if faults:
            await self._form(typed, faults)
            return
        given = given or self.session.secrets_for(typed.key, self.core.now())
        found = await self.act(
            "start", operation="add-host", parameters=typed.parameters(), key=self.form_key(), secrets=given
        )
        if found is not None:
            self.session.forget_secrets(typed.key)
            self.redirect(f"/jobs/{quote(str(found.get('job', '')), safe='')}", status=303)


# ---- the report ----------------------------------------------------------------------------------------------


class Report(Acting):
    """The archive for support: made by a job, fetched when it is done."""

    async def get(self) -> None:
        """Write what reports there are."""
        sources = await self.sources()
        found = await sources.jobs()
        made = [job for job in jobs.jobs_of(found) if job.operation == "report"]
        allowed = jobs.button(sources, rights.MAKE_REPORT, "Make a report", "report")
        self.show(
            "report.html",
            sources,
            title="Report",
            every_s=10,
            reload_s=15,
            reports=made[:20],
            allowed=allowed,
            key=new_key(),
            source=base.door_source(found, self.core.now()),
        )

    async def post(self) -> None:
        """Start one."""
        found = await self.act("start", operation="report", parameters={}, key=self.form_key(), secrets={})
        if found is not None:
            self.redirect(f"/jobs/{quote(str(found.get('job', '')), safe='')}", status=303)
