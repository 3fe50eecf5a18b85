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
# As caisson_pod_image has them; a test compares.
REPLACED_DIR = Path("/var/lib/caisson/replaced")
IMAGE_ANNOTATION = "caisson.io/image-digest"
BUILT_ANNOTATION = "caisson.io/image-built"
NEWER, OLDER = "newer", "older"
Image = dict[str, Any]


def placed(
    name: str, source: str, configuration_files: list[str] | None = None, image: Image | None = None
) -> dict[str, Any]:
    """Make sure that the manifest of a static pod is in place, as for ``running``, and do not wait for the pod.

    Where the media's image is newer, that is left to the phase that replaces the pod.
    """
    pod: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        if _verdict(name, image) == NEWER:
            return {}, f"static pod {name} is replaced later, in its own phase"
        pod.update(_wanted(name, source, configuration_files or [], image))
        return _missing(name, pod), f"static pod {name} is in place"

    def act() -> str:
        _put(name, pod)
        return f"static pod {name} was put in place"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def compared(name: str, image: Image) -> dict[str, Any]:
    """Say in one line what the media's image is beside the one that the pod runs; this changes nothing."""

    def look() -> tuple[dict[str, Any], str]:
        return {}, str(__salt__["caisson_pod_image.told"](name, image))

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, test=__opts__["test"])
    return said


def removed(name: str, image: Image) -> dict[str, Any]:
    """Take the manifest of a static pod away where the media's image is newer; it is kept beside until then."""
    file = MANIFESTS_DIR / f"{name}.yaml"

    def look() -> tuple[dict[str, Any], str]:
        if _verdict(name, image) != NEWER:
            return {}, f"static pod {name} is not replaced"
        if not file.is_file():
            return {}, f"the manifest of static pod {name} is away"
        return {str(file): "removed"}, f"would remove {file}"

    def act() -> str:
        _write(REPLACED_DIR, f"{name}.yaml", file.read_text())
        file.unlink()
        _sync(MANIFESTS_DIR)
        return f"the manifest of static pod {name} was removed"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def down(name: str, host: str, port: int, timeout_s: int = 120) -> dict[str, Any]:
    """Wait until a static pod of which the manifest was taken away is down, and nobody listens on its port.

    Another pod of that name would be kept waiting by the kubelet, and find the port taken.
    """

    def probe() -> str:
        if __salt__["caisson_pod.static_sandboxes"](name):
            return f"static pod {name} still runs"
        if not __salt__["caisson_wait.probe_tcp"](host, port):
            return f"{host}:{port} is still listened on"
        return ""

    def look() -> tuple[dict[str, Any], str]:
        if (MANIFESTS_DIR / f"{name}.yaml").is_file() or not (REPLACED_DIR / f"{name}.yaml").is_file():
            return {}, f"static pod {name} is not replaced"
        return {name: "down"}, f"would wait until static pod {name} is down"

    def act() -> str:
        waited = __salt__["caisson_result.until"](probe, timeout_s)
        return f"static pod {name} was down after {waited:.1f} s"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def running(
    name: str,
    source: str,
    configuration_files: list[str] | None = None,
    timeout_s: int = 120,
    image: Image | None = None,
) -> dict[str, Any]:
    """Make sure that the static pod of the manifest ``source`` (a salt:// URL, Jinja) runs.

    ``name`` is the pod's name without the node's suffix. Done when every container of the pod is running with the
    annotation that this manifest has; the pod's own service is waited for by ``caisson_wait``. Where the media's
    ``image`` is older, the manifest that there is stays, or is put back.
    """
    pod: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        pod.update(_wanted(name, source, configuration_files or [], image))
        missing = _missing(name, pod)
        if missing:
            return missing, f"would write {', '.join(missing)}"
        return {}, f"static pod {name} is in place" if __opts__["test"] else _run(pod, timeout_s)

    def act() -> str:
        _put(name, pod)
        return _run(pod, timeout_s)

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def _verdict(name: str, image: Image | None) -> str:
    return "" if image is None else str(__salt__["caisson_pod_image.verdict"](name, image))


def _wanted(name: str, source: str, configuration_files: list[str], image: Image | None) -> dict[str, Any]:
    """Return the pod that is to be in place: the media's, or, where that is older, the one that there is."""
    if _verdict(name, image) != OLDER:
        return _pod(source, configuration_files, image)
    pod: dict[str, Any] = __salt__["caisson_pod_image.recorded"](name)["pod"]
    _enter(pod)
    return pod


def _pod(source: str, configuration_files: list[str], image: Image | None) -> dict[str, Any]:
    """Return the pod, with the digest of all that it depends on; entered, where there is an API server."""
    rendered = __salt__["cp.get_template"](source, "", template="jinja") or ""
    if not rendered:
        raise RuntimeError(f"{source} is not on the file server")
    pod: dict[str, Any] = yaml.safe_load(Path(rendered).read_text())
    annotations = pod["metadata"].setdefault("annotations", {})
    if image is not None:
        annotations[IMAGE_ANNOTATION] = image["digests"][0]
    digest = hashlib.sha256()
    for path in sorted(configuration_files):
        digest.update(path.encode() + b"\0")
        if os.path.exists(path):
            digest.update(Path(path).read_bytes())
    digest.update(json.dumps(pod, sort_keys=True).encode())
    pod["metadata"]["uid"] = digest.hexdigest()[:UID_LENGTH]
    annotations[DIGEST_ANNOTATION] = digest.hexdigest()
    if image is not None:
        # Not in the digest: that another media has the same image is no reason to start the pod again.
        annotations[BUILT_ANNOTATION] = str(image["built"])
    _enter(pod)
    return pod


def _enter(pod: dict[str, Any]) -> None:
    """Let the kubelet look at the pod once more where there is an API server."""
    if (MANIFESTS_DIR / API_SERVER_FILE).exists():
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[ENTERED_ANNOTATION] = "with the API server"


def _missing(name: str, pod: dict[str, Any]) -> dict[str, str]:
    """Return what would change: the manifest is not there, or another one; one that was taken away is still kept."""
    file, kept = MANIFESTS_DIR / f"{name}.yaml", REPLACED_DIR / f"{name}.yaml"
    missing = {} if _is_there(file, pod) else {str(file): "written"}
    return {**missing, str(kept): "removed"} if kept.is_file() else missing


def _is_there(file: Path, pod: dict[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(file.read_text()) == pod)
    except (OSError, ValueError, yaml.YAMLError):
        return False


def _put(name: str, pod: dict[str, Any]) -> None:
    """Put a manifest in place where it is not there; then the one that it replaces is forgotten."""
    if not _is_there(MANIFESTS_DIR / f"{name}.yaml", pod):
        _write(MANIFESTS_DIR, f"{name}.yaml", _text(pod))
    if (REPLACED_DIR / f"{name}.yaml").is_file():
        _sync(MANIFESTS_DIR)
        (REPLACED_DIR / f"{name}.yaml").unlink()


def _text(pod: dict[str, Any]) -> str:
    return yaml.safe_dump(pod, sort_keys=True)


def _write(directory: Path, file_name: str, text: str) -> None:
    """Write a manifest. The kubelet reads every file of its directory: write beside it, then rename."""
    temporary = directory.parent / f".{file_name}.tmp"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with temporary.open("w") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(directory / file_name)
    _sync(directory)


def _sync(directory: Path) -> None:
    """Let names in a directory outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run(pod: dict[str, Any], timeout_s: int) -> str:
    """Wait until all containers of the pod run, and say so. Raises RuntimeError with the pod's last words."""
    name = pod["metadata"]["name"]
    digest = (pod["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION)
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
