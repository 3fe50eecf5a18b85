# SPDX-License-Identifier: Apache-2.0
"""Packages of the media, by the installer's own driver of dnf: one driver, one set of words for what goes wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

DRIVER = "installer.media.dnf"


def missing(names: list[str]) -> list[str]:
    """Return which of ``names`` have to be installed; one process of rpm, whatever their number."""
    found: list[str] = __salt__["caisson_installer.call"](DRIVER, "unsettled", names, **_where())
    return found


def install(names: list[str]) -> None:
    """Install ``names``, with what they need, in one transaction. Raises RuntimeError with the installer's words."""
    media_dir = Path(__pillar__["caisson"]["media_dir"])
    told = {"progress": _progress, "detail": log.info, "served": _served()}
    __salt__["caisson_installer.call"](DRIVER, "install", names, media_dir=media_dir, **_where(), **told)


def is_told() -> bool:
    """Say whether dnf asks those who serve packages now."""
    return bool(__salt__["caisson_installer.call"](DRIVER, "knows", **_told()))


def tell() -> None:
    """Let dnf ask those who serve packages now."""
    __salt__["caisson_installer.call"](DRIVER, "write_files", **_told())


def _told() -> dict[str, Any]:
    return {**_where(), "media_dir": Path(__pillar__["caisson"]["media_dir"]), "served": _served()}


def _served() -> Any:
    """Return by whom the media is served, None where it is mounted."""
    said = __pillar__["caisson"].get("repository")
    return said and __salt__["caisson_installer.call"](DRIVER, "Served", **said)


def _where() -> dict[str, Any]:
    """Return the arguments that all functions of the driver take: this host, and what its media holds."""
    tree_dir = __salt__["caisson_installer.tree_dir"]()
    return {
        "paths": __salt__["caisson_installer.call"]("installer.base.paths", "Paths"),
        "product": __salt__["caisson_installer.call"]("installer.media.product", "load", tree_dir),
    }


def _progress(text: str) -> None:
    log.info("caisson waits: %s", text)
