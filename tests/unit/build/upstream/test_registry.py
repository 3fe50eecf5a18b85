# SPDX-License-Identifier: Apache-2.0
"""Registries: tags, manifests, tokens, and answers that other clients get along with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import CredentialsError, IntegrityError, NetworkError, NotFoundError
from build.inventory.model import Digest, Endpoint, Reference, Registry
from build.store.objects import Store
from build.upstream.http import HttpClient
from build.upstream.registry import (
    LARGEST_MANIFEST_BYTES,
    EndpointClient,
    RegistryClient,
    Resolved,
    _parse_token,
)
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve

PAUSE = Reference.parse("registry.k8s.io/pause:3.10")
DIGEST = Digest("a" * 64)
CREDENTIALS = base64.b64encode(b"me:secret").decode()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def auth_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the logins of who runs the tests out of them."""
    file = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    return file


def write_login(auth_file: Path, upstream: FakeUpstream, **more: str) -> None:
    entry = {"auth": CREDENTIALS, **more}
    auth_file.write_text(json.dumps({"auths": {f"127.0.0.1:{upstream.port}": entry}}), encoding="ascii")


def client(upstream: FakeUpstream, prefix: str = "") -> RegistryClient:
    return mirrored(Endpoint(url=upstream.url, prefix=prefix))


def mirrored(*endpoints: Endpoint) -> RegistryClient:
    registry = Registry(host="registry.k8s.io", endpoints=endpoints)
    return RegistryClient(registry, HttpClient(pause=lambda _seconds: None))


def alone(upstream: FakeUpstream) -> EndpointClient:
    (mirror,) = client(upstream).mirrors
    return mirror


@pytest.mark.loopback
def test_a_tag_is_resolved_by_head(upstream: FakeUpstream) -> None:
    upstream.put_image("mirror/pause", "3.10", {"top": (b"{}", "application/json")})
    assert client(upstream, "mirror").resolve(PAUSE).digest == Digest.of_bytes(b"{}")
    seen = upstream.requests("/v2/mirror/pause/manifests/3.10")[0]
    assert seen.method == "HEAD"
    for kind in ("image.index.v1", "image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"):
        assert kind in seen.headers["accept"]


@pytest.mark.loopback
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 501])
def test_a_registry_that_does_not_answer_head(upstream: FakeUpstream, status: int) -> None:
    """200: it answers, and has no digest in the header."""
    upstream.put("/v2/pause/manifests/3.10", b"{}")
    if status != 200:
        upstream.troubles["/v2/pause/manifests/3.10"] = [Trouble(status=status)]
    assert client(upstream).resolve(PAUSE) == Resolved(digest=Digest.of_bytes(b"{}"), data=b"{}")


@pytest.mark.loopback
def test_a_tag_that_is_not_there(upstream: FakeUpstream) -> None:
    with pytest.raises(NotFoundError, match=r"does not have image registry\.k8s\.io/pause:3\.10"):
        client(upstream).resolve(PAUSE)


@pytest.mark.loopback
def test_a_manifest_that_is_too_long(upstream: FakeUpstream) -> None:
    upstream.put("/v2/pause/manifests/3.10", b" " * (LARGEST_MANIFEST_BYTES + 1))
    with pytest.raises(NetworkError, match="longer than it may be"):
        client(upstream).resolve(PAUSE)


@pytest.mark.loopback
def test_a_manifest_with_other_bytes(upstream: FakeUpstream) -> None:
    """What the digest in the name says counts; to lock the image anew is not the first advice."""
    upstream.put(f"/v2/pause/manifests/{DIGEST}", b"{}")
    with pytest.raises(IntegrityError) as caught:
        client(upstream).manifest(PAUSE, DIGEST)
    assert str(DIGEST) in caught.value.details
    assert "find out why" in caught.value.resolution


@pytest.mark.loopback
def test_a_token_is_asked_for_once(upstream: FakeUpstream) -> None:
    upstream.token = "t0ken"
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    asking = client(upstream)
    for _ in range(3):
        asking.resolve(PAUSE)
    assert len(upstream.requests("/token")) == 1
    assert "authorization" not in upstream.requests("/token")[0].headers


@pytest.mark.loopback
def test_a_token_refused_in_mid_run_is_renewed_once(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A manifest, and a blob in the middle: one more token, one more try, and from where it was."""
    data = bytes(range(256)) * 4096
    digest = Digest.parse(upstream.put_blob("pause", data))
    upstream.token = "t0ken"
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    mirror = alone(upstream)
    mirror.resolve(PAUSE)
    upstream.token = "an0ther"
    mirror.resolve(PAUSE)
    assert len(upstream.requests("/token")) == 2
    url = mirror.blob_url("pause", digest)
    path = f"/v2/pause/blobs/{digest}"
    upstream.troubles[path] = [Trouble(cut_after=300_000), Trouble(status=401)]
    http = HttpClient(pause=lambda _seconds: None)
    store = Store(tmp_path)
    http.download(
        url, digest=digest, size_bytes=len(data), store=store, what="x", login=mirror.login("pause")
    )
    assert store.has(digest, len(data))
    assert len(upstream.requests("/token")) == 3
    assert [seen.headers.get("range", "") != "" for seen in upstream.requests(path)] == [False, True, True]


@pytest.mark.loopback
def test_a_token_that_is_always_refused(upstream: FakeUpstream) -> None:
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    challenge = {"WWW-Authenticate": f'Bearer realm="{upstream.url}/token"'}
    upstream.troubles["/v2/"] = [Trouble(status=401, headers=challenge)]
    upstream.troubles["/v2/pause/manifests/3.10"] = [Trouble(status=401, headers=challenge)] * 9
    with pytest.raises(CredentialsError, match="upstream refuses image"):
        client(upstream).resolve(PAUSE)
    assert len(upstream.requests("/v2/pause/manifests/3.10")) == 4  # HEAD and GET, each twice


@pytest.mark.loopback
def test_a_registry_that_asks_only_for_some_repositories(upstream: FakeUpstream) -> None:
    """Its /v2/ is open; the challenge comes with the manifest, and its scope is used."""
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    challenge = f'Bearer realm="{upstream.url}/token?a=b",scope="repository:pause:pull,x"'
    upstream.troubles["/v2/pause/manifests/3.10"] = [
        Trouble(status=401, headers={"WWW-Authenticate": challenge})
    ]
    assert client(upstream).resolve(PAUSE).digest == Digest.of_bytes(b"{}")
    (asked,) = upstream.requests("/token")
    assert asked.query == "a=b&scope=repository%3Apause%3Apull%2Cx"


@pytest.mark.loopback
def test_the_scope_of_an_open_question_is_for_no_repository(upstream: FakeUpstream) -> None:
    """As ghcr.io answers at /v2/, with the scope of an example: a token for that is refused."""
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    upstream.token = "t0ken"
    challenge = f'Bearer realm="{upstream.url}/token",service="x",scope="repository:user/image:pull"'
    upstream.troubles["/v2/"] = [Trouble(status=401, headers={"WWW-Authenticate": challenge})]
    assert client(upstream).resolve(PAUSE).digest == Digest.of_bytes(b"{}")
    assert {seen.query for seen in upstream.requests("/token")} == {
        "scope=repository%3Apause%3Apull&service=x"
    }


@pytest.mark.loopback
def test_a_login_is_used_for_the_token(upstream: FakeUpstream, auth_file: Path) -> None:
    write_login(auth_file, upstream)
    upstream.token = "t0ken"
    assert alone(upstream).login("pause").header() == "Bearer t0ken"
    assert upstream.requests("/token")[0].headers["authorization"] == f"Basic {CREDENTIALS}"


@pytest.mark.loopback
def test_an_identity_token_is_exchanged(upstream: FakeUpstream, auth_file: Path) -> None:
    """By POST: it is no password, and stays out of addresses."""
    write_login(auth_file, upstream, identitytoken="s3cret")
    upstream.token = "t0ken"
    assert alone(upstream).login("pause").header() == "Bearer t0ken"
    (asked,) = upstream.requests("/token")
    assert asked.method == "POST"
    assert "refresh_token=s3cret" in asked.body
    assert "grant_type=refresh_token" in asked.body
    assert "scope=repository%3Apause%3Apull" in asked.body


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ('Basic realm="x", Bearer realm="{url}/token",service="fake"', "Bearer t0ken"),
        ("Bearer realm={url}/token,service=fake", "Bearer t0ken"),
        ('BEARER realm="{url}/token" , service="a, b"', "Bearer t0ken"),
        ('bearer service="fake",realm="/token"', "Bearer t0ken"),
        ('Negotiate, Basic realm="a \\"quoted\\", Bearer realm=x"', f"Basic {CREDENTIALS}"),
        ("basic", f"Basic {CREDENTIALS}"),
    ],
)
def test_challenges(upstream: FakeUpstream, auth_file: Path, challenge: str, expected: str) -> None:
    write_login(auth_file, upstream)
    upstream.token = "t0ken"
    header = challenge.replace("{url}", upstream.url)
    upstream.troubles["/v2/"] = [Trouble(status=401, headers={"WWW-Authenticate": header})]
    assert alone(upstream).login("pause").header() == expected


@pytest.mark.loopback
def test_a_registry_that_wants_a_password(upstream: FakeUpstream) -> None:
    challenge = Trouble(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    upstream.troubles["/v2/"] = [challenge]
    with pytest.raises(CredentialsError) as caught:
        alone(upstream).login("pause").header()
    assert caught.value.resolution.startswith(f"run 'podman login 127.0.0.1:{upstream.port}'")


@pytest.mark.loopback
def test_a_password_that_is_wrong_stays_out_of_the_error(upstream: FakeUpstream, auth_file: Path) -> None:
    write_login(auth_file, upstream)
    challenge = Trouble(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    upstream.troubles["/v2/"] = [challenge]
    upstream.troubles["/v2/pause/manifests/3.10"] = [challenge] * 4
    with pytest.raises(CredentialsError) as caught:
        client(upstream).resolve(PAUSE)
    assert "secret" not in caught.value.render()
    assert CREDENTIALS not in caught.value.render()
    assert len(upstream.requests("/v2/pause/manifests/3.10")) == 2


@pytest.mark.loopback
def test_a_challenge_that_is_not_known(upstream: FakeUpstream) -> None:
    upstream.troubles["/v2/"] = [Trouble(status=401, headers={"WWW-Authenticate": "Negotiate"})]
    with pytest.raises(CredentialsError, match="not known here"):
        alone(upstream).login("pause").header()


@pytest.mark.loopback
@pytest.mark.parametrize("token", ["", "a\nb: c", "\u00fc"])
def test_a_token_that_is_none(upstream: FakeUpstream, token: str) -> None:
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    upstream.token = token
    with pytest.raises(NetworkError, match="no token that can be read"):
        alone(upstream).login("pause").header()


@pytest.mark.loopback
def test_the_first_mirror_that_has_the_tag_decides(upstream: FakeUpstream) -> None:
    for prefix, data in (("one", b"{}"), ("two", b"[]")):
        upstream.put_image(f"{prefix}/pause", "3.10", {"top": (data, "application/json")})
    places = [Endpoint(url=upstream.url, prefix=prefix) for prefix in ("none", "two", "one")]
    assert mirrored(*places).resolve(PAUSE).digest == Digest.of_bytes(b"[]")
    asked = [(seen.method, seen.path) for seen in upstream.seen if seen.path.endswith("/manifests/3.10")]
    assert asked == [
        ("HEAD", "/v2/none/pause/manifests/3.10"),
        ("GET", "/v2/none/pause/manifests/3.10"),
        ("HEAD", "/v2/two/pause/manifests/3.10"),
    ]


@pytest.mark.loopback
def test_a_mirror_out_of_reach_is_asked_once(upstream: FakeUpstream) -> None:
    """One that is the only one is asked each time: there is no other."""
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    broken = [Trouble(status=503) for _ in range(20)]
    upstream.troubles["/v2/"] = broken
    asking = mirrored(Endpoint(url="http://127.0.0.1:9"), Endpoint(url=upstream.url))
    with pytest.raises(NetworkError) as caught:
        asking.resolve(PAUSE)
    assert caught.value.message.startswith("none of 2 mirrors helps: ")
    assert "cannot reach 127.0.0.1:9" in caught.value.details
    tried = len(upstream.requests("/v2/"))
    with pytest.raises(NetworkError):
        asking.resolve(PAUSE)
    assert len(upstream.requests("/v2/")) == tried
    with pytest.raises(NetworkError, match="fails"):
        client(upstream).resolve(PAUSE)
    broken.clear()
    assert client(upstream).resolve(PAUSE).digest == Digest.of_bytes(b"{}")


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        ('Bearer realm="https://[::1/"', "realm 'https://[::1/'"),
        ('Bearer realm="https://h:bad/"', "realm 'https://h:bad/'"),
        ('Bearer service="x"', "bearer without a realm"),
    ],
)
def test_a_token_server_that_cannot_be_asked_is_told(
    upstream: FakeUpstream, challenge: str, words: str
) -> None:
    upstream.troubles["/v2/"] = [Trouble(status=401, headers={"WWW-Authenticate": challenge})] * 9
    with pytest.raises(CredentialsError) as caught:
        client(upstream).resolve(PAUSE)
    assert words in caught.value.details
    assert caught.value.resolution


def test_a_token_that_is_nested_too_deep_is_told() -> None:
    with pytest.raises(NetworkError, match="gives no token that can be read"):
        _parse_token(b"[" * 200_000, "r")
