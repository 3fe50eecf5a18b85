# SPDX-License-Identifier: Apache-2.0
"""Say who signed the media: SHA256SUMS.asc against the key that the operator pinned by its fingerprint.

The public key lies on the media beside the signature: what makes it trustworthy is its fingerprint, which
the operator has from elsewhere. A signature does not become worse with time: a key that has ended since, or a
host whose clock is wrong, is no reason to refuse.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import MediaError
from installer.base.files import write_file
from installer.base.run import run

SUMS_FILE_NAME, SIGNATURE_FILE_NAME, KEY_FILE_NAME = "SHA256SUMS", "SHA256SUMS.asc", "SHA256SUMS.gpg"
#: What SHA256SUMS cannot name: itself, and what is made of it.
UNLISTED_FILE_NAMES = (SUMS_FILE_NAME, SIGNATURE_FILE_NAME, KEY_FILE_NAME)
COMPARE = "get a media signed with the pinned key, or correct media.signingKey in bootstrap.yaml"


@dataclass(frozen=True)
class Signature:
    """A good signature: the fingerprints of its primary key and of the key that made it (often the same)."""

    primary: str
    key: str

    def is_by(self, fingerprint: str) -> bool:
        """Say whether a key made it, or its primary key did."""
        return fingerprint.upper() in (self.primary, self.key)


def is_signed(media_dir: Path) -> bool:
    """Say whether the media says that it is signed."""
    return (media_dir / SIGNATURE_FILE_NAME).exists()


def check(media_dir: Path, pinned: str, *, note: Callable[[str], None]) -> None:
    """Refuse media that is not signed as the operator demands; ``pinned`` is empty when nothing is demanded.

    Without a pinned key a signature must still be good, and its fingerprint is shown to be compared.

    Raises:
        MediaError: not signed though a key is pinned, a bad signature, or one by another key.
    """
    if not is_signed(media_dir):
        if pinned:
            raise MediaError(
                f"the media {media_dir} is not signed",
                details=f"bootstrap.yaml demands a signature by the key {pinned} (media.signingKey)",
                resolution=COMPARE,
            )
        return
    found = verify(media_dir)
    if not pinned:
        note(
            f"the media is signed by the key {found.primary}: compare this with the fingerprint that you "
            "were given, and pin it as media.signingKey in bootstrap.yaml"
        )
    elif not found.is_by(pinned):
        raise MediaError(
            f"the media {media_dir} is signed by another key than the pinned one",
            details=f"signed by: {found.primary}\npinned:    {pinned} (media.signingKey)",
            resolution=COMPARE,
        )
    else:
        note(f"the media is signed by the pinned key {pinned}")


def verify(media_dir: Path) -> Signature:
    """Verify the signature of SHA256SUMS with the key that lies beside it.

    Raises:
        MediaError: the signature is bad, by a key that is not there, or by a revoked one.
        HostError: gpgv is not installed.
    """
    paths = [media_dir / name for name in (KEY_FILE_NAME, SIGNATURE_FILE_NAME, SUMS_FILE_NAME)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise _bad(media_dir, f"not on the media: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="caisson-gpgv-") as home:
        keyring = Path(home, "keyring.gpg")
        write_file(keyring, paths[0].read_bytes(), mode=0o600)
        done = run(
            [
                "gpgv", "--homedir", home, "--keyring", keyring, "--ignore-time-conflict", "--status-fd", "1",
                *paths[1:],
            ],
            timeout_s=60,
            check=False,
        )  # fmt: skip
    signature, fault = parse_status(done.stdout)
    if signature is None:
        raise _bad(media_dir, fault)
    return signature


def _bad(media_dir: Path, fault: str) -> MediaError:
    return MediaError(
        f"the signature of the media {media_dir} is not good",
        details=fault,
        resolution="do not install from it: copy the ISO again, and compare its checksum and its signature",
    )


def parse_status(text: str) -> tuple[Signature | None, str]:
    """Return the signature that gpgv found good, or None and what is wrong.

    Source: GnuPG doc/DETAILS, "General status codes": VALIDSIG has the fingerprint of the key as its first
    and that of the primary key as its tenth argument.
    """
    lines = [line[len("[GNUPG:] ") :].split() for line in text.splitlines() if line.startswith("[GNUPG:] ")]
    words = {line[0]: line[1:] for line in lines if line}
    if "BADSIG" in words:
        return None, "SHA256SUMS was changed after it was signed"
    if "REVKEYSIG" in words:
        return None, "its key is revoked"
    if "VALIDSIG" in words:
        found = words["VALIDSIG"]
        return Signature(primary=found[-1], key=found[0]), ""
    if "NO_PUBKEY" in words:
        return None, f"it was made by a key that is not on the media: {' '.join(words['NO_PUBKEY'])}"
    return None, "gpgv finds no signature in it"
