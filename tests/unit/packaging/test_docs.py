# SPDX-License-Identifier: Apache-2.0
"""What the documentation says of files, links, tasks, commands and keys is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.config import bootstrap as config
from installer.operations import node_remove
from tests import pages
from tests.pages import FENCE
from tools import reference, refusals

REPOSITORY_DIR = Path(__file__).parents[3]
DOCS_DIR = REPOSITORY_DIR / "docs"
PAGES = pages.repository_pages(REPOSITORY_DIR)
RECORDS = sorted((DOCS_DIR / "explanation" / "adr").glob("0*.md"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
# Hosts of package indexes belong into a user's own configuration. Put together here: this file has none.
INDEX_HOSTS = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "golang" + ".org",
    "deb." + "debian.org",
    "npm" + "js",
    "crates" + ".io",
    "maven" + ".org",
)
# What reads like an excuse or a sales pitch.
EMPTY_WORDS = ("simply", "blazing", "seamless", "world-class", "cutting-edge", "leverage", "robust")
RECORD_PARTS = ["Context", "Decision", "Consequences", "Alternatives"]


def _identifier(page: Path) -> str:
    return str(page.relative_to(REPOSITORY_DIR))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _links(page: Path) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield match["target"]


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the console blocks, as words, with its page."""
    for page in PAGES:
        for command in pages.commands(page):
            yield _identifier(page), shlex.split(command.text, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=_identifier)
def test_links_inside_resolve(page: Path) -> None:
    broken = []
    for target in _links(page):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=_identifier)
def test_page_has_one_title_and_lines_of_bearable_length(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^# .+$", FENCE.sub("", text), re.MULTILINE)) == 1
    too_long = [
        line
        for line in FENCE.sub("", text).splitlines()
        if len(line) > 125 and not line.startswith(("|", "[", "-"))
    ]
    assert not too_long


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    left = [DOCS_DIR / "README.md"]
    while left:
        page = left.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = (target.partition("#")[0] for target in _links(page) if "://" not in target)
        left += [(page.parent / target).resolve() for target in targets if target]
    assert sorted(set(DOCS_DIR.rglob("*.md")) - seen) == []


@pytest.mark.parametrize("page", PAGES, ids=_identifier)
def test_page_has_no_word_that_does_not_belong(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert [word for word in (*INDEX_HOSTS, *EMPTY_WORDS) if word in text] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_decision_records_have_their_four_parts(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == RECORD_PARTS
    assert f"# {record.stem[:4]}. " in text


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_generated_page_says_what_the_product_reads(name: str, request: pytest.FixtureRequest) -> None:
    file, text = reference.REFERENCE_DIR / name, reference.render(name)
    if request.config.getoption("--update-goldens"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text, "run: .venv/bin/python -m tools.reference"


def test_a_refusal_stands_in_the_reference_with_its_code_and_its_words() -> None:
    """As node tests of removal see them: tests/node/test_remove.py."""
    text = (reference.REFERENCE_DIR / "refusals.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if " | CSE" in line]
    said = {(row[0].lstrip("| "), row[2]) for row in rows}
    assert ("11", "NAME is Ready: it is not gone") in said
    assert ("2", "the cluster has no node 'NAME'") in said
    assert ("15", "HOST shows another key than it should: nothing was sent to it") in said
    assert ("12", "N mounts are in use, so nothing below them is deleted") in said
    own = refusals.refusals([node_remove])
    assert len(own) > 5
    assert all((str(one.error.exit_code), one.message) in said for one in own)
    assert not [line for line in text.splitlines() if re.search(r"[{}]|\b[A-Z]+_(FIX|LIMIT|FILE)\b", line)]


@pytest.mark.subprocess
def test_tasks_in_the_docs_exist() -> None:
    """Asks doit."""
    command = [sys.executable, "-m", "doit", "list", "--quiet"]
    listing = subprocess.run(
        command, cwd=REPOSITORY_DIR, capture_output=True, text=True, timeout=60, check=True
    )
    tasks = set(listing.stdout.split()) | {"list", "info", "help", "clean", "forget"}
    unknown = [
        (page, word)
        for page, words in _commands()
        if words[0].endswith("doit.sh")
        for word in words[1:]
        if not word.startswith("-") and "=" not in word and word.partition(":")[0] not in tasks
    ]
    assert not unknown


def test_paths_in_commands_exist() -> None:
    missing = [
        (page, word)
        for page, words in _commands()
        for word in words
        if re.match(r"(tests|tools|build|lab|profiles)/", word) and not (REPOSITORY_DIR / word).exists()
    ]
    assert not missing


def test_modules_in_commands_exist() -> None:
    missing = []
    for page, words in _commands():
        if "-m" in words and words[0].endswith("python"):
            module = words[words.index("-m") + 1].replace(".", "/")
            if not any((REPOSITORY_DIR / f"{module}{end}").is_file() for end in (".py", "/__main__.py")):
                missing.append((page, module))
    assert not missing


def test_configurations_in_the_docs_are_valid() -> None:
    """By the installer's own parser."""
    found = 0
    for page in PAGES:
        for fence in pages.fences(page):
            if fence.kind == "yaml" and "BootstrapConfiguration" in fence.text:
                config.parse(fence.text)
                found += 1
    assert found


@pytest.mark.parametrize(
    ("page", "source"), [("inventory.md", "inventory.py"), ("profiles.md", "profile.py")]
)
def test_every_key_that_is_read_stands_in_the_reference(page: str, source: str) -> None:
    code = (REPOSITORY_DIR / "build" / "inventory" / source).read_text(encoding="utf-8")
    text = (reference.REFERENCE_DIR / page).read_text(encoding="utf-8")
    calls = re.findall(
        r"(?:record|profile)\.(?:\w+)\(\s*\"(\w+)\"|(?:reader\.\w+|_optional)\(record, \"(\w+)\"", code
    )
    keys = {key for pair in calls for key in pair if key}
    assert len(keys) > 5
    assert sorted(key for key in keys if not re.search(rf"`([\w.\[\]]+\.)?{key}`", text)) == []


def test_the_threat_model_names_tests_that_are_there() -> None:
    text = (REPOSITORY_DIR / "docs/explanation/threat-model.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 10
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (REPOSITORY_DIR / file).read_text(encoding="utf-8")
    ]
    assert missing == []
