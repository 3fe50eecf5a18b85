# SPDX-License-Identifier: Apache-2.0
"""Log in to other hosts with what somebody typed into a browser: a private key, passwords.

At a terminal a question is answered; a form has fields. The job gets them by the names of the fields, and a private key
lies in a file of root's, in memory, while the job needs it: ssh reads keys from files. Who is killed leaves it there
until the next job is asked for (jobsecrets.py), or the host is switched off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from installer.base.errors import UsageError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.config.nodes import NodeEntry
from installer.engine import jobsecrets

PASSWORD, KEY, PASSPHRASE, SUDO = FIELDS = ("password", "key", "passphrase", "sudo")


@contextlib.contextmanager
def applied(
    paths: Paths, job_id: str, secrets: Mapping[str, str], entries: Sequence[NodeEntry]
) -> Iterator[tuple[tuple[NodeEntry, ...], Mapping[str, str]]]:
    """Give the entries and the secrets as ssh wants them: keys in files, answers by their questions.

    What was typed at a terminal comes through as it is.

    Raises:
        HostError: /run is not in memory.
        OSError: it cannot be written.
    """
    typed = {name: text for name, text in secrets.items() if name in FIELDS and text}
    rest = {name: text for name, text in secrets.items() if name not in FIELDS}
    if not typed:
        yield tuple(entries), secrets
        return
    file = _key_file(paths, job_id) if KEY in typed else None
    try:
        if file is not None:
            jobsecrets.need_memory(file.parent)
            write_file(file, _as_file(typed[KEY]), mode=0o600)
        used = tuple(entry if file is None else replace(entry, identity=file) for entry in entries)
        yield used, {**rest, **_answers(typed, used)}
    finally:
        if file is not None:
            file.unlink(missing_ok=True)


def _key_file(paths: Paths, job_id: str) -> Path:
    paths.secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.secrets_dir.chmod(0o700)
    return paths.secrets_dir / f"{job_id}.key"


def _as_file(text: str) -> str:
    """Return a key as ssh reads it: browsers send other line ends, and OpenSSH wants one at the end."""
    return text.replace("\r\n", "\n").strip() + "\n"


def _answers(typed: Mapping[str, str], entries: Sequence[NodeEntry]) -> dict[str, str]:
    """Return question -> answer; the questions are those of ssh.py."""
    found = {}
    for entry in entries:
        if PASSWORD in typed:
            found[f"the password of {entry.user} on {entry.title}: "] = typed[PASSWORD]
        if PASSPHRASE in typed and entry.identity is not None:
            found[f"the passphrase of {entry.identity}: "] = typed[PASSPHRASE]
        sudo = typed.get(SUDO) or typed.get(PASSWORD)
        if sudo:
            found[f"password of {entry.user} for sudo on {entry.title}: "] = sudo
    return found


def check(secrets: Mapping[str, str]) -> None:
    """Refuse what ssh could not use.

    Raises:
        UsageError: it is no private key.
    """
    key = secrets.get(KEY, "")
    if key and "PRIVATE KEY-----" not in key:
        raise UsageError(
            "what was given is no private key",
            details="one begins with a line like -----BEGIN OPENSSH PRIVATE KEY-----",
            resolution="give the whole text of the file whose name does not end with .pub",
        )
