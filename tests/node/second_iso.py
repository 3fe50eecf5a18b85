# SPDX-License-Identifier: Apache-2.0
"""Make a second ISO of the lab's: another build, an image more, and another image under a name that both have."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.media.product import Product, parse
from installer.operations.image_files import NAME_KEYS, OCI_CONFIG, OCI_MANIFEST

BUILD = "20991231.5ec0nd"
IMAGE = "quay.io/vendor/second:1"
SUMS, PRODUCT, INDEX = "SHA256SUMS", "product.json", "oci/index.json"
MAPS, LOCATIONS = "nginx/oci-maps.conf", "nginx/oci-locations.conf"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
TIMEOUT_S = 600


@dataclass(frozen=True)
class SecondIso:
    """The second ISO: its image, the name that both have, and a blob that both have, by their digests."""

    iso: Path
    product: Product
    own: Product
    image_digest: str
    layer_digest: str
    clash: str
    shared_path: str

    @property
    def name(self) -> str:
        """Version and build."""
        return self.product.full_version


def make(iso: Path, work_dir: Path, *, has_clash: bool = True) -> SecondIso:
    """Write another ISO into ``work_dir``, with all files of the first and some changed.

    Without a clash it has all images of the first, and one more: a host may be installed from it.
    """
    old_dir, new_dir = work_dir / "old", work_dir / "new"
    for name in (SUMS, PRODUCT, INDEX, MAPS, LOCATIONS):
        (old_dir / name).parent.mkdir(parents=True, exist_ok=True)
        _xorriso("-osirrox", "on", "-indev", iso, "-extract", f"/{name}", old_dir / name)
    own = parse((old_dir / PRODUCT).read_bytes())
    clash = next(image.reference for image in own.images.values() if "coredns" in image.reference)
    changed, manifest, layer = _changed(old_dir, clash, has_clash=has_clash)
    for name, data in changed.items():
        (new_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (new_dir / name).write_bytes(data)
    target = work_dir / "caisson-second.iso"
    maps = [word for name in changed for word in ("-map", new_dir / name, f"/{name}")]
    _xorriso(
        "-indev", iso, "-outdev", target, "-volid", "CAISSON_SECOND", "-overwrite", "on", *maps,
        "-chown_r", "0", "/", "--", "-chgrp_r", "0", "/", "--",
    )  # fmt: skip
    shared = next(
        line.partition("  ")[2]
        for line in (old_dir / SUMS).read_text().splitlines()
        if "  oci/blobs/" in line
    )
    product = parse(changed[PRODUCT])
    return SecondIso(target, product, own, manifest, layer, clash, shared)


def _changed(old_dir: Path, clash: str, *, has_clash: bool) -> tuple[dict[str, bytes], str, str]:
    """Return path -> bytes of what is other on the second ISO, and the digests of its image and of its layer."""
    layer = _layer()
    files: dict[str, bytes] = {}
    described = _blob(files, gzip.compress(layer, mtime=0), LAYER_TYPE)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _blob(files, json.dumps(config).encode(), OCI_CONFIG),
        "layers": [described],
    }
    entry = _blob(files, json.dumps(manifest).encode(), OCI_MANIFEST)
    index = json.loads((old_dir / INDEX).read_bytes())
    names = (IMAGE, clash) if has_clash else (IMAGE,)
    kept = [one for one in index["manifests"] if not set(names) & set(one["annotations"].values())]
    added = [{**entry, "annotations": dict.fromkeys(NAME_KEYS, name)} for name in names]
    files[INDEX] = json.dumps({**index, "manifests": [*kept, *added]}).encode()
    product = json.loads((old_dir / PRODUCT).read_bytes())
    table = product["images"]
    table["second"] = {"reference": IMAGE, "digest": entry["digest"], "size_bytes": 1}
    files[PRODUCT] = json.dumps({**product, "build": BUILD, "images": table}).encode()
    files[MAPS] = _maps((old_dir / MAPS).read_text(encoding="utf-8"), names, entry["digest"]).encode()
    own, other = (parse(data).full_version for data in ((old_dir / PRODUCT).read_bytes(), files[PRODUCT]))
    files[LOCATIONS] = (old_dir / LOCATIONS).read_bytes().replace(own.encode(), other.encode())
    pairs = [line.split("  ", 1) for line in (old_dir / SUMS).read_text(encoding="utf-8").splitlines()]
    sums = {name: digest for digest, name in pairs}
    sums.update({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    files[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    return files, str(entry["digest"]), str(described["digest"])


def _maps(text: str, names: Iterable[str], digest: str) -> str:
    """Return nginx's maps with more names before those that are there: of two patterns the first counts."""
    hexadecimal = digest.removeprefix("sha256:")
    tags = "".join(f'    "~^{re.escape(name)}$" {hexadecimal};\n' for name in names)
    repository, _, tag = IMAGE.rpartition(":")
    for head, lines in (
        ('map "$oci_name:$oci_ref" $oci_tag {\n    default "";\n', tags),
        (
            "map $oci_hex $oci_location {\n    default @registry;\n",
            f'    "{hexadecimal}" @caisson_oci_manifest;\n',
        ),
        ('map $oci_name $oci_tags {\n    default "";\n', f'    "~^{re.escape(repository)}$" \'"{tag}"\';\n'),
    ):
        before, found, after = text.partition(head)
        assert found, head
        text = before + head + lines + after
    return text


def _layer() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        data = b"of the second ISO\n" * 1000
        member = tarfile.TarInfo("second")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _blob(files: dict[str, bytes], data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    files[f"oci/blobs/sha256/{digest}"] = data
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _xorriso(*words: str | Path) -> None:
    command = ["xorriso", "-abort_on", "FATAL", "-return_with", "SORRY", "32", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
