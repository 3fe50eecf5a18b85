# SPDX-License-Identifier: Apache-2.0
"""One OpenPGP key per repository of the miniature upstream, and a foreign one that no repository knows.

    <cache>/lab/keys/<owner>/<digest>/{public.asc,secret.asc,fingerprint}

A GnuPG home with its agent exists only while something is signed; what a killed run left, the next one ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.cache import digest_of, lab_dir, produce
from lab.errors import LabError
from lab.run import run

REPOSITORIES: tuple[str, ...] = ("appstream", "baseos", "docker-ce", "kubernetes", "salt")
FOREIGN = "foreign"
ALGORITHM = "rsa3072"

_HOME_PREFIX = "caisson-gnupg-"
_GPG = ("gpg", "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A signing key: who owns it, its fingerprint (40 upper-case hex digits), its two exported halves."""

    owner: str
    fingerprint: str
    public_file: Path
    secret_file: Path


def user_id(owner: str) -> str:
    """Return the user id of an owner's key.

    >>> user_id("kubernetes")
    'Caisson lab stand-in for kubernetes (not the real one) <kubernetes@lab.caisson.internal>'
    """
    return f"Caisson lab stand-in for {owner} (not the real one) <{owner}@lab.caisson.internal>"


def key(owner: str) -> Key:
    """Return the key of a repository, or of FOREIGN; it is made the first time.

    Raises:
        LabError: nobody of that name has a key, or gpg failed.
    """
    if owner not in (*REPOSITORIES, FOREIGN):
        raise LabError(
            f"the lab has no key for {owner!r}",
            resolution="name one of: " + ", ".join((*REPOSITORIES, FOREIGN)),
        )
    name = digest_of({"owner": owner, "user id": user_id(owner), "algorithm": ALGORITHM})
    directory = produce(lab_dir("keys") / owner / name, partial(_generate, owner))
    return Key(
        owner=owner,
        fingerprint=(directory / "fingerprint").read_text().strip(),
        public_file=directory / "public.asc",
        secret_file=directory / "secret.asc",
    )


def keys() -> dict[str, Key]:
    """Return the keys of all repositories by repository id."""
    return {owner: key(owner) for owner in REPOSITORIES}


@contextmanager
def signing_home(*signers: Key) -> Iterator[Path]:
    """Give a GnuPG home that holds the secret keys of ``signers``, and take it away with its agent."""
    with _home() as home_dir:
        for signer in signers:
            run([*_GPG, "--homedir", home_dir, "--import", signer.secret_file], timeout_s=60)
        yield home_dir


def sign_detached(file: Path, *, signer: Key, home_dir: Path) -> Path:
    """Write ``<file>.asc``, an armoured detached signature with SHA-256, and return its path."""
    signature_file = file.with_name(file.name + ".asc")
    args: list[str | Path] = [
        "--homedir",
        home_dir,
        "--yes",
        "--digest-algo",
        "SHA256",
        "--local-user",
        signer.fingerprint,
    ]
    run([*_GPG, *args, "--armor", "--output", signature_file, "--detach-sign", file], timeout_s=60)
    return signature_file


def parse_fingerprint(colons: str) -> str:
    r"""Return the fingerprint of the first primary key in ``gpg --with-colons`` output.

    Raises:
        LabError: there is none.

    >>> parse_fingerprint("tru::1\nsec:u:3072:1:AB::::::\nfpr:::::::::0123:\n")
    '0123'
    """
    for line in colons.splitlines():
        fields = line.split(":")
        if fields[0] == "fpr":
            return fields[9]
    raise LabError("gpg listed no key", details=colons)


def end_left_over_homes() -> None:
    """End the agents, and remove the homes, of runs that were killed while they signed."""
    for home_dir in Path(tempfile.gettempdir()).glob(f"{_HOME_PREFIX}*"):
        owner_pid = home_dir.name.removeprefix(_HOME_PREFIX).partition("-")[0]
        if home_dir.owner() == _user() and not Path("/proc", owner_pid).exists():
            _end_home(home_dir)


def _user() -> str:
    return Path("/proc/self").owner()


@contextmanager
def _home() -> Iterator[Path]:
    # Not below the cache: the path of the agent's socket may have no more than 107 bytes.
    end_left_over_homes()
    home_dir = Path(tempfile.mkdtemp(prefix=f"{_HOME_PREFIX}{os.getpid()}-"))
    try:
        yield home_dir
    finally:
        _end_home(home_dir)


def _end_home(home_dir: Path) -> None:
    run(["gpgconf", "--homedir", home_dir, "--kill", "all"], timeout_s=60, check=False)
    shutil.rmtree(home_dir, ignore_errors=True)


def _generate(owner: str, work_dir: Path) -> None:
    secret_file = work_dir / "secret.asc"
    with _home() as home_dir:
        gpg: list[str | Path] = [*_GPG, "--homedir", home_dir]
        run([*gpg, "--quick-generate-key", user_id(owner), ALGORITHM, "sign", "never"], timeout_s=300)
        fingerprint = parse_fingerprint(run([*gpg, "--with-colons", "--list-secret-keys"]).stdout)
        run([*gpg, "--armor", "--output", work_dir / "public.asc", "--export", fingerprint])
        run([*gpg, "--armor", "--output", secret_file, "--export-secret-keys", fingerprint])
    secret_file.chmod(0o600)
    (work_dir / "fingerprint").write_text(fingerprint + "\n")
