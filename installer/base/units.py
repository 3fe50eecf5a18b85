# SPDX-License-Identifier: Apache-2.0
"""Read what systemd says of several units at once."""

from __future__ import annotations

from collections.abc import Mapping


def parse_units(shown: str) -> dict[str, Mapping[str, str]]:
    r"""Return unit -> properties in what ``systemctl show --property=Id,..`` printed, a block for each unit.

    >>> parse_units("Id=a.service\nActiveState=failed\n\nId=b.service\nActiveState=active\n")["b.service"]
    {'Id': 'b.service', 'ActiveState': 'active'}
    """
    blocks = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n"))
    return {block["Id"]: block for block in blocks if block.get("Id")}
