# SPDX-License-Identifier: Apache-2.0
"""Logins where podman, skopeo and docker keep them. Starts credential helpers of its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from build.base.errors import CredentialsError
from build.upstream.logins import Credentials, auth_files, find_login

HOST = "registry.example.com"


def encoded(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:se:cret".encode()).decode()}


def login(user: str) -> Credentials:
    return Credentials(user=user, password="se:cret")


def write(file: Path, content: object) -> dict[str, str]:
    """Write a file of logins and return an environment that names it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return {"REGISTRY_AUTH_FILE": str(file)}


def test_where_logins_are_looked_for() -> None:
    assert auth_files({"REGISTRY_AUTH_FILE": "/a"}) == (Path("/a"),)
    found = auth_files({"XDG_RUNTIME_DIR": "/run/1", "HOME": "/h", "DOCKER_CONFIG": "/d"})
    assert [str(file) for file in found] == [
        "/run/1/containers/auth.json",
        "/h/.config/containers/auth.json",
        "/d/config.json",
        "/h/.dockercfg",
    ]
    found = auth_files({"HOME": "/h", "XDG_CONFIG_HOME": "/c"})
    assert str(found[0]).startswith("/run/containers/")
    assert str(found[1]) == "/c/containers/auth.json"
    assert str(found[2]) == "/h/.docker/config.json"


@pytest.mark.parametrize(
    "key",
    [
        HOST,
        f"{HOST}/acme",
        f"{HOST}/acme/app",
        f"https://{HOST}",
        f"https://{HOST}/",
        f"https://{HOST}/v1/",
        f"https://{HOST}/v2/",
        f"http://{HOST}",
    ],
)
def test_every_key_that_tools_write(tmp_path: Path, key: str) -> None:
    environment = write(
        tmp_path / "a.json", {"auths": {"other.example.com": encoded("other"), key: encoded("me")}}
    )
    assert find_login(HOST, "acme/app", environment) == login("me")


@pytest.mark.parametrize(
    "key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "index.docker.io/v1/"]
)
def test_every_name_of_docker_s_registry(tmp_path: Path, key: str) -> None:
    environment = write(tmp_path / "a.json", {"auths": {key: encoded("me")}})
    assert find_login("registry-1.docker.io", "library/nginx", environment) == login("me")


def test_the_nearest_key_counts(tmp_path: Path) -> None:
    """Namespaces count by whole parts."""
    auths = {key: encoded(key) for key in (HOST, f"{HOST}/acme", f"{HOST}/acme/app")}
    environment = write(tmp_path / "a.json", {"auths": auths})
    for repository, key in [
        ("acme/app", f"{HOST}/acme/app"),
        ("acme/app/deep", f"{HOST}/acme/app"),
        ("acme/application", f"{HOST}/acme"),
        ("acmeter/app", HOST),
    ]:
        assert find_login(HOST, repository, environment) == login(key), repository


def test_files_are_asked_in_turn(tmp_path: Path) -> None:
    """A broken one, and one with an empty entry, are passed over."""
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert find_login(HOST, "x", environment) is None
    write(tmp_path / ".dockercfg", {HOST: encoded("old")})
    assert find_login(HOST, "x", environment) == login("old")
    write(
        tmp_path / ".docker" / "config.json", {"auths": {HOST: {"username": "plain", "password": "se:cret"}}}
    )
    assert find_login(HOST, "x", environment) == login("plain")
    write(tmp_path / ".config/containers/auth.json", {"auths": {HOST: {}}})
    write(tmp_path / "run/containers/auth.json", ["no mapping"])
    assert find_login(HOST, "x", environment) == login("plain")


def test_tokens(tmp_path: Path) -> None:
    environment = write(tmp_path / "a.json", {"auths": {HOST: encoded("<token>") | {"identitytoken": "i"}}})
    found = find_login(HOST, "x", environment)
    assert found == Credentials(user="<token>", identity_token="i")
    environment = write(tmp_path / "a.json", {"auths": {HOST: {"registrytoken": "r"}}})
    assert find_login(HOST, "x", environment) == Credentials(registry_token="r")


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials(user="me", password="secret", identity_token="secret", registry_token="secret"))
    assert "secret" not in shown


HELPER = """#!/bin/sh
read -r server
echo "$server" >> "{log}"
case "$server" in
  registry.example.com) echo '{{"Username": "helped", "Secret": "se:cret"}}' ;;
  https://index.docker.io/v1/) echo '{{"Username": "<token>", "Secret": "i"}}' ;;
  broken.example.com) echo 'the password is se:cret' >&2; exit 1 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture
def helper_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a credential helper on PATH; return where it notes what it is asked."""
    program = tmp_path / "bin" / "docker-credential-small"
    program.parent.mkdir()
    program.write_text(HELPER.format(log=tmp_path / "log"), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return tmp_path / "log"


@pytest.mark.subprocess
def test_a_helper_for_a_host(tmp_path: Path, helper_log: Path) -> None:
    """It comes before entries; without an answer of it the next file is asked."""
    helpers = {
        HOST: "small",
        "docker.io": "small",
        "none.example.com": "small",
        "broken.example.com": "small",
    }
    content = {"credHelpers": helpers, "auths": {HOST: encoded("entry"), "free.example.com": encoded("free")}}
    environment = write(tmp_path / "a.json", content)
    assert find_login(HOST, "x", environment) == login("helped")
    assert helper_log.read_text() == f"{HOST}\n"
    assert find_login("registry-1.docker.io", "x", environment) == Credentials(
        user="<token>", identity_token="i"
    )
    assert find_login("none.example.com", "x", environment) is None
    assert find_login("free.example.com", "x", environment) == login("free")
    with pytest.raises(CredentialsError) as caught:
        find_login("broken.example.com", "x", environment)
    assert "docker-credential-small" in caught.value.message
    assert "se:cret" not in caught.value.render()


@pytest.mark.subprocess
def test_a_store_for_all_hosts(tmp_path: Path, helper_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Docker leaves empty entries beside it. One that is not installed does not stop a public registry."""
    auths: dict[str, object] = {"https://index.docker.io/v1/": {}, HOST: {}}
    environment = write(tmp_path / "a.json", {"credsStore": "small", "auths": auths})
    assert find_login(HOST, "x", environment) == login("helped")
    assert find_login("registry-1.docker.io", "library/x", environment) is not None
    assert helper_log.read_text().splitlines() == [HOST, "https://index.docker.io/v1/"]
    environment = write(tmp_path / "a.json", {"credsStore": "not-installed", "auths": auths})
    assert find_login(HOST, "x", environment) is None
    assert f"{HOST} is asked without a login" in capsys.readouterr().err


def test_a_helper_s_name_is_no_path(tmp_path: Path) -> None:
    environment = write(tmp_path / "a.json", {"credHelpers": {HOST: "../../bin/evil"}})
    with pytest.raises(CredentialsError, match="no good name"):
        find_login(HOST, "x", environment)


@pytest.mark.subprocess
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "https://docker.io"])
def test_a_helper_is_found_by_each_name_of_its_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    helper = tmp_path / "docker-credential-own"
    helper.write_text('#!/bin/sh\necho \'{"Username": "me", "Secret": "se:cret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    environment = write(tmp_path / "a.json", {"credHelpers": {key: "own"}})
    assert find_login("registry-1.docker.io", "acme/app", environment) == login("me")


@pytest.mark.parametrize("value", ["no base64!", "bWU6c2VjcmV", base64.b64encode(b"me:s\xe4").decode()])
def test_a_login_that_cannot_be_decoded_is_named_without_its_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    environment = write(tmp_path / "a.json", {"auths": {HOST: {"auth": value}}})
    assert find_login(HOST, "acme/app", environment) is None
    said = "".join(capsys.readouterr())
    assert f"'{HOST}' in {tmp_path / 'a.json'}" in said
    assert value not in said


def test_a_file_that_is_nested_too_deep_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep.json"
    file.write_text("[" * 200_000)
    assert find_login(HOST, "acme/app", {"REGISTRY_AUTH_FILE": str(file)}) is None
    assert str(file) in "".join(capsys.readouterr())
