# SPDX-License-Identifier: Apache-2.0
"""Module streams of the lab's AppStream: builds that a host sees only when their stream is the one it follows.

STREAMS --render--> modules.yaml, of which modifyrepo_c makes a part of the repository
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from lab.rpmspec import Rpm, Source


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One stream of a module, with its packages."""

    module: str
    name: str
    packages: tuple[Rpm, ...]
    is_default: bool = False


def _build(name: str, version: str, release: str, epoch: int = 0) -> Rpm:
    return Rpm(
        name=name,
        version=version,
        release=f"{release}.module_el9",
        epoch=epoch,
        summary=f"Stand-in without files for a build of {name} that belongs to a module stream",
        requires=("glibc",),
    )


#: redis: two streams, one of them the default. socat: a stream that no host follows uninvited, with a build
#: that is newer than the plain one, has no program in it, and would break each node that got it.
STREAMS: tuple[Stream, ...] = (
    Stream(module="redis", name="6", packages=(_build("redis", "6.2.18", "1"),), is_default=True),
    Stream(module="redis", name="7", packages=(_build("redis", "7.2.7", "1"),)),
    Stream(module="socat", name="next", packages=(_build("socat", "9.0.0", "1"),)),
)

SOURCES: tuple[Source, ...] = tuple(
    Source(name=f"el9-{stream.module}-{stream.name}", signer="appstream", packages=stream.packages)
    for stream in STREAMS
)


def render(streams: Iterable[Stream]) -> str:
    """Return the text of modules.yaml: each stream, then the defaults of the modules that have one.

    Source: libmodulemd, yaml_specs/modulemd_stream_v2.yaml and modulemd_defaults_v1.yaml.
    """
    streams = list(streams)
    documents = [_stream(stream) for stream in streams]
    documents += [_defaults(stream) for stream in streams if stream.is_default]
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, explicit_end=True)


def _stream(stream: Stream) -> dict[str, object]:
    rpms = [
        f"{package.name}-{package.epoch}:{package.version}-{package.release}.x86_64"
        for package in stream.packages
    ]
    return {
        "document": "modulemd",
        "version": 2,
        "data": {
            "name": stream.module,
            "stream": stream.name,
            "version": 9080020260101000000,
            "context": "00000001",
            "arch": "x86_64",
            "summary": f"Stream {stream.name} of {stream.module}",
            "description": "A stand-in of Caisson's lab",
            "license": {"module": ["Apache-2.0"]},
            "dependencies": [{"buildrequires": {"platform": ["el9"]}, "requires": {"platform": ["el9"]}}],
            "profiles": {"common": {"rpms": [package.name for package in stream.packages]}},
            "artifacts": {"rpms": rpms},
        },
    }


def _defaults(stream: Stream) -> dict[str, object]:
    return {
        "document": "modulemd-defaults",
        "version": 1,
        "data": {"module": stream.module, "stream": stream.name, "profiles": {stream.name: ["common"]}},
    }
