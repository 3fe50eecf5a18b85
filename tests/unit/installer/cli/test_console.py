# SPDX-License-Identifier: Apache-2.0
"""``caisson console``: a code for whoever sits there, users with roles; what is refused says why."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.cli import console as commands
from installer.cli import main
from installer.engine.pillartop import render
from installer.operations import console, kube_api
from installer.operations.door import audit, codes
from tests import authorities
from tests.unit.installer.helpers import make_tree
from tests.unit.installer.operations.door.kubectl import Api

REPOSITORY_DIR = Path(__file__).parents[4]
PORTS = (REPOSITORY_DIR / "salt/parameters/ports.yaml").read_text(encoding="utf-8")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api()
    monkeypatch.setattr(kube_api, "run", found)
    return found


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Return a control plane with a console; anna has become root by sudo."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "Anna.M@example.com")
    monkeypatch.setattr(commands, "LOGIN_FILE", tmp_path / "loginuid")
    found = Paths(tmp_path / "root")
    make_tree(tmp_path / "tree", {"salt/parameters/ports.yaml": PORTS})
    tell(found, "bootstrap")
    certificate, _ = authorities.make_authority(tmp_path / "pki")
    file = found.at(console.CERTIFICATE_FILE)
    file.parent.mkdir(parents=True)
    file.write_bytes(certificate.read_bytes())
    found.admin_kubeconfig_file.parent.mkdir(parents=True)
    found.admin_kubeconfig_file.write_text("{}")
    return found


def tell(paths: Paths, role: str) -> None:
    node = {"role": role, "control_plane_address": "10.77.1.11", "name": "node1"}
    paths.pillar_dir.mkdir(parents=True, exist_ok=True)
    (paths.pillar_dir / "caisson.sls").write_text(render({"caisson": {"node": node}}))


def run(paths: Paths, *words: str) -> int:
    return main.main(["console", *words], tree_dir=paths.root.parent / "tree", paths=paths)


def test_a_code_is_shown_with_where_and_for_whom(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(paths, "login", "--json") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["url"] == "https://10.77.1.11:9443/login"
    assert (said["user"], said["role"], said["api"]) == ("anna-m", "admin", True)
    assert api.role("anna-m") == "admin"
    text = paths.at(console.CERTIFICATE_FILE).read_text()
    import hashlib  # noqa: PLC0415

    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()
    assert said["fingerprint"].replace(":", "").lower() == digest
    entry, result = codes.redeem(paths, said["code"])
    assert (entry.maker, entry.seconds) == ("Anna.M@example.com", 8 * 3600)
    assert result["user"] == "anna-m"
    (line,) = audit.last(paths, 5)
    assert (line["verb"], line["who"]) == ("login", "Anna.M@example.com")
    assert said["code"] not in json.dumps(line)


def test_for_people_the_code_stands_alone_in_a_line(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    del api
    assert run(paths, "login", "--as", "eve", "--role", "viewer", "--for", "30m") == 0
    said = capsys.readouterr().out
    assert "https://10.77.1.11:9443/login" in said
    assert "eve, viewer; one log-in, within 5 minutes" in said
    assert "SHA-256" in said


def test_a_user_keeps_the_role_until_somebody_changes_it(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(paths, "user", "add", "eve", "--role", "viewer") == 0
    assert run(paths, "login", "--as", "eve") == 0
    assert api.role("eve") == "viewer"
    assert run(paths, "login", "--as", "eve", "--role", "admin") == 2
    assert "caisson console user add eve --role admin" in capsys.readouterr().err
    assert run(paths, "user", "add", "eve", "--role", "admin") == 0
    assert api.role("eve") == "admin"


def test_a_role_changed_after_the_code_was_made_counts(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(paths, "login", "--as", "eve", "--json") == 0
    code = json.loads(capsys.readouterr().out)["code"]
    run(paths, "user", "add", "eve", "--role", "viewer")
    assert codes.redeem(paths, code)[1]["role"] == "viewer"
    assert api.role("eve") == "viewer"


def test_without_the_api_a_code_is_made_all_the_same(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = False
    assert run(paths, "login", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["api"] is False
    assert "may look, and make a report" in said.err
    assert codes.redeem(paths, json.loads(said.out)["code"])[1]["user"] == "local"


def test_users_are_listed_and_removed_with_their_codes(
    paths: Paths, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    run(paths, "login", "--as", "eve")
    capsys.readouterr()
    assert run(paths, "user", "list", "--json") == 0
    (user,) = json.loads(capsys.readouterr().out)["users"]
    assert (user["name"], user["role"]) == ("eve", "admin")
    assert run(paths, "user", "remove", "eve") == 0
    assert api.accounts == api.bindings == {}
    assert list(paths.codes_dir.iterdir()) == []
    assert run(paths, "user", "remove", "eve") == 2


@pytest.mark.parametrize("time", ["5m", "8d", "8", "h", "-1h", "0h", "8h\n"])
def test_a_bad_time_is_refused(paths: Paths, time: str) -> None:
    assert run(paths, "login", "--for", time) == 2


@pytest.mark.parametrize("name", ["Eve", "e_v", "../x"])
def test_a_bad_name_is_refused(paths: Paths, api: Api, name: str) -> None:
    assert run(paths, "login", "--as", name) == 2
    assert api.calls == []


def test_a_worker_has_no_console(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    tell(paths, "worker")
    assert run(paths, "login") == 12
    assert "start this on a control-plane node" in capsys.readouterr().err


def test_a_host_without_its_certificate_says_which_phase_makes_it(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.at(console.CERTIFICATE_FILE).write_text("")
    assert run(paths, "login") == 12
    assert "caisson bootstrap" in capsys.readouterr().err
