# SPDX-License-Identifier: Apache-2.0
"""Read the inventory: what people want, from our files and from those of vendors.

    versions.yaml + profile.versions -> placeholders -> images.yaml, packages.yaml, policy.yaml -+
                                        placeholders -> extra.yaml of each vendor ---------------+-> Inventory

A vendor's file adds to ours and changes nothing in it: a name that is taken is a fault.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from build.base.document import Faults, Record, fill_placeholders, fingerprint, fitting, read_document
from build.base.errors import InventoryError
from build.inventory.model import (
    INVENTORY_FORMAT,
    Baseline,
    ComposedImage,
    Digest,
    Extra,
    ImageRole,
    Inventory,
    Policy,
    Profile,
    PythonArtifact,
    Reference,
    User,
    WantedImage,
    WantedManifest,
    WantedPackage,
    WantedPython,
)

VERSIONS_FILE = "versions.yaml"
IMAGES_FILE = "images.yaml"
PACKAGES_FILE = "packages.yaml"
POLICY_FILE = "policy.yaml"

_Value = TypeVar("_Value")

_NEVRA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*-([0-9]+:)?[^-:\s]+-[^-:\s]+\.[a-z0-9_]+")
#: Words about what is wanted; none of them changes what is locked.
_FOR_PEOPLE = frozenset({"purpose", "source"})
_NO_REFERENCE = Reference(registry="", repository="", tag="")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reader:
    """What every parser here needs: the versions to fill in."""

    versions: Mapping[str, str]

    def text(self, record: Record, key: str) -> str:
        return record.parsed(key, self._fill, "")

    def optional_text(self, record: Record, key: str) -> str | None:
        return self.text(record, key) if record.has(key) else None

    def reference(self, record: Record) -> Reference:
        return record.parsed("reference", lambda text: Reference.parse(self._fill(text)), _NO_REFERENCE)

    def _fill(self, text: str) -> str:
        return fill_placeholders(text, self.versions)


def inventory_files(
    root_dir: Path, extra_files: Sequence[Path] = (), policy_file: Path | None = None
) -> tuple[Path, ...]:
    """Return the files that an inventory is read from; lists of packages that they name are not among them."""
    ours = (root_dir / name for name in (VERSIONS_FILE, IMAGES_FILE, PACKAGES_FILE))
    return (*ours, policy_file or root_dir / POLICY_FILE, *extra_files)


def read_inventory(
    root_dir: Path, profile: Profile, extra_files: Sequence[Path] = (), policy_file: Path | None = None
) -> Inventory:
    """Read the inventory as a profile sees it; ``extra_files`` are those of vendors.

    ``policy_file`` stands in for policy.yaml: what may be locked is for who builds to say, not for a vendor.

    Raises: InventoryError with every fault of all files.
    """
    faults = Faults(InventoryError)
    versions_file, images_file, packages_file, policy_file, *_ = inventory_files(
        root_dir, policy_file=policy_file
    )
    versions = _read_versions(versions_file, profile, faults)
    reader = _Reader(versions=versions)
    images, composed, manifests = _read_images(images_file, reader, faults)
    baselines, packages, python = _read_packages(packages_file, reader, faults)
    inventory = Inventory(
        versions=versions,
        images=images,
        composed=composed,
        manifests=manifests,
        baselines=baselines,
        packages=packages,
        python=python,
        policy=_read_policy(policy_file, faults),
    )
    for file in extra_files:
        inventory = _read_extra(file, inventory, faults)
    _check_names(inventory, faults)
    _check_links(inventory, profile, faults)
    return faults.result(inventory)


def _check_names(inventory: Inventory, faults: Faults) -> None:
    """Note every name that is given twice, in one file or in two."""
    run: tuple[WantedImage | ComposedImage, ...] = (*inventory.images, *inventory.composed)
    named: Mapping[str, Iterable[tuple[str, str]]] = {
        "image id": [(item.id, item.source) for item in run],
        "image": [(_full_name(item.reference), item.source) for item in run],
        "manifest id": [(item.id, item.source) for item in inventory.manifests],
        "manifest path": [(item.path, item.source) for item in inventory.manifests],
        "baseline": [(item.id, item.source) for item in inventory.baselines],
        "package": [(item.name, item.source) for item in inventory.packages],
        "Python package": [(item.name.lower(), item.source) for item in inventory.python],
        "product": [(item.name, item.source) for item in inventory.extras],
    }
    for what, pairs in named.items():
        _check_unique(faults, what, pairs)


def inventory_digest(inventory: Inventory, profile: Profile) -> Digest:
    """Return the digest of all that decides what is locked, without words for people and line numbers.

    Addresses of a profile are left out on purpose: a mirror that moves does not make a lock old. So are fields
    that have their default: a later Caisson with a new field does not make every lock old.
    """
    intent = _intent(inventory)
    intent["profile"] = profile.name
    intent["lab"] = profile.is_lab
    intent["keys"] = {
        repository.id: [key.fingerprint for key in repository.keys]
        for repository in profile.repositories.values()
    }
    return Digest.of_bytes(json.dumps(intent, sort_keys=True).encode())


def packages_digest(inventory: Inventory, profile: Profile) -> Digest:
    """Return the digest of that part of the intent that decides which packages are locked."""
    none = dataclasses.replace(inventory, versions={}, images=(), manifests=(), python=(), extras=())
    return inventory_digest(none, profile)


def _intent(value: object) -> Any:
    """Return data of the inventory as plain values, less what has its default and what is only for people.

    >>> from build.inventory.model import WantedPackage
    >>> _intent(WantedPackage(name="tar", repositories=("baseos",), purpose="archives", source="x:1"))
    {'name': 'tar', 'repositories': ['baseos']}
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: _intent(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in _FOR_PEOPLE and not _has_default(field, getattr(value, field.name))
        }
    if isinstance(value, Mapping):
        return {str(key): _intent(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_intent(item) for item in value]
    return value


def _has_default(field: dataclasses.Field[object], value: object) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return value == field.default_factory()
    return field.default is not dataclasses.MISSING and value == field.default


def _read_versions(file: Path, profile: Profile, faults: Faults) -> dict[str, str]:
    record = read_document(file, faults, missing="versions.yaml belongs to the repository: restore it")
    if record is None:
        return {}
    _check_format(record)
    versions = record.text_map("versions")
    record.close()
    for name in profile.versions:
        if name not in versions:
            faults.add(f"{profile.file.name}:1", f"version '{name}' overrides nothing in {VERSIONS_FILE}")
    return versions | dict(profile.versions)


def _read_images(
    file: Path, reader: _Reader, faults: Faults
) -> tuple[tuple[WantedImage, ...], tuple[ComposedImage, ...], tuple[WantedManifest, ...]]:
    record = read_document(file, faults, missing="images.yaml belongs to the repository: restore it")
    if record is None:
        return (), (), ()
    _check_format(record)
    parsed = _parse_images(record, reader, required=True)
    record.close()
    return parsed


def _parse_images(
    record: Record, reader: _Reader, *, required: bool
) -> tuple[tuple[WantedImage, ...], tuple[ComposedImage, ...], tuple[WantedManifest, ...]]:
    images = tuple(_parse_image(item, reader) for item in record.records("images", required=required))
    composed = tuple(_parse_composed(item, reader) for item in record.records("composed", required=False))
    manifests = tuple(_parse_manifest(item, reader) for item in record.records("manifests", required=False))
    return images, composed, manifests


def _read_packages(
    file: Path, reader: _Reader, faults: Faults
) -> tuple[tuple[Baseline, ...], tuple[WantedPackage, ...], tuple[WantedPython, ...]]:
    record = read_document(file, faults, missing="packages.yaml belongs to the repository: restore it")
    if record is None:
        return (), (), ()
    _check_format(record)
    baselines = tuple(_parse_baseline(item, file.parent) for item in record.records("baselines"))
    if record.has("baselines") and not baselines:
        record.fault("there is no baseline: nothing would be known of the hosts", key="baselines")
    packages = tuple(_parse_package(item, reader) for item in record.records("packages"))
    python = tuple(_parse_python(item) for item in record.records("python", required=False))
    record.close()
    return baselines, packages, python


def _read_policy(file: Path, faults: Faults) -> Policy:
    record = read_document(file, faults, missing="policy.yaml belongs to the repository: restore it")
    if record is None:
        return Policy()
    _check_format(record)
    policy = Policy(
        registries=record.texts("registries"),
        licences=record.texts("licences"),
        keys=record.texts("keys", fingerprint, required=False),
    )
    record.close()
    return policy


def _read_extra(file: Path, inventory: Inventory, faults: Faults) -> Inventory:
    """Return the inventory with what a vendor's file adds to it."""
    record = read_document(file, faults, missing="extra=PATH names a vendor's inventory file")
    if record is None:
        return inventory
    _check_format(record)
    product = record.record("product")
    extras = inventory.extras if product is None else (*inventory.extras, _parse_product(product))
    versions = record.text_map("versions", required=False)
    for name in versions:
        if name in inventory.versions:
            record.fault(f"version '{name}' is given already: a vendor's file adds, it changes nothing")
    reader = _Reader(versions={**versions, **inventory.versions})
    images, composed, manifests = _parse_images(record, reader, required=False)
    packages = tuple(_parse_package(item, reader) for item in record.records("packages", required=False))
    record.leave("repositories", "registries")  # see profile.py
    record.close()
    return dataclasses.replace(
        inventory,
        versions=reader.versions,
        images=(*inventory.images, *images),
        composed=(*inventory.composed, *composed),
        manifests=(*inventory.manifests, *manifests),
        packages=(*inventory.packages, *packages),
        extras=extras,
    )


def _parse_product(record: Record) -> Extra:
    extra = Extra(
        name=record.parsed("name", _identifier, ""),
        version=record.parsed("version", _version, ""),
        purpose=record.text("purpose", ""),
        source=record.source,
    )
    record.close()
    return extra


def _parse_image(record: Record, reader: _Reader) -> WantedImage:
    image = WantedImage(
        id=_parse_id(record),
        reference=reader.reference(record),
        purpose=record.text("purpose"),
        preload=record.flag("preload", default=False),
        role=_optional(record, "role", _image_role, ImageRole.RUN),
        source=record.source,
    )
    record.close()
    return image


def _parse_composed(record: Record, reader: _Reader) -> ComposedImage:
    image = ComposedImage(
        id=_parse_id(record),
        reference=reader.reference(record),
        base=record.text("base"),
        packages=record.texts("packages"),
        purpose=record.text("purpose"),
        preload=record.flag("preload", default=False),
        users=tuple(_parse_user(item) for item in record.records("users", required=False)),
        entrypoint=record.texts("entrypoint", required=False),
        command=record.texts("command", required=False),
        environment=record.text_map("environment", required=False),
        user=record.text("user", ""),
        working_dir=record.text("working_dir", ""),
        without=record.text_map("without", required=False),
        source=record.source,
    )
    if record.has("packages") and not image.packages:
        record.fault(f"composed image '{image.id}' has no packages", key="packages")
    record.close()
    return image


def _parse_user(record: Record) -> User:
    user = User(
        name=record.text("name"),
        uid=record.number("uid"),
        gid=record.number("gid"),
        home=record.text("home", "/"),
        shell=record.text("shell", "/sbin/nologin"),
    )
    record.close()
    return user


def _parse_manifest(record: Record, reader: _Reader) -> WantedManifest:
    manifest = WantedManifest(
        id=_parse_id(record),
        url=reader.text(record, "url"),
        path=record.parsed("path", _file_name, ""),
        purpose=record.text("purpose"),
        not_images=record.text_map("not_images", required=False),
        source=record.source,
    )
    if manifest.url and not manifest.url.startswith("https://"):
        record.fault("a manifest's url must be upstream's https:// address", key="url")
    record.close()
    return manifest


def _parse_baseline(record: Record, directory: Path) -> Baseline:
    has_list = record.has("package_list")
    baseline = Baseline(
        id=record.parsed("id", _baseline_id, ""),
        release=record.parsed("release", _release, ""),
        repositories=record.text_or_texts("repository"),
        group="" if has_list else record.text("group"),
        without=record.texts("without", _package_name, required=False),
        packages=_read_package_list(record, directory) if has_list else (),
        may_upgrade=record.texts("may_upgrade", _package_pattern, required=False),
        source=record.source,
    )
    if has_list:
        for key in ("group", "without"):
            if record.has(key):
                record.leave(key)
                record.fault(f"'{key}' and 'package_list' exclude each other", key=key)
    record.close()
    return baseline


def _read_package_list(record: Record, directory: Path) -> tuple[str, ...]:
    """Return the lines of a file that ``rpm -qa`` printed, sorted; keys and comments are left out."""
    name = record.text("package_list")
    if not name:
        return ()
    try:
        lines = (directory / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        record.fault(f"package list '{name}' cannot be read: {exc}", key="package_list")
        return ()
    found = {line.strip() for line in lines}
    packages = tuple(sorted(line for line in found if line and not line.startswith(("#", "gpg-pubkey-"))))
    for line in packages:
        if not _NEVRA.fullmatch(line):
            record.fault(f"'{name}' has a line that rpm -qa does not print: {line!r}", key="package_list")
            return ()
    if not packages:
        record.fault(f"package list '{name}' is empty", key="package_list")
    return packages


def _parse_package(record: Record, reader: _Reader) -> WantedPackage:
    package = WantedPackage(
        name=record.parsed("name", _package_name, ""),
        repositories=record.text_or_texts("repository"),
        purpose=record.text("purpose"),
        version=reader.optional_text(record, "version"),
        stream=record.parsed("stream", _stream, "") if record.has("stream") else None,
        source=record.source,
    )
    record.close()
    return package


def _parse_python(record: Record) -> WantedPython:
    package = WantedPython(
        name=record.parsed("name", _package_name, ""),
        version=record.text("version"),
        purpose=record.text("purpose"),
        artifact=_optional(record, "artifact", _python_artifact, PythonArtifact.WHEEL),
        source=record.source,
    )
    record.close()
    return package


def _optional(record: Record, key: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
    return record.parsed(key, parse, default) if record.has(key) else default


def _parse_id(record: Record) -> str:
    return record.parsed("id", _identifier, "")


def _check_format(record: Record) -> None:
    number = record.number("format")
    if record.has("format") and number != INVENTORY_FORMAT:
        record.fault(f"format {number} is not known here (known: {INVENTORY_FORMAT})", key="format")


def _check_unique(faults: Faults, what: str, named: Iterable[tuple[str, str]]) -> None:
    """Note every name that is given twice; ``named`` are names with their sources."""
    first: dict[str, str] = {}
    for name, source in named:
        if name and first.setdefault(name, source) != source:
            faults.add(source, f"{what} '{name}' is given twice (first at {first[name]})")


def _full_name(reference: Reference) -> str:
    return str(reference) if reference.registry else ""


def _check_links(inventory: Inventory, profile: Profile, faults: Faults) -> None:
    """Check the names that one part of the inventory uses for another, or for a part of the profile."""
    image_ids = {image.id for image in inventory.images}
    package_names = {package.name for package in inventory.packages}
    for image in inventory.images:
        if image.reference.registry and image.reference.registry not in profile.registries:
            known = ", ".join(sorted(profile.registries))
            registry = image.reference.registry
            faults.add(
                image.source,
                f"registry '{registry}' is not in profile '{profile.name}' (known: {known})",
            )
        elif image.reference.registry and not is_allowed(
            image.reference.registry, inventory.policy.registries
        ):
            faults.add(image.source, f"{POLICY_FILE} does not allow registry '{image.reference.registry}'")
    for composed in inventory.composed:
        if composed.base and composed.base not in image_ids:
            faults.add(composed.source, f"base '{composed.base}' is no image of the inventory")
        for name in composed.packages:
            if name not in package_names:
                faults.add(composed.source, f"package '{name}' is not in {PACKAGES_FILE}")
    known = ", ".join(sorted(profile.repositories))
    named = [(item.source, name) for item in inventory.baselines for name in item.repositories]
    named += [(item.source, name) for item in inventory.packages for name in item.repositories]
    for source, name in named:
        if name and name not in profile.repositories:
            faults.add(source, f"repository '{name}' is not in profile '{profile.name}' (known: {known})")


def is_allowed(name: str, patterns: Iterable[str]) -> bool:
    """Say whether a name fits one of the patterns of a policy."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


_stream = fitting(
    r"[A-Za-z0-9][A-Za-z0-9._+-]*:[A-Za-z0-9][A-Za-z0-9._+-]*",
    "stream {text!r} must be MODULE:STREAM, as in nginx:1.24",
)
_version = fitting(r"[A-Za-z0-9][A-Za-z0-9._+~-]*", "version {text!r} must be letters, digits and . _ + ~ -")
_release = fitting(r"[1-9][0-9]*\.[0-9]+", 'release {text!r} must be a minor release of EL, as in "9.8"')
_baseline_id = fitting(
    r"[a-z0-9]+([.-][a-z0-9]+)*", "id {text!r} must be lower-case words joined by hyphens or dots"
)
_identifier = fitting(r"[a-z0-9]+(-[a-z0-9]+)*", "id {text!r} must be lower-case words joined by hyphens")
_package_name = fitting(r"[A-Za-z0-9][A-Za-z0-9._+-]*", "{text!r} is no package name")
_package_pattern = fitting(r"[A-Za-z0-9*?][A-Za-z0-9._+*?-]*", "{text!r} is no pattern of package names")
_file_name = fitting(r"[A-Za-z0-9][A-Za-z0-9._-]*", "path {text!r} must be a plain file name")


def _image_role(text: str) -> ImageRole:
    try:
        return ImageRole(text)
    except ValueError:
        raise ValueError(f"'role' must be one of: {', '.join(ImageRole)}; not '{text}'") from None


def _python_artifact(text: str) -> PythonArtifact:
    try:
        return PythonArtifact(text)
    except ValueError:
        raise ValueError(f"'artifact' must be one of: {', '.join(PythonArtifact)}; not '{text}'") from None
