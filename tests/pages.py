# SPDX-License-Identifier: Apache-2.0
"""Read the documentation as tests need it: fenced blocks, and the commands in those of kind ``console``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: ``$ command``, ``# command`` for root, ``[node1]# command`` inside of a node; a comment comes after two blanks.
PROMPT = re.compile(r"^(?P<prompt>(?:\[\w+\])?[$#]) (?P<command>.+?)(?:\s{2,}#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """A fenced block, without its indentation."""

    kind: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command that a page tells its reader to type; what it prints is not kept."""

    prompt: str
    text: str


def repository_pages(repository_dir: Path) -> list[Path]:
    """Return every page: those at the top and those of ``docs/``."""
    return sorted([*(repository_dir / "docs").rglob("*.md"), *repository_dir.glob("*.md")])


def fences(page: Path) -> Iterator[Fence]:
    """Yield the fenced blocks of a page, also those in items of lists."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        yield Fence(match["kind"], textwrap.dedent(match["text"]))


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page in its order."""
    for fence in fences(page):
        if fence.kind == "console":
            for match in PROMPT.finditer(fence.text):
                yield Command(match["prompt"], match["command"])
