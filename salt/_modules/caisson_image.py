# SPDX-License-Identifier: Apache-2.0
"""Container images in containerd's ``k8s.io`` namespace: import from the ISO's OCI layout, pull, pin.

An image is imported by streaming one tar archive, made from the blobs in place, into ``ctr images import``: nothing
is copied to the host's disk besides containerd's own store.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

# Source: containerd 2.3, internal/cri/labels: an image with this label is spared by the kubelet's garbage collection.
PIN_LABEL = "io.cri-containerd.pinned=pinned"
NAMESPACE = "k8s.io"


def present() -> dict[str, dict[str, Any]]:
    """Return reference -> ``{"digests": [..], "pinned": bool}`` of every tagged image that the CRI knows.

    The CRI tells no digest of an image that was imported: containerd itself does, for every reference.
    """
    listed = _told(["crictl", "images", "--output", "json"])
    known = digests_by_reference(_told(["ctr", "--namespace", NAMESPACE, "images", "list"]))
    found: dict[str, dict[str, Any]] = {}
    for image in json.loads(listed)["images"]:
        digests = [entry.rpartition("@")[2] for entry in image.get("repoDigests") or []]
        for reference in image.get("repoTags") or []:
            own = [known[reference]] if reference in known else []
            found[reference] = {
                "digests": list(dict.fromkeys(own + digests)),
                "pinned": bool(image.get("pinned", False)),
            }
    return found


def digests_by_reference(listing: str) -> dict[str, str]:
    r"""Return reference -> digest of its manifest or index, from what ``ctr images list`` prints.

    >>> digests_by_reference("REF TYPE DIGEST SIZE PLATFORMS LABELS\na.io/b:1 application/x sha256:12 3 MiB - -\n")
    {'a.io/b:1': 'sha256:12'}
    """
    rows = [line.split() for line in listing.splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def _told(command: list[str]) -> str:
    """Run a command that only looks; return what it printed. Raises RuntimeError with its last words."""
    result = __salt__["cmd.run_all"](command, python_shell=False, timeout=60)
    if result["retcode"] != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {result['stderr'].strip()[-500:]}")
    return str(result["stdout"])


def import_from_layout(reference: str, digest: str, layout_dir: str) -> None:
    """Import the single-platform image ``digest`` of the OCI layout at ``layout_dir`` under ``reference``.

    Raises RuntimeError with ctr's last words, FileNotFoundError when a blob is not in the layout.
    """
    blobs_dir = Path(layout_dir) / "blobs" / "sha256"
    manifest_file = blobs_dir / digest.partition(":")[2]
    manifest = json.loads(manifest_file.read_bytes())
    descriptors = [manifest["config"], *manifest["layers"]]
    media_type = manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    target = {"mediaType": media_type, "digest": digest, "size": manifest_file.stat().st_size}
    target["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [target],
    }
    command = ["ctr", "--namespace", NAMESPACE, "images", "import", "--local", "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if process.stdin is None or process.stderr is None:  # never: both are pipes
        raise RuntimeError("no pipe to ctr")
    try:
        with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            _add_bytes(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add_bytes(archive, "index.json", json.dumps(index).encode())
            hexes = {manifest_file.name, *(entry["digest"].partition(":")[2] for entry in descriptors)}
            for hex_digest in sorted(hexes):
                archive.add(str(blobs_dir / hex_digest), arcname=f"blobs/sha256/{hex_digest}")
        process.stdin.close()
    except BrokenPipeError:
        pass  # ctr stopped reading: its exit code and its words say why
    stderr = process.stderr.read().decode(errors="replace")
    if process.wait(timeout=300) != 0:
        raise RuntimeError(f"ctr could not import {reference}: {stderr.strip()[-500:]}")


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def pull(references: list[str], parallel: int = 3) -> dict[str, str]:
    """Pull ``references`` through the CRI; return reference -> error for those that failed (empty: all are there)."""

    def pull_one(reference: str) -> tuple[str, str]:
        command = ["crictl", "--timeout", "300s", "pull", reference]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=310)
        return reference, "" if done.returncode == 0 else done.stderr.strip()[-500:]

    with concurrent.futures.ThreadPoolExecutor(max_workers=parallel) as pool:
        return {reference: error for reference, error in pool.map(pull_one, references) if error}


def pin(references: list[str]) -> None:
    """Mark ``references`` as pinned, so that the kubelet never removes them to win disk space."""
    for reference in references:
        command = ["ctr", "--namespace", NAMESPACE, "images", "label", reference, PIN_LABEL]
        result = __salt__["cmd.run_all"](command, python_shell=False, timeout=60)
        if result["retcode"] != 0:
            raise RuntimeError(f"ctr could not pin {reference}: {result['stderr'].strip()[-500:]}")
