# SPDX-License-Identifier: Apache-2.0
"""Put what somebody else needs to understand a fault into one archive, without secrets: ``caisson report``.

Every text goes through :mod:`installer.operations.redaction`; keys and Secrets are never read, nor manifests of the
site. Nothing is written but the archive; what cannot be had is named in it.
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Callable

from installer.base.errors import InstallerError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.session import only_looking
from installer.checks import readiness
from installer.media.product import Product
from installer.operations import containers, own_state, status
from installer.operations.asking import Question, wait
from installer.operations.cluster_state import SHARING_POD, STATIC_PODS
from installer.operations.redaction.documents import without_secrets_of_form

FILE_LIMIT_BYTES = 2 * 1024 * 1024
"""Of each file the last so many bytes are taken: the end of a log is what matters."""
COMMAND_LIMIT_S = 20.0
NO_LOG_FILE = Path("/dev/null")
"""What these commands say is in the archive; the log of commands would hold it a second time."""
CHECK_LIMIT_S = 60.0
FILES = (
    "etc/caisson/bootstrap.yaml",
    "etc/caisson/console/console.json",
    "etc/os-release",
    "etc/hosts",
    "etc/fstab",
    "etc/crictl.yaml",
    "etc/containerd/config.toml",
    "etc/containerd/certs.d/_default/hosts.toml",
    *(f"etc/kubernetes/manifests/{name}.yaml" for name in (*STATIC_PODS, SHARING_POD)),
    "etc/caisson/keepalived/*",
    "etc/firewalld/policies/caisson-*.xml",
    "etc/firewalld/zones/caisson-*.xml",
    "etc/systemd/system/srv-caisson-*.mount",
    "etc/systemd/system/kubelet.service.d/*.conf",
    "proc/mounts",
    "proc/meminfo",
    "proc/loadavg",
    "var/lib/caisson/installed.json",
    "var/lib/caisson/journal.jsonl",
    "var/lib/caisson/detached/*/result.json",
    *(
        f"var/lib/caisson/jobs/*/{name}"
        for name in ("job.json", "journal.jsonl", "output.log", "result.json", "hosts.json")
    ),
    "var/lib/kubelet/config.yaml",
    "var/log/caisson/*.log",
    "var/log/caisson/*.log.1",
    "var/log/caisson/dnf/*.log",
)
_KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=10s")
COMMANDS: Mapping[str, Sequence[str]] = {
    "addresses": ("ip", "-brief", "address"),
    "routes": ("ip", "route", "show", "table", "all"),
    "disks": ("df", "--human-readable", "--print-type"),
    "inodes": ("df", "--inodes"),
    "blocks": ("lsblk", "--fs"),
    "kernel": ("uname", "--all"),
    "kernel-log": ("dmesg", "--ctime"),
    "clock": ("timedatectl",),
    "packages": ("rpm", "--query", "--all"),
    "failed-units": ("systemctl", "list-units", "--failed", "--no-pager"),
    "containers": ("crictl", "ps", "--all"),
    "images": ("crictl", "images", "--digests"),
    "listeners": ("ss", "--listening", "--numeric", "--tcp", "--udp", "--processes"),
    "nodes": (*_KUBECTL, "describe", "nodes"),
    "pods": (*_KUBECTL, "get", "pods", "--all-namespaces", "--output=wide"),
    "events": (*_KUBECTL, "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    **{
        f"journal-{unit}": (
            "journalctl",
            f"--unit={unit}",
            "--lines=3000",
            "--no-pager",
            "--output=short-iso",
        )
        for unit in ("containerd", "kubelet", "salt-minion", "firewalld", "caisson-console")
    },
}


def make_archive(
    product: Product,
    paths: Paths,
    tree_dir: Path,
    archive: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Sequence[str]:
    """Write the archive, mode 0600, and return the names in it; ``progress`` is told what is waited for.

    Raises:
        OSError: it cannot be written.
    """
    progress(f"asking the host, its services and the cluster; each at most {CHECK_LIMIT_S:g} s")
    with only_looking():
        taken = _commands(paths, product, tree_dir, progress)
    taken.update(_files(paths))
    content = io.BytesIO()
    top = archive.name.partition(".tar")[0]
    with tarfile.open(fileobj=content, mode="w:gz") as writer:
        for name, text in sorted(taken.items()):
            data = without_secrets_of_form(text, PurePath(name).suffix).encode("utf-8", errors="replace")
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            writer.addfile(entry, io.BytesIO(data))
    write_file(archive, content.getvalue(), mode=0o600)
    return sorted(taken)


def default_name(node: str) -> str:
    """Return the name of an archive that is made now."""
    return f"caisson-report-{node}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.tar.gz"


def _files(paths: Paths) -> dict[str, str]:
    root = paths.at("/")
    found = {}
    for pattern in FILES:
        for file in sorted(root.glob(pattern)):
            if file.is_file() and not file.is_symlink():
                found[f"files/{file.relative_to(root)}"] = _tail(file)
    return found


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as source:
            # What /proc holds has no size and cannot be read from its end.
            source.seek(max(0, file.stat().st_size - FILE_LIMIT_BYTES))
            return source.read(FILE_LIMIT_BYTES).decode("utf-8", errors="replace")
    except OSError as exc:
        return f"(cannot be read: {exc})\n"


def _commands(
    paths: Paths, product: Product, tree_dir: Path, progress: Callable[[str], None]
) -> dict[str, str]:
    """Return what commands say, all of them asked side by side."""
    asked = {
        f"commands/{name}.txt": Question(name, partial(_said, words), limit_s=2 * COMMAND_LIMIT_S)
        for name, words in COMMANDS.items()
    }
    for name in (*STATIC_PODS, SHARING_POD):
        listed = f"crictl ps -aq {shlex.join(containers.selection(name))}"
        script = f'for id in $({listed}); do crictl logs --tail 2000 "$id" 2>&1; done'
        words = ("bash", "-c", script)
        asked[f"commands/log-{name}.txt"] = Question(
            f"log-{name}", partial(_said, words), limit_s=2 * COMMAND_LIMIT_S
        )
    asked["status.json"] = Question(
        "status", partial(_status, product, paths, tree_dir), limit_s=CHECK_LIMIT_S
    )
    asked["check.json"] = Question("check", partial(_check, paths, tree_dir), limit_s=CHECK_LIMIT_S)
    wait(list(asked.values()), progress)
    return {name: question.answer("(no answer in time)\n", []) for name, question in asked.items()}


def _said(words: Sequence[str]) -> str:
    try:
        done = run(words, timeout_s=COMMAND_LIMIT_S, check=False, log_file=NO_LOG_FILE)
    except InstallerError as exc:
        return f"{exc}\n"
    return (done.stdout + done.stderr)[-FILE_LIMIT_BYTES:]


def _status(product: Product, paths: Paths, tree_dir: Path) -> str:
    found: status.State | own_state.OwnState
    if own_state.is_further_node(paths):
        found = own_state.gather(paths, tree_dir=tree_dir)
    else:
        found = status.gather_state(product, paths, tree_dir=tree_dir)
    return json.dumps(found.to_json(product), indent=1) + "\n"


def _check(paths: Paths, tree_dir: Path) -> str:
    """Return what the checks say that only look: an archive changes nothing, and tries nothing."""
    file = paths.config_file if paths.config_file.is_file() else None
    try:
        return (
            json.dumps(readiness.assess(tree_dir, file, paths=paths, with_trials=False).to_json(), indent=1)
            + "\n"
        )
    except InstallerError as exc:
        return f"{exc}\n"
