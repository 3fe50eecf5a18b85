# SPDX-License-Identifier: Apache-2.0
"""One salt-call carries out many functions, and none of them can take the next one's words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODULE_FILE = Path(__file__).parents[3] / "salt" / "_modules" / "caisson_worker.py"
SCRIPT = """
import importlib.util, subprocess, sys
spec = importlib.util.spec_from_file_location("caisson_worker", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

def fail():
    raise ValueError("this one fails")

module.__salt__ = {
    "test.add": lambda one, other, factor=1: (one + other) * factor,
    "test.fail": fail,
    "test.print": lambda: print("noise"),
    "test.read": lambda: subprocess.run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"],
                                        stdout=subprocess.PIPE, text=True).stdout.strip(),
    "test.path": lambda: {"where": module.os.path},
}
print("served", module.serve(), file=sys.stderr)
"""


@pytest.mark.subprocess
def test_each_request_has_its_own_answer() -> None:
    """By Python: a failure, noise, a child that reads stdin, and what JSON cannot say are answers like others."""
    requests = [
        {"function": "test.add", "args": [1, 2], "kwargs": {"factor": 3}},
        {"function": "test.fail", "args": [], "kwargs": {}},
        {"function": "test.none", "args": [], "kwargs": {}},
        {"function": "test.print", "args": [], "kwargs": {}},
        {"function": "test.read", "args": [], "kwargs": {}},
        {"function": "test.path", "args": [], "kwargs": {}},
    ]
    text = "".join(json.dumps(request) + "\n" for request in requests) + "no JSON\n"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, MODULE_FILE],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[:3] == [
        {"return": 9},
        {"error": "ValueError: this one fails"},
        {"error": "there is no function test.none"},
    ]
    assert answers[3:5] == [{"return": None}, {"return": "''"}]
    assert answers[5]["return"]["where"].startswith("<module")
    assert "error" in answers[6]
    assert done.stderr.splitlines()[-1] == "served 7"
    assert "noise" in done.stderr
