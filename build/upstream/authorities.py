# SPDX-License-Identifier: Apache-2.0
"""Find the certificate authorities to trust: the ones that the rest of this machine trusts."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from build.base.errors import NetworkError

_FILE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_DIRECTORY_VARIABLE = "SSL_CERT_DIR"
#: Where systems keep their authorities as one file. Source: Go's crypto/x509, root_linux.go.
SYSTEM_FILES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)


def trusted_authorities(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the file or directory of the authorities to trust; None where the system has none.

    What the environment names comes first, as for curl and OpenSSL; then the system's own store.

    Raises: NetworkError when a variable names something that is not there.
    """
    for name in (*_FILE_VARIABLES, _DIRECTORY_VARIABLE):
        given = environment.get(name)
        if not given:
            continue
        found = [path for path in given.split(os.pathsep) if os.path.exists(path)]  # noqa: PTH110 - as it is given
        if not found:
            raise NetworkError(
                f"{name} names certificate authorities that are not there",
                details=f"{name}={given}",
                resolution=f"correct {name}, or unset it: then the system's own store is used",
            )
        return found[0]
    for file in (_default_file(), *SYSTEM_FILES):
        if file is not None and file.is_file() and file.stat().st_size:
            return str(file)
    return ssl.get_default_verify_paths().capath


def _default_file() -> Path | None:
    """Return the file that this Python's OpenSSL takes."""
    named = ssl.get_default_verify_paths().cafile
    return Path(named) if named else None
