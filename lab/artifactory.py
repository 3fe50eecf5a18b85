# SPDX-License-Identifier: Apache-2.0
"""Metadata of a yum repository as Artifactory writes it: SHA-1 sums, no filelists, no signature.

RPMs, repodata/ of createrepo_c --weaken--> repodata/{primary.xml.gz, other.xml.gz, repomd.xml}

Today's createrepo_c refuses to make such sums, so they are put in the place of its own.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

KINDS = ("primary", "other")


def weaken(directory: Path, *, revision: int) -> None:
    """Write the metadata of a repository again as Artifactory does, and remove all else of it.

    SHA-1 is called ``sha`` there, as by the first yum.
    """
    repodata_dir = directory / "repodata"
    texts = {kind: _only(repodata_dir, kind).replace(b'type="sha256"', b'type="sha"') for kind in KINDS}
    for rpm_file in directory.rglob("*.rpm"):
        data = rpm_file.read_bytes()
        strong = hashlib.sha256(data).hexdigest().encode()
        texts = {kind: text.replace(strong, _sha1(data).encode()) for kind, text in texts.items()}
    for file in repodata_dir.iterdir():
        file.unlink()
    records = "".join(_write(repodata_dir, kind, text, revision) for kind, text in texts.items())
    (repodata_dir / "repomd.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<repomd xmlns="http://linux.duke.edu/metadata/repo">\n'
        f"  <revision>{revision}</revision>\n{records}</repomd>\n"
    )


def _only(repodata_dir: Path, kind: str) -> bytes:
    (file,) = repodata_dir.glob(f"*-{kind}.xml.gz")
    return gzip.decompress(file.read_bytes())


def _write(repodata_dir: Path, kind: str, text: bytes, revision: int) -> str:
    """Write one compressed file and return its record."""
    packed = gzip.compress(text, mtime=0)
    name = f"{_sha1(packed)}-{kind}.xml.gz"
    (repodata_dir / name).write_bytes(packed)
    return (
        f'  <data type="{kind}">\n'
        f'    <checksum type="sha">{_sha1(packed)}</checksum>\n'
        f'    <open-checksum type="sha">{_sha1(text)}</open-checksum>\n'
        f'    <location href="repodata/{name}"/>\n'
        f"    <timestamp>{revision}</timestamp>\n"
        f"    <size>{len(packed)}</size>\n    <open-size>{len(text)}</open-size>\n"
        "  </data>\n"
    )


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
