# SPDX-License-Identifier: Apache-2.0
"""The finished ISO, read with tools that had no part in making it wherever there are such."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import createrepo_c
import pytest
import yaml

from build.evidence import verify
from installer.media import product as installer_product

REPOSITORY_DIR = Path(__file__).parents[2]
TOP_LEVEL = {
    "SHA256SUMS",
    "bootstrap.sh",
    "console",
    "index.html",
    "installer",
    "keys",
    "manifests",
    "nginx",
    "oci",
    "product.json",
    "repo",
    "salt",
    "sbom",
}
INDEX_TYPES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}


def _files(tree_dir: Path) -> dict[str, Path]:
    return {str(file.relative_to(tree_dir)): file for file in tree_dir.rglob("*") if file.is_file()}


def _product(tree_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tree_dir / "product.json").read_text())
    return content


def _blob(tree_dir: Path, digest: str) -> Path:
    return tree_dir / "oci" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_holds_what_the_documentation_names(tree_dir: Path) -> None:
    assert {entry.name for entry in tree_dir.iterdir()} == TOP_LEVEL


def test_verify_finds_nothing(iso_file: Path) -> None:
    report = verify.verify_iso(iso_file)
    assert report.faults == ()
    assert report.is_whole_checked


def test_sums_name_every_other_file_and_agree(tree_dir: Path) -> None:
    """By sha256sum, as an operator would."""
    lines = (tree_dir / "SHA256SUMS").read_text().splitlines()
    paths = [line.split("  ", 1)[1] for line in lines]
    assert paths == sorted(paths)
    assert set(paths) == set(_files(tree_dir)) - {"SHA256SUMS"}
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=tree_dir, check=True, timeout=300)


def test_volume_is_named_after_the_version_and_the_build(iso_file: Path, tree_dir: Path) -> None:
    with iso_file.open("rb") as stream:
        stream.seek(16 * 2048)
        descriptor = stream.read(2048)
    # Source: ECMA-119, 8.4: the volume identifier of the primary descriptor is bytes 40 to 71.
    product = _product(tree_dir)
    name = f"CAISSON_{product['version']}_{product['build']}".replace(".", "_").upper()
    assert descriptor[40:72].decode().rstrip() == name
    assert iso_file.name == f"caisson-{product['version']}-{product['build']}-lab.iso"


def test_modes_and_dates_say_nothing_of_the_builder(tree_dir: Path) -> None:
    epoch: int = _product(tree_dir)["source_date_epoch"]
    assert epoch > 0
    modes = {path: stat.S_IMODE(file.stat().st_mode) for path, file in _files(tree_dir).items()}
    assert modes.pop("bootstrap.sh") == 0o755
    assert set(modes.values()) <= {0o444, 0o644}
    assert {int(file.stat().st_mtime) for file in _files(tree_dir).values()} == {epoch}


def test_a_lab_bundle_says_so_everywhere(iso_file: Path, tree_dir: Path) -> None:
    assert iso_file.name.endswith("-lab.iso")
    assert _product(tree_dir)["profile"] == {"name": "lab", "lab": True}
    assert installer_product.load(tree_dir).is_lab
    page = html.unescape(re.sub(r"<[^>]*>", " ", (tree_dir / "index.html").read_text()))
    assert "lab bundle" in page.lower()


def test_holds_every_image_of_the_inventory(tree_dir: Path) -> None:
    inventory = yaml.safe_load((REPOSITORY_DIR / "images.yaml").read_text())
    wanted = {
        entry["id"] for entry in [*inventory["images"], *inventory["composed"]] if entry.get("role") != "base"
    }
    assert set(_product(tree_dir)["images"]) == wanted


def test_every_image_is_whole_for_linux_amd64(tree_dir: Path) -> None:
    """From the tag down to each layer, every byte by its digest."""
    index = json.loads((tree_dir / "oci" / "index.json").read_text())
    assert json.loads((tree_dir / "oci" / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    names = set()
    for entry in index["manifests"]:
        names.add(entry["annotations"]["org.opencontainers.image.ref.name"])
        manifest = _manifest(tree_dir, entry)
        if entry["mediaType"] in INDEX_TYPES:
            platform = {"os": "linux", "architecture": "amd64"}
            (child,) = [
                one for one in manifest["manifests"] if platform.items() <= one.get("platform", {}).items()
            ]
            manifest = _manifest(tree_dir, child)
        for blob in [manifest["config"], *manifest["layers"]]:
            assert _blob(tree_dir, blob["digest"]).stat().st_size == blob["size"]
    assert names == {image["reference"] for image in _product(tree_dir)["images"].values()}


def _manifest(tree_dir: Path, entry: dict[str, Any]) -> dict[str, Any]:
    data = _blob(tree_dir, entry["digest"]).read_bytes()
    assert len(data) == entry["size"]
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry["digest"]
    content: dict[str, Any] = json.loads(data)
    return content


def test_blobs_are_what_their_names_say(tree_dir: Path) -> None:
    for blob in (tree_dir / "oci" / "blobs" / "sha256").iterdir():
        with blob.open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == blob.name


def test_images_vary_as_upstream_s_do(tree_dir: Path) -> None:
    """An index and a Docker manifest among them: the layout keeps both as they are."""
    types = {
        entry["mediaType"] for entry in json.loads((tree_dir / "oci" / "index.json").read_text())["manifests"]
    }
    assert types & INDEX_TYPES
    assert "application/vnd.docker.distribution.manifest.v2+json" in types


def test_every_package_is_signed_by_a_key_of_the_iso(tree_dir: Path, tmp_path: Path) -> None:
    """By rpm itself, with a key ring that holds nothing else."""
    packages = sorted((tree_dir / "repo" / "el9" / "Packages").glob("*.rpm"))
    assert packages
    database = ["--dbpath", str(tmp_path)]
    keys = [str(tree_dir / key) for key in _product(tree_dir)["rpm_keys"]]
    subprocess.run(["rpmkeys", *database, "--import", *keys], check=True, timeout=60)
    done = subprocess.run(
        ["rpmkeys", *database, "--define", "_pkgverify_level all", "--checksig", *map(str, packages)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if not line.endswith("digests signatures OK")] == []


def test_repodata_names_every_package_as_it_is(tree_dir: Path) -> None:
    repository_dir = tree_dir / "repo" / "el9"
    metadata = createrepo_c.Metadata()
    metadata.locate_and_load_xml(str(repository_dir))
    listed = {metadata.get(key).location_href: metadata.get(key) for key in metadata.keys()}  # noqa: SIM118
    assert set(listed) == {f"Packages/{file.name}" for file in (repository_dir / "Packages").iterdir()}
    for location, package in listed.items():
        with (repository_dir / location).open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == package.pkgId
    wanted = yaml.safe_load((REPOSITORY_DIR / "packages.yaml").read_text())["packages"]
    assert {entry["name"] for entry in wanted} <= {package.name for package in listed.values()}


def test_manifests_are_upstream_s(tree_dir: Path) -> None:
    for entry in _product(tree_dir)["manifests"].values():
        data = (tree_dir / entry["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert list(yaml.safe_load_all(data))


@pytest.mark.parametrize("name", ["salt", "console"])
def test_a_tree_is_the_repository_s(tree_dir: Path, name: str) -> None:
    source_dir = REPOSITORY_DIR / name
    ours = {
        str(file.relative_to(source_dir)): file.read_bytes()
        for file in source_dir.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {path: file.read_bytes() for path, file in _files(tree_dir / name).items()} == ours


def test_vendored_packages_are_pure_python(tree_dir: Path) -> None:
    names = [path for path in _files(tree_dir / "installer") if path.endswith((".so", ".pyd", ".pyc", ".a"))]
    assert names == []
    assert (tree_dir / "installer" / "vendor" / "yaml" / "__init__.py").is_file()


def test_bootstrap_starts_and_explains_itself(tree_dir: Path) -> None:
    """With the interpreter of the machine, and only what is on the ISO."""
    done = subprocess.run(
        [tree_dir / "bootstrap.sh", "bootstrap", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    for word in ("--config", "--accept-lab-bundle", "--from"):
        assert word in done.stdout
    assert not list(tree_dir.rglob("__pycache__"))


@pytest.mark.parametrize("name", ["primary", "filelists"])
def test_repodata_has_no_time_of_its_own(tree_dir: Path, name: str) -> None:
    """A gzip header with a time in it would change with each build."""
    (file,) = (tree_dir / "repo" / "el9" / "repodata").glob(f"*{name}.xml*")
    if file.suffix == ".gz":
        assert file.read_bytes()[4:8] == b"\0\0\0\0"
        assert gzip.decompress(file.read_bytes()).startswith(b"<?xml")
