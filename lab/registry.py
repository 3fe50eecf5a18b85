# SPDX-License-Identifier: Apache-2.0
"""The lab's image registry: the real CNCF distribution over a storage that is filled once and then only read.

    images --push through its own API--> <cache>/lab/registry/storage/<digest>/docker/registry/v2/..

A storage holds one set of images and is named by their digests, so it is either whole or not there. An
upstream registry's host is the first component of a repository's name: ``registry.k8s.io/pause`` is served
as ``127.0.0.1:17500/registry.k8s.io/pause``.
"""

from __future__ import annotations

import io
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from lab import golang, servers
from lab.cache import digest_of, lab_dir, produce, replace_text
from lab.errors import LabError
from lab.images import Blob, MadeImage
from lab.progress import step

PORT = 17500
URL = f"http://{servers.LOOPBACK}:{PORT}"
PUSH_TIMEOUT_S = 120.0
KEPT_STORAGES = 3


def storage_dir(images: Sequence[MadeImage]) -> Path:
    """Return where the storage of this set of images is kept, filled or not."""
    return lab_dir("registry") / "storage" / digest_of({image.reference: image.digest for image in images})


def fill_storage(images: Sequence[MadeImage]) -> Path:
    """Return the storage that holds these images and no others; push them unless it is kept."""
    wanted_dir = storage_dir(images)

    def make(work_dir: Path) -> None:
        with step(f"push {len(images)} images into the registry"):
            write_config(work_dir.parent / "push", work_dir, is_read_only=False)
            with servers.serving(server(work_dir.parent / "push")):
                push(images)

    produce(wanted_dir, make)
    wanted_dir.touch()
    forget_old_storages(wanted_dir.parent)
    return wanted_dir


def server(run_dir: Path) -> servers.Server:
    """Return the registry as a server; its configuration must have been written to ``run_dir``."""
    return servers.Server(
        name="registry",
        args=(golang.build("registry") / "registry", "serve", run_dir / "registry.yml"),
        port=PORT,
        path="/v2/",
        log_file=run_dir / "registry.log",
        env={"OTEL_TRACES_EXPORTER": "none"},
    )


def write_config(run_dir: Path, storage: Path, *, is_read_only: bool = True) -> Path:
    """Write the registry's configuration into ``run_dir`` and return its path."""
    config_file = run_dir / "registry.yml"
    text = render_config(storage, is_read_only=is_read_only)
    if not config_file.is_file() or config_file.read_text() != text:
        replace_text(config_file, text)
    return config_file


def render_config(storage: Path, *, is_read_only: bool) -> str:
    """Return the configuration of the registry.

    An index may name platforms that the registry lacks: only linux/amd64 must be there when it is pushed.
    Source: distribution 3.1.2, "Configuring a registry" (storage.maintenance, validation.manifests.indexes).
    """
    return f"""version: 0.1
log:
  level: warn
  accesslog: {{disabled: true}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  maintenance:
    uploadpurging: {{enabled: false}}
    readonly: {{enabled: {str(is_read_only).lower()}}}
http:
  addr: {servers.LOOPBACK}:{PORT}
validation:
  manifests:
    indexes:
      platforms: list
      platformlist: [{{architecture: amd64, os: linux}}]
"""


def push(images: Iterable[MadeImage], url: str = URL) -> None:
    """Push images verbatim: blobs, then manifests by digest, then the tag.

    Raises:
        LabError: the registry refused something.
    """
    for image in images:
        for blob in image.blobs:
            _push_blob(f"{url}/v2/{image.repository}", blob)
        for manifest in image.manifests:
            name = image.tag if manifest.digest == image.digest else manifest.digest
            _request(
                "PUT",
                f"{url}/v2/{image.repository}/manifests/{name}",
                data=io.BytesIO(manifest.text.encode()),
                headers={
                    "Content-Type": manifest.media_type,
                    "Content-Length": str(len(manifest.text.encode())),
                },
            )


def _push_blob(repository_url: str, blob: Blob) -> None:
    if _request("HEAD", f"{repository_url}/blobs/{blob.digest}", missing_is_fine=True) is not None:
        return
    headers = _request("POST", f"{repository_url}/blobs/uploads/", headers={"Content-Length": "0"}) or {}
    upload_url = urllib.parse.urljoin(repository_url, headers["Location"])
    query = urllib.parse.urlencode({"digest": blob.digest})
    with blob.file.open("rb") if blob.file else io.BytesIO(blob.data) as data:
        _request(
            "PUT",
            f"{upload_url}{'&' if '?' in upload_url else '?'}{query}",
            data=data,
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size_bytes)},
        )


def _request(
    method: str,
    url: str,
    *,
    data: BinaryIO | None = None,
    headers: Mapping[str, str] | None = None,
    missing_is_fine: bool = False,
) -> Mapping[str, str] | None:
    """Return the headers of the answer; None for a 404 that is fine."""
    # The scheme is ours: the URL is that of the registry on loopback.
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)  # noqa: S310
    try:
        with servers.OPENER.open(request, timeout=PUSH_TIMEOUT_S) as answer:
            return dict(answer.headers)
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code == 404 and missing_is_fine:
                return None
            raise LabError(
                f"the lab's registry answered {exc.code} to {method} {urllib.parse.urlsplit(url).path}",
                details=exc.read(4096).decode(errors="replace"),
                resolution="see the registry's log beside its configuration",
            ) from exc
    except urllib.error.URLError as exc:
        raise LabError(f"the lab's registry broke off at {method} {url}", details=str(exc.reason)) from exc


def forget_old_storages(parent: Path) -> None:
    """Remove all but the storages that were used last: an old checkout may still want its own."""
    storages = sorted((path for path in parent.iterdir() if path.is_dir() and len(path.name) == 32), key=_age)
    for old in storages[KEPT_STORAGES:]:
        (parent / f"{old.name}.json").unlink(missing_ok=True)
        shutil.rmtree(old)


def _age(path: Path) -> float:
    return -path.stat().st_mtime
