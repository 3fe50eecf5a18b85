# SPDX-License-Identifier: Apache-2.0
"""The recipe of a node's root; the root itself is tested in tests/node."""

from __future__ import annotations

import configparser
import fnmatch
from pathlib import Path

import pytest

from lab import el9, root
from lab.errors import LabError
from lab.rpmspec import DebianFiles, Directory, Link, Text


def test_nothing_that_the_iso_must_bring_is_preinstalled() -> None:
    assert not set(root.PACKAGES) & {"conntrack", "ebtables", "ethtool", "iptables", "socat"}


def test_programs_that_a_host_has_come_from_the_labs_packages() -> None:
    """Else the user land's copy would stay on a host whose rpm database does not know the package."""
    known = {package.name: package for package in el9.BASEOS_EXTRAS}
    held = [
        Path(path).name
        for name in root.REPLACING_PACKAGES
        for content in known[name].contents
        if isinstance(content, DebianFiles | Link)
        for path in (content.include if isinstance(content, DebianFiles) else [content.path])
    ]
    assert set(root.REPLACED_PROGRAMS) <= set(held)
    assert not set(root.UNWANTED_PROGRAMS) & set(held)


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


@pytest.mark.parametrize("name", [name for name, host in root.PROFILES.items() if host.without])
def test_what_a_host_came_without_is_taken_away_file_by_file(name: str) -> None:
    """Else the ISO's package would be installed over files that were there all the time, and prove nothing."""
    host = root.PROFILES[name]
    known = {package.name: package for package in el9.BASEOS_EXTRAS}
    names = [name for name in (*host.without, "python3-firewall") if name in known]
    assert set(host.without) <= set(names)
    held: list[str] = []
    for content in (content for name in names for content in known[name].contents):
        if isinstance(content, DebianFiles):
            held += content.include
        else:
            assert isinstance(content, Text | Link | Directory)
            held.append(content.path)
    assert held
    kept = [
        path
        for path in held
        if not any(
            fnmatch.fnmatchcase(path.lstrip("/"), f"{file}{end}") for file in host.files for end in ("", "/*")
        )
    ]
    assert kept == []


def test_files_links_and_directories_are_removed(tmp_path: Path) -> None:
    for file in ("etc/tool/zones/a.xml", "usr/bin/tool-cmd", "usr/bin/tool-gui", "usr/bin/other"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    wants_dir = tmp_path / "etc/systemd/multi-user.target.wants"
    wants_dir.mkdir(parents=True)
    (wants_dir / "tool.service").symlink_to("/nowhere/tool.service")
    root.remove_files(tmp_path, ["etc/tool", "usr/bin/tool-*", "etc/systemd/*.wants/tool.service"])
    assert [path.name for path in tmp_path.rglob("*") if not path.is_dir() or path.is_symlink()] == ["other"]
    assert not (tmp_path / "etc/tool").exists()
    with pytest.raises(LabError, match="has no 'etc/tool'"):
        root.remove_files(tmp_path, ["etc/tool"])
