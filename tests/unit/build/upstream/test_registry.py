# SPDX-License-Identifier: Apache-2.0
"""Registries and images: logins, kinds of manifests, and what failures of skopeo mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import BuildError, CommandError, CredentialsError, NetworkError, NotFoundError
from build.base.run import Completed
from build.inventory.model import Digest, Endpoint, Reference, Registry
from build.lock.images import (
    ObjectCache,
    check_platform,
    choose_child,
    created_time,
    media_type_of,
    parse_manifest,
)
from build.upstream.http import HttpClient
from build.upstream.registry import (
    EndpointClient,
    RegistryClient,
    auth_file_candidates,
    find_credentials,
    skopeo_error,
)
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve

PAUSE = Reference.parse("registry.k8s.io/pause:3.10")
DIGEST = Digest("a" * 64)
CREDENTIALS = base64.b64encode(b"me:secret").decode()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with serve() as running:
        yield running


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
    assert client(upstream, "mirror").resolve(PAUSE) == Digest.of_bytes(b"{}")
    seen = upstream.requests("/v2/mirror/pause/manifests/3.10")[0]
    assert seen.method == "HEAD"
    for kind in ("image.index.v1", "image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"):
        assert kind in seen.headers["accept"]


@pytest.mark.loopback
def test_a_registry_that_does_not_say(upstream: FakeUpstream) -> None:
    upstream.put("/v2/pause/manifests/3.10", b"{}")
    assert client(upstream).resolve(PAUSE) is None


@pytest.mark.loopback
def test_a_token_is_asked_for_once(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/nothing")
    upstream.token = "t0ken"
    upstream.put_image("pause", "3.10", {"top": (b"{}", "application/json")})
    asking = client(upstream)
    for _ in range(3):
        asking.resolve(PAUSE)
    assert len(upstream.requests("/token")) == 1
    assert "authorization" not in upstream.requests("/token")[0].headers


@pytest.mark.loopback
def test_a_login_is_used_for_the_token(
    upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth_file = tmp_path / "auth.json"
    auth_file.write_text(json.dumps({"auths": {f"127.0.0.1:{upstream.port}": {"auth": CREDENTIALS}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth_file))
    upstream.token = "t0ken"
    assert alone(upstream).authorization("pause") == "Bearer t0ken"
    assert upstream.requests("/token")[0].headers["authorization"] == f"Basic {CREDENTIALS}"


@pytest.mark.loopback
def test_a_registry_that_wants_a_password(
    upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = Trouble(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    upstream.troubles["/v2/"] = [challenge, challenge]
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/nothing")
    with pytest.raises(CredentialsError) as caught:
        alone(upstream).authorization("pause")
    assert caught.value.resolution == f"run 'skopeo login 127.0.0.1:{upstream.port}'"
    auth_file = tmp_path / "auth.json"
    auth_file.write_text(json.dumps({"auths": {f"127.0.0.1:{upstream.port}": {"auth": CREDENTIALS}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth_file))
    assert alone(upstream).authorization("pause") == f"Basic {CREDENTIALS}"


@pytest.mark.loopback
def test_a_challenge_that_is_not_known(upstream: FakeUpstream) -> None:
    upstream.troubles["/v2/"] = [Trouble(status=401, headers={"WWW-Authenticate": "Negotiate"})]
    with pytest.raises(CredentialsError, match="not known here"):
        alone(upstream).authorization("pause")


@pytest.mark.loopback
def test_the_first_mirror_that_has_the_tag_decides(upstream: FakeUpstream) -> None:
    for prefix, data in (("one", b"{}"), ("two", b"[]")):
        upstream.put_image(f"{prefix}/pause", "3.10", {"top": (data, "application/json")})
    places = [Endpoint(url=upstream.url, prefix=prefix) for prefix in ("none", "two", "one")]
    assert mirrored(*places).resolve(PAUSE) == Digest.of_bytes(b"[]")
    assert [seen.path for seen in upstream.seen if seen.method == "HEAD"] == [
        "/v2/none/pause/manifests/3.10",
        "/v2/two/pause/manifests/3.10",
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
    assert client(upstream).resolve(PAUSE) == Digest.of_bytes(b"{}")


def test_where_logins_are_looked_for(tmp_path: Path) -> None:
    assert auth_file_candidates({"REGISTRY_AUTH_FILE": "/a"}) == (Path("/a"),)
    found = auth_file_candidates({"XDG_RUNTIME_DIR": "/run/1", "HOME": "/h", "DOCKER_CONFIG": "/d"})
    assert [str(file) for file in found] == [
        "/run/1/containers/auth.json",
        "/h/.config/containers/auth.json",
        "/d/config.json",
    ]
    broken, good = tmp_path / "broken.json", tmp_path / "good.json"
    broken.write_text("{", encoding="ascii")
    good.write_text('{"auths": {"index.docker.io/v1/": {"auth": "abc"}, "x": {}}}', encoding="ascii")
    assert find_credentials((broken, tmp_path / "none", good), ("docker.io", "index.docker.io/v1/")) == "abc"
    assert find_credentials((good,), ("x", "y")) is None


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("Error reading manifest 1 in x: manifest unknown: manifest unknown", NotFoundError),
        ("reading manifest: unauthorized: access to the requested resource", CredentialsError),
        ("pinging container registry: dial tcp 127.0.0.1:9: connect: connection refused", NetworkError),
        ("Get https://x/v2/: dial tcp: lookup x: no such host", NetworkError),
        ("toomanyrequests: You have reached your pull rate limit", NetworkError),
        ("pinging container registry x: received unexpected HTTP status: 500 Internal", NetworkError),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", NetworkError),
        ("reading manifest 1 in x: StatusCode: 404, <html>", NotFoundError),
        ("reading manifest 1 in x: StatusCode: 403, <html>", CredentialsError),
        ("reading manifest 1 in x: StatusCode: 502, <html>", NetworkError),
        ("unknown flag: --raw", CommandError),
        ("", CommandError),
    ],
)
def test_what_skopeo_means(stderr: str, kind: type[BuildError]) -> None:
    completed = Completed(args=("skopeo", "inspect"), returncode=1, stdout_bytes=b"", stderr=stderr)
    error = skopeo_error(completed, "image x", "https://x")
    assert type(error) is kind
    assert "image x" in error.message
    assert error.resolution


def entry(architecture: str, variant: str | None = None, digit: str = "1") -> dict[str, object]:
    platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digit * 64}",
        "size": 7,
        "platform": platform,
    }


def test_the_plain_child_is_chosen() -> None:
    index = {"manifests": [entry("arm64"), entry("amd64", "v3", "2"), entry("amd64", digit="3")]}
    assert choose_child(index, "image x").digest == Digest("3" * 64)
    with pytest.raises(NotFoundError) as caught:
        choose_child({"manifests": [entry("arm64", "v8"), {"platform": 1}, "x"]}, "image x")
    assert "linux/arm64/v8" in caught.value.details


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"schemaVersion": 2, "manifests": []}, "application/vnd.oci.image.index.v1+json"),
        ({"schemaVersion": 2, "layers": []}, "application/vnd.oci.image.manifest.v1+json"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}, None),
    ],
)
def test_media_types(manifest: dict[str, object], expected: str | None) -> None:
    assert media_type_of(manifest, "image x") == (expected or manifest["mediaType"])


@pytest.mark.parametrize(
    "manifest",
    [
        {"schemaVersion": 1},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
        {"mediaType": 5},
    ],
)
def test_old_kinds_of_manifests_are_refused(manifest: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="cannot be served"):
        media_type_of(manifest, "image x")


def test_layers_elsewhere_are_refused() -> None:
    blob = {"digest": str(DIGEST), "size": 1}
    manifest = {"schemaVersion": 2, "config": blob, "layers": [blob | {"urls": ["https://example.com/x"]}]}
    with pytest.raises(BuildError, match="outside its registry"):
        parse_manifest(manifest, "image x")
    with pytest.raises(BuildError, match="cannot be read"):
        parse_manifest({"schemaVersion": 2, "config": blob, "layers": [{"digest": "md5:1"}]}, "image x")


def test_a_single_manifest_says_its_platform_in_its_configuration() -> None:
    check_platform({"os": "linux", "architecture": "amd64"}, "image x")
    with pytest.raises(NotFoundError) as caught:
        check_platform({"os": "linux", "architecture": "arm64"}, "image x")
    assert "linux/arm64" in caught.value.details


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("2026-01-02T03:04:05.123456789+01:00", 1767319445),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        (None, 0),
    ],
)
def test_when_an_image_was_made(created: str | None, expected: int) -> None:
    assert created_time({"created": created}) == expected


def test_kept_objects_are_checked_when_read(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    digest = Digest.of_bytes(b"data")
    assert cache.get(digest, lambda: b"data") == b"data"
    assert cache.get(digest, lambda: b"never") == b"data"
    (tmp_path / digest.hex).write_bytes(b"other")
    assert cache.get(digest, lambda: b"data") == b"data"
