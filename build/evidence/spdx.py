# SPDX-License-Identifier: Apache-2.0
"""Write a bill of materials as SPDX 2.3, in JSON. Source: SPDX 2.3, clauses 6 to 11."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from build.evidence.bill import NAMESPACE, Bill, Component
from build.inventory.licences import spdx_expression

_NONE = "NOASSERTION"
_PURPOSES = {
    "bundle": "INSTALL", "package": "INSTALL", "image": "CONTAINER", "layer": "ARCHIVE",
    "program": "APPLICATION", "module": "LIBRARY", "python": "LIBRARY", "manifest": "FILE",
    "system": "OPERATING_SYSTEM", "apk": "INSTALL", "deb": "INSTALL", "rpm": "INSTALL", "pypi": "LIBRARY",
}  # fmt: skip


def render_spdx(bill: Bill) -> dict[str, Any]:
    """Return the document in SPDX 2.3."""
    licences = _Licences()
    ids = {component.key: _spdx_id(component.key) for component in bill.components}
    packages = [_spdx_package(component, ids, licences) for component in bill.components]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.root.name,
        "documentNamespace": f"{NAMESPACE}/{bill.root.name}-{bill.identity}",
        "creationInfo": {"created": bill.date, "creators": [f"Tool: caisson-{bill.root.version}"]},
        "packages": packages,
        "hasExtractedLicensingInfos": licences.extracted(),
        "relationships": list(_spdx_relationships(bill, ids)),
    }


def _spdx_id(key: str) -> str:
    """Return an SPDX identifier: letters, digits, dots and dashes; a digest keeps others apart.

    >>> _spdx_id("rpm-kubelet-1.36.4-1.x86_64"), _spdx_id("caisson")
    ('SPDXRef-rpm-kubelet-1.36.4-1.x86-64-cfd0f0b7', 'SPDXRef-caisson')
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", key)
    suffix = "" if plain == key else f"-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"SPDXRef-{plain}{suffix}"


class _Licences:
    """The licences that a document uses; what is no expression gets a name of its own, with its text."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def declared(self, text: str) -> str:
        """Return what SPDX says of a licence given as text."""
        if not text:
            return _NONE
        expression = spdx_expression(text)
        if expression is None:
            expression = f"LicenseRef-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            self._texts[expression] = text
        return expression

    def extracted(self) -> list[dict[str, str]]:
        """Return the named ones."""
        return [
            {
                "licenseId": name,
                "name": text,
                "extractedText": f"The package declares its licence with these words: {text}",
            }
            for name, text in sorted(self._texts.items())
        ]


def _spdx_package(component: Component, ids: Mapping[str, str], licences: _Licences) -> dict[str, Any]:
    package: dict[str, Any] = {
        "SPDXID": ids[component.key],
        "name": component.name,
        "downloadLocation": component.url if component.kind == "manifest" else _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": licences.declared(component.licence),
        "copyrightText": _NONE,
        "primaryPackagePurpose": _PURPOSES[component.kind],
    }
    if component.version:
        package["versionInfo"] = component.version
    if component.supplier:
        package["supplier"] = f"Organization: {component.supplier}"
    if component.url and component.kind != "manifest":
        package["homepage"] = component.url
    if component.digest is not None:
        package["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.digest.hex}]
    if component.purl:
        package["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": component.purl,
            }
        ]
    notes = [component.note, f"{component.size_bytes} bytes" if component.size_bytes else ""]
    if any(notes):
        package["comment"] = "; ".join(note for note in notes if note)
    return package


def _spdx_relationships(bill: Bill, ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", ids[bill.root.key])
    for component in bill.components:
        for kind, keys in (("CONTAINS", component.parts), ("STATIC_LINK", component.linked)):
            for key in keys:
                yield _related(ids[component.key], kind, ids[key])


def _related(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
