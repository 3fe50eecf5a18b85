# SPDX-License-Identifier: Apache-2.0
"""Where the commands of the guides are run: a copy of the checkout, a user's home, upstreams on loopback.

ROOT/checkout/     the sources, .venv made of links, profiles/production.yaml with the lab's addresses
ROOT/upstream/     what the lab's upstream serves, as another checkout would have it
ROOT/srv/scada/    the files of a vendor, whose own upstream is a server of the test
ROOT/keys/         OpenPGP keys of the vendor and of whoever signs
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from build.lock.lockfile import read_lock
from build.store.objects import Store
from lab import upstream
from tests.unit.build.factory import Pot, tar_layer
from tests.unit.build.fakesite import Site as VendorSite
from tests.unit.build.fakeupstream import FakeUpstream, serve
from tests.unit.build.signers import Signer, signer

TIMEOUT_S = 300
#: What a new clone has not.
LEFT_OUT = (".git", ".venv*", "_out", "__pycache__", ".*_cache")
#: Nobody listens there: a mirror that is out of reach.
DEAD_URL = "http://127.0.0.1:9"
VENDOR_VERSION = "4.2.0"
VENDOR_IMAGE = "registry.acme.example/scada/server"
VENDOR_MANIFEST = f"""apiVersion: v1
kind: Pod
metadata: {{name: scada}}
spec: {{containers: [{{name: server, image: "{VENDOR_IMAGE}:{VENDOR_VERSION}"}}]}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """How a command of a guide is run: where (below the site's root), how it ends, and a pattern of what it says.

    ``instead`` is run in its place where the machine cannot do it: unless ``is_possible``.
    """

    instead: str = ""
    is_possible: Callable[[], bool] = lambda: True
    where: str = "checkout"
    code: int = 0
    says: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What stands for the words that a guide leaves to its reader, and the reader's environment."""

    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Site:
    """The copy of the checkout with everything around it."""

    root: Path
    source_dir: Path
    signing_key: Signer
    vendor: VendorSite

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    @property
    def out_dir(self) -> Path:
        return self.checkout / "_out"

    @property
    def iso_file(self) -> Path:
        """Return the ISO of the profile ``production``, as its lock is now."""
        return self.iso_of("production")

    @property
    def vendor_iso_file(self) -> Path:
        return self.iso_of("production-scada", f"-scada-{VENDOR_VERSION}")

    def iso_of(self, workspace: str, ending: str = "") -> Path:
        """Return the ISO that was built in a workspace; before that, a file that is not there."""
        try:
            text = (self.out_dir / workspace / "tree" / "product.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return self.out_dir / f"caisson-not-built{ending}.iso"
        product = json.loads(text)
        return self.out_dir / f"caisson-{product['version']}-{product['build']}{ending}.iso"

    @property
    def vendor_dir(self) -> Path:
        return self.root / "srv" / "scada"

    @property
    def lab_profile(self) -> dict[str, Any]:
        """Return the lab's own profile."""
        profile: dict[str, Any] = yaml.safe_load((self.lab_dir / "upstream.yaml").read_text(encoding="utf-8"))
        return profile

    @property
    def lab_dir(self) -> Path:
        return self.root / "upstream"

    def run(self, command: str, how: Run, setting: Setting) -> str:
        """Run a command as a reader would type it; it must end and speak as expected. Return what it printed."""
        command = command if how.is_possible() else how.instead
        for word, value in setting.values.items():
            command = command.replace(word, value)
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.root / how.where,
            env={**os.environ, **setting.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        print(f"{time.monotonic() - began:.1f} s  {command}")
        assert done.returncode == how.code, f"{command}: ends with {done.returncode}\n{done.stdout}"
        assert re.search(how.says, done.stdout), f"{command}: does not say {how.says!r}\n{done.stdout}"
        return done.stdout

    def need(self, file: Path, *commands: str) -> None:
        """Have a product of another guide there, so that each may be followed alone."""
        if not file.exists():
            for command in commands:
                self.run(command, Run(), Setting())
        assert file.exists()

    def write_profile(self, name: str, lock_file: str, *, has_dead_mirrors: bool = False) -> None:
        """Write a profile as a site with mirrors makes it from ``production``.

        The lab signs packages and metadata anew, and has other versions of what it does not compile itself. A
        vendor's manifests must have https:// addresses: the profile names a mirror of them. With
        ``has_dead_mirrors`` an address that nobody answers comes before each.
        """
        source = self.source_dir / "profiles" / "production.yaml"
        profile = yaml.safe_load(source.read_text(encoding="utf-8"))
        lab = self.lab_profile
        dead = [f"{DEAD_URL}/"] if has_dead_mirrors else []
        for repository_id, repository in profile["repositories"].items():
            there = lab["repositories"][repository_id]
            (key,) = there["keys"]
            shutil.copy(self.lab_dir / key["file"], self.checkout / "keys" / f"site-{repository_id}.asc")
            ours = {"file": f"../keys/site-{repository_id}.asc", "fingerprint": key["fingerprint"]}
            # Of several mirrors of the lab the last is the whole one.
            mirrors = there["base_url"] if isinstance(there["base_url"], list) else [there["base_url"]]
            repository["base_url"] = [*dead, mirrors[-1]]
            repository["metadata"] = there["metadata"]
            repository["keys"].append(ours)
        registries = {host: [*dead, lab["registries"][host]] for host in profile["registries"]}
        profile |= {"name": name, "lock_file": lock_file, "registries": registries}
        manifests = {**lab["manifests"], "https://acme.example/": f"{self.vendor.upstream.url}/"}
        profile |= {"manifests": manifests, "versions": lab["versions"]}
        file = self.checkout / "profiles" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")

    def write_vendor_file(self, text: str) -> None:
        """Write what a guide has of a vendor's file, with the addresses and the key of the vendor of this test."""
        text = re.sub(r"https://(?:rpm|registry)\.acme\.example", self.vendor.upstream.url, text)
        text = re.sub(r"\b[0-9A-F]{40}\b", self.vendor.key.fingerprint, text)
        (self.vendor_dir / "keys").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.vendor.key.key_file, self.vendor_dir / "keys" / "acme.asc")
        (self.vendor_dir / "scada.yaml").write_text(text, encoding="utf-8")

    def forget_vendor(self) -> None:
        """Remove the vendor's objects from the store, which is the user's own."""
        ours, theirs = self.checkout / "caisson.lock", self.vendor_dir / "scada.lock"
        if ours.is_file() and theirs.is_file():
            kept = {blob.digest for blob in read_lock(ours).blobs()}
            for blob in read_lock(theirs).blobs():
                if blob.digest not in kept:
                    Store.default().path(blob.digest).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guide:
    """How a guide is followed: each of its commands in its order, between what it wants and what it promises."""

    runs: Mapping[str, Run]
    setting: Callable[[Site], AbstractContextManager[Setting]]


@contextlib.contextmanager
def make_site(root: Path, source_dir: Path) -> Iterator[Site]:
    """Copy the checkout, start the upstreams; nothing is left running or in the store."""
    keys_dir = root / "keys"
    keys_dir.mkdir()
    with (
        lab_upstream(root / "upstream"),
        serve() as vendor_upstream,
        signer(keys_dir, "acme") as vendor_key,
        signer(keys_dir, "release") as signing_key,
    ):
        vendor = VendorSite(root / "keys", vendor_upstream, vendor_key)
        serve_vendor(vendor, root)
        site = Site(root, source_dir, signing_key, vendor)
        shutil.copytree(source_dir, site.checkout, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        (site.checkout / "caisson.lock").unlink(missing_ok=True)
        link_environment(site.checkout)
        site.write_profile("production", "../caisson.lock")
        try:
            yield site
        finally:
            site.forget_vendor()


@contextlib.contextmanager
def lab_upstream(out_dir: Path) -> Iterator[None]:
    """Have the lab's upstream served; leave one alone that serves the very same already."""
    upstream.prepare(out_dir)
    if upstream.is_serving(upstream.own_mark(out_dir / "upstream")):
        yield
        return
    upstream.start(out_dir)
    try:
        yield
    finally:
        upstream.stop(out_dir)


def link_environment(checkout: Path) -> None:
    """Make a .venv of links to the one that runs this: nothing that doit.sh might do to it reaches the original.

    It has the mark of an environment that is up to date, as doit.sh makes it.
    """
    original, copy = Path(sys.prefix), checkout / ".venv"
    assert (original / "pyvenv.cfg").is_file(), f"{sys.executable} is of no virtual environment"
    (copy / "bin").mkdir(parents=True)
    shutil.copy(original / "pyvenv.cfg", copy)
    for path in (*original.iterdir(), *(original / "bin").iterdir()):
        place = copy / path.relative_to(original)
        if path.name != "lock.sha256" and not place.exists():
            place.symlink_to(path)
    marks = [
        f"{hashlib.sha256(lock.read_bytes()).hexdigest()}  {lock}\n"
        for lock in sorted(checkout.glob("requirements*.txt"))
    ]
    (copy / "lock.sha256").write_text("".join(marks), encoding="utf-8")


def serve_vendor(vendor: VendorSite, root: Path) -> None:
    """Serve a vendor's signed package, image and manifest, where the guide's file has them."""
    package = vendor.rpm("scada-agent", evr=f"{VENDOR_VERSION}-1.el9")
    vendor.put_repository("el9", [package])
    put_image(vendor.upstream, Store(root / "vendor-store"))
    vendor.upstream.put(f"/scada/{VENDOR_VERSION}/deploy.yaml", VENDOR_MANIFEST.encode())


def put_image(server: FakeUpstream, store: Store) -> None:
    """Serve an image of one layer below an index."""
    layer = tar_layer({"server": b"watches the plant\n"})
    image = Pot(store).image("scada", f"{VENDOR_IMAGE}:{VENDOR_VERSION}", layers=[layer], is_indexed=True)
    assert image.child is not None
    manifests = {
        "top": (store.path(image.digest).read_bytes(), image.media_type),
        "child": (store.path(image.child.digest).read_bytes(), image.child.media_type),
    }
    server.put_image(image.reference.repository, VENDOR_VERSION, manifests)
    for blob in (image.config, *image.layers):
        server.put_blob(image.reference.repository, store.path(blob.digest).read_bytes())
