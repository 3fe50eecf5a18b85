# SPDX-License-Identifier: Apache-2.0
"""The closed world: what anything in the bundle names is in the bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from build import closedworld
from build.errors import ClosedWorldError, IntegrityError
from build.model import Lock
from tests.unit.build.factory import World, inventory_of, make_project, make_world, write_sources


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def check(world: World, lock: Lock, root: Path) -> Path:
    changed = dataclasses.replace(world, lock=lock, inventory=inventory_of(lock))
    project = make_project(dataclasses.replace(changed, lock=dataclasses.replace(lock, composed=())), root)
    for step in list(project.plan_images())[:-1]:
        step.run()
    next(iter(project.plan_iso())).run()
    return closedworld.report_file(project.workspace)


def test_every_reference_is_proved(world: World, tmp_path: Path) -> None:
    write_sources(tmp_path)
    proof = json.loads(check(world, world.lock, tmp_path).read_text())
    assert proof["docker.io/library/nginx:1.30"] == {
        "digest": str(world.lock.image("nginx").digest),
        "wanted_by": ["cni.yaml: DaemonSet node"],
    }
    assert proof["registry.k8s.io/pause:3.10.2"]["wanted_by"] == ["kubeadm 1.36.4"]
    assert len(proof) == 8


def test_what_is_missing_is_named_with_who_wants_it(world: World, tmp_path: Path) -> None:
    images = tuple(image for image in world.lock.images if image.id not in ("pause", "nginx"))
    with pytest.raises(ClosedWorldError) as caught:
        check(world, dataclasses.replace(world.lock, images=images), tmp_path)
    assert caught.value.message == "2 images named in the bundle are not in it"
    assert caught.value.details.splitlines() == [
        "docker.io/library/nginx:1.30, wanted by cni.yaml: DaemonSet node",
        "registry.k8s.io/pause:3.10.2, wanted by kubeadm 1.36.4",
    ]


def test_an_unknown_minor_release_is_refused() -> None:
    with pytest.raises(ClosedWorldError, match=r"kubeadm 1\.99\.0"):
        list(closedworld.kubeadm_images("1.99.0"))


def test_images_are_found_wherever_they_stand() -> None:
    manifest = b"""
kind: Deployment
metadata: {name: one}
spec:
  template:
    spec:
      initContainers: [{image: "quay.io/a:1"}]
      containers: [{image: busybox}, {name: no image}]
---
kind: CustomResourceDefinition
metadata: {name: two}
spec: {properties: {image: {type: string}}}
---
- image: localhost/c@sha256:00
"""
    wanted = list(closedworld.manifest_images(manifest, "m.yaml"))
    assert [(want.reference, want.by) for want in wanted] == [
        ("quay.io/a:1", "m.yaml: Deployment one"),
        ("docker.io/library/busybox:latest", "m.yaml: Deployment one"),
        ("localhost/c@sha256:00", "m.yaml: a document without a name"),
    ]


def test_a_manifest_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(IntegrityError, match="is not YAML"):
        list(closedworld.manifest_images(b"a: [", "m.yaml"))


def test_a_digest_is_found_below_an_index() -> None:
    assert closedworld.find_image("a/b@sha256:1", {}, {"sha256:1"}) == "sha256:1"
    assert closedworld.find_image("a/b@sha256:2", {}, {"sha256:1"}) is None
    assert closedworld.find_image("a/b:1", {"a/b:1": "sha256:3"}, set()) == "sha256:3"
