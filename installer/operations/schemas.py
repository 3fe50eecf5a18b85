# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of what the commands print; other nodes may say no more of themselves than these allow."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from typing import Any

PACKAGES: Mapping[str, str] = {
    "status": "installer.operations",
    "jobs": "installer.operations",
    "images": "installer.operations",
    "media": "installer.operations",
    "certificates": "installer.operations",
    "check": "installer.checks",
    "node-check": "installer.operations",
    "door": "installer.operations",
}
"""Name of a schema -> the package that it lies in."""


def load(name: str) -> dict[str, Any]:
    """Return the schema of this name.

    Raises:
        FileNotFoundError: the installer is incomplete.
    """
    content = pkgutil.get_data(PACKAGES[name], f"{name}.schema.json")
    if content is None:
        raise FileNotFoundError(f"{name}.schema.json")
    loaded: dict[str, Any] = json.loads(content)
    return loaded
