# SPDX-License-Identifier: Apache-2.0
"""Measure the installer beside kubeadm by hand, on fresh copies of one node image, in turns.

    a node, booted -> (a) kubeadm, all in place | (b) all by hand | (c) bootstrap.sh, twice -> table, page of the docs

What is compared is waited for in the same way: until all pods are Ready. Run: ``python -m lab bench --iso FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lab.byhand import ByHand, Work
from lab.errors import LabError
from lab.node import Lab, Node

ROUNDS = 5
BOOTSTRAP_TIMEOUT_S = 900.0
PAGE = Path(__file__).resolve().parents[1] / "docs/reference/installer-bench.md"
PRELOADED, BY_HAND, BOOTSTRAP, AGAIN = "(a)", "(b)", "(c)", "again"
TITLES: Mapping[str, str] = {
    PRELOADED: "(a) kubeadm init and Calico; packages and images in place",
    BY_HAND: "(b) by hand from nothing: packages, all images, kubeadm init, Calico",
    BOOTSTRAP: "(c) bootstrap.sh",
    AGAIN: "bootstrap.sh again, unchanged",
}
#: What (c) may take: of another way (a ratio), or in seconds.
LIMITS: Sequence[tuple[str, float]] = ((BY_HAND, 1.0), (PRELOADED, 1.7))
AGAIN_LIMIT_S = 10.0
#: The installer's phase -> the step by hand that does the same work; other phases have none.
COUNTERPARTS: Mapping[str, str] = {
    "install-minion": "packages",
    "container-runtime": "images",
    "kubelet-standalone": "services",
    "nginx": "images",
    "control-plane": "kubeadm init",
    "addons": "kubeadm init",
    "network": "Calico",
    "verify-cluster": "until all is Ready",
}


@dataclass
class Turn:
    """One way, measured once: seconds of the whole and of each step, and how many steps changed something."""

    total_s: float
    steps_s: Mapping[str, float]
    changes: int = 0


@dataclass
class Figures:
    """All turns of one run, by way, in the order of their rounds."""

    turns: dict[str, list[Turn]] = field(default_factory=lambda: {name: [] for name in TITLES})

    def median_s(self, way: str) -> float:
        """Return the median of the whole."""
        return statistics.median(turn.total_s for turn in self.turns[way])

    def step_medians_s(self, way: str) -> dict[str, float]:
        """Return the median of each step, in the order of the first turn."""
        turns = self.turns[way]
        names = list(turns[0].steps_s)
        return {name: statistics.median(turn.steps_s.get(name, 0.0) for turn in turns) for name in names}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m lab bench``."""
    parser.add_argument("--iso", type=Path, required=True, help="the lab bundle to measure")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--page", action="store_true", help="write docs/reference/installer-bench.md too")
    parser.set_defaults(do=run_bench)


def run_bench(arguments: argparse.Namespace) -> int:
    """Run the rounds; return 0, also where a limit is not met: load varies.

    Raises:
        LabError: a node did not boot, or one of the ways did not end.
    """
    machine = machine_text()
    figures = Figures()
    with Lab() as lab:
        for number in range(1, max(1, arguments.rounds) + 1):
            for way, turn in measure_round(lab, arguments.iso):
                figures.turns[way].append(turn)
                _say(f"round {number}: {TITLES[way]}: {turn.total_s:.1f} s")
    text = render(figures)
    print(text, end="")
    if arguments.page:
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        PAGE.write_text(render_page(figures, date=date, machine=machine), encoding="utf-8")
    return 0


def measure_round(lab: Lab, iso: Path) -> Iterator[tuple[str, Turn]]:
    """Measure each way once, each on a node of its own that nothing was done to."""
    node = _fresh(lab, iso)
    by_hand = ByHand(node)
    by_hand.write_files()
    for work in (*by_hand.packages(), *by_hand.images()):
        work.do()
    yield PRELOADED, _timed(by_hand.cluster())

    node = _fresh(lab, iso)
    by_hand = ByHand(node)
    by_hand.write_files()
    yield BY_HAND, _timed((*by_hand.packages(), *by_hand.images(), *by_hand.cluster()))

    node = _fresh(lab, iso)
    command = node.prepare_bootstrap()
    yield BOOTSTRAP, _bootstrap(node, command)
    yield AGAIN, _bootstrap(node, command)
    _remove(lab, node)


def _fresh(lab: Lab, iso: Path) -> Node:
    """Return a node just booted, its ISO mounted, in the place of the one before; nothing is left to be written."""
    for node in list(lab.nodes.values()):
        _remove(lab, node)
    node = lab.start_node("node1", iso=iso)
    node.mount_iso()
    os.sync()
    return node


def _remove(lab: Lab, node: Node) -> None:
    node.remove()
    del lab.nodes[node.name]


def _timed(works: Iterable[Work]) -> Turn:
    steps_s: dict[str, float] = {}
    os.sync()
    for work in works:
        started = time.monotonic()
        work.do()
        steps_s[work.name] = time.monotonic() - started
    return Turn(sum(steps_s.values()), steps_s)


def _bootstrap(node: Node, command: Sequence[str]) -> Turn:
    """Run bootstrap.sh; what its phases leave of the whole is its start and end."""
    os.sync()
    started = time.monotonic()
    done = node.run([*command, "--json"], timeout_s=BOOTSTRAP_TIMEOUT_S, check=False)
    total_s = time.monotonic() - started
    if done.returncode != 0:
        raise LabError(f"bootstrap.sh exited with {done.returncode}", details=done.stderr[-4000:])
    return read_phases(done.stdout, total_s)


def read_phases(answer: str, total_s: float) -> Turn:
    """Read what ``bootstrap.sh --json`` printed."""
    phases = json.loads(answer)["phases"]
    steps_s = {str(phase["name"]): float(phase["seconds"]) for phase in phases}
    steps_s["start and end"] = total_s - sum(steps_s.values())
    return Turn(total_s, steps_s, changes=sum(bool(phase["has_changed"]) for phase in phases))


# ---- what is shown ---------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """Render the figures as Markdown tables: the whole, the limits, by phase."""
    return (
        "\n".join([*_whole(figures), "", *_limits(figures), "", *_by_phase(figures), "", *_steps(figures)])
        + "\n"
    )


def _whole(figures: Figures) -> list[str]:
    lines = ["| | Median | Each round |", "|---|---|---|"]
    for way, turns in figures.turns.items():
        rounds = ", ".join(f"{turn.total_s:.1f}" for turn in turns)
        lines.append(f"| {TITLES[way]} | {figures.median_s(way):.1f} s | {rounds} |")
    return lines


def _limits(figures: Figures) -> list[str]:
    lines = ["| Compared | Found | Target | |", "|---|---|---|---|"]
    for other, limit in LIMITS:
        ratio = figures.median_s(BOOTSTRAP) / figures.median_s(other)
        lines.append(f"| (c) / {other} | {ratio:.2f} | <= {limit} | {_mark(is_met=ratio <= limit)} |")
    seconds, changes = figures.median_s(AGAIN), max(turn.changes for turn in figures.turns[AGAIN])
    is_met = seconds <= AGAIN_LIMIT_S and changes == 0
    found = f"{seconds:.1f} s, {changes} changes"
    lines.append(
        f"| the second run | {found} | <= {AGAIN_LIMIT_S:.0f} s, 0 changes | {_mark(is_met=is_met)} |"
    )
    return lines


def _by_phase(figures: Figures) -> list[str]:
    first, second = figures.step_medians_s(BOOTSTRAP), figures.step_medians_s(AGAIN)
    lines = ["| Phase of (c) | Median | Again | The same by hand |", "|---|---|---|---|"]
    for name, seconds in first.items():
        again = f"{second.get(name, 0.0):.1f} s"
        lines.append(f"| {name} | {seconds:.1f} s | {again} | {COUNTERPARTS.get(name, '')} |")
    alone = [name for name in first if name not in COUNTERPARTS]
    lines.append(f"| all that by hand has not | {sum(first[name] for name in alone):.1f} s | | |")
    return lines


def _steps(figures: Figures) -> list[str]:
    before, whole = figures.step_medians_s(PRELOADED), figures.step_medians_s(BY_HAND)
    lines = ["| Step by hand | (a) | (b) |", "|---|---|---|"]
    for name, seconds in whole.items():
        there = f"{before[name]:.1f} s" if name in before else "in place"
        lines.append(f"| {name} | {there} | {seconds:.1f} s |")
    return lines


def _mark(*, is_met: bool) -> str:
    return "met" if is_met else "missed"


def render_page(figures: Figures, *, date: str, machine: str) -> str:
    """Render the page of the documentation."""
    rounds = len(figures.turns[BOOTSTRAP])
    return f"""<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by python -m lab bench --page. -->
# Speed of the installer

```console
# ./doit.sh bench --page                              # the pipeline, then this
# .venv/bin/python -m lab bench --iso FILE --rounds 1  # this alone, once; FILE: a bundle of the lab
```

{date}, {machine}; lab nodes on that machine, {rounds} round{"s" if rounds != 1 else ""}, medians. Each way gets a
fresh copy of the same node image, booted, its ISO mounted, and they take turns. All end when every pod is Ready.

{render(figures)}
(b) does what an expert would: one dnf transaction of the same packages from the ISO's repository, one import of the
ISO's whole image layout, `kubeadm init`, Calico's manifest. firewalld is stopped by hand and kept by (c). Both have
the settings that the test machine forces. What (c) does beyond (b): it verifies every byte and every signature of the
media, tries the host before it changes it, and starts salt-master, registry and nginx, from which it then pulls the
images. Work that is done beside other work (the pulls, for example) stands in no phase of its own.
"""


def machine_text() -> str:
    """Return what the figures were taken on."""
    return f"{os.cpu_count()} cores of {platform.machine()}, load {os.getloadavg()[0]:.1f} before"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
