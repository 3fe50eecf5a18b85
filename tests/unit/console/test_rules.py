# SPDX-License-Identifier: Apache-2.0
"""Rules of the source that keep pages safe and small: no trusted text, no style in markup, budgets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console import render

HERE = render.HERE
TEMPLATES = sorted(render.TEMPLATES_DIR.glob("*.html"))


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_no_template_trusts_text_or_carries_script_or_style(file: Path) -> None:
    content = file.read_text(encoding="utf-8")
    for forbidden in (
        r"\|\s*safe\b",
        "autoescape",
        "Markup",
        r"\bstyle\s*=",
        r"<style",
        r"\son(?:click|load|error|submit|change|input|focus|blur|mouse\w+|key\w+)\s*=",
        r"javascript:",
        r"https?://(?!www\.w3\.org)",
    ):
        assert not re.search(forbidden, content, re.IGNORECASE), forbidden
    assert len(re.findall(r"<script", content)) == (1 if file.name == "base.html" else 0)


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_every_value_of_an_attribute_is_quoted(file: Path) -> None:
    """Escaping protects what stands in quotes and nothing else."""
    content = re.sub(r"(?s)\{[%#].*?[%#]\}|\{\{.*?\}\}", "X", file.read_text(encoding="utf-8"))
    tags = re.sub(r'"[^"]*"', '""', " ".join(re.findall(r"<[a-z][^<>]*>", content)))
    assert not re.findall(r'\s[a-z-]+=(?!"")', tags)


def test_no_module_trusts_text() -> None:
    for file in HERE.rglob("*.py"):
        content = file.read_text(encoding="utf-8")
        assert not re.search(
            r"\bMarkup\b|markupsafe|\bsubprocess\b|os\.system|\beval\(|\bexec\(|pickle", content
        ), file


def test_every_template_escapes_and_knows_its_names() -> None:
    made = render.environment()
    assert made.autoescape is True
    assert made.undefined.__name__ == "StrictUndefined"
    assert made.from_string("{{ x }}").render(x="<b>\u202e'\"") == "&lt;b&gt;\u27e8U+202E\u27e9&#39;&#34;"


def test_the_script_is_small_and_makes_no_markup() -> None:
    content = (render.STATIC_DIR / "console.js").read_text(encoding="utf-8")
    assert len(content.splitlines()) <= 200
    assert len(content.encode()) <= 8_000
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "Function(",
        'setTimeout("',
        "createPolicy",
        "localStorage",
        "http:",
        "https:",
    ):
        assert sink not in content, sink


def test_the_style_is_small_and_loads_nothing() -> None:
    content = (render.STATIC_DIR / "console.css").read_text(encoding="utf-8")
    assert len(content.encode()) <= 16_384
    assert not re.search(r"url\(|@import|@font-face|https?:", content)


def test_colours_stand_in_tokens_only() -> None:
    content = (render.STATIC_DIR / "console.css").read_text(encoding="utf-8")
    below = content[content.index("*, ::before") :]
    assert re.findall(r"#[0-9a-f]{3,8}\b", below.partition("@media print")[0]) == []


def test_the_files_of_the_directory_are_served_by_a_digest_of_their_content() -> None:
    digest, files = render.read_static()
    assert re.fullmatch(r"[0-9a-f]{16}", digest)
    assert set(files) == {"console.css", "console.js", "icon.svg"}
