# SPDX-License-Identifier: Apache-2.0
"""What a neighbour is called; that it gets packets across is tested in tests/node."""

from __future__ import annotations

import pytest

from lab.errors import LabError
from lab.neighbour import Neighbour
from lab.places import CONTROL_PLANE


def neighbour(name: str) -> Neighbour:
    """Return a neighbour that is not connected."""
    return Neighbour(lab="demo", name=name, plane=CONTROL_PLANE, address="198.18.1.2/24")


def test_it_is_found_by_the_name_of_its_lab() -> None:
    one = neighbour("outside")
    assert (one.key, one.source) == ("caisson-demo-outside", "198.18.1.2")


@pytest.mark.parametrize("name", ["", "Out", "out-side", "node1", "switch", "muchtoolong"])
def test_a_name_that_makes_no_cable_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="no name for a neighbour"):
        neighbour(name).connect()
