# SPDX-License-Identifier: Apache-2.0
"""The phases and their runner: journalled, resumable, and silent about nothing."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from installer.base.errors import MediaError, StoppedError, UsageError
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.engine import journal
from installer.engine.context import Context
from installer.engine.journal import Journal
from installer.media import rpmkeys
from installer.operations import bootstrap as phases
from installer.operations.bootstrap import PHASES, Outcome, Phase
from tests.conftest import GoldenCheck
from tests.unit.installer.helpers import make_context, make_tree, product_bytes

NAMES = (
    "verify-media mount-media install-self preflight stop-minion install-minion minion-local node-checks "
    "container-runtime kubelet-standalone salt-master minion-connected registry nginx firewall control-plane "
    "addons network verify-cluster report"
)


def make_phase(name: str, run: Callable[[Context], bool] = lambda _: False) -> Phase:
    return Phase("CSP901", name, f"do {name}", run, "none")


def raise_it(error: BaseException) -> Callable[[Context], bool]:
    def run(_: Context) -> bool:
        raise error

    return run


class Clock:
    """A clock that goes on by half a second at each look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def run_all(context: Context, chosen: Sequence[Phase]) -> tuple[Outcome, ...]:
    return phases.run_phases(context, chosen, clock=Clock())


def test_the_phases_in_their_order() -> None:
    assert [phase.name for phase in PHASES] == NAMES.split()
    assert all(phase.undo and phase.title for phase in PHASES)


def test_a_run_is_told_and_journalled(tmp_path: Path) -> None:
    stream = io.StringIO()
    context = make_context(tmp_path, ui=Ui(stream, is_terminal=False))
    outcomes = run_all(context, [make_phase("one"), make_phase("two", lambda _: True)])
    assert outcomes == (
        Outcome("one", has_changed=False, seconds=0.5),
        Outcome("two", has_changed=True, seconds=0.5),
    )
    assert phases.describe(outcomes) == "2 phases in 1.0 s, 1 change"
    assert stream.getvalue().splitlines() == [
        "[ 1/20] CSP901 one: do one",
        "        ok, 0.5 s",
        "[ 2/20] CSP901 two: do two",
        "        changed, 0.5 s",
    ]
    assert [(entry.phase, entry.event, entry.changed) for entry in journal.read(context.journal.file)] == [
        ("one", "start", None),
        ("one", "done", False),
        ("two", "start", None),
        ("two", "done", True),
    ]


def test_a_failure_names_its_phase_and_how_to_go_on(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    error = MediaError("the disk is red", details="facts", resolution="paint it")
    with pytest.raises(MediaError) as caught:
        run_all(context, [make_phase("one", raise_it(error)), make_phase("two")])
    assert str(caught.value) == (
        "CSP901 one: the disk is red\n  facts\n  -> paint it\n"
        "  -> run the same command again; to begin at this phase: --from one"
    )
    assert [entry.event for entry in context.journal.entries] == ["start", "failed"]


def test_an_interrupt_is_journalled_and_has_its_own_code(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    with pytest.raises(StoppedError, match="CSP901 one: stopped"):
        run_all(context, [make_phase("one", raise_it(KeyboardInterrupt()))])
    assert context.journal.entries[-1].event == "failed"


def test_a_fault_of_ours_is_journalled_and_goes_on_up(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run_all(context, [make_phase("one", raise_it(ZeroDivisionError()))])
    assert context.journal.entries[-1].event == "failed"


def test_a_run_after_a_kill_says_so(tmp_path: Path) -> None:
    make_context(tmp_path).journal.start("one")
    stream = io.StringIO()
    context = make_context(tmp_path, ui=Ui(stream, is_terminal=False))
    run_all(context, [make_phase("one")])
    assert stream.getvalue().startswith("the last run was interrupted in the phase 'one': going on\n")


THREE = [make_phase("verify-media"), make_phase("mount-media"), make_phase("preflight")]


def test_from_a_phase(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    assert phases.select(THREE, "", context) == THREE
    with pytest.raises(UsageError, match="there is no phase 'x'"):
        phases.select(THREE, "x", context)
    with pytest.raises(UsageError, match="'verify-media' before it was never finished"):
        phases.select(THREE, "preflight", context)
    for name in ("verify-media", "mount-media"):
        context.journal.done(name, changed=False, seconds=0)
    with pytest.raises(MediaError, match="is not mounted"):
        phases.select(THREE, "preflight", context)
    context.media_dir.mkdir(parents=True)
    (context.media_dir / "product.json").write_bytes(product_bytes())
    assert [phase.name for phase in phases.select(THREE, "preflight", context)] == ["preflight"]


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
    monkeypatch.setattr(rpmkeys, "check_signatures", lambda *arguments: asked.extend(arguments))
    assert phases.run_verify_media(context) is False
    keys, packages = asked
    assert [file.name for file in keys] == [Path(name).name for name in context.product.rpm_keys]
    assert [file.name for file in packages] == ["a-1.rpm"]


def test_install_self(tmp_path: Path, golden: GoldenCheck) -> None:
    context = make_context(tmp_path)
    make_tree(context.media_dir, media_files())
    assert phases.run_install_self(context) is True
    assert phases.run_install_self(context) is False
    target = tmp_path / "opt/caisson/0.1.0"
    assert sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()) == [
        "installer/__main__.py",
        "installer/vendor/yaml/__init__.py",
        "product.json",
        "salt/parameters/ports.yaml",
    ]
    command = tmp_path / "usr/bin/caisson"
    assert command.stat().st_mode & 0o777 == 0o755
    golden("caisson", phases.render_command(Path("/opt/caisson/0.1.0")))


class Minion:
    """A systemd that knows of salt-minion only."""

    def __init__(self, *, active: str, enabled: str) -> None:
        self.answers = {"is-active": active, "is-enabled": enabled}
        self.was_disabled = False

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        if args[1] == "disable":
            assert args[2:] == ["--now", "salt-minion.service"]
            self.was_disabled = True
        return Completed(0, self.answers.get(args[1], "") + "\n", "")


@pytest.mark.parametrize(
    ("active", "enabled", "expected"),
    [
        ("inactive", "", False),
        ("unknown", "", False),
        ("inactive", "disabled", False),
        ("active", "disabled", True),
        ("failed", "enabled", True),
    ],
)
def test_stop_minion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, active: str, enabled: str, *, expected: bool
) -> None:
    minion = Minion(active=active, enabled=enabled)
    monkeypatch.setattr(phases, "run", minion)
    assert phases.run_stop_minion(make_context(tmp_path)) is expected
    assert minion.was_disabled is expected


def test_a_minion_that_was_handed_over_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minion = Minion(active="active", enabled="enabled")
    monkeypatch.setattr(phases, "run", minion)
    file = tmp_path / "etc/salt/minion.d/90-caisson.conf"
    file.parent.mkdir(parents=True)
    file.touch()
    assert phases.run_stop_minion(make_context(tmp_path)) is False
    assert not minion.was_disabled


def test_the_journal_of_another_run_is_not_this_runs(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    Journal(context.paths.journal_file, run_id="other").done("one", changed=True, seconds=1)
    assert not context.journal.has_done("one")
    assert Journal(context.paths.journal_file).has_done("one")
