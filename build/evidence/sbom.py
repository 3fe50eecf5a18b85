# SPDX-License-Identifier: Apache-2.0
r"""Write the bill of materials of the bundle, twice: as SPDX 2.3 and as CycloneDX 1.6, both in JSON.

bill (bill.py) --> iso:sbom --> sbom/caisson.spdx.json   (spdx.py)
                           \--> sbom/caisson.cdx.json    (cyclonedx.py) --> sbom: how many of what is where
"""

from __future__ import annotations

import collections
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from build.base import ui
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.bundle import oci, rpmrepo
from build.bundle.product import Product
from build.evidence.bill import Bill, gather
from build.evidence.cyclonedx import render_cyclonedx
from build.evidence.scan import SCAN_FORMAT, Scanner
from build.evidence.spdx import render_spdx
from build.store import filelist
from build.store.objects import Store

SBOM_FORMAT = 2
SPDX_PATH, CYCLONEDX_PATH = "sbom/caisson.spdx.json", "sbom/caisson.cdx.json"


def part_file(workspace: Workspace) -> Path:
    """Return the table of the documents."""
    return workspace.part_file("sbom")


def plan_sbom(product: Product, store: Store, workspace: Workspace) -> Step:
    """Plan both documents."""
    part, tree = part_file(workspace), workspace.tree_dir
    images = tuple(
        oci.part_file(workspace, image_id) for image_id in oci.ids_on_iso(product.lock, product.inventory)
    )
    return Step(
        name="sbom",
        doc="the bill of materials, as SPDX and CycloneDX",
        run=functools.partial(run_sbom, product, images, store, workspace),
        inputs=(*images, rpmrepo.part_file(workspace)),
        outputs=(tree / SPDX_PATH, tree / CYCLONEDX_PATH, part),
        config={
            "lock": str(product.lock_digest),
            "version": product.full_version,
            "formats": [SBOM_FORMAT, SCAN_FORMAT],
        },
    )


def run_sbom(product: Product, images: Sequence[Path], store: Store, workspace: Workspace) -> None:
    """Gather all components and write both documents and their table.

    Raises: MissingError when the store lacks a package; CommandError.
    """
    bill = gather(product, images, store, Scanner(store.root.parent))
    documents = {SPDX_PATH: render_spdx(bill), CYCLONEDX_PATH: render_cyclonedx(bill)}
    for path, document in documents.items():
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_atomically(workspace.tree_dir / path, text.encode())
    filelist.write_part(
        part_file(workspace),
        [
            filelist.describe_file(path, workspace.tree_dir / path, owners=("bill of materials",))
            for path in documents
        ],
        {"licences": dict(_licences(bill))},
    )


def _licences(bill: Bill) -> Iterator[tuple[str, str]]:
    """Yield the licence of each package by its name, of each image by its reference."""
    for item in bill.components:
        if item.kind == "package":
            yield item.name, item.licence
        elif item.kind == "image":
            yield f"{item.name}:{item.version}", item.licence


# ---------------------------------------------------------------- how many of what is where

#: What the kinds of components inside of images and packages are called, in the order of the table.
_COUNTED = {
    "apk": "apk", "deb": "Debian", "rpm": "RPM", "pypi": "Python", "program": "Go program", "module": "Go module",
}  # fmt: skip


def plan_counts(workspace: Workspace) -> Step:
    """Plan the question how many of what each image and package holds."""
    file = workspace.tree_dir / CYCLONEDX_PATH
    return Step(
        name="",
        doc="how many packages, programs, modules are in what?",
        run=functools.partial(run_counts, file),
    )


def run_counts(file: Path) -> None:
    """Print the table of a bill."""
    ui.note("\n".join(render_counts(json.loads(file.read_text(encoding="utf-8")))))


def count(document: Mapping[str, Any]) -> dict[str, collections.Counter[str]]:
    """Return how many components of which kind each image and each package holds, by its name.

    A Go module counts once for each image or package, however many of its programs are linked from it.
    """
    kinds = {item["bom-ref"]: item["properties"][0]["value"] for item in document["components"]}
    parts = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    counts: dict[str, collections.Counter[str]] = {}
    for item in document["components"]:
        if kinds[item["bom-ref"]] in ("image", "package"):
            inside = {part for part in parts.get(item["bom-ref"], ()) if kinds[part] != "package"}
            inside |= {module for part in inside for module in parts.get(part, ())}
            counts[f"{item['name']} {item.get('version', '')}"] = collections.Counter(
                kinds[part] for part in inside
            )
    return counts


def render_counts(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table: one for each image or package that holds something, and the sum."""
    kinds = collections.Counter(item["properties"][0]["value"] for item in document["components"])
    for name, found in sorted(count(document).items()):
        held = [f"{found[kind]} {title}" for kind, title in _COUNTED.items() if found[kind]]
        if held:
            yield f"{name}: {', '.join(held)}"
    yield f"in all, each once: {', '.join(f'{kinds[kind]} {title}' for kind, title in _COUNTED.items())}"
