# SPDX-License-Identifier: Apache-2.0
"""The builder's door to the network: HTTP with retries, resumption and errors that name the host.

Proxies and netrc of the environment are honoured (by requests), as are the system's authorities.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import requests.utils

from build.base.errors import (
    FIND_OUT_WHY,
    BuildError,
    CredentialsError,
    IntegrityError,
    NetworkError,
    SignatureError,
)
from build.inventory.model import DEFAULT_CONNECT_TIMEOUT_S, Digest
from build.store.objects import Partial, Store
from build.upstream.answers import (
    LONGEST_WAIT_S,
    Answer,
    RetryError,
    check_answer,
    gave_up,
    host_of,
    pause_s,
    say_wait,
    shown_url,
)
from build.upstream.session import NO_LOGIN, Authorization, Login, Session

T = TypeVar("T")
Mirror = TypeVar("Mirror")

# What a cut connection loses at most: the client library drops a piece that did not come whole.
CHUNK_BYTES = 1 << 15
RESOLVE_TIMEOUT_S = 6.0
READ_TIMEOUT_S = 30.0
FIRST_CONTACT_TRIES = 3
TRIES = 6

_LARGEST_BODY_BYTES = 1 << 30
_REFUSAL_BYTES = 4096
# A pause that people are told of, where no progress is shown.
_SAID_PAUSE_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Response:
    """An answer with its whole body. Names of headers are in lower case; ``url`` is where redirects led."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


def first_mirror(mirrors: Sequence[Mirror], ask: Callable[[Mirror], T]) -> T:
    """Return the answer of the first mirror that gives one: they are asked in turn.

    Mirrors are what ``ask`` takes: addresses, or clients of one registry. One that cannot be reached, lacks
    the thing, has other bytes than it should, or a signature that does not fit them (half-way through an
    update, a mirror has all of these) is passed over.

    Raises: the gravest error of all mirrors; with several, all their words.
    """
    failed: list[NetworkError | IntegrityError | SignatureError] = []
    for mirror in mirrors:
        try:
            return ask(mirror)
        except (NetworkError, IntegrityError, SignatureError) as exc:
            failed.append(exc)
    gravest = max(reversed(failed), key=lambda exc: (isinstance(exc, SignatureError), _is_damage(exc)))
    if len(failed) > 1:
        raise type(gravest)(
            f"none of {len(failed)} mirrors helps: {gravest.message}",
            details="\n".join(
                f"{f'{shown_url(mirror)}: ' if isinstance(mirror, str) else ''}{exc.message}: {exc.details}"
                for mirror, exc in zip(mirrors, failed, strict=True)
            ),
            resolution=gravest.resolution,
        ) from gravest
    raise gravest


def _is_damage(exc: BuildError) -> bool:
    return isinstance(exc, IntegrityError)


class HttpClient:
    """HTTP for the threads of one run; each thread has its own connections.

    ``client_certificates`` are certificate and private key by the beginning of addresses. ``pause`` waits in the
    place of a sleep that :meth:`stop` ends; it may raise to give up. A host that could not be reached at all is
    not tried again.
    """

    def __init__(
        self,
        *,
        tries: int = TRIES,
        pause: Callable[[float], None] | None = None,
        user_agent: str = "caisson",
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        client_certificates: Mapping[str, tuple[Path, Path]] | None = None,
    ) -> None:
        self._tries = tries
        self._stopped = threading.Event()
        self._pause = pause or self._sleep
        self._user_agent = user_agent
        self._connect_timeout_s = connect_timeout_s
        self._client_certificates = client_certificates or {}
        self._local = threading.local()
        self._known_hosts: set[str] = set()
        self._resolved: set[str] = set()
        self._absent: dict[str, RetryError] = {}
        self._said: dict[str, float] = {}

    def stop(self) -> None:
        """End the waits of all threads: what they wait for fails. For a run that ends early."""
        self._stopped.set()

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise NetworkError(
                "the wait for another try was ended",
                details="the run ended before it",
                resolution="see what ended it, and run it again",
            )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        login: Login = NO_LOGIN,
        form: Mapping[str, str] | None = None,
        passed: frozenset[int] = frozenset(),
        largest_bytes: int = _LARGEST_BODY_BYTES,
        what: str = "",
    ) -> Response:
        """Ask once for small content, with retries.

        ``passed`` are statuses, besides those of success, that the caller handles itself. ``form`` is sent as
        the body. ``what`` names the thing in errors.

        Raises: NotFoundError, CredentialsError, NetworkError; also for a body of more than ``largest_bytes``.
        """

        def once() -> Response:
            with self._open(
                method, url, headers=headers or {}, login=login, passed=passed, what=what, form=form
            ) as response:
                body = bytearray()
                for chunk in _chunks(response):
                    body += chunk
                    if len(body) > largest_bytes:
                        raise _too_long(url, what, largest_bytes)
                found = {name.lower(): value for name, value in response.headers.items()}
                return Response(
                    status=response.status_code, url=str(response.url), headers=found, body=bytes(body)
                )

        return self._retry(url, what, once)

    def beginning(self, url: str, size_bytes: int, *, what: str) -> bytes:
        """Return the first bytes of something large; fewer when there are no more.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """

        def once() -> bytes:
            headers = {"Range": f"bytes=0-{size_bytes - 1}"}
            passed = frozenset({206})
            with self._open(
                "GET", url, headers=headers, login=NO_LOGIN, passed=passed, what=what
            ) as response:
                body = bytearray()
                for chunk in _chunks(response):
                    body += chunk
                    if len(body) >= size_bytes:
                        break
                return bytes(body[:size_bytes])

        return self._retry(url, what, once)

    def save(self, url: str, file: Path, *, largest_bytes: int, what: str, login: Login = NO_LOGIN) -> None:
        """Write the whole of something whose SHA-256 is not known into a file; from its start with each try.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """

        def once() -> None:
            with (
                self._open("GET", url, headers={}, login=login, passed=frozenset(), what=what) as response,
                file.open("wb") as stream,
            ):
                for chunk in _chunks(response):
                    stream.write(chunk)
                    if stream.tell() > largest_bytes:
                        raise _too_long(url, what, largest_bytes)

        self._retry(url, what, once)

    def download(
        self,
        url: str,
        *,
        digest: Digest,
        size_bytes: int,
        store: Store,
        what: str,
        login: Login = NO_LOGIN,
        on_bytes: Callable[[int], None] = lambda _count: None,
        on_present: Callable[[int], None] = lambda _count: None,
        check: Callable[[Partial], None] = lambda _partial: None,
    ) -> None:
        """Bring an object into the store; go on where an earlier download stopped.

        ``on_present`` is told once how much an earlier run had left; ``on_bytes`` of every further piece
        (negative: taken back). ``check`` sees the whole, verified file before it enters the store; what it
        raises keeps the file out.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError, StoreError; and
        what ``check`` does.
        """
        with store.open_partial(digest) as partial:
            if partial.offset > size_bytes:
                partial.restart()
            was_resumed = partial.offset > 0
            on_present(partial.offset)
            source = _Source(url=url, what=what, login=login, on_bytes=on_bytes)
            self._fill(source, partial, size_bytes)
            if not partial.is_good and was_resumed:
                on_bytes(-partial.offset)
                partial.restart()
                self._fill(source, partial, size_bytes)
            if partial.is_good:
                check(partial)
            try:
                partial.commit()
            except IntegrityError as exc:
                raise IntegrityError(
                    f"{what}: the bytes received are not the ones that the lock names",
                    details=f"{exc.details}; from {shown_url(url)}",
                    resolution=FIND_OUT_WHY,
                ) from exc

    def _fill(self, source: _Source, partial: Partial, size_bytes: int) -> None:
        """Append to the partial file until it has the size; whoever progresses gets new tries."""
        reached = partial.offset

        def has_progressed() -> bool:
            nonlocal reached
            before, reached = reached, partial.offset
            return partial.offset > before

        if partial.offset < size_bytes:
            self._retry(
                source.url,
                source.what,
                lambda: self._fill_once(source, partial, size_bytes),
                has_progressed=has_progressed,
            )

    def _fill_once(self, source: _Source, partial: Partial, size_bytes: int) -> None:
        with self._open(
            "GET",
            source.url,
            headers={"Range": f"bytes={partial.offset}-"} if partial.offset else {},
            login=source.login,
            passed=frozenset({206, 416}),
            what=source.what,
        ) as response:
            start = f"bytes {partial.offset}-"
            is_continued = response.status_code == 206 and response.headers.get(
                "Content-Range", ""
            ).startswith(start)
            if partial.offset and not is_continued:
                source.on_bytes(-partial.offset)
                partial.restart()
            if response.status_code != 200 and not is_continued:
                raise RetryError(f"answers {response.status_code} where a part was asked for")
            _check_length(response, partial.offset, size_bytes, source)
            for chunk in _chunks(response):
                if partial.offset + len(chunk) > size_bytes:
                    raise _wrong_length(source, size_bytes, "more")
                partial.write(chunk)
                source.on_bytes(len(chunk))
        if partial.offset < size_bytes:
            raise RetryError("closed the connection early")

    def _retry(
        self,
        url: str,
        what: str,
        once: Callable[[], T],
        *,
        has_progressed: Callable[[], bool] = lambda: False,
    ) -> T:
        """Call until it succeeds; a host that never answered gets fewer tries than one that did.

        A host that asks for more patience than ``LONGEST_WAIT_S`` is given up at once.
        """
        host = host_of(url)
        failed = 0
        waited_s = 0.0
        if host in self._absent:
            raise gave_up(url, what, self._absent[host], 0)
        while True:
            try:
                return once()
            except RetryError as exc:
                if has_progressed():
                    failed, waited_s = 0, 0.0
                failed += 1
                is_known = host in self._known_hosts
                seconds = pause_s(failed, exc.retry_after_s)
                waited_s += seconds
                if failed >= (self._tries if is_known else FIRST_CONTACT_TRIES) or waited_s > LONGEST_WAIT_S:
                    if not is_known:
                        self._absent[host] = exc
                    raise gave_up(url, what, exc, failed) from exc
                self._wait(url, exc, seconds)

    def _wait(self, url: str, exc: RetryError, seconds: float) -> None:
        """Wait before another try; say so, once for all threads, when it takes long or the host asks for it."""
        host, now = host_of(url), time.monotonic()
        is_long = seconds >= (1.0 if exc.status == 429 else _SAID_PAUSE_S)
        if is_long and self._said.get(host, 0.0) <= now:
            self._said[host] = now + seconds
            say_wait(url, exc, seconds)
        self._pause(seconds)

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        login: Login,
        passed: frozenset[int],
        what: str,
        form: Mapping[str, str] | None = None,
    ) -> Iterator[requests.Response]:
        """Ask, and give the answer with its body still to be read; once more where a login can be renewed.

        Raises: RetryError for what another try may mend, now and while the body is read; else an error for
        people.
        """
        self._resolve(url)
        header = login.header()
        try:
            with self._send(method, url, headers, header, form) as response:
                if response.status_code != 401 or response.history:
                    yield self._checked(response, url, what, passed)
                    return
                challenge = response.headers.get("WWW-Authenticate", "")
                if not login.renew(header, challenge):
                    yield self._checked(response, url, what, passed)
                    return
            with self._send(method, url, headers, login.header(), form) as response:
                yield self._checked(response, url, what, passed)
        except requests.exceptions.SSLError as exc:
            if not _is_untrusted(exc):
                raise RetryError(_reason(exc)) from exc
            raise NetworkError(
                f"the certificate of {host_of(url)} is not trusted",
                details=f"{_reason(exc)}; url: {shown_url(url)}",
                resolution="a proxy that opens TLS, or a site's own authority, needs its CA in the system's store, "
                "or in the file that REQUESTS_CA_BUNDLE or SSL_CERT_FILE names",
            ) from exc
        except requests.exceptions.RequestException as exc:
            if isinstance(exc, (ValueError, requests.exceptions.TooManyRedirects)):
                raise NetworkError(
                    f"cannot ask {host_of(url)}",
                    details=f"{type(exc).__name__}; url: {shown_url(url)}",
                    resolution="correct the address",
                ) from exc
            raise RetryError(_reason(exc)) from exc

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        form: Mapping[str, str] | None,
    ) -> requests.Response:
        certificate = self._client_certificate(url)
        try:
            return self._session().request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **headers},
                auth=None if authorization is None else Authorization(authorization),
                data=form,
                timeout=(self._connect_timeout_s, READ_TIMEOUT_S),
                stream=True,
                cert=certificate,
            )
        except ValueError as exc:
            if isinstance(exc, requests.exceptions.RequestException):
                raise
            raise NetworkError(
                f"{host_of(url)} leads to an address that cannot be read",
                details=f"{exc}; asked: {shown_url(url)}",
                resolution="see whether a proxy stands between, or use a mirror",
            ) from exc

    def _client_certificate(self, url: str) -> tuple[str, str] | None:
        """Return the files that a profile names for an address. Raises: CredentialsError when one is not there."""
        for base_url in sorted(self._client_certificates, key=len, reverse=True):
            if url.startswith(base_url):
                certificate, key = self._client_certificates[base_url]
                for file in (certificate, key):
                    if not file.is_file():
                        raise CredentialsError(
                            f"the client certificate for {base_url} cannot be read",
                            details=f"there is no file {file}",
                            resolution="correct client_certificate and client_key in the profile",
                        )
                return str(certificate), str(key)
        return None

    def _checked(
        self, response: requests.Response, url: str, what: str, passed: frozenset[int]
    ) -> requests.Response:
        """Return an answer that is a success, or one that the caller passes. Raises: see :meth:`_open`."""
        self._known_hosts.add(host_of(url))
        _check_redirects(response, url)
        # Bytes are wanted as they are stored: some servers declare a .gz file to be gzip-encoded.
        response.raw.headers.pop("Content-Encoding", None)
        if response.status_code != 200 and response.status_code not in passed:
            answer = Answer(
                status=response.status_code,
                reason=response.reason or "",
                headers=response.headers,
                beginning=next(response.iter_content(_REFUSAL_BYTES), b""),
            )
            check_answer(answer, url, what)
        return response

    def _resolve(self, url: str) -> None:
        """Have the name of a host resolved once, within a time that resolvers do not keep by themselves.

        Raises: RetryError. With a proxy the name is the proxy's business.
        """
        host = urlsplit(url).hostname or ""
        if host in self._resolved or requests.utils.select_proxy(
            url, requests.utils.get_environ_proxies(url)
        ):
            return
        reasons: list[str] = []

        def resolve() -> None:
            try:
                socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as exc:
                reasons.append(str(exc))

        thread = threading.Thread(target=resolve, name=f"resolve {host}", daemon=True)
        thread.start()
        thread.join(RESOLVE_TIMEOUT_S)
        if thread.is_alive():
            reasons.append(f"its name is not resolved within {RESOLVE_TIMEOUT_S:g} s")
        if reasons:
            raise RetryError(reasons[0])
        self._resolved.add(host)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = Session(self._user_agent)
            self._local.session = session
        return session


def _too_long(url: str, what: str, largest_bytes: int) -> NetworkError:
    return NetworkError(
        f"{what or 'the answer'} is longer than it may be",
        details=f"{host_of(url)} sends more than {largest_bytes} bytes; url: {shown_url(url)}",
        resolution="see what the address gives; a damaged mirror, or a portal in the way of the network?",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a download comes from and who watches it."""

    url: str
    what: str
    login: Login
    on_bytes: Callable[[int], None]


def _check_length(response: requests.Response, offset: int, size_bytes: int, source: _Source) -> None:
    """Refuse an answer whose announced length cannot make the object: no further try would mend that."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and offset + int(announced) != size_bytes:
        raise _wrong_length(source, size_bytes, str(offset + int(announced)))


def _wrong_length(source: _Source, size_bytes: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"{source.what}: upstream has another number of bytes than the lock names",
        details=f"expected {size_bytes} bytes, it has {found}; from {shown_url(source.url)}",
        resolution=FIND_OUT_WHY,
    )


def _check_redirects(response: requests.Response, url: str) -> None:
    """Refuse an answer that was redirected from TLS to plain HTTP: nothing vouches for it any more."""
    plain = [step.url for step in (*response.history, response) if not step.url.startswith("https://")]
    if url.startswith("https://") and plain:
        raise NetworkError(
            f"{host_of(url)} redirects to an address without TLS",
            details=f"{shown_url(url)} leads to {shown_url(plain[0])}",
            resolution="use a mirror that stays with https://",
        )


def _chunks(response: requests.Response) -> Iterator[bytes]:
    yield from response.iter_content(CHUNK_BYTES)


def _is_untrusted(exc: BaseException) -> bool:
    """Say whether a failure of TLS is about trust: another try would not mend that."""
    inner: BaseException | None = exc
    while inner is not None:
        words = (*inner.args, getattr(inner, "reason", None))
        if any(isinstance(word, ssl.SSLCertVerificationError) for word in (inner, *words)):
            return True
        inner = inner.__cause__ or inner.__context__
    return False


def _reason(exc: BaseException) -> str:
    """Return the words of the innermost cause: the outer ones repeat the address."""
    while True:
        inner = exc.__cause__ or exc.__context__
        if inner is None:
            break
        exc = inner
    return str(exc) or type(exc).__name__
