# SPDX-License-Identifier: Apache-2.0
"""Give a further control plane its console: its key is made there and stays there, its certificate is made here.

What was signed is noted here, so that a second addition signs nothing: another key, other names, another authority, or
an end that is near, makes another certificate.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.base import files
from installer.base.errors import HostError, SaltError
from installer.base.paths import Paths
from installer.config import x509
from installer.config.nodes import Role
from installer.engine import nodepillar, remotefiles, saltcall
from installer.engine.context import Context
from installer.engine.remotefiles import RemoteFile
from installer.operations import console, joining
from installer.operations.joining import Joining
from installer.operations.node_jobs import Detached

NOTES_DIR = "console"
PUBLIC_KEY_FILE = "/etc/caisson/console/tls.pub"
PUBLIC_KEY = re.compile(
    r"-----BEGIN PUBLIC KEY-----\n(?:[A-Za-z0-9+/=]{1,64}\n){1,20}-----END PUBLIC KEY-----\n"
)
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.+\n-----END CERTIFICATE-----\n?", re.DOTALL)
RENEWED_BEFORE_S = 90 * 86_400
ASK_LIMIT_S = 30.0
REQUESTED = Detached(("console.requested",))


def run_console(context: Context, *, states: Detached) -> bool:
    """Let a control plane have its console: its key is made there, signed here; a worker has none.

    Raises:
        SaltError: a state failed there, or no certificate could be made here.
        HostError: what the host shows is no public key.
    """
    node = joining.of(context)
    if node.entry.role is not Role.CONTROL_PLANE:
        return False
    has_changed = REQUESTED(context)
    certificate = RemoteFile(console.CERTIFICATE_FILE, _certificate(context, node).encode("ascii"))
    missing = remotefiles.differing(node.host, [certificate])
    if missing:
        remotefiles.put(node.host, missing)
    return states(context) or has_changed or bool(missing)


def _certificate(context: Context, node: Joining) -> str:
    """Return the certificate of a node's console: the noted one, or a new one."""
    shown = node.host.run(["cat", PUBLIC_KEY_FILE], timeout_s=ASK_LIMIT_S).stdout
    if not PUBLIC_KEY.fullmatch(shown):
        raise HostError(
            f"{node.name} shows no public key of its console",
            details=f"{PUBLIC_KEY_FILE}: {shown[:100]!r}",
            resolution="look at that host: what answers there is not what was sent to it",
        )
    authority = files.read_file(
        context.paths.at(nodepillar.CA_FILE),
        "the certificate of Caisson's authority",
        resolution="run the bootstrap again: its phase salt-master publishes it",
    )
    wanted = {
        "public_key": shown,
        "told": told(node.caisson),
        "authority": hashlib.sha256(authority).hexdigest(),
    }
    file = note_file(context.paths, node.name)
    noted = _read(file)
    if {key: noted.get(key) for key in wanted} == wanted and not _ends_soon(str(noted.get("certificate"))):
        return str(noted["certificate"])
    made = _sign(context, shown, wanted["told"])
    files.write_file(
        file, json.dumps({**wanted, "certificate": made}, indent=1) + "\n", mode=0o600, dir_mode=0o700
    )
    return made


def told(caisson: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a node's pillar its certificate says. Pure."""
    return {
        "node": {key: caisson["node"][key] for key in ("name", "control_plane_address")},
        "networks": {"vip": caisson["networks"].get("vip")},
        "cluster": {key: caisson["cluster"][key] for key in ("name", "endpoint")},
    }


def _sign(context: Context, public_key: str, said: Any) -> str:
    try:
        made = saltcall.call(context, "caisson_console.sign", [public_key, said], local=True)
    finally:
        context.salt.close()
    if not isinstance(made, str) or not CERTIFICATE.fullmatch(made):
        raise SaltError(
            "Salt made no certificate for the console",
            details=str(made)[:500],
            resolution="see /var/log/caisson/salt.log, then run the same command again",
        )
    return made if made.endswith("\n") else made + "\n"


def note_file(paths: Paths, name: str) -> Path:
    """Return where it is noted what was signed for a node."""
    return paths.state_dir / NOTES_DIR / f"{name}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _ends_soon(certificate: str) -> bool:
    try:
        ends = x509.parse(ssl.PEM_cert_to_DER_cert(certificate)).not_after
    except ValueError:
        return True
    return ends - time.time() < RENEWED_BEFORE_S
