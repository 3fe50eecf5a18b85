# SPDX-License-Identifier: Apache-2.0
"""OpenPGP keys and signatures: by gpg and gpgv, with private directories, never the user's own keyring.

key file --gpg--> KeyInfo (checked against the pinned fingerprints)
key file --dearmored--> keyring --gpgv--> who signed repomd.xml, and when
key file --rpmkeys--> does rpm, and so each host, take it
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from build.base.errors import KeyFileError, SignatureError
from build.base.run import run
from build.inventory.model import Digest, PinnedKey, Repository

WARN_DAYS = 60
_RULES = "4"  # another number has what was judged before judged again

# Hashes that EL9's rpm does not accept in a signature. Source: RFC 4880, section 9.4 (the numbers).
_WEAK_HASHES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160"}

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """A primary key of a key file. ``expires`` is a Unix time, None for a key without an end.

    ``certified_by`` and ``subkeys_by`` are the weak hashes of its newest signature over itself, and of those that
    bind its subkeys to it; empty where they are strong. ``parts`` are the key itself and its subkeys, each with what
    it can do, its end and whether it is revoked.
    """

    fingerprint: str
    user_id: str
    expires: int | None
    is_revoked: bool
    certified_by: str = ""
    subkeys_by: str = ""
    parts: tuple[str, ...] = ()

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
        """Return a digest that names these keys, their ends and revocations, and the rules that they judge by."""
        words = [_RULES]
        for key in sorted(self.keys, key=lambda item: item.fingerprint):
            words += [key.fingerprint, f"{key.expires}", f"{key.is_revoked}", *key.parts]
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
        if info.subkeys_by:
            raise KeyFileError(
                f"EL9 refuses the key of repository '{repository.id}'",
                details=f"{fingerprint} ({info.user_id}): its subkeys are bound by signatures with "
                f"{info.subkeys_by}, which 'rpm --import' of EL9 does not take",
                resolution="ask upstream for the same key with new subkey signatures (SHA-256 or better)",
            )
    files = tuple(dict.fromkeys(pinned.file for pinned in repository.keys))
    with tempfile.TemporaryDirectory(prefix="caisson-rpmkeys-") as directory:
        import_into_rpm(Path(directory), files, repository.id)
    return TrustedKeys(repository=repository.id, files=files, keys=tuple(found.values()))


def import_into_rpm(directory: Path, files: Sequence[Path], repository: str) -> None:
    """Give keys to a private database of rpm, as each host will.

    Raises: KeyFileError when rpm does not take one: it reads fewer kinds of keys than gpg does.
    """
    for file in files:
        done = run(["rpmkeys", "--dbpath", directory, "--import", file], check=False)
        if done.returncode:
            raise KeyFileError(
                f"rpm cannot import key file '{file}' of repository '{repository}'",
                details=f"gpg reads it; rpm here says: {done.stderr.strip() or f'exit code {done.returncode}'}",
                resolution="ask upstream for a key that EL9 imports: RSA or Ed25519 of version 4, also its subkeys",
            )


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
            [
                "gpg",
                "--homedir",
                home,
                "--batch",
                "--with-colons",
                "--with-sig-list",
                "--show-keys",
                pinned.file,
            ],
            check=False,
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
    """Parse what ``gpg --with-colons --with-sig-list --show-keys`` prints.

    Source: GnuPG doc/DETAILS, "Format of the colon listings".
    """
    infos: list[KeyInfo] = []
    for lines in _blocks(text):
        primary = lines[0]
        fingerprints = [fields[9] for fields in lines if fields[0] == "fpr"]
        user_ids = [fields[9].replace(r"\x3a", ":") for fields in lines if fields[0] == "uid"]
        if fingerprints:
            infos.append(
                KeyInfo(
                    fingerprint=fingerprints[0],
                    user_id=next(filter(None, user_ids), ""),
                    expires=int(primary[6]) if primary[6].isdecimal() else None,
                    is_revoked=primary[1] == "r",
                    certified_by=_newest_hash(lines, range(0x10, 0x14)),
                    subkeys_by=_newest_hash(lines, [0x18]),
                    parts=_parts(lines, fingerprints),
                )
            )
    return tuple(infos)


def _blocks(text: str) -> list[list[list[str]]]:
    """Return the fields of the lines of each primary key."""
    blocks: list[list[list[str]]] = []
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == "pub":
            blocks.append([])
        if blocks:
            blocks[-1].append(fields)
    return blocks


def _parts(lines: Sequence[Sequence[str]], fingerprints: Sequence[str]) -> tuple[str, ...]:
    """Return what is known of a key and each of its subkeys, in an order of their own.

    Not the validity that gpg prints but for revocation: "ended" comes by itself with time, and changes no verdict.
    """
    keys = [fields for fields in lines if fields[0] in {"pub", "sub"}]
    return tuple(
        sorted(
            f"{fingerprint}:{fields[6]}:{'revoked' if fields[1] == 'r' else ''}:{re.sub('[^a-z]', '', fields[11])}"
            for fields, fingerprint in zip(keys, fingerprints, strict=False)
        )
    )


def _newest_hash(lines: Sequence[Sequence[str]], classes: Sequence[int]) -> str:
    """Return the weak hash of a key's newest signature of some classes over its own parts; empty when it is strong.

    Of each part (a user id, a subkey) the newest counts, and the weakest of those. What others certified does not.
    """
    newest: dict[int, tuple[int, int]] = {}
    part = 0
    for number, fields in enumerate(lines):
        if fields[0] in {"pub", "uid", "uat", "sub"}:
            part = number
        elif fields[0] == "sig" and fields[4] == lines[0][4] and int(fields[10][:2] or "0", 16) in classes:
            made = int(fields[5]) if fields[5].isdecimal() else 0
            newest[part] = max(newest.get(part, (0, 0)), (made, int(fields[15] or "0")))
    return next((_WEAK_HASHES[number] for _, number in sorted(newest.values()) if number in _WEAK_HASHES), "")


def key_warnings(trusted: TrustedKeys, now_s: float) -> tuple[str, ...]:
    """Return a warning for each key that ends within 60 days or has ended, and for one that stricter hosts refuse.

    They are for people: no build stops for them.
    """
    warnings = []
    for key in trusted.keys:
        if key.certified_by:
            warnings.append(
                f"the key of repository '{trusted.repository}' is certified with {key.certified_by}: "
                f"{key.fingerprint}; EL9 takes it, hosts with a crypto policy without {key.certified_by} do not"
            )
        if key.expires is None:
            continue
        days = int((key.expires - now_s) // 86400)
        if days <= WARN_DAYS:
            state = f"ends in {days} days" if days >= 0 else "has ended"
            warnings.append(
                f"the key of repository '{trusted.repository}' {state} ({key.end_text}): {key.fingerprint}; "
                f"get the prolonged key from upstream and replace {trusted.files[0].name}: its fingerprint stays"
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

    Source: GnuPG doc/DETAILS, "General status codes": VALIDSIG has the signature's time as its third, its hash
    as its eighth and the primary key's fingerprint as its tenth argument.
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
                if weak := _WEAK_HASHES.get(int(words[8])):
                    return f"it is made with {weak}, which EL9 does not accept"
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
