# SPDX-License-Identifier: Apache-2.0
"""Read of a base image what a payload has to fit to: its links, and who its users and groups are."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from build.base.errors import BuildError
from build.store import layers
from build.store.layers import parts_of

PASSWD, GROUP = "etc/passwd", "etc/group"
_LARGEST_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseSystem:
    """What the payload has to fit to: symbolic links by path, and the text of the account files."""

    links: Mapping[str, str]
    passwd: str
    group: str

    def resolve(self, path: str) -> str:
        """Return where a path of a package ends up: through links of directories (``lib`` -> ``usr/lib``)."""
        done = PurePosixPath()
        rest = list(PurePosixPath(path).parts)
        for _ in range(64):  # a base whose links run in circles gives a path that simply stays
            if not rest:
                break
            done /= rest.pop(0)
            target = self.links.get(str(done)) if rest else None
            if target is not None:
                joined = PurePosixPath(target) if target.startswith("/") else done.parent / target
                rest = [*parts_of(joined), *rest]
                done = PurePosixPath()
        return str(done.joinpath(*rest))


def scan_base(layer_files: Sequence[Path]) -> BaseSystem:
    """Read the layers of a base image, lowest first.

    Raises: BuildError for a layer that is neither gzip nor plain tar, or account files that are none.
    """
    links: dict[str, str] = {}
    texts: dict[str, str] = {}
    for file in layer_files:
        found: dict[str, str] = {}
        hidden: set[str] = set()
        try:
            for archive, member in layers.members(file):
                _look(archive, member, links=found, texts=texts, hidden=hidden)
        except layers.ArchiveError as exc:
            raise BuildError(
                "a layer of the base image cannot be read",
                details=f"{file.name}: {exc}",
                resolution="take a base image whose layers are gzip or plain tar",
            ) from exc
        kept = {
            path: target for path, target in links.items() if not layers.is_hidden(path, frozenset(hidden))
        }
        links = {**kept, **found}
    return BaseSystem(links=links, passwd=texts.get(PASSWD, ""), group=texts.get(GROUP, ""))


def _look(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    *,
    links: dict[str, str],
    texts: dict[str, str],
    hidden: set[str],
) -> None:
    """Take from one member what it puts, replaces or hides."""
    name = layers.plain_path(member.name)
    whiteout = layers.hidden_path(name)
    gone = whiteout if whiteout is not None else name
    hidden.add(gone)
    for path in list(texts):
        if (whiteout is not None or not member.isdir()) and layers.is_hidden(path, frozenset({gone})):
            del texts[path]
    if whiteout is None and member.issym():
        links[name] = member.linkname
    elif whiteout is None and name in (PASSWD, GROUP) and member.isfile():
        texts[name] = _text(archive, member, name)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> str:
    stream = archive.extractfile(member)
    data = layers.read_bounded(stream, _LARGEST_BYTES) if stream else b""
    reason = f"it has more than {_LARGEST_BYTES} bytes"
    try:
        if data is not None:
            return data.decode()
    except UnicodeDecodeError as exc:
        reason = f"it is no UTF-8: {exc}"
    raise BuildError(
        f"/{name} of the base image cannot be read",
        details=reason,
        resolution="take a base image whose account files are text of an ordinary size",
    )
