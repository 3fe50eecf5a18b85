# SPDX-License-Identifier: Apache-2.0
"""Give tests a real Chromium beside a console that runs on loopback.

Its TLS is checked: one key is let through, by its fingerprint. Every request, every line of the browser's console and
every breach of the content policy is noted; a test fails when there is one of the wrong kind.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.unit.console import world as worlds
from tests.unit.console.conftest import be_patient
from tests.unit.console.running import Identity, Running, make_identity, running
from tests.unit.console.world import World

WAIT_MS = 60_000
"""A machine on which other tests run is slow. How often a page asks is told by the page, not by a watch."""


@dataclass
class Eyes:
    """A browser on a console, and what was seen of it."""

    console: Running
    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """Return the address of the console."""
        return f"https://127.0.0.1:{self.console.port}"

    def log_in(self) -> None:
        """Log in by a code, as a person does."""
        self.page.goto(f"{self.base}/login")
        self.page.fill("#code", worlds.CODE)
        self.page.press("#code", "Enter")
        self.page.wait_for_url(f"{self.base}/")

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


Look = Callable[..., Eyes]


def spki_of(file: Path) -> str:
    """Return what Chromium knows the key of a certificate by."""
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    der = certificate.public_key().public_bytes(serialization.Encoding.DER, shape)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the console wait longer for its sources: other tests may run beside."""
    be_patient(monkeypatch)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser of the system."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "chromium is not installed: system-packages.txt names it"
    return found


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return the certificates of all consoles of this run: the browser is told one key when it starts."""
    return make_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def browser(chromium: str, identity: Identity) -> Iterator[Browser]:
    """Return the one browser of this run; each test has a profile of its own in it."""
    trusted = f"--ignore-certificate-errors-spki-list={spki_of(identity[1][0])}"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", trusted])
        yield started
        started.close()


@pytest.fixture
def look(tmp_path: Path, browser: Browser, identity: Identity) -> Iterator[Look]:
    """Return what opens a browser on a console in a world; at the end it is asked whether anything went wrong."""
    opened: list[Eyes] = []
    with ExitStack() as stack:

        def open_it(world: World, *, stands_still: bool = False, **options: Any) -> Eyes:
            world.moves = not stands_still
            console = stack.enter_context(running(world, tmp_path / "console", identity))
            context = browser.new_context(**options)
            stack.callback(context.close)
            eyes = Eyes(console, context, context.new_page())
            eyes.watch(eyes.page)
            opened.append(eyes)
            return eyes

        yield open_it
    for eyes in opened:
        assert eyes.faults == []
        elsewhere = [url for url in eyes.requests if not url.startswith((eyes.base + "/", "data:"))]
        assert elsewhere == []
