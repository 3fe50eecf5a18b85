# SPDX-License-Identifier: Apache-2.0
"""lock and fetch from end to end, against a small upstream on loopback. Starts gpg, gpgv, rpmkeys."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest

from build.base.errors import (
    BuildError,
    CredentialsError,
    IntegrityError,
    KeyFileError,
    LockError,
    NetworkError,
    NotFoundError,
    SignatureError,
    SolverError,
    StoreError,
)
from build.fetch.transfer import run_fetch
from build.inventory.model import Digest, Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from build.store.objects import Store
from tests.conftest import GoldenCheck
from tests.unit.build.factory import tiny_rpm
from tests.unit.build.fakerepo import Rpm
from tests.unit.build.fakesite import MANIFEST_TEXT, Site
from tests.unit.build.fakeupstream import Trouble
from tests.unit.build.signers import signer

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]


def lock(site: Site) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)
    return read_lock(site.lock_file)


def fetch(site: Site) -> Store:
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=site.sources)
    return Store(site.root_dir / "store")


def test_a_lock_names_everything(site: Site) -> None:
    made = lock(site)
    assert [package.name for package in made.packages] == ["library", "tool"]
    assert made.package("library").required_by == ("tool",)
    assert not made.package("library").requested
    pause = made.image("pause")
    assert pause.child is not None
    assert len(pause.layers) == 2
    old = made.image("old")
    assert old.child is None
    assert "docker" in old.media_type
    assert made.composed[0].packages == ("library", "tool")
    assert made.manifests[0].digest == Digest.of_bytes(MANIFEST_TEXT)
    assert made.manifests[0].url == "https://raw.example.com/net.yaml"
    assert [(key.repository, key.fingerprint) for key in made.keys] == [("tools", site.key.fingerprint)]
    assert made.baselines[0].package_count == 2
    assert made.source_date_epoch == 1767323045
    assert made.is_lab
    assert site.upstream.url not in site.lock_file.read_text(encoding="utf-8")


def test_a_lock_is_canonical_text(site: Site, golden: GoldenCheck) -> None:
    lock(site)
    text = site.lock_file.read_text(encoding="utf-8")
    for package in read_lock(site.lock_file).packages:  # signatures differ from run to run
        text = text.replace(package.digest.hex, "<sha256>")
        text = text.replace(f"size_bytes: {package.size_bytes}\n", "size_bytes: <size>\n")
    for key in read_lock(site.lock_file).keys:
        text = text.replace(key.digest.hex, "<sha256>").replace(f"{key.size_bytes}", "<size>")
    text = text.replace(site.key.fingerprint, "<fingerprint>")
    golden("site.lock", re.sub(r"(inventory(_packages)?): .*", r"\1: <digest>", text))


def test_a_second_lock_asks_little_and_changes_nothing(site: Site) -> None:
    lock(site)
    before = site.lock_file.stat().st_mtime_ns
    site.upstream.seen.clear()
    lock(site)
    assert site.lock_file.stat().st_mtime_ns == before
    asked = [(seen.method, seen.path) for seen in site.upstream.seen if seen.path != "/v2/"]
    assert not [path for _, path in asked if "primary" in path or "filelists" in path or "blobs" in path]
    assert ("HEAD", "/v2/k8s/pause/manifests/3.10") in asked
    assert all(method == "HEAD" for method, path in asked if "/manifests/" in path)


def test_metadata_in_a_form_that_libsolv_cannot_read_is_read_again(site: Site) -> None:
    lock(site)
    before = site.lock_file.read_bytes()
    for number, file in enumerate(sorted((site.root_dir / "cache" / "metadata").glob("*.solv"))):
        file.write_bytes(b"SOLV of another version" if number else b"")
    lock(site)
    assert site.lock_file.read_bytes() == before


def test_a_tag_that_moved_is_noticed(site: Site) -> None:
    before = lock(site).image("pause").digest
    site.put_image("pause", is_indexed=False)
    assert lock(site).image("pause").digest != before


def test_everything_locked_is_fetched(site: Site) -> None:
    made = lock(site)
    store = fetch(site)
    for blob in made.blobs():
        assert Digest.of_file(store.path(blob.digest)) == blob.digest
    assert not list((store.root / "partial").iterdir())


def test_a_second_fetch_asks_nothing(site: Site) -> None:
    lock(site)
    fetch(site)
    site.upstream.seen.clear()
    fetch(site)
    assert not site.upstream.seen


def test_a_fetch_does_not_ask_for_what_the_lock_read(site: Site) -> None:
    """Registries count manifests. What was damaged in between is fetched, and checked."""
    made = lock(site)
    objects_dir = site.root_dir / "cache" / "objects"
    (objects_dir / made.image("old").config.digest.hex).write_bytes(b"rot")
    site.upstream.seen.clear()
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=site.sources, objects_dir=objects_dir)
    assert not [seen.path for seen in site.upstream.seen if "/manifests/" in seen.path]
    configs = [image.config.digest for image in made.images]
    asked = [digest for digest in configs if any(str(digest) in seen.path for seen in site.upstream.seen)]
    assert asked == [made.image("old").config.digest]
    assert all(Store(site.root_dir / "store").has(blob.digest, blob.size_bytes) for blob in made.blobs())


def test_a_corrupted_object_is_fetched_again(site: Site) -> None:
    made = lock(site)
    store = fetch(site)
    path = store.path(made.image("pause").layers[0].digest)
    path.chmod(0o644)
    path.write_bytes(b"X" * path.stat().st_size)
    fetch(site)
    assert Digest.of_file(path) == made.image("pause").layers[0].digest


def test_a_registry_with_tokens(site: Site) -> None:
    site.upstream.token = "t0ken"
    made = lock(site)
    store = fetch(site)
    assert store.has(made.image("pause").config.digest, made.image("pause").config.size_bytes)


def test_a_registry_that_refuses(site: Site) -> None:
    site.upstream.troubles["/v2/k8s/pause/manifests/3.10"] = [Trouble(status=403)] * 2  # HEAD and GET
    with pytest.raises(CredentialsError, match=r"registry\.k8s\.io/pause:3\.10"):
        lock(site)


def test_an_image_that_is_not_there(site: Site) -> None:
    del site.upstream.content["/v2/k8s/old/manifests/1"]
    with pytest.raises(NotFoundError, match=r"registry\.k8s\.io/old:1"):
        lock(site)


def test_an_image_for_another_machine(site: Site) -> None:
    path = "/v2/k8s/pause/manifests/3.10"
    data = site.upstream.content[path].replace(b'"amd64"', b'"riscv"')
    site.upstream.put_image("k8s/pause", "3.10", {"top": (data, site.upstream.types[path])})
    with pytest.raises(NotFoundError) as caught:
        lock(site)
    assert "linux/arm64, linux/riscv" in caught.value.details


def test_a_blob_that_is_not_what_was_locked(site: Site) -> None:
    layer = lock(site).image("pause").layers[0]
    path = f"/v2/k8s/pause/blobs/{layer.digest}"
    site.upstream.put(path, b"X" * layer.size_bytes)
    with pytest.raises(IntegrityError, match=r"registry\.k8s\.io/pause:3\.10"):
        fetch(site)
    assert not (site.root_dir / "store" / "sha256" / layer.digest.hex[:2] / layer.digest.hex).exists()


def test_a_cut_connection_and_a_failing_server_do_not_stop_a_fetch(site: Site) -> None:
    made = lock(site)
    layer = made.image("pause").layers[1]
    site.upstream.troubles[f"/v2/k8s/pause/blobs/{layer.digest}"] = [
        Trouble(cut_after=10),
        Trouble(status=500),
        Trouble(status=429, headers={"Retry-After": "0"}),
    ]
    assert fetch(site).has(layer.digest, layer.size_bytes)


def test_replaced_metadata_is_refused(site: Site) -> None:
    path = "/tools/repodata/repomd.xml"
    site.upstream.put(path, site.upstream.content[path].replace(b"<revision>1", b"<revision>2"))
    with pytest.raises(SignatureError) as caught:
        lock(site)
    assert "the metadata of repository 'tools'" in caught.value.message
    assert "the signed file was changed" in caught.value.details
    assert not site.lock_file.exists()


def test_metadata_signed_by_another_key_is_refused(site: Site) -> None:
    with signer(site.root_dir, "foreign") as foreign:
        site.put_repository("tools", [Rpm(name="tool")], by=foreign)
    with pytest.raises(SignatureError, match="'tools'"):
        lock(site)


def test_metadata_without_signature_is_refused(site: Site) -> None:
    del site.upstream.content["/tools/repodata/repomd.xml.asc"]
    with pytest.raises(SignatureError, match="is not signed"):
        lock(site)


def test_metadata_behind_repomd_is_checked(site: Site) -> None:
    primary = next(path for path in site.upstream.content if path.startswith("/tools") and "primary" in path)
    site.upstream.put(primary, b"other")
    with pytest.raises(IntegrityError, match="primary of repository 'tools'"):
        lock(site)


def test_a_repository_without_filelists(site: Site) -> None:
    site.put_repository("tools", [site.rpm("tool", requires=("bash",))], has_filelists=False)
    assert [package.name for package in lock(site).packages] == ["tool"]


def test_a_package_signed_by_another_key_is_refused(site: Site) -> None:
    """When it is locked, before it is fetched; and again when it is fetched."""
    good = site.put_repository
    lock(site)
    with signer(site.root_dir, "foreign") as foreign:
        good("tools", [site.rpm("tool", requires=("library",), by=foreign), site.rpm("library", by=foreign)])
        before = site.lock_file.read_bytes()
        with pytest.raises(SignatureError) as caught:
            lock(site)
    assert site.lock_file.read_bytes() == before
    text = str(caught.value)
    assert "package tool-1.0-1.el9.noarch" in text
    assert "2. the signature of package" in text
    assert "made by another key" in text


def test_an_unsigned_package_in_a_repository_is_refused(site: Site) -> None:
    site.put_repository("tools", [Rpm(name="tool", data=tiny_rpm("tool"))])
    with pytest.raises(SignatureError, match=r"package tool-1.0-1.el9.noarch is not signed"):
        lock(site)


def test_a_package_is_checked_again_with_other_keys(site: Site) -> None:
    lock(site)
    fetch(site)
    with signer(site.root_dir, "other") as other:
        text = site.profile_file.read_text(encoding="utf-8")
        tools = text[text.index("  tools:") :]
        changed = tools.replace("main.asc", "other.asc").replace(site.key.fingerprint, other.fingerprint)
        site.profile_file.write_text(text.replace(tools, changed), encoding="utf-8")
        library, tool = site.rpm("library"), site.rpm("tool", requires=("library",))
        site.put_repository("tools", [tool, library], by=other)
        with pytest.raises(SignatureError):
            lock(site)


def test_what_is_locked_is_checked_whole_when_it_is_fetched(site: Site) -> None:
    """Headers are good and so is the checksum that the metadata gives; the payload is not what was signed."""
    tool = site.rpm("tool", requires=("library",))
    changed = bytearray(tool.content)
    changed[-3] ^= 1
    site.put_repository("tools", [dataclasses.replace(tool, data=bytes(changed)), site.rpm("library")])
    made = lock(site)
    with pytest.raises(SignatureError, match="package tool"):
        fetch(site)
    assert not Store(site.root_dir / "store").path(made.package("tool").digest).exists()


def test_a_package_that_is_gone(site: Site) -> None:
    lock(site)
    del site.upstream.content["/tools/Packages/tool-1.0-1.el9.noarch.rpm"]
    with pytest.raises(NotFoundError, match="package tool"):
        fetch(site)


def test_a_truncated_package(site: Site) -> None:
    lock(site)
    path = "/tools/Packages/tool-1.0-1.el9.noarch.rpm"
    site.upstream.put(path, site.upstream.content[path][:-20])
    with pytest.raises(IntegrityError, match="package tool"):
        fetch(site)


def test_a_wanted_package_that_is_not_there(site: Site) -> None:
    file = site.root_dir / "versions.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("1.0", "2.0"), encoding="utf-8")
    with pytest.raises(SolverError) as caught:
        lock(site)
    assert "tool 2.0 is not in repository 'tools'; it has 1.0-1.el9" in caught.value.details


def test_a_changed_key_file(site: Site) -> None:
    lock(site)
    with signer(site.root_dir, "foreign") as foreign:
        shutil.copy(foreign.key_file, site.key.key_file)
        with pytest.raises(KeyFileError, match="does not hold the pinned key"):
            fetch(site)


def test_no_network_is_said_at_once(site: Site) -> None:
    text = site.profile_file.read_text(encoding="utf-8")
    site.profile_file.write_text(text.replace(f":{site.upstream.port}/", ":9/"), encoding="utf-8")
    with pytest.raises(NetworkError, match=r"cannot reach 127\.0\.0\.1:9"):
        lock(site)


def test_a_fetch_without_network_names_what_is_missing(site: Site) -> None:
    lock(site)
    text = site.profile_file.read_text(encoding="utf-8")
    site.profile_file.write_text(text.replace(f":{site.upstream.port}/", ":9/"), encoding="utf-8")
    with pytest.raises(NetworkError):
        fetch(site)


def test_a_lock_older_than_the_inventory(site: Site) -> None:
    lock(site)
    file = site.root_dir / "packages.yaml"
    text = file.read_text(encoding="utf-8")
    more = "packages: [{name: unused, repository: tools, purpose: x}, "
    file.write_text(text.replace("packages: [", more), encoding="utf-8")
    with pytest.raises(LockError, match="older than the inventory"):
        fetch(site)


def test_a_lock_that_is_not_there(site: Site) -> None:
    with pytest.raises(LockError, match="there is no lock"):
        fetch(site)


def test_two_fetches_at_once(site: Site) -> None:
    lock(site)
    with Store(site.root_dir / "store").exclusive(), pytest.raises(StoreError, match="another build"):
        fetch(site)


def test_a_failure_leaves_the_lock_as_it_was(site: Site) -> None:
    lock(site)
    before = site.lock_file.read_bytes()
    del site.upstream.content["/raw/net.yaml"]
    with pytest.raises(BuildError, match="manifest 'net'"):
        lock(site)
    assert site.lock_file.read_bytes() == before


def test_a_page_in_place_of_a_manifest_is_not_locked(site: Site) -> None:
    site.upstream.put("/raw/net.yaml", b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")
    with pytest.raises(
        IntegrityError, match="manifest 'net': upstream gives something that is no Kubernetes"
    ):
        lock(site)
    assert not site.lock_file.exists()
