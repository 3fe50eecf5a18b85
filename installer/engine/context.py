# SPDX-License-Identifier: Apache-2.0
"""Carry what every phase needs: the configuration, the facts of the host, the media, the way to speak."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.config.bootstrap import Config
from installer.config.facts import Facts
from installer.engine.beside import Beside
from installer.engine.journal import Journal
from installer.engine.saltworker import SaltWorkers
from installer.media.product import Product


class Running(Protocol):
    """What the runner itself needs of a context; each operation has its own, which only its phases know."""

    @property
    def ui(self) -> Ui:
        """Return the way to speak."""

    @property
    def journal(self) -> Journal:
        """Return the journal of the operation."""

    @property
    def paths(self) -> Paths:
        """Return the paths of the host."""


@dataclass(frozen=True)
class Context:
    """What a phase works with; the same object for all phases of a run.

    ``media_dir`` is where the media is mounted at each boot (``/srv/caisson/VERSION-BUILD``; from the
    phase ``mount-media`` on there is something in it); ``source_dir`` is the tree that the running installer was
    started from: the mount of the operator, or ``media_dir`` itself.
    """

    config: Config
    facts: Facts
    product: Product
    media_dir: Path
    ui: Ui
    journal: Journal
    source_dir: Path
    config_file: Path
    paths: Paths = field(default_factory=Paths)
    salt: SaltWorkers = field(default_factory=SaltWorkers)
    beside: Beside = field(default_factory=Beside)
