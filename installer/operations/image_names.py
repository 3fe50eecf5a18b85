# SPDX-License-Identifier: Apache-2.0
"""Read the names of images as containerd and Docker do, and say under which path the site's registry keeps them.

The rule is that of nginx' map ``$oci_name`` (build/bundle/nginxmaps.py): the whole name, the registry's first, in one
spelling. A name that begins with one of the media server's own has no registry: it is the site's own.
Source: distribution/reference, ``ParseDockerRef``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from installer.base.errors import UsageError

DOCKER = "docker.io"
DOCKER_NAMES = (DOCKER, "index.docker.io", "registry-1.docker.io")
DEFAULT_TAG = "latest"
MAX_LENGTH = 255
"""Of a stored name. Source: distribution/reference, ``RepositoryNameTotalLengthMax``."""
_LABEL = "[a-z0-9]+(?:-+[a-z0-9]+)*"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
_PART = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(f"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_STORED_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)__([0-9]{{1,5}})")
DIGEST = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageName:
    """The name of an image: ``registry`` is empty for the site's own; ``digest`` is set when it is named by that."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def path(self) -> str:
        """Return the name under which a registry keeps it, without its tag.

        >>> ImageName("registry.site:5555", "app", "1").path
        'registry.site__5555/app'
        """
        return "/".join(part for part in (self.registry.replace(":", "__"), self.repository) if part)

    @property
    def reference(self) -> str:
        """Return what follows the name: the tag, or the digest."""
        return self.digest or self.tag

    def said(self, own: str = "") -> str:
        """Return it as a pod names it; ``own`` is the media server's name, for the site's own images."""
        registry = self.registry or own
        name = f"{registry}/{self.repository}" if registry else self.repository
        return f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"


def parse(text: str, *, own_names: Collection[str] = ()) -> ImageName:
    """Read the name of an image; what has no registry is Docker's, what has no tag is ``latest``.

    >>> parse("nginx").said()
    'docker.io/library/nginx:latest'
    >>> parse("10.0.0.1:8555/site/app:1", own_names=["10.0.0.1:8555"])
    ImageName(registry='', repository='site/app', tag='1', digest='')

    Raises:
        UsageError: it is no such name.
    """
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    last, colon, tag = tail.partition(":")
    registry, repository = _split(f"{head}{slash}{last}")
    registry, repository = ("", repository) if registry in own_names else _spelled(registry, repository)
    name = ImageName(registry, repository, "" if digest else tag or DEFAULT_TAG, digest)
    faults = [
        fault
        for fault, is_one in (
            ("the registry's name", bool(registry) and not _HOST.fullmatch(registry)),
            ("the name", not _REPOSITORY.fullmatch(repository) or len(name.path) > MAX_LENGTH),
            ("the tag", bool(colon) and not _TAG.fullmatch(tag)),
            ("the digest", "@" in text and not DIGEST.fullmatch(digest)),
        )
        if is_one
    ]
    if faults:
        raise UsageError(
            f"{text!r} is not the name of an image",
            details=f"{' and '.join(faults)} cannot be such a one",
            resolution="write REGISTRY/NAME:TAG in small letters, like quay.io/vendor/app:1",
        )
    return name


def of_path(path: str, tag: str) -> ImageName:
    """Return the name that a registry keeps under this path; a path without a registry is the site's own.

    >>> of_path("registry.site__5555/app", "1").said()
    'registry.site:5555/app:1'
    """
    first, _, rest = path.partition("/")
    stored = _STORED_HOST.fullmatch(first)
    if rest and stored:
        return ImageName(f"{stored.group(1)}:{stored.group(2)}", rest, tag)
    if rest and _is_host(first):
        return ImageName(first, rest, tag)
    return ImageName("", path, tag)


def is_stored(path: str, tag: str) -> bool:
    """Say whether a registry can keep an image under this path and tag.

    >>> is_stored("registry.site__5555/app", "1"), is_stored("app/../x", "1"), is_stored("app", "1?a")
    (True, False, False)
    """
    return bool(_REPOSITORY.fullmatch(path)) and len(path) <= MAX_LENGTH and bool(_TAG.fullmatch(tag))


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"


def _split(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    if rest and _STORED_HOST.fullmatch(first):
        first = first.replace("__", ":")
    return (first, rest) if rest and _is_host(first) else (DOCKER, name)


def _spelled(registry: str, repository: str) -> tuple[str, str]:
    if registry not in DOCKER_NAMES:
        return registry, repository
    return DOCKER, repository if "/" in repository else f"library/{repository}"
