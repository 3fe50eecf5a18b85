# SPDX-License-Identifier: Apache-2.0
"""Run steps by doit: the only module that imports it.

    Step -> task: file_dep = inputs, targets = outputs, up to date = same configuration and same outputs

Inputs and outputs are compared by content, through one cache of digests. An error of ours is shown in its
three parts, without a traceback, and its exit code becomes that of doit.
"""

from __future__ import annotations

import atexit
import dataclasses
import difflib
import functools
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import doit
from doit import doit_cmd
from doit.action import CmdAction
from doit.dependency import FileChangedChecker
from doit.exceptions import BaseFail, TaskFailed
from doit.reporter import ConsoleReporter

from build.base.errors import BuildError, WorkspaceError
from build.base.plan import Step
from build.store.digests import DigestCache

Task = dict[str, Any]
Tasks = Iterator[Task]
Creator = Callable[[], Tasks]


def variable(name: str, default: str) -> str:
    """Return a variable of doit's command line (``doit iso upstream=lab``)."""
    return str(doit.get_var(name, default))


def variable_of(known: Sequence[str]) -> Callable[[str, str], str]:
    """Return :func:`variable`, once the command line has no other than the known ones, each with a value.

    Else end doit with words.

    Either would do another thing than was meant: ``lock nmae=etcd`` and ``lock name=$UNSET`` make the whole lock anew.
    """
    try:
        check_variables(doit_cmd._CMDLINE_VARS or {}, known)  # doit has no other way to ask for all
    except BuildError as error:
        sys.stderr.write(f"{error.render()}\n")
        sys.exit(error.exit_code)
    return variable


def check_variables(given: Mapping[str, object], known: Sequence[str]) -> None:
    """Check the variables of a command line. Raises: WorkspaceError."""
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise WorkspaceError(
                f"there is no variable '{name}'",
                details=f"given: {name}={value}; there are: {', '.join(known)}",
                resolution=f"did you mean {near[0]}=?" if near else "leave it out",
            )
        if not str(value).strip():
            raise WorkspaceError(
                f"the variable '{name}' has no value",
                details=f"given: {name}=",
                resolution=f"give it one, or leave '{name}=' out; was a variable of the shell not set?",
            )
        if name == "keys" and value != "only":
            raise WorkspaceError(
                f"the variable 'keys' cannot be '{value}'",
                details=f"given: keys={value}",
                resolution="did you mean keys=only, which takes new key files into the lock and nothing else?",
            )


def configuration(
    out_dir: Path, state_name: str, digests: DigestCache, *, default_task: str
) -> dict[str, Any]:
    """Return DOIT_CONFIG. Each upstream has its own state: building for one forgets nothing of another."""
    try:
        out_dir.mkdir(exist_ok=True)
    except OSError as exc:
        sys.stderr.write(f"error: {out_dir} is no directory that can be written: {exc.strerror}\n")
        sys.stderr.write("  resolution: move away what is there, or correct its owner and rights\n")
        sys.exit(WorkspaceError.exit_code)
    atexit.register(digests.save)

    class Checker(_DigestChecker):
        cache = digests

    return {
        "default_tasks": [default_task],
        "dep_file": str(out_dir / f".doit-{state_name}.json"),
        "backend": "json",
        "check_file_uptodate": Checker,
        "reporter": Reporter,
        "par_type": "thread",
        "sort": "definition",
        "verbosity": 2,
    }


def after(task_name: str, *, is_needed: bool) -> Callable[[Creator], Creator]:
    """Return a decorator of functions whose tasks cannot be planned before another task ran."""
    decorate: Callable[[Creator], Creator] = doit.create_after(executed=task_name)
    return decorate if is_needed else lambda creator: creator


def product(
    name: str,
    doc: str,
    plan: Callable[[], Iterable[Step]],
    *,
    digests: DigestCache,
    needs: Sequence[Path] = (),
    first: Sequence[str] = (),
    under: Sequence[str] = (),
) -> Tasks:
    """Yield the tasks of a product: one for each step.

    A step without a name is the product itself, others are its items. ``needs`` are files that every step
    depends on besides its own; ``first`` are tasks that run before, ``under`` services that run meanwhile.
    """
    try:
        steps = tuple(plan())
    except BuildError as error:
        steps, first, under = (
            (_failing(error),),
            (),
            (),
        )  # nothing is run or started for what will not be done
    if any(step.name for step in steps):
        yield {"basename": name, "name": None, "doc": doc}
    for step in steps:
        task = as_task(step, digests)
        task["file_dep"] += [str(path) for path in needs]
        named = {"name": step.name, "doc": step.doc} if step.name else {"doc": doc}
        yield {**task, **named, "basename": name, "task_dep": list(first), "setup": list(under)}


Words = Sequence[str] | Callable[[], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a chore that has a value; ``check`` (``module:function``) raises when it is not to be had.

    The module is imported once the option is given.
    """

    name: str
    help: str
    check: str

    def __call__(self, value: str) -> str:
        """Return the value as it was given, or end doit with words, before anything is run."""
        try:
            call(self.check, value)()
        except Exception as error:
            exit_code = getattr(error, "exit_code", None)
            if not isinstance(exit_code, int):
                raise
            sys.stderr.write(f"{error.render() if isinstance(error, BuildError) else f'error: {error}'}\n")
            sys.exit(exit_code)
        return value

    @property
    def parameter(self) -> dict[str, object]:
        """Return the option in doit's form; one that is not given is the empty text."""
        return {"name": self.name, "long": self.name, "type": self, "default": "", "help": self.help}


def chore(name: str, doc: str, *commands: Words, flags: Sequence[str | Option] = ()) -> Task:
    """Return a chore: Python modules that always run, one after the other, on the terminal itself.

    A command is the words after ``python -m``, or a function that is asked for them when its turn comes.
    ``flags`` are options that the chore passes on: to its only command, or to each after the first.
    """
    passed = tuple(flag if isinstance(flag, str) else flag.name for flag in flags)
    given = [passed] if len(commands) == 1 else [(), *[passed] * (len(commands) - 1)]
    return {
        "basename": name,
        "doc": doc,
        "actions": [
            CmdAction(_Command(words, taken), shell=False)
            for words, taken in zip(commands, given, strict=True)
        ],
        "params": [
            {"name": flag, "long": flag, "type": bool, "default": False, "help": f"passed on to {name}"}
            if isinstance(flag, str)
            else flag.parameter
            for flag in flags
        ],
        "uptodate": [False],
        "io": {"capture": False},
    }


#: The kernel asks a chore to end when doit itself is killed: nobody would wait for it any more.
_BOUND = ("setpriv", "--pdeathsig", "TERM", "--")


@dataclasses.dataclass(frozen=True)
class _Command:
    """The words of a command line, found when it is run. ``passed``: the names of what is added where it was given."""

    words: Words
    passed: tuple[str, ...]

    def __call__(self, **given: bool | str) -> list[str]:
        words = self.words() if callable(self.words) else self.words
        options = ((name, given[name]) for name in self.passed if given.get(name))
        added = (f"--{name}" if value is True else f"--{name}={value}" for name, value in options)
        return [*_BOUND, sys.executable, "-m", *words, *added]


def service(
    name: str, doc: str, *, start: Callable[[], None], stop: Callable[[], None] | None = None
) -> Task:
    """Return a task that others run under: started before them, stopped at the end."""
    return {
        "basename": name,
        "doc": doc,
        "actions": [_Action(start)],
        "teardown": [_Action(stop)] if stop else [],
        "uptodate": [False],
        "io": {"capture": False},
        "verbosity": 2,
    }


def call(target: str, *args: object) -> Callable[[], None]:
    """Return an action that imports ``module:function`` when it runs, and calls it."""
    return functools.partial(_call, target, args)


def _call(target: str, args: Sequence[object]) -> None:
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(*args)


def as_task(step: Step, digests: DigestCache) -> Task:
    """Turn a step into doit's form, without a name."""
    return {
        "actions": [_StepAction(step.run, digests, writes=bool(step.outputs))],
        "file_dep": [str(path) for path in step.inputs],
        "targets": [str(path) for path in step.outputs],
        "uptodate": [_Unchanged(step, digests) if step.outputs else False],
        "clean": [_Removal(_own_outputs(step))],
        "io": {"capture": False},
        "verbosity": 2,
    }


def _failing(error: BuildError) -> Step:
    """Return the step that fails as its planning did.

    So ``doit list`` works without a lock, and a planning error is reported like any other.
    """
    return Step(name="", doc=f"cannot be planned: {error.message}", run=functools.partial(_fail, error))


def _fail(error: BuildError) -> None:
    raise error


def _own_outputs(step: Step) -> tuple[Path, ...]:
    """Return what cleaning a step may remove: never an object that it took from, or put into, the store."""
    return tuple(path for path in step.outputs if path not in step.kept)


@dataclasses.dataclass(frozen=True)
class _Removal:
    """What ``doit clean`` does for a step; says so in its own words."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"<remove {' '.join(str(path) for path in self.paths)}"

    def __call__(self) -> None:
        for path in self.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class Failed(TaskFailed):  # type: ignore[misc]  # doit has no types
    """A task that failed with an error that speaks for itself: one with an exit code of its own."""

    def __init__(self, error: Exception, exit_code: int) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code

    def get_name(self) -> str:
        """Return nothing: the message says it all."""
        return ""


@dataclasses.dataclass(frozen=True)
class _Action:
    """A callable that returns a failure in place of raising one of our errors (the lab has its own)."""

    run: Callable[[], object]

    @property
    def __name__(self) -> str:
        return "run"

    def __call__(self) -> Failed | None:
        try:
            self.run()
        except Exception as error:
            exit_code = getattr(error, "exit_code", None)
            if not isinstance(exit_code, int):
                raise
            return Failed(error, exit_code)
        return None


@dataclasses.dataclass(frozen=True)
class _StepAction(_Action):
    """The action of a step; what it knows of its outputs is kept."""

    run: Callable[[], Mapping[Path, str] | None]
    digests: DigestCache
    writes: bool

    def __call__(self) -> Failed | None:
        return _Action(self._run_and_learn)()

    def _run_and_learn(self) -> None:
        if self.writes:
            self.digests.begin()
        for path, digest in (self.run() or {}).items():
            self.digests.learn(path, digest)


@dataclasses.dataclass(frozen=True)
class _Unchanged:
    """Says whether a step's configuration and outputs are those of its last success."""

    step: Step
    digests: DigestCache

    def __call__(self, task: _DoitTask, values: Mapping[str, Any]) -> bool:
        config = json.dumps(self.step.config, sort_keys=True)
        task.value_savers.append(lambda: {"config": config, "outputs": self._outputs()})
        return bool(values) and values.get("config") == config and self._is_same(values.get("outputs", {}))

    def _outputs(self) -> dict[str, str | None]:
        self.digests.refresh()
        return {str(path): self.digests.digest(path) for path in self.step.outputs}

    def _is_same(self, saved: Mapping[str, str]) -> bool:
        return all(
            str(path) in saved and saved[str(path)] == self.digests.digest(path) is not None
            for path in self.step.outputs
        )


class _DoitTask(Protocol):
    name: str
    value_savers: list[Callable[[], Mapping[str, Any]]]


class _DigestChecker(FileChangedChecker):  # type: ignore[misc]  # doit has no types
    """Tells whether an input changed by its content, never by its time."""

    cache: DigestCache

    def check_modified(self, file_path: str, file_stat: object, state: str) -> bool:  # noqa: ARG002 - doit's form
        """Say whether the file is another one than at the last success."""
        return self.cache.digest(Path(file_path)) != state

    def get_state(self, dep: str, current_state: str | None) -> str | None:  # noqa: ARG002 - doit's form
        """Return what is saved with a success."""
        return self.cache.digest(Path(dep))


class Reporter(ConsoleReporter):  # type: ignore[misc]  # doit has no types
    """Prints what is done and how long it took, and our errors in their own words."""

    desc = "what is done, with times"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._started: dict[str, float] = {}

    def execute_task(self, task: _DoitTask) -> None:
        """Name a task that starts."""
        self._started[task.name] = time.monotonic()
        super().execute_task(task)
        self.outstream.flush()

    def add_success(self, task: _DoitTask) -> None:
        """Say how long a task took, when it took long."""
        elapsed = time.monotonic() - self._started.get(task.name, time.monotonic())
        if elapsed >= 1 and not task.name.startswith("_"):
            self.write(f"   {task.name}: {elapsed:.1f} s\n")

    def skip_uptodate(self, task: _DoitTask) -> None:
        """Name only whole products that have nothing to do."""
        if ":" not in task.name:
            super().skip_uptodate(task)

    def _write_failure(self, result: Mapping[str, Any], write_exception: bool = True) -> None:  # noqa: FBT001, FBT002
        if isinstance(result["exception"], Failed):
            self.write(f"{result['task'].name}: {result['exception'].message}\n")
        else:
            super()._write_failure(result, write_exception)

    def complete_run(self) -> None:
        """End the run with the exit code of the first of our errors."""
        super().complete_run()
        self.outstream.flush()
        failures: Sequence[BaseFail] = [result["exception"] for result in self.failures]
        for failure in failures:
            if isinstance(failure, Failed):
                sys.exit(failure.exit_code)
