# SPDX-License-Identifier: Apache-2.0
"""Make pages of templates. All text is escaped, and a name that nobody has given is an error."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console import text

HERE = Path(__file__).resolve().parent
TEMPLATES_DIR = HERE / "templates"
STATIC_DIR = HERE / "static"
STATIC_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


@functools.cache
def environment() -> Environment:
    """Return what makes pages; all templates are read at once, so that a page needs no disk."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=100,
        # What comes from outside is never text to be trusted: also what hides in it is shown.
        finalize=_shown,
    )
    for name in (
        "clock",
        "stamp",
        "day",
        "machine_stamp",
        "age",
        "took",
        "size",
        "count",
        "log_line",
        "one_line",
        "person",
        "command_in",
    ):
        made.filters[name] = getattr(text, name)
    made.filters["visible"] = text.visible
    for name in made.list_templates():
        made.get_template(name)
    return made


def _shown(value: Any) -> Any:
    return text.visible(value) if type(value) is str else value


def read_static() -> tuple[str, dict[str, bytes]]:
    """Return a name for this set of files, by their content, and the files."""
    files = {
        file.name: file.read_bytes() for file in sorted(STATIC_DIR.iterdir()) if file.suffix in STATIC_TYPES
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:16], files
