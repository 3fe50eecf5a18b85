# SPDX-License-Identifier: Apache-2.0
"""State: a static pod's manifest is in place and its containers run with the present configuration.

The kubelet restarts a static pod when its manifest changes, not when a file changes that the pod mounts. So the
manifest carries a digest of those files: a changed configuration is a changed manifest.

The digest is the pod's uid too. The kubelet would make one of the whole manifest: with a uid of its own a manifest may
get an annotation that the kubelet takes over without starting the pod again. One is needed where the pod ran before
there was an API server: the kubelet enters it there (as a mirror pod) when it looks at the pod for some reason, or
after a minute or more. Source: Kubernetes 1.36, pkg/kubelet/config, applyDefaults and podsDifferSemantically.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

MANIFESTS_DIR = Path("/etc/kubernetes/manifests")
DIGEST_ANNOTATION = "caisson.io/configuration-sha256"
ENTERED_ANNOTATION = "caisson.io/entered"
API_SERVER_FILE = "kube-apiserver.yaml"
UID_LENGTH = 32


def placed(name: str, source: str, configuration_files: list[str] | None = None) -> dict[str, Any]:
    """Make sure that the manifest of a static pod is in place, as for ``running``, and do not wait for the pod."""
    pod: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        pod.update(_pod(source, configuration_files or []))
        return _missing(name, pod), f"static pod {name} is in place"

    def act() -> str:
        _write(f"{name}.yaml", _text(pod))
        return f"static pod {name} was put in place"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def running(
    name: str, source: str, configuration_files: list[str] | None = None, timeout_s: int = 120
) -> dict[str, Any]:
    """Make sure that the static pod of the manifest ``source`` (a salt:// URL, Jinja) runs.

    ``name`` is the pod's name without the node's suffix. Done when every container of the pod is running with the
    annotation that this manifest has; the pod's own service is waited for by ``caisson_wait``.
    """
    pod: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        pod.update(_pod(source, configuration_files or []))
        missing = _missing(name, pod)
        if missing:
            return missing, f"would write {', '.join(missing)}"
        return {}, f"static pod {name} is in place" if __opts__["test"] else _run(pod, timeout_s)

    def act() -> str:
        _write(f"{name}.yaml", _text(pod))
        return _run(pod, timeout_s)

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def _pod(source: str, configuration_files: list[str]) -> dict[str, Any]:
    """Return the pod, with the digest of all that it depends on; entered, where there is an API server."""
    rendered = __salt__["cp.get_template"](source, "", template="jinja") or ""
    if not rendered:
        raise RuntimeError(f"{source} is not on the file server")
    pod: dict[str, Any] = yaml.safe_load(Path(rendered).read_text())
    digest = hashlib.sha256()
    for path in sorted(configuration_files):
        digest.update(path.encode() + b"\0")
        if os.path.exists(path):
            digest.update(Path(path).read_bytes())
    digest.update(json.dumps(pod, sort_keys=True).encode())
    pod["metadata"]["uid"] = digest.hexdigest()[:UID_LENGTH]
    annotations = pod["metadata"].setdefault("annotations", {})
    annotations[DIGEST_ANNOTATION] = digest.hexdigest()
    if (MANIFESTS_DIR / API_SERVER_FILE).exists():
        annotations[ENTERED_ANNOTATION] = "with the API server"
    return pod


def _missing(name: str, pod: dict[str, Any]) -> dict[str, str]:
    """Return what would change: the manifest is not there, or another one."""
    file = MANIFESTS_DIR / f"{name}.yaml"
    return {} if file.is_file() and file.read_text() == _text(pod) else {str(file): "written"}


def _text(pod: dict[str, Any]) -> str:
    return yaml.safe_dump(pod, sort_keys=True)


def _write(file_name: str, text: str) -> None:
    """Write a manifest. The kubelet reads every file of its directory: write beside it, then rename."""
    temporary = MANIFESTS_DIR.parent / f".{file_name}.tmp"
    MANIFESTS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    with temporary.open("w") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(MANIFESTS_DIR / file_name)


def _run(pod: dict[str, Any], timeout_s: int) -> str:
    """Wait until all containers of the pod run, and say so. Raises RuntimeError with the pod's last words."""
    name, digest = pod["metadata"]["name"], pod["metadata"]["annotations"][DIGEST_ANNOTATION]
    containers = {container["name"] for container in pod["spec"]["containers"]}

    def probe() -> str:
        missing = containers - set(__salt__["caisson_pod.running_containers"](name, digest))
        return f"the containers of static pod {name}: {', '.join(sorted(missing))}" if missing else ""

    try:
        __salt__["caisson_result.until"](probe, timeout_s, interval_s=0.5)
    except RuntimeError as error:
        why = __salt__["caisson_pod.explain"](name)
        raise RuntimeError(f"static pod {name} does not run: {error}\n{why}") from error
    return f"static pod {name} runs"
