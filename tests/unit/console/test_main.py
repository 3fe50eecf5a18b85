# SPDX-License-Identifier: Apache-2.0
"""The program itself: its settings, the sockets of systemd, its end, what it costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from console import settings
from console.__main__ import IDLE_S, is_unused
from console.settings import SettingsError
from tests.unit.console.running import REPOSITORY_DIR, Running, program

GOOD: dict[str, Any] = {
    "listen": ["10.77.1.1"],
    "port": 9443,
    "names": ["console.harbour.internal", "CP1"],
    "api": "https://10.77.1.1:6443/",
    "ca": "/etc/kubernetes/pki/ca.crt",
    "cluster": "harbour",
    "product": {"version": "0.2.0", "build": "20261120", "profile": "lab", "lab": True},
    "door": "/run/caisson/door.sock",
}


def write(directory: Path, content: Any) -> Path:
    """Write settings; return the file."""
    file = directory / "console.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_the_settings_of_salt_are_read(tmp_path: Path) -> None:
    found = settings.load(write(tmp_path, GOOD), tmp_path / "credentials")
    assert found.names == {"10.77.1.1", "console.harbour.internal", "cp1"}
    assert found.api_url == "https://10.77.1.1:6443"
    assert found.key_file == tmp_path / "credentials" / "tls.key"
    assert found.certificate_file == tmp_path / "tls.crt"
    assert found.product.title == "0.2.0-20261120"
    assert settings.load(write(tmp_path, GOOD)).key_file == tmp_path / "tls.key"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"listen": []}, "'listen' is no list of texts"),
        ({"names": "a"}, "'names' is no list of texts"),
        ({"port": 70000}, "'port' is no port"),
        ({"port": True}, "'port' is no port"),
        ({"api": "http://10.77.1.1:6443"}, "'api' does not begin with https://"),
        ({"cluster": ""}, "'cluster' is no text"),
        ({"cluster": 7, "names": None}, "'names' is no list of texts; 'cluster' is no text"),
    ],
)
def test_all_faults_of_the_settings_are_told(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    file = write(tmp_path, {**GOOD, **change})
    with pytest.raises(SettingsError) as caught:
        settings.load(file)
    assert says in str(caught.value)
    assert "'caisson bootstrap' writes it again" in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "7"])
def test_what_is_no_settings_is_told(tmp_path: Path, content: str) -> None:
    with pytest.raises(SettingsError, match="writes it again"):
        settings.load(write(tmp_path, content))
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(tmp_path / "nowhere.json")


@pytest.mark.subprocess
def test_a_wrong_file_ends_the_program_with_one_line(tmp_path: Path) -> None:
    """Starts the real program."""
    words = [sys.executable, "-B", "-m", "console", "--settings", str(write(tmp_path, {**GOOD, "port": 0}))]
    done = subprocess.run(words, cwd=REPOSITORY_DIR, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "'port' is no port" in done.stderr


@pytest.mark.subprocess
@pytest.mark.loopback
def test_systemd_hands_over_its_socket(console: Running) -> None:
    """Starts the real program with a socket as sd_listen_fds(3) has it, talks to it, ends it."""
    with program(console) as it:
        assert it.console.browser().get("/healthz").body == b"ok\n"
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(60) == 0
        assert it.told.recv(64) == b"STOPPING=1"


@pytest.mark.subprocess
@pytest.mark.loopback
def test_the_program_ends_by_itself(console: Running) -> None:
    """The real one, that waits a tenth of a second where it waits ten minutes on a host."""
    assert IDLE_S == 600
    with program(console, before="it.IDLE_S = it.LOOK_S = 0.1") as it:
        assert it.process.wait(60) == 0
        assert it.told.recv(64) == b"STOPPING=1"


@pytest.mark.loopback
def test_it_ends_when_nobody_needs_it(console: Running) -> None:
    core, server = console.core, console.server
    assert not is_unused(core, server)
    console.world.ahead_s += IDLE_S + 1
    assert is_unused(core, server)
    console.browser().login("admin-token-0123456789")
    deadline = time.monotonic() + 5
    while server.open and time.monotonic() < deadline:
        time.sleep(0.02)
    console.world.ahead_s += IDLE_S + 1
    assert not is_unused(core, server), "somebody is logged in"
    console.world.ahead_s += 31 * 60
    is_unused(core, server)
    console.world.ahead_s += IDLE_S + 1
    assert is_unused(core, server)
