# SPDX-License-Identifier: Apache-2.0
"""What the tests of several folders of the builder start from: a key, and a site that can be locked and fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.build.fakesite import Site, fake_site
from tests.unit.build.signers import Signer, signer


@pytest.fixture(scope="module")
def main_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """Yield the key of the site's repositories."""
    with signer(tmp_path_factory.mktemp("keys"), "main") as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, main_key: Signer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Yield a site, with a server of its own, whatever logins the user has."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no-auth.json"))
    with fake_site(tmp_path / "site", main_key) as made:
        yield made
