# SPDX-License-Identifier: Apache-2.0
"""Who has the virtual address is told by the certificate that is shown there."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.operations import vip_state
from tests.authorities import make_authority, make_leaf

pytestmark = pytest.mark.loopback


@contextlib.contextmanager
def serving(address: str, pair: tuple[Path, Path], port: int = 0) -> Iterator[int]:
    """Show a certificate to everybody who connects; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, pair))
    with socket.create_server((address, port)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                        pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def pair(directory: Path, name: str) -> tuple[Path, Path]:
    (directory / name).mkdir()
    return make_leaf(directory / name, make_authority(directory / f"{name}-ca"))


def test_a_certificate_is_read_from_whoever_shows_one(tmp_path: Path) -> None:
    """Whoever signed it: it is only compared."""
    files = pair(tmp_path, "node1")
    with serving("127.0.0.1", files) as port:
        found = vip_state.certificate("127.0.0.1", port)
    assert found == ssl.PEM_cert_to_DER_cert(files[0].read_text())
    assert vip_state.certificate("127.0.0.1", port) == b""
