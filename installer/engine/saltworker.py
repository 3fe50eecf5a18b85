# SPDX-License-Identifier: Apache-2.0
"""Keep one salt-call for the run: its start costs more than most of what it is asked to do."""

from __future__ import annotations

from pathlib import Path

from installer.base.run import Conversation

SALT_CALL = "/usr/bin/salt-call"
LOCAL_DIR = "/etc/caisson/salt/local"
CONNECTED_DIR = "/etc/salt"


class SaltWorkers:
    """The salt-call that is kept: in local mode, or connected to the master; one at a time.

    It has read its configuration, its pillar and the modules at its start: close it after any of them changed.
    """

    def __init__(self) -> None:
        self._worker: Conversation | None = None
        self._is_local = False

    def worker(self, log_file: Path, *, local: bool) -> Conversation:
        """Return the one that is there, or start it; one of the other mode is let go first.

        Raises:
            HostError: Salt is not installed.
        """
        if self._worker is not None and self._is_local != local:
            self.close()
        if self._worker is None:
            self._worker = Conversation(command(log_file, local=local))
            self._is_local = local
        return self._worker

    def close(self) -> None:
        """Let the one that is there end; without one this does nothing."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


def command(log_file: Path, *, local: bool) -> list[str]:
    """Return the command line of a salt-call that stays."""
    return [
        SALT_CALL,
        f"--config-dir={LOCAL_DIR if local else CONNECTED_DIR}",
        "--out=json",
        "--log-level=quiet",
        f"--log-file={log_file}",
        "--log-file-level=info",
        *(["--local"] if local else []),
        "caisson_worker.serve",
    ]
