# SPDX-License-Identifier: Apache-2.0
"""What proves that an RPM is signed by a repository's key: its header, before it is fetched, then rpm itself.

header and its signature --gpgv--> signed by one of the keys, while it was valid
key file --rpmkeys--> private rpm database --rpmkeys -K--> the whole package is signed, and its digests fit
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from build.base.errors import IntegrityError, SignatureError
from build.base.run import run
from build.inventory.model import Digest
from build.upstream.openpgp import TrustedKeys, import_into_rpm, verify_detached
from build.upstream.rpmheader import RpmHeader


def verify_header(trusted: TrustedKeys, header: RpmHeader, nevra: str, what: str) -> None:
    """Check the beginning of an RPM: whom it says it is, its signature, the digests that FIPS mode asks for.

    The signature must have been made while its key was valid, which rpm itself does not look at; that the
    key has ended since does not matter.

    Raises: IntegrityError, SignatureError.
    """
    if header.nevra != nevra:
        raise IntegrityError(
            f"{what} says in its header that it is {header.nevra}",
            details=f"from repository '{trusted.repository}'",
            resolution="the repository's metadata is wrong: report it there, and do not use the package",
        )
    if header.is_format_6:
        raise IntegrityError(
            f"{what} is an RPM of format 6, which EL9 cannot install",
            details=f"from repository '{trusted.repository}'",
            resolution="ask its maker for a build of format 4 (rpm 6 makes one with _rpmformat 4)",
        )
    if header.signature is None:
        trust = f"repository '{trusted.repository}' is trusted for what is signed by {_fingerprints(trusted)}"
        raise SignatureError(
            f"{what} is not signed" + (" in a way that EL9 can check" if header.other_signature else ""),
            details="; ".join(filter(None, (header.other_signature, trust))),
            resolution="find out how it came into the repository before you use it",
        )
    with tempfile.TemporaryDirectory(prefix="caisson-rpm-") as directory:
        data_file, signature_file = Path(directory, "header"), Path(directory, "signature")
        data_file.write_bytes(header.signed)
        signature_file.write_bytes(header.signature)
        verify_detached(trusted, data_file=data_file, signature_file=signature_file, what=what)
    if header.lacks:
        raise IntegrityError(
            f"{what} has no {' and no '.join(header.lacks)}",
            details=f"hosts in FIPS mode refuse it; from repository '{trusted.repository}'",
            resolution="use a build that rpm 4.14 or later made",
        )


def _fingerprints(trusted: TrustedKeys) -> str:
    return ", ".join(key.fingerprint for key in trusted.keys)


class RpmKeyring:
    """A private rpm database with the keys of one repository. Use as long as ``directory`` exists."""

    def __init__(self, directory: Path, trusted: TrustedKeys) -> None:
        self._directory = directory
        self._trusted = trusted
        directory.mkdir(parents=True, exist_ok=True)
        import_into_rpm(directory, trusted.files, trusted.repository)

    def verify(self, rpm_file: Path, what: str) -> None:
        """Check digests and signature of an RPM; a package without a signature fails.

        Raises: SignatureError.
        """
        args: Sequence[str | Path] = [
            "rpmkeys", "--dbpath", self._directory, "--define", "_pkgverify_level all",
            "--checksig", "--verbose", rpm_file,
        ]  # fmt: skip
        checked = run(args, check=False)
        report = parse_rpmkeys(checked.stdout, is_success=checked.returncode == 0)
        if report:
            raise SignatureError(
                f"{what} is not signed by the key of repository '{self._trusted.repository}'",
                details=f"{report}; trusted: {_fingerprints(self._trusted)}",
                resolution="find out why before you use it; a new key must be pinned in the profile",
            )


def parse_rpmkeys(text: str, *, is_success: bool) -> str:
    """Return what rpmkeys found wrong; the empty text when a signature and all digests are good.

    Lines look like ``    Header V4 RSA/SHA512 Signature, key ID 1a2b3c4d: OK``, those of rpm 6 like
    ``    Header OpenPGP V4 RSA/SHA512 signature, key fingerprint: 0123..: OK``.
    """
    found = [line.strip() for line in text.splitlines()[1:] if ":" in line]
    bad = [line for line in found if not line.endswith((": OK", ": NOTFOUND"))]
    if bad:
        return "; ".join(bad)
    if not any("signature" in line.lower() and line.endswith(": OK") for line in found):
        return "it has no signature"
    return "" if is_success else "rpmkeys refuses it"


class Voucher(Protocol):
    """What vouches for content, by the digest of all that decides it: keys, a policy."""

    @property
    def digest(self) -> Digest:
        """Return the digest."""


class SignedTable:
    """Which content was found good by what: a file of ``digest voucher`` lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._lines = set(file.read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            self._lines = set()

    def has(self, digest: Digest, by: Voucher) -> bool:
        """Say whether the content was checked with these keys, or this policy."""
        return f"{digest.hex} {by.digest.hex}" in self._lines

    def add(self, digest: Digest, by: Voucher) -> None:
        """Note that it was checked."""
        line = f"{digest.hex} {by.digest.hex}"
        with self._lock:
            self._lines.add(line)
            with self._file.open("a", encoding="ascii") as stream:
                stream.write(line + "\n")
