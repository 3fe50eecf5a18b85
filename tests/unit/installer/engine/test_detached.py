# SPDX-License-Identifier: Apache-2.0
"""States in a unit of their own: started once, found again, their result read by whoever comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.errors import UsageError, from_json
from installer.base.paths import Paths
from installer.engine import detached

SALT_CALL = """\
#!/bin/bash
echo "$@" >> '{root}/called'
echo "[INFO] Running state [Install the kubelet] at time 10:00:00" >> '{root}/var/log/caisson/salt.log'
cat '{root}/answer'
"""
pytestmark = pytest.mark.subprocess
GOOD = {"local": {"a_|-x": {"__id__": "A", "result": True, "changes": {"f": "new"}}}}
BAD = {"local": {"a_|-x": {"__id__": "A", "__sls__": "host", "result": False, "comment": "no room"}}}


class Units:
    """systemd: what was started is active until it is told otherwise."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.active: list[str] = []

    def start(self, unit: str, command: Sequence[str]) -> None:
        self.active.append(unit)
        self.commands.append(command)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "salt-call").write_text(SALT_CALL.format(root=tmp_path))
    (tmp_path / "salt-call").chmod(0o755)
    (tmp_path / "run").mkdir()
    return Paths(tmp_path)


def start(paths: Paths, units: Units, job_id: str = "runtime-ab12") -> str:
    return detached.start(
        paths, job_id, ["host", "containerd"], start_unit=units.start, active=lambda: units.active
    )


def carry_out(paths: Paths, answer: object, job_id: str = "runtime-ab12") -> None:
    (paths.root / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    detached.carry_out(paths, job_id, ["host", "containerd"], salt_call=str(paths.root / "salt-call"))


def test_it_is_started_and_is_running(paths: Paths) -> None:
    units = Units()
    assert start(paths, units) == "runtime-ab12"
    assert units.commands == [
        [str(paths.command_file), "on-node", "carry-out", "runtime-ab12", "host", "containerd"]
    ]
    said = detached.look(paths, "runtime-ab12", active=lambda: units.active)
    assert (said["state"], said["result"]) == ("running", None)


def test_the_same_id_twice_is_one_job(paths: Paths) -> None:
    units = Units()
    start(paths, units)
    assert start(paths, units) == "runtime-ab12"
    carry_out(paths, GOOD)
    units.active.clear()
    assert start(paths, units) == "runtime-ab12"
    assert len(units.commands) == 1


def test_one_at_a_time(paths: Paths) -> None:
    """The driver was killed; the next one is told of the job that goes on."""
    units = Units()
    start(paths, units)
    assert start(paths, units, "kubelet-cd34") == "runtime-ab12"
    units.active.clear()
    assert start(paths, units, "kubelet-cd34") == "kubelet-cd34"


def test_its_result_is_read(paths: Paths) -> None:
    start(paths, Units())
    carry_out(paths, GOOD)
    said = detached.look(paths, "runtime-ab12", active=list)
    assert said["state"] == "ended"
    assert said["result"] == {"total": 1, "changed": ["A"], "error": None}
    assert "--local" in (paths.root / "called").read_text()
    assert (detached.directory(paths, "runtime-ab12") / "result.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("answer", [BAD, {"local": ["no such sls"]}, "Traceback: x"])
def test_what_it_failed_for_is_read(paths: Paths, answer: object) -> None:
    start(paths, Units())
    carry_out(paths, answer)
    error = from_json(detached.look(paths, "runtime-ab12", active=list)["result"]["error"])
    assert error.exit_code == 10
    assert any(words in error.details for words in ("no room", "no such sls", "Traceback"))


def test_without_result_and_unit_it_is_lost(paths: Paths) -> None:
    """A power cut: it is started again under another ID."""
    start(paths, Units())
    assert detached.look(paths, "runtime-ab12", active=list)["state"] == "lost"


def test_what_a_power_cut_left_half_written_goes_before_the_next_job(paths: Paths) -> None:
    """Of a job that has ended nothing can be: what is on the disk counts before its result does."""
    empty = paths.at("/etc/salt/pki/minion/minion.pub")
    empty.parent.mkdir(parents=True)
    empty.touch()
    start(paths, Units())
    carry_out(paths, GOOD)
    start(paths, Units(), "kubelet-cd34")
    assert empty.exists()
    carry_out(paths, GOOD, "kubelet-cd34")
    assert empty.exists()
    start(paths, Units(), "firewall-cut")
    start(paths, Units(), "host-ef56")
    carry_out(paths, GOOD, "host-ef56")
    assert not empty.exists()
    assert not detached.directory(paths, "firewall-cut").exists()
    assert detached.look(paths, "kubelet-cd34", active=list)["state"] == "ended"


def test_what_it_waits_for_is_told(paths: Paths) -> None:
    units = Units()
    start(paths, units)
    log = paths.log_dir / "salt.log"
    log.parent.mkdir(parents=True)
    log.write_text("[INFO] Running state [A] at time 1\n[INFO] caisson waits: the pull of pause\n")
    said = detached.look(paths, "runtime-ab12", active=lambda: units.active)
    assert said["progress"] == "the pull of pause"


@pytest.mark.parametrize(
    ("job_id", "sls"), [("../x", ["host"]), ("", ["host"]), ("a", []), ("a", ["host;x"]), ("a", ["--x"])]
)
def test_words_that_are_no_names_are_refused(paths: Paths, job_id: str, sls: list[str]) -> None:
    with pytest.raises(UsageError):
        detached.start(paths, job_id, sls, active=list)


def test_the_oldest_go(paths: Paths) -> None:
    for number in range(detached.KEPT + 5):
        start(paths, Units(), f"job-{number}")
    assert len(list(detached.directory(paths, "x").parent.iterdir())) == detached.KEPT + 1
