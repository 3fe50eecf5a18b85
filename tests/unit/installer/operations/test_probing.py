# SPDX-License-Identifier: Apache-2.0
"""A host is looked at before it is added in a browser: first its keys alone, then, once one is confirmed, all of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import HostKeyError, InstallerError, LoginError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.base.terminal import Terminal
from installer.base.ui import Ui
from installer.checks.between import Fleet, Seen
from installer.checks.preflight import Status
from installer.config.nodes import NodeEntry
from installer.engine import hostkeys, jobrecord
from installer.engine.hostkeys import HostKey
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task
from installer.operations import cluster_state, probe, probing
from installer.operations.probe import Probe, Row
from tests.unit.installer.helpers import CONFIG_TEXT

KEY = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA==")
ADDRESS = "10.77.1.12"


class Host:
    """The other host, which answers what it is asked, in its own way."""

    def __init__(self) -> None:
        self.entered: list[NodeEntry] = []
        self.secrets: list[str] = []
        self.error: InstallerError | None = None
        self.rows: tuple[Row, ...] = ()

    def run(self, words: Sequence[str], **_: object) -> Completed:
        return Completed(0, {"uname": "node2\n", "cat": "m2\n"}.get(words[0], "EL \x1b[2J 9.6\n"), "")

    @contextlib.contextmanager
    def connections(
        self, entries: Sequence[NodeEntry], *, paths: Paths, terminal: Terminal
    ) -> Iterator[dict[str, Any]]:
        (entry,) = entries
        self.entered.append(entry)
        self.secrets.append(terminal.ask_secret(f"the password of {entry.user} on {entry.title}: "))
        hostkeys.remember(paths.known_hosts_file, entry, KEY)
        yield {entry.title: self.error or self}

    def probe(self, entries: Sequence[NodeEntry], *_: object, **__: object) -> Probe:
        title = entries[0].title
        fleet = Fleet((Seen(title, "worker", identity={"name": "node2"}),), (), (), {})
        return Probe(fleet, self.rows, {title: {"node_name": "node2"}})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host()
    monkeypatch.setattr(hostkeys, "scan", lambda _: (KEY,))
    monkeypatch.setattr(probe, "connections", found.connections)
    monkeypatch.setattr(probe, "probe", found.probe)
    monkeypatch.setattr(probe, "gather_material", lambda *_: None)
    monkeypatch.setattr(cluster_state, "get_members", lambda _: ())
    return found


def look(tmp_path: Path, secrets: dict[str, str] | None = None, **said: Any) -> tuple[str, dict[str, Any]]:
    paths = Paths(tmp_path)
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(CONFIG_TEXT)
    request = Request(probing.NAME, {"host": {"address": ADDRESS, **said}}, ("caisson", "node", "check"))
    job = jobrecord.prepare(paths, request)
    summary = probing.work(
        Task(job, secrets or {}, Ui(io.StringIO(), is_terminal=False), paths, tmp_path / "tree")
    )
    return summary, json.loads((job.directory / probing.FILE_NAME).read_text())


def test_of_a_host_that_nobody_confirmed_only_keys_are_shown(tmp_path: Path, host: Host) -> None:
    """It is sent nothing, no password either."""
    summary, found = look(tmp_path, {"password": "hunter2"})
    assert host.entered == []
    assert found["keys"] == [{"kind": "ssh-ed25519", "fingerprint": KEY.fingerprint}]
    assert (found["confirmed"], found["host"], found["look"]) == ("", None, None)
    assert KEY.fingerprint in summary


def test_with_a_confirmed_key_it_is_looked_at(tmp_path: Path, host: Host) -> None:
    summary, found = look(tmp_path, {"password": "hunter2"}, hostKey=KEY.fingerprint, user="ops")
    assert host.secrets == ["hunter2"]
    assert found["confirmed"] == KEY.fingerprint
    assert found["host"]["hostname"] == "node2"
    assert found["host"]["os"] == "EL ?[2J 9.6"
    assert found["host"]["facts"] == {"node_name": "node2"}
    assert found["look"]["hosts"][0]["fit"] is True
    assert summary == f"{ADDRESS}: fit to become a worker"


def test_a_key_that_was_confirmed_before_counts(tmp_path: Path, host: Host) -> None:
    hostkeys.remember(Paths(tmp_path).known_hosts_file, NodeEntry(ADDRESS), KEY)
    assert look(tmp_path)[1]["look"] is not None
    assert len(host.entered) == 1


def test_what_stops_it_is_in_what_was_found(tmp_path: Path, host: Host) -> None:
    host.rows = (Row(ADDRESS, "CSN101", Status.FAILED, "memory", "1 GiB", "add some"),)
    summary, found = look(tmp_path, hostKey=KEY.fingerprint)
    assert "not fit" in summary
    (finding,) = found["look"]["hosts"][0]["findings"]
    assert (finding["id"], finding["fix"]) == ("CSN101", "add some")


@pytest.mark.parametrize("error", [LoginError("it refuses the password of ops"), HostKeyError("another key")])
def test_why_nobody_came_in_is_the_job_s_error(tmp_path: Path, host: Host, error: InstallerError) -> None:
    host.error = error
    with pytest.raises(type(error)):
        look(tmp_path, hostKey=KEY.fingerprint)
