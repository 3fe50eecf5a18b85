# SPDX-License-Identifier: Apache-2.0
"""Install packages from the ISO's repository only, with a dnf configuration of Caisson's own.

The host's repositories, excludes and plugins are never read: a dead mirror or a version lock of the site must
neither slow the installation down nor change it. The configuration file is written by the installer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

CONFIGURATION_FILE = "/etc/caisson/dnf/dnf.conf"


def installed(names: list[str]) -> dict[str, str]:
    """Return name -> ``version-release`` of those of ``names`` that the rpm database holds.

    A name that is only provided by another package (``ebtables`` by ``iptables-nft``) counts as installed.
    """
    found: dict[str, str] = {}
    for name in names:
        result = __salt__["cmd.run_all"](
            ["rpm", "-q", "--whatprovides", "--qf", "%{VERSION}-%{RELEASE}\n", name],
            python_shell=False,
            ignore_retcode=True,
        )
        if result["retcode"] == 0:
            found[name] = result["stdout"].splitlines()[-1].strip()
    return found


def install(names: list[str]) -> dict[str, Any]:
    """Install ``names`` in one transaction; return ``retcode``, ``stdout`` and ``stderr`` of dnf."""
    command = [
        "dnf",
        "--config",
        CONFIGURATION_FILE,
        "--noplugins",
        "--releasever=9",
        "--assumeyes",
        "install",
    ]
    result: dict[str, Any] = __salt__["cmd.run_all"](command + sorted(names), python_shell=False, timeout=900)
    return result


def explain(output: str) -> str:
    """Return what dnf means by ``output`` in one sentence, or "" where its own words are plain enough.

    >>> explain("GPG keys are not correct for this package.. Failing package is: a-1-1.x86_64")[:52]
    'package a-1-1.x86_64 does not have a good signature '
    """
    refused = re.search(
        r"Failing package is: (\S+)|Public key for (\S+) is not|Package (\S+) is not signed", output
    )
    if refused is None:
        return ""
    package = next(group for group in refused.groups() if group)
    return (
        f"package {package} does not have a good signature by a key of the media: "
        "the media is damaged or was tampered with, do not install from it"
    )
