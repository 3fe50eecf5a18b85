# SPDX-License-Identifier: Apache-2.0
"""Python packages from an index on loopback and from a directory: no pip is run, and no code of a package."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import CredentialsError, IntegrityError, NotFoundError
from build.inventory.model import Digest, LockedPython, PythonArtifact, WantedPython
from build.store.objects import Store
from build.upstream.http import HttpClient
from build.upstream.pythonfiles import fetch_python, lock_python
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve

WANTED = WantedPython(name="Tiny", version="1.0", purpose="is tiny")
WHEEL = "tiny-1.0-py3-none-any.whl"
SDIST = "Tiny-1.0.tar.gz"
DATA = b"a wheel, for all that we look into it"
SDIST_DATA = b"raise SystemExit('setup.py was run')"
JSON = "application/vnd.pypi.simple.v1+json"
LOCKED = LockedPython(
    name="Tiny", version="1.0", file=WHEEL, digest=Digest.of_bytes(DATA), size_bytes=len(DATA)
)

pytestmark = pytest.mark.loopback


@pytest.fixture
def http() -> HttpClient:
    return HttpClient(pause=lambda _seconds: None)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    """Run an index that the user's pip configuration names."""
    with serve() as upstream:
        put_page(upstream, digest=LOCKED.digest.hex)
        upstream.put(f"/files/{WHEEL}", DATA)
        upstream.put(f"/files/{SDIST}", SDIST_DATA)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", f"{upstream.url}/simple")
        yield upstream


def put_page(upstream: FakeUpstream, *, digest: str | None, has_size: bool = True) -> None:
    files: list[dict[str, object]] = []
    for name, data in ((WHEEL, DATA), (SDIST, SDIST_DATA)):
        hashes = {"sha256": digest if name == WHEEL else Digest.of_bytes(data).hex} if digest else {}
        files.append({"filename": name, "url": f"../../files/{name}", "hashes": hashes})
        files[-1] |= {"size": len(data)} if has_size else {}
    upstream.put("/simple/tiny/", json.dumps({"files": files}).encode(), JSON)


def test_a_wheel_is_locked_once_and_fetched(index: FakeUpstream, http: HttpClient, tmp_path: Path) -> None:
    """The page says all: the file itself is fetched by its digest."""
    assert lock_python(WANTED, tmp_path / "cache", http) == LOCKED
    assert not index.requests(f"/files/{WHEEL}")
    assert "simple.v1+json" in index.seen[0].headers["accept"]
    store = Store(tmp_path / "store")
    fetch_python(LOCKED, http, store)
    assert store.path(LOCKED.digest).read_bytes() == DATA
    asked = len(index.seen)
    assert lock_python(WANTED, tmp_path / "cache", http) == LOCKED
    assert len(index.seen) == asked


def test_an_sdist_is_a_file(index: FakeUpstream, http: HttpClient, tmp_path: Path) -> None:
    wanted = dataclasses.replace(WANTED, artifact=PythonArtifact.SDIST)
    locked = lock_python(wanted, tmp_path / "cache", http)
    assert (locked.file, locked.digest) == (SDIST, Digest.of_bytes(SDIST_DATA))
    fetch_python(locked, http, Store(tmp_path / "store"))


@pytest.mark.parametrize("digest", [None, LOCKED.digest.hex])
def test_a_page_that_says_less(
    index: FakeUpstream, http: HttpClient, tmp_path: Path, digest: str | None
) -> None:
    put_page(index, digest=digest, has_size=False)
    assert lock_python(WANTED, tmp_path / "cache", http) == LOCKED
    page = f'<a href="/files/{WHEEL}">x</a>'
    index.put("/simple/tiny/", page.encode(), "text/html; charset=UTF-8")
    assert lock_python(WANTED, tmp_path / "other", http) == LOCKED


def test_another_file_is_refused(index: FakeUpstream, http: HttpClient, tmp_path: Path) -> None:
    """By what the index says, and by what it gives; and the advice is not to lock it anew."""
    put_page(index, digest="1" * 64, has_size=False)
    with pytest.raises(IntegrityError, match="not the one that was released"):
        lock_python(WANTED, tmp_path / "cache", http)
    with pytest.raises(IntegrityError) as caught:
        fetch_python(LOCKED, http, Store(tmp_path / "store"))
    assert caught.value.resolution.startswith("what was released does not change: find out why")
    put_page(index, digest=None)
    index.put(f"/files/{WHEEL}", DATA[::-1])
    with pytest.raises(IntegrityError):
        fetch_python(LOCKED, http, Store(tmp_path / "store"))
    assert not Store(tmp_path / "store").path(LOCKED.digest).exists()


def test_a_version_that_is_not_there(index: FakeUpstream, http: HttpClient, tmp_path: Path) -> None:
    for wanted in (dataclasses.replace(WANTED, version="2.0"), dataclasses.replace(WANTED, name="none")):
        with pytest.raises(NotFoundError, match="not have"):
            lock_python(wanted, tmp_path / "cache", http)
    with pytest.raises(NotFoundError, match="does not have"):
        fetch_python(dataclasses.replace(LOCKED, file="gone.whl"), http, Store(tmp_path / "store"))


def test_the_next_index_is_asked(
    index: FakeUpstream, http: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/none/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index.url}/simple/")
    assert lock_python(WANTED, tmp_path / "cache", http) == LOCKED
    assert lock_python(WANTED, tmp_path / "other", http, (f"{index.url}/simple/",)) == LOCKED
    with pytest.raises(NotFoundError):
        lock_python(WANTED, tmp_path / "third", http, (f"{index.url}/none/",))


def test_a_login_in_the_address(
    index: FakeUpstream, http: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the index's host only, and into no error."""
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("://", "://me:s3cret@") + "/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url.replace("://", "://me:s3cret@") + "/other")
    fetch_python(LOCKED, http, Store(tmp_path / "store"))
    assert {seen.headers["authorization"] for seen in index.seen} == {"Basic bWU6czNjcmV0"}
    index.troubles["/simple/tiny/"] = [Trouble(status=401)]
    index.troubles["/other/tiny/"] = [Trouble(status=401)]
    with pytest.raises(CredentialsError) as caught:
        lock_python(WANTED, tmp_path / "cache", http)
    assert "s3cret" not in caught.value.render()


def test_a_page_cannot_name_a_file_of_this_machine(
    index: FakeUpstream, http: HttpClient, tmp_path: Path
) -> None:
    (tmp_path / WHEEL).write_bytes(DATA)
    page = f'<a href="{(tmp_path / WHEEL).as_uri()}">x</a>'
    index.put("/simple/tiny/", page.encode(), "text/html")
    with pytest.raises(NotFoundError):
        lock_python(WANTED, tmp_path / "cache", http)


def test_a_directory_of_files(http: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip's find-links with no-index: a site that carries packages by hand."""
    links_dir = tmp_path / "my links"
    links_dir.mkdir()
    (links_dir / WHEEL).write_bytes(DATA)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", links_dir.as_uri())
    assert lock_python(WANTED, tmp_path / "cache", http) == LOCKED
    store = Store(tmp_path / "store")
    fetch_python(LOCKED, http, store)
    assert store.has(LOCKED.digest, LOCKED.size_bytes)
    (links_dir / WHEEL).write_bytes(DATA[::-1])
    with pytest.raises(IntegrityError):
        fetch_python(LOCKED, http, Store(tmp_path / "other"))
