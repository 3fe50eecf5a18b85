# SPDX-License-Identifier: Apache-2.0
"""The door to the network: retries, resumption, and errors that name the host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import CredentialsError, IntegrityError, NetworkError, NotFoundError, SignatureError
from build.inventory.model import Digest
from build.store.objects import Partial, Store
from build.upstream.answers import parse_retry_after
from build.upstream.http import CHUNK_BYTES, FIRST_CONTACT_TRIES, HttpClient
from build.upstream.session import FixedLogin
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve

pytestmark = pytest.mark.loopback

DATA = bytes(range(256)) * 4096
DIGEST = Digest.of_bytes(DATA)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as running:
        running.put("/big", DATA)
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def http(pauses: list[float]) -> HttpClient:
    return HttpClient(pause=pauses.append)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def download(http: HttpClient, url: str, store: Store, counted: list[int] | None = None) -> None:
    counts = counted if counted is not None else []
    http.download(
        url, digest=DIGEST, size_bytes=len(DATA), store=store, what="a thing", on_bytes=counts.append
    )


def test_content_comes_with_its_headers(http: HttpClient, upstream: FakeUpstream) -> None:
    response = http.request("GET", f"{upstream.url}/big")
    assert response.body == DATA
    assert response.headers["content-type"] == "application/octet-stream"


def test_a_server_that_fails_is_asked_again(
    http: HttpClient, upstream: FakeUpstream, pauses: list[float]
) -> None:
    upstream.troubles["/big"] = [Trouble(status=500), Trouble(status=503)]
    assert http.request("GET", f"{upstream.url}/big").body == DATA
    assert len(pauses) == 2
    assert pauses[1] > pauses[0]


def test_retry_after_is_kept_to(http: HttpClient, upstream: FakeUpstream, pauses: list[float]) -> None:
    upstream.troubles["/big"] = [Trouble(status=429, headers={"Retry-After": "7"})]
    http.request("GET", f"{upstream.url}/big")
    assert pauses == [7.0]


def test_a_server_that_goes_on_failing_is_an_error(http: HttpClient, upstream: FakeUpstream) -> None:
    upstream.troubles["/big"] = [Trouble(status=502)] * 20
    with pytest.raises(NetworkError) as caught:
        http.request("GET", f"{upstream.url}/big", what="a thing")
    assert f"127.0.0.1:{upstream.port} fails" in caught.value.message
    assert "a thing" in caught.value.details


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (401, CredentialsError), (403, CredentialsError)]
)
def test_refusals_have_their_class_and_are_not_tried_again(
    http: HttpClient, upstream: FakeUpstream, status: int, kind: type[NetworkError]
) -> None:
    upstream.troubles["/big"] = [Trouble(status=status)]
    with pytest.raises(kind) as caught:
        http.request("GET", f"{upstream.url}/big", what="a thing")
    assert type(caught.value) is kind
    assert "a thing" in caught.value.message
    assert len(upstream.seen) == 1


def test_a_host_that_is_not_there_is_named_soon(http: HttpClient, pauses: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError) as caught:
            http.request("GET", f"http://127.0.0.1:{port}/x")
    assert caught.value.message == f"cannot reach 127.0.0.1:{port}"
    assert "refused" in caught.value.details
    assert len(pauses) == FIRST_CONTACT_TRIES - 1


def test_a_download_enters_the_store(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    counted: list[int] = []
    download(http, f"{upstream.url}/big", store, counted)
    assert store.path(DIGEST).read_bytes() == DATA
    assert sum(counted) == len(DATA)


def test_a_cut_connection_goes_on_in_the_middle(
    http: HttpClient, upstream: FakeUpstream, store: Store
) -> None:
    upstream.troubles["/big"] = [Trouble(cut_after=300_000), Trouble(cut_after=200_000)]
    counted: list[int] = []
    download(http, f"{upstream.url}/big", store, counted)
    assert store.has(DIGEST, len(DATA))
    first, second, third = (seen.headers.get("range", "bytes=0-") for seen in upstream.seen)
    starts = [int(header.removeprefix("bytes=").rstrip("-")) for header in (first, second, third)]
    assert starts[0] == 0
    assert 300_000 - CHUNK_BYTES < starts[1] <= 300_000
    assert starts[1] + 200_000 - CHUNK_BYTES < starts[2] <= starts[1] + 200_000
    assert sum(counted) == len(DATA)


def test_progress_gives_new_tries(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    upstream.troubles["/big"] = [Trouble(cut_after=50_000)] * 15
    download(http, f"{upstream.url}/big", store)
    assert len(upstream.seen) == 16


def test_what_an_earlier_run_left_is_used(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    with store.open_partial(DIGEST) as partial:
        partial.write(DATA[:123_456])
    download(http, f"{upstream.url}/big", store)
    assert upstream.seen[0].headers["range"] == "bytes=123456-"


def test_a_server_without_ranges_is_asked_for_all(
    http: HttpClient, upstream: FakeUpstream, store: Store
) -> None:
    upstream.has_ranges = False
    with store.open_partial(DIGEST) as partial:
        partial.write(DATA[:1000])
    download(http, f"{upstream.url}/big", store)
    assert store.has(DIGEST, len(DATA))


def test_a_bad_partial_file_is_fetched_anew(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    with store.open_partial(DIGEST) as partial:
        partial.write(b"X" * 1000)
    download(http, f"{upstream.url}/big", store)
    assert store.has(DIGEST, len(DATA))
    assert [seen.headers.get("range") for seen in upstream.seen] == ["bytes=1000-", None]


def test_other_bytes_are_refused(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    upstream.put("/big", DATA[:-1] + b"X")
    with pytest.raises(IntegrityError) as caught:
        download(http, f"{upstream.url}/big", store)
    assert "a thing" in caught.value.message
    assert str(DIGEST) in caught.value.details
    assert not store.path(DIGEST).exists()


def test_more_bytes_than_locked_are_refused(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    upstream.put("/big", DATA + b"more")
    with pytest.raises(IntegrityError, match="another number of bytes"):
        download(http, f"{upstream.url}/big", store)
    assert not store.path(DIGEST).exists()


def test_fewer_bytes_than_locked_are_refused(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    upstream.put("/big", DATA[:-10])
    with pytest.raises(IntegrityError, match="another number of bytes"):
        download(http, f"{upstream.url}/big", store)
    assert len(upstream.seen) == 1
    assert not store.path(DIGEST).exists()


def test_a_check_keeps_a_file_out(http: HttpClient, upstream: FakeUpstream, store: Store) -> None:
    def check(partial: Partial) -> None:
        assert partial.is_good
        raise SignatureError("not signed")

    with pytest.raises(SignatureError):
        http.download(
            f"{upstream.url}/big",
            digest=DIGEST,
            size_bytes=len(DATA),
            store=store,
            what="a thing",
            check=check,
        )
    assert not store.path(DIGEST).exists()


def test_content_encoding_does_not_change_bytes(
    http: HttpClient, upstream: FakeUpstream, store: Store
) -> None:
    upstream.extra_headers["/big"] = {"Content-Encoding": "gzip"}
    download(http, f"{upstream.url}/big", store)
    assert store.has(DIGEST, len(DATA))


def test_netrc_does_not_replace_a_token(
    http: HttpClient, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n", encoding="ascii")
    monkeypatch.setenv("NETRC", str(netrc))
    http.request("GET", f"{upstream.url}/big", login=FixedLogin("Bearer abc"))
    http.request("GET", f"{upstream.url}/big")
    assert upstream.seen[0].headers["authorization"] == "Bearer abc"
    assert upstream.seen[1].headers["authorization"].startswith("Basic ")


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None
