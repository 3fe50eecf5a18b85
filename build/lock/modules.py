# SPDX-License-Identifier: Apache-2.0
"""Decide which packages of module streams may be taken: those of one stream of a module, never a mixture.

    modules.yaml of the repositories --> streams, defaults --+
    'stream:' of packages.yaml ------------------------------+-> active streams -> which builds are hidden, and why

The rules are dnf's: builds of streams that are not active are hidden; where one is active, builds outside it that
have the name of one of its packages, or provide it, are hidden too. Source: dnf.modularity(7), "Package filtering".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import solv
import yaml

from build.base.errors import IntegrityError, InventoryError, joined
from build.inventory.model import WantedPackage

# Every scalar as the text that it is: stream 1.10 is not the number 1.1.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_LARGEST_BYTES = 1 << 27
_ARTIFACT = re.compile(r"(?P<name>.+)-(?P<epoch>\d+):(?P<rest>[^-:]+-[^-:]+\.(?P<arch>[^.-]+))")
_SOURCES = frozenset({"src", "nosrc"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One stream of a module. ``builds`` are ``name-[epoch:]version-release.arch``, the epoch only when not 0.

    ``names`` are the names of its packages; ``requires`` are alternatives, each with the streams of other modules
    that it can go with: a name, ``-name`` for any but that, nothing for any.
    """

    module: str
    stream: str
    builds: frozenset[str]
    names: frozenset[str]
    requires: tuple[Mapping[str, tuple[str, ...]], ...]

    @property
    def id(self) -> str:
        """Return what people call it: ``nginx:1.24``."""
        return f"{self.module}:{self.stream}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modules:
    """The streams of some repositories, and the default streams of modules that have one."""

    streams: tuple[Stream, ...] = ()
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamFilter:
    """What is hidden. ``inactive`` and ``active`` give the stream of a build, ``names`` that of a package's name."""

    inactive: Mapping[str, str] = dataclasses.field(default_factory=dict)
    active: Mapping[str, str] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def reason(self, build: str, name: str, provides: Iterable[str] = ()) -> str:
        """Say why a build is hidden; the empty text when it is not."""
        if build in self.active:
            return ""
        if build in self.inactive:
            return f"of module stream {self.inactive[build]}, which is not asked for"
        for word in (name, *provides):
            if word in self.names:
                return f"outside module stream {self.names[word]}, which is in use and has {word}"
        return ""


def hidden_builds(pool: solv.Pool, rules: StreamFilter) -> dict[int, str]:
    """Return the ids of the builds that are hidden, each with the reason."""
    found = {}
    for package in pool.solvables_iter() if rules.inactive or rules.active else ():
        if not package.name:
            continue  # room for a package of a host
        reason = rules.reason(str(package), package.name, provided(package) if rules.names else ())
        if reason:
            found[package.id] = reason
    return found


def provided(package: solv.XSolvable) -> Iterator[str]:
    """Yield the names, libraries and files that a package says it provides."""
    for capability in package.lookup_deparray(solv.SOLVABLE_PROVIDES):
        yield str(capability).partition(" ")[0]


def read_modules(files: Mapping[str, Path]) -> Modules:
    """Read the modules.yaml of repositories, by their ids. Raises: IntegrityError."""
    found = [parse_modules(_text(file, name), name) for name, file in sorted(files.items())]
    defaults: dict[str, set[str]] = {}
    for item in found:
        for module, stream in item.defaults.items():
            defaults.setdefault(module, set()).add(stream)
    return Modules(
        streams=tuple(stream for item in found for stream in item.streams),
        defaults={module: min(streams) for module, streams in defaults.items() if len(streams) == 1},
    )


def _text(file: Path, repository: str) -> bytes:
    if file.stat().st_size > _LARGEST_BYTES:
        raise IntegrityError(
            f"the modules of repository '{repository}' are too many to be read",
            details=f"{file.stat().st_size} bytes",
            resolution="use another mirror",
        )
    return file.read_bytes()


def parse_modules(text: bytes, repository: str) -> Modules:
    """Parse modules.yaml: documents ``modulemd`` and ``modulemd-defaults``; others say nothing of builds.

    Raises: IntegrityError when it is no YAML.
    Source: libmodulemd, yaml_specs/modulemd_stream_v2.yaml and modulemd_defaults_v1.yaml.
    """
    try:
        documents = [item for item in yaml.load_all(text, Loader=_LOADER) if isinstance(item, dict)]
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise IntegrityError(
            f"the modules of repository '{repository}' cannot be read",
            details=str(exc),
            resolution="try again later, or use another mirror",
        ) from exc
    data = [(item.get("document"), _map(item.get("data"))) for item in documents]
    defaults = {str(part["module"]): str(part["stream"]) for kind, part in data
                if kind == "modulemd-defaults" and "module" in part and part.get("stream")}  # fmt: skip
    streams = [
        _stream(part) for kind, part in data if kind == "modulemd" and "name" in part and "stream" in part
    ]
    return Modules(streams=tuple(streams), defaults=defaults)


def _stream(data: Mapping[str, Any]) -> Stream:
    artifacts = [
        found
        for item in _list(_map(data.get("artifacts")).get("rpms"))
        if (found := _ARTIFACT.fullmatch(str(item)))
    ]
    requires = tuple(
        {
            str(module): tuple(str(stream) for stream in _list(streams))
            for module, streams in _map(_map(alternative).get("requires")).items()
        }
        for alternative in _list(data.get("dependencies"))
    )
    binary = [item for item in artifacts if item["arch"] not in _SOURCES]
    return Stream(
        module=str(data["name"]),
        stream=str(data["stream"]),
        builds=frozenset(
            f"{item['name']}-{'' if int(item['epoch']) == 0 else item['epoch'] + ':'}{item['rest']}"
            for item in binary
        ),
        names=frozenset(item["name"] for item in binary),
        requires=requires,
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def stream_filter(modules: Modules, wanted: Iterable[WantedPackage]) -> StreamFilter:
    """Return what is hidden when the streams asked for are active, what these need, and defaults of other modules.

    Raises: InventoryError when two streams of a module, or one that is not there, are asked for, or when one that
    is asked for needs what cannot be had with the others.
    """
    choice = _Choice(modules, _asked(modules, wanted))
    choice.take_required()
    active = choice.with_defaults()
    used = [item for item in modules.streams if active.get(item.module) == item.stream]
    unused = [item for item in modules.streams if active.get(item.module) != item.stream]
    return StreamFilter(
        inactive={build: item.id for item in unused for build in item.builds},
        active={build: item.id for item in used for build in item.builds},
        names={name: item.id for item in used for name in item.names},
    )


def _asked(modules: Modules, wanted: Iterable[WantedPackage]) -> dict[str, tuple[str, WantedPackage]]:
    """Return the streams that packages.yaml asks for, by module, each with who asks. Raises: InventoryError."""
    asked: dict[str, tuple[str, WantedPackage]] = {}
    faults = []
    for package in wanted:
        if not package.stream:
            continue
        module, _, stream = package.stream.partition(":")
        before, by = asked.setdefault(module, (stream, package))
        known = sorted({item.id for item in modules.streams if item.module == module})
        if package.stream not in known:
            faults.append(
                InventoryError(
                    f"the repositories have no module stream {package.stream}",
                    details=f"{package.source}: {package.name}; there are: {', '.join(known) or 'none of this module'}",
                    resolution="correct 'stream' in packages.yaml",
                )
            )
        elif before != stream:
            faults.append(
                InventoryError(
                    f"two streams of module {module} are asked for",
                    details=f"{by.source}: {by.name} of {module}:{before}; "
                    f"{package.source}: {package.name} of {package.stream}",
                    resolution="ask for one stream: those of one module cannot be had together",
                )
            )
    if faults:
        raise joined(faults, "packages.yaml")
    return asked


class _Choice:
    """The streams that are active, why, and the ones of other modules that these leave."""

    def __init__(self, modules: Modules, asked: Mapping[str, tuple[str, WantedPackage]]) -> None:
        self._modules = modules
        self._active = {module: stream for module, (stream, _) in asked.items()}
        self._why = {
            module: [f"{by.source}: {by.name} asks for {module}:{stream}"]
            for module, (stream, by) in asked.items()
        }
        self._allowed: dict[str, frozenset[str]] = {}

    def take_required(self) -> None:
        """Take what the active streams need, where they leave no choice. Raises: InventoryError."""
        left = sorted(self._active)
        while left:
            module = left.pop(0)
            stream = self._active[module]
            for needed, streams in sorted(_requirements(self._modules, module, stream).items()):
                self._narrow(needed, streams, f"{module}:{stream}")
                if needed not in self._active and len(self._allowed[needed]) == 1:
                    (self._active[needed],) = self._allowed[needed]
                    left.append(needed)

    def _narrow(self, module: str, streams: frozenset[str], by: str) -> None:
        known = _known(self._modules, module)
        words = ", ".join(sorted(streams)) or "a stream that the repositories do not have"
        why = self._why.setdefault(module, [])
        why.append(f"{by} requires {module}:{words} ({'; '.join(self._why[by.partition(':')[0]][:1])})")
        allowed = self._allowed.get(module, known) & streams
        self._allowed[module] = allowed
        active = self._active.get(module)
        if allowed and (active is None or active in allowed):
            return
        other = f"{module}:{active}" if active else f"the streams of module {module}"
        raise InventoryError(
            f"module stream {by} cannot be had with {other}",
            details="; ".join(why) + f"; the repositories have: {', '.join(sorted(known))}",
            resolution="correct 'stream' in packages.yaml: ask for streams that go together",
        )

    def with_defaults(self) -> dict[str, str]:
        """Return the active streams with the defaults of modules that are not decided, and what these need.

        What a default needs decides nothing against the streams asked for: a package of it that cannot be had so
        is told by the solver.
        """
        found = dict(self._active)
        taken = {module: stream for module, stream in self._modules.defaults.items()
                 if module not in found and stream in self._allowed.get(module, {stream})}  # fmt: skip
        found |= taken
        left = sorted(taken)
        while left:
            module = left.pop(0)
            for needed, streams in sorted(_requirements(self._modules, module, found[module]).items()):
                allowed = streams & self._allowed.get(needed, streams)
                if needed not in found and len(allowed) == 1:
                    (found[needed],) = allowed
                    left.append(needed)
        return found


def _known(modules: Modules, module: str) -> frozenset[str]:
    return frozenset(item.stream for item in modules.streams if item.module == module)


def _requirements(modules: Modules, module: str, stream: str) -> dict[str, frozenset[str]]:
    """Return the streams of each module that a stream can go with, of those that the repositories have.

    A stream is built several times, and each build has alternatives: what one of them takes is possible. Modules
    that no repository has (``platform``) are left out.
    Source: libmodulemd, yaml_specs/modulemd_stream_v2.yaml, "dependencies".
    """
    alternatives = [
        alternative
        for item in modules.streams
        if (item.module, item.stream) == (module, stream)
        for alternative in item.requires or ({},)
    ]
    found: dict[str, frozenset[str]] = {}
    for needed in {name for alternative in alternatives for name in alternative}:
        known = _known(modules, needed)
        if known and all(needed in alternative for alternative in alternatives):
            found[needed] = frozenset().union(
                *(_of_words(alternative[needed], known) for alternative in alternatives)
            )
    return found


def _of_words(words: Sequence[str], known: frozenset[str]) -> frozenset[str]:
    taken = known.intersection(word for word in words if not word.startswith("-"))
    refused = {word[1:] for word in words if word.startswith("-")}
    is_any = all(word.startswith("-") for word in words)
    return (known if is_any else taken) - refused
