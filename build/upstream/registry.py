# SPDX-License-Identifier: Apache-2.0
"""Ask registries: what a tag names now (HEAD), manifests (skopeo), blobs (HTTP with a token).

skopeo is the way for manifests, so that its signature policy and the user's credentials count; blobs are
fetched over the registry's own API, because that can go on in the middle of a blob.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from build.base.errors import (
    BuildError,
    CommandError,
    CredentialsError,
    IntegrityError,
    NetworkError,
    NotFoundError,
)
from build.base.run import Completed, run
from build.inventory.model import Digest, Endpoint, Reference, Registry
from build.upstream.http import HttpClient, first_mirror

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

_ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
_CHALLENGE_FIELD = re.compile(r'([a-z]+)="([^"]*)"')
# What skopeo says, in lower case; a server that is no registry gives it nothing but a status.
_MISSING_WORDS = ("manifest unknown", "not found", "name unknown", "statuscode: 404")
_REFUSED_WORDS = ("unauthorized", "authentication required", "denied", "statuscode: 401", "statuscode: 403")
_NETWORK_WORDS = (
    "dial tcp", "no such host", "timeout", "deadline exceeded", "connection", "eof", "toomanyrequests",
    "unexpected http status", "statuscode: ", "x509:",
)  # fmt: skip
_SKOPEO_TRIES = 3
_SKOPEO_LIMIT_S = 60  # skopeo's own, after which it says what it waited for
_SKOPEO_TIMEOUT_S = 120
# Docker's registry answers under a name that neither skopeo nor auth files use for it.
_DOCKER_ENDPOINT = "registry-1.docker.io"
_DOCKER_AUTH_NAMES = ("docker.io", "index.docker.io/v1/", "https://index.docker.io/v1/", "index.docker.io")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Token:
    """An Authorization header and until when (monotonic time) it is good."""

    header: str
    good_until: float


class RegistryClient:
    """One upstream registry, as a profile places it: its mirrors are asked in turn. Threads may share it."""

    def __init__(self, registry: Registry, http: HttpClient) -> None:
        is_alone = len(registry.endpoints) == 1
        self.mirrors = tuple(
            EndpointClient(registry.host, endpoint, http, is_alone=is_alone)
            for endpoint in registry.endpoints
        )

    def resolve(self, reference: Reference) -> Digest | None:
        """Return the digest that a tag has now, as the first mirror that has it says; None when it does not.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """
        return first_mirror(self.mirrors, lambda mirror: mirror.resolve(reference))

    def manifest(self, reference: Reference, digest: Digest | None) -> bytes:
        """Return a manifest or index verbatim: of a digest, checked, or of the reference's tag.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        return first_mirror(self.mirrors, lambda mirror: mirror.manifest(reference, digest))

    def config(self, reference: Reference, digest: Digest, config: Digest) -> bytes:
        """Return the configuration of a platform manifest verbatim, checked.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        return first_mirror(self.mirrors, lambda mirror: mirror.config(reference, digest, config))


class EndpointClient:
    """One place of a registry (``host`` is upstream's name of it). Threads may share it.

    One of several (not ``is_alone``) that cannot be reached at first contact is left out from then on.
    """

    def __init__(self, host: str, endpoint: Endpoint, http: HttpClient, *, is_alone: bool = True) -> None:
        self.endpoint = endpoint
        self._host = host
        self._is_alone = is_alone
        self._http = http
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._challenges: dict[str, str | None] = {}
        self._failure: NetworkError | None = None

    def resolve(self, reference: Reference) -> Digest | None:
        """Return the digest that a tag has now, by a HEAD request; None when the registry does not say.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """
        repository = self.endpoint.repository(reference)
        response = self._http.request(
            "HEAD",
            f"{self.endpoint.url}/v2/{repository}/manifests/{reference.tag}",
            headers={"Accept": _ACCEPT},
            authorization=self.authorization(repository),
            what=f"image {reference}",
        )
        value = response.headers.get("docker-content-digest", "")
        try:
            return Digest.parse(value)
        except ValueError:
            return None

    def manifest(self, reference: Reference, digest: Digest | None) -> bytes:
        """Return a manifest or index verbatim: of a digest, checked, or of the reference's tag.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        if not self._is_alone:
            with self._lock:
                self._challenge()  # skopeo would wait half a minute for a mirror that does not answer
        data = self._inspect(self._skopeo_name(reference, digest), f"image {reference}", "--raw")
        if digest is not None and Digest.of_bytes(data) != digest:
            raise IntegrityError(
                f"image {reference}: the registry gives another manifest than the one that was asked for",
                details=f"asked for {digest}, got {Digest.of_bytes(data)}; from {self.endpoint.url}",
                resolution="try again; when it stays so, do not trust this registry",
            )
        return data

    def config(self, reference: Reference, digest: Digest, config: Digest) -> bytes:
        """Return the configuration of a platform manifest verbatim, checked.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        repository = self.endpoint.repository(reference)
        response = self._http.request(
            "GET",
            self.blob_url(repository, config),
            authorization=self.authorization(repository),
            what=f"configuration of image {reference}",
        )
        if Digest.of_bytes(response.body) != config:
            raise IntegrityError(
                f"image {reference}: its configuration is not what its manifest names",
                details=f"manifest {digest}; expected {config}, got {Digest.of_bytes(response.body)}",
                resolution="try again; when it stays so, do not trust this registry",
            )
        return response.body

    def blob_url(self, repository: str, digest: Digest) -> str:
        """Return the address of a blob of a repository (the name at the endpoint)."""
        return f"{self.endpoint.url}/v2/{repository}/blobs/{digest}"

    def authorization(self, repository: str) -> str | None:
        """Return the Authorization header for pulling from a repository; None when none is asked for.

        Source: distribution specification, "Token Authentication"; RFC 6750 for the challenge.

        Raises: CredentialsError, NetworkError.
        """
        with self._lock:
            token = self._tokens.get(repository)
            if token is not None and time.monotonic() < token.good_until:
                return token.header
            challenge = self._challenge()
            if challenge is None:
                return None
            token = self._new_token(challenge, repository)
            self._tokens[repository] = token
            return token.header

    def _challenge(self) -> str | None:
        """Return what the registry asks for in its WWW-Authenticate header; asked once. Needs the lock."""
        if self._failure is not None:
            raise self._failure
        if "" not in self._challenges:
            try:
                response = self._http.request(
                    "GET", f"{self.endpoint.url}/v2/", passed=frozenset({401, 404}), what=self._host
                )
            except NetworkError as exc:
                self._failure = None if self._is_alone else exc
                raise
            is_refused = response.status == 401
            self._challenges[""] = response.headers.get("www-authenticate", "") if is_refused else None
        return self._challenges[""]

    def _new_token(self, challenge: str, repository: str) -> _Token:
        scheme, _, rest = challenge.partition(" ")
        credentials = find_credentials(auth_file_candidates(os.environ), self._auth_names())
        if scheme.lower() == "basic":
            if credentials is None:
                raise CredentialsError(
                    f"registry {self._host} asks for a login",
                    details=f"endpoint {self.endpoint.url}",
                    resolution=f"run 'skopeo login {self._auth_names()[0]}'",
                )
            return _Token(header=f"Basic {credentials}", good_until=time.monotonic() + 3600)
        fields = dict(_CHALLENGE_FIELD.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in fields:
            raise CredentialsError(
                f"registry {self._host} asks for a login in a way that is not known here",
                details=f"WWW-Authenticate: {challenge}",
                resolution="use another registry or a mirror without it",
            )
        query = {"scope": f"repository:{repository}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        response = self._http.request(
            "GET",
            f"{fields['realm']}?{urlencode(query)}",
            authorization=f"Basic {credentials}" if credentials else None,
            what=f"a token of registry {self._host}",
        )
        return _parse_token(response.body, self._host)

    def _auth_names(self) -> tuple[str, ...]:
        name = self.endpoint.url.partition("://")[2]
        return (*_DOCKER_AUTH_NAMES, name) if name == _DOCKER_ENDPOINT else (name,)

    def _skopeo_name(self, reference: Reference, digest: Digest | None) -> str:
        host = self.endpoint.url.partition("://")[2]
        host = "docker.io" if host == _DOCKER_ENDPOINT else host
        end = f":{reference.tag}" if digest is None else f"@{digest}"
        return f"docker://{host}/{self.endpoint.repository(reference)}{end}"

    def _inspect(self, name: str, what: str, option: str) -> bytes:
        """Run ``skopeo inspect``, again when the registry is busy; give a failure its class."""
        tls = ["--tls-verify=false"] if self.endpoint.is_plain_http else []
        tried = 0
        while True:
            words = ["skopeo", f"--command-timeout={_SKOPEO_LIMIT_S}s", "inspect", *tls, option, name]
            completed = run(words, timeout_s=_SKOPEO_TIMEOUT_S, check=False)
            tried += 1
            if completed.returncode == 0:
                return completed.stdout_bytes
            if tried == _SKOPEO_TRIES or not _is_busy(completed.stderr):
                raise skopeo_error(completed, what, self.endpoint.url)
            time.sleep(2.0**tried)


def _is_busy(stderr: str) -> bool:
    text = stderr.lower()
    return any(words in text for words in ("toomanyrequests", "429", "503", "502", "timeout", "eof"))


def skopeo_error(completed: Completed, what: str, endpoint: str) -> BuildError:
    """Turn a failure of skopeo into the error class that fits its words."""
    text = completed.stderr.lower()
    last = completed.stderr.strip().splitlines()[-1] if completed.stderr.strip() else "it says nothing"
    details = f"{last}\ncommand: {' '.join(completed.args)}"
    if any(words in text for words in _MISSING_WORDS):
        return NotFoundError(
            f"upstream does not have {what}",
            details=details,
            resolution="check the name and the version in images.yaml and versions.yaml",
        )
    if any(words in text for words in _REFUSED_WORDS):
        return CredentialsError(
            f"upstream refuses {what}",
            details=details,
            resolution="log in with 'skopeo login', or check that the name exists",
        )
    if any(words in text for words in _NETWORK_WORDS):
        return NetworkError(
            f"cannot get {what} from {endpoint}",
            details=details,
            resolution="check network and proxy settings, or name a mirror in reach: upstream=NAME",
        )
    return CommandError(f"skopeo cannot get {what}", details=details, resolution="see skopeo's words above")


def _parse_token(body: bytes, host: str) -> _Token:
    try:
        answer = json.loads(body)
        value = answer.get("token") or answer["access_token"]
        life_s = float(answer.get("expires_in", 60))
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise NetworkError(
            f"registry {host} gives no token that can be read",
            details=f"{type(exc).__name__}: {exc}",
            resolution="see whether a proxy stands between",
        ) from exc
    return _Token(header=f"Bearer {value}", good_until=time.monotonic() + max(life_s * 0.8, 5.0))


def auth_file_candidates(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where logins may be kept, in the order in which skopeo looks.

    Source: containers-auth.json(5).
    """
    if "REGISTRY_AUTH_FILE" in environment:
        return (Path(environment["REGISTRY_AUTH_FILE"]),)
    found = []
    if "XDG_RUNTIME_DIR" in environment:
        found.append(Path(environment["XDG_RUNTIME_DIR"], "containers", "auth.json"))
    home = Path(environment.get("HOME", "/"))
    found.append(home / ".config" / "containers" / "auth.json")
    found.append(Path(environment.get("DOCKER_CONFIG", str(home / ".docker"))) / "config.json")
    return tuple(found)


def find_credentials(files: tuple[Path, ...], names: tuple[str, ...]) -> str | None:
    """Return the login (base64 of ``user:password``) of the first name that a file has, or None."""
    for file in files:
        try:
            auths = json.loads(file.read_text(encoding="utf-8")).get("auths", {})
        except (OSError, ValueError, AttributeError):
            continue
        for name in names:
            entry = auths.get(name, {}) if isinstance(auths, dict) else {}
            if isinstance(entry, dict) and isinstance(entry.get("auth"), str) and entry["auth"]:
                return str(entry["auth"])
    return None
