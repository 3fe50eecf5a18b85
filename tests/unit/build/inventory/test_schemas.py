# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas say what the parsers do: the same files are good, the same keys are known."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from build.base.errors import BuildError
from build.inventory.inventory import read_inventory
from build.inventory.profile import read_profile
from tests.unit.build.inventory.test_extra import EXTRA
from tests.unit.build.inventory.test_inventory import IMAGES, PACKAGES, POLICY, PROFILE, VERSIONS

FPR = "A" * 40
FULL: Mapping[str, str] = {
    "versions": VERSIONS,
    "images": IMAGES
    + """    preload: true
    entrypoint: [a]
    command: [b]
    environment: {A: "1"}
    user: salt
    working_dir: /
manifests: [{id: net, url: "https://x/y.yaml", path: y.yaml, purpose: network}]
""",
    "packages": PACKAGES,
    "policy": POLICY + f"keys: [{FPR}]\n",
    "profile": PROFILE.replace(
        'registry.k8s.io"}', 'registry.k8s.io", quay.io: ["https://x", "http://y:1/z"]}'
    )
    + "versions: {pause: '3.11'}\n",
    "extra": EXTRA.format(url="http://127.0.0.1", key=FPR).replace("{scada_image}", "2"),
}


def schema(repository_dir: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (repository_dir / f"build/inventory/schemas/{name}.schema.json").read_text()
    )
    return found


def parse(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    extra_files = (root / "extra.yaml",)
    read_inventory(root, read_profile(root / "profile.yaml", extra_files), extra_files)


@pytest.mark.parametrize("name", FULL)
def test_what_is_good_is_good_for_both(repository_dir: Path, tmp_path: Path, name: str) -> None:
    parse(tmp_path, FULL)
    jsonschema.Draft7Validator.check_schema(schema(repository_dir, name))
    jsonschema.validate(yaml.safe_load(FULL[name]), schema(repository_dir, name))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("versions", "versions.yaml"),
        ("images", "images.yaml"),
        ("packages", "packages.yaml"),
        ("policy", "policy.yaml"),
        ("profile", "profiles/production.yaml"),
    ],
)
def test_production_s_files_are_good(repository_dir: Path, name: str, file: str) -> None:
    document = yaml.safe_load((repository_dir / file).read_text(encoding="utf-8"))
    jsonschema.validate(document, schema(repository_dir, name))


def test_the_example_in_the_docs_is_good(repository_dir: Path) -> None:
    text = (repository_dir / "docs/how-to/add-a-vendors-payload.md").read_text(encoding="utf-8")
    fence = text[text.index("```yaml") + len("```yaml") :]
    document = yaml.safe_load(textwrap.dedent(fence[: fence.index("```")]))
    jsonschema.validate(document, schema(repository_dir, "extra"))
    assert document["product"]["name"] == "scada"


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every mapping with fixed keys, and of every value below it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from places(value, (*path, number))


def changed(document: Any, path: tuple[Any, ...], value: object) -> Any:
    """Return a copy with the value at a path replaced; with ``...`` removed."""
    copy = json.loads(json.dumps(document))
    node = copy
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", FULL)
def test_they_refuse_the_same(repository_dir: Path, tmp_path: Path, name: str) -> None:
    """Every key is removed, misspelt, and given a value of each other type, one at a time."""
    good = yaml.safe_load(FULL[name])
    validator = jsonschema.Draft7Validator(schema(repository_dir, name))
    differing = []
    for path in places(good):
        trials = [changed(good, path, value) for value in (..., {"zz": "1"}, ["zz"], 7, True, "", None)]
        node = changed(good, path, ...)
        parent = node
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict):
            parent["zz"] = "zz"
            trials.append(node)
        for document in trials:
            says_schema = validator.is_valid(document)
            says_parser = is_readable(tmp_path, name, document)
            if says_schema != says_parser:
                differing.append((path, says_schema, says_parser, document))
    assert not [f"{path}: schema {one}, parser {other}" for path, one, other, _ in differing]


def is_readable(root: Path, name: str, document: Any) -> bool:
    """Say whether our parser finds the form of a document good; what only other files can tell is no fault."""
    try:
        parse(root, {**FULL, name: yaml.safe_dump(document)})
    except BuildError as error:
        faults = [line for line in error.details.splitlines() if not _BETWEEN_FILES.search(line)]
        return not [line for line in faults if re.match(rf"\S*{name}\.yaml:\d+", line)]
    return True


_BETWEEN_FILES = re.compile(
    r"is not in (versions\.yaml|profile|packages\.yaml)|overrides nothing|is no image of|does not allow registry"
    r"|is given (twice|already)|trusts the connection"
)
