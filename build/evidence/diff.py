# SPDX-License-Identifier: Apache-2.0
"""Say what changes from one bundle to the next: two locks, two ISOs, or one of each.

    A.lock | A.iso --+-> packages, images with layers, manifests, Python packages, versions -> text, JSON,
    B.lock | B.iso --+                                                                         Markdown

A lock does not have the layer that is made for a composed image, so only two ISOs show its size.

Run: ``python -m build.evidence.diff A B [--format text|json|markdown]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from build.base.errors import BuildError, VerifyError
from build.base.rpmversion import version_key
from build.base.ui import bytes_text
from build.bundle.isodirectory import missing_image, read_bytes, read_directory
from build.evidence.sbom import CYCLONEDX_PATH
from build.inventory.model import Lock
from build.lock.lockfile import read_lock

_ABSENT = "-"
_CROSSINGS = "Dependencies across repositories"
_KINDS = ("package", "image", "manifest", "python")
_TITLES = {
    "package": "Packages",
    "image": "Images",
    "manifest": "Manifests",
    "python": "Python packages of the installer",
}


class Change(enum.StrEnum):
    """How something differs. ``CHANGED``: other bytes under the same version."""

    UP = "up"
    DOWN = "down"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One thing of a bundle. ``layers`` are those of an image: digest to size, base first."""

    version: str
    digest: str
    size_bytes: int
    layers: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """What is compared: per kind, items by name; several builds of a package are several items.

    ``crossings`` are the dependencies on a package of another repository that is no base one, in words; None
    for an ISO, which does not say.
    """

    name: str
    versions: Mapping[str, str]
    items: Mapping[str, Mapping[str, tuple[Item, ...]]]
    crossings: frozenset[str] | None = None


class Fate(enum.StrEnum):
    """What became of a layer."""

    KEPT = "kept"
    NEW = "new"
    GONE = "gone"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of either image."""

    fate: Fate
    digest: str
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that differs. Versions are empty where there is none; ``delta_bytes`` is B less A."""

    kind: str
    name: str
    change: Change
    before: str
    after: str
    delta_bytes: int
    layers: tuple[Layer, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that differs, in the order of kinds and names."""

    before: Bundle
    after: Bundle
    versions: tuple[tuple[str, str, str], ...]
    differences: tuple[Difference, ...]

    def of_kind(self, kind: str) -> tuple[Difference, ...]:
        """Return the differences of one kind."""
        return tuple(difference for difference in self.differences if difference.kind == kind)

    @property
    def new_bytes(self) -> int:
        """Return how many bytes of B are in no file of A: what has to be carried."""
        return _missing_bytes(self.after, self.before)

    @property
    def gone_bytes(self) -> int:
        """Return how many bytes of A are in no file of B."""
        return _missing_bytes(self.before, self.after)


def crossing_lines(comparison: Comparison) -> tuple[str, ...]:
    """Return the dependencies across repositories that came and went; none where one side does not say."""
    before, after = comparison.before.crossings, comparison.after.crossings
    if before is None or after is None:
        return ()
    came = [f"{Change.ADDED}: {text}" for text in sorted(after - before)]
    return (*came, *(f"{Change.REMOVED}: {text}" for text in sorted(before - after)))


def _missing_bytes(bundle: Bundle, other: Bundle) -> int:
    blobs, known = dict(_blobs(bundle)), {digest for digest, _ in _blobs(other)}
    return sum(size_bytes for digest, size_bytes in blobs.items() if digest not in known)


def _blobs(bundle: Bundle) -> Iterator[tuple[str, int]]:
    for items in bundle.items.values():
        for builds in items.values():
            for item in builds:
                yield from item.layers.items() if item.layers else ((item.digest, item.size_bytes),)


# ---------------------------------------------------------------- reading


def read_bundle(file: Path) -> Bundle:
    """Read a lock or an ISO, whichever the file is.

    Raises: LockError; VerifyError for an ISO without a bill of materials, or no ISO at all.
    """
    if file.suffix == ".iso":
        return _read_iso(file)
    return bundle_of_lock(read_lock(file), file.name)


def bundle_of_lock(lock: Lock, name: str) -> Bundle:
    """Return what a lock names."""
    items: dict[str, dict[str, list[Item]]] = {kind: {} for kind in _KINDS}
    for package in lock.packages:
        epoch = f"{package.epoch}:" if package.epoch else ""
        items["package"].setdefault(package.name, []).append(
            Item(
                version=f"{epoch}{package.version}-{package.release}",
                digest=str(package.digest),
                size_bytes=package.size_bytes,
            )
        )
    for image in lock.images:
        layers = {str(layer.digest): layer.size_bytes for layer in image.layers}
        title = f"{image.reference.registry}/{image.reference.repository}"
        items["image"].setdefault(title, []).append(
            Item(
                version=image.reference.tag,
                digest=str(image.digest),
                size_bytes=sum(layers.values()),
                layers=layers,
            )
        )
    for manifest in lock.manifests:
        items["manifest"][manifest.path] = [
            Item(version="", digest=str(manifest.digest), size_bytes=manifest.size_bytes)
        ]
    for python in lock.python:
        items["python"].setdefault(python.name, []).append(
            Item(version=python.version, digest=str(python.digest), size_bytes=python.size_bytes)
        )
    crossings = frozenset(
        f"{user} requires {package.name} of repository '{package.repository}'"
        for package in lock.packages
        for user in package.crosses
    )
    return Bundle(name=name, versions=dict(lock.versions), items=_frozen(items), crossings=crossings)


def _read_iso(file: Path) -> Bundle:
    extents = {found.path: found.extents for found in read_directory(file)}
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise missing_image(file) from exc
    try:
        product, bill = (
            json.loads(read_bytes(descriptor, extents[path])) for path in ("product.json", CYCLONEDX_PATH)
        )
        return bundle_of_bill(bill, product["versions"], file.name)
    except (KeyError, ValueError, TypeError) as exc:
        raise VerifyError(
            f"'{file.name}' does not say what it holds",
            details=f"product.json and {CYCLONEDX_PATH} are read: {type(exc).__name__}: {exc}",
            resolution=f"ask '.venv/bin/python -m build.evidence.verify {file}' whether it is a whole bundle",
        ) from exc
    finally:
        os.close(descriptor)


def bundle_of_bill(bill: Mapping[str, Any], versions: Mapping[str, str], name: str) -> Bundle:
    """Return what a bill of materials in CycloneDX names. Raises: KeyError, ValueError."""
    items: dict[str, dict[str, list[Item]]] = {kind: {} for kind in _KINDS}
    parts = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    known = {component["bom-ref"]: component for component in bill["components"]}
    for component in bill["components"]:
        kind = _property(component, "kind")
        if kind not in items:
            continue
        layers = [known[ref] for ref in parts.get(component["bom-ref"], ()) if ref.startswith("layer-")]
        title = component["name"]
        items[kind].setdefault(title.removeprefix("manifests/") if kind == "manifest" else title, []).append(
            Item(
                version=component.get("version", ""),
                digest=f"sha256:{component['hashes'][0]['content']}",
                size_bytes=sum(_size(layer) for layer in layers) if layers else _size(component),
                layers={layer["name"]: _size(layer) for layer in layers},
            )
        )
    return Bundle(name=name, versions=dict(versions), items=_frozen(items))


def _frozen(items: Mapping[str, Mapping[str, Sequence[Item]]]) -> dict[str, dict[str, tuple[Item, ...]]]:
    return {kind: {name: tuple(builds) for name, builds in found.items()} for kind, found in items.items()}


def _property(component: Mapping[str, Any], name: str) -> str:
    return next(
        (str(item["value"]) for item in component["properties"] if item["name"] == f"caisson:{name}"), ""
    )


def _size(component: Mapping[str, Any]) -> int:
    return int(_property(component, "size_bytes") or 0)


# ---------------------------------------------------------------- comparing


def compare(before: Bundle, after: Bundle) -> Comparison:
    """Compare two bundles."""
    names = sorted({*before.versions, *after.versions})
    versions = tuple(
        (name, before.versions.get(name, ""), after.versions.get(name, ""))
        for name in names
        if before.versions.get(name) != after.versions.get(name)
    )
    differences = [
        difference
        for kind in _KINDS
        for name in sorted({*before.items.get(kind, {}), *after.items.get(kind, {})})
        for difference in _differences(
            kind, name, before.items.get(kind, {}).get(name, ()), after.items.get(kind, {}).get(name, ())
        )
    ]
    return Comparison(before=before, after=after, versions=versions, differences=tuple(differences))


def _differences(kind: str, name: str, before: Sequence[Item], after: Sequence[Item]) -> Iterator[Difference]:
    """Compare the builds of one thing that are on one side only: those of one version, then in their order."""
    shared = {item.digest for item in before} & {item.digest for item in after}
    old = sorted((item for item in before if item.digest not in shared), key=_order)
    new = sorted((item for item in after if item.digest not in shared), key=_order)
    pairs: list[tuple[Item | None, Item | None]] = []
    for one in tuple(old):
        same = next((other for other in new if other.version == one.version), None)
        if same is not None:
            old.remove(one)
            new.remove(same)
            pairs.append((one, same))
    pairs += itertools.zip_longest(old, new)
    for before_item, after_item in pairs:
        yield _difference(kind, name, before_item, after_item)


def _difference(kind: str, name: str, one: Item | None, other: Item | None) -> Difference:
    return Difference(
        kind=kind,
        name=name,
        change=_change(one, other),
        before=one.version if one else "",
        after=other.version if other else "",
        delta_bytes=(other.size_bytes if other else 0) - (one.size_bytes if one else 0),
        layers=tuple(_layers(one, other)),
    )


def _order(item: Item) -> tuple[object, ...]:
    """Return the key of a version with or without epoch."""
    epoch, colon, rest = item.version.partition(":")
    number = int(epoch) if colon and epoch.isdecimal() else 0
    version, _, release = (rest if colon else item.version).partition("-")
    return number, version_key(version), version_key(release)


def _change(one: Item | None, other: Item | None) -> Change:
    if one is None:
        return Change.ADDED
    if other is None:
        return Change.REMOVED
    if one.version == other.version:
        return Change.CHANGED
    return Change.UP if _order(one) < _order(other) else Change.DOWN


def _layers(one: Item | None, other: Item | None) -> Iterator[Layer]:
    """Yield the layers of B, base first, then those that only A has."""
    old, new = one.layers if one else {}, other.layers if other else {}
    for digest, size_bytes in new.items():
        yield Layer(fate=Fate.KEPT if digest in old else Fate.NEW, digest=digest, size_bytes=size_bytes)
    for digest, size_bytes in old.items():
        if digest not in new:
            yield Layer(fate=Fate.GONE, digest=digest, size_bytes=size_bytes)


# ---------------------------------------------------------------- showing


def render_text(comparison: Comparison) -> str:
    """Render for a terminal."""
    lines = [f"{comparison.before.name} -> {comparison.after.name}"]
    if comparison.versions:
        lines += ["", "Versions"]
        lines += [
            f"  {name}  {one or 'none'} -> {other or 'none'}" for name, one, other in comparison.versions
        ]
    for kind in _KINDS:
        found = comparison.of_kind(kind)
        if found:
            lines += ["", f"{_TITLES[kind]}: {_counts(found)}"]
            width = max(len(difference.name) for difference in found)
            for difference in found:
                lines.append(
                    f"  {difference.change:<8} {difference.name:<{width}}  {_versions_text(difference)}"
                    f"  {_delta_text(difference.delta_bytes)}"
                )
                lines += [
                    f"  {'':<8} {'':<{width}}  {layer.fate:<4} layer {_short(layer.digest)}"
                    f"  {bytes_text(layer.size_bytes)}"
                    for layer in difference.layers
                ]
    if crossings := crossing_lines(comparison):
        lines += ["", _CROSSINGS, *(f"  {line}" for line in crossings)]
    lines += ["", _summary(comparison)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_markdown(comparison: Comparison) -> str:
    """Render as Markdown, for release notes and reviews."""
    lines = [f"# {comparison.before.name} → {comparison.after.name}", "", _summary(comparison)]
    if comparison.versions:
        lines += ["", "## Versions", "", "| | before | after |", "|---|---|---|"]
        lines += [
            f"| {name} | {one or _ABSENT} | {other or _ABSENT} |" for name, one, other in comparison.versions
        ]
    for kind in _KINDS:
        found = comparison.of_kind(kind)
        if not found:
            continue
        with_layers = kind == "image"
        lines += ["", f"## {_TITLES[kind]}: {_counts(found)}", ""]
        lines += [f"| | name | before | after | size |{' layers |' if with_layers else ''}"]
        lines += [f"|---|---|---|---|---:|{'---|' if with_layers else ''}"]
        for difference in found:
            layers = f" {_layers_text(difference.layers)} |" if difference.layers else ""
            lines.append(
                f"| {difference.change} | `{difference.name}` | {difference.before or _ABSENT} "
                f"| {difference.after or _ABSENT} | {_delta_text(difference.delta_bytes)} |{layers}"
            )
    if crossings := crossing_lines(comparison):
        lines += ["", f"## {_CROSSINGS}", "", *(f"- {line}" for line in crossings)]
    return "\n".join(lines) + "\n"


def render_json(comparison: Comparison) -> str:
    """Render as one JSON document."""
    document = {
        "before": comparison.before.name,
        "after": comparison.after.name,
        "new_bytes": comparison.new_bytes,
        "gone_bytes": comparison.gone_bytes,
        "versions": {
            name: {"before": one or None, "after": other or None} for name, one, other in comparison.versions
        },
        "differences": [
            {
                **dataclasses.asdict(difference),
                "before": difference.before or None,
                "after": difference.after or None,
            }
            for difference in comparison.differences
        ],
        "crossings": list(crossing_lines(comparison)),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _counts(differences: Iterable[Difference]) -> str:
    changes = [difference.change for difference in differences]
    return ", ".join(f"{changes.count(change)} {change}" for change in Change if change in changes)


def _versions_text(difference: Difference) -> str:
    if difference.change is Change.CHANGED:
        return f"{difference.after}: other content".removeprefix(": ")
    return " -> ".join(version for version in (difference.before, difference.after) if version)


def _delta_text(delta_bytes: int) -> str:
    """Return a difference of sizes with its sign.

    >>> _delta_text(1_500_000), _delta_text(-20), _delta_text(0)
    ('+1.5 MB', '-20 B', '±0 B')
    """
    sign = "+" if delta_bytes > 0 else "-" if delta_bytes < 0 else "±"
    return f"{sign}{bytes_text(abs(delta_bytes))}"


def _layers_text(layers: Sequence[Layer]) -> str:
    return ", ".join(
        f"{layer.fate} `{_short(layer.digest)}` ({bytes_text(layer.size_bytes)})" for layer in layers
    )


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _summary(comparison: Comparison) -> str:
    if not comparison.differences and not crossing_lines(comparison):
        return "Nothing differs." if not comparison.versions else "The same content under other versions."
    return (
        f"{len(comparison.differences)} differences; {bytes_text(comparison.new_bytes)} new, "
        f"{bytes_text(comparison.gone_bytes)} gone."
    )


_RENDERERS = {"text": render_text, "json": render_json, "markdown": render_markdown}


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m build.evidence.diff", description="Say what changes from one bundle to the next."
    )
    parser.add_argument("before", metavar="A", type=Path, help="a lock, or an ISO (NAME.iso)")
    parser.add_argument("after", metavar="B", type=Path, help="likewise")
    parser.add_argument("--format", choices=sorted(_RENDERERS), default="text", help="default: text")
    options = parser.parse_args(arguments)
    try:
        comparison = compare(read_bundle(options.before), read_bundle(options.after))
    except BuildError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    print(_RENDERERS[options.format](comparison), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
