# SPDX-License-Identifier: Apache-2.0
"""Look at one host as the work of a job, for whoever is about to add it in a browser; nothing is changed there.

As long as nobody has confirmed a key of the host, its keys are shown and it is sent nothing. With a confirmed one
somebody logs in, and what 'caisson node check' finds is written down, with who the host says it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from installer.base.errors import InstallerError
from installer.base.files import write_file
from installer.base.terminal import Told
from installer.base.ui import printable
from installer.config import bootstrap as config
from installer.config import nodes
from installer.config.nodes import NodeEntry
from installer.engine import hostkeys, jobkeys
from installer.engine.jobrun import Task
from installer.engine.ssh import Connection
from installer.operations import cluster_state, probe

NAME = "probe"
FILE_NAME = "probe.json"
FORMAT = 1
TEXT_LENGTH = 200
ASK_LIMIT_S = 30.0
WORDS = {
    "hostname": ("uname", "-n"),
    "kernel": ("uname", "-r"),
    "machine_id": ("cat", "/etc/machine-id"),
    "os": ("/bin/sh", "-c", '. /etc/os-release; printf "%s" "$PRETTY_NAME"'),
}


def work(task: Task) -> str:
    """Look at the host that the job names; return what to say of it in one line.

    Raises:
        InstallerError: it cannot be reached, shows another key, or lets nobody in.
    """
    said = nodes.from_data([task.job.arguments["host"]])
    with jobkeys.applied(task.paths, task.job.id, task.secrets, said) as (entries, secrets):
        (entry,) = entries
        there = hostkeys.known(task.paths.known_hosts_file, entry)
        if not entry.host_key and there is None:
            return _show_keys(task, entry)
        return _look(task, entry, secrets)


def _show_keys(task: Task, entry: NodeEntry) -> str:
    task.ui.phase("keys", f"ask {entry.title} for its keys; nobody logs in")
    try:
        keys = hostkeys.scan(entry)
    except BaseException:
        task.ui.phase_end("FAILED")
        raise
    task.ui.phase_end(f"{len(keys)} keys")
    shown = [{"kind": key.kind, "fingerprint": key.fingerprint} for key in keys]
    _write(task, {"keys": shown, "confirmed": "", "host": None, "look": None})
    return f"{entry.title} shows {keys[0].title}: compare it on that host's own console"


def _look(task: Task, entry: NodeEntry, secrets: Mapping[str, str]) -> str:
    loaded = config.load(task.paths.config_file)
    members = cluster_state.get_members(task.paths.admin_kubeconfig_file)
    material = probe.gather_material(task.tree_dir, loaded, members)
    task.ui.phase("look", f"log in to {entry.title} and look at it; nothing is changed there")
    try:
        with probe.connections([entry], paths=task.paths, terminal=Told(secrets)) as connected:
            about = _about(_there(connected[entry.title]))
            found = probe.probe([entry], connected, material, say=task.ui.progress, paths=task.paths)
    except BaseException:
        task.ui.phase_end("FAILED")
        raise
    task.ui.phase_end("looked; nothing was changed there")
    task.ui.table(found.table())
    key = hostkeys.known(task.paths.known_hosts_file, entry)
    shown = [] if key is None else [{"kind": key.kind, "fingerprint": key.fingerprint}]
    facts = found.facts.get(entry.title)
    _write(
        task,
        {
            "keys": shown,
            "confirmed": shown[0]["fingerprint"] if shown else "",
            "host": {**about, "facts": None if facts is None else dict(facts)},
            "look": found.to_json(),
        },
    )
    is_fit = found.is_fit(entry.title)
    return f"{entry.title}: {'fit' if is_fit else 'not fit'} to become a {entry.role.value.replace('-', ' ')}"


def _there(found: Connection | InstallerError) -> Connection:
    if isinstance(found, InstallerError):
        raise found
    return found


def _about(host: Connection) -> dict[str, str]:
    """Return who a host says it is; what it does not say is empty."""
    found = {}
    for name, words in WORDS.items():
        said = host.run(list(words), timeout_s=ASK_LIMIT_S, check=False)
        found[name] = printable(said.stdout.strip())[:TEXT_LENGTH] if said.returncode == 0 else ""
    return found


def _write(task: Task, found: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **found}, indent=1) + "\n"
    write_file(task.job.directory / FILE_NAME, text, mode=0o600)
