# SPDX-License-Identifier: Apache-2.0
"""A change of the ISO in use is killed and gone on with; then back again, and the other ISO is removed.

On a copy of a kept disk, in the order written.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import kept
from lab.node import Lab, Node
from tests.node import second_iso
from tests.node.installing import lab_iso, shell
from tests.node.second_iso import SecondIso
from tests.node.test_media import FILE, caisson
from tests.node.test_media_use import API, in_use, use

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondIso]:
    """Return an ISO of another build of the same versions."""
    made = second_iso.make(lab_iso(), tmp_path_factory.mktemp("second"), has_clash=False)
    yield made
    made.iso.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def node(second: SecondIso) -> Iterator[Node]:
    """Yield a node that has the second ISO in use."""
    with Lab() as lab:
        node = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        assert str(node.attach_iso(second.iso)) == FILE
        caisson(node, "add", FILE)
        use(node, second.name)
        yield node


def test_a_use_that_is_killed_is_gone_on_with(node: Node, second: SecondIso) -> None:
    """Whatever it had done: the program of either ISO takes the command again."""
    own = second.own.full_version
    shell(node, f"(caisson media use {own} >/root/use.log 2>&1 &) ; sleep 6")
    listed = "systemctl list-units --plain --no-legend 'caisson-job*' | cut -d ' ' -f 1"
    for unit in shell(node, listed).split():
        shell(node, f"systemctl kill --signal=KILL {unit}")
    use(node, own)
    assert set(in_use(node).values()) == {own}
    shell(node, API)


def test_and_back_and_the_other_is_removed(node: Node, second: SecondIso) -> None:
    use(node, second.name)
    removed = caisson(node, "remove", second.own.full_version)
    assert removed["name"] == second.own.full_version
    assert [row["name"] for row in caisson(node, "list")["media"]] == [second.name]
    shell(node, API)
    assert "0 changes" in use(node, second.name)
