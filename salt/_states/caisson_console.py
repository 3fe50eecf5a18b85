# SPDX-License-Identifier: Apache-2.0
"""States: what a console shows of its key, for whoever signs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def key_shown(name: str, key_file: str) -> dict[str, Any]:
    """Make sure that the file ``name`` has the public half of a key; before there is one it waits for it."""
    file, wanted = Path(name), {"text": ""}

    def look() -> tuple[dict[str, Any], str]:
        if not Path(key_file).exists() and __opts__["test"]:
            return {"file": "written"}, f"{key_file} is to be made first"
        wanted["text"] = __salt__["caisson_console.public_key"](key_file)
        if file.exists() and file.read_text(encoding="ascii") == wanted["text"]:
            return {}, f"{name} is the public half of {key_file}"
        return {"file": "written"}, f"{name} is not the public half of {key_file}"

    def act() -> str:
        temporary = file.with_name(f".{file.name}.new")
        temporary.write_text(wanted["text"], encoding="ascii")
        temporary.rename(file)
        return f"{name} written"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
