# SPDX-License-Identifier: Apache-2.0
"""The door to the network: retries, resumption, and errors that name the host."""

from __future__ import annotations

import email.utils
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build.base.errors import CredentialsError, IntegrityError, NetworkError, NotFoundError, SignatureError
from build.inventory.model import Digest
from build.store.objects import Partial, Store
from build.upstream.answers import LONGEST_WAIT_S, parse_retry_after
from build.upstream.http import CHUNK_BYTES, FIRST_CONTACT_TRIES, HttpClient, first_mirror
from build.upstream.session import NO_LOGIN, FixedLogin, Session
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


def test_a_wait_is_said_once(
    http: HttpClient, upstream: FakeUpstream, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """By date too; the client has no clock of its own, so both tries are within the time that was said."""
    then = email.utils.formatdate(time.time() + 90, usegmt=True)
    upstream.troubles["/big"] = [Trouble(status=429, headers={"Retry-After": then})] * 2
    http.request("GET", f"{upstream.url}/big")
    assert all(80 < seconds <= 91 for seconds in pauses)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(
        rf"127.0.0.1:{upstream.port} answers 429 .*: waiting 1 min \d+ s, until \S+ \S+ UTC", said
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_too_long_is_not_waited_for(
    http: HttpClient, upstream: FakeUpstream, pauses: list[float], status: int
) -> None:
    upstream.troubles["/big"] = [Trouble(status=status, headers={"Retry-After": "21600"})]
    with pytest.raises(NetworkError) as caught:
        http.request("GET", f"{upstream.url}/big", what="a thing")
    assert not pauses
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", caught.value.resolution)
    assert ("log in (" in caught.value.resolution) is (status == 429)


def test_a_limit_for_ever_ends_with_the_right_advice(
    http: HttpClient, upstream: FakeUpstream, pauses: list[float]
) -> None:
    upstream.troubles["/big"] = [Trouble(status=429, headers={"Retry-After": "200"})] * 20
    with pytest.raises(NetworkError) as caught:
        http.request("GET", f"{upstream.url}/big")
    assert sum(pauses) <= LONGEST_WAIT_S
    assert "has a limit, and we are over it" in caught.value.message
    assert "log in (podman login" in caught.value.resolution


def test_giving_up_ends_a_wait(upstream: FakeUpstream) -> None:
    """What the pause raises is what the caller sees: a fetch that stops does not wait for a limit."""

    class StoppedError(Exception):
        pass

    def stop(_seconds: float) -> None:
        raise StoppedError

    upstream.troubles["/big"] = [Trouble(status=429, headers={"Retry-After": "60"})]
    with pytest.raises(StoppedError):
        HttpClient(pause=stop).request("GET", f"{upstream.url}/big")


def test_a_run_that_ends_early_waits_no_more(upstream: FakeUpstream) -> None:
    upstream.troubles["/big"] = [Trouble(status=429, headers={"Retry-After": "60"})]
    http = HttpClient()
    ending = threading.Timer(0.2, http.stop)
    ending.start()
    began = time.monotonic()
    with pytest.raises(NetworkError, match="was ended"):
        http.request("GET", f"{upstream.url}/big")
    ending.join()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["x-amz-request-id", "X-Amz-Cf-Id", "x-guploader-uploadid"])
def test_a_store_says_403_for_what_it_lacks(http: HttpClient, upstream: FakeUpstream, name: str) -> None:
    upstream.troubles["/big"] = [Trouble(status=403, headers={name: "x"})]
    with pytest.raises(NotFoundError) as caught:
        http.request("GET", f"{upstream.url}/big", what="a thing")
    assert "log in" not in caught.value.resolution


def test_a_store_behind_a_proxy_says_it_in_its_body(http: HttpClient, upstream: FakeUpstream) -> None:
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    upstream.troubles["/big"] = [Trouble(status=403, body=body)]
    with pytest.raises(NotFoundError):
        http.request("GET", f"{upstream.url}/big", what="a thing")


def test_a_resolver_s_hiccup(
    upstream: FakeUpstream, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = socket.getaddrinfo, [OSError(-3, "Temporary failure in name resolution")]

    def once(*args: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args, **named)

    monkeypatch.setattr("build.upstream.http.socket.getaddrinfo", once)
    assert http.request("GET", f"{upstream.url}/big").body == DATA


def test_a_host_that_is_not_there_is_not_asked_for_each_thing(http: HttpClient, pauses: list[float]) -> None:
    for _ in range(3):
        with pytest.raises(NetworkError, match=r"cannot reach 127\.0\.0\.1:9"):
            http.request("GET", "http://127.0.0.1:9/x")
    assert len(pauses) == FIRST_CONTACT_TRIES - 1


def test_a_login_in_an_address_is_not_shown(http: HttpClient, upstream: FakeUpstream) -> None:
    address = upstream.url.replace("://", "://me:s3cret@")
    for path in ("/none?X-Signature=s3cret", "/fails?token=s3cret"):
        upstream.troubles["/fails"] = [Trouble(status=500)] * 9
        with pytest.raises(NetworkError) as caught:
            http.request("GET", f"{address}{path}")
        assert "s3cret" not in caught.value.render()


def test_mirrors_are_named_without_their_logins(http: HttpClient, upstream: FakeUpstream) -> None:
    address = upstream.url.replace("://", "://me:s3cret@")
    with pytest.raises(NetworkError) as caught:
        first_mirror([f"{address}/one", f"{address}/two"], lambda url: http.request("GET", url))
    assert "s3cret" not in caught.value.render()


def test_a_redirect_gets_no_login_of_netrc_s_default(
    http: HttpClient, upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores refuse a signed address that comes with a login. An entry of the host's own name is meant."""
    netrc_file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc_file))
    with serve() as store:
        store.put("/signed", b"x")
        location = {"Location": f"http://localhost:{store.port}/signed"}
        for text in ("", "machine localhost login other password word\n"):
            netrc_file.write_text(f"{text}default login me password secret\n", encoding="ascii")
            for login in (NO_LOGIN, FixedLogin("Bearer abc")):
                upstream.troubles["/big"] = [Trouble(status=307, headers=location)]
                assert http.request("GET", f"{upstream.url}/big", login=login).body == b"x"
                assert upstream.seen[-1].headers["authorization"]
                given = store.seen[-1].headers.get("authorization", "")
                assert given == ("Basic b3RoZXI6d29yZA==" if text else "")


def test_the_connect_timeout_is_the_profile_s(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    real = Session.request

    def note(self: Session, *args: Any, **named: Any) -> Any:
        seen.append(named["timeout"][0])
        return real(self, *args, **named)

    monkeypatch.setattr(Session, "request", note)
    HttpClient(connect_timeout_s=77.0).request("GET", f"{upstream.url}/big")
    assert seen == [77.0]


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


@pytest.mark.loopback
@pytest.mark.parametrize("location", ["https://[::1/", "https://h:bad/", "http://h:99999/"])
def test_a_redirect_to_what_is_no_address_is_told(
    http: HttpClient, upstream: FakeUpstream, location: str
) -> None:
    upstream.troubles["/big"] = [Trouble(status=302, headers={"Location": location}) for _ in range(9)]
    with pytest.raises(NetworkError) as caught:
        http.request("GET", f"{upstream.url}/big")
    assert caught.value.details
    assert caught.value.resolution
