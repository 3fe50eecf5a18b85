# SPDX-License-Identifier: Apache-2.0
"""What Caisson changed of the host's own files is as before, to the byte, and what others changed since stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from installer.base.run import Completed
from installer.config import hosts
from installer.engine import traces
from installer.operations import before, reset_host
from tests.unit.installer.operations.resetting import make_reset

HOSTS = b"127.0.0.1 localhost\n# M\xfcller's\n10.0.0.9 build.example\n"
FSTAB = b"/dev/sda1 / xfs defaults 0 0\n/dev/sda2 none swap sw 0 0\n# /dev/sdb mine\n"


class Systemd:
    """Notes what is asked of systemctl and others."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __call__(self, args: list[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        self.called.append(" ".join(args))
        return Completed(3 if "is-active" in args else 0, "", "")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    found = Systemd()
    monkeypatch.setattr(reset_host, "run", found)
    return found


def _do(root: Path) -> list[str]:
    said = []
    for action in reset_host.plan_host(make_reset(root)):
        action.do()
        said.append(action.text)
    return said


def _write(root: Path, name: str, data: bytes = b"") -> Path:
    file = root / name.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def test_names_are_as_before_to_the_byte(tmp_path: Path, systemd: Systemd) -> None:
    file = _write(tmp_path, "/etc/hosts", HOSTS)
    hosts.apply(make_reset(tmp_path).paths, "10.0.0.1", "api.lab.internal", ["node1"])
    assert file.read_bytes() != HOSTS
    assert _do(tmp_path) == ["take Caisson's lines out of /etc/hosts"]
    assert file.read_bytes() == HOSTS
    assert _do(tmp_path) == []
    assert systemd.called == []


def test_swap_lines_and_units_come_back(tmp_path: Path, systemd: Systemd) -> None:
    """A unit that the site had masked itself stays so; a file of the administrator's gets its name again."""
    commented = FSTAB.replace(b"/dev/sda2", b"# caisson: /dev/sda2")
    fstab = _write(tmp_path, "/etc/fstab", commented)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("dev-sda3.swap", "site.swap", "swap.target"):
        (units / name).symlink_to("/dev/null")
    _write(tmp_path, "/etc/systemd/system/data-swap.swap.caisson", b"[Swap]\n")
    noted = {"settings": {}, "swaps": ["/dev/sda2"], "masked": ["site.swap"], "directories": []}
    _write(tmp_path, "/var/lib/caisson/before.json", json.dumps(noted).encode())
    _do(tmp_path)
    assert fstab.read_bytes() == FSTAB
    assert (units / "data-swap.swap").read_bytes() == b"[Swap]\n"
    assert "systemctl unmask -- dev-sda3.swap swap.target" in systemd.called
    assert systemd.called[-2:] == ["systemctl daemon-reload", "swapon -- /dev/sda2"]


def test_settings_of_the_kernel_are_what_they_were(tmp_path: Path, systemd: Systemd) -> None:
    """One that has the value of before is not written; one whose module came since has none to go back to."""
    paths = make_reset(tmp_path).paths
    for name, value in (("net.ipv4.ip_forward", "0"), ("vm.panic_on_oom", "0")):
        _write(tmp_path, str(before.setting_file(paths, name).relative_to(tmp_path)), f"{value}\n".encode())
    assert before.note(paths)
    assert not before.note(paths)
    before.setting_file(paths, "net.ipv4.ip_forward").write_text("1\n", encoding="ascii")
    bridge = before.setting_file(paths, "net.bridge.bridge-nf-call-iptables")
    _write(tmp_path, str(bridge.relative_to(tmp_path)), b"1\n")
    assert _do(tmp_path) == ["set net.ipv4.ip_forward back to 0"]
    assert before.setting_file(paths, "net.ipv4.ip_forward").read_text(encoding="ascii") == "0\n"
    assert (bridge.read_text(encoding="ascii"), systemd.called) == ("1\n", [])


def test_the_zone_goes_and_the_site_s_stays(tmp_path: Path, systemd: Systemd) -> None:
    for name in traces.FIREWALL_FILES:
        _write(tmp_path, name)
    own = _write(tmp_path, "/etc/firewalld/zones/site.xml", b"<zone/>")
    for action in reset_host.plan_firewall(make_reset(tmp_path)):
        action.do()
    assert [file for file in (tmp_path / "etc/firewalld").rglob("*") if file.is_file()] == [own]
    assert reset_host.plan_firewall(make_reset(tmp_path)) == []
    assert {line.split()[0] for line in systemd.called} <= {"systemctl", "firewall-cmd"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 1}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    _write(tmp_path, "/var/lib/caisson/before.json", text.encode())
    assert before.read(make_reset(tmp_path).paths) is None


def test_the_console_s_user_goes_and_no_other(tmp_path: Path, systemd: Systemd) -> None:
    others = b"root:x:0:0::/root:/bin/sh\nnot-caisson-console:x:7:7::/:/bin/sh\n"
    file = _write(tmp_path, "/etc/passwd", others)
    assert _do(tmp_path) == []
    file.write_bytes(others + b"caisson-console:x:998:998::/nonexistent:/usr/sbin/nologin\n")
    assert _do(tmp_path) == ["remove the user caisson-console"]
    assert systemd.called[-1] == "userdel caisson-console"
