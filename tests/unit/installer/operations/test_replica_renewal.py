# SPDX-License-Identifier: Apache-2.0
"""The certificate of a control plane that serves too: renewed from here for its own key, taken there if it fits."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography import x509 as real_x509
from cryptography.hazmat.primitives import hashes, serialization

from installer.base.paths import Paths
from installer.base.run import Completed
from installer.cli import certificates
from installer.cli.common import Arguments
from installer.config import changes, x509
from installer.config.ports import PORTS_FILE
from installer.engine import mediaservers, pillartop
from installer.engine.mediaservers import MediaServer
from installer.operations import (
    bus,
    media_certificate,
    media_serving,
    replica,
    replica_answers,
    replica_certificate,
    replica_renewal,
    schemas,
)
from installer.operations.bus import Answer
from tests.authorities import make_authority, make_leaf
from tests.unit.installer.helpers import make_config, make_facts
from tests.unit.installer.operations.test_media_certificate import ROOT_DIR, Server

NAMES = ("127.0.0.1", "media.lab.internal")
pytestmark = [pytest.mark.loopback]


def days(count: int) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=count)


class Scene:
    """A bootstrap node with the authority's key, and cp2 with its own; the bus between them; Salt signs."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.there, self.tree_dir = Paths(root / "here"), Paths(root / "there"), root / "tree"
        self.authority = make_authority(self.here.at("/etc/caisson/pki"))
        self.is_off, self.asked = False, list[str]()
        self.there.at("/etc/caisson/tls").mkdir(parents=True)
        shutil.copy(self.authority[0], self.there.at("/etc/caisson/ca.crt"))
        self.give(days(800))
        self.server = Server(self.files)
        (self.tree_dir / PORTS_FILE).parent.mkdir(parents=True)
        table = (ROOT_DIR / PORTS_FILE).read_text().replace("8443", str(self.server.port))
        (self.tree_dir / PORTS_FILE).write_text(table)
        for paths, node in (
            (self.here, {"name": "node1"}),
            (self.there, {"name": "cp2", "media": ["0.1.0-aa"]}),
        ):
            values = changes.values(make_config(), make_facts())
            values["node"] = {**values["node"], **node, "control_plane_address": "127.0.0.1"}
            values["media_name"] = "media.lab.internal"
            paths.pillar_dir.mkdir(parents=True)
            (paths.pillar_dir / "caisson.sls").write_text(pillartop.render({"caisson": values}))
        monkeypatch.setattr(
            mediaservers, "known", lambda _: (MediaServer("cp2", "127.0.0.1", ("0.1.0-aa",)),)
        )
        monkeypatch.setattr(bus, "ask_why", self.ask)
        monkeypatch.setattr(replica_certificate, "_single", self.sign)
        monkeypatch.setattr(media_serving, "container", lambda: "id")
        monkeypatch.setattr(replica, "run", self.run)
        monkeypatch.setattr(media_certificate, "RELOAD_S", 0.3)

    @property
    def files(self) -> tuple[Path, Path]:
        return (
            self.there.at(media_certificate.OWN_FILE),
            self.there.at(media_certificate.OWN_KEY_FILE),
        )

    def give(self, end: dt.datetime) -> None:
        """Give cp2 a key and a certificate, as the command does over SSH, and note the certificate."""
        for made, file in zip(
            make_leaf(self.there.root, self.authority, names=NAMES, end=end), self.files, strict=True
        ):
            made.rename(file)
        note = replica_certificate.note_file(self.here, "cp2")
        note.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.files[0], note)

    def sign(self, function: str, given: dict[str, Any]) -> None:
        """Sign as Salt does (tests/sls/test_certificate.py): for the public key alone."""
        assert (function, "private_key" in given) == ("x509.certificate_managed", False)
        assert given["subjectAltName"] == "IP:127.0.0.1, DNS:cp2, DNS:media.lab.internal"
        made, key = make_leaf(self.here.root, self.authority, names=NAMES, end=days(825))
        authority_key = serialization.load_pem_private_key(self.authority[1].read_bytes(), None)
        public_key: Any = serialization.load_pem_public_key(Path(given["public_key"]).read_bytes())
        old = real_x509.load_pem_x509_certificate(made.read_bytes())
        builder = real_x509.CertificateBuilder(
            old.issuer,
            old.subject,
            public_key,
            old.serial_number,
            old.not_valid_before_utc,
            old.not_valid_after_utc,
        )
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        signed = builder.sign(authority_key, hashes.SHA256())  # type: ignore[arg-type]
        Path(given["name"]).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key.unlink()

    def ask(self, name: str, function: str, given: str, **_: Any) -> Answer:
        self.asked.append(function)
        if self.is_off:
            return Answer(bus.NO_ANSWER, "Minion did not return. [Not connected]")
        assert (name, function) == ("cp2", replica_renewal.TAKE)
        return Answer(replica_answers.take_certificate(json.loads(given), self.there))

    def run(self, args: Sequence[object], **_: Any) -> Completed:
        assert list(args)[:3] == ["crictl", "exec", "id"]
        self.server.read()
        return Completed(0, "", "")

    def keep(self) -> replica_renewal.Renewed:
        (found,) = replica_renewal.keep(self.here, self.tree_dir, say=lambda _: None)
        return found


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path, monkeypatch)
    yield made
    made.server.listener.close()


def test_one_that_is_good_is_not_asked_for(scene: Scene) -> None:
    found = scene.keep()
    assert (found.is_new, found.fault, found.days_left > 700) == (False, "", True)
    assert scene.asked == []


def test_one_that_ends_soon_is_renewed_for_its_key_and_served_without_a_restart(scene: Scene) -> None:
    scene.give(days(89))
    scene.server.read()
    key = scene.files[1].read_bytes()
    found = scene.keep()
    assert (found.is_new, found.fault, found.days_left > 800) == (True, "", True)
    assert scene.files[1].read_bytes() == key, "it stays where it is"
    note = replica_certificate.note_file(scene.here, "cp2")
    assert media_certificate.served(("127.0.0.1", scene.server.port)) == x509.read_der(note)
    assert not scene.here.at(replica_certificate.SCRATCH_DIR).exists()
    scene.asked.clear()
    assert scene.keep().is_new is False
    assert scene.asked == []


def test_one_that_is_off_is_told_and_renewed_later(scene: Scene) -> None:
    scene.give(days(10))
    scene.is_off = True
    found = scene.keep()
    assert found.is_new is False
    assert "Not connected" in found.fault
    error = replica_renewal.failure([found])
    assert error is not None
    assert "caisson media replicate NODE" in error.resolution
    scene.is_off = False
    assert scene.keep().is_new


def test_one_whose_installer_is_older_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.give(days(10))
    said = "'caisson_replica.take_certificate' is not available."
    monkeypatch.setattr(bus, "ask_why", lambda *_, **__: Answer(said))
    assert said in scene.keep().fault


def test_one_that_is_not_noted_is_told(scene: Scene) -> None:
    replica_certificate.note_file(scene.here, "cp2").unlink()
    assert "is not noted" in scene.keep().fault


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("other key", "no good"),
        ("other authority", "no good"),
        ("other names", "no good"),
        ("no certificate", "no good"),
        ("serves nothing", "serves no packages"),
    ],
)
def test_one_that_does_not_fit_is_not_taken(scene: Scene, spoil: str, said: str) -> None:
    before = scene.files[0].read_bytes()
    text = before.decode()
    if spoil == "other key":
        text = make_leaf(scene.here.root, scene.authority, names=NAMES)[0].read_text()
    elif spoil == "other authority":
        other = make_authority(scene.here.root / "other")
        made = make_leaf(scene.here.root, other, names=NAMES)
        shutil.copy(made[1], scene.files[1])
        text = made[0].read_text()
    elif spoil == "other names":
        made = make_leaf(scene.here.root, scene.authority, names=("10.0.0.9",))
        shutil.copy(made[1], scene.files[1])
        text = made[0].read_text()
    elif spoil == "no certificate":
        text = "none"
    else:
        (scene.there.pillar_dir / "caisson.sls").write_text('#!json\n{"caisson": {"node": {"name": "cp2"}}}')
    answer = replica_answers.take_certificate({"certificate": text}, scene.there)
    assert said in answer["error"]["message"]
    assert scene.files[0].read_bytes() == before
    assert not scene.there.at(replica.OFFERED_FILE).exists()


def test_an_answer_without_one_is_refused(scene: Scene) -> None:
    assert replica_answers.take_certificate({}, scene.there)["error"]["message"] == "no certificate was given"


def test_the_public_key_of_a_certificate_is_read(tmp_path: Path) -> None:
    certificate, _ = make_leaf(tmp_path, make_authority(tmp_path / "ca"))
    wanted = real_x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    found = serialization.load_pem_public_key(x509.public_key(certificate).encode())
    assert found == wanted
    (tmp_path / "none.crt").write_text("none")
    with pytest.raises(ValueError, match="holds no certificate"):
        x509.public_key(tmp_path / "none.crt")


def test_the_command_renews_both_and_fails_for_one_that_cannot_be(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = media_certificate.Served("/x", "2030-01-01", 700, is_of_site=False, done=())
    monkeypatch.setattr(media_certificate, "keep", lambda *_, **__: served)
    monkeypatch.setattr(certificates, "need_root", lambda: None)
    arguments = Arguments(json=True)
    assert certificates._renew(arguments, scene.tree_dir, scene.here) == 0
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, schemas.load("certificates"))
    assert (said["replicas"][0]["name"], said["exit_code"]) == ("cp2", 0)
    scene.give(days(10))
    scene.is_off = True
    assert certificates._renew(arguments, scene.tree_dir, scene.here) == 12
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, schemas.load("certificates"))
    assert said["replicas"][0]["fault"]


def test_on_a_further_node_the_command_says_where_that_is_done(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(certificates, "need_root", lambda: None)
    text = pillartop.render({"caisson": {"node": {"name": "cp2", "role": "control-plane"}}})
    (scene.there.pillar_dir / "caisson.sls").write_text(text)
    monkeypatch.setattr(mediaservers, "known", lambda _: ())
    assert certificates._renew(Arguments(json=False), scene.tree_dir, scene.there) == 0
    assert "are renewed on the bootstrap node" in capsys.readouterr().out
