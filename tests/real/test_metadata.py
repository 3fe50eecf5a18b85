# SPDX-License-Identifier: Apache-2.0
"""Metadata of real repositories is read, trusted, and solved as upstream means it."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path

import createrepo_c
import pytest

from build.base.errors import SignatureError
from build.base.run import run
from build.inventory.model import Baseline, MetadataTrust, PinnedKey, Repository, WantedPackage
from build.lock.modules import parse_modules, stream_filter
from build.lock.solver import Universe
from build.lock.solvfiles import RepositoryFiles
from build.upstream.http import HttpClient
from build.upstream.openpgp import (
    TrustedKeys,
    parse_key_listing,
    read_key_file,
    read_keys,
    verify_detached,
)
from build.upstream.repodata import MetadataCache, parse_comps
from tests.unit.build.fakeupstream import FakeUpstream, serve

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as running:
        yield running


def pinned_key(file: Path) -> PinnedKey:
    shown = run(["gpg", "--batch", "--with-colons", "--show-keys", file]).stdout
    return PinnedKey(file=file, fingerprint=parse_key_listing(shown)[0].fingerprint)


def repository(url: str, *keys: PinnedKey) -> Repository:
    trust = MetadataTrust.SIGNED if keys else MetadataTrust.TLS
    return Repository(id="real", base_urls=(url,), metadata=trust, keys=keys)


def test_a_vendors_signed_repository(real_dir: Path, upstream: FakeUpstream, tmp_path: Path) -> None:
    folder = real_dir / "repo" / "vendor-signed"
    for file in folder.glob("repodata/*"):
        upstream.put(f"/r/repodata/{file.name}", file.read_bytes())
    signed = repository(f"{upstream.url}/r/", pinned_key(folder / "key.gpg"))
    cache = MetadataCache(tmp_path / "metadata", HttpClient())
    metadata = cache.load(signed, read_keys(signed))
    primary = cache.plain_file(signed, metadata.files["primary"])
    assert b"apialerts" in primary.read_bytes()
    text = upstream.content["/r/repodata/repomd.xml"]
    upstream.put("/r/repodata/repomd.xml", text.replace(b"<revision>1", b"<revision>2"))
    with pytest.raises(SignatureError, match="the signature of the metadata"):
        cache.load(signed, read_keys(signed))


def test_librepos_signature(real_dir: Path) -> None:
    folder = real_dir / "repo" / "librepo-signed"
    pinned = pinned_key(folder / "repomd.xml.key")
    keys = TrustedKeys(repository="real", files=(pinned.file,), keys=read_key_file(pinned))
    signature = folder / "repomd.xml.asc"
    verify_detached(keys, data_file=folder / "repomd.xml", signature_file=signature, what="librepo")
    with pytest.raises(SignatureError, match="the signature of librepo is not good"):
        verify_detached(keys, data_file=folder / "repomd.xml_bad", signature_file=signature, what="librepo")


@pytest.mark.parametrize(
    "name",
    ["fedora-repomd.xml", "librepo-signed/repomd.xml", "c9s-2022-02-baseos/repomd.xml",
     "c9s-2025-01-appstream/repomd.xml", "c9s-2025-01-baseos/repomd.xml"],
)  # fmt: skip
def test_every_repomd_names_what_is_read(
    real_dir: Path, upstream: FakeUpstream, tmp_path: Path, name: str
) -> None:
    """The files themselves are not all there: what is asked for first is what repomd.xml names."""
    upstream.put("/r/repodata/repomd.xml", (real_dir / "repo" / name).read_bytes())
    cache = MetadataCache(tmp_path / "metadata", HttpClient())
    with pytest.raises(Exception, match="primary of repository 'real'"):
        cache.load(repository(f"{upstream.url}/r/"), TrustedKeys(repository="real", files=(), keys=()))
    records = createrepo_c.Repomd(str(real_dir / "repo" / name)).records
    (primary,) = [record for record in records if record.type == "primary"]
    assert upstream.seen[-1].path == f"/r/{primary.location_href}"


def unpacked(source: Path, target: Path) -> Path:
    target.write_bytes(lzma.decompress(source.read_bytes()))
    return target


def test_the_core_of_centos_is_what_every_host_has(real_dir: Path, tmp_path: Path) -> None:
    folder = real_dir / "repo" / "c9s-2022-02-baseos"
    files = RepositoryFiles(
        id="baseos",
        primary=unpacked(folder / "core-primary.xml.xz", tmp_path / "primary.xml"),
        filelists=unpacked(folder / "core-filelists.xml.xz", tmp_path / "filelists.xml"),
        solv_file=tmp_path / "baseos.solv",
        base_urls=("https://example.com/",),
    )
    universe = Universe([files], {"baseos"})
    group = parse_comps((folder / "comps.xml").read_bytes(), "core", "groups")
    baseline = Baseline(id="c9s", release="9", repositories=("baseos",), group="core", source="x:1")
    installed = universe.baseline(baseline, group)
    assert len(group) == 46
    assert 250 <= len(installed.ids) <= 270
    names = {nevra.rsplit("-", 2)[0] for nevra in universe.nevras(installed.ids)}
    assert {"xz", "dracut", "kexec-tools", "bash"} <= names


def test_the_streams_of_centos(real_dir: Path) -> None:
    """EL 9 has no default stream: all its modular builds are hidden until one is asked for."""
    folder = real_dir / "repo" / "c9s-2025-01-appstream"
    modules = parse_modules(lzma.decompress((folder / "modules.yaml.xz").read_bytes()), "appstream")
    assert modules.defaults == {}
    ids = {item.id for item in modules.streams}
    assert {"nginx:1.22", "nginx:1.24", "mariadb:10.11", "nodejs:22", "php:8.3", "ruby:3.3"} <= ids
    nothing = stream_filter(modules, [])
    assert not nothing.active
    assert "nodejs:22" in {
        stream for build, stream in nothing.inactive.items() if build.startswith("nodejs-1:22")
    }
    asked = WantedPackage(name="nginx", repositories=("appstream",), purpose="x", stream="nginx:1.24")
    rules = stream_filter(modules, [asked])
    assert set(rules.active.values()) == {"nginx:1.24"}
    assert "outside module stream nginx:1.24" in rules.reason("nginx-1:1.20.1-20.el9.x86_64", "nginx")
