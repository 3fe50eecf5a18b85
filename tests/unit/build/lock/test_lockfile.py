# SPDX-License-Identifier: Apache-2.0
"""The lock as a file: what is written is read back, and faults are reported with their lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from build.base.errors import LockError
from build.inventory.model import Digest, Lock
from build.lock.lockfile import dump_lock, parse_lock, read_lock


@pytest.fixture
def text(request: pytest.FixtureRequest) -> str:
    golden = (request.path.parent / "golden" / "site.lock").read_text(encoding="utf-8")
    golden = golden.replace("<fingerprint>", "A" * 40).replace("<size>", "7")
    return golden.replace("<sha256>", "b" * 64).replace("<digest>", f"sha256:{'c' * 64}")


def test_what_is_written_is_read_back(text: str) -> None:
    lock = parse_lock(text, "x.lock")
    assert dump_lock(lock) == text
    assert parse_lock(dump_lock(lock), "x.lock") == lock


def test_the_order_of_things_does_not_matter(text: str) -> None:
    lock = parse_lock(text, "x.lock")
    turned = dataclasses.replace(
        lock, packages=tuple(reversed(lock.packages)), images=tuple(reversed(lock.images))
    )
    assert dump_lock(turned) == text


@pytest.mark.parametrize(
    "version", ["1.0", "1", "1e5", "0x10", "yes", "null", "2026-01-01", "a: b", "#x", "~"]
)
def test_text_stays_text(text: str, version: str) -> None:
    lock = dataclasses.replace(parse_lock(text, "x.lock"), versions={"tool": version})
    assert parse_lock(dump_lock(lock), "x.lock").versions == {"tool": version}


def test_every_object_is_listed_once(text: str) -> None:
    lock = parse_lock(text, "x.lock")
    digests = [blob.digest for blob in lock.blobs()]
    assert len(digests) == len(set(digests))
    image = lock.image("pause")
    assert image.child is not None
    assert {image.digest, image.child.digest, image.config.digest} <= set(digests)
    assert image.platform == image.child
    assert lock.image("old").platform == lock.image("old").top


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("size_bytes: 603", "size_bytes: many", "'size_bytes' must be a whole number, not text"),
        ("    digest: sha256:", "    digest: sha256:x", "not 64 lower-case hexadecimal digits"),
        ("    digest: sha256:", "    digest: md5:", "not a sha256 digest"),
        ("reference: registry.k8s.io/old:1", "reference: registry.k8s.io/old", "has no tag"),
        ("location: Packages", "location: ../Packages", "'location' must be relative"),
        ("requested: true", "requested: perhaps", "'requested' must be true or false"),
        ("    arch: noarch", "    archs: noarch", "unknown key 'archs'; did you mean 'arch'?"),
        ("  lab: true", "  lab: true\n  site: x", "unknown key 'site'"),
        ("source_date_epoch:", "epoch:", "key 'source_date_epoch' is missing"),
    ],
)
def test_faults_have_a_line(text: str, old: str, new: str, fault: str) -> None:
    with pytest.raises(LockError) as caught:
        parse_lock(text.replace(old, new), "x.lock")
    assert fault in caught.value.details
    assert caught.value.details.startswith("x.lock:")


def test_an_image_without_digest_cannot_be_written_down(text: str) -> None:
    lines = [line for line in text.splitlines() if not line.startswith("    digest:")]
    with pytest.raises(LockError) as caught:
        parse_lock("\n".join(lines), "x.lock")
    assert caught.value.details.count("key 'digest' is missing") == 2


def test_a_lock_of_a_newer_caisson(text: str) -> None:
    with pytest.raises(LockError, match="written by a newer Caisson"):
        parse_lock(text.replace("format: 1", "format: 2\nnew_things: []"), "x.lock")


@pytest.mark.parametrize("broken", ["", "just words", "a: [", "- a\n"])
def test_what_is_no_lock(broken: str) -> None:
    with pytest.raises(LockError):
        parse_lock(broken, "x.lock")


def test_a_lock_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read_lock(tmp_path / "caisson.lock")
    assert "doit.sh lock" in caught.value.resolution


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert (
        Digest.of_file(tmp_path / "x")
        == Digest.of_bytes(b"abc")
        == Digest.parse(str(Digest.of_bytes(b"abc")))
    )
    with pytest.raises(ValueError, match="hexadecimal"):
        Digest("A" * 64)


def test_an_empty_lock_is_a_lock(text: str) -> None:
    full = parse_lock(text, "x.lock")
    empty = Lock(
        profile_name="x",
        is_lab=False,
        inventory_digest=full.inventory_digest,
        source_date_epoch=0,
        versions={},
        baselines=(),
        packages=(),
        images=(),
        composed=(),
        manifests=(),
        python=(),
        keys=(),
    )
    assert parse_lock(dump_lock(empty), "x.lock") == empty
