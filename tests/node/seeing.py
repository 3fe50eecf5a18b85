# SPDX-License-Identifier: Apache-2.0
"""Look at the console of a node with a real Chromium that has a neighbour's network and nothing else.

The browser and what drives it speak through pipes, so the browser needs no way out of its namespace; what it sends to
anywhere but the control-plane network is counted there, and a test fails on it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shlex
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Playwright

from lab.neighbour import Neighbour
from lab.node import Lab, Node
from lab.places import CONTROL_PLANE, NETNS_DIR
from tests import browsing
from tests.browsing import Sight
from tests.node.growing import told

ADDRESS = "10.77.1.150"
FINGERPRINT = "openssl x509 -in /etc/caisson/console/tls.crt -noout -fingerprint -sha256"
#: Prints the certificate that a server shows, whoever has signed it.
SHOW = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], int(sys.argv[2]))))"
WATCH = f"""
table inet away {{
    set addresses {{ type ipv4_addr; flags dynamic; size 1024; }}
    set further {{ type ipv6_addr; flags dynamic; size 1024; }}
    chain out {{
        type filter hook output priority 0;
        oifname "eth0" meta l4proto {{ tcp, udp }} ip daddr != {CONTROL_PLANE.cidr} add @addresses {{ ip daddr }}
        oifname "eth0" meta l4proto {{ tcp, udp }} ip6 daddr != ::1 add @further {{ ip6 daddr }}
    }}
}}
"""


@dataclass(kw_only=True)
class Seat:
    """Where somebody sits with a browser: a neighbour on the control-plane network.

    ``base`` is the console's address, ``pem`` the certificate that it shows there, compared by its fingerprint.
    """

    host: Neighbour
    driver: Playwright
    directory: Path
    base: str
    pem: str
    sights: list[Sight] = field(default_factory=list)
    _browsers: list[Browser] = field(default_factory=list)

    def start(self, *, trusts: bool = True) -> Browser:
        """Start a browser in the neighbour's network; ``trusts``: somebody has let the certificate through in it."""
        program = self.directory / "chromium"
        words = ["nsenter", f"--net={NETNS_DIR / self.host.key}", "--", browsing.find_chromium()]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)
        keys = [browsing.spki_of(self.pem.encode())] if trusts else []
        # Of its own accord it asks for hosts of its makers. What a page asks for is noted before a name is looked up.
        alone = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {urlsplit(self.base).hostname}"
        self._browsers.append(browsing.launch(self.driver, program, keys=keys, options=[alone]))
        return self._browsers[-1]

    def open(self, browser: Browser, **options: Any) -> Sight:
        """Open a profile of its own in a browser."""
        context = browser.new_context(**options)
        sight = Sight(base=self.base, context=context, page=context.new_page())
        sight.watch(sight.page)
        self.sights.append(sight)
        return sight

    def kill_browsers(self) -> int:
        """Kill -9 every process of this seat, as a power cut at the desk does; return how many there were."""
        pids = [int(word) for word in self._pids()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._browsers.clear()
        return len(pids)

    def close(self) -> None:
        """Close what is open."""
        for browser in self._browsers:
            browser.close()
        self._browsers.clear()

    def destinations(self) -> str:
        """Return what was sent to but the control-plane network: the elements of nft's sets; empty when nothing was."""
        listed = self.host.run(["nft", "list", "table", "inet", "away"]).stdout
        return " ".join(line.strip() for line in listed.splitlines() if "elements" in line)

    def prove_that_it_counts(self) -> None:
        """Send a datagram to outside, see it in the count, and begin again."""
        send = (
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.1', 9))"
        )
        self.host.run([sys.executable, "-I", "-c", send])
        assert "203.0.113.1" in self.destinations()
        self.host.run(["nft", "flush", "set", "inet", "away", "addresses"])

    def assert_nothing_was_wrong(self) -> None:
        """No breach of the policy, no error in the console, no other origin, no packet to anywhere else."""
        for sight in self.sights:
            assert not sight.faults, sight.faults
            assert not sight.elsewhere(), sight.elsewhere()
        destinations = self.destinations()
        assert destinations == "", destinations

    def _pids(self) -> list[str]:
        return self.host.run(["ip", "netns", "pids", self.host.key]).stdout.split()


@contextmanager
def seated(lab: Lab, driver: Playwright, directory: Path, *, url: str, fingerprint: str) -> Iterator[Seat]:
    """Yield a seat at the console whose address and certificate's SHA-256 (``AB:CD:..``) somebody was told."""
    host = Neighbour(lab=lab.name, name="desk", plane=CONTROL_PLANE, address=f"{ADDRESS}/24")
    with ExitStack() as stack:
        host.connect()
        stack.callback(host.remove)
        host.run(["nft", "--file", "-"], input_text=WATCH)
        place = urlsplit(url)
        pem = host.run([sys.executable, "-I", "-c", SHOW, str(place.hostname), str(place.port)]).stdout
        assert colons(ssl.PEM_cert_to_DER_cert(pem.strip())) == fingerprint
        seat = Seat(host=host, driver=driver, directory=directory, base=url, pem=pem)
        stack.callback(seat.close)
        seat.prove_that_it_counts()
        yield seat


def colons(der: bytes) -> str:
    """Return the SHA-256 of a certificate as people compare it.

    >>> colons(b"")[:11]
    'E3:B0:C4:42'
    """
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())


def seen_fingerprint(sight: Sight) -> str:
    """Return the SHA-256 of the certificate that the browser itself gets from the console: it loads the page again."""
    tool = sight.context.new_cdp_session(sight.page)
    tool.send("Network.enable")
    sight.page.reload()
    chain = tool.send("Network.getCertificate", {"origin": sight.base})["tableNames"]
    return colons(base64.b64decode(chain[0]))


def code_for(node: Node, name: str, role: str, life: str = "2h") -> str:
    """Return a code that root has made."""
    made = told(node, "caisson", "console", "login", "--as", name, "--role", role, "--for", life, "--json")
    code: str = made["code"]
    return code


def answer_s(page: Page) -> float:
    """Return how long the console took for the page that is shown, by the browser's own watch."""
    script = "(() => { const n = performance.getEntriesByType('navigation')[0]; return n.responseEnd - n.startTime })()"
    taken: float = page.evaluate(script)
    return taken / 1000


def wrong_oks(page: Page) -> list[str]:
    """Return what a page calls good although only the API could know it, and the API does not answer."""
    found: list[str] = page.eval_on_selector_all(
        "h1.verdict.good, .tile.good, tr[id^=n-] .mark.good, tr[id^=p-] .mark.good, .cell.good",
        "all => all.map(one => one.textContent.trim().replace(/\\s+/g, ' '))",
    )
    return [text for text in found if not text.startswith(("Next end", "Media", "Jobs"))]
