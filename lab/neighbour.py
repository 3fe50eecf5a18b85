# SPDX-License-Identifier: Apache-2.0
"""A neighbour: somebody on the switch who is no node, for packets from chosen addresses.

It is a network namespace with a cable to one network and nothing else: made in a tenth of a second, where a node takes
a disk and a boot. What runs in it are this machine's own programs. It goes with its lab.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cleanup
from lab.errors import LabError
from lab.places import NETNS_DIR, SWITCH, LabPlaces, Plane
from lab.run import Completed, run

_NAME = re.compile(r"[a-z]{1,8}\Z")
INTERFACE = "eth0"


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One neighbour, with ``address`` (``192.0.2.9/24``) in the network ``plane``."""

    lab: str
    name: str
    plane: Plane
    address: str

    @property
    def key(self) -> str:
        """Return the name of its network namespace."""
        return LabPlaces(lab=self.lab).node(self.name).key

    @property
    def source(self) -> str:
        """Return its address alone, as the packets that it sends have it."""
        return self.address.partition("/")[0]

    def connect(self) -> None:
        """Make its namespace and cable it; it finds every address of the lab on that cable, whatever its own is.

        Raises:
            LabError: the name is no short word.
        """
        if not _NAME.match(self.name) or self.name == SWITCH:
            raise LabError(
                f"{self.name!r} is no name for a neighbour",
                details="one to eight lower-case letters, which name its cable too",
                resolution="choose a name like 'inside'",
            )
        switch, port = LabPlaces(lab=self.lab).switch_netns, f"{self.name}-end"
        run(["ip", "netns", "add", self.key])
        _ip(self.key, "link", "set", "lo", "up")
        _ip(switch, "link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", self.key)
        _ip(switch, "link", "set", port, "master", self.plane.name, "up")
        _ip(self.key, "address", "add", self.address, "dev", INTERFACE)
        _ip(self.key, "link", "set", INTERFACE, "up")
        _ip(self.key, "route", "add", "default", "dev", INTERFACE)

    def run(
        self,
        args: Sequence[str | Path],
        *,
        input_text: str | None = None,
        timeout_s: float = 60,
        check: bool = True,
    ) -> Completed:
        """Run a program of this machine with the neighbour's network.

        Raises:
            CommandError: as ``lab.run.run`` does.
        """
        words = ["nsenter", f"--net={NETNS_DIR / self.key}", "--", *args]
        label = f"{Path(args[0]).name} at {self.name}"
        return run(words, input_text=input_text, timeout_s=timeout_s, check=check, label=label)

    def remove(self) -> None:
        """Take the neighbour away, with what still runs in it."""
        cleanup.remove_netns(self.key)


def _ip(netns: str, *words: str) -> None:
    run(["ip", "-n", netns, *words], timeout_s=60)
