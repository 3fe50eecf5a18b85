# SPDX-License-Identifier: Apache-2.0
"""The licence tags of a whole BaseOS and AppStream against the policy that Caisson comes with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from build.inventory.licences import spdx_expression
from build.inventory.model import Policy
from build.inventory.policy import is_licence_allowed

NOT_FREE = ("Redistributable", "Distributable", "Proprietary", "approved usage", "Verbatim", "Nmap",
            "Open Publication", "LicenseRef-ISO-8879")  # fmt: skip


@pytest.fixture(scope="module")
def tags(real_dir: Path) -> list[str]:
    lines = (real_dir / "licence-tags.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t", 3)[3] for line in lines]


def test_only_what_is_not_free_is_refused(tags: list[str], repository_dir: Path) -> None:
    document = yaml.safe_load((repository_dir / "policy.yaml").read_text(encoding="utf-8"))
    policy = Policy(licences=tuple(document["licences"]))
    refused = [tag for tag in tags if not is_licence_allowed(tag, policy)]
    assert len(tags) > 500
    assert [tag for tag in refused if not any(word in tag for word in NOT_FREE)] == []
    assert 0 < len(refused) < 15


def test_tags_in_spdx_s_form_are_taken_as_they_are(tags: list[str]) -> None:
    """Those that are told by their upper-case AND, and refer to no text of their own."""
    plain = [tag for tag in tags if " AND " in tag and "LicenseRef-" not in tag]
    unknown = [tag for tag in plain if spdx_expression(tag) is None]
    assert len(plain) > 50
    assert len(unknown) < len(plain) / 10, unknown
