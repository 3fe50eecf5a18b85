# SPDX-License-Identifier: Apache-2.0
"""What answers of upstream mean for people: refusals, limits, servers that fail or are not there."""

from __future__ import annotations

import dataclasses
import email.utils
import random
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from build.base import ui
from build.base.errors import CredentialsError, NetworkError, NotFoundError

#: How long a host may have us wait, in all, for one thing.
LONGEST_WAIT_S = 600.0
_LONGEST_PAUSE_S = 60.0
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOGINS = "podman login, docker login or skopeo login; ~/.netrc for other servers"

# Stores of objects say 403 for what they lack, to all who may not list them.
# Source: Amazon S3, "GetObject", Permissions; the names of headers are those of S3, CloudFront and GCS.
_STORE_HEADERS = ("x-amz-request-id", "x-amz-id-2", "x-amz-cf-id", "x-guploader-uploadid")
_STORE_WORDS = re.compile(rb"<Code>(?:AccessDenied|NoSuchKey|AllAccessDisabled)</Code>")


class RetryError(Exception):
    """The request failed in a way that another try may mend."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """The head of an answer, and the first bytes of its body where it refuses."""

    status: int
    reason: str
    headers: Mapping[str, str]
    beginning: bytes = b""


def check_answer(answer: Answer, url: str, what: str) -> None:
    """Give an answer that is no success its class.

    Raises: RetryError, NotFoundError, CredentialsError, NetworkError.
    """
    status = answer.status
    if status in _RETRIED_STATUS:
        raise RetryError(
            f"answers {status} {answer.reason}",
            retry_after_s=parse_retry_after(answer.headers.get("Retry-After")),
            status=status,
        )
    name = what or shown_url(url)
    details = f"{host_of(url)} answers {status} {answer.reason}; url: {shown_url(url)}"
    if status in (404, 410):
        raise NotFoundError(
            f"upstream does not have {name}",
            details=details,
            resolution="check the version and the address in the inventory and the profile",
        )
    if status == 403 and _is_store(answer):
        raise NotFoundError(
            f"upstream does not have {name}, or gives it to nobody",
            details=f"{details}; a store of objects says 403 for what it lacks",
            resolution="check the version and the address in the inventory and the profile",
        )
    if status == 407:
        raise CredentialsError(
            "the proxy asks for a login",
            details=details,
            resolution="put user and password into the proxy's address: https_proxy=http://USER:PASSWORD@HOST",
        )
    if status in (401, 403):
        raise CredentialsError(
            f"upstream refuses {name}",
            details=details,
            resolution=f"check that the name exists, or log in ({_LOGINS})",
        )
    raise NetworkError(
        f"cannot get {name}", details=details, resolution="see whether the upstream works as expected"
    )


def _is_store(answer: Answer) -> bool:
    """Say whether an answer is that of a store of objects."""
    headers = {name.lower(): value.lower() for name, value in answer.headers.items()}
    is_named = any(name in headers for name in _STORE_HEADERS) or "amazons3" in headers.get("server", "")
    return is_named or bool(_STORE_WORDS.search(answer.beginning))


def gave_up(url: str, what: str, exc: RetryError, failed: int) -> NetworkError:
    """Make the error of a host that was asked often enough."""
    about = f" for {what}" if what else ""
    details = f"{exc.reason}{about}; {_tries_text(failed)}; url: {shown_url(url)}"
    if exc.status == 429:
        until = f"until {time_text(exc.retry_after_s)}" if exc.retry_after_s else "some minutes"
        return NetworkError(
            f"{host_of(url)} has a limit, and we are over it",
            details=details,
            resolution=f"log in ({_LOGINS}), or wait {until} and run it again: what was fetched is kept",
        )
    if exc.status is not None:
        until = f"after {time_text(exc.retry_after_s)}" if exc.retry_after_s else "later"
        return NetworkError(
            f"{host_of(url)} fails",
            details=details,
            resolution=f"try again {until}; what was fetched is kept",
        )
    return unreachable(url, exc.reason, what, failed)


def unreachable(url: str, reason: str, what: str, failed: int) -> NetworkError:
    """Make the error of a host that does not answer."""
    about = f" for {what}" if what else ""
    return NetworkError(
        f"cannot reach {host_of(url)}",
        details=f"{reason}{about}; {_tries_text(failed)}; url: {shown_url(url)}",
        resolution="check network and proxy settings (connect_timeout_s of the profile for a slow way), or name "
        "a mirror in reach: upstream=NAME",
    )


def _tries_text(failed: int) -> str:
    """Return how often it was tried; 0 stands for a host that was given up earlier in the run."""
    return {0: "it was tried before, in this run", 1: "1 try"}.get(failed, f"{failed} tries")


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or a date; None when it says nothing.

    >>> parse_retry_after("7")
    7.0
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        then = email.utils.parsedate_to_datetime(text)
        return max(0.0, then.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def pause_s(failed: int, retry_after_s: float | None) -> float:
    """Return how long to wait: what the host asks for, else twice as long each time, never in step."""
    if retry_after_s is not None:
        return retry_after_s
    return float(min(0.5 * 2 ** (failed - 1), _LONGEST_PAUSE_S) * random.uniform(0.8, 1.2))  # noqa: S311


def time_text(seconds: float) -> str:
    """Return the time of day that many seconds from now, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))


def say_wait(url: str, exc: RetryError, seconds: float) -> None:
    """Tell people that a host wants us to wait."""
    ui.note(f"{host_of(url)} {exc.reason}: waiting {ui.duration_text(seconds)}, until {time_text(seconds)}")


def host_of(url: str) -> str:
    """Return host and port of an address, without a login.

    >>> host_of("https://me:secret@repo.example.com:8443/x")
    'repo.example.com:8443'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def shown_url(url: str) -> str:
    """Return an address as it may be shown: without a login, and without what signs it.

    >>> shown_url("https://me:secret@repo.example.com/x?X-Signature=1")
    'https://repo.example.com/x?...'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "..." if parts.query else "", ""))
