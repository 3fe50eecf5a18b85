# SPDX-License-Identifier: Apache-2.0
"""The console of a further control plane: what it shows is signed once, and again when that is not good any more."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import HostError, SaltError
from installer.base.run import Completed
from installer.config.nodes import Role
from installer.engine import saltcall
from installer.operations import console, joining, node_console
from installer.operations.joining import NodeContext
from installer.operations.node_jobs import Detached
from tests.authorities import make_authority
from tests.unit.installer.operations.test_node_add import Host, context, host  # noqa: F401  its fixtures

KEY = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"


class Signing:
    """Salt, which signs here, and applies states there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.signed: list[Any] = []
        self.applied: list[tuple[str, ...]] = []
        self.years = 2
        self.answer: Any = None

    def call(self, _: object, function: str, arguments: list[Any], *, local: bool) -> Any:
        assert (function, local) == ("caisson_console.sign", True)
        self.signed.append(arguments)
        if self.answer is not None:
            return self.answer
        begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=365 * self.years - 60 if self.years < 2 else 1)
        certificate, _ = make_authority(self.directory / str(len(self.signed)), years=self.years, begin=begin)
        return certificate.read_text()


@pytest.fixture
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signing:
    found = Signing(tmp_path / "signed")
    monkeypatch.setattr(saltcall, "call", found.call)

    def apply(self: Detached, _: object) -> bool:
        found.applied.append(self.sls)
        return False

    monkeypatch.setattr(Detached, "__call__", apply)
    return found


@pytest.fixture
def member(context: NodeContext, host: Host) -> NodeContext:  # noqa: F811
    node = joining.of(context)
    node.entry = replace(node.entry, role=Role.CONTROL_PLANE)
    host.answers["tls.pub"] = Completed(0, KEY, "")
    return context


def run(member: NodeContext) -> bool:
    return node_console.run_console(member, states=Detached(("console.running",)))


def test_a_key_is_signed_once_for_the_names_that_were_told(
    member: NodeContext,
    host: Host,  # noqa: F811
    signing: Signing,
) -> None:
    assert run(member)
    assert signing.applied == [("console.requested",), ("console.running",)]
    ((key, said),) = signing.signed
    assert key == KEY
    assert said["node"] == {"name": "node2", "control_plane_address": "10.77.1.12"}
    assert host.files[console.CERTIFICATE_FILE].data.startswith(b"-----BEGIN CERTIFICATE-----")
    assert host.files[console.CERTIFICATE_FILE].mode == 0o644
    assert not run(member)
    assert len(signing.signed) == 1


@pytest.mark.parametrize("what", ["another key", "another address", "another authority", "lost here"])
def test_it_is_signed_again_when_something_is_another(
    member: NodeContext,
    host: Host,  # noqa: F811
    signing: Signing,
    what: str,
) -> None:
    run(member)
    if what == "another key":
        host.answers["tls.pub"] = Completed(0, KEY.replace("MFkw", "MFkx"), "")
    elif what == "another address":
        joining.of(member).caisson["node"]["control_plane_address"] = "10.77.1.99"
    elif what == "another authority":
        member.paths.at("/etc/caisson/ca.crt").write_text("another")
    else:
        node_console.note_file(member.paths, "node2").write_text("{")
    assert run(member)
    assert len(signing.signed) == 2


def test_it_is_signed_again_before_it_ends(member: NodeContext, signing: Signing) -> None:
    signing.years = 1  # of which two months are left
    run(member)
    signing.years = 2
    assert run(member)
    assert not run(member)


def test_a_worker_has_none(context: NodeContext, signing: Signing) -> None:  # noqa: F811
    assert not run(context)
    assert signing.applied == []


@pytest.mark.parametrize("shown", ["", "ssh-ed25519 AAAA", KEY + KEY, KEY.replace("PUBLIC", "PRIVATE")])
def test_what_is_no_public_key_is_not_signed(
    member: NodeContext,
    host: Host,  # noqa: F811
    signing: Signing,
    shown: str,
) -> None:
    host.answers["tls.pub"] = Completed(0, shown, "")
    with pytest.raises(HostError, match="no public key"):
        run(member)
    assert signing.signed == []


def test_a_salt_that_signs_nothing_is_told(member: NodeContext, signing: Signing) -> None:
    signing.answer = "ERROR: no key"
    with pytest.raises(SaltError, match="no certificate"):
        run(member)
