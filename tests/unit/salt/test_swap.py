# SPDX-License-Identifier: Apache-2.0
"""Swap goes out of /etc/fstab; every other byte of the file stays."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import installer, load


def edit(file: Path, data: bytes) -> None:
    installer().call("installer.base.files", "edit_host_file", file, data)


@pytest.mark.parametrize("comment", [b"# B\xfcro\n", b"# plain\r\n", "# one\u2028line\n".encode()])
def test_only_the_lines_of_swap_change(tmp_path: Path, comment: bytes) -> None:
    state: Any = load("caisson_host", STATES_DIR)
    state.FSTAB = tmp_path / "fstab"
    swap = b"/dev/sda3 none swap defaults 0 0 # \xfc\n"
    state.FSTAB.write_bytes(comment + swap + b"/dev/sda1 / xfs defaults 0 0\n")
    state.__dict__.update(
        __opts__={"test": False},
        __salt__={
            "caisson_result.ensure": load("caisson_result").ensure,
            "caisson_host.active_swaps": list,
            "caisson_host.swap_units": list,
            "caisson_host.swap_lines": load("caisson_host").swap_lines,
            "caisson_installer.call": installer().call,
        },
    )
    answer = state.swap_off("x")
    assert answer["result"]
    json.dumps(answer).encode()
    assert state.FSTAB.read_bytes() == comment + b"# caisson: " + swap + b"/dev/sda1 / xfs defaults 0 0\n"
    assert state.swap_off("x")["changes"] == {}


UNITS = """Id=dev-vda3.swap
FragmentPath=/run/systemd/generator/dev-vda3.swap
SourcePath=/etc/fstab
UnitFileState=generated

Id=dev-disk-by\\x2ddiskseq-1\\x2dpart3.swap
FragmentPath=
SourcePath=
UnitFileState=

Id=dev-gpt\\x2dauto.swap
FragmentPath=/run/systemd/generator.late/dev-gpt\\x2dauto.swap
SourcePath=
UnitFileState=generated

Id=dev-zram0.swap
FragmentPath=/etc/systemd/system/dev-zram0.swap
SourcePath=
UnitFileState=masked

Id=dev-vdb.swap
FragmentPath=/run/systemd/system/dev-vdb.swap
SourcePath=
UnitFileState=masked-runtime

Id=swapfile.swap
FragmentPath=/etc/systemd/system/swapfile.swap
SourcePath=
UnitFileState=static
"""


def test_a_swap_partition_that_fstab_does_not_name_is_masked(tmp_path: Path) -> None:
    """As systemd-gpt-auto-generator brings it back at each boot."""
    state: Any = load("caisson_host", STATES_DIR)
    module: Any = load("caisson_host")
    state.FSTAB, asked = tmp_path / "fstab", []

    def run_all(words: list[str], **_: Any) -> dict[str, Any]:
        asked.append(words)
        return {"retcode": 0, "stdout": UNITS, "stderr": ""}

    module.__dict__["__salt__"] = {"cmd.run_all": run_all}
    state.__dict__.update(
        __opts__={"test": False},
        __salt__={
            "cmd.run_all": run_all,
            "caisson_result.ensure": load("caisson_result").ensure,
            "caisson_host.active_swaps": list,
            "caisson_host.swap_units": module.swap_units,
            "caisson_host.put_aside": module.put_aside,
            "caisson_host.swap_lines": module.swap_lines,
        },
    )
    own = tmp_path / "swapfile.swap"
    own.write_text("[Swap]\nWhat=/swapfile\n")
    module.UNITS_DIR, generated = str(tmp_path), tmp_path / "generated"
    generated.mkdir()
    for name in ("dev-vdb.swap", "swapfile.swap", "dev-vdb.swap.caisson", "data.mount"):
        (generated / name).touch()
    module.UNIT_SEARCH_DIRS = (str(tmp_path / "none"), str(tmp_path), str(generated))
    units = ["dev-gpt\\x2dauto.swap", "dev-vdb.swap", "swapfile.swap"]
    assert state.swap_off("x")["changes"] == {
        **dict.fromkeys([*units, "swap.target"], "masked"),
        f"{own}.caisson": "renamed, so that the unit can be masked",
    }
    # By name: a unit that is not loaded is found by no pattern.
    assert asked[0][-3:] == ["*.swap", "dev-vdb.swap", "swapfile.swap"]
    # The target too: sda may be sdb at the next boot, and its partition's unit another one.
    assert asked[-1] == ["systemctl", "mask", "--", *units, "swap.target"]
    assert not own.exists()
    assert (tmp_path / "swapfile.swap.caisson").read_text() == "[Swap]\nWhat=/swapfile\n"
    assert module.swap_units_of("") == []


def test_fstab_keeps_all_but_its_bytes(tmp_path: Path) -> None:
    file, link = tmp_path / "real", tmp_path / "fstab"
    file.write_bytes(b"one")
    file.chmod(0o640)
    os.setxattr(file, "user.label", b"etc_t")
    link.symlink_to("real")
    edit(link, b"other")
    assert link.is_symlink()
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"other", 0o640)
    assert os.getxattr(file, "user.label") == b"etc_t"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fstab", "real"]


def test_an_fstab_that_is_a_mount_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fstab"
    file.write_bytes(b"a longer one")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    inode = file.stat().st_ino
    edit(file, b"other")
    assert (file.read_bytes(), file.stat().st_ino) == (b"other", inode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["fstab"]


def test_an_fstab_that_cannot_be_written_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: Any = load("caisson_host", STATES_DIR)
    state.FSTAB = tmp_path / "fstab"
    state.FSTAB.write_bytes(b"/dev/sda3 none swap defaults 0 0\n")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    state.__dict__.update(
        __opts__={"test": False},
        __salt__={
            "caisson_result.ensure": load("caisson_result").ensure,
            "caisson_host.active_swaps": list,
            "caisson_host.swap_units": list,
            "caisson_host.swap_lines": load("caisson_host").swap_lines,
            "caisson_installer.call": installer().call,
        },
    )
    answer = state.swap_off("x")
    assert answer["result"] is False
    assert "lsattr" in answer["comment"]
