# SPDX-License-Identifier: Apache-2.0
"""The keys with which the tests of signatures sign: that of a repository, and another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.build.signers import Signer, signer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """Yield the key that a repository names."""
    with signer(tmp_path_factory.mktemp("keys"), "good") as made:
        yield made


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """Yield a key that no repository names."""
    with signer(tmp_path_factory.mktemp("keys"), "foreign") as made:
        yield made
