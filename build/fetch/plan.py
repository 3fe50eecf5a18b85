# SPDX-License-Identifier: Apache-2.0
"""Say what a fetch would bring, and what the whole would fit on: nothing is fetched.

lock, store -> read_work -> fetch_report -> lines for people
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from build.base import ui
from build.base.space import free_bytes
from build.fetch.transfer import Item, Work, read_work
from build.inventory.sources import Sources
from build.upstream.answers import shown_url

#: Capacity of media in bytes. Source: ECMA-130 (80 min of mode 1), ECMA-267 and ECMA-359, Blu-ray BD-R 25 and 50.
MEDIA = {
    "CD": 737_280_000,
    "DVD": 4_700_372_992,
    "DVD, two layers": 8_543_666_176,
    "BD": 25_025_314_816,
    "BD, two layers": 50_050_629_632,
}
# Metadata, the installer and the Salt tree come to the ISO besides what is locked and what is composed of it.
_OVERHEAD_BYTES = 8_000_000


def run_fetch_plan(profile_file: Path, lock_file: Path, store_dir: Path, sources: Sources) -> None:
    """Print the plan. Raises: LockError, ProfileError, InventoryError, KeyFileError, StoreError."""
    work = read_work(profile_file, lock_file, store_dir, sources)
    ui.note("\n".join(fetch_report(work, free_bytes(store_dir))))


def fetch_report(work: Work, free_bytes: int) -> tuple[str, ...]:
    """Return the lines: what is missing, by kind and by object; what there is; what it fits on."""
    missing = work.plan.missing
    lines = [f"{item.kind}: {item.what}  {_size(item)}  {_where(item)}" for item in missing]
    lines += _totals(missing)
    if work.plan.unchecked:
        lines.append(f"signatures to be checked again: {len(work.plan.unchecked)} packages")
    total_bytes = sum(item.blob.size_bytes for item in work.items)
    lines.append(f"locked: {len(work.items)} objects, {ui.bytes_text(total_bytes)}")
    composed_bytes = sum(
        work.lock.package(name).size_bytes for image in work.lock.composed for name in image.packages
    )
    return (*lines, *fits(total_bytes + composed_bytes, work.plan.size_bytes, free_bytes))


def fits(total_bytes: int, missing_bytes: int, free_bytes: int) -> tuple[str, ...]:
    """Return what a bundle of this size fits on, and whether the disk has room for what is missing and the ISO.

    >>> fits(700_000_000, 0, 10**10)[0]
    'the ISO, about 708.0 MB: fits CD, DVD, DVD, two layers, BD, BD, two layers'
    """
    iso_bytes = total_bytes + _OVERHEAD_BYTES
    media = [name for name, capacity in MEDIA.items() if iso_bytes <= capacity]
    needed = missing_bytes + iso_bytes
    discs = f"fits {', '.join(media)}" if media else "fits no disc"
    verdict = "it fits" if needed <= free_bytes else "it DOES NOT fit"
    needs = f"{ui.bytes_text(needed)} for what is missing and the ISO, {ui.bytes_text(free_bytes)} are free"
    return f"the ISO, about {ui.bytes_text(iso_bytes)}: {discs}", f"the disk: {needs}: {verdict}"


def _totals(missing: Sequence[Item]) -> Iterator[str]:
    if not missing:
        yield "nothing is missing"
        return
    for kind in dict.fromkeys(item.kind for item in missing):
        of_kind = [item for item in missing if item.kind is kind]
        size_bytes = sum(item.blob.size_bytes for item in of_kind)
        yield f"missing: {len(of_kind)} x {kind}, {ui.bytes_text(size_bytes)}"


def _size(item: Item) -> str:
    return ui.bytes_text(item.blob.size_bytes)


def _where(item: Item) -> str:
    if item.reference is not None:
        return str(item.blob.digest)
    return shown_url(item.urls[0]) if item.urls else ""
