# SPDX-License-Identifier: Apache-2.0
"""Check the further nodes from the bootstrap node: the preflights of a node's role, run there, asked over the bus.

Nothing is tried there, only looked at: a node carries pods. What is sent along lies in Salt's job cache for a day and
reaches every minion, so of the configuration it is only what the checks read. Hosts that are looked at over SSH
(probe.py) get the same of it: they are no nodes yet, and may never be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable

import yaml

from installer.base.document import Document
from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.base.session import only_looking
from installer.checks.preflight import Status
from installer.config.bootstrap import Config
from installer.config.ports import PORTS_FILE
from installer.engine import pillartop
from installer.media.product import FILE_NAME
from installer.operations import bus, other_nodes
from installer.operations.asking import Question, wait

CHECK = "caisson_node.check"
SALT_TIMEOUT_S = 60
LIMIT_S = 90.0
SHARED_KEYS = ("apiVersion", "kind", "clusterName", "networks")
KUBELET_KEYS = ("failSwapOn", "failCgroupV1")
"""What checks read of ``overrides.kubelet``. Source: installer/checks/machine.py."""
OVERRIDE_KEYS = ("allowPackageChanges", "ignorePreflights")
"""What else they read of ``overrides``. Source: installer/checks/tried.py and agent.py."""
Say = Callable[[str], None]
HEADING = ("NODE", "CODE", "STATUS", "CHECK", "FOUND -> FIX")


@dataclass(frozen=True)
class NodeCheck:
    """What was found on one node: its report, as JSON data, or why there is none."""

    name: str
    report: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    @property
    def has_failed(self) -> bool:
        """Say whether a check failed there, or the node gave no answer."""
        return bool(self.why) or bool(self.report["summary"]["failed"])

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each finding; one that says so where there is none, or no answer."""
        if self.why:
            return [(self.name, "-", Status.FAILED.value, "answer over the bus", self.why)]
        found: list[tuple[str, ...]] = []
        for check in self.report["checks"]:
            if check["status"] in (Status.FAILED.value, Status.WARNING.value):
                fix = "; ".join(check["fix"])
                found += [
                    (self.name, check["id"], check["status"], check["title"], f"{evidence} -> {fix}")
                    for evidence in check["evidence"]
                ]
        return found or [(self.name, "-", Status.PASSED.value, "all checks", "")]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"name": self.name, "report": dict(self.report) or None, "why": self.why}


def names(paths: Paths, only: str = "") -> list[str]:
    """Return the further nodes that are meant: all, or ``only`` one.

    Raises:
        UsageError: this host has added none of this name.
    """
    known = pillartop.known(paths)
    if only and only not in known:
        raise other_nodes.unknown(only, known)
    return [only] if only else known


def check(tree_dir: Path, config: Config, nodes: Sequence[str], *, say: Say) -> tuple[NodeCheck, ...]:
    """Let all of these nodes check themselves, side by side; who does not answer says so."""
    request = {
        "config": for_checks(config),
        "product": (tree_dir / FILE_NAME).read_text(encoding="utf-8"),
        "ports": (tree_dir / PORTS_FILE).read_text(encoding="utf-8"),
        "with_trials": False,
    }
    with only_looking():
        question = Question(
            f"the checks of {', '.join(nodes)}",
            partial(_ask, nodes, json.dumps(request)),
            limit_s=LIMIT_S + 1.0,
        )
        wait([question], say)
        answers, why = question.answer(({}, "its answer took too long"), [])
    return tuple(_parse(name, answers.get(name), why) for name in nodes)


def _ask(nodes: Sequence[str], request: str) -> tuple[Mapping[str, Any], str]:
    """Return what each node answers, and why those say nothing that do not."""
    try:
        found = bus.ask_all(nodes, CHECK, request, timeout_s=SALT_TIMEOUT_S, limit_s=LIMIT_S)
    except (CommandError, HostError) as exc:
        return {}, exc.message
    return ({}, bus.NO_MASTER) if found is None else (found, "the minion does not answer")


def _parse(name: str, answer: Any, why: str) -> NodeCheck:
    """Return what a node answered; another host's words are taken only in the shape that they must have."""
    if answer is None:
        return NodeCheck(name, why=f"{why}: see 'caisson status --node {name}'")
    said = answer.get("report") if isinstance(answer, dict) else None
    if report := other_nodes.taken(said, "check", "report"):
        return NodeCheck(name, report)
    return NodeCheck(name, why=f"says something else: {other_nodes.shown(answer)}")


def for_checks(config: Config) -> str:
    """Return of a configuration what the checks of another host read, and no more. Pure.

    Its overrides may hold the passwords of registries, its authorities name files of this host: neither a host that is
    only looked at nor Salt's job cache gets those.
    """
    data = dict(Document.read(config.text).data)
    kept = {key: data[key] for key in SHARED_KEYS if key in data}
    written = data.get("overrides") or {}
    overrides = {key: written[key] for key in OVERRIDE_KEYS if written.get(key)}
    kubelet = {key: value for key, value in config.overrides.kubelet.items() if key in KUBELET_KEYS}
    if kubelet:
        overrides["kubelet"] = kubelet
    return yaml.safe_dump({**kept, "overrides": overrides} if overrides else kept, sort_keys=False)


def table(found: Sequence[NodeCheck]) -> list[tuple[str, ...]]:
    """Return one table for all nodes."""
    return [HEADING, *(row for node in found for row in node.rows)]
