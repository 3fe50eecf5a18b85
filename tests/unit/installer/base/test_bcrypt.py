# SPDX-License-Identifier: Apache-2.0
"""bcrypt by the C library: hashes that others made are read, and others read ours (tests/sls/test_media.py)."""

from __future__ import annotations

import pytest

from installer.base import bcrypt
from installer.base.errors import HostError

# Source: John the Ripper's and jBCrypt's test vectors, in the public domain.
VECTORS = (
    ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
    ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
)


@pytest.mark.parametrize(("password", "hashed"), VECTORS)
def test_known_hashes_are_of_their_passwords(password: str, hashed: str) -> None:
    assert bcrypt.is_password(password, hashed)
    assert not bcrypt.is_password(password + "x", hashed)


def test_a_hash_is_of_its_password_alone_and_no_two_are_alike() -> None:
    made = {bcrypt.hash_password("secret", cost=4) for _ in range(20)}
    assert len(made) == 20
    for hashed in made:
        assert hashed.startswith("$2b$04$")
        assert bcrypt.is_password("secret", hashed)
        assert not bcrypt.is_password("Secret", hashed)


@pytest.mark.parametrize(
    "hashed", ["", "*0", "$2b$04$short", "x" * 60, "$1$salt$qJH7.N4xYta3aEG/dfqo/0", "$2b$99$" + "." * 53]
)
def test_what_is_no_hash_is_of_no_password(hashed: str) -> None:
    assert not bcrypt.is_password("secret", hashed)
    assert not bcrypt.is_password("", hashed)


def test_a_host_without_the_library_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcrypt, "LIBRARIES", ("libnone.so.1",))
    with pytest.raises(HostError, match="no library of crypt") as caught:
        bcrypt.hash_password("secret", cost=4)
    assert "libxcrypt" in caught.value.resolution


def test_a_cost_that_there_is_not_is_no_hash() -> None:
    with pytest.raises(HostError, match="makes no bcrypt hash"):
        bcrypt.hash_password("secret", cost=99)
