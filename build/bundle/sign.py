# SPDX-License-Identifier: Apache-2.0
"""Sign the checksums of a bundle with an OpenPGP key of the user's own gpg.

    SHA256SUMS -> iso:signature -> SHA256SUMS.asc, SHA256SUMS.gpg (the public key), both on the ISO
    NAME.iso.sha256 -> (when the image is assembled) NAME.iso.sha256.asc beside it

A signature holds the time it was made: it is no input of anything but the image itself, so that all other
bytes of a signed bundle are those of an unsigned one.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from build.base.errors import KeyFileError, SignatureError
from build.base.files import replacing, write_atomically
from build.base.plan import Step, Workspace
from build.base.run import Completed, run
from build.store import filelist

SIGNATURE_PATH, KEY_PATH = "SHA256SUMS.asc", "SHA256SUMS.gpg"
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_GPG_NAMES = ("GNUPGHOME", "GPG_TTY", "GPG_AGENT_INFO", "DISPLAY", "PINENTRY_USER_DATA")
_TIMEOUT_S = 300  # somebody may have to type a passphrase, or touch a token


def fingerprint(text: str) -> str:
    """Return a fingerprint in its plain form.

    Raises: KeyFileError for anything else: a short key id or a name may mean several keys.

    >>> fingerprint("0123 4567 89ab cdef 0123  4567 89ab cdef 0123 4567")
    '0123456789ABCDEF0123456789ABCDEF01234567'
    """
    plain = text.replace(" ", "").upper().removeprefix("0X")
    if not _FINGERPRINT.fullmatch(plain):
        raise KeyFileError(
            f"'{text}' is not the fingerprint of an OpenPGP key",
            details="a fingerprint has 40 hexadecimal digits; key ids and names are not taken",
            resolution="'gpg --list-secret-keys --with-fingerprint' shows the fingerprints of your keys",
        )
    return plain


def signature_file(file: Path) -> Path:
    """Return where the signature of a file lies."""
    return file.with_name(f"{file.name}.asc")


def part_file(workspace: Workspace) -> Path:
    """Return the table of the signature."""
    return workspace.part_file("signature")


def plan_signature(sums_file: Path, key: str, workspace: Workspace) -> Step:
    """Plan the signature of the checksums by a key's fingerprint."""
    part, tree = part_file(workspace), workspace.tree_dir
    return Step(
        name="signature",
        doc=f"sign {sums_file.name} with {key}",
        run=functools.partial(run_signature, sums_file, key, tree, part),
        inputs=(sums_file,),
        outputs=(tree / SIGNATURE_PATH, tree / KEY_PATH, part),
        config={"key": key},
    )


def run_signature(sums_file: Path, key: str, tree_dir: Path, part: Path) -> None:
    """Sign the checksums and put the public key beside the signature.

    Raises: KeyFileError when gpg has no such key; SignatureError; CommandError.
    """
    sign_file(sums_file, tree_dir / SIGNATURE_PATH, key)
    exported = _gpg(["--export", "--export-options", "export-minimal", f"0x{key}"])
    write_atomically(tree_dir / KEY_PATH, exported.stdout_bytes)
    filelist.write_part(
        part,
        [
            filelist.describe_file(path, tree_dir / path, owners=("signature",))
            for path in (SIGNATURE_PATH, KEY_PATH)
        ],
    )


def sign_file(file: Path, target: Path, key: str) -> None:
    """Write a detached, armored signature, and check that it is one by the key.

    Raises: KeyFileError when gpg has no such key; SignatureError; CommandError.
    """
    if _gpg(["--list-secret-keys", f"0x{key}"], check=False).returncode != 0:
        raise KeyFileError(
            f"gpg has no secret key {key}",
            details=f"its directory: {os.environ.get('GNUPGHOME') or '~/.gnupg'}",
            resolution="give the fingerprint of one of 'gpg --list-secret-keys', or set GNUPGHOME",
        )
    with replacing(target) as temporary:
        made = _gpg(
            ["--armor", "--detach-sign", "--digest-algo", "SHA256", "--no-ask-sig-expire",
             "--default-sig-expire", "0", "--local-user", f"0x{key}",
             "--output", str(temporary), str(file)],
            check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise SignatureError(
                f"'{file.name}' could not be signed with {key}",
                details=made.stderr.strip(),
                resolution="has the key ended? Can gpg ask for its passphrase here (GPG_TTY)?",
            )
        status = _gpg(["--status-fd", "1", "--verify", str(temporary), str(file)], check=False).stdout
        if key not in valid_fingerprints(status):
            raise SignatureError(
                f"the signature of '{file.name}' was not made by {key}",
                details=status.strip(),
                resolution="look at 'default-key' and 'local-user' in your gpg.conf",
            )


def valid_fingerprints(status: str) -> frozenset[str]:
    """Return who made a good signature: the fingerprints of the signing key and of its primary key.

    Source: GnuPG doc/DETAILS, VALIDSIG: first and tenth argument.

    >>> sorted(valid_fingerprints("[GNUPG:] VALIDSIG AA 2026-01-01 1 0 4 0 22 8 00 BB"))
    ['AA', 'BB']
    """
    found: set[str] = set()
    for line in status.splitlines():
        words = line.split()
        if words[:2] == ["[GNUPG:]", "VALIDSIG"]:
            found |= {words[2], words[-1]}
    return frozenset(found)


def _gpg(args: Sequence[str], *, check: bool = True) -> Completed:
    """Run the user's own gpg: his keys, his agent, his way to give a passphrase."""
    env = {name: os.environ[name] for name in _GPG_NAMES if name in os.environ}
    return run(["gpg", "--batch", "--yes", *args], env=env, timeout_s=_TIMEOUT_S, check=check)
