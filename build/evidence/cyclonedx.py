# SPDX-License-Identifier: Apache-2.0
"""Write a bill of materials as CycloneDX 1.6, in JSON. Source: CycloneDX 1.6, JSON reference."""

from __future__ import annotations

from typing import Any

from build.evidence.bill import Bill, Component
from build.inventory.licences import spdx_expression

_TYPES = {
    "bundle": "application", "package": "library", "image": "container", "layer": "file",
    "program": "application", "module": "library", "python": "library", "manifest": "file",
    "system": "operating-system", "apk": "library", "deb": "library", "rpm": "library", "pypi": "library",
}  # fmt: skip


def render_cyclonedx(bill: Bill) -> dict[str, Any]:
    """Return the document in CycloneDX 1.6."""
    root = bill.root
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{bill.identity}",
        "version": 1,
        "metadata": {
            "timestamp": bill.date,
            "tools": {"components": [{"type": "application", "name": "caisson", "version": root.version}]},
            "component": _cyclonedx_component(root),
        },
        "components": [_cyclonedx_component(component) for component in bill.components[1:]],
        "dependencies": [
            {"ref": component.key, "dependsOn": sorted({*component.parts, *component.linked})}
            for component in bill.components
            if component.parts or component.linked
        ],
    }


def _cyclonedx_component(component: Component) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": _TYPES[component.kind],
        "bom-ref": component.key,
        "name": component.name,
    }
    if component.version:
        found["version"] = component.version
    if component.purl:
        found["purl"] = component.purl
    if component.supplier:
        found["supplier"] = {"name": component.supplier}
    if component.digest is not None:
        found["hashes"] = [{"alg": "SHA-256", "content": component.digest.hex}]
    if component.licence:
        expression = spdx_expression(component.licence)
        found["licenses"] = (
            [{"expression": expression}] if expression else [{"license": {"name": component.licence}}]
        )
    if component.url:
        kind = "distribution" if component.kind == "manifest" else "website"
        found["externalReferences"] = [{"type": kind, "url": component.url}]
    if component.note:
        found["description"] = component.note
    properties = [{"name": "caisson:kind", "value": component.kind}]
    if component.size_bytes:
        properties.append({"name": "caisson:size_bytes", "value": str(component.size_bytes)})
    found["properties"] = properties
    return found
