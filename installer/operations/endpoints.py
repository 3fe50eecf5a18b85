# SPDX-License-Identifier: Apache-2.0
"""Ask the services of this host over the network, as nodes do: nginx and the registry."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.operations import containers
from installer.operations.asking import COMMAND_LIMIT_S, Fault

#: X509_V_FLAG_PARTIAL_CHAIN of OpenSSL; Python has its name from 3.10 on.
PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)
REGISTRY_PATH = "/v2/"
PACKAGES_PATH = "/repo/el9/repodata/repomd.xml"
#: A registry that asks for a log-in is one that answers.
REGISTRY_CODES = (200, 401)


@dataclass(frozen=True)
class Endpoint:
    """An address that must answer ``codes``; ``pod`` is who answers there."""

    name: str
    url: str
    codes: Sequence[int]
    pod: str
    needs_media: bool = False
    node: str = ""
    """The further node that answers there; empty for this host."""


@dataclass(frozen=True)
class EndpointState:
    """What an endpoint answered: "HTTP 200", or why there was no answer."""

    name: str
    url: str
    answer: str
    fault: Fault | None = None
    needs_media: bool = False


def endpoints(address: str, ports: Mapping[str, int]) -> tuple[Endpoint, ...]:
    """Return what must answer on a node at ``address``; ``ports``: name of the port table -> port."""
    media = f"https://{address}:{ports['media-https']}"
    push = f"https://{address}:{ports['registry-push']}"
    registry = f"http://127.0.0.1:{ports['registry']}"
    return (
        Endpoint("images", media + REGISTRY_PATH, REGISTRY_CODES, "nginx"),
        Endpoint("packages", media + PACKAGES_PATH, (200,), "nginx", needs_media=True),
        Endpoint("pushes of images", push + REGISTRY_PATH, REGISTRY_CODES, "nginx"),
        Endpoint("registry", registry + REGISTRY_PATH, REGISTRY_CODES, "registry"),
    )


def replica_endpoint(node: str, address: str, ports: Mapping[str, int]) -> Endpoint:
    """Return what must answer on a further control plane that serves packages and images."""
    url = f"https://{address}:{ports['media-https']}{PACKAGES_PATH}"
    return Endpoint(f"packages and images of {node}", url, (200,), "nginx", node=node)


def ask(endpoint: Endpoint, ca_file: Path) -> EndpointState:
    """Ask an endpoint; its certificate must be valid for the authority in ``ca_file``."""
    parts = urllib.parse.urlsplit(endpoint.url)
    try:
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                str(parts.hostname), parts.port, timeout=COMMAND_LIMIT_S, context=client_context(ca_file)
            )
        else:
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=COMMAND_LIMIT_S)
        try:
            connection.request("GET", parts.path)
            code = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as exc:
        return failed(endpoint, f"no answer: {exc}")
    if code not in endpoint.codes:
        return failed(endpoint, f"HTTP {code} instead of {endpoint.codes[0]}")
    return EndpointState(endpoint.name, endpoint.url, f"HTTP {code}")


def failed(endpoint: Endpoint, answer: str) -> EndpointState:
    """Return the state of an endpoint that did not answer as it must."""
    where = f" on {endpoint.node}" if endpoint.node else ""
    fix = f"see{where}: {containers.listing(endpoint.pod)}; and: {containers.log(endpoint.pod)}"
    fault = Fault(f"{endpoint.name}: {endpoint.url}: {answer}", fix)
    return EndpointState(endpoint.name, endpoint.url, answer, fault, endpoint.needs_media)


def client_context(ca_file: Path) -> ssl.SSLContext:
    """Return a context that asks the same of a certificate on every Python.

    A site's authority may be one that another has issued, which is no root (PARTIAL_CHAIN); a probe judges no
    RFC 5280 (X509_STRICT). Python sets both flags by default from 3.13 on. Source: docs of ssl.create_default_context.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context(cafile=str(ca_file))
    context.verify_flags |= PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
