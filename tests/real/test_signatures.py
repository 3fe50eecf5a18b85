# SPDX-License-Identifier: Apache-2.0
"""Signatures and keys of real upstreams are judged as EL9 judges them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from build.base.errors import IntegrityError, KeyFileError, SignatureError
from build.base.run import run
from build.inventory.model import MetadataTrust, PinnedKey, Repository
from build.upstream.openpgp import TrustedKeys, key_warnings, parse_key_listing, read_keys
from build.upstream.rpmheader import read_header
from build.upstream.signedrpm import RpmKeyring, verify_header

Files = Callable[[str], list[Path]]
NOW = 1_795_000_000  # 2026-11-18


def trusted(file: Path) -> TrustedKeys:
    """Return the keys of a file as those of a repository that pins them all."""
    listing = run(["gpg", "--with-colons", "--show-keys", file]).stdout
    pins = tuple(PinnedKey(file=file, fingerprint=info.fingerprint) for info in parse_key_listing(listing))
    assert pins, file
    return read_keys(
        Repository(id=file.stem, base_urls=("https://x/",), metadata=MetadataTrust.SIGNED, keys=pins)
    )


def check(keys: TrustedKeys, file: Path) -> None:
    header = read_header(file, file.name)
    verify_header(keys, header, header.nevra, file.name)


@pytest.mark.parametrize(
    ("packages", "key"),
    [
        ("rpm-head/almalinux9/*", "almalinux-9"),
        ("rpm-head/sle15-obs/*", "sle-12"),  # signatures of version 3, as pkgs.k8s.io has them
        ("rpm/fedora41/*", "fedora-41"),
        ("rpm/docker/*", "docker-ce"),
    ],
)
def test_headers_are_signed_by_their_makers(
    real_dir: Path, real_files: Files, packages: str, key: str
) -> None:
    keys = trusted(real_dir / "keys" / f"{key}.asc")
    for file in real_files(packages):
        check(keys, file)


def test_rpm_says_the_same_of_whole_packages(real_dir: Path, real_files: Files, tmp_path: Path) -> None:
    keyring = RpmKeyring(tmp_path / "db", trusted(real_dir / "keys" / "fedora-41.asc"))
    for file in real_files("rpm/fedora41/*.rpm"):
        keyring.verify(file, file.name)


def test_another_key_and_no_signature_are_told_apart(real_dir: Path, real_files: Files) -> None:
    keys = trusted(real_dir / "keys" / "almalinux-9.asc")
    for file in real_files("rpm/fedora41/*.rpm"):
        with pytest.raises(SignatureError) as caught:
            check(keys, file)
        assert "made by another key" in caught.value.details
    with pytest.raises(SignatureError, match=r"v4_rpm-empty-0-0\.x86_64\.rpm is not signed\n"):
        check(keys, real_dir / "rpm" / "rpm-rs" / "v4_rpm-empty-0-0.x86_64.rpm")


def test_packages_of_format_6_are_called_that(real_dir: Path, real_files: Files) -> None:
    keys = trusted(real_dir / "keys" / "almalinux-9.asc")
    found = [*real_files("rpm/rpm-rs/v6_*.rpm"), *real_files("rpm/rpm-tests/*-v3sig.rpm")]
    assert len(found) > 10
    for file in found:
        with pytest.raises(IntegrityError, match="is an RPM of format 6, which EL9 cannot install"):
            check(keys, file)


@pytest.mark.parametrize("name", ["rsa4096", "ed25519"])
def test_signatures_of_each_kind_that_el9_knows(real_dir: Path, name: str) -> None:
    file = real_dir / "rpm" / "rpm-rs" / f"v4_signed_rpm-basic-with-{name}-2.3.4-5.el9.noarch.rpm"
    check(trusted(real_dir / "keys" / "rpm-rs" / f"v4_rpm-testkey-v4-{name}.asc"), file)


@pytest.mark.parametrize(
    "name",
    [
        "rpm-rs/v4_rpm-testkey-v4-ecdsa-nistp256.asc",
        "rpm-tests/rpm.org-nistp256-test.pub",
        "rpm-tests/rpm.org-rsa-2048-add-subkey.asc",
        "rpm-tests/alice.asc",
    ],
)
def test_keys_that_rpm_does_not_import_are_refused_in_words(real_dir: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="rpm cannot import key file"):
        trusted(real_dir / "keys" / name)


@pytest.mark.parametrize(
    ("name", "is_weak"),
    [
        ("almalinux-9", False), ("docker-ce", False), ("epel-9", False), ("fedora-41", False), ("rocky-9", False),
        ("sle-12", False), ("centos-official", True), ("redhat9-release", True),
    ],
)  # fmt: skip
def test_keys_that_certify_themselves_with_sha1_are_told_of(
    real_dir: Path, name: str, *, is_weak: bool
) -> None:
    """The key of CentOS Stream 9 and the older of RHEL 9's two are such ones, and EL9 imports them."""
    warnings = key_warnings(trusted(real_dir / "keys" / f"{name}.asc"), NOW)
    assert [warning for warning in warnings if "SHA-1" in warning] == list(warnings)
    assert bool(warnings) == is_weak


def test_the_pinned_keys_are_those_that_others_publish(real_dir: Path, repository_dir: Path) -> None:
    for name in ("almalinux-9", "docker-ce"):
        ours, others = (
            parse_key_listing(run(["gpg", "--with-colons", "--show-keys", file]).stdout)
            for file in (repository_dir / "keys" / f"{name}.asc", real_dir / "keys" / f"{name}.asc")
        )
        assert ours == others


def test_a_key_that_has_ended_is_told_of(real_dir: Path) -> None:
    (warning,) = key_warnings(trusted(real_dir / "keys" / "kubernetes-ended-2024-11-02.asc"), NOW)
    assert "has ended (2024-11-02)" in warning
