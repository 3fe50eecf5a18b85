# SPDX-License-Identifier: Apache-2.0
"""Keys are pinned by their fingerprints, whatever their files become. Starts gpg, rpmkeys, loopback servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import KeyFileError, LockError
from build.fetch.transfer import run_fetch
from build.inventory.model import Lock
from build.lock.keys import run_lock_keys, with_key_files
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from build.project import Project
from build.store.objects import Store
from tests.unit.build.fakesite import Site, fake_site
from tests.unit.build.signers import Signer, signer

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]


@pytest.fixture
def key(tmp_path: Path) -> Iterator[Signer]:
    with signer(tmp_path, "main") as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, key: Signer) -> Iterator[Site]:
    with fake_site(tmp_path / "site", key) as made:
        (made.root_dir / "versions.yaml").write_text("format: 1\nversions: {tool: '1.0', caisson: '1.2.3'}\n")
        run_lock(made.profile_file, None, made.root_dir / "cache", sources=made.sources)
        yield made


def prolong(site: Site) -> bytes:
    """Give the key another end, as upstream does, and replace its file; return what it holds now."""
    site.key.gpg("--quick-set-expire", site.key.fingerprint, "5y")
    site.key.export()
    return site.key.key_file.read_bytes()


def current(site: Site) -> Lock:
    return with_key_files(read_lock(site.lock_file), site.sources.profile(site.profile_file))


def test_a_replaced_file_of_the_same_key_needs_no_new_lock(site: Site) -> None:
    """And it is the new one that the bundle gets, also where the store has the old one."""
    before = site.lock_file.read_text()
    store_dir = site.root_dir / "store"
    run_fetch(site.profile_file, None, store_dir, sources=site.sources)
    data = prolong(site)
    run_fetch(site.profile_file, None, store_dir, sources=site.sources)
    assert site.lock_file.read_text() == before
    assert {Store(store_dir).path(item.digest).read_bytes() for item in current(site).keys} == {data}


def test_the_keys_alone_are_taken_into_the_lock(site: Site) -> None:
    """No other line changes, and nobody is asked."""
    before = site.lock_file.read_text().splitlines()
    prolong(site)
    asked = len(site.upstream.seen)
    run_lock_keys(site.profile_file, site.lock_file, site.sources)
    after = site.lock_file.read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed
    assert {line.strip().split(":")[0] for line in changed} <= {"sha256", "size_bytes"}
    assert read_lock(site.lock_file) == current(site)
    assert len(site.upstream.seen) == asked


def test_a_bundle_with_a_prolonged_key_has_a_name_of_its_own(site: Site) -> None:
    """It is the one that the lock gives it when the keys are taken in."""

    def name() -> str:
        return Project(site.root_dir, str(site.profile_file)).product.bundle_name

    before = name()
    prolong(site)
    prolonged = name()
    assert prolonged != before
    run_lock_keys(site.profile_file, site.lock_file, site.sources)
    assert name() == prolonged


def test_a_lock_with_the_key_files_of_today_is_left_alone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.lock_file.stat()
    run_lock_keys(site.profile_file, site.lock_file, site.sources)
    assert site.lock_file.stat() == before
    assert "unchanged" in capsys.readouterr().err


def test_another_key_needs_a_whole_lock(site: Site) -> None:
    """Whether the packages are signed by it is not known before."""
    with signer(site.root_dir, "other") as other:
        text = site.profile_file.read_text(encoding="utf-8").replace(site.key.fingerprint, other.fingerprint)
        site.profile_file.write_text(text.replace("main.asc", "other.asc"), encoding="utf-8")
        with pytest.raises(LockError, match="pins other keys than") as caught:
            run_lock_keys(site.profile_file, site.lock_file, site.sources)
    assert other.fingerprint in caught.value.details
    assert site.key.fingerprint in caught.value.details


def test_a_file_with_another_key_is_refused(site: Site) -> None:
    with signer(site.root_dir, "foreign") as foreign:
        site.key.key_file.write_bytes(foreign.key_file.read_bytes())
        with pytest.raises(KeyFileError, match="does not hold the pinned key"):
            run_lock_keys(site.profile_file, site.lock_file, site.sources)


def test_a_missing_file_is_told(site: Site) -> None:
    site.key.key_file.unlink()
    with pytest.raises(KeyFileError, match="cannot be read"):
        current(site)
