# SPDX-License-Identifier: Apache-2.0
"""Lock and fetch files of Python packages: by name from an index once, by digest from then on.

    profile, or pip's configuration -> places -> page of the package -> its file -> digest, size

pip is not run, and no code of a package: an sdist is a file like a wheel.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from build.base.errors import FIND_OUT_WHY, IntegrityError, NotFoundError
from build.base.files import write_atomically
from build.inventory.model import Digest, LockedPython, PythonArtifact, WantedPython
from build.store.objects import Store
from build.upstream.answers import shown_url
from build.upstream.http import HttpClient, first_mirror
from build.upstream.pipconfig import Place, python_places
from build.upstream.pythonindex import IndexFile, choose_file, read_place

_LARGEST_FILE_BYTES = 256 << 20


def lock_python(
    wanted: WantedPython, cache_dir: Path, http: HttpClient, indexes: tuple[str, ...] = ()
) -> LockedPython:
    """Find out the file and the digest of a Python package. A release never changes: the answer is kept.

    ``indexes`` are the profile's; without any, those of the user's pip configuration are asked.

    Raises: NotFoundError, CredentialsError, NetworkError, IntegrityError.
    """
    kept_file = cache_dir / f"{wanted.name.lower()}-{wanted.version}-{wanted.artifact}.json"
    kept = _read_kept(kept_file)
    if kept is not None:
        return kept
    what = f"Python package {wanted.name} {wanted.version}"

    def lock_at(place: Place) -> LockedPython:
        files = read_place(place, wanted.name, http)
        found = choose_file(files, wanted.name, wanted.version, wanted.artifact)
        if found is None:
            raise _not_found(what, place, wanted.artifact)
        digest, size_bytes = _measure(found, place, http, what)
        return LockedPython(
            name=wanted.name, version=wanted.version, file=found.name, digest=digest, size_bytes=size_bytes
        )

    locked = first_mirror(python_places(indexes), lock_at)
    fields = dataclasses.asdict(locked) | {"digest": locked.digest.hex}
    write_atomically(kept_file, json.dumps(fields).encode())
    return locked


def fetch_python(
    package: LockedPython,
    http: HttpClient,
    store: Store,
    indexes: tuple[str, ...] = (),
    *,
    on_bytes: Callable[[int], None] = lambda _count: None,
    on_present: Callable[[int], None] = lambda _count: None,
) -> None:
    """Bring exactly the locked file into the store.

    Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError, StoreError.
    """
    what = f"Python package {package.name} {package.version}"

    def fetch_from(place: Place) -> None:
        named = [file for file in read_place(place, package.name, http) if file.name == package.file]
        if not named:
            artifact = PythonArtifact.WHEEL if package.file.endswith(".whl") else PythonArtifact.SDIST
            raise _not_found(f"{what} ({package.file})", place, artifact)
        found = next((file for file in named if file.digest == package.digest), named[0])
        if found.digest not in (None, package.digest):
            raise _changed(what, f"locked {package.digest}, the index says {found.digest}", found.url)
        if urlsplit(found.url).scheme == "file":
            data = _local(found).read_bytes()
            if Digest.of_bytes(data) != package.digest:
                raise _changed(what, f"locked {package.digest}, found {Digest.of_bytes(data)}", found.url)
            store.add_bytes(data, package.digest)
            on_bytes(len(data))
            return
        http.download(
            found.url,
            digest=package.digest,
            size_bytes=package.size_bytes,
            store=store,
            what=what,
            login=place.login_for(found.url),
            on_bytes=on_bytes,
            on_present=on_present,
        )

    first_mirror(python_places(indexes), fetch_from)


def _measure(found: IndexFile, place: Place, http: HttpClient, what: str) -> tuple[Digest, int]:
    """Return digest and size of a file: what the index says, or of the file itself where it says one only."""
    if found.digest is not None and found.size_bytes is not None:
        return found.digest, found.size_bytes
    with tempfile.TemporaryDirectory(prefix="caisson-python-") as directory:
        file = Path(directory, "file")
        if urlsplit(found.url).scheme == "file":
            file = _local(found)
        else:
            http.save(
                found.url,
                file,
                largest_bytes=_LARGEST_FILE_BYTES,
                what=what,
                login=place.login_for(found.url),
            )
        digest = Digest.of_file(file)
        if found.digest not in (None, digest):
            raise _changed(what, f"the index says {found.digest}, the file is {digest}", found.url)
        return digest, file.stat().st_size


def _local(found: IndexFile) -> Path:
    return Path(unquote(urlsplit(found.url).path))


def _changed(what: str, details: str, url: str) -> IntegrityError:
    return IntegrityError(
        f"{what}: its file is not the one that was released",
        details=f"{details}; from {shown_url(url)}",
        resolution=FIND_OUT_WHY,
    )


def _not_found(what: str, place: Place, artifact: PythonArtifact) -> NotFoundError:
    kind = "wheel for any machine" if artifact is PythonArtifact.WHEEL else "sdist"
    return NotFoundError(
        f"the Python package index does not have {what}",
        details=f"no {kind} of it that Python 3.9 may have; at {shown_url(place.url)}",
        resolution="correct the version or 'artifact' in packages.yaml",
    )


def _read_kept(file: Path) -> LockedPython | None:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return LockedPython(
            name=str(fields["name"]),
            version=str(fields["version"]),
            file=str(fields["file"]),
            digest=Digest(str(fields["digest"])),
            size_bytes=int(fields["size_bytes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
