# SPDX-License-Identifier: Apache-2.0
"""Packages of the media, by the installer's own driver of dnf: one driver, one set of words for what goes wrong.

The installer's copy on the host (``/opt/caisson/VERSION-BUILD``) is imported, as for the preflights.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __pillar__: dict[str, Any] = {}


def missing(names: list[str]) -> list[str]:
    """Return which of ``names`` have to be installed; one process of rpm, whatever their number."""
    dnf, options = _driver()
    found: list[str] = dnf.unsettled(names, paths=options["paths"], product=options["product"])
    return found


def install(names: list[str]) -> None:
    """Install ``names``, with what they need, in one transaction. Raises RuntimeError with the installer's words."""
    dnf, options = _driver()
    from installer.base.errors import InstallerError  # noqa: PLC0415 - there since the driver was imported

    try:
        dnf.install(names, **options, progress=_progress, detail=log.info)
    except InstallerError as error:
        raise RuntimeError(
            "\n".join(filter(None, (error.message, error.details, error.resolution)))
        ) from error


def _driver() -> tuple[Any, dict[str, Any]]:
    """Return the installer's module and the arguments that all its functions take here."""
    caisson = __pillar__["caisson"]
    tree_dir = Path(caisson["self_dir"])
    searched = list(sys.path)
    sys.path.append(str(tree_dir))
    try:
        from installer.base.paths import Paths  # noqa: PLC0415 - the path is set just now
        from installer.media import dnf, product  # noqa: PLC0415
    finally:
        sys.path[:] = searched
    media_dir = Path(caisson["media_dir"])
    return dnf, {"paths": Paths(), "media_dir": media_dir, "product": product.load(tree_dir)}


def _progress(text: str) -> None:
    log.info("caisson waits: %s", text)
