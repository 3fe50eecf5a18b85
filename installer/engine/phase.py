# SPDX-License-Identifier: Apache-2.0
"""Say what a phase is and what an operation is: data, which one runner carries out (runner.py)."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Callable

from installer.engine import saltcall
from installer.engine.context import Context

Applies = Callable[[Any], bool]
"""What a phase does to the host, given the context of its operation; it returns whether that changed anything."""


@dataclass(frozen=True)
class States:
    """Salt's states, applied in the order of their names: from the media (local mode), or through the master."""

    sls: tuple[str, ...]
    local: bool
    before: Callable[[Context], bool] | None = None
    """What is made first and is not for Salt to know, a password say; it returns whether that changed anything."""
    tells: str = ""
    """The id of the state whose words the user reads in any case."""
    steps: tuple[str, ...] = ()
    """The ids of the states whose words go into the journal, in this order, once one of them changed or failed."""

    def __call__(self, context: Context) -> bool:
        """Apply them and write to the log what they changed.

        Raises:
            SaltError: a state failed, or Salt gave no answer.
        """
        has_changed = self.before(context) if self.before is not None else False
        tell = functools.partial(self._tell, context)
        applied = saltcall.apply(context, self.sls, local=self.local, tell=tell)
        return bool(applied.changed) or has_changed

    def _tell(self, context: Context, applied: saltcall.Applied) -> None:
        """Say what they did; also when one of them failed, for what came before it is done."""
        for name in applied.changed:
            context.ui.detail(f"changed: {name}")
        if self.tells in applied.said:
            context.ui.note(applied.said[self.tells])
        if set(self.steps) & {*applied.changed, *applied.failed}:
            for name in self.steps:
                if name in applied.said:
                    how = "failed: " if name in applied.failed else ""
                    context.journal.step(f"{name}: {how}{applied.said[name]}")

    def __str__(self) -> str:
        """Return the names and the mode, as they are shown.

        >>> str(States(("kubelet",), local=True))
        'Salt, from the media: kubelet'
        """
        return f"Salt, {'from the media' if self.local else 'through its master'}: {', '.join(self.sls)}"


@dataclass(frozen=True)
class Phase:
    """One phase: what it is called, what it applies, and how a person takes it back.

    ``code`` is stable for ever: a phase may get another place or name, never another code. ``applies`` may be
    called again at any time: it looks, and acts only where something is not as it should be. ``standing`` is
    asked when a run begins beyond this phase; it raises when what the phase made is gone. ``awaits`` is called after
    ``applies``: it waits for what earlier phases have begun beside the others, and begins what none of this run has.
    """

    code: str
    name: str
    title: str
    applies: Applies
    undo: str
    about: str = ""
    standing: Callable[[Any], None] | None = None
    awaits: Callable[[Any], None] | None = None

    @property
    def label(self) -> str:
        """Code and name, as they are shown."""
        return f"{self.code} {self.name}"

    @property
    def carried_out_by(self) -> str:
        """Who does it: Salt, with the names of its states, or the installer itself."""
        return "the installer" if inspect.isfunction(self._function) else str(self.applies)

    @property
    def explanation(self) -> str:
        """More than the title says: ``about``, or what the installer's own function says of itself."""
        own = inspect.getdoc(self._function) if inspect.isfunction(self._function) else ""
        return self.about or own or self.title

    @property
    def _function(self) -> Applies:
        return self.applies.func if isinstance(self.applies, functools.partial) else self.applies


@dataclass(frozen=True)
class Operation:
    """A list of phases, run in this order under one name; the journal knows its phases by that name.

    ``begins_anywhere``: a run may begin at a later phase (``--from``), for none needs what another found in this run.
    """

    name: str
    phases: tuple[Phase, ...]
    begins_anywhere: bool = True
