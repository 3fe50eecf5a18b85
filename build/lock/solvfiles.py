# SPDX-License-Identifier: Apache-2.0
"""Load the metadata of a repository into libsolv: from its own form in milliseconds, else from XML.

NAME.solv --unreadable, or not there--> primary.xml, filelists.xml --> NAME.solv for the next time
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import solv

from build.base.errors import SolverError
from build.base.files import replacing


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepositoryFiles:
    """Plain metadata of a repository. ``solv_file`` is written when it is missing and read when it is there.

    ``primary`` and ``filelists`` are only looked at when it is missing or of another libsolv; a repository may
    have no filelists. Packages lie below one of ``base_urls``.
    """

    id: str
    primary: Path | None
    filelists: Path | None
    solv_file: Path
    base_urls: tuple[str, ...] = ()


class UnreadableSolvError(Exception):
    """libsolv cannot read what was kept in its own form, and the metadata itself is needed."""

    def __init__(self, solv_file: Path) -> None:
        super().__init__(str(solv_file))
        self.solv_file = solv_file


def load(pool: solv.Pool, files: RepositoryFiles) -> None:
    """Load a repository.

    Raises: SolverError when its XML is no metadata; UnreadableSolvError when the XML was not asked for.
    """
    repo = pool.add_repo(files.id)
    if _add_solv(repo, files.solv_file):
        return
    repo.empty()
    if files.primary is None:
        raise UnreadableSolvError(files.solv_file)
    add_xml(pool, repo, files.primary, "", 0)
    if files.filelists is not None:
        add_xml(pool, repo, files.filelists, "FL", solv.Repo.REPO_EXTEND_SOLVABLES)
    with replacing(files.solv_file) as temporary:
        stream = solv.xfopen(str(temporary), "w")
        repo.write(stream)
        stream.close()


def add_xml(pool: solv.Pool, repo: solv.Repo, file: Path, language: str, flags: int) -> None:
    """Add primary.xml, or filelists.xml (``language`` FL), to a repository. Raises: SolverError."""
    stream = solv.xfopen(str(file))
    is_added = repo.add_rpmmd(stream, language or None, flags)
    stream.close()
    if not is_added:
        raise SolverError(
            f"the metadata of repository '{repo.name}' cannot be read",
            details=f"{file}: {pool.errstr}",
            resolution="the repository is damaged: use another mirror",
        )


def _add_solv(repo: solv.Repo, file: Path) -> bool:
    """Load libsolv's own form and say whether it could be read: another libsolv's, or half a file, cannot."""
    if not file.is_file():
        return False
    stream = solv.xfopen(str(file))
    is_loaded = bool(repo.add_solv(stream, 0))
    stream.close()
    return is_loaded
