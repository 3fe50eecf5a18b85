# SPDX-License-Identifier: Apache-2.0
"""Render index.html: the bundle explained on one page, readable in any browser with no server and no network.

lock, inventory, product.json, table of contents -> index.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from build.base.ui import bytes_text
from build.inventory.model import Inventory, Lock
from build.store.filelist import Entry

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
h1 { margin: .5rem 0 0; }
h2 { margin: 2.5rem 0 .25rem; scroll-margin-top: 1rem; }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem; }
nav { margin: 1rem 0; padding: .5rem 0; border: solid #8886; border-width: 1px 0; }
nav a { margin-right: 1.25rem; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0; }
th, td { border-bottom: 1px solid #8884; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font-family: ui-monospace, monospace; font-size: .875em; }
code { overflow-wrap: anywhere; }
pre { background: #8882; padding: .75rem; overflow-x: auto; border-radius: .25rem; }
.lab { border: 3px solid #c60; padding: .5rem 1rem; margin: 1rem 0; font-weight: 600; }
.quiet { opacity: .75; margin-top: 0; }
"""
_UNKNOWN = "not stated"
#: What lies where, by the first part of a path.
_PLACES = {
    "bootstrap.sh": "starts the installer",
    "console": "the console: a web server for Salt's own Python, which every node has",
    "installer": "the installer: Python, with what it imports in <code>vendor/</code>",
    "keys": "OpenPGP keys that the packages are signed with",
    "manifests": "upstream's manifests, as they are",
    "nginx": "how nginx serves <code>oci/</code> as a registry",
    "oci": "the container images, one OCI layout",
    "product.json": "what this is, for programs",
    "repo": "the packages, one yum repository",
    "salt": "the Salt states that configure a node",
    "sbom": "the bill of materials: SPDX 2.3 and CycloneDX 1.6",
}
_SECTIONS = (
    ("verify", "Verify"), ("install", "Install"), ("contents", "Contents"), ("versions", "Versions"),
    ("images", "Images"), ("packages", "Packages"), ("manifests", "Manifests"), ("python", "Python"),
    ("keys", "Keys"), ("origin", "Origin"),
)  # fmt: skip


def render_page(
    lock: Lock,
    inventory: Inventory,
    product: Mapping[str, Any],
    entries: Sequence[Entry],
    licences: Mapping[str, str],
    *,
    image: str,
) -> str:
    """Render the page. ``entries`` are all files but the page itself and SHA256SUMS.

    ``image`` is the name of the ISO's file; ``licences`` are those of packages by name and of images by
    reference, in the words of their makers.
    """
    version = escape(f"{product['version']}-{product['build']}")
    title = f"Caisson {version}{' (lab bundle)' if lock.is_lab else ''}"
    date = datetime.fromtimestamp(lock.source_date_epoch, UTC).strftime("%Y-%m-%d")
    total = bytes_text(sum(entry.size_bytes for entry in entries))
    image = escape(image)
    links = " ".join(f'<a href="#{name}">{text}</a>' for name, text in _SECTIONS)
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
        f"<nav>{links}</nav>",
        _verify(image),
        _install(image, is_lab=lock.is_lab),
        _contents(entries),
        _title("versions", "Versions"),
        _table(("Component", "Version"), ((key, value) for key, value in sorted(lock.versions.items()))),
        _images(inventory, product, licences),
        _packages(lock, inventory, licences),
        _manifests(lock, inventory),
        _python(lock, inventory),
        _keys(lock),
        _title("origin", "Origin"),
        "<p>The same lock and the same tools give the same bytes, wherever and whenever they are used.</p>",
        _table(("Tool", "Version"), sorted(product["tools"].items())),
        f"<p>Lock: <code>sha256:{escape(product['lock_sha256'])}</code></p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _title(name: str, text: str) -> str:
    return f'<h2 id="{name}">{text}</h2>'


def _verify(image: str) -> str:
    return "\n".join(
        (
            _title("verify", "Verify"),
            "<p>Nothing on an image proves that the image is good. On any EL9 host, with files and a key that",
            "came to you on another way than the image, and nothing from the image itself:</p>",
            f"<pre>gpg --verify {image}.sha256.asc {image}.sha256     # when it was signed",
            f"sha256sum --check {image}.sha256",
            f"checkisomd5 {image}                  # bad media only; proves nothing about its origin</pre>",
            "<p>Once it is mounted, file by file, which the installer also does before it uses any of them:</p>",
            "<pre>cd /mnt",
            "gpg --verify SHA256SUMS.asc SHA256SUMS    # when it was signed",
            "sha256sum --quiet --check SHA256SUMS</pre>",
            "<p>To have the installer refuse anything else, pin the key's fingerprint in bootstrap.yaml:",
            "<code>media: {signingKey: FINGERPRINT}</code>.</p>",
        )
    )


def _install(image: str, *, is_lab: bool) -> str:
    accept = " --accept-lab-bundle" if is_lab else ""
    return "\n".join(
        (
            _title("install", "Install"),
            "<p>Keep the ISO on the host: packages and images are served from it. As root:</p>",
            f"<pre>mount -o loop,ro {image} /mnt",
            "/mnt/bootstrap.sh config init &gt; bootstrap.yaml      # then edit it",
            "/mnt/bootstrap.sh check --config bootstrap.yaml",
            f"/mnt/bootstrap.sh --config bootstrap.yaml{accept}</pre>",
        )
    )


def _contents(entries: Sequence[Entry]) -> str:
    """Return the table of the top level, with the number and the size of all files below."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        found.setdefault(entry.path.partition("/")[0], []).append(entry.size_bytes)
    rows = [
        (
            f'<a href="{escape(name)}"><code>{escape(name)}</code></a>',
            _PLACES.get(name, ""),
            _plain_number(len(sizes)),
            _number(sum(sizes)),
        )
        for name, sizes in sorted(found.items())
    ]
    rows.append(
        ('<a href="SHA256SUMS"><code>SHA256SUMS</code></a>', "the checksums of all other files", "", "")
    )
    return f"{_title('contents', 'Contents')}\n{_raw_table(('Path', 'What', 'Files', 'Size'), rows)}"


def _images(inventory: Inventory, product: Mapping[str, Any], licences: Mapping[str, str]) -> str:
    purposes = {image.id: image.purpose for image in inventory.images}
    purposes |= {image.id: image.purpose for image in inventory.composed}
    images: Mapping[str, Mapping[str, Any]] = product["images"]
    rows = [
        (
            _code(image["reference"]),
            escape(purposes.get(image_id, "")),
            escape(licences.get(image["reference"], "") or _UNKNOWN),
            _code(image["digest"]),
            _number(image["size_bytes"]),
        )
        for image_id, image in sorted(images.items(), key=lambda item: str(item[1]["reference"]))
    ]
    head = ("Image", "For", "Licence", "Digest", "Size")
    return f"{_title('images', f'{len(rows)} container images')}\n{_raw_table(head, rows)}"


def _packages(lock: Lock, inventory: Inventory, licences: Mapping[str, str]) -> str:
    purposes = {package.name: package.purpose for package in inventory.packages}
    rows = [
        (
            _code(package.nevra),
            escape(purposes.get(package.name, "") if package.requested else _needed_by(package.required_by)),
            escape(licences.get(package.name, "") or _UNKNOWN),
            escape(package.repository),
            _number(package.size_bytes),
        )
        for package in lock.packages
    ]
    head = ("Package", "For", "Licence", "Repository", "Size")
    return f"{_title('packages', f'{len(rows)} packages')}\n{_raw_table(head, rows)}"


def _needed_by(names: Sequence[str]) -> str:
    return f"needed by {', '.join(names)}" if names else ""


def _manifests(lock: Lock, inventory: Inventory) -> str:
    purposes = {manifest.id: manifest.purpose for manifest in inventory.manifests}
    rows = [
        (_code(item.path), escape(purposes.get(item.id, "")), _code(item.url), _number(item.size_bytes))
        for item in lock.manifests
    ]
    head = ("File", "For", "From", "Size")
    return f"{_title('manifests', f'{len(rows)} manifests')}\n{_raw_table(head, rows)}"


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
    title = _title("python", f"{len(rows)} Python packages of the installer")
    return f"{title}\n{_raw_table(head, rows)}"


def _keys(lock: Lock) -> str:
    rows = [(key.repository, key.fingerprint) for key in lock.keys]
    return f"{_title('keys', 'Keys of the packages')}\n{_table(('Repository', 'Fingerprint'), rows)}"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _number(size_bytes: int) -> str:
    return f"\0{bytes_text(size_bytes)}"  # the mark asks for a right-aligned cell


def _plain_number(number: int) -> str:
    return f"\0{number}"


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
    start = f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>'
    return "\n".join((start, *lines, "</tbody></table></div>"))
