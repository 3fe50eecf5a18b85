# SPDX-License-Identifier: Apache-2.0
"""Write a virtual address into the text of a configuration: one value, and not a byte of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from installer.base.errors import ConfigError
from installer.config import bootstrap as config

PLACE = ("networks", "controlPlane")
KEY = "vip"


def with_vip(text: str, address: str, *, file: Path) -> str:
    r"""Return the text of a good configuration with another virtual address, or its first one. Pure.

    Raises:
        ConfigError: the address does not fit the networks, or the text has a shape that cannot be edited so.

    >>> text = "apiVersion: caisson/v1\nkind: BootstrapConfiguration\nclusterName: a\nnetworks:\n"
    >>> with_vip(text + "  controlPlane: {cidrs: [10.0.0.0/24]}\n", "10.0.0.9", file=Path("x")).split("cidrs: ")[1]
    '[10.0.0.0/24], vip: 10.0.0.9}\n'
    """
    old = config.parse(text, file=file)
    edited = _edited(text, address)
    new = config.parse(edited, file=file)
    expected = replace(old.networks, vip=new.networks.vip)
    if (
        replace(old, networks=expected, text=edited, notes=new.notes) != new
        or str(new.networks.vip) != address
    ):
        raise ConfigError(
            f"{file} has a shape in which the address cannot be written by itself",
            resolution=f"write it there yourself, as networks.controlPlane.{KEY}: {address}, and run the bootstrap",
        )
    return edited


def _edited(text: str, address: str) -> str:
    """Return the text with the value put in its place, or beside the first key of the same mapping."""
    plane = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in PLACE:
        plane = _value(plane, name)
    present = _value(plane, KEY)
    if present is not None:
        return text[: present.start_mark.index] + address + text[present.end_mark.index :]
    if not isinstance(plane, yaml.MappingNode) or not plane.value:
        return text
    first, last = plane.value[0][0].start_mark, plane.value[-1][1].end_mark
    if plane.flow_style:
        return f"{text[: last.index]}, {KEY}: {address}{text[last.index :]}"
    return f"{text[: first.index]}{KEY}: {address}\n{' ' * first.column}{text[first.index :]}"


def _value(mapping: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)
