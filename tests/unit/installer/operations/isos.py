# SPDX-License-Identifier: Apache-2.0
"""Stand for mount, systemctl and nginx of a bootstrap node with ISOs: a file is an ISO, its tree lies beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from installer.base.errors import CommandError
from installer.base.mounts import Mount
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.media import mounting, notes, scratch, state
from installer.media.product import Product, parse
from installer.operations import images, installed, media, media_adding, media_serving
from installer.operations.images import Site
from tests.unit.installer.helpers import PRODUCT, make_tree
from tests.unit.installer.media.test_state import iso_bytes
from tests.unit.installer.operations.test_media_maps import lay_out

OWN_BUILD = "20261101.aa"
PAUSE = "registry.k8s.io/pause:3.10.2"


class IsoHost:
    """A bootstrap node that is installed from the ISO of :data:`OWN_BUILD`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.paths = root, Paths(root)
        self.mounts: list[Mount] = []
        self.commands: list[str] = []
        self.said: list[str] = []
        self.served: dict[str, str] = {}
        self.busy: set[str] = set()
        self.failing: set[str] = set()
        self.has_nginx, self.is_stubborn = True, False
        for module in (mounting, media_adding, media_serving, scratch):
            monkeypatch.setattr(module, "run", self.run)
        for module in (mounting, state, media, media_adding, scratch):
            monkeypatch.setattr(module, "read_mounts", lambda: tuple(self.mounts))
        monkeypatch.setattr(media_serving, "_serves", lambda _, name, digest: self.served.get(name) == digest)
        for name in ("POLL_S", "RELOAD_S", "LET_GO_S"):
            monkeypatch.setattr(media_serving, name, 0.01)
        self.pushed: dict[str, str] = {}
        """What the site has pushed: name -> digest."""
        monkeypatch.setattr(
            images,
            "pushed_digests",
            lambda _, names: {name: self.pushed[name.said()] for name in names if name.said() in self.pushed},
        )
        self.site = Site("10.77.1.11", {"media-https": 8443, "registry-push": 8444}, (), self.paths)
        (root / "sys/block").mkdir(parents=True)
        self.own_iso = self.iso(OWN_BUILD, {PAUSE: b"in use"})
        self.own = self.product(self.own_iso)
        installed.note(self.own, self.paths)
        self.keep(self.own_iso)

    def iso(self, build: str, contents: Mapping[str, bytes], *, name: str = "", **changes: object) -> Path:
        """Make an ISO of a build with these images; its file is ``NAME.iso``, its tree ``NAME.tree``."""
        file = self.root / "isos" / f"{name or build}.iso"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(iso_bytes(build.encode()))
        tree = lay_out(file.with_suffix(".tree"), contents)
        entries = json.loads((tree / "oci/index.json").read_text())["manifests"]
        table = {
            f"i{number}": {"reference": reference, "digest": entry["digest"]}
            for number, (reference, entry) in enumerate(zip(contents, entries, strict=True))
        }
        content = {**PRODUCT, "build": build, "images": table, **changes}
        make_tree(tree, {"product.json": json.dumps(content)})
        return file

    def product(self, file: Path) -> Product:
        return parse((file.with_suffix(".tree") / "product.json").read_bytes())

    def keep(self, file: Path) -> None:
        """Mount an ISO as a bootstrap does."""
        found = self.product(file)
        source = self.root / "mnt"
        self.run(["mount", file, source], timeout_s=1)
        media_dir = self.paths.media_dir(found.full_version)
        mounting.keep_mounted(found, source, media_dir, self.paths.units_dir, note=self.said.append)
        self.run(["umount", source], timeout_s=1)
        notes.write(notes.make(found, media_dir, file), self.paths.media_notes_dir)
        self.commands.clear()

    def run(self, args: Sequence[str | Path], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s
        words = [str(word) for word in args]
        said = " ".join(word for word in words if not word.startswith("-"))
        self.commands.append(" ".join(words[:2]))
        failing = next((text for text in self.failing if text in said), "")
        if failing:
            if check:
                raise CommandError(f"'{failing}' failed")
            return Completed(1, "", "")
        return Completed(0, getattr(self, f"_{words[0]}")(words[1:]), "")

    def _mount(self, words: list[str]) -> str:
        file, directory = words[-2:]
        shutil.copytree(Path(file).with_suffix(".tree"), directory, dirs_exist_ok=True)
        self.mounts.append(Mount(directory, "/", "fuse.iso9660", file))
        return ""

    def _umount(self, words: list[str]) -> str:
        if words[-1] not in self.busy and any(mount.mount_point == words[-1] for mount in self.mounts):
            self.mounts = [mount for mount in self.mounts if mount.mount_point != words[-1]]
            for child in Path(words[-1]).iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        return ""

    def _systemctl(self, words: list[str]) -> str:
        unit = self.paths.units_dir / words[-1]
        if words[0] == "daemon-reload" or not unit.exists():
            return ""
        wanted = unit.parent / "multi-user.target.wants" / unit.name
        text = unit.read_text()
        what, where = (re.findall(f"^{key}=(.+)$", text, re.MULTILINE)[0] for key in ("What", "Where"))
        there = any(mount.mount_point == where for mount in self.mounts)
        if words[0] == "enable":
            wanted.parent.mkdir(exist_ok=True)
            wanted.symlink_to(unit)
        if words[0] == "disable":
            wanted.unlink(missing_ok=True)
        if words[0] == "start" and not there:
            self._mount([what, where])
        if words[0] == "stop" or "--now" in words:
            self._umount([where])
        if words[0] == "is-active":
            return "active" if there else "inactive"
        return "enabled" if words[0] == "is-enabled" and wanted.is_symlink() else ""

    def _journalctl(self, _: list[str]) -> str:
        return "wrong fs type"

    def _crictl(self, words: list[str]) -> str:
        if words[0] == "ps":
            return "9937cf8701a1\n" if self.has_nginx else ""
        self.served = {} if self.is_stubborn else media_serving.served_names(self.paths)
        return ""

    def add(self, file: Path | str, *, pinned: str = "") -> media_adding.Added:
        return media_adding.add(str(file), self.site, self.own, pinned=pinned, say=self.said.append)

    def remove(self, name: str) -> media_adding.Removed:
        return media_adding.remove(media.find(name, self.paths), self.site, self.own, say=self.said.append)

    def traces(self) -> dict[str, str]:
        """Return what is on the host of all ISOs: files with their text, mounts, what nginx serves."""
        places = (self.paths.units_dir, self.paths.media_notes_dir, self.paths.media_maps_dir)
        files = [file for place in places for file in place.rglob("*") if file.is_file()]
        found = {str(file): file.read_text() for file in files if file.read_text()}
        found.update({mount.mount_point: mount.source for mount in self.mounts})
        found.update({str(place): "" for place in self.root.glob("srv/caisson/*")})
        return {**found, **self.served}
