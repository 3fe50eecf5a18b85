# SPDX-License-Identifier: Apache-2.0
"""Metadata of yum repositories: fetched once, checked, unpacked (signatures: test_lock_and_fetch)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import createrepo_c
import pytest

from build.base.errors import IntegrityError, InventoryError, NetworkError
from build.inventory.model import MetadataTrust, PinnedKey, Repository
from build.upstream.http import HttpClient
from build.upstream.openpgp import TrustedKeys
from build.upstream.repodata import MetadataCache, MetadataFile, parse_comps
from tests.unit.build.fakerepo import Rpm, comps_xml, repository_files
from tests.unit.build.fakeupstream import FakeUpstream, serve

NO_KEYS = TrustedKeys(repository="repo", files=(), keys=())
PLAIN = b"<metadata/>\n" * 100


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> MetadataCache:
    return MetadataCache(tmp_path / "metadata", HttpClient(pause=lambda _seconds: None))


def tls_repository(upstream: FakeUpstream) -> Repository:
    """Return a repository that needs no signature; that tls means https is the profile's business."""
    key = PinnedKey(file=Path("x"), fingerprint="A" * 40)
    return Repository(id="repo", base_urls=(f"{upstream.url}/r/",), metadata=MetadataTrust.TLS, keys=(key,))


@pytest.mark.loopback
def test_metadata_by_tls_alone(upstream: FakeUpstream, cache: MetadataCache) -> None:
    for path, data in repository_files([Rpm(name="a")], comps=comps_xml("core", ["a"])).items():
        upstream.put(f"/r/{path}", data)
    metadata = cache.load(tls_repository(upstream), NO_KEYS)
    assert sorted(metadata.files) == ["filelists", "group_xz", "primary"]
    assert metadata.comps is not None
    plain = cache.plain_file(metadata.repository, metadata.comps)
    assert parse_comps(plain.read_bytes(), "core", "groups") == ("a",)
    assert not [seen for seen in upstream.seen if seen.path.endswith(".asc")]
    cache.plain_file(metadata.repository, metadata.comps)
    cache.load(tls_repository(upstream), NO_KEYS)
    assert len(upstream.requests(f"/r/{metadata.comps.location}")) == 1
    assert "if-none-match" in upstream.requests("/r/repodata/repomd.xml")[1].headers


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        (createrepo_c.GZ_COMPRESSION, ".gz"),
        (createrepo_c.XZ_COMPRESSION, ".xz"),
        (createrepo_c.ZSTD_COMPRESSION, ".zst"),
        (createrepo_c.NO_COMPRESSION, ""),
    ],
)
def test_every_compression(
    upstream: FakeUpstream, cache: MetadataCache, tmp_path: Path, kind: int, suffix: str
) -> None:
    source, packed = tmp_path / "x.xml", tmp_path / f"packed.xml{suffix}"
    source.write_bytes(PLAIN)
    createrepo_c.compress_file(str(source), str(packed), kind)
    upstream.put(f"/r/{packed.name}", packed.read_bytes())
    checksum = hashlib.sha512(packed.read_bytes()).hexdigest()
    file = MetadataFile(kind="x", location=packed.name, algorithm="sha512", checksum=checksum)
    (tmp_path / "metadata").mkdir()
    assert cache.plain_file(tls_repository(upstream), file).read_bytes() == PLAIN


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b"<repomd", b"<repomd <", IntegrityError),
        (b'href="repodata/', b'href="../../', IntegrityError),
        (b'href="repodata/', b'href="https://example.com/', IntegrityError),
        (b'type="primary"', b'type="secondary"', NetworkError),
    ],
)
def test_a_repomd_that_cannot_be_meant(
    upstream: FakeUpstream, cache: MetadataCache, old: bytes, new: bytes, kind: type[Exception]
) -> None:
    files = repository_files([Rpm(name="a")])
    upstream.put("/r/repodata/repomd.xml", files["repodata/repomd.xml"].replace(old, new))
    with pytest.raises(kind):
        cache.load(tls_repository(upstream), NO_KEYS)


@pytest.mark.loopback
def test_a_damaged_cache_is_fetched_again(
    upstream: FakeUpstream, cache: MetadataCache, tmp_path: Path
) -> None:
    upstream.put("/r/x", b"one")
    (tmp_path / "metadata").mkdir()
    file = cache.fetch_again(f"{upstream.url}/r/x", "x")
    file.write_bytes(b"two")
    assert cache.fetch_again(f"{upstream.url}/r/x", "x").read_bytes() == b"one"
    file.with_suffix(".state").write_text("nonsense", encoding="ascii")
    assert cache.fetch_again(f"{upstream.url}/r/x", "x").read_bytes() == b"one"


def test_groups() -> None:
    assert parse_comps(comps_xml("core", ["b", "a"], ["optional"]), "core", "groups") == ("a", "b")
    with pytest.raises(InventoryError) as caught:
        parse_comps(comps_xml("core", ["a"]), "cores", "groups")
    assert "groups: core" in caught.value.details
    with pytest.raises(IntegrityError):
        parse_comps(b"<comps>", "core", "groups")
