# SPDX-License-Identifier: Apache-2.0
"""The program itself: its settings, the sockets of systemd, its end, what it costs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from console import settings
from console.__main__ import IDLE_S, is_unused
from console.settings import SettingsError
from tests.unit.console.running import Running

REPOSITORY_DIR = Path(__file__).parents[3]
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
    """Starts the real program with a socket as sd_listen_fds(3) has it, talks to it, ends it; looks at its memory."""
    config = json.loads((console.directory / "console.json").read_text(encoding="utf-8"))
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(str(console.directory / "notify"))
        told.settimeout(30)
        config["port"] = listening.getsockname()[1]
        file = write(console.directory, config)
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, [sys.executable, '-B', '-m', 'console', '--settings', sys.argv[2]])"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY_DIR),
            "LISTEN_FDS": "1",
            "NOTIFY_SOCKET": str(console.directory / "notify"),
        }
        program = subprocess.Popen(
            [sys.executable, "-c", code, str(listening.fileno()), str(file)],
            env=environment,
            pass_fds=[listening.fileno()],
            cwd="/",
        )
        try:
            assert told.recv(64) == b"READY=1"
            context = ssl.create_default_context(cafile=str(console.core.settings.api_ca_file))
            connection = http.client.HTTPSConnection("127.0.0.1", config["port"], context=context, timeout=20)
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok\n"
            connection.close()
            status = Path(f"/proc/{program.pid}/status").read_text(encoding="ascii")
            kilobytes = int(status.partition("VmRSS:")[2].split()[0])
            assert kilobytes <= 64 * 1024
            program.send_signal(signal.SIGTERM)
            assert program.wait(20) == 0
            assert told.recv(64) == b"STOPPING=1"
        finally:
            program.kill()
            program.wait(20)


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
