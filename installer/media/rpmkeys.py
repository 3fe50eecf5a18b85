# SPDX-License-Identifier: Apache-2.0
"""Check the signatures of the media's packages against the media's keys, in an rpm database that nobody else sees.

dnf checks them again when it installs; here they are checked before a program of any package is started.
"""

from __future__ import annotations

import contextvars
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Callable

from installer.base.errors import PackageError
from installer.base.run import Completed, run
from installer.base.session import only_looking

TIMEOUT_S = 300.0
INTERVAL_S = 5.0
WORKERS = 2
"""rpmkeys reads one package after the other, on one core."""


def check_signatures(
    key_files: Sequence[Path],
    rpm_files: Sequence[Path],
    *,
    progress: Callable[[str], None] = lambda _: None,
    interval_s: float = INTERVAL_S,
) -> None:
    """Check that each package is whole and signed by one of the keys; no signature is no good signature.

    ``progress`` is told at the beginning, and every ``interval_s`` how long it takes already.

    Raises:
        PackageError: one is not; the message names the first, the details all.
    """
    with tempfile.TemporaryDirectory(prefix="caisson-rpmkeys-") as database_dir:
        words = ["rpmkeys", "--dbpath", database_dir]
        for file in key_files:
            run([*words, "--import", file], timeout_s=TIMEOUT_S)
        asking: list[str | Path] = [*words, "--define", "_pkgverify_level all", "--checksig"]
        text = f"the signatures of {len(rpm_files)} packages"
        progress(text)
        commands = [[*asking, *part] for part in parts(rpm_files)]
        answers = _ask_side_by_side(
            commands, lambda since_s: progress(f"{text}, {since_s:.0f} s"), interval_s
        )
    bad = [line for checked in answers for line in refused(checked.stdout)]
    if bad or any(checked.returncode != 0 for checked in answers):
        name = Path(bad[0].partition(":")[0]).stem if bad else "of the media"
        said = "\n".join(checked.stderr.strip() for checked in answers).strip()
        raise PackageError(
            f"package {name} does not have a good signature by a key of the media",
            details="\n".join(bad) or said[-2000:],
            resolution="the media is damaged or was tampered with: do not install from it; compare the ISO's checksum",
        )


def _ask_side_by_side(
    commands: Sequence[Sequence[str | Path]], tell: Callable[[float], None], interval_s: float
) -> list[Completed]:
    """Run commands that only read, one on each core; who stops this ends them; ``tell`` hears how long it takes."""
    started = time.monotonic()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="rpmkeys") as pool, only_looking():
        jobs = [
            pool.submit(
                contextvars.copy_context().run,
                lambda words: run(words, timeout_s=TIMEOUT_S, check=False),
                words,
            )
            for words in commands
        ]
        while wait(jobs, timeout=interval_s, return_when=FIRST_EXCEPTION).not_done:
            if any(job.done() and job.exception() for job in jobs):
                break
            tell(time.monotonic() - started)
        return [job.result() for job in jobs]


def parts(rpm_files: Sequence[Path]) -> list[list[Path]]:
    """Deal the packages out to at most ``WORKERS`` lists, the largest first, so that each has as much to read.

    >>> parts([Path("/none/a.rpm")])
    [[PosixPath('/none/a.rpm')]]
    """
    dealt: list[list[Path]] = [[] for _ in range(min(WORKERS, len(rpm_files)))]
    sizes = [0] * len(dealt)
    for size, file in sorted(((_size(file), file) for file in rpm_files), reverse=True):
        least = sizes.index(min(sizes))
        dealt[least].append(file)
        sizes[least] += size + 1
    return [sorted(part) for part in dealt]


def _size(file: Path) -> int:
    """Return the size in bytes; what cannot be read is rpmkeys' to name."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def refused(text: str) -> list[str]:
    r"""Return the lines of ``rpmkeys --checksig`` that are about packages which are not good.

    >>> refused("/m/a-1.rpm: digests signatures OK\n/m/b-1.rpm: digests SIGNATURES NOT OK\n")
    ['/m/b-1.rpm: digests SIGNATURES NOT OK']
    """
    lines = [line.strip() for line in text.splitlines() if ".rpm: " in line]
    return [line for line in lines if not line.endswith("digests signatures OK")]
