# SPDX-License-Identifier: Apache-2.0
"""``caisson images``: what it prints, for people and as JSON; the registry itself is in tests/sls/test_images.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.paths import Paths
from installer.cli import images as command
from installer.cli.main import main
from installer.config.ports import PORTS_FILE
from installer.engine import saltcall
from installer.operations import images, push_login, schemas
from installer.operations.images import Fault, Listed, Pushed, Removed, Verified
from tests.unit.installer.helpers import make_context

ROOT_DIR = Path(__file__).parents[4]
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def paths(tmp_path: Path, tree: Path) -> Paths:
    """Return a bootstrap node's paths, with its pillar, its passwords and the port table of its tree."""
    context = make_context(tmp_path)
    (tree / PORTS_FILE).parent.mkdir(parents=True, exist_ok=True)
    (tree / PORTS_FILE).write_text((ROOT_DIR / PORTS_FILE).read_text())
    saltcall.write_configuration(context)
    push_login.ensure(context.paths)
    return context.paths


def run(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, dict[str, Any]]:
    """Run it for people and as JSON, which must be as its schema says."""
    code = main(["images", *words], tree_dir=tree, paths=paths)
    shown = capsys.readouterr()
    assert main(["images", *words, "--json"], tree_dir=tree, paths=paths) == code
    data = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, schemas.load("images"))
    return code, shown.out + shown.err, data


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schemas.load("images"))


def test_login_says_how_and_shows_no_password(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown, data = run(paths, tree, capsys, "login")
    assert code == 0
    registry = data["registry"]
    assert registry.endswith(":8444")
    for tool in ("podman", "skopeo", "docker", "nerdctl"):
        assert any(f"{tool}" in line and registry in line for line in data["commands"][tool])
        assert data["commands"][tool][-1] in shown
    password = push_login.get(paths)
    assert password not in shown + json.dumps(data)
    _, shown, data = run(paths, tree, capsys, "login", "--show-password")
    assert password in shown
    assert data["password"] == password


def test_login_makes_a_new_password_when_it_is_told_to(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = push_login.get(paths)
    assert main(["images", "login", "--rotate"], tree_dir=tree, paths=paths) == 0
    assert push_login.get(paths) not in (before, *capsys.readouterr())
    push_login.check(paths)


@pytest.mark.parametrize("action", [("login",), ("push", "x"), ("list",), ("remove", "x"), ("verify",)])
def test_where_there_is_no_registry_it_says_so(
    tmp_path: Path, tree: Path, capsys: pytest.CaptureFixture[str], action: tuple[str, ...]
) -> None:
    code, shown, data = run(Paths(tmp_path / "none"), tree, capsys, *action)
    assert code == 12
    assert "there is no registry on this host" in shown
    assert data["error"]["resolution"] == ["run it on the bootstrap node"]


def test_push_names_each_image_and_what_was_sent(
    paths: Paths,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "index.json").write_text('{"manifests": []}')
    pushed = [Pushed("quay.io/a:1", DIGEST, 2, 2048), Pushed("quay.io/b:1", DIGEST, 0, 0)]
    monkeypatch.setattr(images, "push", lambda *_, **__: pushed)
    code, shown, data = run(paths, tree, capsys, "push", str(tmp_path))
    assert code == 0
    assert "2 blobs, 2.0 KiB sent" in shown
    assert "all there" in shown
    assert [entry["name"] for entry in data["images"]] == ["quay.io/a:1", "quay.io/b:1"]


@pytest.mark.parametrize("given", ["/nowhere/app.tar", "./app", "app.tar"])
def test_a_file_that_is_not_there_is_no_name(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    code, shown, _ = run(paths, tree, capsys, "push", given)
    assert code == 2
    assert f"{given} is not there" in shown


def test_list_says_from_where_and_on_which_nodes(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Listed("quay.io/a:1", "site", DIGEST, 1024, ("node1", "node2")),
        Listed("quay.io/b:1", "ISO", DIGEST, 1024, ()),
        Listed("quay.io/c:1", "ISO", DIGEST, 1024, None),
    ]
    monkeypatch.setattr(images, "list_images", lambda *_: found)
    code, shown, data = run(paths, tree, capsys, "list")
    assert code == 0
    assert [line.split("  ")[-1].strip() for line in shown.splitlines()[1:]] == [
        "node1, node2",
        "none",
        "not known",
    ]
    assert [entry["nodes"] for entry in data["images"]] == [["node1", "node2"], [], None]


def test_remove_says_what_it_freed(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "remove", lambda *_, **__: Removed("quay.io/a:1", DIGEST, 2048))
    code, shown, data = run(paths, tree, capsys, "remove", "quay.io/a:1")
    assert (code, data["freed_bytes"]) == (0, 2048)
    assert "quay.io/a:1 is removed, 2.0 KiB freed" in shown


@pytest.mark.parametrize("faults", [(), (Fault(DIGEST, "has other bytes", ("quay.io/a:1",)),)])
def test_verify_names_what_is_damaged(
    paths: Paths,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    faults: tuple[Fault, ...],
) -> None:
    monkeypatch.setattr(images, "verify", lambda *_, **__: Verified(3, 4096, faults))
    code, shown, data = run(paths, tree, capsys, "verify")
    assert code == data["exit_code"] == (21 if faults else 0)
    assert f"3 blobs, 4.0 KiB: {len(faults)} damaged" in shown
    if faults:
        assert f"{DIGEST} has other bytes: quay.io/a:1" in shown


def test_no_command_has_a_password() -> None:
    commands = command.login_commands("10.0.0.1:8444")
    assert not [line for lines in commands.values() for line in lines if "password" in line]
