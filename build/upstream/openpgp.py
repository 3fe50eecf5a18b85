# SPDX-License-Identifier: Apache-2.0
"""OpenPGP keys and signatures: by gpg and gpgv, with private directories, never the user's own keyring.

key file --gpg--> KeyInfo (checked against the pinned fingerprints)
key file --dearmored--> keyring --gpgv--> who signed repomd.xml, and when
key file --rpmkeys--> private rpm database --rpmkeys -K--> is this RPM signed by one of these keys
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from build.base.errors import IntegrityError, KeyFileError, SignatureError
from build.base.run import run
from build.inventory.model import Digest, PinnedKey, Repository
from build.upstream.rpmheader import RpmHeader

WARN_DAYS = 90
_RULES = "2"  # another number has what was judged before judged again

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """A primary key of a key file. ``expires`` is a Unix time, None for a key without an end."""

    fingerprint: str
    user_id: str
    expires: int | None
    is_revoked: bool

    @property
    def end_text(self) -> str:
        """Return the day the key ends, as in ``2026-12-29``."""
        if self.expires is None:
            return "never"
        return _day(self.expires)


def _day(time_s: int) -> str:
    return dt.datetime.fromtimestamp(time_s, tz=dt.UTC).date().isoformat()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrustedKeys:
    """The keys of a repository, read from its files and found to be the pinned ones."""

    repository: str
    files: tuple[Path, ...]
    keys: tuple[KeyInfo, ...]

    def key(self, fingerprint: str) -> KeyInfo | None:
        """Return the key of a fingerprint."""
        for key in self.keys:
            if key.fingerprint == fingerprint:
                return key
        return None

    @property
    def digest(self) -> Digest:
        """Return a digest that names this set of keys, and the rules that signatures are judged by."""
        words = [_RULES, *sorted(key.fingerprint for key in self.keys)]
        return Digest.of_bytes(" ".join(words).encode())


def read_keys(repository: Repository) -> TrustedKeys:
    """Read the key files of a repository and check that they hold the pinned keys, no other, none revoked.

    Raises: KeyFileError.
    """
    found: dict[str, KeyInfo] = {}
    for pinned in repository.keys:
        found.update({info.fingerprint: info for info in read_key_file(pinned)})
    pinned_fingerprints = {pinned.fingerprint for pinned in repository.keys}
    for fingerprint, info in found.items():
        if fingerprint not in pinned_fingerprints:
            raise KeyFileError(
                f"a key file of repository '{repository.id}' holds a key that is not pinned",
                details=f"{fingerprint} ({info.user_id})",
                resolution="name its fingerprint in the profile if it is meant, else take it out of the file",
            )
        if info.is_revoked:
            raise KeyFileError(
                f"the key of repository '{repository.id}' is revoked",
                details=f"{fingerprint} ({info.user_id})",
                resolution="learn from upstream which key took its place, and pin that one",
            )
    files = tuple(dict.fromkeys(pinned.file for pinned in repository.keys))
    return TrustedKeys(repository=repository.id, files=files, keys=tuple(found.values()))


def read_key_file(pinned: PinnedKey) -> tuple[KeyInfo, ...]:
    """Return the primary keys of a key file; the pinned one is among them.

    Raises: KeyFileError when the file is missing, holds no key, or not the pinned one.
    """
    if not pinned.file.is_file():
        raise KeyFileError(
            f"key file '{pinned.file}' is missing",
            details=f"it should hold the key {pinned.fingerprint}",
            resolution="restore the file, or correct 'file' in the profile",
        )
    with tempfile.TemporaryDirectory(prefix="caisson-gpg-") as home:
        shown = run(
            ["gpg", "--homedir", home, "--batch", "--with-colons", "--show-keys", pinned.file], check=False
        )
    infos = parse_key_listing(shown.stdout)
    if not infos:
        raise KeyFileError(
            f"key file '{pinned.file}' holds no OpenPGP key that gpg can read",
            details=shown.stderr.strip(),
            resolution="fetch the key again from the place where upstream publishes it",
        )
    if pinned.fingerprint not in {info.fingerprint for info in infos}:
        raise KeyFileError(
            f"key file '{pinned.file}' does not hold the pinned key",
            details=f"pinned: {pinned.fingerprint}; found: {', '.join(info.fingerprint for info in infos)}",
            resolution="find out why the key changed before you change the fingerprint in the profile",
        )
    return infos


def parse_key_listing(text: str) -> tuple[KeyInfo, ...]:
    """Parse what ``gpg --with-colons --show-keys`` prints; subkeys are left out.

    Source: GnuPG doc/DETAILS, "Format of the colon listings".
    """
    infos: list[KeyInfo] = []
    is_primary = False
    for line in text.splitlines():
        fields = line.split(":")
        match fields[0]:
            case "pub":
                is_primary = True
                expires = int(fields[6]) if fields[6].isdecimal() else None
                infos.append(
                    KeyInfo(fingerprint="", user_id="", expires=expires, is_revoked=fields[1] == "r")
                )
            case "sub":
                is_primary = False
            case "fpr" if is_primary and infos:
                infos[-1] = dataclasses.replace(infos[-1], fingerprint=fields[9])
                is_primary = False
            case "uid" if infos and not infos[-1].user_id:
                infos[-1] = dataclasses.replace(infos[-1], user_id=fields[9].replace(r"\x3a", ":"))
            case _:
                pass
    return tuple(info for info in infos if info.fingerprint)


def expiry_warnings(trusted: TrustedKeys, now_s: float) -> tuple[str, ...]:
    """Return a warning for each key that ends within 90 days or has ended: for people, not for the build."""
    warnings = []
    for key in trusted.keys:
        if key.expires is None:
            continue
        days = int((key.expires - now_s) // 86400)
        if days <= WARN_DAYS:
            state = f"ends in {days} days" if days >= 0 else "has ended"
            warnings.append(
                f"the key of repository '{trusted.repository}' {state} ({key.end_text}): {key.fingerprint}; "
                f"get the prolonged key from upstream and replace {trusted.files[0].name}"
            )
    return tuple(warnings)


def verify_detached(trusted: TrustedKeys, *, data_file: Path, signature_file: Path, what: str) -> None:
    """Verify a detached signature by one of the trusted keys, made while the key was valid.

    That a key has ended since does not matter: a lock is not worse for being old.

    Raises: SignatureError.
    """
    with tempfile.TemporaryDirectory(prefix="caisson-gpgv-") as home:
        keyring = Path(home, "keyring.gpg")
        keyring.write_bytes(b"".join(dearmored(file.read_bytes()) for file in trusted.files))
        # A signature by a key that has ended makes gpgv fail; whether it was valid then is decided here.
        checked = run(
            ["gpgv", "--homedir", home, "--keyring", keyring, "--status-fd", "1", signature_file, data_file],
            check=False,
        )
    verdict = parse_gpgv_status(checked.stdout, trusted)
    if verdict:
        raise SignatureError(
            f"the signature of {what} is not good",
            details=f"{verdict}; trusted: {', '.join(key.fingerprint for key in trusted.keys)}",
            resolution="find out why before you use it; a new key must be pinned in the profile",
        )


def parse_gpgv_status(text: str, trusted: TrustedKeys) -> str:
    """Return what is wrong with the signature that gpgv looked at; the empty text when it is good.

    Source: GnuPG doc/DETAILS, "General status codes": VALIDSIG has the signature's time as its third and the
    primary key's fingerprint as its tenth argument.
    """
    bad = ""
    for line in text.splitlines():
        words = line.removeprefix("[GNUPG:] ").split()
        match words[:1]:
            case ["BADSIG"]:
                return "the signed file was changed"
            case ["REVKEYSIG"]:
                return "its key is revoked"
            case ["EXPSIG"]:
                return "the signature has ended"
            case ["NO_PUBKEY"]:
                bad = f"it is made by another key: {words[1]}"
            case ["VALIDSIG"]:
                return _judge_valid(int(words[3]), words[10] if len(words) > 10 else words[1], trusted)
            case _:
                pass
    return bad or "gpgv finds no valid signature"


def _judge_valid(made: int, fingerprint: str, trusted: TrustedKeys) -> str:
    key = trusted.key(fingerprint)
    if key is None:
        return f"it is made by a key that is not pinned: {fingerprint}"
    if key.is_revoked:
        return f"its key is revoked: {fingerprint}"
    if key.expires is not None and made > key.expires:
        return f"it was made after its key had ended ({key.end_text}): {fingerprint}"
    return ""


def dearmored(data: bytes) -> bytes:
    """Return the binary form of a key file, which may hold several armored blocks or be binary already."""
    blocks = _ARMOR.findall(data.replace(b"\r\n", b"\n"))
    if not blocks:
        return data
    return b"".join(_dearmored_block(block) for block in blocks)


def _dearmored_block(block: bytes) -> bytes:
    """Decode one block: headers, an empty line, base64, a checksum line that starts with ``=``.

    Source: RFC 4880, section 6.2.
    """
    _, _, body = block.partition(b"\n\n") if not block.startswith(b"\n") else (b"", b"", block)
    lines = (body or block).split()
    return base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")))


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
    if header.signature is None:
        raise SignatureError(
            f"{what} is not signed",
            details=f"repository '{trusted.repository}' is trusted for what is signed by "
            f"{', '.join(key.fingerprint for key in trusted.keys)}",
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


class RpmKeyring:
    """A private rpm database with the keys of one repository. Use as long as ``directory`` exists."""

    def __init__(self, directory: Path, trusted: TrustedKeys) -> None:
        self._directory = directory
        self._trusted = trusted
        directory.mkdir(parents=True, exist_ok=True)
        for file in trusted.files:
            run(["rpmkeys", "--dbpath", directory, "--import", file])

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
                details=f"{report}; trusted: {', '.join(key.fingerprint for key in self._trusted.keys)}",
                resolution="find out why before you use it; a new key must be pinned in the profile",
            )


def parse_rpmkeys(text: str, *, is_success: bool) -> str:
    """Return what rpmkeys found wrong; the empty text when a signature and all digests are good.

    Lines look like ``    Header V4 RSA/SHA512 Signature, key ID 1a2b3c4d: OK``.
    """
    found = [line.strip() for line in text.splitlines()[1:] if ":" in line]
    bad = [line for line in found if not line.endswith((": OK", ": NOTFOUND"))]
    if bad:
        return "; ".join(bad)
    if not any("Signature" in line and line.endswith(": OK") for line in found):
        return "it has no signature"
    return "" if is_success else "rpmkeys refuses it"


class SignedTable:
    """Which packages were found to be signed by which set of keys: a file of ``digest keys`` lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._lines = set(file.read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            self._lines = set()

    def has(self, digest: Digest, trusted: TrustedKeys) -> bool:
        """Say whether the package's signature was checked with these keys."""
        return f"{digest.hex} {trusted.digest.hex}" in self._lines

    def add(self, digest: Digest, trusted: TrustedKeys) -> None:
        """Note that it was checked."""
        line = f"{digest.hex} {trusted.digest.hex}"
        with self._lock:
            self._lines.add(line)
            with self._file.open("a", encoding="ascii") as stream:
                stream.write(line + "\n")
