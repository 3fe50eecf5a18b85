# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of ``caisson status --json``, which also says what a node may say of itself."""

from __future__ import annotations

import json
import pkgutil
from typing import Any


def load() -> dict[str, Any]:
    """Return it.

    Raises:
        FileNotFoundError: the installer is incomplete.
    """
    content = pkgutil.get_data(__package__, "status.schema.json")
    if content is None:
        raise FileNotFoundError("status.schema.json")
    loaded: dict[str, Any] = json.loads(content)
    return loaded
