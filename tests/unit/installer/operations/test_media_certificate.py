# SPDX-License-Identifier: Apache-2.0
"""The certificate of nginx: renewed before its end, taken again from a site's files, read by a server that runs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import CommandError, ConfigError, HostError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.cli import certificates
from installer.cli.common import Arguments
from installer.config import changes
from installer.config.leaf import Leaf
from installer.config.ports import PORTS_FILE
from installer.engine import pillartop
from installer.operations import media_certificate, schemas
from tests.authorities import make_authority, make_leaf
from tests.unit.installer.helpers import make_config, make_context, make_facts

ROOT_DIR = Path(__file__).parents[4]
NAMES = ("127.0.0.1", "media.lab.internal")
SOON = dt.datetime.now(dt.UTC) + dt.timedelta(days=89)
pytestmark = [pytest.mark.loopback]


class Server:
    """A TLS server that reads its files when it is told to, as nginx does."""

    def __init__(self, files: tuple[Path, Path]) -> None:
        self.files, self.reads = files, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.read()
        threading.Thread(target=self._serve, daemon=True).start()

    def read(self) -> None:
        self.reads += 1
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        self.context = context

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(1)
            except OSError:
                continue


class Node:
    """A bootstrap node whose nginx serves; Salt makes certificates that end in ten years, unless ``salt_fails``."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.paths, self.said = root, Paths(root), list[str]()
        self.salt_fails = self.is_deaf = False
        self.has_nginx = True
        self.commands: list[list[str]] = []
        self.authority = make_authority(root / "etc/caisson/pki")
        shutil.copy(self.authority[0], root / "etc/caisson/ca.crt")
        self.tree_dir = root / "tree"
        (self.tree_dir / PORTS_FILE).parent.mkdir(parents=True)
        self.own(dt.datetime.now(dt.UTC) + dt.timedelta(days=800))
        self.server = Server((self.file("media.crt"), self.file("media.key")))
        table = (ROOT_DIR / PORTS_FILE).read_text().replace("8443", str(self.server.port))
        (self.tree_dir / PORTS_FILE).write_text(table)
        monkeypatch.setattr(media_certificate, "run", self.run)
        monkeypatch.setattr(media_certificate, "RELOAD_S", 0.2)
        self.install(None)

    def file(self, name: str) -> Path:
        return self.root / "etc/caisson/tls" / name

    def own(self, end: dt.datetime) -> None:
        """Make Caisson's own certificate, with this end."""
        made = make_leaf(self.root, self.authority, names=NAMES, end=end)
        self.file("").mkdir(exist_ok=True, parents=True)
        for source, name in zip(made, ("media.crt", "media.key"), strict=True):
            source.rename(self.file(name))

    def site(self, names: Sequence[str] = NAMES) -> Leaf:
        """Make a certificate of the site."""
        authority = make_authority(self.root / "site")
        return Leaf(*make_leaf(self.root / "site", authority, names=names), authority[0])

    def install(self, given: Leaf | None) -> None:
        """Write what Salt was given last."""
        values = changes.values(dataclasses.replace(make_config(), media_certificate=given), make_facts())
        values["node"]["control_plane_address"] = "127.0.0.1"
        values["media_name"] = "media.lab.internal"
        self.paths.pillar_dir.mkdir(parents=True, exist_ok=True)
        (self.paths.pillar_dir / "caisson.sls").write_text(pillartop.render({"caisson": values}))

    def run(self, args: Sequence[object], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        words = [str(word) for word in args]
        self.commands.append(words)
        if words[:2] == ["crictl", "ps"]:
            return Completed(0, "id\n" if self.has_nginx else "", "")
        if words[:2] == ["crictl", "exec"]:
            if not self.is_deaf:
                self.server.read()
            return Completed(0, "", "")
        assert words[0].endswith("salt-call")
        if self.salt_fails:
            raise CommandError("'salt-call' failed", details="no key")
        given = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("--"))
        assert json.loads(given["subjectAltName"]) == "IP:127.0.0.1, DNS:node1, DNS:media.lab.internal"
        self.own(dt.datetime.now(dt.UTC) + dt.timedelta(days=825))
        return Completed(0, json.dumps({"local": {"x": {"result": True, "comment": "made"}}}), "")

    def keep(self) -> media_certificate.Served:
        found = media_certificate.keep(self.paths, self.tree_dir, say=self.said.append)
        assert found is not None
        return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(tmp_path, monkeypatch)
    yield made
    made.server.listener.close()


def test_one_that_is_good_is_left_alone(node: Node) -> None:
    found = node.keep()
    assert (found.done, found.is_of_site, found.days_left) == ((), False, 799)
    assert (node.server.reads, node.commands) == (1, [])


@pytest.mark.parametrize("spoil", ["ends soon", "empty", "gone"])
def test_one_that_ends_soon_is_renewed_and_served_without_a_restart(node: Node, spoil: str) -> None:
    if spoil == "ends soon":
        node.own(SOON)
        node.server.read()
    elif spoil == "empty":
        node.file("media.crt").write_text("")
    else:
        node.file("media.crt").unlink()
    found = node.keep()
    assert found.done == ("Caisson's own was renewed", "nginx has read it")
    assert found.days_left == 824
    node.commands.clear()
    assert (node.keep().done, node.commands) == ((), [])


def test_a_run_that_was_killed_before_nginx_knew_is_gone_on_with(node: Node) -> None:
    node.own(dt.datetime.now(dt.UTC) + dt.timedelta(days=825))
    assert node.keep().done == ("nginx has read it",)


def test_what_cannot_be_renewed_is_told(node: Node) -> None:
    node.own(SOON)
    node.salt_fails = True
    with pytest.raises(HostError, match="cannot be renewed") as caught:
        node.keep()
    assert "no key" in caught.value.details
    media_certificate.keep_quietly(node.paths, node.tree_dir, say=node.said.append)
    assert node.said[-1].startswith(
        "note: the certificate of nginx: the certificate of nginx cannot be renewed"
    )


@pytest.mark.parametrize("spoil", ["deaf", "no nginx"])
def test_an_nginx_that_does_not_read_it_is_told(node: Node, spoil: str) -> None:
    node.own(SOON)
    node.is_deaf, node.has_nginx = spoil == "deaf", spoil != "no nginx"
    with pytest.raises(HostError, match="does not serve" if spoil == "deaf" else "nginx does not run"):
        node.keep()


def test_the_site_s_is_taken_when_its_files_change(node: Node) -> None:
    given = node.site()
    node.install(given)
    node.server.files = (node.file("site.crt"), node.file("site.key"))
    assert node.keep().done == ("the site's was taken from its files", "nginx has read it")
    assert node.file("site.key").stat().st_mode & 0o777 == 0o600
    assert node.keep().done == ()
    node.site()
    found = node.keep()
    assert found.done == ("the site's was taken from its files", "nginx has read it")
    assert found.is_of_site
    for file in (given.certificate_file, given.key_file, given.authority_file):
        file.unlink()
    assert node.keep().done == (), "once installed its files may be taken off the host"


def test_one_of_the_site_that_is_no_good_is_not_taken(node: Node) -> None:
    node.install(node.site())
    node.server.files = (node.file("site.crt"), node.file("site.key"))
    node.keep()
    before = node.file("site.crt").read_bytes()
    node.site(names=("10.0.0.1",))
    with pytest.raises(HostError, match="goes on to be served") as caught:
        node.keep()
    assert "IP address mismatch" in caught.value.details
    assert node.file("site.crt").read_bytes() == before


def test_a_host_that_serves_nothing_has_nothing_to_renew(tmp_path: Path) -> None:
    assert media_certificate.keep(Paths(tmp_path), tmp_path, say=lambda _: None) is None


def test_the_bootstrap_brings_it_or_refuses_it(node: Node) -> None:
    given = node.site(names=("10.77.1.11", "media.lab.internal"))
    context = make_context(node.root, config=dataclasses.replace(make_config(), media_certificate=given))
    assert media_certificate.bring(context)
    assert not media_certificate.bring(context)
    assert (node.root / "etc/caisson/pki/site-ca.crt").read_bytes() == given.authority_file.read_bytes()
    assert (node.root / "etc/caisson/pki").stat().st_mode & 0o777
    node.site(names=("10.0.0.1",))
    with pytest.raises(ConfigError, match="cannot serve"):
        media_certificate.bring(context)


def test_what_is_no_longer_configured_goes_once_nginx_reads_the_other(node: Node) -> None:
    for name in ("site.crt", "site.key"):
        node.file(name).write_text("x")
    context = make_context(node.root, source_dir=node.tree_dir)
    media_certificate.await_served(context)
    assert not node.file("site.crt").exists()
    assert not node.file("site.key").exists()


def test_the_command_prints_what_its_schema_says(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "need_root", lambda: None)
    monkeypatch.setattr(certificates, "handle_signals", lambda: None)
    arguments = Arguments(json=True)
    said: list[dict[str, Any]] = []
    for act in (certificates._list, certificates._renew):
        assert act(arguments, node.tree_dir, node.paths) == 0
        said.append(json.loads(capsys.readouterr().out))
        jsonschema.validate(said[-1], schemas.load("certificates"))
    assert said[-1]["served"]["done"] == []
    arguments = Arguments(json=False)
    for act in (certificates._list, certificates._renew):
        assert act(arguments, node.tree_dir, node.paths) == 0
    assert (
        "nginx serves Caisson's own certificate, /etc/caisson/tls/media.crt, until" in capsys.readouterr().out
    )
