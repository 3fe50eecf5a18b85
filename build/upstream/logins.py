# SPDX-License-Identifier: Apache-2.0
"""Find logins of registries where podman, skopeo and docker keep them.

Source: containers-auth.json(5); docker login, "Credential stores" and "Credential helpers".
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from build.base import ui
from build.base.errors import CommandError, CredentialsError
from build.base.run import run

_DOCKER = "docker.io"
_DOCKER_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_DOCKER_SERVER = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT_S = 60
# A constant of the protocol. Source: docker-credential-helpers, credentials/error.go.
_NOT_FOUND = "credentials not found in native keychain"
_LARGEST_FILE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Credentials:
    """A login; secrets stay out of what is printed of it. One of the tokens, or user and password."""

    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)
    registry_token: str = dataclasses.field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Return the Authorization header of user and password."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def auth_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where logins may be kept, in the order in which podman and skopeo look."""
    if environment.get("REGISTRY_AUTH_FILE"):
        return (Path(environment["REGISTRY_AUTH_FILE"]),)
    home = Path(environment.get("HOME") or "/")
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (
        Path(runtime or f"/run/containers/{os.getuid()}")
        / ("containers/auth.json" if runtime else "auth.json"),
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        home / ".dockercfg",
    )


def find_login(host: str, repository: str, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the login for a repository of a registry (both as its endpoint calls them), or None.

    In each file a helper that is named for the host comes first, then the entry that is nearest to the
    repository, then docker's store for all hosts.

    Raises: CredentialsError when a helper that is named for the host fails.
    """
    for file in auth_files(environment):
        content = _read(file)
        found = _of_file(file, content, login_name(host), repository) if content else None
        if found is not None:
            return found
    return None


def login_name(host: str) -> str:
    """Return the name that people log in to; that of Docker's registry is not its host's."""
    return _DOCKER if host in _DOCKER_NAMES else host


def _of_file(file: Path, content: Mapping[str, object], host: str, repository: str) -> Credentials | None:
    helpers = _table(content.get("credHelpers"))
    for name in (host, *(key for key in helpers if _host_of_key(key) == host)):
        if helpers.get(name):
            return _ask_helper(str(helpers[name]), host, file)
    auths = content if file.name == ".dockercfg" else _table(content.get("auths"))
    for key in _keys(host, repository, auths):
        found = _parse_entry(auths.get(key), f"'{key}' in {file}")
        if found is not None:
            return found
    store = content.get("credsStore")
    if not isinstance(store, str) or not store:
        return None
    try:
        return _ask_helper(store, host, file)
    except CredentialsError as exc:
        _warn_once(f"{exc.message} ({exc.details}): {host} is asked without a login")
        return None


def _keys(host: str, repository: str, auths: Mapping[str, object]) -> Iterator[str]:
    """Yield the keys that may hold the login, the nearest to the repository first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    yield host
    yield from (key for key in auths if key != host and _host_of_key(key) == host)


def _host_of_key(key: str) -> str:
    """Return the host that a key of ``auths`` or ``credHelpers`` means, also when it is written as an address."""
    bare = re.sub(r"^https?://", "", key)
    if bare != key:
        bare = bare.partition("/")[0]
    return login_name(re.sub(r"/v[12]/?$|/$", "", bare))


def _parse_entry(entry: object, where: str) -> Credentials | None:
    fields = {name: value for name, value in _table(entry).items() if isinstance(value, str) and value}
    if "registrytoken" in fields:
        return Credentials(registry_token=fields["registrytoken"])
    user, password = fields.get("username"), fields.get("password", "")
    if "auth" in fields:
        try:
            text = base64.b64decode("".join(fields["auth"].split()), validate=True).decode()
        except (binascii.Error, ValueError):  # what it says holds the secret: it is not shown
            _warn_once(f"the login of {where} is not used: its 'auth' is no base64 of USER:PASSWORD in UTF-8")
            return None
        user, _, password = text.rstrip("\0").partition(":")
    if "identitytoken" in fields:
        return Credentials(user=user or "", identity_token=fields["identitytoken"])
    return Credentials(user=user, password=password) if user else None


def _ask_helper(name: str, host: str, file: Path) -> Credentials | None:
    """Return what a credential helper knows of a host; None when it knows nothing.

    Raises: CredentialsError. What the helper prints is never shown: it may hold the password.
    """
    if not _HELPER_NAME.fullmatch(name):
        raise CredentialsError(
            f"the credential helper of {host} has no good name",
            details=f"'{name}' in {file}",
            resolution="correct the file",
        )
    for server in (_DOCKER_SERVER, _DOCKER) if host == _DOCKER else (host, f"https://{host}"):
        answer = _get(name, server, host, file)
        if answer.get("Secret"):
            user, secret = str(answer.get("Username", "")), str(answer["Secret"])
            return (
                Credentials(user=user, identity_token=secret)
                if user == "<token>"
                else Credentials(user=user, password=secret)
            )
    return None


def _get(name: str, server: str, host: str, file: Path) -> Mapping[str, object]:
    program = f"docker-credential-{name}"
    reason = "it gives no JSON"
    try:
        completed = run(
            [program, "get"],
            input_text=f"{server}\n",
            env=dict(os.environ),
            check=False,
            timeout_s=_HELPER_TIMEOUT_S,
        )
        if completed.returncode == 0:
            parsed = json.loads(completed.stdout)
            if isinstance(parsed, dict):
                return parsed
        elif _NOT_FOUND in completed.stdout:
            return {}
        else:
            reason = f"it ends with {completed.returncode}"
    except CommandError as exc:
        reason = exc.message
    except (ValueError, RecursionError):
        pass
    raise CredentialsError(
        f"the credential helper '{program}' gives no login for {host}",
        details=f"{reason}; named in {file}",
        resolution=f"run: echo {server} | {program} get",
    )


def _read(file: Path) -> Mapping[str, object]:
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            raise ValueError("it is too long")  # noqa: TRY301 - one message for all faults
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no mapping")  # noqa: TRY004, TRY301
    except (OSError, ValueError, RecursionError) as exc:
        _warn_once(f"logins in {file} cannot be read: {type(exc).__name__}")
        return {}
    return content


@functools.cache
def _warn_once(text: str) -> None:
    ui.warn(text)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
