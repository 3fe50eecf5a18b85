# SPDX-License-Identifier: Apache-2.0
"""A registry takes the place of an older one step by step, never of a newer one, and wherever a run is cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

STEPS = ("import", "removed", "down", "running")
OLD: dict[str, Any] = {
    "reference": "docker.io/library/registry:3.9.1",
    "digests": ["sha256:old", "sha256:i-old"],
    "built": 100,
}
NEW: dict[str, Any] = {
    "reference": "docker.io/library/registry:3.10.0",
    "digests": ["sha256:new", "sha256:i-new"],
    "built": 200,
}
AGAIN = {**NEW, "digests": ["sha256:again", "sha256:i-again"], "built": 300}


class Host:
    """A node with containerd, a kubelet and a port, as far as the states look; ``image`` is the media's."""

    def __init__(self, root: Path) -> None:
        self.manifests_dir, self.replaced_dir = root / "kubernetes/manifests", root / "state/replaced"
        self.configuration = root / "config.yml"
        self.configuration.write_text("of the first")
        self.source = root / "pod.yaml"
        self.images: dict[str, str] = {}
        self.asked = 0
        self.runs: dict[str, Any] = {}
        """The pod whose containers run."""
        self.log: list[str] = []
        self.module: Any = load("caisson_pod_image")
        self.state: Any = load("caisson_static_pod", STATES_DIR)
        self.image_state: Any = load("caisson_image", STATES_DIR)
        result: Any = load("caisson_result")
        functions = {
            "cp.get_template": lambda *_, **__: str(self.source),
            "caisson_result.ensure": result.ensure,
            "caisson_result.until": lambda probe, timeout_s, **_: result.until(
                probe, timeout_s, interval_s=0
            ),
            **{
                f"caisson_pod_image.{name}": getattr(self.module, name)
                for name in ("verdict", "recorded", "told")
            },
            "caisson_pod.static_sandboxes": self.sandboxes,
            "caisson_pod.running_containers": self.containers,
            "caisson_wait.probe_tcp": lambda *_: "" if self.runs else "refused",
            "caisson_image.present": lambda: {
                name: {"digest": digest, "pinned": True} for name, digest in self.images.items()
            },
            "caisson_image.import_all": self.import_all,
            "caisson_image.pin": lambda _: None,
        }
        for loaded in (self.module, self.state):
            loaded.__dict__.update(MANIFESTS_DIR=self.manifests_dir, REPLACED_DIR=self.replaced_dir)
        for loaded in (self.state, self.image_state):
            loaded.__dict__.update(__salt__=functions, __opts__={"test": False})

    @property
    def file(self) -> Path:
        return self.manifests_dir / "registry.yaml"

    def import_all(self, chosen: dict[str, str], _: str) -> None:
        self.images.update(chosen)
        self.log.append(f"imported {','.join(chosen.values())}")

    def kubelet(self) -> None:
        """Do what the kubelet does, a little later than it is asked for: a pod at a time, the old one first."""
        wanted = yaml.safe_load(self.file.read_text()) if self.file.is_file() else {}
        self.asked += 1
        if self.asked % 3 or self.runs == wanted:
            return
        if self.runs and (not wanted or self.runs["metadata"].get("uid") != wanted["metadata"].get("uid")):
            self.runs = {}
            self.log.append("down")
        elif wanted:
            self.log += [] if self.runs else [f"up {self.images[wanted['spec']['containers'][0]['image']]}"]
            self.runs = wanted

    def sandboxes(self, _: str) -> list[str]:
        self.kubelet()
        return ["id"] if self.runs else []

    def containers(self, _: str, digest: str | None) -> list[str]:
        self.kubelet()
        annotations = self.runs.get("metadata", {}).get("annotations", {})
        return ["registry"] if self.runs and annotations.get(self.state.DIGEST_ANNOTATION) == digest else []

    def step(self, name: str, image: dict[str, Any]) -> dict[str, Any]:
        """Apply one state of the phase with the media's image."""
        said: dict[str, Any]
        if name == "import":
            said = self.image_state.imported(
                name, {image["reference"]: image["digests"]}, "/oci", {"registry": image}, ["older"]
            )
        elif name == "removed":
            said = self.state.removed("registry", image)
        elif name == "down":
            said = self.state.down("registry", "127.0.0.1", 5000, 5)
        else:
            said = self.state.running("registry", "salt://x", [str(self.configuration)], 5, image)
        assert said["result"] is True, said
        return said

    def media(self, image: dict[str, Any]) -> None:
        """Take the media that has this image."""
        pod = {"kind": "Pod", "metadata": {"name": "registry"}}
        container = {"name": "registry", "image": image["reference"]}
        self.source.write_text(json.dumps({**pod, "spec": {"containers": [container]}}))

    def run(self, image: dict[str, Any], *, until: str = "running") -> dict[str, str]:
        """Run the phase, or what of it comes before it is killed; return what changed: step -> words."""
        self.media(image)
        changed = {}
        for name in STEPS[: STEPS.index(until) + 1]:
            said = self.step(name, image)
            if said["changes"]:
                changed[name] = said["comment"]
        return changed

    @property
    def is_running(self) -> tuple[str, str]:
        """Image and digest of what runs, which is what is in place."""
        assert self.runs == yaml.safe_load(self.file.read_text())
        annotations = self.runs["metadata"]["annotations"]
        return self.runs["spec"]["containers"][0]["image"], annotations[self.module.IMAGE_ANNOTATION]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a node on which the first media was installed."""
    made = Host(tmp_path)
    assert set(made.run(OLD)) == {"import", "running"}
    made.log.clear()
    return made


def test_a_newer_one_takes_the_place_step_by_step_and_then_all_is_quiet(host: Host) -> None:
    assert host.module.told("registry", NEW) == "registry: 3.9.1 is replaced by the media's 3.10.0"
    changed = host.run(NEW)
    assert tuple(changed) == STEPS
    assert host.log == ["imported sha256:new", "down", "up sha256:new"]
    assert changed["removed"] == "the manifest of static pod registry was removed"
    assert changed["down"].startswith("static pod registry was down after ")
    assert host.is_running == (NEW["reference"], "sha256:new")
    assert not list(host.replaced_dir.iterdir())
    host.log.clear()
    assert host.run(NEW) == {}
    assert host.log == []
    assert host.module.told("registry", NEW) == "registry: 3.10.0 is left as it is, the media has the same"


@pytest.mark.parametrize("killed_after", STEPS)
def test_a_run_that_is_killed_between_two_steps_ends_where_it_would_have(
    host: Host, killed_after: str
) -> None:
    host.run(NEW, until=killed_after)
    host.run(NEW)
    assert host.is_running == (NEW["reference"], "sha256:new")
    assert host.log == ["imported sha256:new", "down", "up sha256:new"]
    assert host.run(NEW) == {}


@pytest.mark.parametrize("killed_in", ["before the removal", "after the manifest"])
def test_a_kill_within_a_step_is_no_other(host: Host, killed_in: str) -> None:
    """Both manifests are there for a moment; which of them counts is the one in place."""
    old = host.file.read_text()
    if killed_in == "after the manifest":
        host.run(NEW)
    host.replaced_dir.mkdir(parents=True, exist_ok=True)
    (host.replaced_dir / "registry.yaml").write_text(old)
    host.run(NEW)
    assert host.is_running == (NEW["reference"], "sha256:new")
    assert not list(host.replaced_dir.iterdir())
    assert host.run(NEW) == {}


def test_an_older_one_is_left_on_the_media(host: Host) -> None:
    host.run(NEW)
    host.log.clear()
    before = host.file.read_text()
    # What an older media would write besides is not written either (registry.configured); nor does it count.
    host.configuration.write_text("of the older")
    assert host.run(OLD) == {}
    assert (host.file.read_text(), host.log) == (before, [])
    assert (
        host.module.told("registry", OLD) == "registry: 3.10.0 is left as it is, the media's 3.9.1 is older"
    )
    assert host.module.verdict("registry", OLD) == "older"


@pytest.mark.parametrize("killed_after", ["removed", "down"])
def test_of_a_run_that_was_killed_an_older_media_puts_back_what_ran(host: Host, killed_after: str) -> None:
    host.run(NEW)
    host.run(AGAIN, until=killed_after)
    assert not host.file.exists()
    host.run(OLD)
    assert host.is_running == (NEW["reference"], "sha256:new")
    assert not list(host.replaced_dir.iterdir())
    assert host.run(OLD) == {}


def test_the_same_version_of_a_later_build_is_newer_of_an_earlier_one_it_is_not(host: Host) -> None:
    host.run(NEW)
    host.log.clear()
    assert host.module.told("registry", AGAIN) == (
        "registry: an earlier build of 3.10.0 is replaced by the media's 3.10.0"
    )
    assert tuple(host.run(AGAIN)) == STEPS
    assert host.log == ["imported sha256:again", "down", "up sha256:again"]
    host.log.clear()
    # The name in containerd goes on to mean what runs: after a restart it is the same.
    assert host.run(NEW) == {}
    assert host.images[NEW["reference"]] == "sha256:again"
    assert host.module.told("registry", NEW) == (
        "registry: 3.10.0 is left as it is, the media has an earlier build of 3.10.0"
    )
    assert host.module.verdict("registry", {**NEW, "built": AGAIN["built"]}) == "older"


def test_a_later_media_with_the_same_image_is_noted_and_nothing_starts_again(host: Host) -> None:
    later = {**OLD, "built": 150}
    assert set(host.run(later)) == {"running"}
    assert host.log == []
    between = {**OLD, "digests": ["sha256:between"], "built": 120}
    assert host.module.verdict("registry", between) == "older"
    assert host.run(later) == {}


def test_what_is_placed_before_its_phase_is_the_first_and_no_newer_one(host: Host) -> None:
    host.media(NEW)
    said = host.state.placed("registry", "salt://x", [str(host.configuration)], NEW)
    assert (said["result"], said["changes"]) == (True, {})
    assert said["comment"] == "static pod registry is replaced later, in its own phase"
    # Nor is the manifest written while the old one goes down.
    host.run(NEW, until="removed")
    assert not host.state.placed("registry", "salt://x", [str(host.configuration)], NEW)["changes"]
    assert not host.file.exists()
    host.run(NEW)
    assert not host.state.placed("registry", "salt://x", [str(host.configuration)], NEW)["changes"]
    # An older media enters in the cluster what there is.
    (host.manifests_dir / "kube-apiserver.yaml").touch()
    host.media(OLD)
    assert host.state.placed("registry", "salt://x", [str(host.configuration)], OLD)["changes"]
    pod = yaml.safe_load(host.file.read_text())
    assert pod["spec"]["containers"][0]["image"] == NEW["reference"]
    assert host.state.ENTERED_ANNOTATION in pod["metadata"]["annotations"]


def test_the_first_images_leave_a_registry_of_another_version_alone(host: Host) -> None:
    images = {OLD["reference"]: OLD["digests"], "a:1": ["sha256:a"]}
    host.images[OLD["reference"]] = "sha256:other"
    for verdict, expected in (("newer", ["sha256:a"]), ("older", []), ("same", ["sha256:old"])):
        host.log.clear()
        host.image_state.__salt__["caisson_pod_image.verdict"] = lambda *_, said=verdict: said
        said = host.image_state.imported("x", images, "/oci", {"registry": OLD}, ["newer", "older"])
        assert said["result"] is True, said
        assert host.log == [f"imported {digest}" for digest in expected]


def test_what_does_not_go_down_is_named(host: Host) -> None:
    host.run(NEW, until="removed")
    host.state.__salt__["caisson_pod.static_sandboxes"] = lambda _: []
    said = host.state.down("registry", "127.0.0.1", 5000, 0)
    assert said["result"] is False
    assert said["comment"] == "still, after 0 s: 127.0.0.1:5000 is still listened on"
    host.state.__opts__["test"] = True
    assert host.state.down("registry", "127.0.0.1", 5000, 0)["result"] is None


@pytest.mark.parametrize("text", ["", "{", "- 1\n", "metadata: {}\nspec: {containers: []}\n"])
def test_a_torn_manifest_is_none(host: Host, text: str) -> None:
    host.file.write_text(text)
    assert host.module.verdict("registry", OLD) == "first"
    assert host.run(OLD)
    assert host.is_running == (OLD["reference"], "sha256:old")


def test_a_manifest_that_notes_nothing_is_compared_by_its_version(host: Host) -> None:
    """That it is the same image is not known, so it is replaced step by step, not by the kubelet out of sight."""
    pod = yaml.safe_load(host.file.read_text())
    del pod["metadata"]["annotations"]
    host.file.write_text(yaml.safe_dump(pod))
    assert host.module.verdict("registry", OLD) == "newer"
    assert host.module.verdict("registry", NEW) == "newer"
    assert host.module.verdict("registry", {**OLD, "reference": "registry:2.8.3"}) == "older"
    host.log.clear()
    assert {"removed", "down", "running"} <= set(host.run(OLD))
    assert host.run(OLD) == {}


@pytest.mark.parametrize(("digest", "verdict"), [("sha256:old", "same"), ("sha256:other", "newer")])
def test_a_digest_in_the_reference_counts_as_a_note(host: Host, digest: str, verdict: str) -> None:
    pod = yaml.safe_load(host.file.read_text())
    del pod["metadata"]["annotations"]
    pod["spec"]["containers"][0]["image"] = f"{OLD['reference']}@{digest}"
    host.file.write_text(yaml.safe_dump(pod))
    assert host.module.verdict("registry", OLD) == verdict


def test_what_it_reads_is_left_until_the_old_one_is_away(host: Host) -> None:
    assert not host.module.keeps("registry", OLD)
    assert host.module.keeps("registry", NEW)
    host.run(NEW, until="removed")
    assert not host.module.keeps("registry", NEW)
    host.run(NEW)
    assert not host.module.keeps("registry", NEW)
    assert host.module.keeps("registry", OLD)


def test_a_sandbox_of_a_static_pod_is_found_and_no_other() -> None:
    module: Any = load("caisson_pod")

    def sandbox(name: str, source: str) -> dict[str, Any]:
        return {
            "id": name,
            "metadata": {"name": name, "namespace": "kube-system"},
            "annotations": {module.SOURCE_ANNOTATION: source},
        }

    found = [sandbox("registry-node1", "file"), sandbox("registry-ui", "api"), sandbox("nginx-node1", "file")]
    answers = [{"retcode": 0, "stdout": json.dumps({"items": found}), "stderr": ""}]
    module.__dict__["__salt__"] = {"cmd.run_all": lambda *_, **__: answers[0]}
    assert module.static_sandboxes("registry") == ["registry-node1"]
    answers[0] = {"retcode": 1, "stdout": "", "stderr": "no containerd"}
    with pytest.raises(RuntimeError, match="no containerd"):
        module.static_sandboxes("registry")


def test_the_state_and_the_module_know_the_same_names() -> None:
    state, module = load("caisson_static_pod", STATES_DIR), load("caisson_pod_image")
    for name in ("MANIFESTS_DIR", "REPLACED_DIR", "IMAGE_ANNOTATION", "BUILT_ANNOTATION", "NEWER", "OLDER"):
        assert getattr(state, name) == getattr(module, name)
