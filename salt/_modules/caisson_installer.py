# SPDX-License-Identifier: Apache-2.0
"""The installer's own modules, for Salt's: one engine, one driver, one way to write; no second list.

They come from the installer's copy on the host (``/opt/caisson/VERSION-BUILD``).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __pillar__: dict[str, Any] = {}


def tree_dir() -> Path:
    """Return the directory of the installer's copy."""
    return Path(__pillar__["caisson"]["self_dir"])


def load(name: str) -> ModuleType:
    """Import one of the installer's modules, for example ``installer.media.dnf``.

    Its tree is searched last: what Salt carries itself (PyYAML, attrs) is used as it is.
    """
    searched = list(sys.path)
    sys.path += [str(tree_dir()), str(tree_dir() / "installer" / "vendor")]
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = searched


def call(module: str, function: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of one of the installer's modules. Raises RuntimeError with the installer's words."""
    error_type = load("installer.base.errors").InstallerError
    try:
        return getattr(load(module), function)(*arguments, **options)
    except error_type as error:
        words = (error.message, error.details, error.resolution)
        raise RuntimeError("\n".join(filter(None, words))) from error
