# SPDX-License-Identifier: Apache-2.0
"""The walk from an index to what it names, whatever upstream wrote there."""

from __future__ import annotations

import json

import pytest

from build.store import ociindex


def walked(documents: dict[str, object], top: str = "top") -> list[str]:
    def read(digest: str) -> bytes | None:
        return json.dumps(documents[digest]).encode() if digest in documents else None

    return [
        node.digest for node in ociindex.walk(top, read, takes=lambda entry: entry["digest"] in documents)
    ]


def test_an_index_its_children_and_nothing_twice() -> None:
    """One that names itself, and its child two times, ends."""
    child = {"digest": "child"}
    assert walked(
        {"top": {"manifests": [child, {"digest": "top"}, child, {"digest": "absent"}]}, "child": {}}
    ) == [
        "top",
        "child",
    ]


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {"manifests": "text"},
        {"manifests": [1, None, "text", {}, {"digest": 5}, {"digest": ["top"]}]},
        {"manifests": {"digest": "child"}},
    ],
)
def test_what_has_another_form_names_nothing(document: object) -> None:
    assert walked({"top": document, "child": {}}) == ["top"]


@pytest.mark.parametrize(
    "document", [{}, {"config": "x", "layers": 5}, {"config": {}, "layers": [None, {"digest": 1}]}]
)
def test_a_manifest_of_another_form_consists_of_nothing(document: dict[str, object]) -> None:
    assert list(ociindex.content(document)) == []


@pytest.mark.parametrize(
    ("entry", "is_ours"),
    [
        ({"platform": {"os": "linux", "architecture": "amd64"}}, True),
        ({"platform": {"os": "unknown", "architecture": "unknown"}}, False),
        ({"platform": "linux/amd64"}, False),
        ({}, False),
    ],
)
def test_the_platform_of_the_iso(entry: dict[str, object], is_ours: bool) -> None:
    assert ociindex.is_platform(entry) is is_ours


def test_a_document_of_thousand_levels_is_none() -> None:
    assert ociindex.parse(b"[" * 100_000) == {}
