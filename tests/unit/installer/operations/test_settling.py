# SPDX-License-Identifier: Apache-2.0
"""What a host that becomes a node does to itself; dnf, systemd and Salt are played, the files are real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.errors import HostError, SaltError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.checks.host import is_ours
from installer.cli import main as cli
from installer.config import hosts
from installer.config.facts import Address, gather
from installer.config.nodes import NodeEntry
from installer.engine import nodepillar
from installer.media import dnf
from installer.operations import handed_over, installed, settling
from tests.unit.installer.helpers import make_config, make_context, product_bytes

KEY = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"


class Host:
    """A new host with what was sent to it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = Paths(root / "host")
        self.tree_dir = root / "tree"
        self.asked: list[dict[str, object]] = []
        self.is_installed = self.has_key = self.is_broken = False
        monkeypatch.setattr(dnf, "install", self.install)
        monkeypatch.setattr(settling, "run", self.salt)
        monkeypatch.setattr(handed_over, "run", lambda *_, **__: Completed(0, "", ""))
        monkeypatch.setattr(hosts, "own_names", lambda: ["node2"])
        self.paths.at("/etc").mkdir(parents=True)
        self.paths.at("/run").mkdir(parents=True)
        self.paths.hosts_file.write_text("127.0.0.1 localhost\n")
        self.tree_dir.mkdir()
        (self.tree_dir / "product.json").write_bytes(product_bytes())

    def send(self) -> None:
        """Send what ``caisson node add`` sends."""
        context = make_context(self.paths.root / "elsewhere")
        addresses = [Address("eth0", "10.77.1.12", 24), Address("eth1", "10.77.2.12", 24)]
        config = make_config("node: {name: node2}\n")
        found = gather(config, addresses, resolv_conf_file=Path("/nonexistent"))
        entry = NodeEntry("10.77.1.12", name="node2")
        caisson = nodepillar.pillar(context, entry, found, media_port=8443, cluster_ca_sha256="ab")
        for path, text in nodepillar.local_files(caisson).items():
            file = self.paths.at(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def install(self, names: Sequence[str], **options: object) -> bool:
        self.asked.append({"names": names, **options})
        was, self.is_installed = self.is_installed, True
        return not was

    def salt(self, words: Sequence[str], **_: object) -> Completed:
        if self.is_broken:
            return Completed(1, "", "Traceback: no crypt\n")
        made, self.has_key = not self.has_key, True
        pki_dir = Path(words[-1])
        pki_dir.mkdir(parents=True, exist_ok=True)
        (pki_dir / "minion.pub").write_text(KEY)
        return Completed(0, json.dumps({"local": made}), "")

    def settle(self) -> settling.Settled:
        return settling.settle(self.paths, self.tree_dir, progress=lambda _: None, detail=lambda _: None)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_it_has_names_packages_and_a_key(host: Host) -> None:
    host.send()
    assert host.settle() == settling.Settled(has_changed=True, public_key=KEY)
    lines = host.paths.hosts_file.read_text().splitlines()
    assert lines == [
        "127.0.0.1 localhost",
        "10.77.1.11 api.lab.internal # caisson",
        "10.77.1.11 media.lab.internal # caisson",
        "::ffff:10.77.1.12 node2 # caisson",
    ]
    (asked,) = host.asked
    assert asked["names"] == dnf.HOST_PACKAGES
    assert asked["served"] == dnf.Served("https://media.lab.internal:8443/repo/el9", "/etc/caisson/ca.crt")
    assert installed.read(host.paths) is not None


def test_the_second_time_changes_nothing(host: Host) -> None:
    host.send()
    host.settle()
    assert host.settle() == settling.Settled(has_changed=False, public_key=KEY)


def test_what_the_preflights_find_from_then_on_is_caisson_s_own(host: Host) -> None:
    """Else a node that is added again, or after an addition that failed, would be refused for its own services."""
    host.send()
    assert not is_ours(host.paths)
    host.is_broken = True
    with pytest.raises(SaltError):
        host.settle()
    assert is_ours(host.paths)
    host.is_broken = False
    host.settle()
    before = host.paths.journal_file.read_bytes()
    host.settle()
    assert is_ours(host.paths)
    assert host.paths.journal_file.read_bytes() == before


def test_a_host_that_was_told_nothing_is_left_alone(host: Host) -> None:
    with pytest.raises(HostError, match="to which cluster"):
        host.settle()
    assert host.asked == []
    assert host.paths.hosts_file.read_text() == "127.0.0.1 localhost\n"


def test_salt_that_makes_no_key_is_an_error(host: Host) -> None:
    host.send()
    host.is_broken = True
    with pytest.raises(SaltError, match="the minion's key") as caught:
        host.settle()
    assert "no crypt" in caught.value.details


def test_the_verbs_answer_in_json(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host.send()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("installer.cli.on_node.handle_signals", lambda: None)
    assert cli.main(["on-node", "settle"], tree_dir=host.tree_dir, paths=host.paths) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"has_changed": True, "public_key": KEY}
    monkeypatch.setattr("installer.engine.detached.active_units", list)
    assert cli.main(["on-node", "start", "../x", "host"], tree_dir=host.tree_dir, paths=host.paths) == 2


def test_nobody_is_shown_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.make_parser("caisson").parse_args(["--help"])
    assert "on-node" not in capsys.readouterr().out
