# SPDX-License-Identifier: Apache-2.0
"""Find the errors that modules of the installer make, with their words, in the sources themselves.

    raise ClusterError(f"{node.name} is Ready: it is not gone", ..) -> Refusal(ClusterError, "NAME is Ready: ..", ..)

An error whose message is put together elsewhere has no words of its own here, and is left out.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from installer.base import errors, ui
from installer.base.errors import InstallerError

OPERATIONS = "installer.operations."
#: Of a resolution that is put together elsewhere.
ELSEWHERE = "the error says it"
#: What a name of the sources is to a reader.
NAMES = {
    "COUNT": "N faults",
    "DRAIN_TIMEOUT_S": "SECONDS",
    "LOCK_FILE": "FILE",
    "TIMEOUT_S": "SECONDS",
    "TITLE": "HOST",
    "TOLD": "ROLE",
    "WHERE": "HOST",
}


@dataclass(frozen=True)
class Refusal:
    """An error with its words; what differs from time to time is in capitals."""

    error: type[InstallerError]
    message: str
    resolution: str


def refusals(modules: Sequence[ModuleType]) -> list[Refusal]:
    """Return the errors that modules make, by exit code, each once."""
    found = {refusal: None for module in modules for refusal in _of(module)}
    return sorted(found, key=lambda refusal: refusal.error.exit_code)


def with_what_they_use(modules: Sequence[ModuleType], *, but: Sequence[str]) -> list[ModuleType]:
    """Return modules, then the other operations that they import, but for those of these names."""
    used = {
        value.__name__: value
        for module in modules
        for value in vars(module).values()
        if inspect.ismodule(value) and value.__name__.startswith(OPERATIONS)
    }
    left_out = {f"{OPERATIONS}{name}" for name in but} | {module.__name__ for module in modules}
    return [*modules, *(used[name] for name in sorted(used) if name not in left_out)]


def _of(module: ModuleType) -> Iterator[Refusal]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        error = getattr(errors, node.func.id, None)
        is_ours = inspect.isclass(error) and issubclass(error, InstallerError)
        if (
            error is not None
            and is_ours
            and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
        ):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            resolution = words(given["resolution"], vars(module)) if "resolution" in given else ""
            said = (
                resolution if any(letter.islower() for letter in resolution) or not resolution else ELSEWHERE
            )
            yield Refusal(error, words(node.args[0], vars(module)), said)


def words(node: ast.expr, known: Mapping[str, object]) -> str:
    """Return the text of an expression; what is put in stands there by its name in capitals, a ``known`` one itself.

    >>> text = "f'{node.name} is {len(found)} times in {FILE}'"
    >>> words(ast.parse(text, mode="eval").body, {"FILE": "/etc/hosts"})
    'NAME is N times in /etc/hosts'
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _name(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words(node.left, known) + words(node.right, known)
    if isinstance(node, ast.IfExp):
        return words(node.body, known)
    return _name(node, known)


def _name(node: ast.expr, known: Mapping[str, object]) -> str:
    if isinstance(node, ast.Name):
        return _constant(node.id, known)
    if isinstance(node, ast.Attribute):
        place = known.get(node.value.id) if isinstance(node.value, ast.Name) else None
        return _constant(node.attr, vars(place) if inspect.ismodule(place) else {})
    if isinstance(node, ast.Call) and ast.unparse(node.func) != "len":
        return _name(node.args[-1] if node.args else node.func, known)
    if isinstance(node, ast.Subscript):
        return _name(node.value, known)
    return "N" if isinstance(node, ast.BinOp | ast.Call) else ".."


def _constant(name: str, known: Mapping[str, object]) -> str:
    """Return a constant's value, or the name of what differs from time to time."""
    value = known.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and name.endswith("_S"):
        return ui.format_seconds(value)
    plain = name.strip("_").upper()
    return NAMES.get(plain, plain)
