# SPDX-License-Identifier: Apache-2.0
"""containerd's own opinion of its configuration, with the site's overrides, before it is started with them."""

from __future__ import annotations

import re
import subprocess

CONFIGURATION_FILE = "/etc/containerd/config.toml"
TIMEOUT_S = 60.0
# Warnings of containerd 2.3 about a text that says something else than its author meant.
UNKNOWN_KEY = re.compile(
    r'msg="Ignoring unknown key in TOML for plugin".*?key=(?P<key>\S+).*?plugin=(?P<plugin>\S+)'
)
NO_VERSION = "Configuration migrated from version 0"


def check(configuration_file: str = CONFIGURATION_FILE) -> None:
    """Let containerd read its whole configuration and start nothing. Raises RuntimeError with what is wrong in it."""
    command = ["containerd", "--config", configuration_file, "config", "dump"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command)}: no answer after {TIMEOUT_S:g} s") from error
    faults = faults_of(done.returncode, done.stderr)
    if faults:
        raise RuntimeError(
            "containerd cannot use its configuration; it was not restarted. Correct overrides.containerd in "
            "bootstrap.yaml and run this again:\n" + "\n".join(faults)
        )


def faults_of(returncode: int, stderr: str) -> list[str]:
    """Return what is wrong, from what ``containerd config dump`` says on stderr.

    >>> faults_of(0, 'level=warning msg="Ignoring unknown key in TOML for plugin" error="x" key=a plugin=io.b')
    ["there is no setting 'a' of the plugin io.b"]
    """
    faults = [
        f"there is no setting {match['key']!r} of the plugin {match['plugin']}"
        for match in UNKNOWN_KEY.finditer(stderr)
    ]
    if NO_VERSION in stderr:
        faults.append(
            "a text has no 'version = 3' in its first line: containerd takes its keys for those of version 1"
        )
    if returncode != 0:
        said = [line for line in stderr.strip().splitlines() if "level=warning" not in line]
        faults += said[-5:] or [f"containerd config dump: exit code {returncode}"]
    return faults
