# SPDX-License-Identifier: Apache-2.0
"""Read and write the lock: canonical YAML text, one field a line, made to be reviewed in a diff.

The text of a lock depends on its content alone: sequences are sorted by name or id, fields have one order,
and text is quoted where YAML could read something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from build.base.document import Faults, Record, parse_document, shown_path
from build.base.errors import LockError
from build.inventory.model import (
    LOCK_FORMAT,
    Blob,
    Descriptor,
    Digest,
    Lock,
    LockedBaseline,
    LockedComposed,
    LockedExtra,
    LockedImage,
    LockedKey,
    LockedManifest,
    LockedPackage,
    LockedPython,
    Reference,
)

_HEADER = "# SPDX-License-Identifier: Apache-2.0\n# Made by './doit.sh lock'; do not edit.\n"
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/_.+-]*(:[A-Za-z0-9/_.+-]+)*")
_RESERVED = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
# Fields that would be quoted in some entries only, by their first character.
_QUOTED = frozenset({"version", "release", "sha256", "fingerprint", "licence"})
_NO_DIGEST = Digest("0" * 64)
_NO_REFERENCE = Reference(registry="", repository="", tag="")

_Value = str | int | bool | None | Sequence["_Value"] | Mapping[str, "_Value"]


def read_lock(file: Path) -> Lock:
    """Read a lock.

    Raises: LockError when it is missing, faulty, or written by a newer Caisson.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise LockError(
            f"there is no lock '{shown_path(file)}'",
            details="a bundle is built from a lock, which names everything by digest",
            resolution="run './doit.sh lock' (with the same upstream=, extra=, policy=) where upstream can be reached",
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise LockError(
            f"cannot read the lock '{shown_path(file)}'", details=str(exc), resolution="restore the file"
        ) from exc
    return parse_lock(text, shown_path(file))


def parse_lock(text: str, file: str) -> Lock:
    """Parse the text of a lock; ``file`` names it in faults.

    Raises: LockError with every fault.
    """
    faults = Faults(LockError)
    record = parse_document(text, file, faults)
    resolution = "do not edit a lock: run './doit.sh lock', or restore the file"
    if record is None:
        faults.stop(resolution=resolution)
        raise LockError(f"'{file}' is no lock", resolution=resolution)
    number = record.number("format")
    if number > LOCK_FORMAT:
        raise LockError(
            f"'{file}' was written by a newer Caisson",
            details=f"its format is {number}, this Caisson reads up to {LOCK_FORMAT}",
            resolution="use the Caisson that wrote it, or run './doit.sh lock' with this one",
        )
    lock = _parse(record)
    record.close()
    faults.stop(resolution=resolution)
    return lock


def _parse(record: Record) -> Lock:
    profile = record.record("profile")
    lock = Lock(
        profile_name=profile.text("name") if profile else "",
        is_lab=profile.flag("lab") if profile else False,
        inventory_digest=record.parsed("inventory", Digest.parse, _NO_DIGEST),
        packages_digest=record.parsed("inventory_packages", Digest.parse, _NO_DIGEST)
        if record.has("inventory_packages")
        else None,
        source_date_epoch=record.number("source_date_epoch"),
        versions=record.text_map("versions"),
        extras=tuple(_parse_extra(item) for item in record.records("extras")),
        baselines=tuple(_parse_baseline(item) for item in record.records("baselines")),
        keys=tuple(_parse_key(item) for item in record.records("keys")),
        packages=tuple(_parse_package(item) for item in record.records("packages")),
        images=tuple(_parse_image(item) for item in record.records("images")),
        composed=tuple(_parse_composed(item) for item in record.records("composed")),
        manifests=tuple(_parse_manifest(item) for item in record.records("manifests")),
        python=tuple(_parse_python(item) for item in record.records("python")),
    )
    if profile:
        profile.close()
    return lock


def _parse_baseline(record: Record) -> LockedBaseline:
    baseline = LockedBaseline(
        id=record.text("id"),
        release=record.text("release"),
        repositories=record.texts("repositories"),
        group=record.text("group", ""),
        package_count=record.number("package_count"),
        digest=_parse_sha256(record),
        provides=record.texts("provides", required=False),
        notes=record.texts("notes", required=False),
    )
    record.close()
    return baseline


def _parse_extra(record: Record) -> LockedExtra:
    extra = LockedExtra(name=record.text("name"), version=record.text("version"))
    record.close()
    return extra


def _parse_key(record: Record) -> LockedKey:
    key = LockedKey(
        repository=record.text("repository"),
        fingerprint=record.text("fingerprint"),
        digest=_parse_sha256(record),
        size_bytes=record.number("size_bytes"),
    )
    record.close()
    return key


def _parse_package(record: Record) -> LockedPackage:
    package = LockedPackage(
        name=record.text("name"),
        epoch=record.number("epoch"),
        version=record.text("version"),
        release=record.text("release"),
        arch=record.text("arch"),
        repository=record.text("repository"),
        location=record.text("location"),
        size_bytes=record.number("size_bytes"),
        digest=_parse_sha256(record),
        requested=record.flag("requested"),
        required_by=record.texts("required_by"),
        baselines=record.texts("baselines"),
        licence=record.text("licence", ""),
        crosses=record.texts("crosses", required=False),
        stream=record.text("stream", ""),
    )
    if package.location.startswith("/") or ".." in package.location.split("/") or "://" in package.location:
        record.fault("'location' must be relative to its repository", key="location")
    record.close()
    return package


def _parse_image(record: Record) -> LockedImage:
    child = record.record("child", required=False) if record.has("child") else None
    image = LockedImage(
        id=record.text("id"),
        reference=record.parsed("reference", Reference.parse, _NO_REFERENCE),
        digest=record.parsed("digest", Digest.parse, _NO_DIGEST),
        media_type=record.text("media_type"),
        size_bytes=record.number("size_bytes"),
        child=None if child is None else _parse_descriptor(child),
        config=_parse_config(record),
        layers=tuple(_parse_blob(item) for item in record.records("layers")),
    )
    record.close()
    return image


def _parse_config(record: Record) -> Blob:
    config = record.record("config")
    return Blob(digest=_NO_DIGEST, size_bytes=0) if config is None else _parse_blob(config)


def _parse_descriptor(record: Record) -> Descriptor:
    descriptor = Descriptor(
        digest=record.parsed("digest", Digest.parse, _NO_DIGEST),
        size_bytes=record.number("size_bytes"),
        media_type=record.text("media_type"),
    )
    record.close()
    return descriptor


def _parse_blob(record: Record) -> Blob:
    blob = Blob(
        digest=record.parsed("digest", Digest.parse, _NO_DIGEST), size_bytes=record.number("size_bytes")
    )
    record.close()
    return blob


def _parse_composed(record: Record) -> LockedComposed:
    composed = LockedComposed(
        id=record.text("id"),
        reference=record.parsed("reference", Reference.parse, _NO_REFERENCE),
        base=record.text("base"),
        packages=record.texts("packages"),
    )
    record.close()
    return composed


def _parse_manifest(record: Record) -> LockedManifest:
    manifest = LockedManifest(
        id=record.text("id"),
        url=record.text("url"),
        path=record.text("path"),
        digest=_parse_sha256(record),
        size_bytes=record.number("size_bytes"),
    )
    record.close()
    return manifest


def _parse_python(record: Record) -> LockedPython:
    package = LockedPython(
        name=record.text("name"),
        version=record.text("version"),
        file=record.text("file"),
        digest=_parse_sha256(record),
        size_bytes=record.number("size_bytes"),
    )
    record.close()
    return package


def _parse_sha256(record: Record) -> Digest:
    return record.parsed("sha256", Digest, _NO_DIGEST)


# ---------------------------------------------------------------- writing


def dump_lock(lock: Lock) -> str:
    """Return the canonical text of a lock.

    >>> from build.inventory.model import Digest
    >>> lock = Lock(profile_name="lab", is_lab=True, inventory_digest=Digest("0" * 64), source_date_epoch=1,
    ...             versions={"salt": "3008.3"}, baselines=(), packages=(), images=(), composed=(),
    ...             manifests=(), python=(), keys=())
    >>> parse_lock(dump_lock(lock), "x.lock") == lock
    True
    """
    document: dict[str, _Value] = {
        "format": lock.format,
        "profile": {"name": lock.profile_name, "lab": lock.is_lab},
        "inventory": str(lock.inventory_digest),
        **({"inventory_packages": str(lock.packages_digest)} if lock.packages_digest else {}),
        "source_date_epoch": lock.source_date_epoch,
        "versions": dict(sorted(lock.versions.items())),
        "extras": [
            {"name": item.name, "version": item.version}
            for item in sorted(lock.extras, key=lambda item: item.name)
        ],
        "baselines": [_dump_baseline(item) for item in sorted(lock.baselines, key=lambda item: item.id)],
        "keys": [
            _dump_key(item)
            for item in sorted(lock.keys, key=lambda item: (item.repository, item.fingerprint))
        ],
        "packages": [_dump_package(item) for item in sorted(lock.packages, key=lambda item: item.nevra)],
        "images": [_dump_image(item) for item in sorted(lock.images, key=lambda item: item.id)],
        "composed": [_dump_composed(item) for item in sorted(lock.composed, key=lambda item: item.id)],
        "manifests": [_dump_manifest(item) for item in sorted(lock.manifests, key=lambda item: item.id)],
        "python": [_dump_python(item) for item in sorted(lock.python, key=lambda item: item.name)],
    }
    return _HEADER + "".join(f"{line}\n" for line in _mapping_lines(document, ""))


def _dump_baseline(item: LockedBaseline) -> dict[str, _Value]:
    return {
        "id": item.id,
        "release": item.release,
        "repositories": list(item.repositories),
        **({"group": item.group} if item.group else {}),
        "package_count": item.package_count,
        "sha256": item.digest.hex,
        "provides": list(item.provides),
        **({"notes": list(item.notes)} if item.notes else {}),
    }


def _dump_key(item: LockedKey) -> dict[str, _Value]:
    return {
        "repository": item.repository,
        "fingerprint": item.fingerprint,
        "sha256": item.digest.hex,
        "size_bytes": item.size_bytes,
    }


def _dump_package(item: LockedPackage) -> dict[str, _Value]:
    return {
        "name": item.name,
        "epoch": item.epoch,
        "version": item.version,
        "release": item.release,
        "arch": item.arch,
        "repository": item.repository,
        "location": item.location,
        "size_bytes": item.size_bytes,
        "sha256": item.digest.hex,
        "requested": item.requested,
        "required_by": list(item.required_by),
        "baselines": list(item.baselines),
        **({"licence": item.licence} if item.licence else {}),
        **({"crosses": list(item.crosses)} if item.crosses else {}),
        **({"stream": item.stream} if item.stream else {}),
    }


def _dump_image(item: LockedImage) -> dict[str, _Value]:
    head: dict[str, _Value] = {
        "id": item.id,
        "reference": str(item.reference),
        "digest": str(item.digest),
        "media_type": item.media_type,
        "size_bytes": item.size_bytes,
    }
    if item.child is not None:
        head["child"] = {
            "digest": str(item.child.digest),
            "media_type": item.child.media_type,
            "size_bytes": item.child.size_bytes,
        }
    return head | {"config": _dump_blob(item.config), "layers": [_dump_blob(layer) for layer in item.layers]}


def _dump_blob(item: Blob) -> dict[str, _Value]:
    return {"digest": str(item.digest), "size_bytes": item.size_bytes}


def _dump_composed(item: LockedComposed) -> dict[str, _Value]:
    return {
        "id": item.id,
        "reference": str(item.reference),
        "base": item.base,
        "packages": list(item.packages),
    }


def _dump_manifest(item: LockedManifest) -> dict[str, _Value]:
    return {
        "id": item.id,
        "url": item.url,
        "path": item.path,
        "sha256": item.digest.hex,
        "size_bytes": item.size_bytes,
    }


def _dump_python(item: LockedPython) -> dict[str, _Value]:
    return {
        "name": item.name,
        "version": item.version,
        "file": item.file,
        "sha256": item.digest.hex,
        "size_bytes": item.size_bytes,
    }


def _mapping_lines(mapping: Mapping[str, _Value], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:{'' if value else ' {}'}"
            yield from _mapping_lines(value, indent + "  ")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _sequence_lines(key, value, indent)
        else:
            yield f"{indent}{key}: {_scalar(value, is_quoted=key in _QUOTED)}"


def _sequence_lines(key: str, items: Sequence[_Value], indent: str) -> Iterator[str]:
    if not items:
        yield f"{indent}{key}: []"
        return
    yield f"{indent}{key}:"
    for item in items:
        if isinstance(item, Mapping):
            first, *rest = _mapping_lines(item, indent + "    ")
            yield f"{indent}  - {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}  - {_scalar(item)}"


def _scalar(value: _Value, *, is_quoted: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if not is_quoted and _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return json.dumps(text, ensure_ascii=False)
