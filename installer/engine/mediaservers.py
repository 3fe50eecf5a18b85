# SPDX-License-Identifier: Apache-2.0
"""Say which nodes serve packages and images, and in which order a node asks them: what the pillars here say.

The bootstrap node serves, and each further control plane to which its ISOs were copied (``node.media`` in its pillar:
the builds). One that is asked first is another one on each node, so that not all wait for the same when it is gone; a
node that serves asks itself first.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer.base.paths import Paths
from installer.engine import controlplanes, pillartop
from installer.engine.context import Context
from installer.media import repository


@dataclass(frozen=True)
class MediaServer:
    """A node that serves: its name, what it is asked by, and the builds whose ISOs it has."""

    name: str
    address: str
    builds: tuple[str, ...] = ()


def known(paths: Paths) -> tuple[MediaServer, ...]:
    """Return the further nodes that serve, by name."""
    found = [
        MediaServer(
            str(caisson["node"]["name"]),
            str(caisson["node"]["control_plane_address"]),
            tuple(caisson["node"]["media"]),
        )
        for caisson in pillartop.pillars(paths)
        if caisson["node"].get("media") and not controlplanes.is_leaving(caisson)
    ]
    return tuple(sorted(found, key=lambda server: server.name))


def in_order(servers: Sequence[MediaServer], node_name: str) -> list[MediaServer]:
    """Return the servers in the order in which a node asks them. Pure.

    >>> three = [MediaServer(f"cp{number}", f"10.0.0.{number}") for number in (1, 2, 3)]
    >>> [server.name for server in in_order(three, "cp2")][0]
    'cp2'
    >>> sorted(server.name for server in in_order(three, "worker"))
    ['cp1', 'cp2', 'cp3']
    """
    own = [server for server in servers if server.name == node_name]
    others = [server for server in servers if server.name != node_name]
    begin = zlib.crc32(node_name.encode()) % max(1, len(others))
    return [*own, *others[begin:], *others[:begin]]


def addresses(context: Context, node_name: str) -> list[dict[str, str]]:
    """Return the servers as the pillar of a node has them.

    The bootstrap node is asked by the name of the media, which may lead to another address one day; by itself it is
    not: its own pods start before its names are known.
    """
    is_first = node_name == context.facts.node_name
    own = str(context.facts.control_plane_address) if is_first else context.config.media_name
    servers = [MediaServer(context.facts.node_name, own), *known(context.paths)]
    return [{"address": server.address} for server in in_order(servers, node_name)]


def repository_urls(servers: Sequence[Mapping[str, str]], port: int) -> str:
    """Return the addresses of the packages, as dnf takes several. Pure. Source: dnf.conf(5), ``baseurl``.

    >>> repository_urls([{"address": "a"}, {"address": "b"}], 443)
    'https://a:443/repo/el9 https://b:443/repo/el9'
    """
    return " ".join(f"https://{server['address']}:{port}/{repository.REPOSITORY}" for server in servers)


def told_again(context: Context, caisson: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pillar of a further node with the servers that are known now; the port stays what it was told."""
    servers = addresses(context, str(caisson["node"]["name"]))
    said = caisson["repository"]
    port = int(str(said["url"]).split()[0].partition("://")[2].partition("/")[0].rpartition(":")[2])
    return {
        **caisson,
        "media_servers": servers,
        "repository": {**said, "url": repository_urls(servers, port)},
    }
