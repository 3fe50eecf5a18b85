# SPDX-License-Identifier: Apache-2.0
"""Make the certificate with which a further control plane serves: signed here, its key goes there over SSH."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installer.base.errors import CommandError, HostError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import x509
from installer.engine import remotefiles
from installer.engine.remotefiles import RemoteFile
from installer.engine.saltworker import LOCAL_DIR, SALT_CALL
from installer.engine.ssh import Connection
from installer.operations import media_certificate

SCRATCH_DIR = "/run/caisson-replica"
"""In memory: a key is there for seconds."""
NOTES_DIR = "/var/lib/caisson/replicas"


def note_file(paths: Paths, name: str) -> Path:
    """Return where the certificate of a replica is noted: what is there in its place is not what was made here."""
    return paths.at(f"{NOTES_DIR}/{name}.crt")


def send(host: Connection, name: str, address: str, media_name: str, paths: Paths) -> bool:
    """Let a host have a certificate that is good for long; return whether it got a new one.

    Raises:
        HostError: it cannot be made.
        CommandError: it did not arrive.
    """
    if _is_good(host, name, {address, media_name}, paths):
        return False
    with _scratch(paths) as directory:
        key, certificate = directory / "media.key", directory / "media.crt"
        _single("x509.private_key_managed", {"name": str(key), "algo": "ec", "keysize": 256, "mode": "0600"})
        wanted = _wanted(name, address, media_name, certificate)
        _single("x509.certificate_managed", {**wanted, "private_key": str(key)})
        text = certificate.read_bytes()
        files = [
            RemoteFile(media_certificate.OWN_KEY_FILE, key.read_bytes(), 0o600),
            RemoteFile(media_certificate.OWN_FILE, text),
        ]
        remotefiles.put(host, files, is_secret=True)
    write_file(note_file(paths, name), text)
    return True


def sign_again(name: str, address: str, media_name: str, paths: Paths) -> bytes:
    """Return a new certificate for the key of the one that a replica was given last, which stays where it is.

    Raises:
        HostError: it cannot be made.
    """
    try:
        public_key = x509.public_key(note_file(paths, name))
    except (OSError, ValueError) as exc:
        raise HostError(
            f"the certificate with which {name} serves is not noted here",
            details=str(exc),
            resolution=f"caisson media replicate {name}: it gives a new one",
        ) from exc
    with _scratch(paths) as directory:
        key, certificate = directory / "media.pub", directory / "media.crt"
        write_file(key, public_key, mode=0o600)
        wanted = _wanted(name, address, media_name, certificate)
        del wanted["private_key"]
        _single("x509.certificate_managed", {**wanted, "public_key": str(key)})
        return certificate.read_bytes()


def _wanted(name: str, address: str, media_name: str, file: Path) -> dict[str, Any]:
    known = {"node": {"control_plane_address": address, "name": name}, "media_name": media_name}
    return {**media_certificate.arguments(known), "name": str(file)}


def _is_good(host: Connection, name: str, names: set[str], paths: Paths) -> bool:
    file = note_file(paths, name)
    try:
        text = file.read_bytes()
        is_lasting = x509.parse(x509.read_der(file)).not_after - time.time() > (
            media_certificate.RENEWED_DAYS * media_certificate.DAY_S
        )
        is_named = names <= x509.names(file)
    except (OSError, ValueError):
        return False
    if (
        not is_lasting
        or not is_named
        or remotefiles.differing(host, [RemoteFile(media_certificate.OWN_FILE, text)])
    ):
        return False
    has_key = host.run(["test", "-s", media_certificate.OWN_KEY_FILE], timeout_s=30, check=False)
    return has_key.returncode == 0


@contextmanager
def _scratch(paths: Paths) -> Iterator[Path]:
    directory = paths.at(SCRATCH_DIR)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _single(function: str, given: dict[str, Any]) -> None:
    """Let Salt apply one state here. Raises: HostError."""
    words = [f"{key}={json.dumps(value)}" for key, value in given.items()]
    asked = [SALT_CALL, "--local", f"--config-dir={LOCAL_DIR}", "--out=json", "--log-level=quiet"]
    try:
        said = run(
            [*asked, "state.single", function, *words],
            timeout_s=media_certificate.SALT_TIMEOUT_S,
            is_secret=True,
        )
        (state,) = json.loads(said.stdout)["local"].values()
        fault = "" if state["result"] is True else str(state["comment"])
    except CommandError as exc:
        fault = exc.details or exc.message
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        fault = f"Salt's answer cannot be read: {exc}"
    if fault:
        raise HostError(
            "the certificate of a further media server cannot be made",
            details=fault,
            resolution="run the same command again; 'caisson status' says what is wrong with Salt",
        )
