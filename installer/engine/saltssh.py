# SPDX-License-Identifier: Apache-2.0
"""Run a command on another host by salt-ssh in raw mode, over the connection that is open already.

Salt's own Python on this host runs it; on the other host nothing is needed but a shell. Salt gets neither a key nor a
password: its ssh goes over the master of the connection (ControlPath) or nowhere. Its roster and configuration are in
memory, and end with the connection; so does an empty Saltfile, or salt-ssh would read one of the directory that the
operator happens to be in. Source: Salt 3008.3, salt/client/ssh/__init__.py and shell.py; ADR 0029.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, SaltError
from installer.base.paths import Paths
from installer.base.run import Completed, run
from installer.engine.ssh import Connection, unframe

SALT_SSH_FILE = Path("/opt/saltstack/salt/salt-ssh")
NO_KEY = "agent-forwarding"
"""Salt's word for "give ssh no key"; none is made then, and no agent is there. Source: client/ssh/__init__.py."""
TARGET = "host"
CACHE_DIR = "/var/cache/caisson/salt-ssh"
START_TIMEOUT_S = 120.0

_ARCHIVE_LOCK = threading.Lock()


def run_raw(
    host: Connection, words: Sequence[str], *, timeout_s: float, paths: Paths, program: Path = SALT_SSH_FILE
) -> Completed:
    """Run one command as root there and return what it left, whatever its exit code.

    Raw mode has no stdin: where sudo wants a password the same command goes over the connection without Salt.

    Raises:
        SaltError: salt-ssh did not run it.
        CommandError: it took longer than ``timeout_s``.
    """
    if host.needs_sudo_password:
        return host.run(words, timeout_s=timeout_s, check=False)
    make_archive(paths, program)
    directory = host.scratch_dir / "salt"
    _configure(directory, paths, roster(host))
    mark = secrets.token_hex(8)
    said = run(
        [program, *arguments(directory), host.framed(words, mark)],
        timeout_s=timeout_s + START_TIMEOUT_S,
        check=False,
    )
    completed = unframe(_answer(said), mark)
    if completed is None:
        raise SaltError(
            f"salt-ssh did not run '{words[0]}' on {host.entry.title}",
            details="\n".join(f"| {line}" for line in (said.stdout + said.stderr).splitlines()[-12:]),
            resolution="start it again; when it stays so, the last lines above say what Salt or ssh ran into",
        )
    return completed


def begin_archive(paths: Paths) -> None:
    """Make Salt's archive while other things are done; :func:`run_raw` waits for it."""
    threading.Thread(target=make_archive, args=(paths,), daemon=True).start()


def make_archive(paths: Paths, program: Path = SALT_SSH_FILE) -> None:
    """Let salt-ssh make its archive for other modes, unless it has one for the Salt that is installed.

    Raw mode does not use it, and yet the first start makes it: nine seconds on two cores. Two starts at a time would
    write into one file. That it cannot be made is said by the start that needs it. Source: Salt 3008.3,
    salt/utils/thin.py.
    """
    with _ARCHIVE_LOCK, contextlib.suppress(InstallerError, OSError):
        installed_at = program.stat().st_ctime
        # Written at each start, before the archive.
        stamp = paths.at(CACHE_DIR) / "thin/salt-call"
        if stamp.with_name("version").exists() and stamp.stat().st_mtime > installed_at:
            return
        with tempfile.TemporaryDirectory(prefix="archive-", dir=_made(paths.ssh_dir)) as scratch:
            directory = Path(scratch) / "salt"
            # Salt wants a host: none is reached.
            nowhere = {
                "host": "127.0.0.1",
                "user": "root",
                "priv": NO_KEY,
                "ssh_options": ["ProxyCommand=false"],
            }
            _configure(directory, paths, {TARGET: nowhere})
            run([program, *arguments(directory), "true"], timeout_s=START_TIMEOUT_S, check=False)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def _configure(directory: Path, paths: Paths, hosts: Mapping[str, Any]) -> None:
    _made(directory)
    for name, content in (("master", configuration(paths, directory)), ("roster", hosts)):
        (directory / name).write_text(json.dumps(content), encoding="utf-8")
    (directory / "Saltfile").write_text("", encoding="utf-8")


def arguments(directory: Path) -> list[str]:
    """Return the words before the command. Pure.

    The target is a list (``-L``): for a single name salt-ssh asks the nameserver.
    """
    return [
        f"--saltfile={directory}/Saltfile",
        f"--config-dir={directory}",
        f"--roster-file={directory}/roster",
        "--log-level=quiet",
        "--no-color",
        "--out=json",
        "--static",
        "--list",
        "--raw",
        TARGET,
    ]


def configuration(paths: Paths, directory: Path) -> dict[str, Any]:
    """Return Salt's configuration; JSON is YAML. Pure."""
    return {
        "pki_dir": f"{directory}/pki",
        "cachedir": str(paths.at(CACHE_DIR)),
        "sock_dir": f"{directory}/sock",
        "log_file": "/dev/null",
        "ssh_log_file": "/dev/null",
        "ssh_priv": NO_KEY,
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
        "file_roots": {"base": []},
        "pillar_roots": {"base": []},
    }


def roster(host: Connection) -> dict[str, Any]:
    """Return the roster: this host, and no way to log in to it but the open connection."""
    entry = host.entry
    return {
        TARGET: {
            "host": entry.address,
            "user": entry.user,
            "port": entry.port,
            "priv": NO_KEY,
            "ssh_options": host.own_options(),
        }
    }


def _answer(said: Completed) -> Completed:
    """Return what came from the other host; salt-ssh reads it from a terminal, which ends lines in its own way."""
    try:
        answer = json.loads(said.stdout)[TARGET]
        out, err = str(answer["stdout"]), str(answer["stderr"])
    except (ValueError, KeyError, TypeError):
        return said
    return Completed(said.returncode, out.replace("\r\n", "\n"), err.replace("\r\n", "\n"))
