# SPDX-License-Identifier: Apache-2.0
"""Keys and signatures, with real gpg, gpgv, rpmkeys and rpmsign."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from build.base.errors import KeyFileError, SignatureError
from build.base.run import run
from build.inventory.model import MetadataTrust, PinnedKey, Repository
from build.inventory.profile import profile_file, read_profile
from build.upstream.openpgp import (
    KeyInfo,
    TrustedKeys,
    dearmored,
    key_warnings,
    parse_gpgv_status,
    parse_key_listing,
    read_key_file,
    read_keys,
    verify_detached,
)
from tests.unit.build.signers import Signer, signer

NOW = 1_795_000_000  # 2026-11-18


def repository(*keys: PinnedKey) -> Repository:
    return Repository(id="repo", base_urls=("http://x/",), metadata=MetadataTrust.SIGNED, keys=keys)


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    file = tmp_path / "repomd.xml"
    file.write_text("<repomd/>\n", encoding="ascii")
    return file


def verify(trusted: TrustedKeys, data_file: Path, signature_file: Path) -> None:
    verify_detached(trusted, data_file=data_file, signature_file=signature_file, what="the metadata")


@pytest.mark.subprocess
def test_the_keys_of_production_are_the_pinned_ones(repository_dir: Path) -> None:
    profile = read_profile(profile_file("production", repository_dir))
    for item in profile.repositories.values():
        trusted = read_keys(item)
        assert {key.fingerprint for key in trusted.keys} == {key.fingerprint for key in item.keys}
    kubernetes = read_keys(profile.repositories["kubernetes"])
    assert kubernetes.keys[0].end_text == "2026-12-29"
    assert "ends in 40 days (2026-12-29)" in key_warnings(kubernetes, NOW)[0]
    assert "has ended" in key_warnings(kubernetes, NOW + 90 * 86400)[0]
    assert not key_warnings(kubernetes, NOW - 200 * 86400)


@pytest.mark.subprocess
def test_a_good_signature(good: Signer, data_file: Path) -> None:
    verify(read_keys(repository(good.pinned)), data_file, good.sign_detached(data_file))


@pytest.mark.subprocess
def test_a_changed_file(good: Signer, data_file: Path) -> None:
    signature_file = good.sign_detached(data_file)
    data_file.write_text("<other/>\n", encoding="ascii")
    with pytest.raises(SignatureError) as caught:
        verify(read_keys(repository(good.pinned)), data_file, signature_file)
    assert "the signed file was changed" in caught.value.details


@pytest.mark.subprocess
def test_a_signature_by_another_key(good: Signer, foreign: Signer, data_file: Path) -> None:
    with pytest.raises(SignatureError) as caught:
        verify(read_keys(repository(good.pinned)), data_file, foreign.sign_detached(data_file))
    assert "made by another key" in caught.value.details


@pytest.mark.subprocess
def test_a_signature_that_is_none(good: Signer, data_file: Path) -> None:
    nonsense = data_file.with_name("x.asc")
    nonsense.write_text("no signature\n", encoding="ascii")
    with pytest.raises(SignatureError, match="not good"):
        verify(read_keys(repository(good.pinned)), data_file, nonsense)


@pytest.mark.subprocess
def test_an_old_signature_outlives_its_key(tmp_path: Path, data_file: Path) -> None:
    with signer(tmp_path, "old", expire="1y", time="20200101T000000") as old:
        signature_file = data_file.with_name("old.sig")
        old.gpg("--faked-system-time", "20200301T000000", "--armor", "--detach-sign", "--output",
                str(signature_file), str(data_file))  # fmt: skip
        trusted = read_keys(repository(old.pinned))
        assert "has ended" in key_warnings(trusted, NOW)[0]
        verify(trusted, data_file, signature_file)


@pytest.mark.subprocess
def test_a_signature_made_after_the_end_of_its_key(tmp_path: Path, data_file: Path) -> None:
    with signer(tmp_path, "late", time="20200101T000000") as late:
        signature_file = late.sign_detached(data_file)
        late.gpg("--faked-system-time", "20200601T000000", "--quick-set-expire", late.fingerprint, "1y")
        late.export()
        with pytest.raises(SignatureError) as caught:
            verify(read_keys(repository(late.pinned)), data_file, signature_file)
    assert "made after its key had ended (2021-06-01)" in caught.value.details


@pytest.mark.subprocess
def test_key_files_that_cannot_be_meant(good: Signer, foreign: Signer, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="is missing"):
        read_key_file(PinnedKey(file=tmp_path / "nothing.asc", fingerprint="A" * 40))
    empty = tmp_path / "empty.asc"
    empty.write_text("no key\n", encoding="ascii")
    with pytest.raises(KeyFileError, match="holds no OpenPGP key"):
        read_key_file(PinnedKey(file=empty, fingerprint="A" * 40))
    with pytest.raises(KeyFileError, match="does not hold the pinned key"):
        read_key_file(PinnedKey(file=foreign.key_file, fingerprint=good.fingerprint))
    both = tmp_path / "both.asc"
    both.write_bytes(good.key_file.read_bytes() + foreign.key_file.read_bytes())
    with pytest.raises(KeyFileError, match="holds a key that is not pinned"):
        read_keys(repository(PinnedKey(file=both, fingerprint=good.fingerprint)))
    pins = [PinnedKey(file=both, fingerprint=key.fingerprint) for key in (good, foreign)]
    assert len(read_keys(repository(*pins)).keys) == 2


@pytest.mark.subprocess
def test_a_revoked_key_is_refused(tmp_path: Path) -> None:
    with signer(tmp_path, "gone") as gone:
        certificate = gone.home_dir / "openpgp-revocs.d" / f"{gone.fingerprint}.rev"
        text = certificate.read_text(encoding="ascii").replace(":-----BEGIN", "-----BEGIN")
        certificate.write_text(text, encoding="ascii")
        gone.gpg("--import", str(certificate))
        gone.export()
        with pytest.raises(KeyFileError, match="is revoked"):
            read_keys(repository(gone.pinned))


@pytest.mark.subprocess
def test_several_blocks_are_dearmored(good: Signer, foreign: Signer, tmp_path: Path) -> None:
    both = good.key_file.read_bytes() + b"\nwords between\n" + foreign.key_file.read_bytes()
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(dearmored(both))
    shown = parse_key_listing(run(["gpg", "--with-colons", "--show-keys", ring]).stdout)
    assert [key.fingerprint for key in shown] == [good.fingerprint, foreign.fingerprint]
    assert dearmored(ring.read_bytes()) == ring.read_bytes()


TRUSTED = TrustedKeys(
    repository="repo",
    files=(),
    keys=(KeyInfo(fingerprint="F" * 40, user_id="me", expires=2000, is_revoked=False),),
)


def status(fingerprint: str, made: int, first: str = "GOODSIG", *, digest: int = 8) -> str:
    valid = f"VALIDSIG {'B' * 40} 2026-01-01 {made} 0 4 0 1 {digest} 00 {fingerprint}"
    return f"[GNUPG:] {first} ABCD me\n[GNUPG:] {valid}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (status("F" * 40, 1000), ""),
        (status("F" * 40, 1000, "EXPKEYSIG"), ""),
        (status("F" * 40, 3000, "EXPKEYSIG"), "made after its key had ended"),
        (status("E" * 40, 1000), "made by a key that is not pinned"),
        (status("F" * 40, 1000, "REVKEYSIG"), "revoked"),
        (status("F" * 40, 1000, digest=10), ""),
        (status("F" * 40, 1000, digest=1), "made with MD5, which EL9 does not accept"),
        (status("F" * 40, 1000, digest=2), "made with SHA-1, which EL9 does not accept"),
        (status("F" * 40, 1000, "EXPSIG"), "the signature has ended"),
        ("[GNUPG:] BADSIG ABCD me\n", "the signed file was changed"),
        ("[GNUPG:] ERRSIG ABCD 1 8 00 1 9\n[GNUPG:] NO_PUBKEY ABCD\n", "another key: ABCD"),
        ("", "no valid signature"),
    ],
)
def test_what_gpgv_says(text: str, words: str) -> None:
    verdict = parse_gpgv_status(text, TRUSTED)
    assert words in verdict
    assert bool(verdict) == bool(words)


def test_a_revoked_key_signs_nothing() -> None:
    revoked = dataclasses.replace(TRUSTED, keys=(dataclasses.replace(TRUSTED.keys[0], is_revoked=True),))
    assert "revoked" in parse_gpgv_status(status("F" * 40, 1000), revoked)


@pytest.mark.subprocess
def test_a_signature_with_sha1(good: Signer, data_file: Path) -> None:
    signature_file = data_file.with_name("weak.asc")
    good.gpg(
        "--digest-algo", "SHA1", "--armor", "--detach-sign", "--output", str(signature_file), str(data_file)
    )
    with pytest.raises(SignatureError) as caught:
        verify(read_keys(repository(good.pinned)), data_file, signature_file)
    assert "made with SHA-1, which EL9 does not accept" in caught.value.details


@pytest.mark.subprocess
def test_a_key_whose_subkeys_are_bound_with_sha1_is_refused(tmp_path: Path) -> None:
    """EL9 does not import it. Source: rpm-software-management/rpm, issue 1977."""
    with signer(tmp_path, "weak") as weak:
        words = [
            "--quick-add-key",
            weak.fingerprint,
            "rsa2048",
            "encr",
            "never",
        ]  # gpg makes no signing one so
        weak.gpg("--cert-digest-algo", "SHA1", "--passphrase", "", *words)
        weak.export()
        with pytest.raises(KeyFileError, match="EL9 refuses the key of repository 'repo'") as caught:
            read_keys(repository(weak.pinned))
        assert "bound by signatures with SHA-1" in caught.value.details


@pytest.mark.subprocess
def test_a_key_that_certifies_itself_with_sha1_is_told_of(tmp_path: Path) -> None:
    """EL9 takes it: the keys of Red Hat and of CentOS Stream 9 are such ones. A newer certificate ends it."""
    with signer(tmp_path, "weak", options=("--cert-digest-algo", "SHA1")) as weak:
        (warning,) = key_warnings(read_keys(repository(weak.pinned)), NOW)
        assert "is certified with SHA-1" in warning
        later = ("--faked-system-time", "20300101T000000", "--cert-digest-algo", "SHA256")
        weak.gpg(*later, "--quick-set-expire", weak.fingerprint, "never")
        weak.export()
        assert key_warnings(read_keys(repository(weak.pinned)), NOW) == ()


@pytest.mark.subprocess
def test_a_key_that_gpg_reads_and_rpm_does_not_is_refused_at_once(tmp_path: Path) -> None:
    """When the lock is made, and not at the first package that is fetched."""
    with signer(tmp_path, "curve", algorithm="nistp256") as curve, pytest.raises(KeyFileError) as caught:
        read_keys(repository(curve.pinned))
    assert caught.value.message == f"rpm cannot import key file '{curve.key_file}' of repository 'repo'"
    assert "gpg reads it" in caught.value.details


@pytest.mark.subprocess
def test_what_was_judged_by_a_key_is_judged_again_when_its_end_changes(tmp_path: Path) -> None:
    with signer(tmp_path, "mine") as mine:
        before = read_keys(repository(mine.pinned)).digest
        assert read_keys(repository(mine.pinned)).digest == before
        mine.gpg("--quick-set-expire", mine.fingerprint, "2040-01-01")
        mine.export()
        ended = read_keys(repository(mine.pinned)).digest
        mine.gpg("--passphrase", "", "--quick-add-key", mine.fingerprint, "rsa2048", "sign", "never")
        mine.export()
        assert len({before, ended, read_keys(repository(mine.pinned)).digest}) == 3


def test_what_was_judged_by_a_key_is_judged_again_when_it_is_revoked() -> None:
    revoked = dataclasses.replace(TRUSTED, keys=(dataclasses.replace(TRUSTED.keys[0], is_revoked=True),))
    assert revoked.digest != TRUSTED.digest
