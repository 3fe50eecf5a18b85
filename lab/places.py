# SPDX-License-Identifier: Apache-2.0
"""Where the things of a lab are and what they are called.

A lab has a short name (by default made of the process number). Everything of it on the machine is found by
that name, with or without a record: network namespaces and control groups ``caisson-<lab>-<node>``, records
and mount points under ``/run/caisson-lab/<lab>/``, disk images under ``<cache>/lab/nodes/<lab>/``. Two labs
at a time share nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.cache import lab_dir
from lab.errors import LabError

RUN_DIR = Path("/run/caisson-lab")
NETNS_DIR = Path("/run/netns")
PREFIX = "caisson-"
SWITCH = "switch"
MEDIA_DIR = Path("/var/lib/caisson-media")
"""Where a node sees its ISO files."""

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}\Z")
_NODE = re.compile(r"[a-z][a-z-]{0,20}([1-9][0-9]{0,2})\Z")
HIGHEST_NODE_NUMBER = 200


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One network of the lab: a bridge in the switch, an interface in each node, a /24."""

    name: str
    interface: str
    prefix: str

    @property
    def cidr(self) -> str:
        """Return the network, as in ``10.77.1.0/24``."""
        return f"{self.prefix}.0/24"

    def address(self, number: int) -> str:
        """Return the address of node ``number`` in this network.

        >>> CONTROL_PLANE.address(1)
        '10.77.1.11'
        """
        return f"{self.prefix}.{10 + number}"

    def mac_address(self, number: int) -> str:
        """Return the link address of node ``number``: the same at each boot, as a real card's is.

        >>> UPLINK.mac_address(1)
        '02:ca:15:00:03:0b'
        """
        return f"02:ca:15:00:{int(self.prefix.rsplit('.', 1)[1]):02x}:{10 + number:02x}"


CONTROL_PLANE = Plane(name="control", interface="eth0", prefix="10.77.1")
WORKLOAD_PLANE = Plane(name="workload", interface="eth1", prefix="10.77.2")
UPLINK = Plane(name="uplink", interface="eth2", prefix="10.77.3")
PLANES: Sequence[Plane] = (CONTROL_PLANE, WORKLOAD_PLANE, UPLINK)
GATEWAY = f"{UPLINK.prefix}.1"


def checked_lab_name(name: str) -> str:
    """Return ``name`` if a lab may be called so.

    Raises:
        LabError: it is no short lower-case word.
    """
    if not _NAME.match(name):
        raise LabError(
            f"{name!r} is no name for a lab",
            details="a letter, then up to 11 letters or digits, all lower case",
            resolution="choose a name like 'demo'",
        )
    return name


def node_number(name: str) -> int:
    """Return the number at the end of a node's name: it decides the node's addresses.

    >>> node_number("node12")
    12

    Raises:
        LabError: the name does not end with a number from 1 to 200, or is no host name.
    """
    match = _NODE.match(name)
    if match is None or int(match[1]) > HIGHEST_NODE_NUMBER:
        raise LabError(
            f"{name!r} is no name for a node",
            details=f"letters, then a number from 1 to {HIGHEST_NODE_NUMBER}, which makes the addresses",
            resolution="choose a name like 'node1'",
        )
    return int(match[1])


@dataclass(frozen=True, kw_only=True)
class LabPlaces:
    """The paths and names of one lab."""

    lab: str

    @property
    def run_dir(self) -> Path:
        """Return the directory of the records, logs and mount points."""
        return RUN_DIR / self.lab

    @property
    def record_file(self) -> Path:
        """Return the record of the lab itself: who owns it."""
        return self.run_dir / "lab.json"

    @property
    def images_dir(self) -> Path:
        """Return the directory of the disk images."""
        return lab_dir("nodes") / self.lab

    @property
    def switch_netns(self) -> str:
        """Return the name of the switch's network namespace."""
        return f"{PREFIX}{self.lab}-{SWITCH}"

    def node(self, name: str) -> NodePlaces:
        """Return the places of one node."""
        return NodePlaces(lab=self.lab, name=name, images_dir=self.images_dir)


@dataclass(frozen=True, kw_only=True)
class NodePlaces:
    """The paths and names of one node."""

    lab: str
    name: str
    images_dir: Path

    @property
    def key(self) -> str:
        """Return the name of the node's network namespace and control groups."""
        return f"{PREFIX}{self.lab}-{self.name}"

    @property
    def dir(self) -> Path:
        """Return the node's directory under /run."""
        return RUN_DIR / self.lab / self.name

    @property
    def record_file(self) -> Path:
        """Return the node's record."""
        return RUN_DIR / self.lab / f"{self.name}.json"

    @property
    def root_dir(self) -> Path:
        """Return where the node's disk image is mounted."""
        return self.dir / "root"

    @property
    def console_file(self) -> Path:
        """Return what the node wrote to its console since its first boot."""
        return self.dir / "console.log"

    @property
    def image_file(self) -> Path:
        """Return the node's disk image."""
        return self.images_dir / f"{self.name}.xfs"

    @property
    def media_dir(self) -> Path:
        """Return the directory that the node sees as /var/lib/caisson-media."""
        return self.images_dir / f"{self.name}.media"

    @property
    def netns_file(self) -> Path:
        """Return the handle of the node's network namespace."""
        return NETNS_DIR / self.key
