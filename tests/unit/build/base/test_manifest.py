# SPDX-License-Identifier: Apache-2.0
"""What a proxy gives in place of a manifest is no manifest."""

from __future__ import annotations

import pytest

from build.base.errors import IntegrityError
from build.base.manifest import read_manifest

GOOD = b"apiVersion: v1\nkind: Namespace\n"


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"---\n---\n" + GOOD + b"---\n# end\n",
        b"apiVersion: v1\nkind: List\nitems: []\n",
        b"\xef\xbb\xbf" + GOOD,
    ],
)
def test_manifests(data: bytes) -> None:
    assert len(read_manifest(data, "net")) == 1


@pytest.mark.parametrize(
    ("data", "reason", "begins"),
    [
        (
            b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n",
            "not a mapping",
            "it begins: <!DOCTYPE html>",
        ),
        (b"404: Not Found", "has no apiVersion and no kind", "it begins: 404: Not Found"),
        (b"", "it has no document", "it is empty"),
        (b"null\n", "it has no document", "it begins: null"),
        (b"# only a comment\n", "it has no document", "it begins: # only"),
        (b"- a\n", "not a mapping", "it begins: - a"),
        (b"kind: Namespace\n", "has no apiVersion", "it begins: kind"),
        (GOOD + b"---\nplain text\n", "document 2 is not a mapping", "it begins: apiVersion"),
    ],
)
def test_what_is_no_manifest(data: bytes, reason: str, begins: str) -> None:
    with pytest.raises(
        IntegrityError, match="upstream gives something that is no Kubernetes manifest"
    ) as caught:
        read_manifest(data, "net", "https://example.com/net.yaml")
    assert "https://example.com/net.yaml" in caught.value.details
    assert reason in caught.value.details
    assert begins in caught.value.details
    assert "portal or proxy" in caught.value.resolution


def test_what_is_no_yaml() -> None:
    with pytest.raises(IntegrityError, match="'net' is not YAML that can be read") as caught:
        read_manifest(b"<a>\n\tb: [\x00", "net")
    assert "it begins: <a>" in caught.value.details
