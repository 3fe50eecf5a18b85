# SPDX-License-Identifier: Apache-2.0
"""Certificate authorities: a server of a private one is trusted where the machine trusts it, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import CredentialsError, NetworkError
from build.upstream import authorities
from build.upstream.authorities import trusted_authorities
from build.upstream.http import HttpClient
from tests.authorities import make_authority, make_leaf
from tests.unit.build.fakeupstream import FakeUpstream, serve

pytestmark = pytest.mark.loopback
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def upstream(
    authority: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeUpstream]:
    with serve(tls=make_leaf(tmp_path_factory.mktemp("leaf"), authority)) as running:
        running.put("/thing", b"x")
        yield running


def ask(upstream: FakeUpstream) -> bytes:
    return HttpClient(pause=lambda _seconds: None).request("GET", f"{upstream.url}/thing").body


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_what_the_environment_names(
    upstream: FakeUpstream, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(authority[0]))
    assert ask(upstream) == b"x"


def test_the_system_s_store(
    upstream: FakeUpstream, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No variable is set: an empty file is passed over, the next one counts."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    monkeypatch.setattr(authorities, "SYSTEM_FILES", (tmp_path / "none", empty, authority[0]))
    monkeypatch.setattr(authorities, "_default_file", lambda: None)
    assert trusted_authorities({}) == str(authority[0])
    assert ask(upstream) == b"x"


def test_another_authority_is_not_trusted(
    upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said at once, and the advice is what really is looked at."""
    monkeypatch.setenv("SSL_CERT_FILE", str(make_authority(tmp_path)[0]))
    pauses: list[float] = []
    with pytest.raises(NetworkError) as caught:
        HttpClient(pause=pauses.append).request("GET", f"{upstream.url}/thing")
    assert caught.value.message == f"the certificate of 127.0.0.1:{upstream.port} is not trusted"
    assert "system's store" in caught.value.resolution
    assert not pauses


def test_a_variable_that_names_nothing(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing/ca.pem")
    with pytest.raises(
        NetworkError, match="REQUESTS_CA_BUNDLE names certificate authorities that are not there"
    ):
        ask(upstream)


def test_the_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    two.touch()
    assert trusted_authorities({"SSL_CERT_FILE": str(one), "REQUESTS_CA_BUNDLE": str(two)}) == str(two)
    assert trusted_authorities({"SSL_CERT_DIR": f"/none:{tmp_path}"}) == str(tmp_path)


def test_a_server_that_asks_who_we_are(
    authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The certificate is shown at its own addresses alone, and one that is missing is named."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[0]))
    leaf, gone = make_leaf(tmp_path, authority), tmp_path / "gone.pem"
    with serve(tls=leaf, clients_of=authority[0]) as upstream:
        upstream.put("/cdn/thing", b"x")

        def ask_with(prefix: str, files: tuple[Path, Path]) -> bytes:
            client = HttpClient(
                tries=1, pause=lambda _seconds: None, client_certificates={f"{upstream.url}{prefix}": files}
            )
            return client.request("GET", f"{upstream.url}/cdn/thing").body

        assert ask_with("/cdn/", leaf) == b"x"
        with pytest.raises(NetworkError):
            ask_with("/other/", leaf)
        with pytest.raises(CredentialsError, match="client certificate") as caught:
            ask_with("/cdn/", (leaf[0], gone))
        assert str(gone) in caught.value.details
