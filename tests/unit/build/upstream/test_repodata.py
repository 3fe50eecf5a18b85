# SPDX-License-Identifier: Apache-2.0
"""Metadata of yum repositories: fetched once, checked, unpacked (signatures: test_lock_and_fetch)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import createrepo_c
import pytest

from build.base.errors import IntegrityError, InventoryError, NetworkError, SignatureError
from build.inventory.model import MetadataTrust, PinnedKey, Repository
from build.upstream.http import HttpClient
from build.upstream.openpgp import TrustedKeys, read_keys
from build.upstream.repodata import MetadataCache, MetadataFile, parse_comps
from tests.unit.build.fakerepo import Rpm, comps_xml, repository_files
from tests.unit.build.fakeupstream import FakeUpstream, serve
from tests.unit.build.signers import signer

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


MIRROR = "/mirror/"


def put(upstream: FakeUpstream, root: str, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        upstream.put(root + path, data)


def with_mirror(upstream: FakeUpstream, **fields: object) -> Repository:
    urls = (f"{upstream.url}/r/", f"{upstream.url}{MIRROR}")
    return dataclasses.replace(tls_repository(upstream), base_urls=urls, **fields)  # type: ignore[arg-type]


@pytest.mark.loopback
def test_a_mirror_whose_files_are_older_than_its_repomd_is_passed_over_whole(
    upstream: FakeUpstream, cache: MetadataCache
) -> None:
    """The other mirror is whole, and older: what the first one's repomd.xml names is nowhere."""
    old, new = repository_files([Rpm(name="old")]), repository_files([Rpm(name="new")])
    put(upstream, "/r/", {"repodata/repomd.xml": new["repodata/repomd.xml"]})
    put(upstream, MIRROR, old)
    repository = with_mirror(upstream)
    metadata = cache.load(repository, NO_KEYS)
    assert b"<name>old</name>" in cache.plain_file(repository, metadata.files["primary"]).read_bytes()
    for path, data in new.items():
        upstream.put(f"/r/{path}", b"torn" if "primary" in path else data)
    del upstream.content[f"{MIRROR}repodata/repomd.xml"]
    with pytest.raises(
        IntegrityError, match="none of 2 mirrors helps: primary of repository 'repo'"
    ) as caught:
        cache.load(repository, NO_KEYS)
    assert f"{upstream.url}/r/: primary" in caught.value.details
    assert f"{upstream.url}{MIRROR}: upstream does not have" in caught.value.details


@pytest.mark.loopback
@pytest.mark.subprocess
def test_a_mirror_with_an_older_signature_is_passed_over(
    upstream: FakeUpstream, cache: MetadataCache, tmp_path: Path
) -> None:
    old, new = repository_files([Rpm(name="old")]), repository_files([Rpm(name="new")])
    repomd = tmp_path / "repomd.xml"
    with signer(tmp_path, "main") as key:
        signatures = {}
        for name, files in (("old", old), ("new", new)):
            repomd.write_bytes(files["repodata/repomd.xml"])
            signatures[name] = {"repodata/repomd.xml.asc": key.sign_detached(repomd).read_bytes()}
        pinned = PinnedKey(file=key.key_file, fingerprint=key.fingerprint)
        repository = with_mirror(upstream, metadata=MetadataTrust.SIGNED, keys=(pinned,))
        trusted = read_keys(repository)
        put(upstream, "/r/", {**new, **signatures["old"]})
        put(upstream, MIRROR, {**new, **signatures["new"]})
        assert "primary" in cache.load(repository, trusted).files
        put(upstream, MIRROR, signatures["old"])
        with pytest.raises(SignatureError, match="none of 2 mirrors helps") as caught:
            cache.load(repository, trusted)
        assert caught.value.details.count("the signed file was changed") == 2


def weak(files: Mapping[str, bytes], *kinds: str) -> dict[str, bytes]:
    """Return a repository whose repomd.xml names the files of some kinds by SHA-1, as Artifactory writes it."""
    text = files["repodata/repomd.xml"].decode()
    for kind in kinds:
        record = re.search(rf'<data type="{kind}">.*?</data>', text)
        assert record
        location = re.search('href="([^"]+)"', record[0])
        assert location
        sum_text = hashlib.sha1(files[location[1]], usedforsecurity=False).hexdigest()
        changed = re.sub(
            '<checksum type="sha256">.*?<', f'<checksum type="sha">{sum_text}<', record[0], count=1
        )
        text = text.replace(record[0], changed)
    return {**files, "repodata/repomd.xml": text.encode()}


@pytest.mark.loopback
def test_over_tls_the_packages_own_signatures_count_and_not_the_sums(
    upstream: FakeUpstream, cache: MetadataCache
) -> None:
    put(upstream, "/r/", weak(repository_files([Rpm(name="a")], has_filelists=False), "primary"))
    metadata = cache.load(tls_repository(upstream), NO_KEYS)
    assert metadata.files["primary"].algorithm == "sha1"


@pytest.mark.loopback
@pytest.mark.subprocess
def test_a_weak_sum_below_a_signature_matters_where_it_is_read(
    upstream: FakeUpstream, cache: MetadataCache, tmp_path: Path
) -> None:
    files = repository_files([Rpm(name="a")], comps=comps_xml("core", ["a"]))
    repomd = tmp_path / "repomd.xml"
    with signer(tmp_path, "main") as key:
        pinned = PinnedKey(file=key.key_file, fingerprint=key.fingerprint)
        repository = dataclasses.replace(
            tls_repository(upstream), metadata=MetadataTrust.SIGNED, keys=(pinned,)
        )

        def serve_weak(*kinds: str) -> None:
            made = weak(files, *kinds)
            repomd.write_bytes(made["repodata/repomd.xml"])
            put(upstream, "/r/", {**made, "repodata/repomd.xml.asc": key.sign_detached(repomd).read_bytes()})

        serve_weak("group_xz")
        assert cache.load(repository, read_keys(repository)).comps
        with pytest.raises(SignatureError, match=r"group_xz of repository 'repo' .* weak checksum sha1"):
            cache.load(repository, read_keys(repository), has_groups=True)
        serve_weak("primary")
        with pytest.raises(SignatureError, match="primary") as caught:
            cache.load(repository, read_keys(repository))
        assert "metadata: tls" in caught.value.resolution


@pytest.mark.loopback
def test_a_repomd_without_sizes(upstream: FakeUpstream, cache: MetadataCache) -> None:
    files = repository_files([Rpm(name="a")])
    bare = re.sub(rb"<(open-)?size>\d+</(open-)?size>", b"", files["repodata/repomd.xml"])
    put(upstream, "/r/", {**files, "repodata/repomd.xml": bare})
    metadata = cache.load(tls_repository(upstream), NO_KEYS)
    assert {file.size_bytes for file in metadata.files.values()} == {0}


@pytest.mark.loopback
def test_no_more_is_read_than_repomd_names(upstream: FakeUpstream, cache: MetadataCache) -> None:
    files = repository_files([Rpm(name="a")])
    put(upstream, "/r/", {path: data + bytes(100_000) for path, data in files.items() if "primary" in path})
    upstream.put("/r/repodata/repomd.xml", files["repodata/repomd.xml"])
    with pytest.raises(NetworkError, match="primary of repository 'repo' is longer than it may be"):
        cache.load(tls_repository(upstream), NO_KEYS)


@pytest.mark.loopback
def test_an_empty_file_of_a_power_cut_is_fetched_again(upstream: FakeUpstream, cache: MetadataCache) -> None:
    put(upstream, "/r/", repository_files([Rpm(name="a")]))
    repository = tls_repository(upstream)
    primary = cache.load(repository, NO_KEYS).files["primary"]
    cache.plain_file(repository, primary).write_bytes(b"")
    assert cache.plain_file(repository, primary).stat().st_size


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
