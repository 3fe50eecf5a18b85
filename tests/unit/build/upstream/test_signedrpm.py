# SPDX-License-Identifier: Apache-2.0
"""Signed packages, with real gpgv, rpmkeys and rpmsign."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from build.base.errors import IntegrityError, SignatureError
from build.inventory.model import MetadataTrust, PinnedKey, Repository
from build.upstream.openpgp import TrustedKeys, read_keys
from build.upstream.rpmheader import read_header
from build.upstream.signedrpm import RpmKeyring, parse_rpmkeys, verify_header
from tests.unit.build.factory import tiny_rpm
from tests.unit.build.signers import Signer, signer


def repository(*keys: PinnedKey) -> Repository:
    return Repository(id="repo", base_urls=("http://x/",), metadata=MetadataTrust.SIGNED, keys=keys)


@pytest.mark.subprocess
def test_rpms_by_their_signature(good: Signer, foreign: Signer, tmp_path: Path) -> None:
    keyring = RpmKeyring(tmp_path / "db", read_keys(repository(good.pinned)))
    for name in ("good", "foreign", "unsigned", "changed"):
        (tmp_path / f"{name}.rpm").write_bytes(tiny_rpm(name))
    good.sign_rpm(tmp_path / "good.rpm")
    good.sign_rpm(tmp_path / "changed.rpm")
    foreign.sign_rpm(tmp_path / "foreign.rpm")
    changed = bytearray((tmp_path / "changed.rpm").read_bytes())
    changed[-3] ^= 1
    (tmp_path / "changed.rpm").write_bytes(changed)
    keyring.verify(tmp_path / "good.rpm", "package good")
    for name, words in (("foreign", "NOKEY"), ("unsigned", "it has no signature"), ("changed", "BAD")):
        with pytest.raises(SignatureError) as caught:
            keyring.verify(tmp_path / f"{name}.rpm", f"package {name}")
        assert f"package {name} is not signed by the key of repository 'repo'" in caught.value.message
        assert words in caught.value.details


@pytest.mark.subprocess
def test_an_rpm_outlives_its_key_but_not_if_it_was_signed_later(tmp_path: Path) -> None:
    """The clock is years ahead of the key's end, and of the first signature."""
    with signer(tmp_path, "ended", time="20200101T000000") as key:
        for name, time in (("early", "20200301T000000"), ("late", "20220301T000000")):
            (tmp_path / f"{name}.rpm").write_bytes(tiny_rpm(name))
            key.sign_rpm(tmp_path / f"{name}.rpm", time=time)
        key.gpg("--faked-system-time", "20200601T000000", "--quick-set-expire", key.fingerprint, "1y")
        key.export()
        trusted = read_keys(repository(key.pinned))
        keyring = RpmKeyring(tmp_path / "db", trusted)
        for name in ("early", "late"):
            keyring.verify(tmp_path / f"{name}.rpm", f"package {name}")
        check_header(trusted, tmp_path / "early.rpm")
        with pytest.raises(SignatureError) as caught:
            check_header(trusted, tmp_path / "late.rpm")
    assert caught.value.message == "the signature of package late is not good"
    assert "made after its key had ended (2021-06-01)" in caught.value.details


def check_header(trusted: TrustedKeys, file: Path) -> None:
    what = f"package {file.stem}"
    verify_header(trusted, read_header(file, what), f"{file.stem}-1.0-1.el9.noarch", what)


@pytest.mark.subprocess
def test_the_beginning_of_an_rpm(good: Signer, foreign: Signer, tmp_path: Path) -> None:
    trusted = read_keys(repository(good.pinned))
    for name in ("good", "foreign", "unsigned", "changed"):
        (tmp_path / f"{name}.rpm").write_bytes(tiny_rpm(name))
    good.sign_rpm(tmp_path / "good.rpm")
    good.sign_rpm(tmp_path / "changed.rpm")
    foreign.sign_rpm(tmp_path / "foreign.rpm")
    changed = (tmp_path / "changed.rpm").read_bytes().replace(b"A tiny package", b"A tidy package")
    (tmp_path / "changed.rpm").write_bytes(changed)
    check_header(trusted, tmp_path / "good.rpm")
    for name, words in (("foreign", "another key"), ("unsigned", "trusted for"), ("changed", "was changed")):
        with pytest.raises(SignatureError) as caught:
            check_header(trusted, tmp_path / f"{name}.rpm")
        assert words in caught.value.details


@pytest.mark.subprocess
def test_an_rpm_that_fips_hosts_refuse(good: Signer, tmp_path: Path) -> None:
    (tmp_path / "old.rpm").write_bytes(tiny_rpm("old"))
    good.sign_rpm(tmp_path / "old.rpm")
    header = read_header(tmp_path / "old.rpm", "package old")
    assert header.lacks == ()
    old = dataclasses.replace(header, lacks=("SHA-256 digest of its payload",))
    with pytest.raises(IntegrityError, match="package old has no SHA-256 digest of its payload") as caught:
        verify_header(read_keys(repository(good.pinned)), old, header.nevra, "package old")
    assert "FIPS" in caught.value.details


@pytest.mark.subprocess
def test_an_rpm_signed_with_sha1(good: Signer, tmp_path: Path) -> None:
    """EL9 would refuse it on the host."""
    (tmp_path / "weak.rpm").write_bytes(tiny_rpm("weak"))
    good.sign_rpm(tmp_path / "weak.rpm", options="--digest-algo SHA1")
    with pytest.raises(SignatureError) as caught:
        check_header(read_keys(repository(good.pinned)), tmp_path / "weak.rpm")
    assert "made with SHA-1, which EL9 does not accept" in caught.value.details


@pytest.mark.subprocess
def test_an_rpm_of_format_6(good: Signer, tmp_path: Path) -> None:
    (tmp_path / "new.rpm").write_bytes(tiny_rpm("new"))
    header = dataclasses.replace(read_header(tmp_path / "new.rpm", "package new"), is_format_6=True)
    with pytest.raises(IntegrityError, match="package new is an RPM of format 6, which EL9 cannot install"):
        verify_header(read_keys(repository(good.pinned)), header, header.nevra, "package new")


@pytest.mark.subprocess
def test_an_rpm_with_another_kind_of_signature(good: Signer, tmp_path: Path) -> None:
    (tmp_path / "new.rpm").write_bytes(tiny_rpm("new"))
    header = dataclasses.replace(
        read_header(tmp_path / "new.rpm", "it"), other_signature="it has one of rpm 6"
    )
    with pytest.raises(
        SignatureError, match="package new is not signed in a way that EL9 can check"
    ) as caught:
        verify_header(read_keys(repository(good.pinned)), header, header.nevra, "package new")
    assert caught.value.details.startswith("it has one of rpm 6; repository 'repo' is trusted for")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x.rpm:\n    Header V4 RSA/SHA256 Signature, key ID ab: OK\n    Payload SHA256 digest: OK\n", ""),
        # rpm 6
        ("x.rpm:\n    Header OpenPGP V4 RSA/SHA256 signature, key fingerprint: 0123ab: OK\n", ""),
        ("x.rpm:\n    Header OpenPGP V4 RSA/SHA256 signature, key ID ab: NOKEY\n", "NOKEY"),
        ("x.rpm:\n    Header V4 RSA/SHA256 Signature, key ID ab: NOKEY\n", "NOKEY"),
        ("x.rpm:\n    Header SHA256 digest: OK\n", "no signature"),
        ("x.rpm:\n    Header V4 RSA/SHA256 Signature, key ID ab: OK\n    MD5 digest: BAD (a != b)\n", "BAD"),
    ],
)
def test_what_rpmkeys_says(text: str, words: str) -> None:
    assert words in parse_rpmkeys(text, is_success=not words)
    assert bool(parse_rpmkeys(text, is_success=not words)) == bool(words)
