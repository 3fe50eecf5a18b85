# SPDX-License-Identifier: Apache-2.0
"""What all commands share: options, who may run them, how they speak and how they are stopped."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from installer.base.errors import HostError

Arguments = argparse.Namespace


def add_common(parser: argparse.ArgumentParser, *, has_config: bool = True) -> None:
    """Add the options that all commands have."""
    if has_config:
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the configuration (default: /etc/caisson/bootstrap.yaml)",
        )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="show where in the program an error arose")


def print_lines(arguments: Arguments, lines: Sequence[str]) -> None:
    """Print a text, as it is or, with ``--json``, as a list of its lines."""
    print(json.dumps({"format": 1, "lines": list(lines)}, indent=1) if arguments.json else "\n".join(lines))


def say(line: str) -> None:
    """Tell people what goes on, beside what was asked for."""
    print(line, file=sys.stderr, flush=True)


def need_root() -> None:
    """Refuse anybody but root.

    Raises:
        HostError: it is another user.
    """
    if os.geteuid() != 0:
        raise HostError(
            "this must be run as root", details=f"user id {os.geteuid()}", resolution="run it with sudo"
        )


def handle_signals() -> None:
    """Stop cleanly on SIGTERM; go on when the terminal goes away, for the log goes on too."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001  the shape that signal wants
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
