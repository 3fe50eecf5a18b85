# SPDX-License-Identifier: Apache-2.0
"""The tutorial of a cluster that grows, followed as its reader does: each command typed where it stands, in its order.

What the page shows of an answer must come, too: of ``kubectl get nodes`` names, states and roles.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import cleanup, hosts, kept
from lab.node import Lab, Node
from lab.run import Completed
from tests import pages
from tests.node.installing import ROOT_DIR, lab_iso
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab

GROW_IT = ROOT_DIR / "docs/tutorials/grow-it.md"
LAB_COMMAND = ".venv/bin/python -m lab "
COMMAND_TIMEOUT_S = 900.0
#: A node is missed after 40 s, and on a busy machine takes its time to come back.
SHOWN_TIMEOUT_S = 240.0
KUBECTL_GET_NODES = "kubectl get nodes"


@dataclass(frozen=True)
class Typed:
    """A command of the page, with the lines that the page shows of its answer."""

    prompt: str
    text: str
    shown: tuple[str, ...]


def read(page: Path) -> list[Typed]:
    """Return the commands of a page in its order."""
    found = []
    for fence in pages.fences(page):
        if fence.kind == "console":
            matches = list(pages.PROMPT.finditer(fence.text))
            ends = [*(match.start() for match in matches[1:]), len(fence.text)]
            for match, end in zip(matches, ends, strict=True):
                shown = tuple(fence.text[match.end() : end].strip().splitlines())
                found.append(Typed(match["prompt"], match["command"], shown))
    return found


def columns(lines: Sequence[str]) -> list[list[str]]:
    """Return name, state and roles of nodes, as ``kubectl get nodes`` shows them."""
    return [line.split()[:3] for line in lines]


@dataclass
class Reader:
    """Somebody who follows the page in a lab, and keeps what it lets him write down."""

    lab: Lab
    node_list: str
    notes: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def type(self, command: Typed) -> None:
        """Type one command where its prompt is, and look at what comes."""
        if command.prompt == "#":
            self._on_the_machine(command)
            return
        node = Node(self.lab.name, command.prompt.strip("[]#"))
        if match := re.fullmatch(r"export (\w+)=(\S+)", command.text):
            self.environment[match[1]] = match[2]
        elif command.text == KUBECTL_GET_NODES:
            self._wait_for(node, command)
        elif command.text != "exit":
            self._take_note(node, command, self._in_a_node(node, command.text))

    def _on_the_machine(self, command: Typed) -> None:
        """Type a command of the lab's; to enter a node by hand is what each prompt there stands for."""
        assert command.text.startswith(LAB_COMMAND), command
        words = shlex.split(command.text.replace("LAB", self.lab.name).removeprefix(LAB_COMMAND))
        if words[:2] == ["node", "enter"] and "--" not in words:
            return
        done = subprocess.run(
            [sys.executable, "-m", "lab", *words], cwd=ROOT_DIR, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
        print(f"# {command.text}\n{done.stdout}{done.stderr}")
        assert [line for line in command.shown if line not in done.stdout + done.stderr] == []
        # Of the node that goes down with it the last command has no end of its own.
        assert done.returncode == 0 or command.shown or "poweroff" in words, done

    def _in_a_node(self, node: Node, text: str) -> Completed:
        for word, value in self.notes.items():
            text = text.replace(word, value)
        script = ["bash", "-c", f"cd /root; {text}"]
        given = self.node_list if text.startswith("cat > ") else None
        for word, value in self.notes.items():
            given = given.replace(word, value) if given else given
        began = time.monotonic()
        done = node.run(
            script, check=False, timeout_s=COMMAND_TIMEOUT_S, env=self.environment, input_text=given
        )
        print(f"[{node.name}]# {text}\n{done.stdout}{done.stderr}({time.monotonic() - began:.1f} s)")
        return done

    def _take_note(self, node: Node, command: Typed, done: Completed) -> None:
        assert done.returncode == 0, (command, done)
        if command.text.startswith("cat ") and done.stdout.startswith("ssh-"):
            self.notes["PUBLIC KEY"] = done.stdout.strip()
        if command.text.startswith("ssh-keygen -lf"):
            self.notes[f"SHA256:FINGERPRINT-OF-{node.name.upper()}"] = done.stdout.split()[1]

    def _wait_for(self, node: Node, command: Typed) -> None:
        ends_at = time.monotonic() + SHOWN_TIMEOUT_S
        while True:
            done = self._in_a_node(node, command.text)
            if columns(done.stdout.splitlines()) == columns(command.shown):
                return
            assert time.monotonic() < ends_at, (command, done)
            time.sleep(3)


def test_what_the_page_shows_is_read() -> None:
    typed = read(GROW_IT)
    assert [command.text for command in typed] == [command.text for command in pages.commands(GROW_IT)]
    tables = [columns(command.shown) for command in typed if command.text == KUBECTL_GET_NODES]
    assert [len(table) - 1 for table in tables] == [3, 3, 3, 1]
    assert tables[1][-1] == ["node3", "NotReady", hosts.CONTROL_PLANE]


def test_the_cluster_grows_and_shrinks_as_the_page_says(record: Record) -> None:
    """The demo's node is one from a kept disk: what the demo itself does other tests say."""
    first, *typed, last = read(GROW_IT)
    assert (first.text, last.text) == ("./doit.sh demo --keep", f"{LAB_COMMAND}clean --lab LAB")
    (node_list,) = (fence.text for fence in pages.fences(GROW_IT) if fence.kind == "yaml")
    began = time.monotonic()
    with Lab() as lab:
        kept.start_bootstrapped_node(lab, hosts.FIRST, iso=lab_iso())
        lab.switch.reset()
        reader = Reader(lab, node_list)
        for command in typed:
            reader.type(command)
        counts = lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert cleanup.leftovers(lab.name) == []
    record("one node to three and back, as the tutorial has it", f"{time.monotonic() - began:.0f} s")
