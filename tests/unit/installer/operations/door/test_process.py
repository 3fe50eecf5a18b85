# SPDX-License-Identifier: Apache-2.0
"""An act from the socket to systemd, by real processes: Kubernetes is asked who asks, and no secret is seen.

kubectl, systemd-run and systemctl are small programs that write down what they were told and how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from tests.unit.installer.helpers import CONFIG_TEXT
from tests.unit.installer.operations.door.conftest import Doors

pytestmark = pytest.mark.subprocess

TOKEN = "eyJ-a-token-of-oscar"
PASSWORD = "hunter2-hunter2"
RECORD = """#!/usr/bin/env python3
import json, os, sys
given = sys.stdin.read()
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv, dict(os.environ), len(given)]) + "\\n")
"""
KUBECTL = (
    RECORD
    + """
path = sys.argv[sys.argv.index("--raw") + 1]
if "tokenreviews" in path:
    known = json.loads(given)["spec"]["token"] == {token!r}
    user = {{"username": "oscar", "groups": ["operators"]}}
    print(json.dumps({{"status": {{"authenticated": known, "user": user if known else {{}}}}}}))
elif "subjectaccessreviews" in path:
    asked = json.loads(given)["spec"]
    wanted = {{"group": "console.caisson.internal", "resource": "hosts", "verb": "create"}}
    print(json.dumps({{"status": {{"allowed": asked["resourceAttributes"] == wanted and asked["user"] == "oscar"}}}}))
else:
    print(json.dumps({{"items": []}}))
"""
)


@pytest.fixture
def log(doors: Doors) -> Path:
    """Put the programs in place; return what they write down."""
    file = doors.root / "programs.log"
    texts = {
        "kubectl": KUBECTL.format(log=str(file), token=TOKEN),
        "systemd-run": RECORD.format(log=str(file)),
        "systemctl": RECORD.format(log=str(file)) + "print('ActiveState=inactive')\n",
    }
    for name, text in texts.items():
        program = doors.programs / name
        program.write_text(text)
        program.chmod(0o755)
    paths = Paths(doors.root)
    paths.config_file.parent.mkdir(parents=True)
    paths.config_file.write_text(CONFIG_TEXT + "node: {name: node1}\n")
    paths.admin_kubeconfig_file.parent.mkdir(parents=True)
    paths.admin_kubeconfig_file.write_text("{}")
    return file


def start(doors: Doors, token: str, key: str = "0123456789abcdef") -> dict[str, Any]:
    parameters = {"address": "10.77.1.12", "hostKey": "SHA256:" + "a" * 43}
    arguments = {
        "operation": "add-host",
        "parameters": parameters,
        "key": key,
        "secrets": {"password": PASSWORD},
    }
    return doors.ask({"verb": "start", "arguments": arguments, "token": token, "client": "192.0.2.7"})


def test_an_act_goes_from_the_socket_to_systemd_and_no_secret_with_it(doors: Doors, log: Path) -> None:
    answer = start(doors, TOKEN)
    job_id = answer["result"]["job"]
    called = [json.loads(line) for line in log.read_text().splitlines()]
    names = [Path(words[0]).name for words, _, _ in called]
    assert names[:2] == ["kubectl", "kubectl"]
    assert "systemd-run" in names
    started = next(words for words, _, _ in called if words[0].endswith("systemd-run"))
    assert [job_id, "--run"] == started[-2:]
    shown = log.read_text() + doors.said()
    assert TOKEN not in shown
    assert PASSWORD not in shown
    paths = Paths(doors.root)
    for file in paths.root.rglob("*"):
        if file.is_file() and file.parent != paths.secrets_dir:
            text = file.read_text(errors="replace")
            assert TOKEN not in text, file
            assert PASSWORD not in text, file
    assert json.loads((paths.secrets_dir / job_id).read_text()) == {"password": PASSWORD}
    assert (paths.secrets_dir / job_id).stat().st_mode & 0o777 == 0o600
    (line,) = (json.loads(one) for one in paths.audit_file.read_text().splitlines())
    assert (line["who"], line["groups"], line["message"]) == ("oscar", ["operators"], job_id)


def test_another_token_starts_nothing(doors: Doors, log: Path) -> None:
    assert start(doors, "made-up")["error"]["status"] == 401
    assert "systemd-run" not in log.read_text()


def test_a_form_sent_twice_by_two_processes_is_one_job(doors: Doors, log: Path) -> None:
    """At the same moment."""
    import threading  # noqa: PLC0415

    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(start(doors, TOKEN))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["result"]["job"] for answer in answers}) == 1
    started = [line for line in log.read_text().splitlines() if "systemd-run" in json.loads(line)[0][0]]
    assert len(started) == 1
