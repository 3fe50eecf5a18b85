# SPDX-License-Identifier: Apache-2.0
"""The closed world: what anything in the bundle names is in the bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from build.base.errors import ClosedWorldError, IntegrityError
from build.evidence import closedworld
from build.inventory.model import Digest, Lock, LockedBaseline
from tests.unit.build.factory import (
    Member,
    World,
    inventory_of,
    make_project,
    make_world,
    write_sources,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def check(world: World, lock: Lock, root: Path) -> Path:
    """Run what comes before the check, without composed images, and the check."""
    lock = dataclasses.replace(lock, composed=())
    changed = dataclasses.replace(world, lock=lock, inventory=inventory_of(lock))
    project = make_project(changed, root)
    for step in (*project.plan_rpms(), *list(project.plan_images())[:-1], *project.plan_salt()):
        step.run()
    next(iter(project.plan_iso())).run()
    return closedworld.report_file(project.workspace)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sources(tmp_path / "checkout")


def faults_of(world: World, lock: Lock, root: Path) -> list[str]:
    with pytest.raises(ClosedWorldError) as caught:
        check(world, lock, root)
    return caught.value.details.splitlines()


def test_every_reference_is_proved(world: World, root: Path) -> None:
    proof = json.loads(check(world, world.lock, root).read_text())
    assert proof["docker.io/library/nginx:1.30"] == {
        "digest": str(world.lock.image("nginx").digest),
        "wanted_by": ["cni.yaml: DaemonSet node"],
    }
    assert proof["registry.k8s.io/pause:3.10.2"]["wanted_by"] == ["kubeadm 1.36.4"]
    assert len(proof) == 8


def without(lock: Lock, *image_ids: str) -> Lock:
    return dataclasses.replace(
        lock, images=tuple(image for image in lock.images if image.id not in image_ids)
    )


def test_what_is_missing_is_named_with_who_wants_it(world: World, root: Path) -> None:
    """A manifest, kubeadm, the configuration of containerd, a static pod."""
    for path, text in {
        "containerd/configured.sls": "x: {{ pillar['caisson']['images']['pause']['reference'] }}\n",
        "nginx/files/pod.yaml.j2": "{% set images = pillar.images %}\nimage: {{ images.nginx.reference }}\n",
        "other/init.sls": "# quay.io/in/a:comment\nimage: quay.io/site/tool:1.0\n",
    }.items():
        (root / "salt" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "salt" / path).write_text(text)
    assert faults_of(world, without(world.lock, "pause", "nginx"), root) == [
        "image docker.io/library/nginx:1.30, wanted by cni.yaml: DaemonSet node",
        "the image of id 'nginx', wanted by salt/nginx/files/pod.yaml.j2:2",
        "the image of id 'pause', wanted by salt/containerd/configured.sls:1",
        "image quay.io/site/tool:1.0, wanted by salt/other/init.sls:2",
        "image registry.k8s.io/pause:3.10.2, wanted by kubeadm 1.36.4",
    ]


def test_a_template_that_cannot_be_read_is_named(world: World, root: Path) -> None:
    (root / "salt/calico/init.sls").write_text("{% if %}")
    with pytest.raises(ClosedWorldError, match=r"'salt/calico/init\.sls' cannot be searched"):
        check(world, world.lock, root)


def baseline(*provides: str, name: str = "el9") -> LockedBaseline:
    return LockedBaseline(
        id=name, release="9.6", repositories=("baseos",), group="core", package_count=1,
        digest=Digest.of_bytes(b"baseline"), provides=provides,
    )  # fmt: skip


def test_a_missing_dependency_is_named_with_who_wants_it(world: World, root: Path) -> None:
    """On the baselines that do not have it; what another package of the bundle provides is there."""
    package = world.pot.package(
        "tool", requires=["/bin/sh", "kubelet", "libabsent.so.1()(64bit)", "rpmlib(X)"]
    )
    lock = dataclasses.replace(
        world.lock,
        packages=(*world.lock.packages, package),
        baselines=(
            baseline("/bin/sh", name="el9.6"),
            baseline("/bin/sh", "libabsent.so.1()(64bit)", name="el9.8"),
        ),
    )
    assert faults_of(world, lock, root) == [
        "package capability libabsent.so.1()(64bit), wanted by tool-1.0-1.el9.noarch (baseline el9.6)"
    ]


def test_a_build_for_another_baseline_does_not_count(world: World, root: Path) -> None:
    provider = dataclasses.replace(world.pot.package("provider"), baselines=("el9.8",))
    user = world.pot.package("user", requires=["provider"])
    lock = dataclasses.replace(
        world.lock,
        packages=(*world.lock.packages, provider, user),
        baselines=(baseline(name="el9.6"), baseline(name="el9.8")),
    )
    assert faults_of(world, lock, root) == [
        "package capability provider, wanted by user-1.0-1.el9.noarch (baseline el9.6)"
    ]


def test_an_image_that_is_not_whole_is_named(world: World, root: Path) -> None:
    check(world, world.lock, root)
    part = root / "_out/test/parts/images.pause.json"
    document = json.loads(part.read_text())
    layer = str(world.lock.image("pause").layers[0].digest)
    document["files"] = [entry for entry in document["files"] if f"sha256:{entry['sha256']}" != layer]
    part.write_text(json.dumps(document))
    assert list(closedworld.missing_content(part, document["facts"]["descriptor"]["digest"])) == [
        f"layer {layer}"
    ]
    child = str(world.lock.image("pause").platform.digest)
    document["files"] = [entry for entry in document["files"] if f"sha256:{entry['sha256']}" != child]
    part.write_text(json.dumps(document))
    (fault,) = closedworld.missing_content(part, document["facts"]["descriptor"]["digest"])
    assert fault == f"the manifest for linux/amd64 ({child})"


@pytest.mark.subprocess
def test_the_locked_kubeadm_is_asked(world: World, root: Path) -> None:
    """Starts a kubeadm that is a shell script, out of its package."""
    script = b"#!/bin/sh\n[ $# = 5 ] && echo registry.k8s.io/new-in-this-release:$5\n"
    package = world.pot.package("kubeadm", members=[Member(path="/usr/bin/kubeadm", data=script, mode=0o755)])
    lock = dataclasses.replace(world.lock, packages=(*world.lock.packages, package))
    assert faults_of(world, lock, root) == [
        "image registry.k8s.io/new-in-this-release:v1.36.4, wanted by kubeadm 1.36.4"
    ]


@pytest.mark.subprocess
def test_a_kubeadm_that_cannot_tell_leaves_it_to_the_table(world: World, root: Path) -> None:
    """Starts a kubeadm that is a shell script, out of its package."""
    script = b"#!/bin/sh\nexit 3\n"
    package = world.pot.package("kubeadm", members=[Member(path="/usr/bin/kubeadm", data=script, mode=0o755)])
    lock = dataclasses.replace(world.lock, packages=(*world.lock.packages, package))
    assert "registry.k8s.io/pause:3.10.2" in json.loads(check(world, lock, root).read_text())


def test_an_unknown_minor_release_is_refused() -> None:
    with pytest.raises(ClosedWorldError, match=r"kubeadm 1\.99\.0"):
        list(closedworld.table_images("1.99.0"))


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
