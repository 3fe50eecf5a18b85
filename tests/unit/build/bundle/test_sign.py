# SPDX-License-Identifier: Apache-2.0
"""A signed bundle: who signed it is seen by gpg, by the installer, and by nobody who lacks the signature."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import KeyFileError
from build.bundle import sign
from build.bundle.iso import UNLISTED_PATHS, checksum_file
from build.evidence import verify
from installer.base.errors import MediaError
from installer.media import mounting as media
from installer.media import signature
from tests.unit.build.factory import World, all_steps, build_bundle, make_project, make_world, write_sources
from tests.unit.build.signers import Signer, signer


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    with signer(tmp_path_factory.mktemp("keys"), "release") as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), ballast_bytes=1_500_000)


@pytest.fixture(scope="module")
def signed(world: World, key: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = write_sources(tmp_path_factory.mktemp("signed"))
    project = dataclasses.replace(make_project(world, checkout), signed_by=key.fingerprint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(key.home_dir))
        for step in all_steps(project):
            step.run()
            assert all(path.exists() for path in step.outputs), step.name
    return project.iso_file


@pytest.fixture
def tree(signed: Path, tmp_path: Path) -> Path:
    """Return the files of the signed ISO."""
    target = tmp_path / "tree"
    command = [
        "xorriso",
        "-report_about",
        "FAILURE",
        "-osirrox",
        "on",
        "-indev",
        str(signed),
        "-extract",
        "/",
        str(target),
    ]
    subprocess.run(command, check=True, timeout=60)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@pytest.mark.subprocess
def test_plain_gpg_verifies_what_lies_beside_the_image(signed: Path, key: Signer) -> None:
    """By gpg and sha256sum, as the page for those who approve an ISO says."""
    sums = checksum_file(signed)
    key.gpg("--verify", str(sign.signature_file(sums)), str(sums))
    subprocess.run(["sha256sum", "--check", "--strict", sums.name], cwd=signed.parent, check=True, timeout=60)
    assert verify.verify_iso(signed).faults == ()


@pytest.mark.subprocess
def test_the_commands_of_the_page_for_approval(signed: Path, key: Signer, tmp_path: Path) -> None:
    """By gpg, sha256sum and checkisomd5, each as it stands there, in a directory of what the page names."""
    page = Path(__file__).parents[4] / "docs" / "how-to" / "approve-an-iso.md"
    commands = re.findall(r"^\$ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    programs = {command.removeprefix("LC_ALL=C ").split()[0] for command in commands}
    assert programs == {"gpg", "sha256sum", "checkisomd5"}
    for file in (signed, checksum_file(signed), sign.signature_file(checksum_file(signed))):
        shutil.copy(file, tmp_path)
    shutil.copy(key.key_file, tmp_path / "release-key.asc")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(home)}
    try:
        for command in commands:
            typed = command.replace("caisson-VERSION-BUILD.iso", signed.name)
            subprocess.run(["bash", "-c", typed], cwd=tmp_path, env=environment, check=True, timeout=60)
    finally:
        # gpg starts an agent of its own; it must not outlive the test.
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True, timeout=60)


@pytest.mark.subprocess
def test_all_other_bytes_are_those_of_an_unsigned_bundle(world: World, signed: Path, tmp_path: Path) -> None:
    """By xorriso."""
    plain = build_bundle(world, tmp_path)
    one, other = ((file.parent / "test" / "tree" / "SHA256SUMS").read_bytes() for file in (plain, signed))
    assert one == other
    assert not sign.signature_file(checksum_file(plain)).exists()


@pytest.mark.subprocess
def test_an_unsigned_build_takes_an_old_signature_away(world: World, tmp_path: Path) -> None:
    """By xorriso."""
    iso_file = build_bundle(world, tmp_path)
    stale = sign.signature_file(checksum_file(iso_file))
    stale.write_text("of another image")
    build_bundle(world, tmp_path)
    assert not stale.exists()


@pytest.mark.subprocess
def test_the_installer_takes_the_pinned_key_only(tree: Path, key: Signer) -> None:
    """By gpgv."""
    said: list[str] = []
    signature.check(tree, key.fingerprint, note=said.append)
    signature.check(tree, "", note=said.append)
    assert said[0] == f"the media is signed by the pinned key {key.fingerprint}"
    assert said[1].startswith(f"the media is signed by the key {key.fingerprint}: compare")
    with pytest.raises(MediaError, match="signed by another key than the pinned one"):
        signature.check(tree, "0" * 40, note=said.append)
    assert media.verify(tree, progress=said.append).files > 0


@pytest.mark.subprocess
def test_the_installer_refuses_what_was_changed(tree: Path, key: Signer) -> None:
    """By gpgv."""
    sums = tree / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("0", "1", 1))
    for pinned in (key.fingerprint, ""):
        with pytest.raises(MediaError, match="is not good") as caught:
            signature.check(tree, pinned, note=print)
        assert "changed after it was signed" in caught.value.details


@pytest.mark.subprocess
def test_the_installer_refuses_another_s_signature_under_the_pinned_name(
    tree: Path, key: Signer, tmp_path: Path
) -> None:
    """By gpgv: a thief signs anew, and puts his key, or ours, beside it."""
    with signer(tmp_path, "thief") as thief:
        (tree / "SHA256SUMS.asc").write_bytes(thief.sign_detached(tree / "SHA256SUMS").read_bytes())
        with pytest.raises(MediaError, match="is not good") as caught:
            signature.check(tree, key.fingerprint, note=print)
        assert "a key that is not on the media" in caught.value.details
        exported = tmp_path / "thief.gpg"
        thief.gpg("--output", str(exported), "--export", thief.fingerprint)
        shutil.copy(exported, tree / "SHA256SUMS.gpg")
        with pytest.raises(MediaError, match="signed by another key than the pinned one"):
            signature.check(tree, key.fingerprint, note=print)


def test_a_pinned_key_wants_a_signature(tmp_path: Path) -> None:
    signature.check(tmp_path, "", note=print)
    with pytest.raises(MediaError, match="is not signed"):
        signature.check(tmp_path, "A" * 40, note=print)


def test_a_signature_without_its_key(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS.asc").touch()
    with pytest.raises(MediaError) as caught:
        signature.check(tmp_path, "", note=print)
    assert caught.value.details == "not on the media: SHA256SUMS.gpg, SHA256SUMS"


@pytest.mark.subprocess
def test_a_key_that_has_ended_still_verifies(tmp_path: Path) -> None:
    """By gpg, whose clock is set, and gpgv: time alone makes no signature bad."""
    with signer(tmp_path, "old", expire="20210101T000000", time="20200101T000000") as old:
        media_dir = tmp_path / "media"
        media_dir.mkdir()
        sums = media_dir / "SHA256SUMS"
        sums.write_text("")
        old.gpg(
            "--faked-system-time", "20200601T000000", "--armor", "--detach-sign",
            "--output", str(media_dir / "SHA256SUMS.asc"), str(sums),
        )  # fmt: skip
        old.gpg("--output", str(media_dir / "SHA256SUMS.gpg"), "--export", old.fingerprint)
        assert signature.verify(media_dir).primary == old.fingerprint


@pytest.mark.parametrize("text", ["", "AB12CD34", "release@example.com", "0" * 41])
def test_only_a_whole_fingerprint_is_taken(text: str) -> None:
    with pytest.raises(KeyFileError, match="is not the fingerprint"):
        sign.fingerprint(text)


@pytest.mark.subprocess
def test_a_key_that_gpg_does_not_have(key: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gpg."""
    monkeypatch.setenv("GNUPGHOME", str(key.home_dir))
    with pytest.raises(KeyFileError, match="gpg has no secret key"):
        sign.sign_file(tmp_path, tmp_path / "x.asc", "0" * 40)


def test_builder_and_installer_agree_on_the_names() -> None:
    assert frozenset(signature.UNLISTED_FILE_NAMES) == UNLISTED_PATHS


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("[GNUPG:] BADSIG 12 x\n", "changed"),
        ("[GNUPG:] REVKEYSIG 12 x\n[GNUPG:] VALIDSIG A 1 2 3 4 5 6 7 8 A\n", "revoked"),
        ("[GNUPG:] NO_PUBKEY 1234\n", "1234"),
        ("", "no signature"),
    ],
)
def test_what_gpgv_finds_wrong(status: str, words: str) -> None:
    found, fault = signature.parse_status(status)
    assert found is None
    assert words in fault
