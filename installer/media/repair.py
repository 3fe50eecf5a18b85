# SPDX-License-Identifier: Apache-2.0
"""Install packages again of which a power cut has taken files.

rpm syncs its database, not the files of packages: after a power cut it says that a package is installed, and its
programs are there without a byte. A transaction that was cut is carried out again as a whole (transaction.py); this
looks for what that leaves, file by file: dnf keeps a configuration file that is not as the package has it, an empty one
too. A file with another content is not looked at: it is the site's, or Calico's in /opt/cni/bin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from installer.base.errors import PackageError
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import Ui
from installer.media import dnf
from installer.media.product import Product

RPM_TIMEOUT_S = 300.0
# Of what rpm compares only the bytes: "S" size, "5" digest. Links are the site's (alternatives). Source: rpm(8).
LINE = re.compile(r"^(?P<marks>missing|[.?A-Z0-9]{8,9}) +(?:(?P<kind>[acdglmnr]) +)?(?P<path>/.+)$")
CHANGED = re.compile(r"missing|S|5")
LEFT_ALONE = ("d", "g", "l")  # documentation that a site removed, ghosts, licences


def repair(*, paths: Paths, media_dir: Path, product: Product, ui: Ui) -> bool:
    """Install again what is damaged of the media's packages on this host; return whether there was any.

    Raises:
        PackageError: dnf or rpm refused, or files are still damaged.
    """
    listed = run(["rpm", "--query", "--all", "--qf", "%{NAME}\\n"], timeout_s=RPM_TIMEOUT_S, check=False)
    names = sorted(set(listed.stdout.split()) & set(product.packages))
    if not names:
        return False
    ui.progress(f"the files of {len(names)} packages, after an interrupted run")
    damaged = find(names)
    if not damaged:
        return False
    owners = sorted(set(damaged.values()))
    ui.detail(f"files are damaged or missing, installing again: {' '.join(owners)}")
    # dnf would keep a configuration file that is not as the package has it, an empty one too.
    for file in map(Path, damaged):
        if file.is_file() and not file.is_symlink() and file.stat().st_size == 0:
            file.unlink()
    dnf.write_files(paths, media_dir, product)
    arguments = dnf.dnf_arguments(paths, "reinstall", *owners)
    environment = dnf.dnf_environment(paths)
    completed = run(arguments, timeout_s=dnf.DNF_TIMEOUT_S, check=False, env=environment)
    if completed.returncode != 0:
        raise dnf.explain(completed, owners, paths)
    left = find(owners)
    if left:
        raise PackageError(
            f"files of {', '.join(sorted(set(left.values())))} are still damaged after dnf installed them again",
            details="\n".join(sorted(left)[: dnf.LAST_LINES]),
            resolution="check the disk (dmesg, smartctl), then run this again",
        )
    return True


def find(names: list[str]) -> Mapping[str, str]:
    """Return path -> package of each file that is not there or empty, and has content in its package."""
    command = ["rpm", "--verify", "--nodeps", "--noscripts", "--nomtime", *names]
    verified = run(command, timeout_s=RPM_TIMEOUT_S, check=False)
    lost = [path for path in parse(verified.stdout) if _is_lost(Path(path))]
    if not lost:
        return {}
    listed = run(
        ["rpm", "--query", "--qf", "[%{=NAME} %{FILENAMES}\\n]", *names],
        timeout_s=RPM_TIMEOUT_S,
        check=False,
    )
    owned = (line.partition(" ") for line in listed.stdout.splitlines())
    owners = {path: name for name, _, path in owned}
    return {path: owners[path] for path in lost if path in owners}


def parse(text: str) -> list[str]:
    r"""Return the path of each file whose bytes rpm calls changed.

    >>> parse("S.5......  c /etc/a\nmissing     /usr/bin/b\n.......T.    /c\n")
    ['/etc/a', '/usr/bin/b']
    """
    found = []
    for line in text.splitlines():
        match = LINE.match(line)
        if match and match["kind"] not in LEFT_ALONE and CHANGED.search(match["marks"]):
            found.append(match["path"])
    return found


def _is_lost(file: Path) -> bool:
    return not file.exists() or file.stat().st_size == 0
