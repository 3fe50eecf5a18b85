# SPDX-License-Identifier: Apache-2.0
"""What was begun with a node and not ended is gone on with: a removal is not an addition that failed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError, ReachError
from installer.base.paths import Paths
from installer.config.nodes import NodeEntry, to_data
from installer.engine import jobrecord, jobs
from installer.engine.jobrecord import Request
from installer.operations import fencing, node_add, node_remove, unfinished

REMOVE = "its removal was not finished: caisson node remove worker1"
GMTIME = time.gmtime


class Site:
    """The jobs of a bootstrap node, a second after the other, and the names of which no Node may be made."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = Paths(root)
        self.fenced: list[str] = []
        self.now = 1.8e9
        self.paths.admin_kubeconfig_file.parent.mkdir(parents=True)
        self.paths.admin_kubeconfig_file.touch()
        monkeypatch.setattr(fencing, "fenced", lambda _: self.fenced)
        monkeypatch.setattr(time, "gmtime", self._gmtime)

    def _gmtime(self, *_: float) -> time.struct_time:
        self.now += 1
        return GMTIME(self.now)

    def begun(self, operation: str, arguments: dict[str, Any]) -> jobs.Job:
        request = Request(operation, arguments, ("caisson", *operation.split("-")))
        return jobrecord.prepare(self.paths, request, is_active=lambda _: False)

    def ended(self, operation: str, arguments: dict[str, Any], *, well: bool = False) -> None:
        job = self.begun(operation, arguments)
        with contextlib.suppress(ReachError), jobrecord.carried_out(job):
            if not well:
                raise ReachError("10.77.1.12 is off")

    @property
    def fix(self) -> str:
        return unfinished.fixes(self.paths, [("worker1", "10.77.1.12")]).get("worker1", "")


def removal(name: str = "worker1") -> dict[str, Any]:
    return {"host": to_data(NodeEntry("10.77.1.12", name=name)), "dead": False, "force": False}


def addition(*names: str) -> dict[str, Any]:
    entries = [NodeEntry(f"10.77.1.{12 + place}", name=name) for place, name in enumerate(names)]
    return {"nodes": [to_data(entry) for entry in entries]}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_the_operations_are_called_so() -> None:
    assert (unfinished.ADDITION, unfinished.REMOVAL) == (node_add.NAME, node_remove.NAME)


def test_without_a_job_and_a_fence_nothing_is_unfinished(site: Site) -> None:
    assert site.fix == ""
    site.ended("node-remove", removal("worker2"))
    site.ended("bootstrap", {})
    assert site.fix == ""
    assert unfinished.fixes(site.paths, []) == {}


def test_a_removal_that_failed_is_to_be_ended(site: Site) -> None:
    site.ended("node-add", addition("worker1"), well=True)
    site.ended("node-remove", removal())
    assert site.fix == REMOVE


def test_a_removal_that_was_cut_off_is_to_be_ended(site: Site) -> None:
    site.begun("node-remove", removal())
    assert site.fix == REMOVE


def test_a_name_that_is_fenced_was_removed_whoever_did_it(site: Site) -> None:
    """The jobs are kept for a time only."""
    site.fenced = ["worker1"]
    assert site.fix == REMOVE


@pytest.mark.parametrize("entry", [addition("worker1"), addition("")])
def test_an_addition_after_it_is_gone_on_with(site: Site, entry: dict[str, Any]) -> None:
    """Whether the removal had been finished or not, once a Node may be made again."""
    site.ended("node-remove", removal())
    site.ended("node-add", entry)
    assert site.fix == ""


def test_an_addition_that_came_to_nothing_leaves_the_removal_to_be_ended(site: Site) -> None:
    site.fenced = ["worker1"]
    site.ended("node-remove", removal())
    site.ended("node-add", addition("worker1"))
    assert site.fix == REMOVE


def test_a_removal_that_was_finished_is_not_to_be_ended(site: Site) -> None:
    """The name is fenced until an addition has got so far."""
    site.fenced = ["worker1"]
    site.ended("node-remove", removal(), well=True)
    site.ended("node-add", addition("worker2", "worker1"))
    assert site.fix == ""


def test_a_removal_that_was_gone_on_with_is_the_last_job(site: Site) -> None:
    """It keeps its name, which is older than that of an addition in between."""
    site.begun("node-remove", removal())
    site.ended("node-add", addition("worker1"))
    assert site.fix == ""
    site.ended("node-remove", removal())
    assert site.fix == REMOVE


@pytest.mark.parametrize(
    ("operation", "arguments", "what"),
    [("node-remove", removal(), "removal"), ("node-add", addition("worker1"), "addition")],
)
def test_what_is_at_work_is_waited_for(
    site: Site, operation: str, arguments: dict[str, Any], what: str
) -> None:
    site.fenced = ["worker1"]
    job = site.begun(operation, arguments)
    with jobrecord.carried_out(job):
        assert site.fix == f"its {what} is at work: caisson job {job.id} --follow"


def test_an_api_that_is_silent_leaves_what_the_jobs_say(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Paths) -> list[str]:
        raise CommandError("kubectl did not finish")

    monkeypatch.setattr(fencing, "fenced", fail)
    assert site.fix == ""
    site.ended("node-remove", removal())
    assert site.fix == REMOVE


def test_an_api_that_hangs_holds_nothing_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "fenced", lambda _: time.sleep(60))
    began = time.monotonic()
    assert unfinished.fixes(site.paths, [("worker1", "")], limit_s=0.1) == {}
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("arguments", [{}, {"nodes": 1}, {"host": None}, {"nodes": ["x"], "host": "worker1"}])
def test_a_job_of_another_shape_is_about_nobody(site: Site, arguments: dict[str, Any]) -> None:
    site.begun("node-remove", arguments)
    site.begun("node-add", arguments)
    assert site.fix == ""
