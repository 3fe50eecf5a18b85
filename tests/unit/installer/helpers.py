# SPDX-License-Identifier: Apache-2.0
"""Build the small real things that the installer's tests work with."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
from collections.abc import Iterable
from pathlib import Path

from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.config import bootstrap as config
from installer.config import facts
from installer.config.facts import Address
from installer.engine import agents
from installer.engine.context import Context
from installer.engine.journal import Journal
from installer.media import product
from installer.media.rpmdb import Package

CONFIG_TEXT = """\
apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: lab
networks:
  controlPlane: {cidrs: [192.0.2.0/24, 10.77.1.0/24]}
  workloadPlane: {cidrs: [198.51.100.0/24, 10.77.2.0/24]}
"""
ADDRESSES = (
    Address("eth0", "10.77.1.11", 24),
    Address("eth1", "10.77.2.11", 24),
    Address("eth2", "10.77.3.11", 24),
)
PRODUCT = {
    "format": 1,
    "name": "caisson",
    "version": "0.1.0",
    "profile": {"name": "lab", "lab": True},
    "lock_sha256": "ab",
    "source_date_epoch": 1_700_000_000,
    "versions": {"kubernetes": "1.36.4"},
    "images": {
        "pause": {
            "reference": "registry.k8s.io/pause:3.10.2",
            "digest": "sha256:aa",
            "platform_digest": "sha256:bb",
            "size_bytes": 700,
            "preload": True,
        }
    },
    "packages": {"kubelet": "1.36.4-150500.1.1"},
    "manifests": {"calico": {"path": "manifests/calico-vxlan.yaml", "sha256": "cc"}},
    "rpm_keys": ["keys/baseos.asc", "keys/kubernetes.asc"],
}


def product_bytes(**changes: object) -> bytes:
    """Return a product.json with some keys replaced."""
    return json.dumps({**PRODUCT, **changes}).encode()


def make_product(**changes: object) -> product.Product:
    """Return a parsed product.json."""
    return product.parse(product_bytes(**changes))


def make_config(extra: str = "") -> config.Config:
    """Return a configuration without faults; ``extra`` is YAML that is added at the end."""
    return config.parse(CONFIG_TEXT + extra)


def make_facts() -> facts.Facts:
    """Return what is gathered from the configuration above and a host with three networks."""
    return facts.gather(
        config.parse(CONFIG_TEXT + "node: {name: node1}\n"), ADDRESSES, resolv_conf_file=Path("/nonexistent")
    )


def make_tree(directory: Path, files: dict[str, str]) -> Path:
    """Write files (relative path to text) and their SHA256SUMS; return the directory."""
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    write_sums(directory)
    return directory


def write_repository(media_dir: Path, packages: Iterable[Package]) -> None:
    """Write the metadata of a repository of the media, as createrepo_c does; it has no package files."""
    directory = media_dir / "repo/el9/repodata"
    directory.mkdir(parents=True, exist_ok=True)
    entries = "".join(
        f'<package type="rpm"><name>{package.name}</name><arch>{package.arch}</arch><version epoch="0" '
        f'ver="{package.version.partition("-")[0]}" rel="{package.version.partition("-")[2]}"/></package>'
        for package in packages
    )
    primary = f'<metadata xmlns="http://linux.duke.edu/metadata/common">{entries}</metadata>'
    (directory / "ab-primary.xml.gz").write_bytes(gzip.compress(primary.encode()))
    (directory / "repomd.xml").write_text(
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="filelists"><location href="none"/></data>'
        '<data type="primary"><location href="repodata/ab-primary.xml.gz"/></data></repomd>'
    )


def write_sums(directory: Path) -> None:
    """Write SHA256SUMS over all files of a directory."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(directory)}\n"
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != "SHA256SUMS"
    ]
    (directory / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def make_context(root: Path, **changes: object) -> Context:
    """Return a context whose host is ``root``; its media tree is empty."""
    paths = Paths(root)
    given: dict[str, object] = {
        "config": make_config(),
        "facts": make_facts(),
        "product": make_product(),
        "media_dir": paths.media_dir("0.1.0"),
        "ui": Ui(io.StringIO(), is_terminal=False, interval_s=3600),
        "journal": Journal(paths.journal_file, run_id="run1"),
        "source_dir": root / "mnt",
        "config_file": paths.config_file,
        "paths": paths,
        **changes,
    }
    return Context(**given)  # type: ignore[arg-type]


VENDORED = ("attr", "attrs", "jsonschema", "pyrsistent", "yaml")
"""What the ISO's installer carries."""


def pack_installer(repository_dir: Path) -> bytes:
    """Return the installer with what it carries on the ISO, here from this Python's own packages."""
    specs = [importlib.util.find_spec(name) for name in VENDORED]
    places = [Path(str(spec.origin)).parent for spec in specs if spec is not None]
    return agents.archive(repository_dir, vendor=places)
