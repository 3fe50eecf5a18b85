# SPDX-License-Identifier: Apache-2.0
"""The keys of minions at their master, each a file by the minion's name in the directory of its state."""

from __future__ import annotations

from collections.abc import Sequence

from installer.base.paths import Paths

MASTER_PKI_DIR = "/etc/caisson/salt/pki/master"
ACCEPTED_DIR = "minions"
BARRED_DIRS = ("minions_rejected", "minions_pre", "minions_denied")
"""What lies here counts before a key that is accepted. Source: Salt 3008, cache/localfs_key.py."""
ALL_DIRS = (ACCEPTED_DIR, *BARRED_DIRS, "minions_autosign")


def forget(paths: Paths, minion_id: str, directories: Sequence[str]) -> bool:
    """Remove the keys of a minion from these directories; return whether there was one."""
    files = [paths.at(MASTER_PKI_DIR) / directory / minion_id for directory in directories]
    there = [file for file in files if file.is_file()]
    for file in there:
        file.unlink(missing_ok=True)
    return bool(there)
