# SPDX-License-Identifier: Apache-2.0
"""``caisson on-node``: what ``caisson node add`` starts on the other host, over SSH or the bus. Nobody types it.

Each verb prints one line of JSON, last; what else is said goes to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from installer.base.paths import Paths
from installer.cli.common import Arguments, add_common, handle_signals, need_root, say
from installer.engine import detached, leftovers
from installer.engine import lock as lockfile
from installer.operations import replica, settling

NAME = "on-node"
LOCK_PATIENCE_S = 60.0


def add_command(commands: Any) -> None:
    """Add the command; it is in no help."""
    parser = commands.add_parser(NAME)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    settle = verbs.add_parser("settle")
    add_common(settle, has_config=False)
    settle.set_defaults(handler=_settle)
    for verb, handler in (("start", _start), ("carry-out", _carry_out)):
        one = verbs.add_parser(verb)
        one.add_argument("id")
        one.add_argument("sls", nargs=argparse.ONE_OR_MORE)
        add_common(one, has_config=False)
        one.set_defaults(handler=handler)
    keep = verbs.add_parser("keep-media")
    keep.add_argument("name")
    keep.add_argument("file", type=Path)
    keep.add_argument("sums_sha256")
    add_common(keep, has_config=False)
    keep.set_defaults(handler=_keep_media)
    kept = verbs.add_parser("kept-media")
    kept.add_argument("names", nargs=argparse.ZERO_OR_MORE)
    add_common(kept, has_config=False)
    kept.set_defaults(handler=_kept_media)
    look = verbs.add_parser("look")
    look.add_argument("id")
    add_common(look, has_config=False)
    look.set_defaults(handler=_look)


def _settle(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    handle_signals()
    os.umask(0o022)
    paths.running_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S):
        leftovers.wait(paths.running_dir, progress=say)
        settled = settling.settle(paths, tree_dir, progress=say, detail=say)
    print(json.dumps(dataclasses.asdict(settled)))
    return 0


def _keep_media(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    handle_signals()
    os.umask(0o022)
    with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S):
        is_new = replica.keep(arguments.file, arguments.name, arguments.sums_sha256, paths, say=say)
    print(json.dumps(is_new))
    return 0


def _kept_media(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    """Say which ISOs are kept; with names, after all others were given up."""
    need_root()
    gone = []
    if arguments.names:
        with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S):
            gone = replica.forget_others(list(arguments.names), paths)
    kept = [dataclasses.asdict(one) for one in replica.kept(paths)]
    print(json.dumps({"kept": kept, "gone": gone}))
    return 0


def _start(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    print(json.dumps(detached.start(paths, arguments.id, arguments.sls)))
    return 0


def _carry_out(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    handle_signals()
    os.umask(0o022)
    detached.carry_out(paths, arguments.id, arguments.sls)
    return 0


def _look(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    print(json.dumps(detached.look(paths, arguments.id)))
    return 0
