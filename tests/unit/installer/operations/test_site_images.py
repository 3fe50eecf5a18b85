# SPDX-License-Identifier: Apache-2.0
"""The images that a site brings: all faults before anything is pushed; the push itself: tests/sls/test_images.py."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError, ConfigError, MediaError
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.config.ports import PORTS_FILE
from installer.engine import runner
from installer.engine.context import Context
from installer.engine.phase import Operation
from installer.media import brought, scratch
from installer.operations import bootstrap, images, media_maps, site_images
from installer.operations.images import Pushed
from tests.unit.installer.helpers import make_config, make_context

ROOT_DIR = Path(__file__).parents[4]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def blob(directory: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Write a blob of a layout and return its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    file = directory / "blobs/sha256" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def layout(directory: Path, *names: str, text: str = "x") -> Path:
    """Write an OCI layout with one image under several names; a name may be empty."""
    layer = blob(directory, text.encode(), "application/vnd.oci.image.layer.v1.tar")
    config = blob(directory, b"{}", "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    entry = blob(directory, json.dumps(manifest).encode(), MANIFEST)
    entries = [{**entry, "annotations": {"io.containerd.image.name": name} if name else {}} for name in names]
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return directory


def archive(file: Path, *names: str, text: str = "x") -> Path:
    """Write what ``docker save`` writes of one image."""
    entry = {"Config": "c.json", "RepoTags": list(names), "Layers": ["l/layer.tar"]}
    with tarfile.open(file, "w") as tar:
        for name, data in (
            ("manifest.json", json.dumps([entry]).encode()),
            ("c.json", b"{}"),
            ("l/layer.tar", text.encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


class Registry:
    """Stands for the push: what has a name and a digest already was there."""

    def __init__(self) -> None:
        self.has: dict[str, str] = {}
        self.fails_at = ""

    def push_one(
        self, _source: object, root: Any, name: Any, site: Any, _registry: object, *, say: Any
    ) -> Pushed:
        title = name.said(site.own)
        say(title)
        if title == self.fails_at:
            raise KeyboardInterrupt
        was_there = self.has.get(title) == root.digest
        self.has[title] = root.digest
        return Pushed(title, root.digest, 0 if was_there else 2, 0 if was_there else 9, was_there=was_there)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()

    @contextmanager
    def pushing(_: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(images.Site, "pushing", pushing)
    monkeypatch.setattr(images, "push_one", made.push_one)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "mnt/site-images"
    made.mkdir(parents=True)
    return made


def context_of(tmp_path: Path, **keys: str) -> Context:
    """Return a context whose configuration names images of the site."""
    context = make_context(tmp_path, ui=Ui(io.StringIO(), is_terminal=False, interval_s=3600))
    table = context.source_dir / PORTS_FILE
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text((ROOT_DIR / PORTS_FILE).read_text())
    text = json.dumps(keys)
    return dataclasses.replace(context, config=make_config(f"images: {text}\n") if keys else make_config())


DIRECTORY = "/mnt/site-images"


def test_without_any_nothing_is_done(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    site_images.check(context)
    assert not site_images.run_site_images(context)


def test_archives_and_layouts_are_pushed_once_and_the_second_run_is_quiet(
    tmp_path: Path, place: Path, registry: Registry
) -> None:
    archive(place / "a.tar", "vendor/a:1", "quay.io/vendor/a:1")
    layout(place / "b", "quay.io/vendor/b:1", text="b")
    (place / "README").write_text("left alone")
    (place / "empty").mkdir()
    context = context_of(tmp_path, directory=DIRECTORY)
    site_images.check(context)
    assert site_images.run_site_images(context)
    assert [*registry.has] == ["docker.io/vendor/a:1", "quay.io/vendor/a:1", "quay.io/vendor/b:1"]
    assert not site_images.run_site_images(context)
    layout(place / "b", "quay.io/vendor/b:1", text="another")
    assert site_images.run_site_images(context)


def test_a_directory_may_be_a_layout_itself(tmp_path: Path, place: Path, registry: Registry) -> None:
    layout(place, "quay.io/vendor/a:1", "quay.io/vendor/a:2")
    assert site_images.run_site_images(context_of(tmp_path, directory=DIRECTORY))
    assert [*registry.has] == ["quay.io/vendor/a:1", "quay.io/vendor/a:2"]


def test_all_faults_are_told_at_once_and_nothing_is_pushed(
    tmp_path: Path, place: Path, registry: Registry
) -> None:
    layout(place / "good", "quay.io/vendor/good:1")
    layout(place / "iso", "registry.k8s.io/pause:3.10.2")
    layout(place / "nameless", "")
    layout(place / "twice-1", "quay.io/vendor/twice:1", text="1")
    layout(place / "twice-2", "quay.io/vendor/twice:1", text="2")
    lacking = layout(place / "lacking", "quay.io/vendor/lacking:1", text="gone")
    (lacking / "blobs/sha256" / hashlib.sha256(b"gone").hexdigest()).unlink()
    (place / "no.tar").write_text("no archive" * 100)
    (place / "packed.tar.gz").touch()
    layout(place / "open", "quay.io/vendor/open:1").chmod(0o777)
    for act in (site_images.check, site_images.run_site_images):
        with pytest.raises(MediaError, match="cannot be pushed: 7 faults") as caught:
            act(context_of(tmp_path, directory=DIRECTORY))
        lines = caught.value.details.splitlines()
        for name, words in (
            ("iso", "registry.k8s.io/pause:3.10.2 is an image of the ISO"),
            ("nameless", "does not say what its image is called"),
            ("twice-2", f"quay.io/vendor/twice:1 is another image in {place / 'twice-1'}"),
            ("lacking", "quay.io/vendor/lacking:1 is not whole: sha256:"),
            ("no.tar", "is no tar archive"),
            ("packed.tar.gz", "is compressed"),
            ("open", "others than root may change it"),
        ):
            assert [line for line in lines if str(place / name) in line and words in line], (name, lines)
    assert registry.has == {}


@pytest.mark.parametrize(
    "name", ["{own}/pause:3.10.2", "registry.k8s.io/pause:site", "docker.io/pause:3.10.2"]
)
def test_what_is_called_otherwise_shadows_nothing(
    tmp_path: Path, place: Path, registry: Registry, name: str
) -> None:
    layout(place, name.format(own="10.77.1.11:8444"))
    assert site_images.run_site_images(context_of(tmp_path, directory=DIRECTORY))
    assert len(registry.has) == 1


def test_the_name_of_the_iso_is_known_in_each_spelling(tmp_path: Path, place: Path) -> None:
    context = context_of(tmp_path, directory=DIRECTORY)
    pause = context.product.images["pause"]
    nginx = dataclasses.replace(pause, name="nginx", reference="docker.io/library/nginx:1.30")
    context = dataclasses.replace(
        context, product=dataclasses.replace(context.product, images={"nginx": nginx})
    )
    archive(place / "a.tar", "nginx:1.30")
    with pytest.raises(MediaError) as caught:
        site_images.check(context)
    assert "docker.io/library/nginx:1.30 is an image of the ISO" in caught.value.details


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, place: Path, registry: Registry) -> None:
    for name in ("a", "b", "c"):
        layout(place / name, f"quay.io/vendor/{name}:1", text=name)
    context = context_of(tmp_path, directory=DIRECTORY)
    (phase,) = (phase for phase in bootstrap.PHASES if phase.name == "site-images")
    registry.fails_at = "quay.io/vendor/b:1"
    with pytest.raises(KeyboardInterrupt):
        site_images.run_site_images(context)
    assert not context.paths.site_images_file.exists()
    registry.fails_at = ""
    runner.run_phases(Operation("bootstrap", (phase,)), [phase], context)
    *_, end = context.journal.entries
    assert end.changed
    pushed = [step.split()[1] for step in end.steps]
    assert pushed == ["quay.io/vendor/b:1", "quay.io/vendor/c:1"]


def test_what_was_pushed_may_be_taken_away_and_what_never_was_may_not(
    tmp_path: Path, place: Path, registry: Registry
) -> None:
    context = context_of(tmp_path, directory=DIRECTORY)
    place.rmdir()
    for act in (site_images.check, site_images.run_site_images):
        with pytest.raises(MediaError, match="there are no images of the site at"):
            act(context)
    place.mkdir()
    with pytest.raises(MediaError) as caught:
        site_images.check(context)
    assert "no archive (*.tar) and no OCI layout in it" in caught.value.details
    file = archive(place / "a.tar", "vendor/a:1")
    assert site_images.run_site_images(context)
    file.unlink()
    place.rmdir()
    site_images.check(context)
    assert not site_images.run_site_images(context)
    other = context_of(tmp_path, directory="/mnt/other")
    with pytest.raises(MediaError, match="there are no images of the site at"):
        site_images.run_site_images(other)


def test_where_a_drive_was_mounted_an_empty_directory_stays(
    tmp_path: Path, place: Path, registry: Registry
) -> None:
    archive(place / "a.tar", "quay.io/vendor/app:1")
    context = context_of(tmp_path, directory=DIRECTORY)
    assert site_images.run_site_images(context)
    (place / "a.tar").unlink()
    assert not site_images.run_site_images(context)


def test_a_drive_is_not_judged_by_its_mode(tmp_path: Path) -> None:
    """Its group 'disk' may write to it on every host."""
    drives = [drive for drive in Path("/dev").iterdir() if drive.is_block_device()]
    drives = [drive for drive in drives if not Path(f"/sys/class/block/{drive.name}/loop").exists()]
    assert drives
    assert all(brought.real_iso(drive, mounts=()) == drive for drive in drives)


class Mounter:
    """Stands for mount and umount: what is mounted is a layout with one image."""

    def __init__(self, point: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.point, self.commands = point, list[str]()
        self.is_mounted = self.is_busy = self.is_bad = False
        monkeypatch.setattr(scratch, "run", self.run)
        monkeypatch.setattr(scratch, "is_mounted", lambda *_: self.is_mounted)

    def run(self, words: Sequence[object], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s
        self.commands.append(" ".join(str(word) for word in words))
        if words[0] == "mount":
            if self.is_bad:
                raise CommandError("'mount' failed: exit code 32", details="wrong fs type")
            layout(self.point, "quay.io/vendor/a:1")
            self.is_mounted = True
            return Completed(0, "", "")
        if self.is_busy and "--lazy" not in words:
            if check:
                raise CommandError("'umount' failed: target is busy")
            return Completed(32, "", "target is busy")
        self.is_mounted = False
        for file in sorted(self.point.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        return Completed(0, "", "")


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    made = tmp_path / "srv/site.iso"
    made.parent.mkdir()
    made.touch()
    return made


@pytest.fixture
def mounter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounter:
    return Mounter(tmp_path / "run/caisson-images", monkeypatch)


def test_an_iso_is_mounted_while_it_is_read(
    tmp_path: Path, registry: Registry, iso: Path, mounter: Mounter
) -> None:
    mounter.is_mounted = True  # by a run that was killed
    mounter.point.mkdir(parents=True)
    context = context_of(tmp_path, iso="/srv/site.iso")
    assert site_images.run_site_images(context)
    assert [*registry.has] == ["quay.io/vendor/a:1"]
    mounting = f"mount -t iso9660,udf -o loop,ro,nosuid,nodev,noexec {iso} {mounter.point}"
    assert mounter.commands == [f"umount {mounter.point}", mounting, f"umount {mounter.point}"]
    assert not mounter.point.exists()
    mounter.is_bad = True
    with pytest.raises(MediaError, match="cannot be mounted") as caught:
        site_images.run_site_images(context)
    assert "wrong fs type" in caught.value.details


def test_what_is_busy_afterwards_hides_no_error(
    tmp_path: Path, registry: Registry, iso: Path, mounter: Mounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounter.is_busy = True

    def refuse(*_: object, **__: object) -> list[object]:
        raise MediaError("the real one")

    monkeypatch.setattr(site_images, "look_through", refuse)
    with pytest.raises(MediaError, match="the real one"):
        site_images.check(context_of(tmp_path, iso="/srv/site.iso"))
    assert mounter.commands[-1] == f"umount --lazy {mounter.point}"
    assert not mounter.point.exists()


@pytest.mark.parametrize("spoil", ["mode", "owner", "directory", "behind a link"])
def test_an_iso_that_others_can_change_is_refused(
    tmp_path: Path, registry: Registry, iso: Path, mounter: Mounter, spoil: str
) -> None:
    if spoil == "mode":
        iso.chmod(0o666)
    elif spoil == "owner":
        os.chown(iso, 1234, 0)
    elif spoil == "directory":
        iso.parent.chmod(0o777)
    else:
        other = tmp_path / "home/user"
        other.mkdir(parents=True)
        os.chown(other, 1234, 1234)
        iso.rename(other / "site.iso")
        iso.symlink_to(other / "site.iso")
    context = context_of(tmp_path, iso="/srv/site.iso")
    for act in (site_images.check, site_images.run_site_images):
        with pytest.raises(MediaError, match="can be changed by another user than root") as caught:
            act(context)
        assert "name the copy under images.iso" in caught.value.resolution
    assert mounter.commands == []


@pytest.mark.parametrize("what", ["index.json", "blobs", "blobs/sha256", "a blob", "a link", "the way there"])
def test_a_layout_of_which_others_can_change_a_part_is_refused(
    tmp_path: Path, place: Path, registry: Registry, what: str
) -> None:
    layout(place / "app", "quay.io/vendor/app:1")
    files = {"a blob": next((place / "app/blobs/sha256").iterdir()), "the way there": place.parent}
    if what == "a link":
        target = tmp_path / "anybody.json"
        (place / "app/index.json").rename(target)
        (place / "app/index.json").symlink_to(target)
        target.chmod(0o666)
        files[what] = target
    else:
        files.get(what, place / "app" / what).chmod(0o777)
    with pytest.raises(MediaError) as caught:
        site_images.check(context_of(tmp_path, directory=DIRECTORY))
    (line,) = caught.value.details.splitlines()
    assert line == (
        f"{files.get(what, place / 'app' / what)}: everybody may write to it: others than root may change it: "
        "chown root, chmod go-w"
    )


def test_an_archive_of_somebody_else_is_refused(tmp_path: Path, place: Path, registry: Registry) -> None:
    os.chown(archive(place / "a.tar", "vendor/a:1"), 1234, 0)
    with pytest.raises(MediaError) as caught:
        site_images.check(context_of(tmp_path, directory=DIRECTORY))
    assert f"{place / 'a.tar'}: owned by user 1234" in caught.value.details


@pytest.mark.parametrize("gone", ["directory", "iso"])
def test_of_two_places_the_one_that_is_there_is_pushed(
    tmp_path: Path, place: Path, registry: Registry, iso: Path, mounter: Mounter, gone: str
) -> None:
    layout(place / "b", "quay.io/vendor/b:1", text="b")
    context = context_of(tmp_path, directory=DIRECTORY, iso="/srv/site.iso")
    assert site_images.run_site_images(context)
    assert [*registry.has] == ["quay.io/vendor/b:1", "quay.io/vendor/a:1"]
    if gone == "iso":
        iso.unlink()
        layout(place / "c", "quay.io/vendor/c:1", text="c")
    else:
        for file in sorted(place.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    registry.has.clear()
    site_images.check(context)
    assert site_images.run_site_images(context)
    there = ["quay.io/vendor/b:1", "quay.io/vendor/c:1"] if gone == "iso" else ["quay.io/vendor/a:1"]
    assert [*registry.has] == there
    note = json.loads(context.paths.site_images_file.read_text())
    assert {"quay.io/vendor/a:1", "quay.io/vendor/b:1"} <= set(note["images"])


def test_a_name_of_an_added_iso_is_told_before_anything_is_pushed(
    tmp_path: Path, place: Path, registry: Registry
) -> None:
    layout(place / "a", "quay.io/vendor/a:1", text="a")
    layout(place / "b", "quay.io/vendor/b:1", text="b")
    context = context_of(tmp_path, directory=DIRECTORY)
    added = media_maps.Layout("/x", (media_maps.LaidOut("quay.io/vendor/b", "1", "0" * 64, {}),))
    media_maps.write(context.paths.media_maps_dir, media_maps.render(None, [added]))
    for act in (site_images.check, site_images.run_site_images):
        with pytest.raises(MediaError) as caught:
            act(context)
        (line,) = caught.value.details.splitlines()
        assert "quay.io/vendor/b:1 is an image of an ISO that was added" in line
    assert registry.has == {}


@pytest.mark.parametrize("key", ["directory", "iso"])
def test_a_path_is_absolute(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(f"images: {{{key}: images}}\n")
    assert f"images.{key}: 'images' is no absolute path" in caught.value.details
