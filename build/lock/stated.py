# SPDX-License-Identifier: Apache-2.0
"""Take from the metadata what is locked of a package; what it says of the bytes may be less than a lock needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import solv

from build.base.errors import SolverError
from build.inventory.model import Digest, LockedPackage
from build.lock.pool import split_evr
from build.upstream.locations import relative_location


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """What metadata says of a package's bytes; ``size_bytes`` is 0 where it does not say."""

    algorithm: str
    hex: str
    size_bytes: int

    @property
    def is_enough(self) -> bool:
        """Say whether it names the bytes as a lock does."""
        return self.algorithm == "sha256" and self.size_bytes > 0

    @property
    def text(self) -> str:
        """Return it for people."""
        return f"the sum {self.algorithm}" if self.size_bytes else f"the sum {self.algorithm} and no size"

    @property
    def name(self) -> Digest:
        """Return what stands for the package's digest until that is known."""
        return Digest(self.hex) if self.algorithm == "sha256" else Digest.of_bytes(f"{self}".encode())


def stated_package(solvable: solv.XSolvable, base_urls: Sequence[str]) -> tuple[LockedPackage, Sum]:
    """Return a package as its metadata states it, wanted by nobody yet. Raises: SolverError, IntegrityError."""
    epoch, version, release = split_evr(solvable.evr)
    what = f"package {solvable} of repository '{solvable.repo.name}'"
    stated = _stated_sum(solvable, what)
    href, base = solvable.lookup_location()[0] or "", solvable.lookup_str(solv.SOLVABLE_MEDIABASE) or ""
    package = LockedPackage(
        name=solvable.name,
        epoch=epoch,
        version=version,
        release=release,
        arch=solvable.arch,
        repository=solvable.repo.name,
        location=relative_location(base_urls, href, base, what),
        size_bytes=stated.size_bytes,
        digest=stated.name,
        requested=False,
        required_by=(),
        licence=solvable.lookup_str(solv.SOLVABLE_LICENSE) or "",
    )
    return package, stated


def _stated_sum(solvable: solv.XSolvable, what: str) -> Sum:
    """Return what metadata says of a package's bytes. Raises: SolverError when that is no sum at all."""
    checksum = solvable.lookup_checksum(solv.SOLVABLE_CHECKSUM)
    if checksum is None:
        raise SolverError(
            f"{what} has no checksum",
            details="metadata without one cannot say which bytes are meant",
            resolution="use a mirror whose metadata has SHA-256 (createrepo_c makes it so)",
        )
    return Sum(
        algorithm=checksum.typestr(),
        hex=checksum.hex(),
        size_bytes=int(solvable.lookup_num(solv.SOLVABLE_DOWNLOADSIZE)),
    )
