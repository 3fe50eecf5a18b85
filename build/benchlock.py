# SPDX-License-Identifier: Apache-2.0
"""Measure the part of a lock that grows with the repositories, on metadata of real size with made-up names.

    made-up metadata --loopback--> a process of its own: fetch, check, unpack, solve for a baseline --> cold
                                   the same again, from libsolv's own form ------------------------> warm

Run by ``python -m build.bench``; ``python -m build.benchlock URL CACHE`` is the process that is measured.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import override

from build.base.run import run
from build.inventory.model import Baseline, Inventory, MetadataTrust, Repository, WantedPackage
from build.lock.packages import make_universe
from build.upstream.http import HttpClient
from build.upstream.openpgp import TrustedKeys
from build.upstream.repodata import MetadataCache

REPOSITORIES = ("base", "stream")
PACKAGES = 20_000
_FILES = 100
_TIMEOUT_S = 600
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_WANTED = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a run took, its imports left out. ``locked`` is the number of packages that were found to be needed."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    locked: int


def measure(scratch_dir: Path, packages: int = PACKAGES) -> tuple[Figures, Figures]:
    """Return the figures of a first lock, and of a second."""
    served_dir, cache_dir = scratch_dir / "repositories", scratch_dir / "metadata"
    for number, name in enumerate(REPOSITORIES):
        write_repository(served_dir / name, range(number * packages, (number + 1) * packages))
    with _serve(served_dir) as url:
        cold, warm = (_measured(url, cache_dir) for _ in range(2))
    return cold, warm


def _measured(url: str, cache_dir: Path) -> Figures:
    args: list[str | Path] = [sys.executable, "-m", "build.benchlock", url, cache_dir]
    return Figures(**json.loads(run(args, timeout_s=_TIMEOUT_S, cwd=_ROOT_DIR).stdout))


def main(arguments: Sequence[str]) -> int:
    """Load both repositories, solve, and say what that took."""
    started = time.monotonic(), time.process_time()
    url, cache_dir = arguments
    cache = MetadataCache(Path(cache_dir), HttpClient())
    metadata = {}
    for name in REPOSITORIES:
        repository = Repository(id=name, base_urls=(f"{url}/{name}/",), metadata=MetadataTrust.TLS, keys=())
        metadata[name] = cache.load(repository, TrustedKeys(repository=name, files=(), keys=()))
    names = [f"made-up-{number}" for number in range(2, 2 * PACKAGES) if number % (PACKAGES // 10) == 7]
    wanted = [
        WantedPackage(name=name, repositories=REPOSITORIES, purpose="bench") for name in names[:_WANTED]
    ]
    baseline = Baseline(id="bench", release="9", repositories=REPOSITORIES, group="core")
    inventory = Inventory(
        versions={}, images=(), composed=(), manifests=(), baselines=(baseline,), packages=(), python=()
    )
    universe = make_universe(metadata, inventory, cache)
    there = [package for package in wanted if not list(universe.absent([package]))]
    solution = universe.close(
        there, universe.baseline(baseline, [f"made-up-{number}" for number in range(50)])
    )
    universe.given_by(solution)
    figures = Figures(
        wall_s=time.monotonic() - started[0],
        cpu_s=time.process_time() - started[1],
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        locked=len(solution.packages),
    )
    print(json.dumps(dataclasses.asdict(figures)))
    return 0


# ---------------------------------------------------------------- the metadata


def write_repository(directory: Path, numbers: range) -> None:
    """Write repomd.xml, primary and filelists of packages whose names are numbers."""
    space = 'xmlns="http://linux.duke.edu/metadata/'
    texts: dict[str, tuple[str, str, Callable[[int], str]]] = {
        "primary": (
            f'<metadata {space}common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="{len(numbers)}">\n',
            "</metadata>\n",
            _primary,
        ),
        "filelists": (
            f'<filelists {space}filelists" packages="{len(numbers)}">\n',
            "</filelists>\n",
            _filelists,
        ),
    }
    (directory / "repodata").mkdir(parents=True)
    records = []
    for kind, (head, foot, entry) in texts.items():
        location = f"repodata/{kind}.xml.gz"
        with gzip.open(directory / location, "wt", compresslevel=1, encoding="ascii") as stream:
            stream.write(_HEAD + head)
            stream.writelines(map(entry, numbers))
            stream.write(foot)
        digest = hashlib.sha256((directory / location).read_bytes()).hexdigest()
        records.append(
            f'<data type="{kind}"><checksum type="sha256">{digest}</checksum><location href="{location}"/></data>\n'
        )
    repomd = f'{_HEAD}<repomd {space}repo">\n<revision>1</revision>\n{"".join(records)}</repomd>\n'
    (directory / "repodata" / "repomd.xml").write_text(repomd, encoding="ascii")


def _digest(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def _primary(number: int) -> str:
    """Return a package that needs some with smaller numbers, so that closures are small and never in circles."""
    name, evr = f"made-up-{number}", f'epoch="0" ver="1.{number % 97}" rel="{number % 13}.el9"'
    provides = "".join(f'<rpm:entry name="lib{name}.so.{part}()(64bit)"/>' for part in range(4))
    needed = [f'<rpm:entry name="libmade-up-{number // part}.so.{part % 4}()(64bit)"/>'
              for part in (2, 3, 5, 7) if number >= part]  # fmt: skip
    return (
        f'<package type="rpm"><name>{name}</name><arch>x86_64</arch><version {evr}/>'
        f'<checksum type="sha256" pkgid="YES">{_digest(number)}</checksum>'
        f"<summary>A package that nobody made</summary><description>{'It has words, as packages do. ' * 20}"
        f"</description><packager>nobody</packager><url>https://example.com/{name}</url>"
        f'<time file="1700000000" build="1700000000"/><size package="1000" installed="3000" archive="3100"/>'
        f'<location href="Packages/{name}.rpm"/><format><rpm:license>MIT</rpm:license>'
        f'<rpm:provides><rpm:entry name="{name}" flags="EQ" {evr}/>{provides}</rpm:provides>'
        f"<rpm:requires>{''.join(needed)}</rpm:requires><file>/usr/bin/{name}</file></format></package>\n"
    )


def _filelists(number: int) -> str:
    name = f"made-up-{number}"
    files = "".join(
        f"<file>/usr/share/{name}/{part % 9}/{part * number % 9973:04x}-{part}.data</file>"
        for part in range(_FILES)
    )
    return (
        f'<package pkgid="{_digest(number)}" name="{name}" arch="x86_64"><version epoch="0" '
        f'ver="1.{number % 97}" rel="{number % 13}.el9"/>{files}</package>\n'
    )


class _Quiet(SimpleHTTPRequestHandler):
    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _serve(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_ROOT_DIR = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
