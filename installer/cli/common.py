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
from typing import NoReturn

from installer.base.errors import ConfigError, HostError, UsageError
from installer.base.paths import Paths
from installer.checks import preflight
from installer.cli import explanations
from installer.config import bootstrap as config

Arguments = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """argparse that raises our error instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, resolution=f"see '{self.prog} --help'")


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


def config_file(arguments: Arguments, paths: Paths) -> Path:
    """Return the configuration that is meant: the one given, or the installed one."""
    given: Path | None = arguments.config
    return given if given is not None else paths.config_file


def refuse_unknown_ignores(loaded: config.Config) -> None:
    """Refuse codes that look like ours and are not: they would ignore nothing.

    Raises:
        ConfigError: there is one.
    """
    known = [check.id for check in explanations.ALL_CHECKS]
    unknown = [name for name in loaded.overrides.ignored if preflight.is_own_code(name) and name not in known]
    if unknown:
        raise ConfigError(
            f"overrides.ignorePreflights: there is no check {', '.join(unknown)}",
            details=f"checks: {', '.join(known)}",
            resolution="see 'bootstrap.sh check' for the codes; kubeadm's names do not begin with CSN",
        )


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
