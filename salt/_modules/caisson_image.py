# SPDX-License-Identifier: Apache-2.0
"""Container images in containerd's ``k8s.io`` namespace: import from the ISO's OCI layout, pull, pin.

An image is imported by streaming one tar archive, made from the blobs in place, into ``ctr images import``: nothing
is copied to the host's disk besides containerd's own store.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import logging
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Callable

log = logging.getLogger(__name__)

# Source: containerd 2.3, internal/cri/labels: an image with this label is spared by the kubelet's garbage collection.
PIN_LABEL = "io.cri-containerd.pinned=pinned"
NAMESPACE = "k8s.io"
IMPORT_TIMEOUT_S = 200.0
PULL_TIMEOUT_S = 240
# A pull that fails after this has met a server that hangs, and so would those behind it, each for as long.
GIVE_UP_S = 120.0
# The kernel ends a crictl when the thread that started it is gone. Source: prctl(2), PR_SET_PDEATHSIG.
BOUND = ("setpriv", "--pdeathsig", "TERM", "--")


def present() -> dict[str, dict[str, Any]]:
    """Return reference -> ``{"digest": .., "pinned": bool}`` of every image in containerd's store.

    The digest is that of the manifest or index which the reference stands for.
    """
    return images_of(_told(["ctr", "--namespace", NAMESPACE, "images", "list"], timeout_s=60))


def images_of(listing: str) -> dict[str, dict[str, Any]]:
    r"""Return reference -> digest and whether it is pinned, from what ``ctr images list`` prints.

    >>> images_of("REF TYPE DIGEST SIZE PLATFORMS LABELS\na.io/b:1 application/x sha256:12 3 MiB - a=b,c=d\n")
    {'a.io/b:1': {'digest': 'sha256:12', 'pinned': False}}
    """
    rows = [line.split() for line in listing.splitlines()[1:]]
    return {
        row[0]: {"digest": row[2], "pinned": PIN_LABEL in row[-1].split(",")} for row in rows if len(row) > 2
    }


def _told(command: list[str], *, timeout_s: float, through: Sequence[str] = ()) -> str:
    """Run a command, started by ``through``; return what it printed.

    Raises RuntimeError with its last words, or that it took too long.
    """
    started = [*through, *command]
    try:
        done = subprocess.run(started, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command)}: no answer after {timeout_s:g} s") from error
    except OSError as error:
        raise RuntimeError(f"{started[0]} cannot be started: {error.strerror or error}") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def import_all(digests: dict[str, str], layout_dir: str, parallel: int = 2) -> None:
    """Import images, reference -> digest, side by side. Raises RuntimeError with a line for each that failed."""

    def import_one(reference: str) -> str:
        try:
            import_from_layout(reference, digests[reference], layout_dir)
        except (RuntimeError, OSError, ValueError) as error:
            return f"{reference}: {error}"
        return ""

    _side_by_side(import_one, digests, parallel)


def import_from_layout(reference: str, digest: str, layout_dir: str) -> None:
    """Import the single-platform image ``digest`` of the OCI layout at ``layout_dir`` under ``reference``.

    Raises RuntimeError with ctr's last words, or that it took too long; FileNotFoundError when a blob is not in the
    layout.
    """
    blobs_dir = Path(layout_dir) / "blobs" / "sha256"
    manifest_file = blobs_dir / digest.partition(":")[2]
    manifest = json.loads(manifest_file.read_bytes())
    descriptors = [manifest["config"], *manifest["layers"]]
    hexes = {manifest_file.name, *(entry["digest"].partition(":")[2] for entry in descriptors)}
    files = [blobs_dir / hex_digest for hex_digest in sorted(hexes)]
    index = json.dumps(_index(reference, digest, manifest, manifest_file.stat().st_size)).encode()

    def write(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            _add_bytes(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add_bytes(archive, "index.json", index)
            for file in files:
                archive.add(str(file), arcname=f"blobs/sha256/{file.name}")

    command = ["ctr", "--namespace", NAMESPACE, "images", "import", "--local", "-"]
    log.info("caisson waits: the import of %s", reference)
    fault = _feed(command, write, IMPORT_TIMEOUT_S)
    if fault:
        raise RuntimeError(f"ctr could not import {reference}: {fault}")


def _index(reference: str, digest: str, manifest: dict[str, Any], size_bytes: int) -> dict[str, Any]:
    """Return the index of a layout with one image in it, named as containerd is to name it."""
    target = {
        "mediaType": manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json"),
        "digest": digest,
        "size": size_bytes,
        "annotations": {
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference,
        },
    }
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [target],
    }


def _feed(command: list[str], write: Callable[[IO[bytes]], None], timeout_s: float) -> str:
    """Run a command and write into its stdin; return "" or what went wrong.

    Its stderr is a file, so that it never waits for us while we wait for it; the time is up for a command that
    does not read as well.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        except OSError as error:
            return f"{command[0]} cannot be started: {error.strerror or error}"
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin or io.BytesIO() as stream:
                write(stream)
        except BaseException:
            process.kill()  # half an archive must not look like a whole one
            raise
        finally:
            returncode = process.wait()
            timer.cancel()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()[-500:]
    if is_late.is_set():
        return f"no end after {timeout_s:g} s; last: {words}"
    return "" if returncode == 0 else words or f"exit code {returncode}"


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def pull(references: Iterable[str], parallel: int = 3) -> None:
    """Pull ``references`` through the CRI. Raises RuntimeError with a line for each that failed.

    All are tried, but those that wait behind one that has hung.
    """
    has_hung = threading.Event()

    def bring(reference: str) -> str:
        if has_hung.is_set():
            return f"{reference}: not tried, as the pull of another hung"
        log.info("caisson waits: the pull of %s", reference)
        started = time.monotonic()
        fault = pull_one(reference)
        if fault and time.monotonic() - started > GIVE_UP_S:
            has_hung.set()
        return f"{reference}: {fault}" if fault else ""

    _side_by_side(bring, references, parallel)


def pull_one(reference: str) -> str:
    """Pull one image; return "" or what went wrong. A crictl that hangs is ended, its own timeout or not."""
    words = ["crictl", "--timeout", f"{PULL_TIMEOUT_S}s", "pull", reference]
    try:
        _told(words, timeout_s=PULL_TIMEOUT_S + 10, through=BOUND)
    except RuntimeError as error:
        return str(error)
    return ""


def _side_by_side(bring: Callable[[str], str], references: Iterable[str], parallel: int) -> None:
    """Call ``bring`` for each, begun in their order. Raises RuntimeError with a line for each fault that it returns."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=parallel) as pool:
        faults = [fault for fault in pool.map(bring, references) if fault]
    if faults:
        raise RuntimeError("\n".join(sorted(faults)))


def pin(references: Iterable[str]) -> None:
    """Mark ``references`` as pinned, so that the kubelet never removes them to win disk space."""
    for reference in references:
        _told(["ctr", "--namespace", NAMESPACE, "images", "label", reference, PIN_LABEL], timeout_s=60)
