# SPDX-License-Identifier: Apache-2.0
"""The closed world: what anything in the bundle names is in the bundle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from build.base.errors import ClosedWorldError
from build.bundle import oci, rpmrepo, salttree
from build.evidence import closedworld
from build.evidence.imagebase import open_composed
from build.evidence.kubeadmimages import table_images
from build.evidence.wanted import find_image
from build.inventory.model import Digest, Lock, LockedBaseline
from tests.unit.build.factory import (
    Member,
    World,
    inventory_of,
    make_project,
    make_world,
    tar_layer,
    tiny_rpm,
    tiny_rpmdb,
    write_sources,
)
from tests.unit.build.programs import ends, says, says_when_it_can_open, says_when_there_is_an_environment


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


def with_kubeadm(world: World, program: bytes) -> Lock:
    member = Member(path="/usr/bin/kubeadm", data=program, mode=0o755)
    return dataclasses.replace(
        world.lock, packages=(*world.lock.packages, world.pot.package("kubeadm", members=[member]))
    )


@pytest.mark.subprocess
def test_the_locked_kubeadm_is_asked(world: World, root: Path) -> None:
    """Starts a kubeadm of two hundred bytes, out of its package."""
    lock = with_kubeadm(world, says("registry.k8s.io/new-in-this-release:v1.36.4\n", word_count=6))
    assert faults_of(world, lock, root) == [
        "image registry.k8s.io/new-in-this-release:v1.36.4, wanted by kubeadm 1.36.4"
    ]


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "program",
    [
        ends(3),
        says_when_it_can_open("/etc/passwd", "registry.k8s.io/saw-a-file-of-the-builder:1\n"),
        says_when_it_can_open("/proc/self/status", "registry.k8s.io/saw-processes:1\n"),
        says_when_there_is_an_environment("registry.k8s.io/saw-the-environment:1\n"),
        b"#!/bin/sh\necho registry.k8s.io/ran-a-shell:1\n",
        b"no program",
    ],
    ids=["fails", "files", "processes", "environment", "script", "text"],
)
def test_a_kubeadm_that_cannot_tell_leaves_it_to_the_table(
    world: World, root: Path, program: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Starts it, out of its package, in the sandbox: none sees anything of the builder."""
    proof = json.loads(check(world, with_kubeadm(world, program), root).read_text())
    assert "registry.k8s.io/pause:3.10.2" in proof
    assert "a table is used" in capfd.readouterr().err


def without_tool(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make PATH a directory with all programs but one."""
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            link = tmp_path / "bin" / program.name
            link.parent.mkdir(exist_ok=True)
            if program.name != name and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.subprocess
def test_without_a_sandbox_nothing_is_run(
    world: World,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By rpm2archive. On a machine without prlimit."""
    without_tool("prlimit", monkeypatch, tmp_path)
    lock = with_kubeadm(world, says("registry.k8s.io/was-run:1\n"))
    assert "registry.k8s.io/was-run:1" not in json.loads(check(world, lock, root).read_text())
    assert "program 'prlimit' is not installed" in capfd.readouterr().err


def test_an_unknown_minor_release_is_refused() -> None:
    with pytest.raises(ClosedWorldError, match=r"kubeadm 1\.99\.0"):
        list(table_images("1.99.0"))


def test_a_digest_is_found_below_an_index() -> None:
    assert find_image("a/b@sha256:1", {}, {"sha256:1"}) == "sha256:1"
    assert find_image("a/b@sha256:2", {}, {"sha256:1"}) is None
    assert find_image("a/b:1", {"a/b:1": "sha256:3"}, set()) == "sha256:3"


# ---------------------------------------------------------------- composed images


def composed_faults(
    world: World, *, requires: Sequence[str], layers: Sequence[bytes], without: str = ""
) -> list[str]:
    """Return what is open of the composed image when its package requires this and its base has these layers."""
    package = world.pot.package("salt-master", "3008.3", "0", requires=requires)
    base = world.pot.image("base-os", "docker.io/library/almalinux:9.8", layers=layers)
    lock = dataclasses.replace(
        world.lock,
        packages=tuple(package if item.name == "salt-master" else item for item in world.lock.packages),
        images=tuple(base if item.id == "base-os" else item for item in world.lock.images),
    )
    return open_composed(lock, world.store, {"salt-master": {without: "a reason"}} if without else {})


BASE_DATABASE = tiny_rpmdb(tiny_rpm("bash", "5.1.8", "9.el9", members=[Member(path="/usr/bin/bash")]))
BASE = tar_layer({"var/lib/rpm/rpmdb.sqlite": BASE_DATABASE})


def test_what_the_base_of_a_composed_image_lacks_is_named(world: World) -> None:
    """A host has it, the base image does not; files, other packages of the image and the base count."""
    requires = ["/usr/bin/bash", "bash", "salt", "rpmlib(X)", "which", "(bash or zsh)", "(git if zsh)"]
    (fault,) = composed_faults(world, requires=requires, layers=[BASE])
    image = "image caisson.internal/salt-master:3008.3 (base docker.io/library/almalinux:9.8)"
    assert fault == f"package capability which, wanted by salt-master in {image}"
    assert composed_faults(world, requires=requires, layers=[BASE], without="which") == []


@pytest.mark.parametrize(
    ("upper", "reason"),
    [
        ({"var/lib/.wh.rpm": b""}, ": it has no database of rpm that can be read"),
        (
            {"var/lib/rpm/rpmdb.sqlite": b"x" * 100},
            ": its database of rpm cannot be read: file is not a database",
        ),
        ({"var/lib/rpm/rpmdb.sqlite": tiny_rpmdb(tiny_rpm("zsh"))}, ""),
    ],
)
def test_the_database_of_the_base_is_that_of_all_layers(
    world: World, upper: dict[str, bytes | str], reason: str
) -> None:
    (fault,) = composed_faults(world, requires=["bash"], layers=[BASE, tar_layer(upper)])
    assert fault.endswith(f"(base docker.io/library/almalinux:9.8{reason})")


def test_a_composed_image_that_is_not_closed_fails_the_build(world: World, root: Path) -> None:
    package = world.pot.package("salt-master", "3008.3", "0", requires=["which"])
    packages = tuple(package if item.name == "salt-master" else item for item in world.lock.packages)
    lock = dataclasses.replace(world.lock, packages=packages)
    project = make_project(dataclasses.replace(world, lock=lock), root)
    for step in (*project.plan_rpms(), *project.plan_salt()):
        step.run()
    for step in oci.plan_images(lock, world.inventory, world.store, project.workspace):
        step.run()
    run = closedworld.World(
        lock=lock,
        images=tuple(
            oci.part_file(project.workspace, image.id) for image in oci.images_on_iso(lock, world.inventory)
        ),
        rpms=rpmrepo.part_file(project.workspace),
        salt=salttree.part_file(project.workspace),
        store=world.store,
    )
    with pytest.raises(ClosedWorldError, match="1 thing that the bundle needs") as caught:
        closedworld.run_closed_world(run, root / "report.json")
    assert "package capability which, wanted by salt-master" in caught.value.details
