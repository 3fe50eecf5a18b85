# SPDX-License-Identifier: Apache-2.0
"""Packages of which metadata gives no SHA-256 are fetched and proved when they are locked, once."""

from __future__ import annotations

import dataclasses

import pytest

from build.base.errors import BuildError, IntegrityError, SignatureError
from build.fetch.transfer import run_fetch
from build.inventory.model import Digest, Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import newest, run_lock
from build.lock.stated import Sum
from tests.unit.build.factory import tiny_rpm
from tests.unit.build.fakerepo import Rpm
from tests.unit.build.fakesite import Site

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]
TOOL = "/tools/Packages/tool-1.0-1.el9.noarch.rpm"


def lock(site: Site) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)
    return read_lock(site.lock_file)


def put_tool(site: Site, **fields: object) -> Rpm:
    """Serve the tool as Artifactory does: no list of files, and other fields as a test wants them."""
    tool = dataclasses.replace(site.rpm("tool", requires=("library",)), **fields)  # type: ignore[arg-type]
    site.put_repository("tools", [tool, site.rpm("library")], has_filelists=False)
    return tool


@pytest.mark.parametrize("kind", ["sha", "sha1", "md5", "sha384", "sha512"])
def test_a_signed_package_with_another_sum_is_locked_by_sha256(
    site: Site, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = put_tool(site, checksum_type=kind)
    made = lock(site).package("tool")
    assert "lock: fetching tool-1.0-1.el9.noarch, of which metadata has the sum" in capsys.readouterr().err
    assert made.digest == Digest.of_bytes(tool.content)
    assert made.size_bytes == len(tool.content)
    fetched = len(site.upstream.requests(TOOL))
    assert fetched == 1
    before = site.lock_file.read_bytes()
    lock(site)
    assert site.lock_file.read_bytes() == before
    assert len(site.upstream.requests(TOOL)) == fetched


@pytest.mark.parametrize("size", [None, 0])
def test_a_package_without_a_size(site: Site, size: int | None) -> None:
    tool = put_tool(site, stated_size=size)
    made = lock(site).package("tool")
    assert (made.digest, made.size_bytes) == (Digest.of_bytes(tool.content), len(tool.content))
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=site.sources)


def test_an_unsigned_package_with_a_weak_sum_is_refused_with_words(site: Site) -> None:
    put_tool(site, checksum_type="sha", data=tiny_rpm("tool"))
    with pytest.raises(SignatureError, match=r"package tool-1.0-1.el9.noarch is not signed") as caught:
        lock(site)
    assert "its metadata has only the sum sha1, so nothing vouches for it" in caught.value.details
    assert not site.lock_file.exists()


def test_a_payload_that_is_not_the_signed_one(site: Site) -> None:
    """The weak sum fits, as who makes collisions would have it; header and signature are good."""
    changed = bytearray(site.rpm("tool").content)
    changed[-3] ^= 1
    put_tool(site, checksum_type="sha", data=bytes(changed))
    with pytest.raises(
        IntegrityError, match=r"package tool-1.0-1.el9.noarch is not the one that is meant"
    ) as caught:
        lock(site)
    assert "its signed header names payload" in caught.value.details


@pytest.mark.parametrize("wrong", [b"", b"much more"])
def test_bytes_that_are_not_those_of_the_sum(site: Site, wrong: bytes) -> None:
    tool = put_tool(site, checksum_type="sha")
    site.upstream.put(TOOL, (wrong + tool.content)[:: -1 if not wrong else 1])
    with pytest.raises(BuildError, match="package tool"):
        lock(site)


def test_another_package_by_the_same_key(site: Site) -> None:
    put_tool(site, checksum_type="sha", data=site.rpm("library").content)
    with pytest.raises(IntegrityError, match="says in its header that it is library"):
        lock(site)


def test_a_file_name_with_a_plus_on_a_server_that_takes_it_for_a_blank(site: Site) -> None:
    tool = put_tool(site, file_name="Packages/tool++-1.0.rpm")
    del site.upstream.content["/tools/Packages/tool++-1.0.rpm"]
    site.upstream.put("/tools/Packages/tool%2B%2B-1.0.rpm", tool.content)
    assert lock(site).package("tool").location == "Packages/tool++-1.0.rpm"
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=site.sources)


def test_a_base_within_the_repository_is_followed(site: Site) -> None:
    tool = put_tool(site, file_name="tool.rpm", location_base=f"{site.upstream.url}/tools/pool/")
    site.upstream.put("/tools/pool/tool.rpm", tool.content)
    assert lock(site).package("tool").location == "pool/tool.rpm"


def test_a_base_elsewhere_is_refused_with_words(site: Site) -> None:
    put_tool(site, location_base="https://elsewhere.example/tools/")
    with pytest.raises(
        IntegrityError, match=r"package tool-1.0-1.el9.noarch of repository 'tools'"
    ) as caught:
        lock(site)
    assert "xml:base" in caught.value.details


@pytest.mark.parametrize("year", [2106, 9999])
def test_a_date_in_the_future_does_not_date_the_bundle(
    site: Site, year: int, capsys: pytest.CaptureFixture[str]
) -> None:
    put_tool(site, build_time=4_294_967_295)
    old = site.upstream.content["/v2/k8s/old/manifests/1"].decode()
    config = old.partition('"digest": "')[2].partition('"')[0]
    data = site.upstream.content[f"/v2/k8s/old/blobs/{config}"].replace(b"2026-01", f"{year}-01".encode())
    digest = site.upstream.put_blob("k8s/old", data)
    manifest = old.replace(config, digest).encode()
    site.upstream.put_image(
        "k8s/old", "1", {"top": (manifest, site.upstream.types["/v2/k8s/old/manifests/1"])}
    )
    assert lock(site).source_date_epoch == 1767323045  # the other image's
    said = capsys.readouterr().err
    assert "package tool-1.0-1.el9.noarch says that it was made in the future, on 2106-02-07" in said
    assert f"image registry.k8s.io/old:1 says that it was made in the future, on {year}-01-02" in said


def test_when_all_is_of_the_future_the_lock_dates_the_bundle() -> None:
    assert newest({"a": 300, "b": 0}, 200) == 200
    assert newest({"a": 300, "b": 150}, 200) == 150
    assert newest({"a": 1 << 70}, 200) == 200
    assert newest({}, 200) == 0


def test_a_sum_stands_for_the_bytes_until_they_are_known() -> None:
    known = Sum(algorithm="sha256", hex="0" * 64, size_bytes=1)
    assert known.is_enough
    assert known.name == Digest("0" * 64)
    other = Sum(algorithm="sha512", hex="0" * 128, size_bytes=1)
    assert not other.is_enough
    assert other.name != dataclasses.replace(other, size_bytes=2).name
