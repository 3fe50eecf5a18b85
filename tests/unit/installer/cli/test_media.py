# SPDX-License-Identifier: Apache-2.0
"""``caisson media``: what it prints, for people and as JSON; what it does is in tests/unit/installer/operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.paths import Paths
from installer.cli import jobs
from installer.cli.main import main
from installer.config.ports import PORTS_FILE
from installer.engine import mediaservers, saltcall
from installer.engine.jobrecord import Request
from installer.engine.mediaservers import MediaServer
from installer.operations import schemas
from tests.unit.installer.helpers import CONFIG_TEXT, make_context
from tests.unit.installer.operations.isos import OWN_BUILD, PAUSE, IsoHost

ROOT_DIR = Path(__file__).parents[4]
OWN, SECOND = f"0.1.0-{OWN_BUILD}", "0.1.0-20261102.bb"
APP = "quay.io/vendor/app:1"


@pytest.fixture
def host(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> IsoHost:
    """Return a bootstrap node; ``tree`` is the installed copy."""
    made = IsoHost(tmp_path, monkeypatch)
    (tree / PORTS_FILE).parent.mkdir(parents=True, exist_ok=True)
    (tree / PORTS_FILE).write_text((ROOT_DIR / PORTS_FILE).read_text())
    (tree / "product.json").write_bytes((made.own_iso.with_suffix(".tree") / "product.json").read_bytes())
    saltcall.write_configuration(make_context(tmp_path))
    made.paths.config_file.write_text(CONFIG_TEXT)
    return made


def run(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str], *words: str, is_json: bool = False
) -> tuple[int, str]:
    """Run it; as JSON it must be as its schema says."""
    code = main(["media", *words, *(["--json"] if is_json else [])], tree_dir=tree, paths=host.paths)
    shown = capsys.readouterr()
    if is_json:
        jsonschema.validate(json.loads(shown.out), schemas.load("media"))
        return code, shown.out
    return code, shown.out + shown.err


def data(host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(run(host, tree, capsys, *words, is_json=True)[1])


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schemas.load("media"))


def test_one_is_added_listed_verified_and_removed(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    iso = host.iso("20261102.bb", {APP: b"app", PAUSE: b"another"})
    code, shown = run(host, tree, capsys, "add", str(iso))
    assert code == 0
    assert f"{SECOND}, from {iso}: is mounted now and after each boot" in shown
    assert f"https://10.77.1.11:8443/media/{SECOND}/repo/el9/" in shown
    assert f"{PAUSE}: served from {OWN}, not from {SECOND}" in shown
    again = data(host, tree, capsys, "add", str(iso))
    assert (again["changed"], again["name"], len(again["clashes"])) == (False, SECOND, 1)

    _, shown = run(host, tree, capsys, "list")
    rows = [line.split() for line in shown.splitlines()]
    assert rows[1][:4] == [OWN, "lab", "yes", "yes"]
    assert rows[2][:4] == [SECOND, "lab", "no", "yes"]
    assert f"{SECOND}: of these names another ISO's image is served:\n  {PAUSE}" in shown
    listed = data(host, tree, capsys, "list")["media"]
    assert [(row["name"], row["signed_by"], row["hidden"]) for row in listed] == [
        (OWN, "", []),
        (SECOND, "", [PAUSE]),
    ]

    code, shown = run(host, tree, capsys, "verify")
    assert code == 0
    assert f"{OWN}: 5 files" in shown
    assert [one["name"] for one in data(host, tree, capsys, "verify", "20261102.bb")["verified"]] == [SECOND]

    assert data(host, tree, capsys, "remove", SECOND) == {"format": 1, "name": SECOND, "made_from": str(iso)}
    assert len(data(host, tree, capsys, "list")["media"]) == 1


def test_what_is_wrong_is_listed_with_what_to_do(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.own_iso.unlink()
    code, shown = run(host, tree, capsys, "list")
    assert code == 0
    assert f"{OWN}: {host.own_iso} is no longer there: the media is lost with the next reboot\n  -> " in shown
    assert data(host, tree, capsys, "list")["media"][0]["resolution"] != ""


def test_a_damaged_one_has_the_exit_code_of_media(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (host.paths.media_dir(OWN) / "product.json").write_text("{}")
    iso = host.iso("20261102.bb", {APP: b"app"})
    run(host, tree, capsys, "add", str(iso))
    code, shown = run(host, tree, capsys, "verify")
    assert code == 6
    assert f"error: CSE006 {OWN}: differs: product.json (sha256" in shown
    assert f"{SECOND}: 5 files" in shown, "the others are read, too"
    found = data(host, tree, capsys, "verify")
    assert found["exit_code"] == 6
    assert found["verified"][0]["faults"][0]["path"] == "product.json"


def test_one_that_is_away_is_told_and_the_others_are_verified(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, tree, capsys, "add", str(host.iso("20261102.bb", {APP: b"app"})))
    host.mounts = host.mounts[:1]
    code, shown = run(host, tree, capsys, "verify")
    assert code == 6
    assert f"{OWN}: 5 files" in shown
    assert f"nothing is mounted at {host.paths.media_dir(SECOND)}" in shown
    assert len(data(host, tree, capsys, "verify")["away"]) == 1
    code, shown = run(host, tree, capsys, "verify", SECOND)
    assert (code, "-> systemctl start" in shown) == (6, True)


def test_a_control_plane_that_serves_too_and_lacks_an_iso_is_told(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = (MediaServer("cp2", "10.77.1.12", (OWN,)), MediaServer("cp3", "10.77.1.13", (OWN, SECOND)))
    monkeypatch.setattr(mediaservers, "known", lambda _: servers[:1])
    assert data(host, tree, capsys, "list")["replicas"][0]["missing"] == ""
    _, shown = run(host, tree, capsys, "add", str(host.iso("20261102.bb", {APP: b"app"})))
    assert f"note: cp2 serves too, and it lacks {SECOND}: caisson media replicate cp2" in shown
    monkeypatch.setattr(mediaservers, "known", lambda _: servers)
    _, shown = run(host, tree, capsys, "list")
    assert f"cp2, which serves too: it lacks {SECOND}\n  -> caisson media replicate cp2" in shown
    assert "cp3, which serves too" not in shown
    found = data(host, tree, capsys, "list")["replicas"]
    assert [(one["name"], one["lacks"]) for one in found] == [("cp2", [SECOND]), ("cp3", [])]
    _, shown = run(host, tree, capsys, "remove", SECOND)
    assert (
        f"note: cp3 serves too, and it still has {SECOND}, removed here: caisson media replicate cp3" in shown
    )
    assert data(host, tree, capsys, "list")["replicas"][1]["needless"] == [SECOND]


def test_use_notes_it_and_asks_for_a_bootstrap_of_its_own_tree(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    iso = host.iso("20261102.bb", {PAUSE: b"in use", APP: b"app"})
    run(host, tree, capsys, "add", str(iso))
    asked: list[tuple[Request, Path]] = []

    def ask(_: object, request: Request, tree_dir: Path, *__: object) -> int:
        asked.append((request, tree_dir))
        return 0

    monkeypatch.setattr(jobs, "ask_and_follow", ask)
    for _ in range(2):  # also when the program is that of the ISO of before
        code, shown = run(host, tree, capsys, "use", SECOND)
        assert (code, f"{SECOND} is in use from now on" in shown) == (0, True)
    request, tree_dir = asked[-1]
    assert tree_dir == host.paths.media_dir(SECOND)
    assert request.operation == "bootstrap"
    assert request.command[1:] == (
        "bootstrap",
        "--config",
        str(host.paths.config_file),
        "--accept-lab-bundle",
    )
    code, shown = run(host, tree, capsys, "list")
    assert (code, "another build of the same version" in shown) == (13, True), (
        "until its program is installed"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("use", "x"), 2, "there is no ISO x on this host"),
        (("remove", OWN), 12, "is in use: this host is installed from it"),
        (("remove", "x"), 2, "there is no ISO x on this host"),
        (("verify", "x"), 2, "there is no ISO x on this host"),
        (("add", "/nowhere.iso"), 2, "/nowhere.iso cannot be read"),
    ],
)
def test_what_is_refused(
    host: IsoHost,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    found, shown = run(host, tree, capsys, *words)
    assert (found, said in shown) == (code, True)
    assert data(host, tree, capsys, *words)["error"]["exit_code"] == code


def test_the_program_of_an_iso_that_is_not_in_use_is_refused(
    host: IsoHost, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    iso = host.iso("20261102.bb", {APP: b"app"})
    (tree / "product.json").write_bytes((iso.with_suffix(".tree") / "product.json").read_bytes())
    code, shown = run(host, tree, capsys, "list")
    assert (code, "another build of the same version" in shown) == (13, True)


def test_a_host_without_any_says_so(tmp_path: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["media", "list"], tree_dir=tree, paths=Paths(tmp_path / "none")) == 0
    assert "there is no ISO on this host" in capsys.readouterr().out
