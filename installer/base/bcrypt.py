# SPDX-License-Identifier: Apache-2.0
"""Hash a password as bcrypt, by the C library's own crypt(3): Python has no hash that a registry reads.

Source: crypt(5), "bcrypt"; libxcrypt, which EL 9 has under the first of the names and Debian under the second.
"""

from __future__ import annotations

import ctypes
import secrets

from installer.base.errors import HostError

LIBRARIES = ("libcrypt.so.2", "libcrypt.so.1")
DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SALT_LENGTH = 22
LAST_DIGITS = ".Oeu"
"""Of the last digit of a salt of 128 bits two bits count."""
HASH_LENGTH = 60


def hash_password(password: str, *, cost: int) -> str:
    """Return the bcrypt hash of a password, with a salt of its own; 2 to the power of ``cost`` rounds.

    Raises:
        HostError: this host's C library has no bcrypt.
    """
    salt = "".join(secrets.choice(DIGITS) for _ in range(SALT_LENGTH - 1)) + secrets.choice(LAST_DIGITS)
    return _crypt(password, f"$2b${cost:02d}${salt}")


def is_password(password: str, hashed: str) -> bool:
    """Say whether ``hashed`` is the bcrypt hash of this password; what is no such hash is of none.

    Raises:
        HostError: this host's C library has no bcrypt.
    """
    if len(hashed) != HASH_LENGTH or not hashed.startswith("$2"):
        return False
    try:
        return secrets.compare_digest(_crypt(password, hashed).encode(), hashed.encode())
    except HostError:
        return False


def _crypt(password: str, setting: str) -> str:
    library = _library()
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    said: bytes = library.crypt(password.encode(), setting.encode()) or b""
    if len(said) != HASH_LENGTH:
        raise HostError(
            "this host's crypt(3) makes no bcrypt hash",
            details=f"it answered {said.decode(errors='replace')!r}",
            resolution="check that the package libxcrypt is installed whole: rpm --verify libxcrypt",
        )
    return said.decode("ascii")


def _library() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise HostError(
        "this host has no library of crypt(3)",
        details=f"looked for {', '.join(LIBRARIES)}",
        resolution="install the package libxcrypt",
    )
