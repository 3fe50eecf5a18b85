# SPDX-License-Identifier: Apache-2.0
"""State: a file with the certificates that clients are to trust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def published(name: str, sources: list[str]) -> dict[str, Any]:
    """Make sure that file ``name`` holds the certificates of ``sources`` one after the other, for everybody to read."""
    file, wanted = Path(name), b""

    def look() -> tuple[dict[str, Any], str]:
        nonlocal wanted
        parts = [Path(source).read_bytes().strip() for source in sources if os.path.exists(source)]
        wanted = b"".join(part + b"\n" for part in parts)
        missing = [source for source in sources if not os.path.exists(source)]
        if missing and not __opts__["test"]:
            raise RuntimeError(f"{', '.join(missing)}: is not there")
        if file.is_file() and file.read_bytes() == wanted and file.stat().st_mode & 0o777 == 0o644:
            return {}, f"{name} holds {', '.join(sources)}"
        return {name: "written"}, f"{name} does not hold {', '.join(sources)}"

    def act() -> str:
        temporary = file.with_name(f".{file.name}.tmp")
        with temporary.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(wanted)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(file)
        return f"{name} was written"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
