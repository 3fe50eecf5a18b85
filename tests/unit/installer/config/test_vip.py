# SPDX-License-Identifier: Apache-2.0
"""A virtual address is written into a configuration; every other byte stays, comments too."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import ConfigError
from installer.config import bootstrap as config
from installer.config.vip import with_vip

HEAD = "apiVersion: caisson/v1\nkind: BootstrapConfiguration\nclusterName: lab\n"
FILE = Path("/etc/caisson/bootstrap.yaml")
VIP = "10.77.1.100"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "networks:\n  controlPlane: {cidrs: [10.77.1.0/24]}  # ours\n",
            "networks:\n  controlPlane: {cidrs: [10.77.1.0/24], vip: 10.77.1.100}  # ours\n",
        ),
        (
            "networks:\n  controlPlane:\n    # first\n    cidrs:\n      - 10.77.1.0/24\n",
            "networks:\n  controlPlane:\n    # first\n    vip: 10.77.1.100\n    cidrs:\n      - 10.77.1.0/24\n",
        ),
        (
            "networks:\n    controlPlane:\n        cidrs: [10.77.1.0/24]\n        vip: '10.77.1.9' # b\xfcro\n",
            "networks:\n    controlPlane:\n        cidrs: [10.77.1.0/24]\n        vip: 10.77.1.100 # b\xfcro\n",
        ),
        (
            "networks: {controlPlane: {vip: 10.77.1.9, cidrs: [10.77.1.0/24]}}\n",
            "networks: {controlPlane: {vip: 10.77.1.100, cidrs: [10.77.1.0/24]}}\n",
        ),
    ],
)  # fmt: skip
def test_it_is_written_in_its_place(before: str, after: str) -> None:
    assert with_vip(HEAD + before, VIP, file=FILE) == HEAD + after
    assert with_vip(HEAD + after, VIP, file=FILE) == HEAD + after
    assert str(config.parse(HEAD + after).networks.vip) == VIP


@pytest.mark.parametrize("address", ["10.77.9.1", "10.77.1.0", "fd00::1", "api", "", "10.77.1.9, x: 1"])
def test_what_is_no_address_of_the_plane_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        with_vip(HEAD + "networks:\n  controlPlane: {cidrs: [10.77.1.0/24]}\n", address, file=FILE)
