# SPDX-License-Identifier: Apache-2.0
"""Further control planes serve packages and images too: what is done for one, in which order, and what is not twice.

The copy itself: tests/unit/installer/engine/test_remotecopy.py; what the other host does: test_replica.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from installer.base.errors import HostError, MediaError, PreflightError
from installer.base.run import Completed
from installer.config import nodes
from installer.config.facts import Facts
from installer.config.nodes import NodeEntry, Role
from installer.config.ports import PORTS_FILE
from installer.engine import mediaservers, nodepillar, pillartop, remotecopy, remotefiles, runner
from installer.engine.journal import Journal
from installer.engine.remotefiles import RemoteFile
from installer.operations import (
    adding,
    media_serving,
    push_login,
    replica_certificate,
    replicating,
    telling,
)
from installer.operations.joining import Joining, NodeContext
from installer.operations.node_jobs import Detached
from tests.unit.installer.helpers import make_config, make_context, make_facts
from tests.unit.installer.operations.isos import OWN_BUILD, PAUSE, IsoHost

ROOT_DIR = Path(__file__).parents[4]
OWN, SECOND = f"0.1.0-{OWN_BUILD}", "0.1.0-20261102.bb"


class There:
    """The other host: files by path, ISOs that it keeps, what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.kept: dict[str, dict[str, str]] = {}
        self.log: list[str] = []
        self.refuses = ""
        self.entry = NodeEntry("10.77.1.12", name="cp2", role=Role.CONTROL_PLANE)
        self.pillar_name = "cp2"

    def run(self, words: Sequence[str], **_: Any) -> Completed:
        if words[0] == "/bin/sh":
            pillar = json.dumps({"caisson": {"node": {"name": self.pillar_name}}})
            return Completed(0, f"#!json\n{pillar}", "")
        if words[:2] == ["crictl", "ps"]:
            return Completed(0, "id\n", "")
        if words[:2] == ["crictl", "exec"]:
            self.log.append("reload")
            return Completed(0, "", "")
        verb = words[2]
        if verb == "keep-media":
            if self.refuses:
                error = {
                    "exit_code": 6,
                    "code": "CSE006",
                    "message": self.refuses,
                    "details": [],
                    "resolution": [],
                }
                return Completed(6, json.dumps({"error": error}), "")
            name, file, sums = words[3:6]
            is_new = self.kept.get(name, {}).get("sums_sha256") != sums
            self.kept[name] = {"name": name, "sums_sha256": sums, "missing": ""}
            self.log.append(f"keep {Path(file).name}")
            return Completed(0, json.dumps(is_new), "")
        assert verb == "kept-media", words
        gone = [name for name in self.kept if words[3:-1] and name not in words]
        for name in gone:
            del self.kept[name]
        return Completed(0, json.dumps({"kept": list(self.kept.values()), "gone": gone}), "")


class Scene:
    """A bootstrap node with an ISO, or two, and a further control plane that does not serve yet."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.there = IsoHost(root, monkeypatch), There()
        self.served = True
        self.changes: list[bool] = [True]
        base = make_context(root, product=self.host.own, config=make_config(), source_dir=root / "mnt")
        (root / "mnt" / PORTS_FILE).parent.mkdir(parents=True, exist_ok=True)
        (root / "mnt" / PORTS_FILE).write_text((ROOT_DIR / PORTS_FILE).read_text())
        facts = Facts(**{**vars(make_facts()), "node_name": "cp2", "control_plane_address": "10.77.1.12"})
        caisson = nodepillar.pillar(base, self.there.entry, facts, media_port=8443, cluster_ca_sha256="ab")
        caisson["node"]["serves"] = True
        pillartop.write(base.paths, "node1", caisson)
        push_login.ensure(base.paths)
        self.base = NodeContext(
            **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        )
        there = self.there
        monkeypatch.setattr(
            remotefiles, "differing", lambda _, files: [f for f in files if there.files.get(f.path) != f.data]
        )
        monkeypatch.setattr(remotefiles, "put", self.put)
        monkeypatch.setattr(remotecopy, "copy", self.copy)
        monkeypatch.setattr(replica_certificate, "send", self.send)
        monkeypatch.setattr(replicating, "_has_certificate", lambda *_: True)
        monkeypatch.setattr(Detached, "__call__", lambda *_: self.step("serve", says=self.changes.pop()))
        monkeypatch.setattr(
            media_serving, "await_name", lambda *_, **__: self.step("asked", says=self.served)
        )
        monkeypatch.setattr(telling, "tell", lambda *_, **__: self.step("told", says=True))

    def step(self, name: str, *, says: bool = False) -> bool:
        self.there.log.append(name)
        return says

    def put(self, _: object, files: Sequence[RemoteFile], **__: Any) -> None:
        self.there.files.update({file.path: file.data for file in files})

    def copy(self, _: object, source: Path, target: str, size: int, *, say: Any) -> remotecopy.Copied:
        say("copied")
        assert size == source.stat().st_size
        self.step(f"copy {source.name} {target}")
        return remotecopy.Copied(size, 0)

    def send(self, *arguments: object) -> bool:
        assert arguments[1:4] == ("cp2", "10.77.1.12", "media.lab.internal")
        is_new = "certificate" not in self.there.log
        self.step("certificate")
        return is_new

    def run(self) -> tuple[runner.Outcome, ...]:
        operation = dataclasses.replace(replicating.OPERATION, name="media-replicate/cp2")
        journal = Journal(self.host.paths.journal_file, operation=operation.name)
        node = Joining(self.there.entry, self.there, None)  # type: ignore[arg-type]
        context = dataclasses.replace(self.base, joining=node, journal=journal)
        self.there.log.clear()
        return runner.run_phases(operation, operation.phases, context)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_it_is_copied_kept_served_and_told_in_this_order(scene: Scene) -> None:
    outcomes = scene.run()
    target = f"/var/lib/caisson-media/{OWN}.iso"
    assert scene.there.log == [
        f"copy {OWN_BUILD}.iso {target}",
        f"keep {OWN}.iso",
        "certificate",
        "serve",
        "reload",
        "asked",
        "told",
    ]
    assert [outcome.has_changed for outcome in outcomes] == [False, False, True, True, True, True, True]
    (server,) = mediaservers.known(scene.host.paths)
    assert (server.name, server.builds) == ("cp2", (OWN,))
    pillar = json.loads(scene.there.files["/etc/caisson/pillar/caisson.sls"].partition(b"\n")[2])
    assert pillar["caisson"]["node"]["media"] == [OWN]


def test_a_second_run_sends_nothing(scene: Scene) -> None:
    scene.run()
    scene.changes.append(False)
    scene.run()
    assert scene.there.log == [f"keep {OWN}.iso", "certificate", "serve", "asked", "told"]


def test_what_lies_beside_the_one_in_use_goes_along_with_its_maps_and_goes_again(scene: Scene) -> None:
    scene.host.add(scene.host.iso("20261102.bb", {"quay.io/vendor/app:1": b"app"}))
    scene.run()
    assert list(scene.there.kept) == [OWN, SECOND]
    assert b"quay" in scene.there.files["/etc/caisson/nginx/media/tags.conf"]
    (server,) = mediaservers.known(scene.host.paths)
    assert server.builds == (OWN, SECOND), "the one in use first"
    scene.host.remove("20261102.bb")
    scene.changes.append(False)
    scene.run()
    assert list(scene.there.kept) == [OWN]
    assert "reload" in scene.there.log
    assert scene.there.files["/etc/caisson/nginx/media/tags.conf"] == b""


def test_a_copy_that_is_not_what_was_verified_is_not_told_of(scene: Scene) -> None:
    scene.there.refuses = "what was copied is not it"
    with pytest.raises(MediaError, match="what was copied is not it"):
        scene.run()
    assert not {"serve", "told"} & set(scene.there.log)
    assert mediaservers.known(scene.host.paths) == ()


def test_one_that_does_not_serve_is_not_told_of(scene: Scene) -> None:
    scene.served = False
    with pytest.raises(HostError, match=f"cp2 does not serve {PAUSE}"):
        scene.run()
    assert mediaservers.known(scene.host.paths) == ()
    scene.served = True
    scene.changes.append(False)
    scene.run()
    assert len(mediaservers.known(scene.host.paths)) == 1


def test_an_iso_that_is_not_as_it_should_be_is_not_copied(scene: Scene) -> None:
    scene.host.mounts.clear()
    with pytest.raises(MediaError, match="cannot be copied"):
        scene.run()
    assert scene.there.log == []


def test_a_host_without_the_registry_s_passwords_says_how_they_are_made(scene: Scene) -> None:
    scene.host.paths.htpasswd_file.unlink()
    with pytest.raises(HostError, match="the passwords of the registry are not those that it knows"):
        scene.run()
    assert mediaservers.known(scene.host.paths) == ()


def test_another_host_than_the_node_is_refused(scene: Scene) -> None:
    scene.there.pillar_name = "cp9"
    with pytest.raises(HostError, match="is cp9, not cp2"):
        scene.run()


def test_a_worker_is_none_that_serves(scene: Scene) -> None:
    assert replicating.choose([], scene.host.paths) == ["cp2"]
    assert replicating.choose(["cp2", "cp2"], scene.host.paths) == ["cp2"], "once"
    with pytest.raises(PreflightError, match="worker1: is no further control plane"):
        replicating.choose(["cp2", "worker1"], scene.host.paths)
    caisson = pillartop.read(scene.host.paths, "cp2")
    caisson["node"]["serves"] = False
    pillartop.write(scene.host.paths, "node1", caisson)
    with pytest.raises(PreflightError, match="no control plane that has joined"):
        scene.run()


def test_an_addition_may_be_followed_by_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "work", lambda _: "added")
    given: list[str] = []

    def replicate(_: object, entries: Sequence[NodeEntry]) -> str:
        given.extend(entry.name for entry in entries)
        return "served"

    monkeypatch.setattr(replicating, "replicate", replicate)
    entries = [
        nodes.to_data(dataclasses.replace(scene.there.entry, name="")),
        nodes.to_data(NodeEntry("10.77.1.13")),
    ]
    for arguments, said in (({}, "added"), ({"replica": True}, "added; served")):
        job = SimpleNamespace(arguments={"nodes": entries, **arguments})
        task: Any = SimpleNamespace(job=job, paths=scene.host.paths)
        assert replicating.add(task) == said
    assert given == ["cp2"], "by the name that the node has; a worker serves nothing"
