# SPDX-License-Identifier: Apache-2.0
"""``caisson vip set``: the address is written into bootstrap.yaml, and a job of a bootstrap applies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ConfigError, HostError, LockedError
from installer.base.paths import Paths
from installer.cli import jobs, main
from installer.config import bootstrap as config
from installer.config import facts
from installer.engine import lock
from installer.engine.jobrecord import Request
from installer.media import product
from installer.operations import vip_set
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT, make_product

VIP = "10.77.1.100"
GIVEN = CONFIG_TEXT + "node: {name: node1}\n# the site's own remark\n"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Return a host with a configuration; nothing is asked of the network, and no job is started."""
    found = Paths(root=tmp_path)
    found.config_file.parent.mkdir(parents=True)
    found.config_file.write_text(GIVEN)
    monkeypatch.setattr(facts, "read_addresses", lambda: ADDRESSES)
    monkeypatch.setattr(product, "load", lambda _: make_product())
    monkeypatch.setattr(vip_set, "refuse_taken", lambda *_: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Return the jobs that were asked for."""
    requests: list[Request] = []

    def ask(_arguments: Any, request: Request, *_: Any) -> int:
        requests.append(request)
        return 0

    monkeypatch.setattr(jobs, "ask_and_follow", ask)
    return requests


def run(paths: Paths, *words: str) -> int:
    return main.main(["vip", "set", *words], tree_dir=paths.root, paths=paths)


def test_it_is_written_and_applied(paths: Paths, asked: list[Request]) -> None:
    assert run(paths, VIP) == 0
    text = paths.config_file.read_text()
    assert str(config.parse(text).networks.vip) == VIP
    assert text == GIVEN.replace("10.77.1.0/24]}", f"10.77.1.0/24], vip: {VIP}}}", 1)
    (request,) = asked
    assert request.operation == "bootstrap"
    assert request.command[1:4] == ("bootstrap", "--config", str(paths.config_file))


@pytest.mark.parametrize("address", ["10.77.9.1", "nonsense"])
def test_a_wrong_one_changes_nothing(paths: Paths, asked: list[Request], address: str) -> None:
    assert run(paths, address) == ConfigError.exit_code
    assert (paths.config_file.read_text(), asked) == (GIVEN, [])


def test_a_taken_one_changes_nothing(
    paths: Paths, asked: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise HostError(f"another host has {VIP}")

    monkeypatch.setattr(vip_set, "refuse_taken", refuse)
    assert run(paths, VIP) == HostError.exit_code
    assert (paths.config_file.read_text(), asked) == (GIVEN, [])


def test_nothing_is_written_while_another_job_is_at_work(paths: Paths, asked: list[Request]) -> None:
    """It reads the file: a bootstrap with half of it would be another's."""
    with lock.hold(paths.lock_file):
        assert run(paths, VIP) == LockedError.exit_code
    assert (paths.config_file.read_text(), asked) == (GIVEN, [])
