# SPDX-License-Identifier: Apache-2.0
"""The recipe of a node's root; the root itself is tested in tests/node."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from lab import root


def test_nothing_that_the_iso_must_bring_is_preinstalled() -> None:
    assert not set(root.PACKAGES) & {"conntrack", "ebtables", "ethtool", "iptables", "socat"}


def test_it_calls_itself_el9_and_a_stand_in() -> None:
    fields = dict(line.split("=", 1) for line in root.FILES["usr/lib/os-release"].text.splitlines())
    assert fields["ID"] == '"almalinux"'
    assert fields["VERSION_ID"].strip('"').startswith("9.")
    assert "test stand-in" in fields["PRETTY_NAME"]


@pytest.mark.parametrize("name", [name for name in root.FILES if name.startswith("etc/yum.repos.d/")])
def test_the_hosts_repositories_lead_outside(name: str) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(root.FILES[name].text)
    for section in parser.sections():
        assert parser[section]["enabled"] == "1"
        assert parser[section].get("mirrorlist", parser[section].get("baseurl", "")).startswith("http")


def test_scripts_are_executable() -> None:
    for name, file in root.FILES.items():
        assert (file.mode == 0o755) == file.text.startswith("#!"), name


def test_only_modules_that_the_kernel_has_are_listed() -> None:
    options = (
        "CONFIG_OVERLAY_FS=y\nCONFIG_XFS_FS=m\nCONFIG_VETH=y\n# CONFIG_DUMMY is not set\nCONFIG_NR_CPUS=64\n"
    )
    assert root.builtin_modules(options) == ("overlay", "veth")


def test_the_newest_python_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert root.find_python() is None
    for version in ("3.9.9", "3.9.18", "3.9.20-dev", "3.10.1"):
        binary = tmp_path / "versions" / version / "bin" / f"python{'.'.join(version.split('.')[:2])}"
        binary.parent.mkdir(parents=True)
        binary.touch()
    (tmp_path / "versions" / "3.9.99").mkdir()
    assert root.find_python() == tmp_path / "versions" / "3.9.18"
