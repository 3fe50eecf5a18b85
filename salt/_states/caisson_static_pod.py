# SPDX-License-Identifier: Apache-2.0
"""State: a static pod's manifest is in place and its containers run with the present configuration.

The kubelet restarts a static pod when its manifest changes, not when a file changes that the pod mounts. So the
manifest carries a digest of those files: a changed configuration is a changed manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

MANIFESTS_DIR = Path("/etc/kubernetes/manifests")
DIGEST_ANNOTATION = "caisson.io/configuration-sha256"


def running(
    name: str, source: str, configuration_files: list[str] | None = None, timeout_s: int = 120
) -> dict[str, Any]:
    """Make sure that the static pod of the manifest ``source`` (a salt:// URL, Jinja) runs.

    ``name`` is the pod's name without the node's suffix. Done when every container of the pod is running with the
    annotation that this manifest has; the pod's own service is waited for by ``caisson_wait``.
    """
    text = __salt__["cp.get_template"](source, "", template="jinja") or ""
    if not text:
        return {
            "name": name,
            "result": False,
            "changes": {},
            "comment": f"{source} is not on the file server",
        }
    pod = yaml.safe_load(Path(text).read_text())
    digest = hashlib.sha256()
    for path in sorted(configuration_files or []):
        digest.update(path.encode() + b"\0")
        if os.path.exists(path):
            digest.update(Path(path).read_bytes())
    digest.update(json.dumps(pod, sort_keys=True).encode())
    pod["metadata"].setdefault("annotations", {})[DIGEST_ANNOTATION] = digest.hexdigest()
    wanted = yaml.safe_dump(pod, sort_keys=True)
    manifest_file = MANIFESTS_DIR / f"{name}.yaml"
    changed = not manifest_file.is_file() or manifest_file.read_text() != wanted
    changes = {str(manifest_file): "written"} if changed else {}
    if __opts__["test"]:
        comment = f"would write {manifest_file}" if changed else f"static pod {name} is in place"
        return {"name": name, "result": None if changed else True, "changes": changes, "comment": comment}
    if changed:
        # The kubelet reads every file of its directory: write beside it, then rename.
        temporary = Path("/etc/kubernetes") / f".{name}.yaml.tmp"
        temporary.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        MANIFESTS_DIR.mkdir(mode=0o755, exist_ok=True)
        temporary.write_text(wanted)
        temporary.chmod(0o600)
        temporary.rename(manifest_file)
    containers = {container["name"] for container in pod["spec"]["containers"]}
    deadline = time.monotonic() + timeout_s
    while True:
        seen = __salt__["caisson_pod.running_containers"](pod["metadata"]["name"], digest.hexdigest())
        if containers <= set(seen):
            return {"name": name, "result": True, "changes": changes, "comment": f"static pod {name} runs"}
        if time.monotonic() > deadline:
            why = __salt__["caisson_pod.explain"](pod["metadata"]["name"])
            comment = f"static pod {name} does not run after {timeout_s} s; missing: {containers - set(seen)}\n{why}"
            return {"name": name, "result": False, "changes": changes, "comment": comment}
        log.info("caisson waits: the containers of static pod %s", name)
        time.sleep(0.5)
