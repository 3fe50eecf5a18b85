# SPDX-License-Identifier: Apache-2.0
"""``caisson certificates``: show when the certificates of this host end, and renew those of the media servers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from installer.base.paths import Paths
from installer.base.ui import format_table
from installer.cli.common import Arguments, add_common, handle_signals, need_root, say
from installer.engine import lock as lockfile
from installer.operations import certificates, media_certificate, own_state, replica_renewal

FORMAT = 1


def add_commands(commands: Any) -> None:
    """Add ``certificates`` and what it does."""
    parser = commands.add_parser(
        "certificates", help="show when certificates end; renew that of the media server"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="list the certificates of this host, those that end first first"
    )
    add_common(listing, has_config=False)
    listing.set_defaults(handler=_list)
    renew = actions.add_parser(
        "renew",
        help="renew nginx' own certificate where it ends within 90 days, take a site's from its files again, and let "
        "nginx serve it; renew those of control planes that serve too; a timer does that each day",
    )
    add_common(renew, has_config=False)
    renew.set_defaults(handler=_renew)


def _list(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    found = certificates.find_certificates(paths)
    if arguments.json:
        print(json.dumps({"format": FORMAT, "certificates": [asdict(state) for state in found]}, indent=1))
        return 0
    print(
        "\n".join(format_table(certificates.certificate_rows(found)))
        if found
        else "there is none on this host"
    )
    for state in found:
        if state.fault:
            fault = certificates.certificate_fault(state)
            print(f"\n{fault.text}\n  -> {fault.fix}")
    return 0


def _renew(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    handle_signals()
    with lockfile.hold(paths.lock_file):
        found = media_certificate.keep(paths, tree_dir, say=say)
        others = replica_renewal.keep(paths, tree_dir, say=say)
    error = replica_renewal.failure(others)
    if arguments.json:
        code = error.exit_code if error else 0
        data = {
            "served": asdict(found) if found else None,
            "replicas": [asdict(one) for one in others],
            "exit_code": code,
        }
        print(json.dumps({"format": FORMAT, **data}, indent=1))
        return code
    if found is None and own_state.is_further_node(paths):
        print("the certificates of packages and images are renewed on the bootstrap node: run it there")
    elif found is None:
        print("this host serves no packages and images: there is nothing to renew")
    else:
        print("\n".join([*media_certificate.lines(found), *replica_renewal.lines(others)]))
    if error is not None:
        raise error
    return 0
