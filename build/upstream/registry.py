# SPDX-License-Identifier: Apache-2.0
"""Ask registries: what a tag names now, manifests, configurations and blobs, over their own API.

    tag --HEAD, or GET where HEAD is not answered--> digest --GET--> manifest
    401 --> challenge --login, token--> the same request again

Source: OCI distribution specification 1.1; distribution's "Token Authentication Specification" and
"OAuth2 Token Authentication".
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from urllib.parse import urlencode, urljoin, urlsplit

from build.base.errors import CredentialsError, IntegrityError, NetworkError
from build.inventory.model import Digest, Endpoint, Reference, Registry
from build.upstream.answers import host_of, shown_url
from build.upstream.challenge import Challenge, parse_challenges
from build.upstream.http import HttpClient, first_mirror
from build.upstream.logins import Credentials, find_login, login_name
from build.upstream.session import FixedLogin, Login

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

#: What other clients take too. Source: distribution specification 1.1, "Pushing Manifests"; containers/image.
LARGEST_MANIFEST_BYTES = 4 << 20
LARGEST_CONFIG_BYTES = 16 << 20
_LARGEST_TOKEN_BYTES = 1 << 20
_ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
# Answers to HEAD that say nothing about the manifest: GET decides.
_NO_HEAD = frozenset({400, 401, 403, 404, 405, 406, 501})
# Answers to /v2/ that ask for no login: some mirrors have no such page, or keep it from everybody.
_NO_CHALLENGE = frozenset({403, 404, 405})
_LEAST_LIFE_S = 5.0
_USUAL_LIFE_S = 60.0
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a tag names now; ``data`` is the manifest itself where it had to be fetched to know."""

    digest: Digest
    data: bytes | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Token:
    """An Authorization header (None: none is needed) and until when (monotonic time) it is good."""

    header: str | None = dataclasses.field(repr=False)
    good_until: float


class RegistryClient:
    """One upstream registry, as a profile places it: its mirrors are asked in turn. Threads may share it."""

    def __init__(self, registry: Registry, http: HttpClient) -> None:
        is_alone = len(registry.endpoints) == 1
        self.mirrors = tuple(
            EndpointClient(registry.host, endpoint, http, is_alone=is_alone)
            for endpoint in registry.endpoints
        )

    def resolve(self, reference: Reference) -> Resolved:
        """Return what a tag names now, as the first mirror that has it says.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """
        return first_mirror(self.mirrors, lambda mirror: mirror.resolve(reference))

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return a manifest or index verbatim, checked.

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
        self._logins: dict[str, _RepositoryLogin] = {}
        self._challenge: str | None = None
        self._failure: NetworkError | None = None

    def resolve(self, reference: Reference) -> Resolved:
        """Return what a tag names now: by a HEAD request; where that does not say, by the manifest itself.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """
        response = self._http.request(
            "HEAD",
            self._manifest_url(reference, reference.tag),
            headers={"Accept": _ACCEPT},
            login=self.login(self.endpoint.repository(reference)),
            passed=_NO_HEAD,
            what=f"image {reference}",
        )
        try:
            if response.status == 200:
                return Resolved(digest=Digest.parse(response.headers.get("docker-content-digest", "")))
        except ValueError:
            pass
        data = self._get_manifest(reference, reference.tag)
        return Resolved(digest=Digest.of_bytes(data), data=data)

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return a manifest or index verbatim, checked.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        data = self._get_manifest(reference, str(digest))
        self._check(data, digest, f"image {reference}", "the manifest")
        return data

    def config(self, reference: Reference, digest: Digest, config: Digest) -> bytes:
        """Return the configuration of a platform manifest verbatim, checked.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError.
        """
        repository = self.endpoint.repository(reference)
        response = self._http.request(
            "GET",
            self.blob_url(repository, config),
            login=self.login(repository),
            largest_bytes=LARGEST_CONFIG_BYTES,
            what=f"configuration of image {reference}",
        )
        self._check(response.body, config, f"image {reference}", f"the configuration of manifest {digest}")
        return response.body

    def _manifest_url(self, reference: Reference, name: str) -> str:
        return f"{self.endpoint.url}/v2/{self.endpoint.repository(reference)}/manifests/{name}"

    def _get_manifest(self, reference: Reference, name: str) -> bytes:
        return self._http.request(
            "GET",
            self._manifest_url(reference, name),
            headers={"Accept": _ACCEPT},
            login=self.login(self.endpoint.repository(reference)),
            largest_bytes=LARGEST_MANIFEST_BYTES,
            what=f"image {reference}",
        ).body

    def _check(self, data: bytes, digest: Digest, what: str, part: str) -> None:
        if Digest.of_bytes(data) != digest:
            raise IntegrityError(
                f"{what}: the registry gives other bytes than those that were asked for",
                details=f"{part}: asked for {digest}, got {Digest.of_bytes(data)}; from {self.endpoint.url}",
                resolution="try again; when it stays so, find out why (a proxy, a damaged mirror): "
                "do not trust this registry until you know",
            )

    def blob_url(self, repository: str, digest: Digest) -> str:
        """Return the address of a blob of a repository (the name at the endpoint)."""
        return f"{self.endpoint.url}/v2/{repository}/blobs/{digest}"

    def login(self, repository: str) -> Login:
        """Return what logs in to a repository (the name at the endpoint); one token serves all threads.

        Raises: NetworkError when the registry is not there.
        """
        with self._lock:
            found = self._logins.get(repository)
            if found is None:
                if self._challenge is None:
                    self._challenge = self._ask_challenge()
                found = _RepositoryLogin(self, self._http, repository, self._challenge)
                self._logins[repository] = found
            return found

    def _ask_challenge(self) -> str:
        """Return what the registry asks for, "" for nothing. Needs the lock. Raises: NetworkError."""
        if self._failure is not None:
            raise self._failure
        try:
            response = self._http.request(
                "GET",
                f"{self.endpoint.url}/v2/",
                passed=_NO_CHALLENGE | {401},
                largest_bytes=_LARGEST_TOKEN_BYTES,
                what=f"registry {self._host}",
            )
        except NetworkError as exc:
            self._failure = None if self._is_alone else exc
            raise
        return response.headers.get("www-authenticate", "") if response.status == 401 else ""

    @property
    def name(self) -> str:
        """Return the registry as people know it."""
        return self._host


class _RepositoryLogin:
    """The login of one repository: a password, or a token that is asked for when it is needed."""

    def __init__(self, client: EndpointClient, http: HttpClient, repository: str, challenge: str) -> None:
        self._url = client.endpoint.url
        self._name = client.name
        self._http = http
        self._repository = repository
        self._challenge = challenge
        # A challenge to /v2/ is about no repository: its scope (ghcr.io's names an example) counts for none.
        self._is_of_repository = False
        self._lock = threading.Lock()
        self._token: _Token | None = None

    def header(self) -> str | None:
        """Return the Authorization header; None when none is asked for.

        Raises: CredentialsError, NetworkError.
        """
        with self._lock:
            if self._token is None or time.monotonic() >= self._token.good_until:
                self._token = self._new_token()
            return self._token.header

    def renew(self, refused: str | None, challenge: str) -> bool:
        """Get another token after a 401, unless another thread did so already.

        Raises: CredentialsError, NetworkError.
        """
        with self._lock:
            if self._token is None or self._token.header == refused:
                if _is_usable(challenge):
                    self._challenge, self._is_of_repository = challenge, True
                self._token = self._new_token()
            return self._token.header != refused or _is_bearer(refused)

    def _new_token(self) -> _Token:
        if not self._challenge:
            return _Token(header=None, good_until=float("inf"))
        host = host_of(self._url)
        challenges = parse_challenges(self._challenge)
        bearer = [item for item in challenges if item.scheme == "bearer" and item.parameters.get("realm")]
        is_basic = any(item.scheme == "basic" for item in challenges)
        credentials = find_login(host, self._repository) if bearer or is_basic else None
        if credentials is not None and credentials.registry_token:
            return _Token(header=f"Bearer {credentials.registry_token}", good_until=float("inf"))
        if bearer:
            return self._ask_token(bearer[0], credentials)
        if not is_basic:
            raise CredentialsError(
                f"registry {self._name} asks for a login in a way that is not known here",
                details=f"it offers: {', '.join(map(_offer, challenges)) or 'nothing that can be read'}",
                resolution="use another registry, or a mirror without it",
            )
        if credentials is None or not credentials.user:
            raise CredentialsError(
                f"registry {self._name} asks for a login",
                details=f"endpoint {self._url}, repository {self._repository}",
                resolution=f"run 'podman login {login_name(host)}' (or docker login, or skopeo login)",
            )
        return _Token(header=credentials.basic, good_until=float("inf"))

    def _realm(self, challenge: Challenge) -> str:
        """Return the address of the token server that a challenge names. Raises: CredentialsError."""
        named = challenge.parameters["realm"]
        try:
            realm = urljoin(f"{self._url}/", named)
            urlsplit(realm).port  # noqa: B018 - it is read only when it is asked for
        except ValueError as exc:
            raise CredentialsError(
                f"registry {self._name} names a token server that cannot be asked",
                details=f"realm {named!r}: {exc}",
                resolution="see whether a proxy stands between, or use a mirror",
            ) from exc
        return realm

    def _ask_token(self, challenge: Challenge, credentials: Credentials | None) -> _Token:
        """Ask the token server that a challenge names, with the login if there is one."""
        realm = self._realm(challenge)
        if urlsplit(realm).scheme not in ("https", urlsplit(self._url).scheme):
            raise CredentialsError(
                f"registry {self._name} sends us to a token server without TLS",
                details=f"realm {shown_url(realm)}",
                resolution="use a registry whose token server has https://",
            )
        scope = challenge.parameters.get("scope") if self._is_of_repository else None
        query = {"scope": scope or f"repository:{self._repository}:pull"}
        if "service" in challenge.parameters:
            query["service"] = challenge.parameters["service"]
        what = f"a token of registry {self._name}"
        if credentials is not None and credentials.identity_token:
            form = query | {
                "grant_type": "refresh_token",
                "client_id": "caisson",
                "refresh_token": credentials.identity_token,
            }
            response = self._http.request(
                "POST", realm, form=form, largest_bytes=_LARGEST_TOKEN_BYTES, what=what
            )
        else:
            login = FixedLogin(credentials.basic if credentials is not None else None)
            url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
            response = self._http.request(
                "GET", url, login=login, largest_bytes=_LARGEST_TOKEN_BYTES, what=what
            )
        return _parse_token(response.body, self._name)


def _offer(challenge: Challenge) -> str:
    is_lacking = challenge.scheme == "bearer" and not challenge.parameters.get("realm")
    return f"{challenge.scheme}{' without a realm, its token server' if is_lacking else ''}"


def _is_usable(header: str) -> bool:
    """Say whether a header says how to log in: a refused token may get one that says only why."""
    return any(item.scheme == "basic" or "realm" in item.parameters for item in parse_challenges(header))


def _is_bearer(header: str | None) -> bool:
    """Say whether a header is a token: of a new one the text may be the same and its right another."""
    return header is not None and header.startswith("Bearer ")


def _parse_token(body: bytes, host: str) -> _Token:
    try:
        answer = json.loads(body)
        value = answer.get("token") or answer["access_token"]
        life_s = float(answer.get("expires_in") or _USUAL_LIFE_S)
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ValueError("the token is no visible text")  # noqa: TRY301 - one message for all faults
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as exc:
        raise NetworkError(
            f"registry {host} gives no token that can be read",
            details=type(exc).__name__,
            resolution="see whether a proxy stands between",
        ) from exc
    return _Token(header=f"Bearer {value}", good_until=time.monotonic() + max(life_s * 0.8, _LEAST_LIFE_S))
