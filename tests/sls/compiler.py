# SPDX-License-Identifier: Apache-2.0
"""Compile states with the real Salt compiler, as a minion does before it runs them, and name what is wrong.

``compile`` runs nothing: Salt renders, reconciles extends and requisites, and orders; the checks that it would only
make while running (does the function exist, does it take this argument, does a requisite match) are made here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import salt._logging
import salt.config
import salt.state
import salt.utils.templates

# Salt keeps its log messages for a handler that only its own programs set up, and prints them at the end.
salt._logging.shutdown_temp_handler()
# Salt adds an import hook of Python 2's protocol, which Python warns of and pytest cannot use. It is only
# there for a module that nothing here imports.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

REQUISITES = ("require", "watch", "onchanges", "onfail", "prereq", "listen", "require_any", "watch_any")
NO_ARGUMENTS = frozenset(
    salt.state.STATE_RUNTIME_KEYWORDS
    | salt.state.STATE_REQUISITE_KEYWORDS
    | salt.state.STATE_REQUISITE_IN_KEYWORDS
    | {"name", "order", "state", "fun", "failhard"}
)
# States that take any keyword, and what of it they look at besides their signature.
LOOSE_ARGUMENTS = {
    "file.directory": {"mode"},
    "file.managed": set(),
    "host.present": set(),
    "service.running": set(),
}
GRAINS = {
    "id": "node1",
    "os": "AlmaLinux",
    "os_family": "RedHat",
    "osmajorrelease": 9,
    "osfinger": "AlmaLinux-9",
    "osrelease": "9.6",
    "kernel": "Linux",
    "init": "systemd",
    "cpuarch": "x86_64",
    "osarch": "x86_64",
}
Chunk = dict[str, Any]


@dataclass(frozen=True)
class Compiled:
    """The states of one run in the order that Salt runs them, or why there are none."""

    chunks: tuple[Chunk, ...]
    faults: tuple[str, ...]


class Compiler:
    """A masterless minion that has a tree and grains but no machine."""

    def __init__(self, tree_dir: Path, scratch_dir: Path, grains: Mapping[str, Any]) -> None:
        """``scratch_dir`` takes what Salt insists on writing: its caches and directories of its own."""
        options = {
            "root_dir": str(scratch_dir),
            "file_client": "local",
            "file_roots": {"base": [str(tree_dir)]},
            "pillar_roots": {"base": [str(scratch_dir / "pillar")]},
            "module_dirs": [str(tree_dir / "_modules")],
            "states_dirs": [str(tree_dir / "_states")],
            "id": grains["id"],
            "enable_fqdns_grains": False,
        }
        self._options: dict[str, Any] = salt.config.apply_minion_config(options)
        self._options["grains"] = dict(grains)

    @contextmanager
    def _high_state(self, pillar: Mapping[str, Any]) -> Iterator[Any]:
        options = {**self._options, "pillar": dict(pillar)}
        high_state = salt.state.HighState(options, initial_pillar=dict(pillar))
        high_state.push_active()
        try:
            yield high_state
        finally:
            high_state.pop_active()
            high_state.destroy()

    def compile(self, sls: str, pillar: Mapping[str, Any]) -> Compiled:
        """Compile one sls with all that it includes."""
        with self._high_state(pillar) as high_state:
            state = high_state.state
            high, faults = high_state.render_highstate({"base": [sls]})
            if faults:
                return Compiled((), tuple(str(fault) for fault in faults))
            high, extend_faults = state.reconcile_extend(high)
            faults = [*extend_faults, *state.verify_high(high)]
            high, requisite_faults = state.requisite_in(high)
            chunks, order_faults = state.compile_high_data(state.apply_exclude(high))
            faults += [*requisite_faults, *order_faults]
            faults += [fault for chunk in chunks for fault in _argument_faults(chunk, state.states)]
            faults += _requisite_faults(chunks)
            return Compiled(tuple(chunks), tuple(str(fault) for fault in faults))

    def apply(self, sls: str, pillar: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run one sls with all that it includes, on this machine; return what each state said, in their order."""
        with self._high_state(pillar) as high_state:
            high, faults = high_state.render_highstate({"base": [sls]})
            assert not faults, faults
            answer = high_state.state.call_high(high)
            assert isinstance(answer, dict), answer
            return sorted(answer.values(), key=lambda said: said["__run_num__"])

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one execution function on this machine."""
        with self._high_state({}) as high_state:
            return high_state.state.functions[function](*arguments)

    def render(self, source: str, context: Mapping[str, Any], pillar: Mapping[str, Any]) -> str:
        """Render one Jinja file of the tree (``salt://...``) as ``file.managed`` does."""
        with self._high_state(pillar) as high_state:
            state = high_state.state
            file = high_state.client.cache_file(source)
            answer = salt.utils.templates.JINJA(
                file,
                to_str=True,
                context=dict(context),
                salt=state.functions,
                pillar=dict(pillar),
                grains=self._options["grains"],
                opts=state.opts,
                saltenv="base",
                sls="",
                tmplpath=file,
            )
            assert answer["result"], f"{source}: {answer['data']}"
            return str(answer["data"])


def _argument_faults(chunk: Chunk, functions: Mapping[str, Any]) -> Iterator[str]:
    """Name arguments that the state's function does not take, and required ones that are not there."""
    name, where = f"{chunk['state']}.{chunk['fun']}", f"{chunk['__sls__']}: {chunk['__id__']}"
    if name not in functions:
        yield f"{where}: there is no state function {name}"
        return
    parameters = inspect.signature(functions[name]).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given = {key for key in chunk if not key.startswith("__")}
    if not takes_any or name in LOOSE_ARGUMENTS:
        for key in sorted(given - set(parameters) - NO_ARGUMENTS - LOOSE_ARGUMENTS.get(name, set())):
            yield f"{where}: {name} has no argument {key!r}"
    for key, parameter in parameters.items():
        is_required = (
            parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        )
        if is_required and key not in given:
            yield f"{where}: {name} needs the argument {key!r}"


def _requisite_faults(chunks: list[Chunk]) -> Iterator[str]:
    """Name requisites that match no state of the run: Salt finds these only when it gets there."""
    known = {(chunk["state"], chunk[key]) for chunk in chunks for key in ("__id__", "name")}
    files, ids = {chunk["__sls__"] for chunk in chunks}, {chunk["__id__"] for chunk in chunks}
    for chunk in chunks:
        for kind in REQUISITES:
            for need in chunk.get(kind, []):
                target, ident = next(iter(need.items())) if isinstance(need, dict) else ("id", need)
                if target == "sls":
                    found = ident in files
                elif target == "id":
                    found = ident in ids
                else:
                    found = (target, ident) in known
                if not found:
                    where = f"{chunk['__sls__']}: {chunk['__id__']}"
                    yield f"{where}: {kind} {target}: {ident!r} matches no state"
