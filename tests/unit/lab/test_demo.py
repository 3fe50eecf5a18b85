# SPDX-License-Identifier: Apache-2.0
"""What the demo refuses before it starts anything, and what it says at its end."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lab import demo, kept
from lab.__main__ import main
from lab.errors import LabError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each lab that is begun, and begin none."""
    begun: list[object] = []

    class NoLab:
        def __init__(self) -> None:
            begun.append(self)
            raise LabError("there is no lab here")

    monkeypatch.setattr(demo, "Lab", NoLab)
    return begun


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    file = tmp_path / "the.iso"
    file.write_bytes(b"content")
    return file


@pytest.mark.parametrize("count", ["0", "9", "x"])
def test_a_number_that_cannot_be_starts_nothing(
    count: str, iso: Path, started: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--iso", str(iso), "--nodes", count]) == 3
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].strip() for line in said] == ["error", "details", "resolution"]
    assert started == []


def test_an_iso_that_is_not_there_starts_nothing(tmp_path: Path, started: list[object]) -> None:
    assert main(["demo", "--iso", str(tmp_path / "none.iso"), "--nodes", "3"]) == 3
    assert started == []


@pytest.mark.parametrize("words", [[], ["--nodes", "1"], ["--nodes=3"]])
def test_a_number_that_can_be_starts_a_lab(words: list[str], iso: Path, started: list[object]) -> None:
    assert main(["demo", "--iso", str(iso), *words]) == 3
    assert len(started) == 1


def test_one_node_that_goes_says_nothing_more() -> None:
    assert demo.what_next("p1n1", ["node1"], is_kept=False) == []


@pytest.mark.parametrize("names", [["node1"], ["node1", "node2", "node3"]])
def test_what_it_says_to_type_names_its_own_lab(names: list[str]) -> None:
    lines = demo.what_next("p1n1", names, is_kept=True)
    commands = [shlex.split(line.partition(".venv/bin/python")[2]) for line in lines]
    assert all(command[:2] == ["-m", "lab"] for command in commands)
    assert all(command[command.index("--lab") + 1] == "p1n1" for command in commands)
    own = Path(demo.__file__).parents[1]
    guide = next(line for line in demo.what_next("p1n1", ["node1", "node2"], is_kept=False))
    assert all((own / word).is_file() for word in guide.split() if word.startswith("docs/"))


def test_of_several_nodes_kube_proxy_alone_is_started_again() -> None:
    restarts = {"kube-proxy-a": 2, "etcd-node1": 1, "coredns-a": 0}
    assert demo.unmeant_restarts(restarts, 3) == {"etcd-node1": 1}
    assert demo.unmeant_restarts(restarts, 1) == {"kube-proxy-a": 2, "etcd-node1": 1}
    assert demo.unmeant_restarts({"coredns-a": 0}, 3) == {}


def test_a_node_that_is_not_ready_or_not_there_is_named() -> None:
    def node(name: str, status: str) -> dict[str, object]:
        conditions = [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": status}]
        return {"metadata": {"name": name}, "status": {"conditions": conditions}}

    answer = {"items": [node("node1", "True"), node("node2", "Unknown")]}
    assert demo.unready_nodes(answer, ["node1", "node2", "node3"]) == ["node2", "node3"]
    assert demo.unready_nodes(answer, ["node1"]) == []


def test_it_asks_as_the_rest_of_the_lab_does() -> None:
    assert demo.KUBECTL == kept.KUBECTL


@pytest.mark.subprocess
@pytest.mark.parametrize("count", ["0", "9", "x"])
def test_doit_refuses_it_before_it_builds_anything(count: str, repository_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "demo", "--nodes", count], cwd=repository_dir,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, ""), done
    said = [line.split(":")[0].strip() for line in done.stderr.splitlines()]
    assert said == ["error", "details", "resolution"], done.stderr
    assert repr(count) in done.stderr
