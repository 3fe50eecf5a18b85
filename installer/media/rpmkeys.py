# SPDX-License-Identifier: Apache-2.0
"""Check the signatures of the media's packages against the media's keys, in an rpm database that nobody else sees.

dnf checks them again when it installs; here they are checked before a program of any package is started.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from installer.base.errors import PackageError
from installer.base.run import run

TIMEOUT_S = 300.0


def check_signatures(key_files: Sequence[Path], rpm_files: Sequence[Path]) -> None:
    """Check that each package is whole and signed by one of the keys; no signature is no good signature.

    Raises:
        PackageError: one is not; the message names the first, the details all.
    """
    with tempfile.TemporaryDirectory(prefix="caisson-rpmkeys-") as database_dir:
        words = ["rpmkeys", "--dbpath", database_dir]
        for file in key_files:
            run([*words, "--import", file], timeout_s=TIMEOUT_S)
        checked = run(
            [*words, "--define", "_pkgverify_level all", "--checksig", *rpm_files],
            timeout_s=TIMEOUT_S,
            check=False,
        )
    bad = refused(checked.stdout)
    if bad or checked.returncode != 0:
        name = Path(bad[0].partition(":")[0]).stem if bad else "of the media"
        raise PackageError(
            f"package {name} does not have a good signature by a key of the media",
            details="\n".join(bad) or checked.stderr.strip()[-2000:],
            resolution="the media is damaged or was tampered with: do not install from it; compare the ISO's checksum",
        )


def refused(text: str) -> list[str]:
    r"""Return the lines of ``rpmkeys --checksig`` that are about packages which are not good.

    >>> refused("/m/a-1.rpm: digests signatures OK\n/m/b-1.rpm: digests SIGNATURES NOT OK\n")
    ['/m/b-1.rpm: digests SIGNATURES NOT OK']
    """
    lines = [line.strip() for line in text.splitlines() if ".rpm: " in line]
    return [line for line in lines if not line.endswith("digests signatures OK")]
