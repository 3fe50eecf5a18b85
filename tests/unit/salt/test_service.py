# SPDX-License-Identifier: Apache-2.0
"""A service runs with what its files say now, also when the run that wrote them was killed before it could act."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

pytestmark = pytest.mark.subprocess
# systemctl over files: "active", "enabled" and "stale" are there or not; all that changes something is logged.
SYSTEMCTL = """#!/bin/sh
cd "$(dirname "$0")"
yes() { if [ -e "$1" ]; then echo "$2"; else echo "$3"; fi; }
case "$1" in
  show) echo "ActiveState=$(yes active active inactive)"
        echo "UnitFileState=$(yes enabled enabled disabled)"
        echo "NeedDaemonReload=$(yes stale yes no)" ;;
  *) echo "$*" >> log
     if [ -e broken ]; then echo "Job failed. See journalctl" >&2; exit 1; fi ;;
esac
case "$1" in daemon-reload) rm -f stale ;; enable) touch enabled ;; restart|reload-or-restart) touch active ;; esac
"""
UNIT = "x.service"
UNKNOWN_KEY = (
    'level=warning msg="Ignoring unknown key in TOML for plugin" error="strict mode: fields in the document are '
    'missing in the target struct" key=max_line plugin=io.containerd.cri.v1.runtime'
)


class Host:
    """A systemd with one unit, and the states over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "config"
        program = directory / "systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        module: Any = load("caisson_service")
        module.STAMPS_DIR = str(directory / "stamps")
        self.state: Any = load("caisson_service", STATES_DIR)
        functions = {
            f"caisson_service.{name}": getattr(module, name)
            for name in ("facts", "systemctl", "digest", "stamp", "write_stamp")
        }
        functions["caisson_result.ensure"] = load("caisson_result").ensure
        functions["test.check"] = self.check
        self.state.__dict__.update(__salt__=functions, __opts__={"test": False})

    def check(self) -> None:
        if "bad" in self.file.read_text():
            raise RuntimeError("it would not start")

    def run(self, **options: Any) -> tuple[dict[str, Any], list[str]]:
        """Return what the state said, and what systemctl was told."""
        (self.directory / "log").unlink(missing_ok=True)
        said = self.state.running("x", UNIT, reads=[str(self.file)], **options)
        log = self.directory / "log"
        return said, log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host on which the service was started with its file, and is left alone by a second run."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    host = Host(tmp_path)
    host.file.write_text("one")
    said, told = host.run()
    assert said["changes"] == {"at boot": "enabled", UNIT: "started"}
    assert told == [f"enable {UNIT}", f"restart {UNIT}"]
    assert host.run() == ({"name": "x", "result": True, "changes": {}, "comment": f"{UNIT} runs"}, [])
    return host


def test_a_file_that_was_written_by_a_run_that_was_killed(host: Host) -> None:
    host.file.write_text("two")
    said, told = host.run()
    assert (said["changes"], told) == ({UNIT: "restarted"}, [f"restart {UNIT}"])
    assert host.run()[1] == []


def test_a_file_that_somebody_else_changed_is_read_again_when_it_is_as_before(host: Host) -> None:
    """The service may run with what stood there meanwhile: an administrator has restarted it, the host has booted."""
    host.file.write_text("two")
    host.file.write_text("one")
    said, told = host.run()
    assert (said["changes"], told) == ({UNIT: "restarted"}, [f"restart {UNIT}"])
    assert host.run()[1] == []
    host.file.chmod(0o600)
    assert host.run()[1] == [], "nothing of it has changed"


def test_a_service_that_can_is_told_to_read_its_files_and_not_stopped(host: Host) -> None:
    """As the guard, whose rules are replaced in one step; it is started where it does not run."""
    host.file.write_text("two")
    said, told = host.run(reloads=True)
    assert (said["changes"], told) == ({UNIT: "reloaded"}, [f"reload-or-restart {UNIT}"])
    assert host.run(reloads=True)[1] == []
    (host.directory / "active").unlink()
    said, told = host.run(reloads=True)
    assert (said["changes"], told) == ({UNIT: "started"}, [f"reload-or-restart {UNIT}"])


def test_a_restart_after_which_the_run_was_killed_is_made_once_more_and_no_oftener(host: Host) -> None:
    (host.directory / "stamps" / UNIT).unlink()
    assert host.run()[1] == [f"restart {UNIT}"]
    assert host.run()[1] == []


def test_unit_files_that_nobody_had_read(host: Host) -> None:
    (host.directory / "stale").touch()
    assert host.run()[1] == ["daemon-reload"]
    (host.directory / "stale").touch()
    (host.directory / "log").unlink()
    assert host.state.unit_files_read("x", UNIT)["changes"] == {"unit files": "read again"}
    assert host.state.unit_files_read("x", UNIT)["changes"] == {}


def test_a_unit_is_enabled_and_not_started(host: Host) -> None:
    (host.directory / "enabled").unlink()
    (host.directory / "log").unlink(missing_ok=True)
    assert host.state.enabled("x", UNIT)["changes"] == {"at boot": "enabled"}
    assert (host.directory / "log").read_text().splitlines()[-1] == f"enable {UNIT}"
    assert host.state.enabled("x", UNIT)["changes"] == {}


def test_a_file_that_is_gone_restarts_nothing(host: Host) -> None:
    """As the standalone kubelet's drop-in, when kubeadm's configuration has taken over."""
    host.file.unlink()
    assert host.run()[1] == []


def test_a_configuration_that_would_not_start_is_told_before_anything_is_restarted(host: Host) -> None:
    host.file.write_text("bad")
    said, told = host.run(check="test.check")
    assert (said["result"], said["comment"], told) == (False, "it would not start", [])
    host.file.write_text("good")
    assert host.run(check="test.check")[1] == [f"restart {UNIT}"]


def test_a_restart_that_fails_is_tried_again(host: Host) -> None:
    host.file.write_text("two")
    (host.directory / "broken").touch()
    said, _ = host.run()
    assert said["result"] is False
    assert "Job failed. See journalctl" in said["comment"]
    (host.directory / "broken").unlink()
    assert host.run()[1] == [f"restart {UNIT}"]


def test_a_reload_that_was_lost(host: Host) -> None:
    reads = [str(host.file)]
    (host.directory / "stamps" / UNIT).unlink()
    assert host.state.reloaded("x", UNIT, reads)["changes"] == {UNIT: "reloaded"}
    assert host.state.reloaded("x", UNIT, reads)["changes"] == {}
    host.file.write_text("two")
    assert host.state.reloaded("x", UNIT, reads)["changes"] == {UNIT: "reloaded"}
    host.file.write_text("three")
    (host.directory / "active").unlink()
    assert host.state.reloaded("x", UNIT, reads)["comment"] == f"{UNIT} does not run"


def test_in_test_mode_nothing_is_told(host: Host) -> None:
    host.state.__dict__["__opts__"] = {"test": True}
    host.file.write_text("two")
    said, told = host.run()
    assert (said["result"], said["changes"], told) == (None, {UNIT: "restarted"}, [])


@pytest.mark.parametrize(
    ("returncode", "stderr", "faults"),
    [
        (0, 'level=warning msg="Configuration migrated from version 3, use `containerd config migrate`"', 0),
        (0, 'level=warning msg="Configuration migrated from version 0, use `containerd config migrate`"', 1),
        (
            1,
            "level=warning msg=x\ncontainerd: toml: cannot decode TOML string into struct field X of type int",
            1,
        ),
        (1, "", 1),
        (0, UNKNOWN_KEY, 1),
    ],
)
def test_what_containerd_says_of_a_configuration(returncode: int, stderr: str, faults: int) -> None:
    """As containerd 2.3.7 says it."""
    found = load("caisson_containerd").faults_of(returncode, stderr)
    assert len(found) == faults, found
    assert not [fault for fault in found if "level=" in fault]


def test_a_service_that_others_wait_for_is_only_told_to_start(host: Host) -> None:
    host.file.write_text("two")
    assert host.run(waits=False)[1] == [f"restart --no-block {UNIT}"]
