# SPDX-License-Identifier: Apache-2.0
"""Drive a real Chromium on a console, wherever that runs, and note what goes wrong in it.

TLS stays checked: one key is let through, by its fingerprint. Every request, every line of the browser's console and
every breach of the content policy is noted; what a test does not expect of them is a fault.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

WAIT_MS = 60_000
"""A machine on which other tests run is slow. How often a page asks is told by the page, not by a watch."""
RULES: dict[str, Any] = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"],
    },
    "resultTypes": ["violations"],
}
COLOURS: dict[str, Any] = {**RULES, "runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""All that another scheme of colours can change."""


@dataclass(kw_only=True)
class Sight:
    """A browser's context on a console at ``base``, its first page, and what was seen of all its pages."""

    base: str
    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def enter(self, code: str) -> None:
        """Log in by a code, as a person does."""
        self.page.goto(f"{self.base}/login")
        self.type_code(code)
        self.page.wait_for_url(f"{self.base}/")

    def type_code(self, code: str) -> None:
        """Type a code into the page of the log-in."""
        self.page.fill("#code", code)
        self.page.press("#code", "Enter")

    def go(self, path: str) -> None:
        """Load a page."""
        self.page.goto(self.base + path)

    def watch(self, page: Page) -> None:
        """Note what goes wrong on a page."""
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        page.on(
            "console",
            lambda line: self.faults.append(line.text) if line.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective))"
        )

    def forgive(self, *parts: str) -> None:
        """Forget faults that a test has brought about itself: those with one of these parts in them."""
        self.faults[:] = [line for line in self.faults if not any(part in line for part in parts)]

    def elsewhere(self) -> list[str]:
        """Return what was asked of anybody but the console."""
        return [url for url in self.requests if not url.startswith((f"{self.base}/", "data:"))]


def find_chromium() -> str:
    """Return the browser of the system."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "chromium is not installed: system-packages.txt names it"
    return found


def launch(
    driver: Playwright, program: str | Path, *, keys: Iterable[str] = (), options: Iterable[str] = ()
) -> Browser:
    """Start a browser, without a window, that lets the keys through which ``spki_of`` has named."""
    trusted = f"--ignore-certificate-errors-spki-list={','.join(keys)}"
    return driver.chromium.launch(executable_path=str(program), args=["--no-sandbox", trusted, *options])


def spki_of(pem: bytes) -> str:
    """Return what Chromium knows the key of a certificate by."""
    certificate = x509.load_pem_x509_certificate(pem)
    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    der = certificate.public_key().public_bytes(serialization.Encoding.DER, shape)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def axe_faults(page: Page, rules: dict[str, Any] = RULES) -> list[str]:
    """Return what axe finds on a page (WCAG 2.2 A and AA); its context must pass by the content policy."""
    found = Axe().run(page, options=rules).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')[:200]}"
        for one in found
        for node in one["nodes"]
    ]
