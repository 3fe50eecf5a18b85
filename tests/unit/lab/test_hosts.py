# SPDX-License-Identifier: Apache-2.0
"""How many nodes a cluster of the lab may have, what each of them is, and the list that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from installer.config import nodes
from lab import hosts
from lab.errors import LabError
from lab.node import Node
from lab.run import Completed

FINGERPRINT = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


class Recorded(Node):
    """A node that runs nothing, and keeps what was written to it and asked of it."""

    def __init__(self, name: str) -> None:
        super().__init__("unit", name)
        self.files: dict[str, str] = {}
        self.authorized: list[str] = []

    def run(self, args: Sequence[Any], **_options: Any) -> Completed:
        """Make the key that is asked for."""
        words = [str(word) for word in args]
        assert words[:2] == ["ssh-keygen", "-q"]
        self.files[f"{words[words.index('-f') + 1]}.pub"] = "ssh-ed25519 AAAA root@node1\n"
        return Completed(returncode=0, stdout="", stderr="")

    def read_file(self, path: Any) -> str:
        """Return what was written."""
        return self.files[str(path)]

    def write_file(self, path: Any, text: str, mode: int = 0o644) -> None:
        """Keep a file."""
        self.files[str(path)] = text

    def authorize(self, public_key: str, **_options: Any) -> str:
        """Keep the key."""
        self.authorized.append(public_key)
        return FINGERPRINT


@pytest.mark.parametrize("text", ["1", "2", "3", "4", "5", "03"])
def test_so_many_nodes_there_may_be(text: str) -> None:
    assert hosts.checked_count(text) == int(text)


@pytest.mark.parametrize("text", ["0", "9", "6", "x", "", " ", "-1", "+3", "3.0", "3x", "٣", "1_0", "²"])
def test_another_number_is_refused_in_three_parts(text: str) -> None:
    with pytest.raises(LabError, match="cannot have") as caught:
        hosts.checked_count(text)
    assert repr(text) in caught.value.message
    assert "three control planes" in caught.value.details
    assert "from 1 to 5" in caught.value.resolution


def test_from_three_on_three_are_control_planes() -> None:
    for count in range(1, hosts.MOST_NODES + 1):
        roles = [hosts.CONTROL_PLANE, *hosts.further(count).values()]
        assert len(roles) == count
        assert roles.count(hosts.CONTROL_PLANE) == (3 if count >= 3 else 1)


def test_the_list_is_one_that_the_product_reads() -> None:
    driver = Recorded("node1")
    public_key = hosts.make_identity(driver)
    others = {name: Recorded(name) for name in hosts.further(4)}
    entries = [hosts.admit(others[name], role, public_key) for name, role in hosts.further(4).items()]
    text = hosts.write_list(driver, entries)
    assert driver.files[hosts.LIST_FILE] == text
    assert all(host.authorized == [public_key] for host in others.values())
    read = nodes.from_data(yaml.safe_load(text)["nodes"])
    assert [(entry.address, entry.name, entry.role.value) for entry in read] == [
        ("10.77.1.12", "node2", "control-plane"),
        ("10.77.1.13", "node3", "control-plane"),
        ("10.77.1.14", "node4", "worker"),
    ]
    assert {entry.host_key for entry in read} == {FINGERPRINT}
    assert hosts.ADD_COMMAND[-1] == hosts.LIST_FILE
