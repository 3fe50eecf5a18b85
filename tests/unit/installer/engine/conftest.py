# SPDX-License-Identifier: Apache-2.0
"""What the tests of other hosts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.installer import sshd
from tests.unit.installer.sshd import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Yield a real sshd on loopback; needs root."""
    with sshd.serving() as running:
        yield running
