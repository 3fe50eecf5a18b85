# SPDX-License-Identifier: Apache-2.0
"""Names of images as people and runtimes write them."""

from __future__ import annotations

import dataclasses
import re

from typing_extensions import override

_DOCKER = "docker.io"
# Other names that tools write for the same registry. Source: distribution/reference, "legacyDefaultDomain".
_DOCKER_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_REGISTRY = re.compile(rf"(?=[^:]{{1,253}}(?::|$)){_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST_NAME = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """An image name with its tag: ``registry.k8s.io/pause:3.10.2``."""

    registry: str
    repository: str
    tag: str

    @override
    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a full name with tag; the one thing completed is Docker's ``library/``.

        Source: distribution/reference, grammar and "familiar names".

        >>> str(Reference.parse("docker.io/nginx:1.30"))
        'docker.io/library/nginx:1.30'

        Raises: ValueError, saying which part is missing or wrong.
        """
        shown = f"image reference {text!r}"
        name, _, tag = text.rpartition(":")
        if "@" in text:
            raise ValueError(f"{shown} has a digest: write a tag, the lock holds the digest")
        if not name or "/" in tag:
            raise ValueError(f"{shown} has no tag")
        registry, _, repository = name.partition("/")
        if not repository or not is_registry(registry):
            hint = f"; did you mean {completed(text)!r}?" if _REPOSITORY.fullmatch(name) else ""
            raise ValueError(f"{shown} does not start with the host of its registry{hint}")
        if not _TAG.fullmatch(tag):
            raise ValueError(f"{shown} has a bad tag")
        registry, repository = normal_name(registry, repository)
        _check_registry(registry, shown)
        if not _REPOSITORY.fullmatch(repository) or len(registry) + len(repository) >= _LONGEST_NAME:
            raise ValueError(f"{shown} has a bad name")
        return cls(registry=registry, repository=repository, tag=tag)


def _check_registry(registry: str, shown: str) -> None:
    """Check the host of a registry: it goes into addresses and into the maps of nginx. Raises: ValueError."""
    if not _REGISTRY.fullmatch(registry):
        hint = ": write it in small letters" if _REGISTRY.fullmatch(registry.lower()) else ""
        raise ValueError(f"{shown} has a bad registry host{hint}")
    port = registry.partition(":")[2]
    if port and not 0 < int(port) < 1 << 16:
        raise ValueError(f"{shown} has a bad registry port")


def registry_host(text: str) -> str:
    """Return the host of a registry when it is one, ``host[:port]``.

    Raises: ValueError.
    """
    _check_registry(text, f"registry {text!r}")
    return text


def is_registry(first: str) -> bool:
    """Say whether the first part of a name is a registry's host, as runtimes decide it.

    >>> is_registry("quay.io"), is_registry("localhost"), is_registry("calico")
    (True, True, False)
    """
    return "." in first or ":" in first or first == "localhost"


def normal_name(registry: str, repository: str) -> tuple[str, str]:
    """Return registry and repository as they are pulled: Docker's one-part names are in ``library/``.

    >>> normal_name("index.docker.io", "nginx"), normal_name("quay.io", "nginx")
    (('docker.io', 'library/nginx'), ('quay.io', 'nginx'))
    """
    registry = _DOCKER if registry in _DOCKER_ALIASES else registry
    if registry == _DOCKER and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def completed(text: str) -> str:
    """Return a reference as runtimes complete it: with registry, ``library/`` and tag.

    >>> completed("nginx"), completed("quay.io/calico/node:v3"), completed("a/b@sha256:00")
    ('docker.io/library/nginx:latest', 'quay.io/calico/node:v3', 'docker.io/a/b@sha256:00')
    """
    first, slash, rest = text.partition("/")
    registry, repository = (first, rest) if slash and is_registry(first) else (_DOCKER, text)
    full = "/".join(normal_name(registry, repository))
    if "@" not in full and ":" not in full.rsplit("/", 1)[1]:
        full += ":latest"
    return full
