# SPDX-License-Identifier: Apache-2.0
"""The policy that Caisson comes with: free licences by name, nothing that is not free."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from build.inventory.model import Policy
from build.inventory.policy import is_licence_allowed


@pytest.fixture(scope="module")
def policy(repository_dir: Path) -> Policy:
    document = yaml.safe_load((repository_dir / "policy.yaml").read_text(encoding="utf-8"))
    return Policy(licences=tuple(document["licences"]))


@pytest.mark.parametrize(
    "tag",
    [
        "LGPLv2+ with exceptions and GPLv2+ and BSD and Inner-Net and ISC and Public Domain and GFDL",  # glibc, old
        "LGPL-2.1-or-later AND SunPro AND CMU-Mach AND Inner-Net-2.0 AND LicenseRef-Fedora-Public-Domain",  # new
        "GPL-2.0-or-later AND NIST-PD",  # iproute
        "OLDAP-2.8",
        "0BSD AND GPL-2.0-or-later",  # xz
        "Bitstream-Vera AND LicenseRef-Fedora-Public-Domain",
        "Bitstream Vera and Public Domain",
        "LPPL-1.3c OR OFL-1.1",
        "IJG",
        "NCSA",
        "W3C",
        "PHP-3.01",
        "PostgreSQL",
        "TTWL AND metamail AND Spencer-86",
        "CC-BY-SA-4.0 AND CC-BY-3.0 AND CC0-1.0",
        "public domain",
        "apache-2.0",
    ],
)
def test_free_licences_are_allowed(policy: Policy, tag: str) -> None:
    assert is_licence_allowed(tag, policy)


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "CC-BY-NC-4.0",
        "CC-BY-ND-4.0",
        "MIT AND CC-BY-NC-SA-4.0",
        "Redistributable, no modification permitted",
        "Red Hat Proprietary and GPLv2",
        "Distributable",
        "Licensed only for approved usage, see COPYING for details.",
        "LicenseRef-Fedora-Firmware",
        "Commercial",
        "SSPL-1.0",
        "BUSL-1.1",
        "Elastic-2.0",
    ],
)
def test_what_is_not_free_or_says_nothing_is_refused(policy: Policy, tag: str) -> None:
    assert not is_licence_allowed(tag, policy)


def test_upper_and_lower_case_are_the_same() -> None:
    policy = Policy(licences=("Apache-2*", "Public Domain"))
    assert is_licence_allowed("APACHE-2.0 and PUBLIC DOMAIN", policy)
    assert not is_licence_allowed("MIT", policy)
