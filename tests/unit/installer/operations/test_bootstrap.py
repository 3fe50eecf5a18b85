# SPDX-License-Identifier: Apache-2.0
"""The phases of the bootstrap: their order, what Salt applies of them, and what the installer does itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base import files
from installer.base.errors import ConfigError, MediaError
from installer.base.run import Completed
from installer.engine import runner, saltcall
from installer.engine.phase import States
from installer.media import dnf, notes, repair, rpmkeys
from installer.operations import OPERATIONS, bootstrap, cluster, handed_over
from installer.operations.bootstrap import PHASES
from tests.conftest import GoldenCheck
from tests.unit.installer.helpers import make_config, make_context, make_tree, product_bytes

SALT_DIR = Path(__file__).parents[4] / "salt"
NAMES = (
    "verify-media mount-media install-self preflight stop-minion install-minion minion-local node-checks "
    "container-runtime kubelet-standalone salt-master minion-connected registry nginx firewall control-plane "
    "addons network verify-cluster site-images console report"
)


def test_the_phases_in_their_order() -> None:
    assert [phase.name for phase in PHASES] == NAMES.split()
    assert all(phase.undo and phase.title for phase in PHASES)


def test_what_salt_applies_is_data_and_its_states_are_there() -> None:
    states = [phase.applies for phase in PHASES if isinstance(phase.applies, States)]
    assert len(states) == 11
    for name in (name for applied in states for name in applied.sls):
        place = SALT_DIR / name.replace(".", "/")
        assert place.with_suffix(".sls").is_file() or (place / "init.sls").is_file(), name


def test_a_code_is_of_one_phase_among_all_operations() -> None:
    codes = [phase.code for operation in OPERATIONS for phase in operation.phases]
    assert len(set(codes)) == len(codes)
    assert bootstrap.OPERATION in OPERATIONS


def test_beyond_the_mount_the_media_must_be_there(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    for name in ("verify-media", "mount-media", "install-self"):
        context.journal.done(name, changed=False, seconds=0)
    with pytest.raises(MediaError, match="--from preflight: the media is not mounted at"):
        runner.select(bootstrap.OPERATION, "preflight", context)
    context.media_dir.mkdir(parents=True)
    (context.media_dir / "product.json").write_bytes(product_bytes())
    assert runner.select(bootstrap.OPERATION, "preflight", context)[0].name == "preflight"


# ---- single phases ---------------------------------------------------------------------------------------


def media_files() -> dict[str, str]:
    return {
        "installer/__main__.py": "main",
        "installer/vendor/yaml/__init__.py": "yaml",
        "installer/__pycache__/x.pyc": "bytes",
        "product.json": product_bytes().decode(),
        "salt/parameters/ports.yaml": "ports: []\n",
        "salt/top.sls": "base: {}\n",
    }


def test_verify_media_checks_the_packages_signatures_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path)
    make_tree(context.source_dir, {**media_files(), "repo/el9/Packages/a-1.rpm": "x"})
    asked: list[Sequence[Path]] = []
    monkeypatch.setattr(rpmkeys, "check_signatures", lambda *arguments, **_: asked.extend(arguments))
    assert bootstrap.run_verify_media(context) is False
    keys, packages = asked
    assert [file.name for file in keys] == [Path(name).name for name in context.product.rpm_keys]
    assert [file.name for file in packages] == ["a-1.rpm"]


@pytest.mark.parametrize("noted", ["nothing", "the same", "other sums", "torn"])
def test_signatures_are_checked_once_of_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str
) -> None:
    context = make_context(tmp_path)
    make_tree(context.source_dir, {**media_files(), "repo/el9/Packages/a-1.rpm": "x"})
    digest = notes.sums_digest(context.source_dir)
    if noted != "nothing":
        values = dict.fromkeys((field.name for field in dataclasses.fields(notes.Note)), "x")
        values.update(
            full_version=context.product.full_version, sums_sha256=digest if noted == "the same" else "0"
        )
        notes.write(notes.Note(**{**values, "size_bytes": 1}), context.paths.media_notes_dir)  # type: ignore[arg-type]
    if noted == "torn":
        (context.paths.media_notes_dir / f"{context.product.full_version}.json").write_text("")
    asked: list[object] = []
    monkeypatch.setattr(rpmkeys, "check_signatures", lambda *arguments, **_: asked.append(arguments))
    bootstrap.run_verify_media(context)
    assert len(asked) == (0 if noted == "the same" else 1)


def test_install_self(tmp_path: Path, golden: GoldenCheck) -> None:
    context = make_context(tmp_path)
    make_tree(context.media_dir, media_files())
    assert bootstrap.run_install_self(context) is True
    assert bootstrap.run_install_self(context) is False
    target = tmp_path / "opt/caisson/0.1.0"
    assert sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()) == [
        "installer/__main__.py",
        "installer/vendor/yaml/__init__.py",
        "product.json",
        "salt/parameters/ports.yaml",
    ]
    command = tmp_path / "usr/bin/caisson"
    assert command.stat().st_mode & 0o777 == 0o755
    golden("caisson", bootstrap.render_command(Path("/opt/caisson/0.1.0")))


class Systemd:
    """A systemd with units: name -> ActiveState and UnitFileState; another one is not there."""

    def __init__(self, units: dict[str, tuple[str, str]]) -> None:
        self.units = units
        self.disabled: list[str] = []

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        if args[1] == "disable":
            assert args[2] == "--now"
            self.disabled += args[3:]
            return Completed(0, "", "")
        assert args[:3] == ["systemctl", "show", "--property=Id,ActiveState,UnitFileState"]
        blocks = []
        for unit in args[3:]:
            active, enabled = self.units.get(unit, ("inactive", ""))
            blocks.append(f"Id={unit}\nActiveState={active}\nUnitFileState={enabled}\n")
        return Completed(0, "\n".join(blocks), "")


@pytest.mark.parametrize(
    ("active", "enabled", "expected"),
    [
        ("inactive", "", False),
        ("inactive", "disabled", False),
        ("active", "disabled", True),
        ("failed", "enabled", True),
    ],
)
def test_stop_minion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, active: str, enabled: str, *, expected: bool
) -> None:
    systemd = Systemd({"salt-minion.service": (active, enabled), "kubelet.service": ("active", "enabled")})
    monkeypatch.setattr(handed_over, "run", systemd)
    assert bootstrap.run_stop_minion(make_context(tmp_path)) is expected
    assert systemd.disabled == ["salt-minion.service"] * expected


def test_a_minion_that_was_handed_over_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd({"salt-minion.service": ("active", "enabled")})
    monkeypatch.setattr(handed_over, "run", systemd)
    file = tmp_path / "etc/salt/minion.d/90-caisson.conf"
    file.parent.mkdir(parents=True)
    file.touch()
    assert bootstrap.run_stop_minion(make_context(tmp_path)) is False
    assert systemd.disabled == []


def test_what_the_packages_start_is_stopped_until_its_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction brings all packages; a service that a phase has set up goes on running."""
    asked: list[Sequence[str]] = []

    def install(names: Sequence[str], **_: object) -> bool:
        asked.append(names)
        return False

    systemd = Systemd(dict.fromkeys(handed_over.HANDED_OVER, ("active", "enabled")))
    monkeypatch.setattr(handed_over, "run", systemd)
    monkeypatch.setattr(dnf, "install", install)
    context = make_context(tmp_path)
    assert bootstrap.run_install_minion(context) is True
    assert asked == [dnf.HOST_PACKAGES]
    assert systemd.disabled == ["salt-minion.service", "containerd.service", "kubelet.service"]
    systemd.disabled = []
    for file in handed_over.HANDED_OVER.values():
        context.paths.at(file).parent.mkdir(parents=True, exist_ok=True)
        context.paths.at(file).touch()
    assert bootstrap.run_install_minion(context) is False
    assert systemd.disabled == []


@pytest.mark.parametrize(
    ("was_cut", "brings", "expected"),
    [
        (False, True, ["install"]),
        (True, False, ["repair", "install"]),
        (True, True, ["repair", "install", "repair"]),
    ],
)
def test_after_a_cut_run_what_is_installed_anew_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: list[str], *, was_cut: bool, brings: bool
) -> None:
    """A package that rpm's database had lost: its empty configuration is nobody's then, and rpm keeps it.

    Source: rpm 4.18, a package with %config(noreplace) over an empty file: that stays, the package's is .rpmnew.
    """
    done: list[str] = []
    monkeypatch.setattr(handed_over, "run", Systemd({}))

    def carry_out(what: str, *, has_changed: bool) -> bool:
        done.append(what)
        return has_changed

    monkeypatch.setattr(repair, "repair", lambda **_: carry_out("repair", has_changed=False))
    monkeypatch.setattr(dnf, "install", lambda *_, **__: carry_out("install", has_changed=brings))
    context = make_context(tmp_path)
    monkeypatch.setattr(context.journal, "was_cut_since", lambda _: was_cut)
    assert bootstrap.run_install_minion(context) is brings
    assert done == expected


# ---- the start in the middle -----------------------------------------------------------------------------


def test_beyond_salt_s_configuration_it_must_be_the_present_one(tmp_path: Path) -> None:
    """Who corrects bootstrap.yaml and starts in the middle is told where: between may be phases that read it."""
    context = make_context(tmp_path)
    context.media_dir.mkdir(parents=True)
    (context.media_dir / "product.json").write_bytes(product_bytes())
    for name in NAMES.split():
        context.journal.done(name, changed=False, seconds=0)
    with pytest.raises(ConfigError, match="--from control-plane: the configuration has changed"):
        runner.select(bootstrap.OPERATION, "control-plane", context)
    saltcall.write_configuration(context)
    for name in cluster.SERVICE_FILES:
        files.write_file(context.paths.at(name), "x")
    assert runner.select(bootstrap.OPERATION, "control-plane", context)[0].name == "control-plane"
    extra = "apiServer: {extraSans: [k8s.example.com]}\noverrides: {kubelet: {maxPods: 200}}\n"
    corrected = dataclasses.replace(context, config=make_config(extra))
    for name in ("node-checks", "container-runtime", "report"):
        with pytest.raises(ConfigError, match=f"--from {name}: the configuration has changed") as caught:
            runner.select(bootstrap.OPERATION, name, corrected)
        assert caught.value.details.splitlines()[:2] == ["apiServer.extraSans", "overrides.kubelet"]
        assert caught.value.resolution == "start without --from, or with --from minion-local"
    assert runner.select(bootstrap.OPERATION, "minion-local", corrected)[0].name == "minion-local"
