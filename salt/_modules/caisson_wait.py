# SPDX-License-Identifier: Apache-2.0
"""Probes of a service on this host: a TCP port that accepts, an HTTPS URL that answers 200."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.parse

# X509_V_FLAG_PARTIAL_CHAIN of OpenSSL; Python has its name from 3.10 on.
PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)


def probe_tcp(host: str, port: int) -> str:
    """Return "" when ``host:port`` accepts a connection, else why not."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return ""
    except OSError as error:
        return f"{host}:{port}: {error}"


def probe_url(url: str, ca_file: str = "") -> str:
    """Return "" when ``url`` answers 200, else why not. The certificate must be valid for the CA in ``ca_file``."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        return f"{url}: no host in the URL"
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=5, context=_context(ca_file)
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        body = response.read(300).decode(errors="replace")
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    return "" if response.status == 200 else f"{url}: HTTP {response.status} {body}"


def _context(ca_file: str) -> ssl.SSLContext:
    """Return a context that asks the same of a certificate on every Python: a readiness probe checks no RFC.

    The authority of a site may be one that another has issued, which is no root (PARTIAL_CHAIN). Python sets both
    flags by default from 3.13 on. Source: docs of ssl.create_default_context.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.verify_flags |= PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
