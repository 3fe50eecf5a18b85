# SPDX-License-Identifier: Apache-2.0
"""The media: every byte verified, its file found, its mount unit written."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.errors import CommandError, MediaError
from installer.base.mounts import Mount
from installer.base.run import Completed
from installer.media import mounting as media
from installer.media.mounting import Backing
from tests.unit.installer.helpers import make_product, make_tree, product_bytes, write_sums


def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "iso", {"a": "one", "d/b": "two" * 1000, "d/empty": ""})


def faults_of(directory: Path) -> list[str]:
    with pytest.raises(MediaError) as caught:
        media.verify(directory, progress=lambda _: None)
    return caught.value.details.splitlines()


def test_a_good_media(tmp_path: Path) -> None:
    said: list[str] = []
    found = media.verify(tree(tmp_path), progress=said.append)
    assert (found.files, found.size_bytes) == (3, 3003)
    assert said[-1] == "reading the media: 100 % (2.9 KiB of 2.9 KiB)"


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    directory = tree(tmp_path)
    (directory / "a").write_text("onf")
    (directory / "d/empty").unlink()
    (directory / "d/more").write_text("x")
    found = faults_of(directory)
    assert found[:2] == ["missing: d/empty", "not listed in SHA256SUMS: d/more"]
    assert found[2].startswith("differs: a (sha256 ")


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    directory = tree(tmp_path)
    with (directory / "d/b").open("r+b") as cut:
        cut.truncate(100)
    assert len(faults_of(directory)) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    directory = tree(tmp_path)
    (directory / "a").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "a"))
    assert faults_of(directory) == ["unreadable: a (No such device or address)"]


@pytest.mark.parametrize("target", ["nowhere", "/etc/passwd", "/etc", "b"])
def test_a_link_is_a_fault_wherever_it_leads(tmp_path: Path, target: str) -> None:
    directory = tree(tmp_path)
    (directory / "more").symlink_to(target)
    assert faults_of(directory) == ["a link: more (an ISO has none)"]


def test_many_faults_are_cut(tmp_path: Path) -> None:
    directory = tree(tmp_path)
    for number in range(30):
        (directory / f"x{number:02}").touch()
    found = faults_of(directory)
    assert len(found) == media.SHOWN_FILES + 1
    assert found[-1] == "and 10 more"


def test_no_sums(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="SHA256SUMS cannot be read"):
        media.verify(tmp_path, progress=lambda _: None)


@pytest.mark.parametrize(
    "line", ["x", f"{'a' * 64} one space", f"{'a' * 64}  /abs", f"{'a' * 64}  d/../../x"]
)
def test_sums_that_are_none(line: str) -> None:
    with pytest.raises(MediaError, match=r"SHA256SUMS:1 is not a line"):
        media.parse_sums(line)


def test_a_file_that_is_listed_twice() -> None:
    with pytest.raises(MediaError, match=r"SHA256SUMS:2"):
        media.parse_sums(f"{'a' * 64}  x\n{'b' * 64}  x\n")


# ---- what is behind the mount ----------------------------------------------------------------------------


def host_with_loop(tmp_path: Path, backing: str) -> Path:
    file = tmp_path / "sys/block/loop3/loop/backing_file"
    file.parent.mkdir(parents=True)
    file.write_text(backing + "\n")
    iso = tmp_path / "var/my iso/c.iso"
    iso.parent.mkdir(parents=True)
    iso.touch()
    return tmp_path


@pytest.mark.parametrize("fstype", ["iso9660", "fuse.iso9660", "fuse"])
def test_a_loop_device_is_followed_to_its_file(tmp_path: Path, fstype: str) -> None:
    root = host_with_loop(tmp_path, "/var/my iso/c.iso")
    mounts = [Mount("/mnt", "/", fstype, "/dev/loop3")]
    assert media.find_backing(Path("/mnt"), mounts, root=root) == Backing("/var/my iso/c.iso", is_file=True)


def test_a_fuse_mount_of_the_file_itself(tmp_path: Path) -> None:
    root = host_with_loop(tmp_path, "")
    mounts = [Mount("/mnt", "/", "fuse.iso9660", "/var/my iso/c.iso")]
    assert media.find_backing(Path("/mnt/x"), mounts, root=root) == Backing("/var/my iso/c.iso", is_file=True)


@pytest.mark.parametrize("backing", ["/var/my iso/c.iso (deleted)", "/elsewhere.iso"])
def test_an_iso_that_is_gone(tmp_path: Path, backing: str) -> None:
    root = host_with_loop(tmp_path, backing)
    with pytest.raises(MediaError, match="no longer there"):
        media.find_backing(Path("/mnt"), [Mount("/mnt", "/", "iso9660", "/dev/loop3")], root=root)


def test_a_loop_device_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="the file behind /dev/loop9 cannot be found"):
        media.find_backing(Path("/mnt"), [Mount("/mnt", "/", "iso9660", "/dev/loop9")], root=tmp_path)


def test_a_disk_has_a_name_that_lasts(tmp_path: Path) -> None:
    (tmp_path / "dev/disk/by-label").mkdir(parents=True)
    (tmp_path / "dev/sr0").touch()
    mounts = [Mount("/mnt", "/", "iso9660", "/dev/sr0")]
    assert media.find_backing(Path("/mnt"), mounts, root=tmp_path) == Backing("/dev/sr0", is_file=False)
    (tmp_path / "dev/disk/by-label/CAISSON_0_1_0").symlink_to("../../sr0")
    found = media.find_backing(Path("/mnt"), mounts, root=tmp_path)
    assert found == Backing("/dev/disk/by-label/CAISSON_0_1_0", is_file=False)
    (tmp_path / "dev/disk/by-path").mkdir()  # any disk can have the label
    (tmp_path / "dev/disk/by-path/pci-0000:00:1f.2-ata-1").symlink_to("../../sr0")
    found = media.find_backing(Path("/mnt"), mounts, root=tmp_path)
    assert found == Backing("/dev/disk/by-path/pci-0000:00:1f.2-ata-1", is_file=False)


@pytest.mark.parametrize(
    "mount", [Mount("/", "/", "xfs", "/dev/vda1"), Mount("/mnt", "/", "nfs4", "server:/iso")]
)
def test_a_directory_that_is_no_mounted_iso(mount: Mount) -> None:
    with pytest.raises(MediaError, match="is not a mounted ISO"):
        media.find_backing(Path("/mnt"), [mount])


def test_a_fuse_mount_whose_source_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be found"):
        media.find_backing(Path("/mnt"), [Mount("/mnt", "/", "fuse.fuseiso", "fuseiso")], root=tmp_path)


def test_an_iso_in_memory_does_not_last() -> None:
    mounts = [Mount("/", "/", "xfs", "/dev/vda1"), Mount("/memory", "/", "tmpfs", "tmpfs")]
    assert not media.is_lasting(Backing("/memory/c.iso", is_file=True), mounts)
    assert media.is_lasting(Backing("/var/c.iso", is_file=True), mounts)
    assert media.is_lasting(Backing("/dev/sr0", is_file=False), mounts)


# ---- the mount unit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/caisson/0.1.0", "srv-caisson-0.1.0.mount"),
        ("/srv/caisson/0.1.0-rc.1+lab", r"srv-caisson-0.1.0\x2drc.1\x2blab.mount"),
        ("/.hidden/é", r"\x2ehidden-\xc3\xa9.mount"),
    ],
)
def test_unit_names(path: str, name: str) -> None:
    assert media.unit_name(Path(path)) == name


def test_the_unit_of_a_file() -> None:
    text = media.render_unit(
        Backing('/var/100 % "x"/c.iso', is_file=True), Path("/srv/caisson/1"), "Caisson 1"
    )
    assert 'RequiresMountsFor="/var/100 %% \\"x\\"/c.iso"\n' in text
    assert 'What=/var/100 %% "x"/c.iso\nWhere=/srv/caisson/1\nType=iso9660\nOptions=loop,ro,nofail\n' in text
    assert text.endswith("[Install]\nWantedBy=multi-user.target\n")


def test_the_unit_of_a_device() -> None:
    text = media.render_unit(Backing("/dev/sr0", is_file=False), Path("/srv/caisson/1"), "Caisson 1")
    assert "RequiresMountsFor" not in text
    assert "Options=ro,nofail\n" in text


class Systemd:
    """A systemd that has one unit; starting it fills the mount point, stopping empties it."""

    def __init__(self, media_dir: Path, mount_point: Path) -> None:
        self.media_dir = media_dir
        self.mount_point = mount_point
        self.is_enabled = False
        self.is_active = False
        self.can_start = True
        self.commands: list[str] = []
        self.mounts: list[Mount] = []

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        self.commands.append(args[1] if args[0] == "systemctl" else args[0])
        verb = self.commands[-1]
        if verb == "is-enabled":
            return Completed(0, "enabled\n" if self.is_enabled else "disabled\n", "")
        if verb == "is-active":
            return Completed(0, "active\n" if self.is_active else "inactive\n", "")
        if verb == "enable":
            self.is_enabled = True
        if verb == "start":
            if not self.can_start:
                raise CommandError("'systemctl' failed: exit code 1")
            self.is_active = True
            for name in ("product.json", "SHA256SUMS"):
                (self.mount_point / name).write_bytes((self.media_dir / name).read_bytes())
        if verb == "stop":
            self.is_active = False
        return Completed(0, "", "")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    source = tmp_path / "mnt"
    source.mkdir()
    (source / "product.json").write_bytes(product_bytes())
    write_sums(source)
    (tmp_path / "c.iso").touch()
    fake = Systemd(source, tmp_path / "srv/caisson/0.1.0")
    monkeypatch.setattr(media, "run", fake)
    fake.mounts = [
        Mount(str(source), "/", "fuse.iso9660", str(tmp_path / "c.iso")),
        Mount(str(fake.mount_point), "/", "fuse.iso9660", str(tmp_path / "c.iso")),
    ]
    monkeypatch.setattr(media, "read_mounts", lambda: tuple(fake.mounts))
    return fake


def keep_mounted(systemd: Systemd, tmp_path: Path, notes: list[str]) -> bool:
    return media.keep_mounted(
        make_product(), systemd.media_dir, systemd.mount_point, tmp_path / "units", note=notes.append
    )


def test_mounted_once_and_then_left_alone(systemd: Systemd, tmp_path: Path) -> None:
    notes: list[str] = []
    assert keep_mounted(systemd, tmp_path, notes)
    assert systemd.commands == ["daemon-reload", "is-enabled", "enable", "is-active", "start"]
    systemd.commands.clear()
    assert not keep_mounted(systemd, tmp_path, notes)
    assert systemd.commands == ["is-enabled", "is-active"]
    assert notes == []


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.iso"), "two\nlines.iso"])
def test_a_name_that_no_unit_can_hold_is_refused(systemd: Systemd, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    systemd.mounts[0] = Mount(systemd.mounts[0].mount_point, "/", "fuse.iso9660", str(tmp_path / name))
    with pytest.raises(MediaError, match="cannot stand in a mount unit"):
        keep_mounted(systemd, tmp_path, [])
    assert not (tmp_path / "units").exists()


def test_another_media_at_the_same_place_is_replaced(systemd: Systemd, tmp_path: Path) -> None:
    notes: list[str] = []
    keep_mounted(systemd, tmp_path, notes)
    (systemd.mount_point / "SHA256SUMS").write_text("another")
    systemd.commands.clear()
    assert keep_mounted(systemd, tmp_path, notes)
    assert systemd.commands == ["is-enabled", "is-active", "stop", "start"]
    assert notes == [f"another media is mounted at {systemd.mount_point}: replacing it"]


def test_the_same_media_from_another_file_is_replaced(systemd: Systemd, tmp_path: Path) -> None:
    """What was verified is one file; what an earlier run has mounted there may have the same sums and other bytes."""
    keep_mounted(systemd, tmp_path, [])
    (tmp_path / "old.iso").touch()
    verified = systemd.mounts[1]
    systemd.mounts[1] = Mount(verified.mount_point, "/", verified.fstype, str(tmp_path / "old.iso"))
    systemd.commands.clear()
    with pytest.raises(MediaError, match="shows another media"):
        keep_mounted(systemd, tmp_path, [])
    assert systemd.commands == ["is-enabled", "is-active", "stop", "start"]


def test_another_media_that_cannot_be_replaced(
    systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_mounted(systemd, tmp_path, [])
    monkeypatch.setattr(media, "_is_same_media", lambda *_: False)
    with pytest.raises(MediaError, match="shows another media"):
        keep_mounted(systemd, tmp_path, [])


def test_a_mount_that_fails(systemd: Systemd, tmp_path: Path) -> None:
    systemd.can_start = False
    with pytest.raises(MediaError, match="cannot be mounted at") as caught:
        keep_mounted(systemd, tmp_path, [])
    assert "made from:" in caught.value.details
