# SPDX-License-Identifier: Apache-2.0
"""Measure the pipeline beside the plain tools that do a part of it, in one run on one machine.

    built bundle of an upstream -> assemble, verify, do nothing, lock, make repodata -> table, page of the docs

Files are in the page cache of the machine: what is compared is work, not disks. Each figure is the best of
some rounds, ours and the other's in turns. Where only work counts, processor time is compared, which other
work on the machine does not change.

Run: ``python -m build.bench [--page]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib
import os
import platform
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from build import benchlock
from build.base import ui
from build.base.errors import BuildError, MissingError
from build.base.files import replacing, write_atomically
from build.base.run import run
from build.bundle import iso, rpmrepo
from build.bundle import product as product_files
from build.bundle.frame import read_back
from build.bundle.imagewriting import write_image
from build.evidence.verify import verify_iso
from build.project import Project
from build.store import filelist
from build.store.filelist import Entry

_ROUNDS = 5
_TIMEOUT_S = 1800
_LARGE_BYTES = 1_000_000_000
_PIECE_BYTES = 500_000
_COUNTER_BYTES = 4096  # asking the kernel's counter is counted too
#: What upstream made: everything else on the ISO is what the bundle costs.
_PAYLOAD = ("repo/el9/Packages/", "oci/blobs/", "manifests/", "keys/")
_PAGE = "docs/reference/bench.md"
_LOCK_TIME = re.compile(r"lock: .* in ([0-9.]+) s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what, how much, beside what, and the target that it should meet; None for no target."""

    what: str
    ours: str
    beside: str = ""
    target: str = ""
    is_met: bool | None = None


@dataclasses.dataclass(frozen=True, order=True)
class Cost:
    """What an action cost: seconds of the clock, and of processors, its commands' among them."""

    wall_s: float
    cpu_s: float

    @property
    def text(self) -> str:
        """Return both for people."""
        return f"{self.wall_s:.2f} s, {self.cpu_s:.2f} s of CPU"


class Bench:
    """The measurements of one built bundle, with a directory for what they write."""

    def __init__(self, project: Project, scratch_dir: Path) -> None:
        self._project = project
        self._scratch_dir = scratch_dir
        self._iso_file = project.iso_file
        if not self._iso_file.is_file():
            raise MissingError(
                f"there is no bundle '{self._iso_file}' to measure",
                resolution=f"run './doit.sh iso upstream={project.upstream}'",
            )
        workspace = project.workspace
        sums = product_files.sums_file(workspace)
        parts = (*project.parts(), product_files.part_file(workspace))
        self._entries = (
            *filelist.merge_parts(parts),
            filelist.describe_file(iso.SUMS_PATH, sums, owners=("checksums",)),
        )

    def rows(self) -> Iterator[Row]:
        """Measure everything."""
        yield from self.large_assembly()
        yield from self.assembly()
        yield from self.verifying()
        yield self.doing_nothing()
        yield self.locking()
        yield from self.metadata()
        yield self.repodata()
        yield self.overhead()

    def assembly(self) -> Iterator[Row]:
        """Compare the assembly from the store with xorriso on a directory of the same files."""
        tree = self._scratch_dir / "tree"
        _link_tree(self._entries, tree)
        image, plain = self._scratch_dir / "ours.iso", self._scratch_dir / "plain.iso"
        project = self._project
        volume, epoch = project.product.volume_id, project.lock.source_date_epoch
        commands = (
            lambda: write_image(image, self._entries, volume, epoch, self._scratch_dir),
            lambda: _quiet(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", plain, tree]),
        )
        ours, other = _best_in_turns(commands, before=(image, plain))
        shutil.rmtree(tree)
        plain.unlink()
        size_bytes = image.stat().st_size
        image.unlink()
        ratio = other.wall_s / ours.wall_s
        yield Row(
            what="assembly of the image",
            ours=f"{_rate(size_bytes, ours.wall_s)} ({ours.text})",
            beside=f"{_rate(size_bytes, other.wall_s)} ({other.text}), xorriso on a directory of the same files",
            target=f">= 0.9 of it: {ratio:.2f}",
            is_met=ratio >= 0.9,
        )

    def large_assembly(self) -> Iterator[Row]:
        """Assemble an image of a gigabyte of random bytes, as a build does: written, read back, on disk."""
        for name in ("pycdlib", "_strptime"):  # or reading what it imports would be counted
            importlib.import_module(name)
        entries = tuple(_random_files(self._scratch_dir / "random", _LARGE_BYTES))
        image = self._scratch_dir / "large.iso"
        start = time.monotonic()
        with replacing(image) as temporary:
            write_image(temporary, entries, "CAISSON_BENCH", 0, self._scratch_dir)
            size_bytes, before = temporary.stat().st_size, _bytes_read()
            wrong = read_back(temporary, entries).wrong
            again_bytes = _bytes_read() - before
        seconds = time.monotonic() - start
        memory_bytes = _peak_bytes()
        shutil.rmtree(self._scratch_dir / "random")
        image.unlink()
        if wrong:
            raise BuildError(
                "the image is not what was written", resolution="check the memory of this machine"
            )
        yield Row(
            what=f"assembly of {ui.bytes_text(size_bytes)}: written, read back, on disk",
            ours=f"{_rate(size_bytes, seconds)} ({seconds:.1f} s)",
            target=">= 200 MB/s",
            is_met=size_bytes / seconds >= 200e6,
        )
        yield Row(
            what="peak memory of that, xorriso and builder together",
            ours=ui.bytes_text(memory_bytes),
            target="<= 150 MB",
            is_met=memory_bytes <= 150e6,
        )
        yield Row(
            what="bytes read after writing / size",
            ours=f"{again_bytes / size_bytes:.4f}",
            target="<= 1",
            is_met=again_bytes <= size_bytes + _COUNTER_BYTES,
        )

    def verifying(self) -> Iterator[Row]:
        """Compare the check of the image with openssl's digest of it."""
        size_bytes = self._iso_file.stat().st_size
        commands = (
            lambda: verify_iso(self._iso_file, workers=1),
            lambda: _quiet(["openssl", "dgst", "-sha256", self._iso_file]),
        )
        cores = os.cpu_count() or 1
        one, openssl, spread = _best_in_turns(
            (*commands, lambda: verify_iso(self._iso_file, workers=cores)), key=lambda cost: cost.cpu_s
        )
        ratio = openssl.cpu_s / one.cpu_s
        yield Row(
            what="verify, a core",
            ours=f"{_rate(size_bytes, one.cpu_s)} ({one.text})",
            beside=f"{_rate(size_bytes, openssl.cpu_s)} ({openssl.text}), openssl dgst -sha256",
            target=f">= 0.9 of it: {ratio:.2f}",
            is_met=ratio >= 0.9,
        )
        yield Row(
            what=f"verify, {cores} cores",
            ours=f"{_rate(size_bytes, spread.wall_s)} ({spread.text})",
            beside=f"{spread.cpu_s / one.cpu_s:.2f} of the CPU time of one thread",
            target="<= 1.15: scales with cores",
            is_met=spread.cpu_s <= 1.15 * one.cpu_s,
        )

    def doing_nothing(self) -> Row:
        """Time doit where nothing is to be done."""
        words = ["iso", f"upstream={self._project.upstream}"]
        self._doit(words)
        seconds = _best(lambda: self._doit(words)).wall_s
        return Row(
            what="doit with nothing to do", ours=f"{seconds:.2f} s", target="<= 1 s", is_met=seconds <= 1
        )

    def locking(self) -> Row:
        """Time the lock where all metadata is known, as it says itself: from reading to writing."""
        words = ["--always-execute", "lock", f"upstream={self._project.upstream}"]
        found = []
        for _ in range(_ROUNDS):
            match = _LOCK_TIME.search(self._doit(words))
            if match:
                found.append(float(match.group(1)))
        if not found:
            raise BuildError(
                "the lock did not say how long it took", resolution="run './doit.sh lock' by hand"
            )
        return Row(what="warm lock", ours=f"{min(found):.1f} s", target="<= 2 s", is_met=min(found) <= 2)

    def metadata(self) -> Iterator[Row]:
        """Lock packages of two made-up repositories of real size, first from nothing, then from what was kept."""
        number = benchlock.PACKAGES
        size = f"{len(benchlock.REPOSITORIES)} x {number:,} packages"
        cold, warm = benchmark = benchlock.measure(self._scratch_dir / "lock", number)
        for name, figures, target_s in (("first", cold, 12), ("second", warm, 2)):
            yield Row(
                what=f"{name} lock of {size}",
                ours=f"{figures.wall_s:.1f} s, {figures.cpu_s:.1f} s of CPU",
                target=f"<= {target_s} s of CPU",
                is_met=figures.cpu_s <= target_s,
            )
        memory_bytes = max(figures.memory_bytes for figures in benchmark)
        yield Row(
            what="most memory of these",
            ours=ui.bytes_text(memory_bytes),
            target="<= 400 MB",
            is_met=memory_bytes <= 400e6,
        )

    def repodata(self) -> Row:
        """Compare the repository's metadata with createrepo_c on a directory of the same packages."""
        packages = self._scratch_dir / "packages"
        _link_tree([entry for entry in self._entries if entry.path.endswith(".rpm")], packages)
        lock, store, made = self._project.lock, self._project.store, self._scratch_dir / "repodata"
        commands = (
            lambda: rpmrepo.run_rpms(
                lock.packages, lock.keys, lock.source_date_epoch, store, made, self._scratch_dir / "rpms.json"
            ),
            lambda: _quiet(["createrepo_c", "--quiet", "--compatibility", packages]),
        )
        ours, other = _best_in_turns(commands)
        return Row(
            what=f"repodata of {len(lock.packages)} packages",
            ours=ours.text,
            beside=f"{other.text}, createrepo_c",
        )

    def overhead(self) -> Row:
        """Compare the size of the image with what upstream made of it."""
        payload = {
            entry.digest: entry.size_bytes for entry in self._entries if entry.path.startswith(_PAYLOAD)
        }
        size_bytes, payload_bytes = self._iso_file.stat().st_size, sum(payload.values())
        percent = (size_bytes / payload_bytes - 1) * 100
        return Row(
            what="image / unique payload",
            ours=f"{ui.bytes_text(size_bytes)} / {ui.bytes_text(payload_bytes)}: {percent:+.2f} %",
            target="<= 1 %",
            is_met=percent <= 1,
        )

    def _doit(self, words: Sequence[str]) -> str:
        done = run(
            [sys.executable, "-m", "doit", *words], cwd=self._project.root_dir, timeout_s=_TIMEOUT_S,
            env={name: os.environ[name] for name in ("CAISSON_CACHE",) if name in os.environ},
        )  # fmt: skip
        return done.stdout + done.stderr


def _random_files(directory: Path, size_bytes: int) -> Iterator[Entry]:
    """Write files of random bytes, a sixteenth of the whole each."""
    directory.mkdir()
    for number in range(16):
        file = directory / str(number)
        with file.open("wb") as stream:
            for _ in range(size_bytes // 16 // _PIECE_BYTES):
                stream.write(os.urandom(_PIECE_BYTES))
        yield filelist.describe_file(f"random/{number}", file, owners=("random bytes",))


def _bytes_read() -> int:
    """Return how many bytes this process asked the kernel for so far. Source: proc_pid_io(5), rchar."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def _link_tree(entries: Sequence[Entry], tree: Path) -> None:
    """Make a directory of the same files: names of the same inodes where the file system lets us."""
    for entry in entries:
        target = tree / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(entry.source, target)
        except OSError:
            shutil.copyfile(entry.source, target)


def _quiet(args: Sequence[str | Path]) -> None:
    run(args, timeout_s=_TIMEOUT_S)


def _cost(action: Callable[[], object]) -> Cost:
    gc.collect()
    start, before = time.monotonic(), _cpu_s()
    action()
    return Cost(time.monotonic() - start, _cpu_s() - before)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _best(action: Callable[[], object]) -> Cost:
    return min(_cost(action) for _ in range(_ROUNDS))


def _best_in_turns(
    actions: Sequence[Callable[[], object]],
    before: Sequence[Path] = (),
    key: Callable[[Cost], float] = lambda cost: cost.wall_s,
) -> list[Cost]:
    """Return the best costs of actions that take turns, so that a change of the machine's load hits all.

    ``before`` are files that are removed first, each before its action.
    """
    costs: list[list[Cost]] = [[] for _ in actions]
    for _ in range(_ROUNDS):
        for index, action in enumerate(actions):
            if before:
                before[index].unlink(missing_ok=True)
            costs[index].append(_cost(action))
    return [min(found, key=key) for found in costs]


def _peak_bytes() -> int:
    """Return the most memory that this process and the largest command that it started ever had."""
    return 1024 * sum(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _rate(size_bytes: int, seconds: float) -> str:
    return f"{ui.bytes_text(size_bytes / seconds)}/s"


def render_table(rows: Sequence[Row]) -> str:
    r"""Render the figures as a Markdown table.

    >>> print(render_table([Row(what="a", ours="1 s", target="<= 2 s", is_met=True)]), end="")
    | What | Caisson | Beside | Target | |
    |---|---|---|---|---|
    | a | 1 s |  | <= 2 s | met |
    """
    marks = {True: "met", False: "missed", None: ""}
    lines = ["| What | Caisson | Beside | Target | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.ours} | {row.beside} | {row.target} | {marks[row.is_met]} |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def render_page(rows: Sequence[Row], *, date: str, machine: str, upstream: str) -> str:
    """Render the page of the documentation."""
    return f"""<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by ./doit.sh bench --page. -->
# Speed of the pipeline

```console
$ ./doit.sh bench --page
```

{date}, upstream `{upstream}`, {machine}.
Files in the page cache; the best of {_ROUNDS} rounds, ours and the other's in turns.

{render_table(rows)}
"Unique payload" are the packages, the blobs of images, manifests and keys, each digest once; the rest is what the
bundle adds: installer, Salt tree, metadata, bill of materials, file system. The gigabyte is made of random bytes, once.
xorriso looks at its progress about once a
second, so the time of a small image comes in steps: for the assembly, CPU time compares better than the rate. The
packages of the two large repositories are made up; they are fetched over loopback.
"""


def machine_text() -> str:
    """Return what the figures were taken on."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores of {platform.machine()}, load {load:.1f} before"


@contextmanager
def _scratch(project: Project) -> Iterator[Path]:
    """Give a directory on the file system of the products, so that files can be linked."""
    project.out_dir.mkdir(parents=True, exist_ok=True)
    directory = project.out_dir / f".bench.{os.getpid()}.tmp"  # a killed one is swept by the next build
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code: 0 also where a target is missed, for load varies."""
    parser = argparse.ArgumentParser(prog="python -m build.bench", description="Measure the pipeline.")
    parser.add_argument("--upstream", default="lab", help="whose bundle is measured (default: lab)")
    parser.add_argument("--page", action="store_true", help=f"write {_PAGE} too")
    options = parser.parse_args(arguments)
    machine = machine_text()
    project = Project(Path(__file__).resolve().parents[1], options.upstream)
    rows = []
    try:
        with _scratch(project) as scratch_dir:
            for row in Bench(project, scratch_dir).rows():
                ui.note(f"{row.what}: {row.ours}{f'; {row.beside}' if row.beside else ''}")
                rows.append(row)
    except BuildError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    print(render_table(rows), end="")
    if options.page:
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        text = render_page(rows, date=date, machine=machine, upstream=options.upstream)
        write_atomically(project.root_dir / _PAGE, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
