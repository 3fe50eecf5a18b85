# SPDX-License-Identifier: Apache-2.0
"""A certificate that a site brings for its media server: each fault is told before anything is changed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from installer.base.errors import ConfigError
from installer.config import leaf
from installer.config.leaf import Leaf
from tests.authorities import make_authority, make_leaf
from tests.unit.installer.helpers import make_config

NAMES = ("10.77.1.11", "media.lab.internal")


@pytest.fixture
def good(tmp_path: Path) -> Leaf:
    authority = make_authority(tmp_path / "site")
    return Leaf(*make_leaf(tmp_path, authority, names=NAMES), authority[0])


def faults(given: Leaf, *names: str) -> list[str]:
    return [f"{key}: {text}" for key, text in leaf.examine(given, names)]


def test_a_good_one_has_none(good: Leaf) -> None:
    assert faults(good) == []
    assert faults(good, *NAMES) == []


def test_one_by_an_intermediate_that_lies_in_its_file_is_good(tmp_path: Path) -> None:
    root = make_authority(tmp_path / "root", subject="root")
    between = make_authority(tmp_path / "between", issuer=root, subject="between")
    certificate, key = make_leaf(tmp_path, between, names=NAMES)
    alone = faults(Leaf(certificate, key, root[0]), *NAMES)
    assert ["issuer" in text for text in alone] == [True]
    certificate.write_bytes(certificate.read_bytes() + between[0].read_bytes())
    assert faults(Leaf(certificate, key, root[0]), *NAMES) == []


def test_one_that_is_not_for_the_address_or_the_name(good: Leaf) -> None:
    (address,) = faults(good, "10.77.1.12", "media.lab.internal")
    assert "for 10.77.1.12: IP address mismatch" in address
    (name,) = faults(good, "10.77.1.11", "media.other.internal")
    assert "for media.other.internal: Hostname mismatch" in name


def test_names_that_nobody_can_ask_for(tmp_path: Path) -> None:
    """An empty one beside good ones is nothing; alone, or too long, it is a fault and no traceback."""
    authority = make_authority(tmp_path / "site")
    beside = Leaf(*make_leaf(tmp_path, authority, names=("", *NAMES)), authority[0])
    assert faults(beside) == faults(beside, *NAMES) == []
    alone = Leaf(*make_leaf(tmp_path, authority, names=("",)), authority[0])
    assert "names no address and no host" in faults(alone)[0]
    long = Leaf(*make_leaf(tmp_path, authority, names=("x" * 70,)), authority[0])
    assert "nobody can ask for this name" in faults(long)[0]


def test_one_that_has_expired(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "site")
    ended = make_leaf(tmp_path, authority, names=NAMES, end=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
    (text,) = faults(Leaf(*ended, authority[0]), *NAMES)
    assert text.startswith("certificateFile: ")
    assert "certificate has expired" in text


def test_one_of_another_authority(good: Leaf, tmp_path: Path) -> None:
    other, _ = make_authority(tmp_path / "other")
    (text,) = faults(Leaf(good.certificate_file, good.key_file, other), *NAMES)
    assert "issuer" in text or "signature" in text or "self" in text, text


def test_files_that_are_no_good(good: Leaf, tmp_path: Path) -> None:
    key = make_authority(tmp_path / "other")[1]
    assert "is not the key of" in faults(Leaf(good.certificate_file, key, good.authority_file))[0]
    missing = Leaf(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert [text.partition(":")[0] for text in faults(missing)] == [
        "certificateFile",
        "keyFile",
        "authorityFile",
    ]
    good.key_file.chmod(0o644)
    assert "can be read by others (mode 0644)" in faults(good)[0]


def test_the_configuration_tells_each_fault_with_its_line(good: Leaf) -> None:
    files = {
        "certificateFile": str(good.certificate_file),
        "keyFile": str(good.key_file),
        "authorityFile": str(good.authority_file),
    }
    made = make_config(f"media: {{certificate: {json.dumps(files)}}}\n")
    assert made.media_certificate == good
    good.key_file.unlink()
    with pytest.raises(ConfigError) as caught:
        make_config(f"media: {{certificate: {json.dumps(files)}}}\n")
    assert "media.certificate.keyFile" in caught.value.details
    with pytest.raises(ConfigError):
        make_config(f"media: {{certificate: {json.dumps({**files, 'keyFile': ''})}}}\n")


def test_it_is_refused_for_other_names_until_it_is_installed_and_taken_off(
    good: Leaf, tmp_path: Path
) -> None:
    installed = tmp_path / "site.crt"
    leaf.refuse(None, NAMES, installed_file=installed)
    leaf.refuse(good, NAMES, installed_file=installed)
    with pytest.raises(ConfigError, match="cannot serve packages and images") as caught:
        leaf.refuse(good, ("10.0.0.1", NAMES[1]), installed_file=installed)
    assert "10.0.0.1 and media.lab.internal" in caught.value.resolution
    installed.touch()
    good.certificate_file.unlink()
    leaf.refuse(good, ("10.0.0.1",), installed_file=installed)
