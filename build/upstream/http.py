# SPDX-License-Identifier: Apache-2.0
"""The builder's door to the network: HTTP with retries, resumption and errors that name the host.

Proxies, netrc and certificates of the environment are honoured (by requests). Only lock and fetch use this
module; besides it they reach the network through skopeo and pip.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import requests.utils
from requests.auth import AuthBase
from typing_extensions import override

from build.base.errors import (
    BuildError,
    CredentialsError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    SignatureError,
)
from build.inventory.model import Digest
from build.store.objects import Partial, Store

T = TypeVar("T")
Mirror = TypeVar("Mirror")

# What a cut connection loses at most: the client library drops a piece that did not come whole.
CHUNK_BYTES = 1 << 15
CONNECT_TIMEOUT_S = 4.0
RESOLVE_TIMEOUT_S = 6.0
READ_TIMEOUT_S = 30.0
FIRST_CONTACT_TRIES = 2
TRIES = 6
LONGEST_PAUSE_S = 60.0

_RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_LARGEST_BODY_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Response:
    """An answer with its whole body. Names of headers are in lower case."""

    status: int
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
                f"{f'{mirror}: ' if isinstance(mirror, str) else ''}{exc.message}: {exc.details}"
                for mirror, exc in zip(mirrors, failed, strict=True)
            ),
            resolution=gravest.resolution,
        ) from gravest
    raise gravest


def _is_damage(exc: BuildError) -> bool:
    return isinstance(exc, IntegrityError)


class _Authorization(AuthBase):
    """Send one Authorization header, or none: requests would put netrc's over a header given by hand."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    @override
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class HttpClient:
    """HTTP for the threads of one run; each thread has its own connections."""

    def __init__(
        self, *, tries: int = TRIES, pause: Callable[[float], None] = time.sleep, user_agent: str = "caisson"
    ) -> None:
        self._tries = tries
        self._pause = pause
        self._user_agent = user_agent
        self._local = threading.local()
        self._known_hosts: set[str] = set()
        self._resolved: set[str] = set()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        passed: frozenset[int] = frozenset(),
        what: str = "",
        largest_bytes: int = _LARGEST_BODY_BYTES,
    ) -> Response:
        """Ask once for small content, with retries.

        ``passed`` are statuses, besides those of success, that the caller handles itself. ``what`` names the
        thing in errors. A body of more than ``largest_bytes`` is refused.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """

        def once() -> Response:
            with self._open(
                method, url, headers=headers or {}, authorization=authorization, passed=passed, what=what
            ) as response:
                body = bytearray()
                for chunk in _chunks(response):
                    body += chunk
                    if len(body) > largest_bytes:
                        raise _too_long(url, what, largest_bytes)
                found = {name.lower(): value for name, value in response.headers.items()}
                return Response(status=response.status_code, headers=found, body=bytes(body))

        return self._retry(url, what, once)

    def beginning(self, url: str, size_bytes: int, *, what: str) -> bytes:
        """Return the first bytes of something large; fewer when there are no more.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """

        def once() -> bytes:
            headers = {"Range": f"bytes=0-{size_bytes - 1}"}
            passed = frozenset({206})
            with self._open(
                "GET", url, headers=headers, authorization=None, passed=passed, what=what
            ) as response:
                body = bytearray()
                for chunk in _chunks(response):
                    body += chunk
                    if len(body) >= size_bytes:
                        break
                return bytes(body[:size_bytes])

        return self._retry(url, what, once)

    def save(self, url: str, file: Path, *, largest_bytes: int, what: str) -> None:
        """Write the whole of something whose SHA-256 is not known into a file; from its start with each try.

        Raises: NotFoundError, CredentialsError, NetworkError.
        """

        def once() -> None:
            with (
                self._open(
                    "GET", url, headers={}, authorization=None, passed=frozenset(), what=what
                ) as response,
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
        authorize: Callable[[], str | None] = lambda: None,
        on_bytes: Callable[[int], None] = lambda _count: None,
        on_present: Callable[[int], None] = lambda _count: None,
        check: Callable[[Partial], None] = lambda _partial: None,
    ) -> None:
        """Bring an object into the store; go on where an earlier download stopped.

        ``on_present`` is told once how much an earlier run had left; ``on_bytes`` of every further piece
        (negative: taken back). ``check`` sees the whole, verified file before it enters the store; what it
        raises keeps the file out. ``authorize`` gives the Authorization header for each try.

        Raises: IntegrityError, NotFoundError, CredentialsError, NetworkError, StoreError; and
        what ``check`` does.
        """
        with store.open_partial(digest) as partial:
            if partial.offset > size_bytes:
                partial.restart()
            was_resumed = partial.offset > 0
            on_present(partial.offset)
            source = _Source(url=url, what=what, authorize=authorize, on_bytes=on_bytes)
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
                    details=f"{exc.details}; from {url}",
                    resolution="try again; when it stays so, upstream has changed it: run 'doit lock'",
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
            authorization=source.authorize(),
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
                raise _RetryError(f"answers {response.status_code} where a part was asked for")
            _check_length(response, partial.offset, size_bytes, source)
            for chunk in _chunks(response):
                if partial.offset + len(chunk) > size_bytes:
                    raise _wrong_length(source, size_bytes, "more")
                partial.write(chunk)
                source.on_bytes(len(chunk))
        if partial.offset < size_bytes:
            raise _RetryError("closed the connection early")

    def _retry(
        self,
        url: str,
        what: str,
        once: Callable[[], T],
        *,
        has_progressed: Callable[[], bool] = lambda: False,
    ) -> T:
        """Call until it succeeds; a host that never answered gets fewer tries than one that did."""
        failed = 0
        while True:
            try:
                return once()
            except _RetryError as exc:
                failed = 1 if has_progressed() else failed + 1
                tries = self._tries if _host(url) in self._known_hosts else FIRST_CONTACT_TRIES
                if failed >= tries:
                    raise _gave_up(url, what, exc, failed) from exc
                self._pause(_pause_s(failed, exc.retry_after_s))

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        authorization: str | None,
        passed: frozenset[int],
        what: str,
    ) -> Iterator[requests.Response]:
        """Ask, and give the answer with its body still to be read.

        Raises: _RetryError for what another try may mend, now and while the body is read; else an error for
        people.
        """
        self._resolve(url, what)
        try:
            with self._session().request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **headers},
                auth=None if authorization is None else _Authorization(authorization),
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                stream=True,
            ) as response:
                self._known_hosts.add(_host(url))
                _check_redirects(response, url)
                _check_status(response, url, what, passed)
                # Bytes are wanted as they are stored: some servers declare a .gz file to be gzip-encoded.
                response.raw.headers.pop("Content-Encoding", None)
                yield response
        except requests.exceptions.SSLError as exc:
            raise NetworkError(
                f"the certificate of {_host(url)} is not trusted",
                details=f"{_reason(exc)}; url: {url}",
                resolution="a proxy that opens TLS needs its CA in REQUESTS_CA_BUNDLE or the system's store",
            ) from exc
        except requests.exceptions.RequestException as exc:
            if isinstance(exc, (ValueError, requests.exceptions.TooManyRedirects)):
                raise NetworkError(
                    f"cannot ask {_host(url)}", details=f"{exc}; url: {url}", resolution="correct the address"
                ) from exc
            raise _RetryError(_reason(exc)) from exc

    def _resolve(self, url: str, what: str) -> None:
        """Have the name of a host resolved once, within a time that resolvers do not keep by themselves.

        Raises: NetworkError. With a proxy the name is the proxy's business.
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
            raise unreachable(url, reasons[0], what, 1)
        self._resolved.add(host)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.headers["User-Agent"] = self._user_agent
            self._local.session = session
        return session


def _too_long(url: str, what: str, largest_bytes: int) -> NetworkError:
    return NetworkError(
        f"{what or 'the answer'} is longer than it may be",
        details=f"{_host(url)} sends more than {largest_bytes} bytes; url: {url}",
        resolution="see what the address gives; a damaged mirror, or a portal in the way of the network?",
    )


def unreachable(url: str, reason: str, what: str, tries: int) -> NetworkError:
    """Return the error for a host that cannot be reached at all."""
    about = f" for {what}" if what else ""
    return NetworkError(
        f"cannot reach {_host(url)}",
        details=f"{reason}{about}; {tries} tries; url: {url}",
        resolution="check network and proxy settings, or name a mirror that can be reached: upstream=NAME",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a download comes from and who watches it."""

    url: str
    what: str
    authorize: Callable[[], str | None]
    on_bytes: Callable[[int], None]


def _check_length(response: requests.Response, offset: int, size_bytes: int, source: _Source) -> None:
    """Refuse an answer whose announced length cannot make the object: no further try would mend that."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and offset + int(announced) != size_bytes:
        raise _wrong_length(source, size_bytes, str(offset + int(announced)))


def _wrong_length(source: _Source, size_bytes: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"{source.what}: upstream has another number of bytes than the lock names",
        details=f"expected {size_bytes} bytes, it has {found}; from {source.url}",
        resolution="upstream has changed it, or the mirror is damaged: see why, then run 'doit lock'",
    )


class _RetryError(Exception):
    """Something that another try may mend."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.status = status


def _check_redirects(response: requests.Response, url: str) -> None:
    """Refuse an answer that was redirected from TLS to plain HTTP: nothing vouches for it any more."""
    plain = [step.url for step in (*response.history, response) if not step.url.startswith("https://")]
    if url.startswith("https://") and plain:
        raise NetworkError(
            f"{_host(url)} redirects to an address without TLS",
            details=f"{url} leads to {plain[0]}",
            resolution="use a mirror that stays with https://",
        )


def _check_status(response: requests.Response, url: str, what: str, passed: frozenset[int]) -> None:
    status = response.status_code
    if status == 200 or status in passed:
        return
    if status in _RETRIED_STATUS:
        raise _RetryError(
            f"answers {status} {response.reason}",
            retry_after_s=parse_retry_after(response.headers.get("Retry-After")),
            status=status,
        )
    name = what or url
    details = f"{_host(url)} answers {status} {response.reason}; url: {url}"
    if status in (404, 410):
        raise NotFoundError(
            f"upstream does not have {name}",
            details=details,
            resolution="check the version and the address in the inventory and the profile",
        )
    if status in (401, 403, 407):
        raise CredentialsError(
            f"upstream refuses {name}",
            details=details,
            resolution="log in (skopeo login, ~/.netrc, proxy settings), or check that the name exists",
        )
    raise NetworkError(
        f"cannot get {name}", details=details, resolution="see whether the upstream works as expected"
    )


def _gave_up(url: str, what: str, exc: _RetryError, failed: int) -> NetworkError:
    about = f" for {what}" if what else ""
    if exc.status == 429:
        return NetworkError(
            f"{_host(url)} asks us to slow down, and went on doing so",
            details=f"{exc.reason}{about}; {failed} tries; url: {url}",
            resolution="wait some minutes and run it again (what was fetched is kept), or log in",
        )
    if exc.status is not None:
        return NetworkError(
            f"{_host(url)} fails",
            details=f"{exc.reason}{about}; {failed} tries; url: {url}",
            resolution="try again later; what was fetched is kept",
        )
    return unreachable(url, exc.reason, what, failed)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or a date; None when it says nothing.

    >>> parse_retry_after("7")
    7.0
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, then.timestamp() - time.time())


def _pause_s(failed: int, retry_after_s: float | None) -> float:
    """Return how long to wait: what the host asks for, else twice as long each time, never in step."""
    if retry_after_s is not None:
        return min(retry_after_s, LONGEST_PAUSE_S)
    return float(min(0.5 * 2 ** (failed - 1), LONGEST_PAUSE_S) * random.uniform(0.8, 1.2))  # noqa: S311


def _chunks(response: requests.Response) -> Iterator[bytes]:
    yield from response.iter_content(CHUNK_BYTES)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _reason(exc: BaseException) -> str:
    """Return the words of the innermost cause: the outer ones repeat the address."""
    while True:
        inner = exc.__cause__ or exc.__context__
        if inner is None:
            break
        exc = inner
    return str(exc) or type(exc).__name__
