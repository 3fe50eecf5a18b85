# SPDX-License-Identifier: Apache-2.0
"""Look where the control plane's virtual address is, from this host."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from installer.base.run import run
from installer.operations.asking import COMMAND_LIMIT_S

CONNECT_LIMIT_S = COMMAND_LIMIT_S / 2


def control_planes(known: Mapping[str, Any]) -> dict[str, str]:
    """Return name and address of the control planes, from what Salt was given last."""
    return {str(entry["name"]): str(entry["address"]) for entry in known.get("control_planes", ())}


def is_here(address: str) -> bool:
    """Tell whether an address is one of this host's interfaces'."""
    words = ["ip", "-oneline", "address", "show", "to", address]
    return bool(run(words, timeout_s=COMMAND_LIMIT_S, check=False).stdout.strip())


def certificate(address: str, port: int) -> bytes:
    """Return the certificate that is shown there, empty without an answer. Nothing of it is trusted."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), timeout=CONNECT_LIMIT_S) as connection:
            connection.settimeout(CONNECT_LIMIT_S)
            with context.wrap_socket(connection) as encrypted:
                return encrypted.getpeercert(binary_form=True) or b""
    except OSError:
        return b""
