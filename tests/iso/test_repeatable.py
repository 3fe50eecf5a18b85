# SPDX-License-Identifier: Apache-2.0
"""The lab's ISO, built again from the same lock, elsewhere and otherwise: the same bytes; without a network."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build.bundle.iso import checksum_file
from build.store.objects import default_cache_dir

TIMEOUT_S = 300
SOURCES = (
    "dodo.py", "versions.yaml", "images.yaml", "packages.yaml", "policy.yaml", "build", "console", "installer",
    "salt",
)  # fmt: skip
LOCKED = ("upstream.yaml", "caisson.lock", "keys")
#: Programs whose clock is set too: the builder gives its commands an environment of their own.
TOOLS = ("xorriso", "rpm2archive", "rpm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a build must not depend on."""

    directory: str
    umask: int
    zone: str
    locale: str
    clock: str
    uid: int
    jobs: int


ONE = Surroundings(
    directory="a", umask=0o077, zone="Asia/Kathmandu", locale="tr_TR.UTF-8", clock="2031-03-09 04:05:06",
    uid=1234, jobs=1,
)  # fmt: skip
OTHER = Surroundings(
    directory="another checkout/deeper", umask=0o002, zone="America/St_Johns", locale="C",
    clock="1999-12-31 23:59:50", uid=65534, jobs=4,
)  # fmt: skip


def make_checkout(repository_dir: Path, root: Path, umask: int) -> Path:
    """Copy what a build reads, with the dates and the modes of a new user; the lock is a committed one."""
    before = os.umask(umask)
    try:
        for source_dir, target_dir, names in (
            (repository_dir, root, SOURCES),
            (repository_dir / "_out" / "lab", root / "mirror", LOCKED),
        ):
            target_dir.mkdir(parents=True, exist_ok=True)
            for name in names:
                source, target = source_dir / name, target_dir / name
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, target, copy_function=shutil.copyfile, ignore=ignored)
                else:
                    shutil.copyfile(source, target)
    finally:
        os.umask(before)
    return root


def faked_tools(directory: Path, clock: str) -> Path:
    """Write programs that start the real ones with another clock."""
    directory.mkdir()
    for name in TOOLS:
        real = shutil.which(name)
        assert real, name
        file = directory / name
        file.write_text(f"#!/bin/sh\nexport NO_FAKE_STAT=1\nexec faketime '{clock}' {real} \"$@\"\n")
        file.chmod(0o755)
    return directory


def build(
    checkout: Path, there: Surroundings, *, tools: Path, cache_dir: Path
) -> subprocess.CompletedProcess[str]:
    """Run doit in a network namespace without any device, as another user, with another clock."""
    faketime = shutil.which("faketime")
    assert faketime
    return subprocess.run(
        [
            "unshare", "--net", "--user", f"--map-user={there.uid}", f"--map-group={there.uid}",
            faketime, there.clock,
            sys.executable, "-m", "doit", "-n", str(there.jobs), "iso", "upstream=mirror/upstream.yaml",
        ],
        cwd=checkout,
        env={
            "PATH": f"{tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(checkout),
            "USER": f"user{there.uid}",
            "TZ": there.zone,
            "LC_ALL": there.locale,
            "CAISSON_CACHE": str(cache_dir),
            "NO_FAKE_STAT": "1",
        },
        umask=there.umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("there", [ONE, OTHER], ids=lambda there: there.directory)
def test_the_same_bytes_without_a_network(
    there: Surroundings, repository_dir: Path, tmp_path: Path, iso_file: Path
) -> None:
    """Directory, umask, zone, locale, user, clock, number of jobs: nothing of it is in the image."""
    checkout = make_checkout(repository_dir, tmp_path / there.directory, there.umask)
    tools = faked_tools(tmp_path / "tools", there.clock)
    done = build(checkout, there, tools=tools, cache_dir=default_cache_dir())
    assert done.returncode == 0, done.stdout + done.stderr
    built = checkout / "_out" / iso_file.name
    assert checksum_file(built).read_text() == checksum_file(iso_file).read_text()


def test_with_a_cold_store_it_stops_and_names_what_is_missing(repository_dir: Path, tmp_path: Path) -> None:
    checkout = make_checkout(repository_dir, tmp_path / "checkout", 0o022)
    tools = faked_tools(tmp_path / "tools", ONE.clock)
    done = build(checkout, ONE, tools=tools, cache_dir=tmp_path / "cache")
    assert done.returncode in (15, 16, 23), done.stdout + done.stderr
    assert "sha256:" in done.stdout + done.stderr
