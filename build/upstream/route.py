# SPDX-License-Identifier: Apache-2.0
"""Ask the kernel whether there is a way to an address, without sending anything."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def has_route(url: str) -> bool:
    """Say whether the kernel knows a way to a URL's address. A name is left to be found out.

    In an empty network namespace there is none even to loopback.
    """
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), parts.port or 80))
        except OSError:
            return False
    return True
