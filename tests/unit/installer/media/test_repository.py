# SPDX-License-Identifier: Apache-2.0
"""What the repository on the media has is read from its own metadata, all builds of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.media import repository
from installer.media.rpmdb import Build, Package
from tests.unit.installer.helpers import make_product, write_repository

OLDER, NEWER = Build("nftables", "1.0.9-3.el9"), Build("nftables", "1.0.9-5.el9")
PRODUCT = make_product(packages={"nftables": "1:1.0.9-5.el9"})


def test_all_builds_of_a_name(tmp_path: Path) -> None:
    write_repository(tmp_path, [Package(*build, "x86_64") for build in (OLDER, NEWER)])
    assert repository.builds(tmp_path, PRODUCT) == {OLDER, NEWER}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("repomd.xml", b""),
        ("repomd.xml", b"<repomd/>"),
        ("ab-primary.xml.gz", b""),
        ("ab-primary.xml.gz", b"no gzip"),
        ("ab-primary.xml.gz", None),
    ],
)
def test_metadata_that_cannot_be_read_is_dnf_s_to_tell(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    write_repository(tmp_path, [Package(*OLDER, "x86_64")])
    file = tmp_path / "repo/el9/repodata" / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert repository.builds(tmp_path, PRODUCT) == {NEWER}
