# SPDX-License-Identifier: Apache-2.0
"""Steps run by the real doit: what runs again, what does not, how errors end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from build import steps
from build.base.errors import LockError, WorkspaceError
from build.base.plan import Step
from build.project import VARIABLES, Project
from build.store.digests import DigestCache
from build.store.objects import Store


def copy(source: Path, target: Path, suffix: str, log: list[str]) -> None:
    log.append(target.name)
    target.parent.mkdir(exist_ok=True)
    target.write_text(source.read_text() + suffix)


def fail() -> None:
    raise LockError("there is no lock", details="looked here", resolution="make one")


def misspell() -> None:
    int("x")


def write(file: Path) -> None:
    file.write_text("x")


class Build:
    """A dodo of its own: ``middle`` is made of a source, ``end`` of ``middle``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out_dir = root / "_out"
        self.source = root / "source"
        self.source.write_text("source")
        self.suffix = ""
        self.ran: list[str] = []
        self.said = ""
        self.plans: dict[str, Callable[[], Sequence[Step]]] = {"middle": self.middle, "end": self.end}

    def middle(self) -> Sequence[Step]:
        return (self._copy("one", self.source, "middle/one"), self._copy("two", self.source, "middle/two"))

    def end(self) -> Sequence[Step]:
        return (self._copy("", self.out_dir / "middle/one", "end"),)

    def _copy(self, name: str, source: Path, target: str) -> Step:
        file = self.out_dir / target
        return Step(
            name=name,
            doc=f"make {target}",
            run=functools.partial(copy, source, file, self.suffix, self.ran),
            inputs=(source,),
            outputs=(file,),
            config={"suffix": self.suffix},
        )

    def run(self, *tasks: str) -> int:
        """Run tasks; what doit says is in :attr:`said`."""
        said_file = self.root / "said"
        code = self.command("run", "--output-file", str(said_file), *tasks)
        self.said = said_file.read_text()
        return code

    def command(self, *words: str) -> int:
        """Run doit as its command does, with a cache of digests as a new process has it."""
        digests = DigestCache(self.out_dir / ".digests.json", Store(self.root / "store"))
        namespace: dict[str, Any] = {
            "DOIT_CONFIG": steps.configuration(self.out_dir, "test", digests, default_task="end"),
            **{f"task_{name}": self._creator(name, plan, digests) for name, plan in self.plans.items()},
        }
        self.ran.clear()
        try:
            code = DoitMain(ModuleTaskLoader(namespace)).run(list(words))
        except SystemExit as exc:
            code = exc.code
        digests.save()
        return int(code or 0)

    def _creator(
        self, name: str, plan: Callable[[], Sequence[Step]], digests: DigestCache
    ) -> Callable[[], steps.Tasks]:
        def create() -> Iterator[steps.Task]:
            first = ["middle"] if name == "end" else []
            yield from steps.product(name, f"make {name}", plan, digests=digests, first=first)

        return create


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_nothing_is_done_twice(build: Build) -> None:
    assert build.run() == 0
    assert build.ran == ["one", "two", "end"]
    assert build.run() == 0
    assert build.ran == []


def test_what_changed_is_made_again_with_all_that_follows(build: Build) -> None:
    build.run()
    build.source.write_text("changed")
    build.run()
    assert build.ran == ["one", "two", "end"]
    assert (build.out_dir / "end").read_text() == "changed"


def test_a_touched_input_is_the_same_input(build: Build) -> None:
    build.run()
    build.source.write_text("source")
    build.run()
    assert build.ran == []


def test_a_changed_configuration_makes_its_step_again(build: Build) -> None:
    build.run()
    build.suffix = "!"
    build.run()
    assert build.ran == ["one", "two", "end"]
    build.run()
    assert build.ran == []


def test_a_changed_or_lost_output_is_made_again(build: Build) -> None:
    build.run()
    (build.out_dir / "end").write_text("by somebody else")
    (build.out_dir / "middle/two").unlink()
    build.run()
    assert build.ran == ["two", "end"]
    assert (build.out_dir / "end").read_text() == "source"


def test_a_step_without_outputs_always_runs(build: Build) -> None:
    checked = Step(name="", doc="check", run=functools.partial(build.ran.append, "checked"))
    build.plans["check"] = lambda: (checked,)
    build.run("check")
    build.run("check")
    assert build.ran == ["checked"]


def test_an_error_of_ours_ends_with_its_own_code(build: Build) -> None:
    build.plans["broken"] = lambda: (Step(name="", doc="fail", run=fail),)
    assert build.run("broken") == LockError.exit_code
    assert "broken: error: there is no lock\n  details: looked here\n  resolution: make one\n" in build.said
    assert "Traceback" not in build.said


def test_an_error_of_planning_is_reported_when_the_product_is_asked_for(build: Build) -> None:
    def plan() -> Sequence[Step]:
        fail()
        return ()

    build.plans["broken"] = plan
    assert build.command("list") == 0
    assert build.run() == 0
    assert build.run("broken") == LockError.exit_code
    assert "resolution: make one" in build.said


def test_a_fault_of_the_program_keeps_its_traceback(build: Build) -> None:
    build.plans["broken"] = lambda: (Step(name="", doc="fail", run=misspell),)
    assert build.run("broken") == 2
    assert "ValueError" in build.said


def test_cleaning_leaves_what_other_builds_share(build: Build) -> None:
    shared = build.root / "store-object"
    step = build.end()[0]
    kept = Step(
        name="",
        doc="both",
        run=functools.partial(write, shared),
        outputs=(shared, build.out_dir / "own"),
        kept=frozenset({shared}),
    )
    build.plans["both"] = lambda: (kept,)
    build.run()
    (build.out_dir / "own").mkdir()
    build.run("both")
    assert build.command("clean", "both", "end") == 0
    assert shared.exists()
    assert not (build.out_dir / "own").exists()
    assert not step.outputs[0].exists()


def test_the_list_reads_like_a_table_of_contents(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    build.command("list", "--all")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["middle", "middle:one", "middle:two", "end"]


def test_a_chore_passes_its_flags_to_each_command_after_the_first() -> None:
    task = steps.chore("demo", "show it", ["first"], lambda: ["second"], ["third"], flags=["keep"])
    first, second, third = (action._action for action in task["actions"])
    bound = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable]
    assert first(keep=True) == [*bound, "-m", "first"]
    assert second(keep=True) == [*bound, "-m", "second", "--keep"]
    assert second(keep=False) == [*bound, "-m", "second"]
    assert third(keep=True) == [*bound, "-m", "third", "--keep"]


def test_a_chore_of_one_command_passes_its_flags_to_it() -> None:
    (action,) = steps.chore("gc", "list", ["only"], flags=["yes"])["actions"]
    assert action._action(yes=True)[-2:] == ["only", "--yes"]


def test_a_chore_passes_an_option_on_with_its_value() -> None:
    option = steps.Option("nodes", "how many", "lab.hosts:checked_count")
    task = steps.chore("demo", "show it", ["first"], ["second"], flags=["keep", option])
    first, second = (action._action for action in task["actions"])
    assert first(keep=False, nodes="3")[-2:] == ["-m", "first"]
    assert second(keep=True, nodes="3")[-3:] == ["second", "--keep", "--nodes=3"]
    assert second(keep=False, nodes="")[-2:] == ["-m", "second"], "not given"
    assert [parameter["default"] for parameter in task["params"]] == [False, ""]


def test_an_option_s_value_is_checked_by_who_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    option = steps.Option("nodes", "how many", "lab.hosts:checked_count")
    assert option("3") == "3"
    with pytest.raises(SystemExit) as caught:
        option("9")
    assert caught.value.code == 3
    said = capsys.readouterr().err
    assert [line.split(":")[0].strip() for line in said.splitlines()] == ["error", "details", "resolution"]
    with pytest.raises(ModuleNotFoundError):
        steps.Option("nodes", "how many", "no.such.module:function")("3")


def test_an_action_is_imported_when_it_runs() -> None:
    action = steps.call("no.such.module:function")
    with pytest.raises(ModuleNotFoundError):
        action()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nmae": "etcd"}, "did you mean name=?"),
        ({"upsteam": "lab"}, "did you mean upstream=?"),
        ({"zzz": "1"}, "leave it out"),
        ({"upstream": "lab", "name": ""}, "leave 'name=' out"),
        ({"sign": " "}, "leave 'sign=' out"),
    ],
)
def test_a_variable_that_nothing_reads_or_without_a_value_is_refused(
    given: dict[str, str], words: str
) -> None:
    with pytest.raises(WorkspaceError) as caught:
        steps.check_variables(given, VARIABLES)
    assert words in caught.value.resolution
    assert f"{list(given)[-1]}=" in caught.value.details


def test_the_variables_that_a_project_reads_are_the_known_ones() -> None:
    asked: list[str] = []

    def variable(name: str, default: str) -> str:
        asked.append(name)
        return default

    Project.asked_for(Path(), variable)
    assert sorted(asked) == sorted(VARIABLES)
    steps.check_variables({**dict.fromkeys(asked, "x"), "keys": "only"}, VARIABLES)


def test_keys_are_only_or_nothing() -> None:
    with pytest.raises(WorkspaceError, match="cannot be 'onyl'"):
        steps.check_variables({"keys": "onyl"}, VARIABLES)


def test_a_file_in_place_of_the_directory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "_out").write_text("")
    with pytest.raises(SystemExit) as caught:
        steps.configuration(
            tmp_path / "_out",
            "lab",
            DigestCache(tmp_path / "digests.json", Store(tmp_path / "store")),
            default_task="iso",
        )
    assert caught.value.code == WorkspaceError.exit_code
    assert "is no directory that can be written" in capsys.readouterr().err
