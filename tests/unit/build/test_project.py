# SPDX-License-Identifier: Apache-2.0
"""A project: which profile, which lock, where everything goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import KeyFileError, LockError, ProfileError
from build.inventory.model import Digest
from build.lock.lockfile import dump_lock, read_lock
from build.project import Project
from tests.unit.build.factory import make_world


def copy_profile(repository_dir: Path, root: Path) -> None:
    (root / "profiles").mkdir()
    text = (repository_dir / "profiles/production.yaml").read_text()
    (root / "profiles/production.yaml").write_text(text)


@pytest.mark.parametrize(
    ("upstream", "profile", "state"),
    [
        ("production", "profiles/production.yaml", "production"),
        ("lab", "_out/lab/upstream.yaml", "lab"),
        ("sites/Plant 7.yaml", None, "sites-plant-7-yaml"),
    ],
)
def test_an_upstream_is_a_profile_and_a_state_of_its_own(
    tmp_path: Path, upstream: str, profile: str | None, state: str
) -> None:
    project = Project(tmp_path, upstream)
    expected = tmp_path / profile if profile else Path(upstream).absolute()
    assert (project.profile_file, project.state_name) == (expected, state)


def test_only_the_lab_s_lock_is_made_by_the_way(tmp_path: Path) -> None:
    lab = Project(tmp_path, "lab")
    assert lab.is_generated
    assert lab.lock_file == tmp_path / "_out/lab/caisson.lock"
    (step,) = lab.plan_lock()
    assert step.outputs == (lab.lock_file,)
    assert not Project(tmp_path, "production").is_generated


def test_the_committed_lock_is_made_whenever_it_is_asked_for(repository_dir: Path, tmp_path: Path) -> None:
    copy_profile(repository_dir, tmp_path)
    (tmp_path / "caisson.lock").touch()
    project = Project(tmp_path, "production")
    (step,) = project.plan_lock()
    assert not project.needs_lock
    assert step.outputs == ()
    assert tmp_path / "images.yaml" in step.inputs


def test_the_keys_of_a_lock_are_asked_for_alone(repository_dir: Path, tmp_path: Path) -> None:
    copy_profile(repository_dir, tmp_path)
    variables = {"keys": "only"}
    (step,) = Project.asked_for(tmp_path, variables.get).plan_lock()
    assert (step.doc, step.outputs) == ("the keys in the lock of upstream production", ())


def test_one_name_is_locked_whenever_it_is_asked_for(tmp_path: Path) -> None:
    (step,) = Project(tmp_path, "lab", name="etcd").plan_lock()
    assert step.outputs == ()
    assert step.run.args[-1] == "etcd"  # type: ignore[attr-defined]


def test_a_bad_fingerprint_is_told_before_the_first_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="'abc' is not the fingerprint"):
        list(Project(tmp_path, "lab", signed_by="abc").plan_lock())


def test_the_first_lock_is_made_by_the_way(repository_dir: Path, tmp_path: Path) -> None:
    copy_profile(repository_dir, tmp_path)
    project = Project(tmp_path, "production")
    (step,) = project.plan_lock()
    assert project.needs_lock
    assert step.outputs == (tmp_path / "caisson.lock",)
    assert not Project(tmp_path, "nowhere").needs_lock


def test_a_vendor_s_build_has_places_of_its_own(repository_dir: Path, tmp_path: Path) -> None:
    copy_profile(repository_dir, tmp_path)
    extra_file = tmp_path / "acme" / "scada.yaml"
    extra_file.parent.mkdir()
    extra_file.write_text("format: 1\nproduct: {name: scada, version: '4.2'}\n")
    ours, theirs = (Project(tmp_path, "production", extra=extra) for extra in ("", str(extra_file)))
    assert theirs.lock_file == tmp_path / "acme" / "scada.lock"
    assert theirs.state_name == "production-scada"
    assert theirs.workspace.root == tmp_path / "_out" / "production-scada"
    assert ours.workspace.root == tmp_path / "_out" / "production"
    lab = Project(tmp_path, "lab", extra=str(extra_file))
    assert lab.lock_file == tmp_path / "_out/lab/caisson-scada.lock"


def test_without_a_profile_nothing_else_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ProfileError):
        list(Project(tmp_path, "nowhere").plan_fetch())


def test_a_lock_that_is_older_than_its_inventory_is_refused(repository_dir: Path, tmp_path: Path) -> None:
    """With the lock of another inventory in the place of production's."""
    for name in ("images.yaml", "packages.yaml", "policy.yaml", "versions.yaml"):
        (tmp_path / name).write_text((repository_dir / name).read_text())
    (tmp_path / "keys").symlink_to(repository_dir / "keys")
    copy_profile(repository_dir, tmp_path)
    (tmp_path / "caisson.lock").write_text(dump_lock(make_world(tmp_path / "world").lock))
    with pytest.raises(LockError, match="older than what it locks") as caught:
        list(Project(tmp_path, "production").plan_fetch())
    assert "doit.sh lock upstream=production" in caught.value.resolution
    with pytest.raises(LockError) as caught:
        list(Project(tmp_path, "production", policy="policy.yaml").plan_fetch())
    assert "doit.sh lock upstream=production policy=policy.yaml" in caught.value.resolution


def test_a_signature_policy_is_an_input_of_the_fetch(
    repository_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it changes, images are judged anew, although the store has all."""
    copy_profile(repository_dir, tmp_path)
    with (tmp_path / "profiles/production.yaml").open("a") as profile:
        profile.write("signature_policy: policy.json\n")
    policy_file = tmp_path / "profiles" / "policy.json"
    policy_file.touch()
    monkeypatch.setattr("build.project.has_route", lambda _url: True)
    project = Project(tmp_path, "production")
    vars(project)["lock"] = make_world(tmp_path / "world").lock
    (step,) = project.plan_fetch()
    assert policy_file in step.inputs


def test_without_a_lock_the_build_says_what_to_do(tmp_path: Path, repository_dir: Path) -> None:
    copy_profile(repository_dir, tmp_path)
    with pytest.raises(LockError, match="there is no lock"):
        list(Project(tmp_path, "production").plan_fetch())


def test_locks_that_read_equal_make_one_build(tmp_path: Path) -> None:
    """A comment and other line ends change no build id, and so no name of a bundle."""
    world = make_world(tmp_path / "world")
    text = dump_lock(world.lock)
    ids = set()
    for number, variant in enumerate((text, "# ours\n" + text.replace("\n", "\r\n"))):
        file = tmp_path / f"{number}.lock"
        file.write_bytes(variant.encode())
        project = Project(tmp_path, "lab")
        vars(project).update(lock=read_lock(file), inventory=world.inventory)
        ids.add(project.product.lock_digest)
    assert ids == {Digest.of_bytes(text.encode())}
