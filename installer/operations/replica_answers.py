# SPDX-License-Identifier: Apache-2.0
"""Answer the bootstrap node on a control plane that serves too, over the bus: what came of it, or why nothing did.

What goes this way is no secret, and needs nobody's SSH login: so a timer may ask for it (``caisson_replica``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Callable

from installer.base.errors import InstallerError, UsageError, to_json
from installer.base.paths import Paths
from installer.operations import replica, replica_images
from installer.operations.image_removals import Removal


def take_certificate(given: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """Take a certificate: ``certificate`` is its PEM."""
    return _answer(partial(_take_certificate, given, paths))


def _take_certificate(given: Mapping[str, Any], paths: Paths) -> bool:
    text = given.get("certificate")
    if not isinstance(text, str):
        raise UsageError("no certificate was given", resolution="report this")
    return replica.take_certificate(text, paths)


def forget_images(given: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """Remove the ``images``: of each ``path``, ``tag`` and ``digest``."""
    return _answer(partial(_forget_images, given, paths))


def _forget_images(given: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    try:
        removals = [Removal(str(one["path"]), str(one["tag"]), str(one["digest"])) for one in given["images"]]
    except (KeyError, TypeError) as exc:
        raise UsageError("no images were named", details=str(exc), resolution="report this") from exc
    return asdict(replica_images.forget(removals, paths))


def _answer(act: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": act(), "error": None}
    except InstallerError as exc:
        return {"result": None, "error": to_json(exc)}
