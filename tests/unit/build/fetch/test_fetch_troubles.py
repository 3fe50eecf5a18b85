# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while fetching: kills, mirrors, proxies, full and read-only disks, no network at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build.base.errors import CredentialsError, IntegrityError, NetworkError, NotFoundError, StoreError
from build.fetch.transfer import check_route, read_work, run_fetch
from build.inventory.model import Digest, Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from build.store.objects import Store
from build.upstream.http import HttpClient
from tests.unit.build.fakerepo import Rpm
from tests.unit.build.fakesite import Site, fake_site
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve
from tests.unit.build.signers import signer

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a file system is mounted: needs root")
TOOL = "/tools/Packages/tool-1.0-1.el9.noarch.rpm"
MEBIBYTE = 1 << 20


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as made:
        yield made


def lock(site: Site) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)
    return read_lock(site.lock_file)


def fetch(site: Site, store_dir: Path | None = None) -> Store:
    store_dir = store_dir or site.root_dir / "store"
    run_fetch(site.profile_file, None, store_dir, sources=site.sources)
    return Store(store_dir)


def change_profile(site: Site, old: str, new: str) -> None:
    text = site.profile_file.read_text(encoding="utf-8")
    assert old in text
    site.profile_file.write_text(text.replace(old, new), encoding="utf-8")


# ---------------------------------------------------------------- kill -9

DOWNLOAD = """
import sys
from pathlib import Path
from build.upstream.http import HttpClient
from build.inventory.model import Digest
from build.store.objects import Store

url, digest, size_bytes, store_dir = sys.argv[1:]
HttpClient().download(
    url, digest=Digest(digest), size_bytes=int(size_bytes), store=Store(Path(store_dir)), what="the thing"
)
"""


@pytest.mark.parametrize("killed_after", [100_000, 3 * MEBIBYTE])
def test_a_kill_loses_at_most_a_mebibyte(
    upstream: FakeUpstream, tmp_path: Path, repository_dir: Path, killed_after: int
) -> None:
    """SIGKILL in the middle of a slow download: what had come is on disk, and the next run goes on there."""
    data = os.urandom(8 * MEBIBYTE)
    digest = Digest.of_bytes(data)
    upstream.put("/big", data)
    upstream.bytes_per_s = 4 * MEBIBYTE
    store = Store(tmp_path / "store")
    partial = store.root / "partial" / digest.hex
    arguments = [f"{upstream.url}/big", digest.hex, str(len(data)), str(store.root)]
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, *arguments], cwd=repository_dir)
    try:
        deadline = time.monotonic() + 20
        while not partial.exists() or partial.stat().st_size < killed_after:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        sent = upstream.sent_bytes
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    kept = partial.stat().st_size
    assert sent - kept <= MEBIBYTE
    assert data.startswith(partial.read_bytes())
    upstream.bytes_per_s = None
    HttpClient().download(
        f"{upstream.url}/big", digest=digest, size_bytes=len(data), store=store, what="the thing"
    )
    assert upstream.requests("/big")[-1].headers["range"] == f"bytes={kept}-"
    assert Digest.of_file(store.path(digest)) == digest


# ---------------------------------------------------------------- mirrors, proxy, netrc


def test_mirrors_are_asked_in_turn(site: Site) -> None:
    """The first is not there, the second has no packages, the third has all."""
    url = site.upstream.url
    for path in [path for path in site.upstream.content if path.startswith("/tools/repodata")]:
        site.upstream.put(path.replace("/tools/", "/half/"), site.upstream.content[path])
    mirrors = f'["http://127.0.0.1:9/", "{url}/half/", "{url}/tools/"]'
    change_profile(site, f'"{url}/tools/"', mirrors)
    made = lock(site)
    store = fetch(site)
    assert store.has(made.package("tool").digest, made.package("tool").size_bytes)
    assert site.upstream.requests(TOOL.replace("/tools/", "/half/"))
    assert site.upstream.requests(TOOL)


def test_a_mirror_with_other_bytes_is_passed_over(site: Site) -> None:
    made = lock(site)
    url = site.upstream.url
    site.upstream.put(TOOL.replace("/tools/", "/bad/"), b"X" * made.package("tool").size_bytes)
    change_profile(site, f'"{url}/tools/"', f'["{url}/bad/", "{url}/tools/"]')
    assert fetch(site).has(made.package("tool").digest, made.package("tool").size_bytes)


def test_when_no_mirror_helps_all_are_named(site: Site) -> None:
    lock(site)
    url = site.upstream.url
    change_profile(site, f'"{url}/tools/"', f'["{url}/one/", "{url}/two/"]')
    with pytest.raises(NotFoundError) as caught:
        fetch(site)
    assert caught.value.message.startswith("none of 2 mirrors helps: upstream does not have package")
    assert "/one/Packages/" in caught.value.details
    assert "/two/Packages/" in caught.value.details


def test_mirrors_of_a_registry_are_asked_in_turn(site: Site) -> None:
    """The first is not there; the second has tags and manifests, and no blobs; the third has all."""
    upstream = site.upstream
    for path in list(upstream.content):
        if path.startswith("/v2/k8s/") and "/manifests/" in path:
            half = path.replace("/k8s/", "/half/")
            upstream.put(half, upstream.content[path], upstream.types[path])
            upstream.extra_headers[half] = upstream.extra_headers[path]
    change_profile(
        site, f'"{upstream.url}/k8s"', f'["http://127.0.0.1:9", "{upstream.url}/half", "{upstream.url}/k8s"]'
    )
    made = lock(site)
    store = fetch(site)
    pause = made.image("pause")
    for blob in (pause.config, *pause.layers):
        assert store.has(blob.digest, blob.size_bytes)
    layer = f"pause/blobs/{pause.layers[0].digest}"
    manifest = f"pause/manifests/{pause.digest}"
    asked = [bool(upstream.requests(f"/v2/{place}")) for place in (f"half/{layer}", f"k8s/{layer}")]
    assert asked == [True, True]
    asked = [bool(upstream.requests(f"/v2/{place}")) for place in (f"half/{manifest}", f"k8s/{manifest}")]
    assert asked == [True, False]


def test_a_registry_s_mirror_with_other_bytes_is_passed_over(site: Site) -> None:
    layer = lock(site).image("pause").layers[0]
    url = site.upstream.url
    bad = f"/v2/bad/pause/blobs/{layer.digest}"
    site.upstream.put(bad, b"X" * layer.size_bytes)
    change_profile(site, f'"{url}/k8s"', f'["{url}/bad", "{url}/k8s"]')
    assert fetch(site).has(layer.digest, layer.size_bytes)
    assert site.upstream.requests(bad)


def test_when_no_mirror_of_a_registry_helps_all_are_named(site: Site) -> None:
    lock(site)
    url = site.upstream.url
    change_profile(site, f'"{url}/k8s"', f'["{url}/one", "{url}/two"]')
    with pytest.raises(NotFoundError) as caught:
        fetch(site)
    assert caught.value.message.startswith("none of 2 mirrors helps: upstream does not have image ")
    assert "/one/" in caught.value.details
    assert "/two/" in caught.value.details


def test_a_way_to_one_mirror_is_enough(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(site)
    url = site.upstream.url
    change_profile(site, f'"{url}/k8s"', f'["http://192.0.2.1:5000", "{url}/k8s"]')
    work = read_work(site.profile_file, None, site.root_dir / "store", site.sources)
    monkeypatch.setattr("build.fetch.transfer.has_route", lambda asked: asked.startswith(url))
    check_route(work)
    monkeypatch.setattr("build.fetch.transfer.has_route", lambda asked: asked.startswith(f"{url}/"))
    with pytest.raises(NetworkError, match="there is no network to fetch it") as caught:
        check_route(work)
    assert f"from http://192.0.2.1:5000 or {url}\n" in caught.value.details


def test_a_proxy_is_used(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a proxy the name need not resolve here: it is the proxy's business."""
    upstream.put("/thing", b"through the proxy")
    monkeypatch.setenv("http_proxy", upstream.url)
    monkeypatch.delenv("no_proxy", raising=False)
    answer = HttpClient().request("GET", "http://mirror.invalid/thing")
    assert answer.body == b"through the proxy"
    assert upstream.requests("/thing")[0].headers["host"] == "mirror.invalid"


def test_netrc_is_used(upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc_file = tmp_path / "netrc"
    netrc_file.write_text("machine 127.0.0.1 login me password secret\n", encoding="ascii")
    netrc_file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc_file))
    upstream.put("/thing", b"x")
    HttpClient().request("GET", f"{upstream.url}/thing")
    assert upstream.requests("/thing")[0].headers["authorization"] == "Basic bWU6c2VjcmV0"


def test_a_name_that_does_not_resolve_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("build.upstream.http.socket.getaddrinfo", fail)
    with pytest.raises(NetworkError) as caught:
        HttpClient().request("GET", "https://repo.example.com/x", what="the thing")
    assert caught.value.message == "cannot reach repo.example.com"
    assert "Temporary failure in name resolution for the thing" in caught.value.details


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("build.upstream.http.socket.getaddrinfo", lambda *_args, **_named: time.sleep(0.5))
    monkeypatch.setattr("build.upstream.http.RESOLVE_TIMEOUT_S", 0.1)
    with pytest.raises(NetworkError, match=r"cannot reach repo\.example\.com"):
        HttpClient().request("GET", "https://repo.example.com/x")


# ---------------------------------------------------------------- no network


NO_NETWORK = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from build.base.errors import BuildError
    from build.fetch.transfer import run_fetch
    from build.inventory.sources import Sources

    root = Path(sys.argv[1])
    try:
        run_fetch(root / "profile.yaml", None, root / "store", sources=Sources(root))
    except BuildError as error:
        print(error.render())
        sys.exit(error.exit_code)
    """
)


@needs_root
def test_without_network_a_warm_store_is_enough_and_a_cold_one_is_named(
    site: Site, repository_dir: Path
) -> None:
    """In an empty network namespace, where even loopback is down."""
    made = lock(site)
    command = ["unshare", "--net", sys.executable, "-c", NO_NETWORK, str(site.root_dir)]
    began = time.monotonic()
    cold = subprocess.run(command, cwd=repository_dir, capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 5
    assert cold.returncode == NetworkError.exit_code
    assert "is missing, and there is no network to fetch it" in cold.stdout
    assert str(made.keys[0].digest) not in cold.stdout  # keys are here already
    assert "sha256:" in cold.stdout
    assert not (site.root_dir / "store").exists()
    fetch(site)
    warm = subprocess.run(command, cwd=repository_dir, capture_output=True, text=True, check=False)
    assert (warm.returncode, warm.stdout) == (0, "")


def test_a_fetch_that_has_no_room_is_not_begun(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(site)
    monkeypatch.setattr("build.base.space.free_bytes", lambda _: 100)
    with pytest.raises(
        StoreError, match=r"not enough space for what is to be fetched \(\d+ objects\)"
    ) as caught:
        fetch(site)
    assert "free 100 B, in " in caught.value.details
    assert "./doit.sh gc" in caught.value.resolution
    assert not list(Store(site.root_dir / "store").root.glob("sha256/*/*"))


# ---------------------------------------------------------------- the clock

LATER = """
import os, sys, time
from pathlib import Path
from build.base import run
from build.fetch.transfer import run_fetch
from build.upstream.openpgp import key_warnings, read_keys
from build.inventory.sources import Sources

run.PASSED_NAMES |= {name for name in os.environ if name.startswith(("LD_PRELOAD", "FAKETIME"))}
root = Path(sys.argv[1])
sources = Sources(root)
run_fetch(root / "profile.yaml", None, root / "store", sources=sources)
keys = read_keys(sources.profile(root / "profile.yaml").repositories["tools"])
print(key_warnings(keys, time.time())[0])
"""


def test_a_lock_is_not_worse_for_being_old(
    tmp_path: Path, repository_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two years later, when every key has ended, gpg, gpgv and rpm included: what was locked is fetched."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no-auth.json"))
    with signer(tmp_path, "short", expire="1y") as key, fake_site(tmp_path / "site", key) as site:
        lock(site)
        command = ["faketime", "+2 years", sys.executable, "-c", LATER, str(site.root_dir)]
        done = subprocess.run(command, cwd=repository_dir, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the key of repository 'tools' has ended (")


# ---------------------------------------------------------------- the disk


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """Mount a small file system for the length of a block."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@needs_root
def test_a_full_disk_keeps_what_it_has(upstream: FakeUpstream, tmp_path: Path) -> None:
    """On a file system of 1 MiB; with more room the download goes on where it stopped."""
    data = os.urandom(2 * MEBIBYTE)
    digest = Digest.of_bytes(data)
    upstream.put("/big", data)

    def download(root: Path) -> None:
        HttpClient().download(
            f"{upstream.url}/big", digest=digest, size_bytes=len(data), store=Store(root), what="the thing"
        )

    with mounted(tmp_path / "small", "size=1m") as small:
        with pytest.raises(StoreError) as caught:
            download(small)
        assert caught.value.message == "no space left for the store"
        assert "CAISSON_CACHE" in caught.value.resolution
        kept = (small / "partial" / digest.hex).stat().st_size
        assert 0 < kept <= MEBIBYTE
        assert not (small / "sha256").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        download(small)
        assert upstream.requests("/big")[-1].headers["range"] == f"bytes={kept}-"
        assert Digest.of_file(Store(small).path(digest)) == digest


@needs_root
def test_a_read_only_store_is_used_but_not_written(site: Site, tmp_path: Path) -> None:
    made = lock(site)
    with mounted(tmp_path / "disk", "size=16m") as disk:
        fetch(site, disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        fetch(site, disk / "store")
        assert Store(disk / "store").has(made.package("tool").digest, made.package("tool").size_bytes)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        Store(disk / "store").path(made.package("tool").digest).unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="the store cannot be written"):
            fetch(site, disk / "store")


# ---------------------------------------------------------------- bad answers leave store and lock unharmed


@pytest.mark.parametrize(
    ("troubles", "kind"),
    [
        ([Trouble(status=404)], NotFoundError),
        ([Trouble(status=401)], CredentialsError),
        ([Trouble(status=403)], CredentialsError),
        ([Trouble(status=429, headers={"Retry-After": "0"})] * 9, NetworkError),
        ([Trouble(status=500, headers={"Retry-After": "0"})] * 9, NetworkError),
        ([Trouble(status=500, headers={"Retry-After": "0"})], None),
        ([Trouble(status=429, headers={"Retry-After": "0"})] * 3, None),
        ([Trouble(cut_after=100)], None),
    ],
)
def test_answers(site: Site, troubles: list[Trouble], kind: type[Exception] | None) -> None:
    made = lock(site)
    text = site.lock_file.read_bytes()
    site.upstream.troubles[TOOL] = list(troubles)
    if kind is None:
        assert fetch(site).has(made.package("tool").digest, made.package("tool").size_bytes)
    else:
        with pytest.raises(kind) as caught:
            fetch(site)
        assert type(caught.value) is kind
        assert "tool" in str(caught.value)
        assert not Store(site.root_dir / "store").path(made.package("tool").digest).exists()
        site.upstream.troubles.clear()
        fetch(site)
    assert site.lock_file.read_bytes() == text


def test_a_package_whose_header_names_another(site: Site) -> None:
    """The metadata calls it tool; signature and checksum are good."""
    library = site.rpm("library")
    site.put_repository("tools", [Rpm(name="tool", data=library.content), library])
    with pytest.raises(IntegrityError) as caught:
        lock(site)
    assert caught.value.message == (
        "package tool-1.0-1.el9.noarch says in its header that it is library-1.0-1.el9.noarch"
    )
    assert not site.lock_file.exists()


@pytest.mark.parametrize(("size_bytes", "words"), [(50, "is cut off"), (700, "is cut off")])
def test_a_package_that_is_cut_off(site: Site, size_bytes: int, words: str) -> None:
    """The metadata names the cut file."""
    tool = site.rpm("tool")
    site.put_repository("tools", [Rpm(name="tool", data=tool.content[:size_bytes])])
    with pytest.raises(IntegrityError, match=f"package tool-1.0-1.el9.noarch {words}"):
        lock(site)
