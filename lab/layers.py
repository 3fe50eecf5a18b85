# SPDX-License-Identifier: Apache-2.0
"""Measure what it costs and saves to let containerd forget layers that it has unpacked, on fresh nodes, in turns.

    a node, booted -> bootstrap.sh with containerd.discardUnpackedLayers false | true -> every image of the ISO pulled,
    one removed and pulled again -> seconds and bytes, by setting

Run: ``python -m lab layers --iso FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lab.bench import BOOTSTRAP_TIMEOUT_S, machine_text
from lab.errors import LabError
from lab.node import Lab, Node, bootstrap_config

ROUNDS = 3
PAGE = Path(__file__).resolve().parents[1] / "docs/reference/layers-bench.md"
PULL_TIMEOUT_S = 600.0
CONTENT_DIR = "/var/lib/containerd/io.containerd.content.v1.content"
SNAPSHOTS_DIR = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
KEPT, DISCARDED = "kept", "discarded"
TITLES: Mapping[str, str] = {KEPT: "layers are kept", DISCARDED: "layers are discarded"}
MEASURES: Mapping[str, str] = {
    "bootstrap_s": "bootstrap.sh, seconds",
    "pulls_s": "every image of the ISO pulled after it, seconds",
    "again_s": "one of them removed and pulled again, seconds",
    "shared_s": "an image with the layers of another pulled, seconds",
    "content_bytes": "containerd's content, bytes",
    "snapshots_bytes": "containerd's snapshots, bytes",
    "total_bytes": "/var/lib/containerd, bytes",
}


@dataclass
class Figures:
    """What was measured: setting -> measure -> each round."""

    rounds: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {way: {name: [] for name in MEASURES} for way in TITLES}
    )

    def add(self, way: str, measured: Mapping[str, float]) -> None:
        """Add a round."""
        for name, value in measured.items():
            self.rounds[way][name].append(value)

    def median(self, way: str, name: str) -> float:
        """Return the median of a measure."""
        return statistics.median(self.rounds[way][name])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m lab layers``."""
    parser.add_argument("--iso", type=Path, required=True, help="the lab bundle to measure")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--page", action="store_true", help="write docs/reference/layers-bench.md too")
    parser.set_defaults(do=run_layers)


def run_layers(arguments: argparse.Namespace) -> int:
    """Run the rounds and print a table.

    Raises:
        LabError: a node did not boot, or something on it failed.
    """
    machine, figures = machine_text(), Figures()
    with Lab() as lab:
        for number in range(1, max(1, arguments.rounds) + 1):
            for way in TITLES:
                measured = measure(lab, arguments.iso, way)
                figures.add(way, measured)
                print(f"layers: round {number}: {TITLES[way]}: {measured}", file=sys.stderr, flush=True)
    print(render(figures), end="")
    if arguments.page:
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        PAGE.write_text(render_page(figures, date=date, machine=machine), encoding="utf-8")
    return 0


def configuration(way: str) -> str:
    """Return the configuration of a node for a setting."""
    is_set = json.dumps(way == DISCARDED)
    return f"{bootstrap_config('node1')}containerd: {{discardUnpackedLayers: {is_set}}}\n"


def measure(lab: Lab, iso: Path, way: str) -> dict[str, float]:
    """Measure a setting once, on a node that nothing was done to."""
    for node in list(lab.nodes.values()):
        node.remove()
        del lab.nodes[node.name]
    node = lab.start_node("node1", iso=iso)
    node.mount_iso()
    command = node.prepare_bootstrap(configuration(way))
    os.sync()
    bootstrap_s = _timed(lambda: _run(node, command, BOOTSTRAP_TIMEOUT_S))
    product = json.loads(_run(node, ["/bin/sh", "-c", "cat /srv/caisson/*/product.json"], 60))
    references = [str(image["reference"]) for image in product["images"].values()]
    pulls_s = _timed(lambda: _pull(node, references))
    unused = _unused(node, references)
    _run(node, ["crictl", "rmi", unused], 60)
    again_s = _timed(lambda: _pull(node, [unused]))
    # By its digest it is another name of what is there: are its layers fetched again?
    digest = next(image["digest"] for image in product["images"].values() if image["reference"] == unused)
    shared_s = _timed(lambda: _pull(node, [f"{unused.rpartition(':')[0]}@{digest}"]))
    os.sync()
    sizes = {
        "content_bytes": _size(node, CONTENT_DIR),
        "snapshots_bytes": _size(node, SNAPSHOTS_DIR),
        "total_bytes": _size(node, "/var/lib/containerd"),
    }
    return {"bootstrap_s": bootstrap_s, "pulls_s": pulls_s, "again_s": again_s, "shared_s": shared_s, **sizes}


def _unused(node: Node, references: Sequence[str]) -> str:
    """Return the first image that no container has."""
    containers = json.loads(_run(node, ["crictl", "ps", "--all", "--output=json"], 60))["containers"]
    images = json.loads(_run(node, ["crictl", "images", "--output=json"], 60))["images"]
    used = {str(container["imageRef"]) for container in containers}
    free = {
        tag
        for image in images
        if image["id"] not in used and not image.get("pinned")
        for tag in image["repoTags"]
    }
    found = next((reference for reference in references if reference in free), None)
    if found is None:
        raise LabError("every image of the ISO is in use on the node: none can be removed")
    return found


def _pull(node: Node, references: Sequence[str]) -> None:
    for reference in references:
        _run(node, ["crictl", "pull", reference], PULL_TIMEOUT_S)


def _size(node: Node, directory: str) -> float:
    return float(_run(node, ["du", "--summarize", "--block-size=1", directory], 120).split()[0])


def _run(node: Node, words: Sequence[str], timeout_s: float) -> str:
    done = node.run(list(words), timeout_s=timeout_s, check=False)
    if done.returncode != 0:
        raise LabError(f"{words[0]} exited with {done.returncode}", details=done.stderr[-4000:])
    return done.stdout


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


# ---- what is shown ---------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """Render the medians as a Markdown table."""
    lines = [f"| | {TITLES[KEPT]} | {TITLES[DISCARDED]} |", "|---|---|---|"]
    for name, title in MEASURES.items():
        cells = [_shown(name, figures.median(way, name)) for way in TITLES]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(name: str, value: float) -> str:
    return f"{value / 1e6:.1f} MB" if name.endswith("_bytes") else f"{value:.1f}"


def render_page(figures: Figures, *, date: str, machine: str) -> str:
    """Render the page of the documentation."""
    count = len(figures.rounds[KEPT]["total_bytes"])
    return f"""<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by python -m lab layers --page. -->
# Layers that are kept, or discarded

```console
# .venv/bin/python -m lab layers --iso FILE --page  # FILE: a bundle of the lab
```

{date}, {machine}; lab nodes on that machine, {count} round{"s" if count != 1 else ""}, medians. Each setting of
`containerd.discardUnpackedLayers` gets a fresh copy of the same node image, and they take turns.

{render(figures)}"""
