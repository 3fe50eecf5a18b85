# SPDX-License-Identifier: Apache-2.0
"""Settle on a host that becomes a node: names, packages, the minion's key. It runs on that host, from its own copy.

Everything that it is told lies on the host already, sent over SSH: the pillar, the tree, the authority's certificate.
What was done is looked for and left: the second time changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import HostError, SaltError
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import changes, hosts
from installer.config.ports import BOOTSTRAP_ROLE
from installer.engine import saltcall
from installer.engine.journal import SETTLE, Journal
from installer.engine.saltworker import LOCAL_DIR, SALT_CALL
from installer.media import dnf, product
from installer.operations import before, handed_over, installed, reset_plan

MINION_PKI_DIR = "/etc/salt/pki/minion"
KEY_TIMEOUT_S = 120.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settled:
    """What came of it; ``public_key`` is the half of the minion's key that its master is to know."""

    has_changed: bool
    public_key: str


def settle(paths: Paths, tree_dir: Path, *, progress: Say, detail: Say) -> Settled:
    """Write the cluster's names, install all packages of a node in one transaction, make the minion's key.

    Raises:
        HostError: nobody has sent what is needed.
        PackageError: dnf or rpm refused a package.
        SaltError: Salt could not make the key.
    """
    caisson = changes.recorded(paths)
    if caisson is None or "repository" not in caisson:
        raise HostError(
            "nothing on this host says to which cluster it belongs",
            details=f"{paths.pillar_dir}/caisson.sls is not there, or is the bootstrap node's",
            resolution="run 'caisson node add' on the bootstrap node: it starts this itself",
        )
    reset_plan.refuse_begun(paths)
    found = product.load(tree_dir)
    journal = Journal(paths.journal_file, operation=SETTLE)
    is_known = journal.has_done(SETTLE)
    if not is_known:  # from here on the preflights take what they find for Caisson's own
        before.note(paths)
        journal.start(SETTLE)
    started = time.monotonic()
    changed = [name_cluster(paths, caisson)]
    installed.note(found, paths)
    changed.append(
        dnf.install(
            dnf.HOST_PACKAGES,
            paths=paths,
            media_dir=Path(caisson["media_dir"]),
            product=found,
            progress=progress,
            detail=detail,
            served=dnf.Served(**caisson["repository"]),
        )
    )
    changed.append(handed_over.keep_off(paths, list(handed_over.HANDED_OVER)))
    is_made, public_key = _make_key(paths)
    has_changed = any([*changed, is_made])
    if not is_known:
        journal.done(SETTLE, changed=has_changed, seconds=time.monotonic() - started)
    return Settled(has_changed, public_key)


def name_cluster(paths: Paths, caisson: Mapping[str, Any]) -> bool:
    """Let /etc/hosts answer for the names of the cluster; return whether it did not."""
    return hosts.apply(paths, *_names(caisson))


def knows_cluster(paths: Paths, caisson: Mapping[str, Any]) -> bool:
    """Tell whether /etc/hosts answers for the names of the cluster."""
    return hosts.is_applied(paths, *_names(caisson))


def _names(caisson: Mapping[str, Any]) -> tuple[str, str, list[str], dict[str, list[str]]]:
    """Return the address, the endpoint where this host is the first behind it, the host's names, others' names."""
    node = caisson["node"]
    is_first = node["role"] == BOOTSTRAP_ROLE and not caisson["networks"]["vip"]
    endpoint = str(caisson["cluster"]["endpoint"]) if is_first else ""
    return str(node["control_plane_address"]), endpoint, hosts.own_names(), dict(caisson["elsewhere"])


def _make_key(paths: Paths) -> tuple[bool, str]:
    """Let Salt make the minion's key, unless it has one; return whether it did, and the public half.

    Raises:
        SaltError: it did not.
    """
    directory = paths.at(MINION_PKI_DIR)
    words = [SALT_CALL, f"--config-dir={paths.at(LOCAL_DIR)}", "--local", "--out=json", "--log-level=quiet"]
    words += [f"--log-file={paths.log_dir / saltcall.LOG_NAME}", "caisson_minion.make_key", str(directory)]
    paths.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = run(words, timeout_s=KEY_TIMEOUT_S, check=False)
    try:
        is_made = json.loads(said.stdout)["local"]
        public_key = (directory / "minion.pub").read_text(encoding="ascii")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SaltError(
            "Salt could not make the minion's key",
            details=(said.stderr.strip() or said.stdout.strip())[-2000:] or str(exc),
            resolution="see the last lines above, then run 'caisson node add' again",
        ) from exc
    return is_made is True, public_key
