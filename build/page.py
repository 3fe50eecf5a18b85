# SPDX-License-Identifier: Apache-2.0
"""Render index.html: the bundle explained on one page, readable in any browser with no server and no network.

lock, inventory, product.json, table of contents -> index.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from build.contents import Entry
from build.model import Inventory, Lock
from build.ui import bytes_text

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { margin-bottom: 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
th, td { border-bottom: 1px solid #8884; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font-family: ui-monospace, monospace; font-size: .875em; overflow-wrap: anywhere; }
pre { background: #8882; padding: .75rem; overflow-x: auto; }
.lab { border: 3px solid #c60; padding: .5rem 1rem; margin: 1rem 0; font-weight: 600; }
.quiet { opacity: .75; margin-top: 0; }
"""


def render_page(
    lock: Lock, inventory: Inventory, product: Mapping[str, Any], entries: Sequence[Entry]
) -> str:
    """Render the page. ``entries`` are all files but the page itself and SHA256SUMS."""
    version = escape(product["version"])
    title = f"Caisson {version}{' (lab bundle)' if lock.is_lab else ''}"
    date = datetime.fromtimestamp(lock.source_date_epoch, UTC).strftime("%Y-%m-%d")
    total = bytes_text(sum(entry.size_bytes for entry in entries))
    volume = f"caisson-{version}{'-lab' if lock.is_lab else ''}.iso"
    accept = " --accept-lab-bundle" if lock.is_lab else ""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="quiet">Kubernetes {escape(lock.versions["kubernetes"])} for hosts without a network.',
        f"{len(entries)} files, {total}. Newest content: {date}.",
        f"Upstream profile: {escape(lock.profile_name)}.</p>",
    ]
    if lock.is_lab:
        parts += [
            '<p class="lab">Lab bundle: built from a miniature upstream for tests, with its own packages',
            "and keys. It is not for production; the installer refuses it without --accept-lab-bundle.</p>",
        ]
    parts += [
        "<h2>Install</h2>",
        f"<pre>mount -o loop,ro {volume} /mnt\n/mnt/bootstrap.sh --config bootstrap.yaml{accept}</pre>",
        "<h2>Verify</h2>",
        "<p>Before trusting the image, with its checksum file beside it; then, mounted, file by file:</p>",
        f"<pre>sha256sum -c {volume}.sha256\ncheckisomd5 {volume}",
        "cd /mnt &amp;&amp; sha256sum -c SHA256SUMS</pre>",
        "<h2>Versions</h2>",
        _table(("Component", "Version"), ((key, value) for key, value in sorted(lock.versions.items()))),
        _images(inventory, product),
        _packages(lock, inventory),
        _manifests(lock, inventory),
        _python(lock, inventory),
        _keys(lock),
        "<h2>Made with</h2>",
        _table(("Tool", "Version"), sorted(product["tools"].items())),
        f"<p>Lock: <code>sha256:{escape(product['lock_sha256'])}</code></p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _images(inventory: Inventory, product: Mapping[str, Any]) -> str:
    purposes = {image.id: image.purpose for image in inventory.images}
    purposes |= {image.id: image.purpose for image in inventory.composed}
    images: Mapping[str, Mapping[str, Any]] = product["images"]
    rows = [
        (
            _code(image["reference"]),
            escape(purposes.get(image_id, "")),
            _code(image["digest"]),
            _number(image["size_bytes"]),
        )
        for image_id, image in sorted(images.items(), key=lambda item: str(item[1]["reference"]))
    ]
    head = ("Image", "For", "Digest", "Size")
    return f"<h2>{len(rows)} container images</h2>\n{_raw_table(head, rows)}"


def _packages(lock: Lock, inventory: Inventory) -> str:
    purposes = {package.name: package.purpose for package in inventory.packages}
    rows = [
        (
            _code(package.nevra),
            escape(purposes.get(package.name, "") if package.requested else _needed_by(package.required_by)),
            escape(package.repository),
            _number(package.size_bytes),
        )
        for package in lock.packages
    ]
    return f"<h2>{len(rows)} packages</h2>\n{_raw_table(('Package', 'For', 'Repository', 'Size'), rows)}"


def _needed_by(names: Sequence[str]) -> str:
    return f"needed by {', '.join(names)}" if names else ""


def _manifests(lock: Lock, inventory: Inventory) -> str:
    purposes = {manifest.id: manifest.purpose for manifest in inventory.manifests}
    rows = [
        (_code(item.path), escape(purposes.get(item.id, "")), _code(item.url), _number(item.size_bytes))
        for item in lock.manifests
    ]
    return f"<h2>{len(rows)} manifests</h2>\n{_raw_table(('File', 'For', 'From', 'Size'), rows)}"


def _python(lock: Lock, inventory: Inventory) -> str:
    purposes = {package.name: package.purpose for package in inventory.python}
    rows = [
        (
            escape(f"{item.name} {item.version}"),
            escape(purposes.get(item.name, "")),
            _code(item.file),
            _number(item.size_bytes),
        )
        for item in lock.python
    ]
    head = ("Package", "For", "File", "Size")
    return f"<h2>{len(rows)} Python packages of the installer</h2>\n{_raw_table(head, rows)}"


def _keys(lock: Lock) -> str:
    rows = [(key.repository, key.fingerprint) for key in lock.keys]
    return f"<h2>Keys of the packages</h2>\n{_table(('Repository', 'Fingerprint'), rows)}"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _number(size_bytes: int) -> str:
    return f"\0{bytes_text(size_bytes)}"  # the mark asks for a right-aligned cell


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _raw_table(head, [tuple(escape(cell) for cell in row) for row in rows])


def _raw_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table of cells that are HTML already."""
    numbers = [index for index, cell in enumerate(rows[0]) if cell.startswith("\0")] if rows else []
    titles = "".join(
        f'<th class="number">{title}</th>' if index in numbers else f"<th>{title}</th>"
        for index, title in enumerate(head)
    )
    lines = [
        "<tr>"
        + "".join(
            f'<td class="number">{cell[1:]}</td>' if cell.startswith("\0") else f"<td>{cell}</td>"
            for cell in row
        )
        + "</tr>"
        for row in rows
    ]
    return "\n".join((f"<table><thead><tr>{titles}</tr></thead><tbody>", *lines, "</tbody></table>"))
