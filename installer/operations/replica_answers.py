# SPDX-License-Identifier: Apache-2.0
"""Answer the bootstrap node on a control plane that serves too, over the bus: what came of it, or why nothing did.

What goes this way is no secret, and needs nobody's SSH login: so a timer may ask for it (``caisson_replica``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Callable

from installer.base.errors import InstallerError, UsageError, to_json
from installer.base.paths import Paths
from installer.operations import replica


def take_certificate(given: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """Take a certificate: ``certificate`` is its PEM."""
    return _answer(partial(_take_certificate, given, paths))


def _take_certificate(given: Mapping[str, Any], paths: Paths) -> bool:
    text = given.get("certificate")
    if not isinstance(text, str):
        raise UsageError("no certificate was given", resolution="report this")
    return replica.take_certificate(text, paths)


def _answer(act: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": act(), "error": None}
    except InstallerError as exc:
        return {"result": None, "error": to_json(exc)}
