# SPDX-License-Identifier: Apache-2.0
"""Composed images: the payload of real small RPMs over a real small base."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from build.base.errors import BuildError
from build.bundle.accounts import merge_group, merge_passwd
from build.bundle.basesystem import BaseSystem, scan_base
from build.bundle.compose import run_compose
from build.bundle.composedlayer import Recipe
from build.bundle.filecaps import PAX_NAME, encode
from build.inventory.model import Digest, LockedPackage, User
from build.store import filelist
from build.store.objects import Store
from tests.unit.build.factory import EPOCH, SALT_MASTER, Member, Pot, make_world, tar_layer, zipped

SALT = User(name="salt", uid=450, gid=451, home="/opt/salt", shell="/sbin/nologin")  # noqa: S604 - passwd(5)


@pytest.fixture
def recipe_and_store(tmp_path: Path) -> tuple[Recipe, Store]:
    world = make_world(tmp_path / "world")
    recipe = Recipe(
        image=SALT_MASTER,
        base=world.lock.image("base-os"),
        packages=(world.lock.package("salt"), world.lock.package("salt-master")),
        source_date_epoch=EPOCH,
    )
    return recipe, world.store


def compose(recipe: Recipe, store: Store, directory: Path) -> dict[str, tarfile.TarInfo]:
    """Make the image and return the members of its new layer."""
    run_compose(recipe, store, directory / "image", directory / "part")
    with tarfile.open(directory / "image" / "layer.tar.gz") as archive:
        return {member.name: member for member in archive}


@pytest.mark.subprocess
def test_the_layer_has_the_payload_with_its_owners(
    recipe_and_store: tuple[Recipe, Store], tmp_path: Path
) -> None:
    """By rpm2archive: the payload's compression is rpm's business."""
    members = compose(*recipe_and_store, tmp_path)
    assert {name: (member.uid, member.gid, oct(member.mode)) for name, member in members.items()} == {
        "opt/salt": (450, 450, "0o750"),
        "opt/salt/run.py": (0, 0, "0o755"),
        "usr/lib/salt.conf": (0, 0, "0o644"),  # /lib is a link in the base
        "usr/bin/salt-master": (0, 0, "0o777"),
        "etc/passwd": (0, 0, "0o644"),
        "etc/group": (0, 0, "0o644"),
    }
    assert members["usr/bin/salt-master"].linkname == "/opt/salt/run.py"
    assert {member.mtime for member in members.values()} == {EPOCH}
    assert {member.uname + member.gname for member in members.values()} == {""}


@pytest.mark.subprocess
def test_manifest_and_configuration_belong_to_the_layers(
    recipe_and_store: tuple[Recipe, Store], tmp_path: Path
) -> None:
    """By rpm2archive. A Docker base becomes part of an OCI image, its bytes as they are."""
    recipe, store = recipe_and_store
    compose(recipe, store, tmp_path)
    image = tmp_path / "image"
    layer = (image / "layer.tar.gz").read_bytes()
    config, manifest = (json.loads((image / f"{name}.json").read_bytes()) for name in ("config", "manifest"))
    assert manifest["config"]["digest"] == str(Digest.of_file(image / "config.json"))
    assert [entry["digest"] for entry in manifest["layers"]] == [
        str(recipe.base.layers[0].digest),
        str(Digest.of_bytes(layer)),
    ]
    assert {entry["mediaType"] for entry in manifest["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    }
    assert config["rootfs"]["diff_ids"][1] == str(Digest.of_bytes(gzip.decompress(layer)))
    assert config["config"] == {"Env": ["PATH=/usr/bin"], "Entrypoint": ["/usr/bin/salt-master"]}
    paths = {entry.path.rsplit("/", 1)[1] for entry in filelist.read_part(tmp_path / "part")}
    assert paths == {
        Digest.of_file(image / "manifest.json").hex,
        Digest.of_file(image / "config.json").hex,
        *(entry["digest"].removeprefix("sha256:") for entry in manifest["layers"]),
    }


@pytest.mark.subprocess
def test_the_same_packages_give_the_same_bytes(
    recipe_and_store: tuple[Recipe, Store], tmp_path: Path
) -> None:
    """By rpm2archive."""
    for name in ("one", "two"):
        compose(*recipe_and_store, tmp_path / name)
    assert (tmp_path / "one/image/layer.tar.gz").read_bytes() == (
        tmp_path / "two/image/layer.tar.gz"
    ).read_bytes()


def package_with(pot: Pot, name: str, *members: Member) -> LockedPackage:
    return pot.package(name, members=members)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (Member(path="/a", owner="nobody-known"), "the user 'nobody-known' of /a is unknown"),
        (
            Member(path="/opt/salt/run.py", data=b"other"),
            "two packages have different files at /opt/salt/run.py",
        ),
        (Member(path="/etc/passwd", data=b"x"), "has its own /etc/passwd"),
    ],
    ids=["owner", "conflict", "accounts"],
)
def test_a_payload_that_does_not_fit_is_refused(
    recipe_and_store: tuple[Recipe, Store], tmp_path: Path, member: Member, fault: str
) -> None:
    """By rpm2archive."""
    recipe, store = recipe_and_store
    other = package_with(Pot(store), "zother", member)
    with pytest.raises(BuildError) as caught:
        compose(dataclasses.replace(recipe, packages=(*recipe.packages, other)), store, tmp_path)
    assert fault in caught.value.message
    assert "zother" in caught.value.message + caught.value.details
    assert not (tmp_path / "part").exists()


@pytest.mark.subprocess
def test_hard_links_and_long_names_survive(recipe_and_store: tuple[Recipe, Store], tmp_path: Path) -> None:
    """By rpm2archive."""
    recipe, store = recipe_and_store
    path = "/opt/" + "/".join(["deep" * 12] * 5)
    package = package_with(Pot(store), "zlong", Member(path=path, data=b"content"))
    members = compose(dataclasses.replace(recipe, packages=(package,)), store, tmp_path)
    assert members[path.lstrip("/")].size == 7


def test_the_base_is_read_layer_by_layer(tmp_path: Path) -> None:
    layers = []
    for number, data in enumerate(
        (
            zipped(
                tar_layer({"lib": "usr/lib", "./etc/passwd": b"old:x:1:1::/:/bin/sh\n", "var/run": "../run"})
            ),
            tar_layer({"etc/passwd": b"new:x:2:2::/:/bin/sh\n", "var/.wh.run": b""}),
        )
    ):
        layers.append(tmp_path / str(number))
        layers[-1].write_bytes(data)
    assert scan_base(layers) == BaseSystem(
        links={"lib": "usr/lib"}, passwd="new:x:2:2::/:/bin/sh\n", group=""
    )


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({"var/.wh..wh..opq": b""}, {"lib"}),
        ({".wh.lib": b""}, {"var/run"}),
        ({"var": "elsewhere"}, {"lib", "var"}),
        ({"etc/.wh.passwd": b""}, {"lib", "var/run"}),
    ],
)
def test_what_a_layer_above_hides_is_gone(
    tmp_path: Path, upper: dict[str, bytes | str], left: set[str]
) -> None:
    lower: dict[str, bytes | str] = {
        "lib": "usr/lib",
        "var/run": "../run",
        "etc/passwd": b"root:x:0:0::/:/bin/sh\n",
    }
    for name, files in (("0", lower), ("1", upper)):
        (tmp_path / name).write_bytes(tar_layer(files))
    found = scan_base([tmp_path / "0", tmp_path / "1"])
    assert {*found.links} == left
    assert bool(found.passwd) is ("etc/.wh.passwd" not in upper)


@pytest.mark.parametrize(
    ("data", "reason"), [(b"caf\xe9:x:1:1::/:/bin/sh\n", "no UTF-8"), (b"x" * (1 << 21), "more than")]
)
def test_account_files_that_are_none_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "layer").write_bytes(tar_layer({"etc/passwd": data}))
    with pytest.raises(BuildError, match="/etc/passwd of the base image cannot be read") as caught:
        scan_base([tmp_path / "layer"])
    assert reason in caught.value.details
    assert caught.value.resolution


@pytest.mark.subprocess
def test_file_capabilities_are_kept(recipe_and_store: tuple[Recipe, Store], tmp_path: Path) -> None:
    """By rpm2archive, which does not carry them. A file beside it has none."""
    recipe, store = recipe_and_store
    ping = Member(path="/usr/bin/ping", mode=0o755, capabilities="cap_net_admin,cap_net_raw=p")
    package = package_with(Pot(store), "ping", ping, Member(path="/usr/bin/other"))
    members = compose(dataclasses.replace(recipe, packages=(package,)), store, tmp_path)
    value = members["usr/bin/ping"].pax_headers[PAX_NAME].encode(errors="surrogateescape")
    assert value == encode("cap_net_admin,cap_net_raw=p")
    assert PAX_NAME not in members["usr/bin/other"].pax_headers


@pytest.mark.subprocess
def test_capabilities_that_nobody_knows_are_refused(
    recipe_and_store: tuple[Recipe, Store], tmp_path: Path
) -> None:
    """By rpm2archive."""
    recipe, store = recipe_and_store
    member = Member(path="/usr/bin/new", capabilities="cap_of_tomorrow=ep")
    package = package_with(Pot(store), "new", member)
    with pytest.raises(BuildError, match="file capabilities of /usr/bin/new are unknown"):
        compose(dataclasses.replace(recipe, packages=(package,)), store, tmp_path)


def test_a_layer_in_zstd_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(bytes.fromhex("28b52ffd") + b"\0" * 600)
    with pytest.raises(BuildError, match="cannot be read"):
        scan_base([tmp_path / "layer"])


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("lib/systemd/a", "usr/lib/systemd/a"),
        ("lib", "lib"),
        ("bin/a", "usr/bin/a"),
        ("var/run/x", "run/x"),
        ("round/x", "round/x"),
        ("usr/share/x", "usr/share/x"),
    ],
)
def test_paths_follow_the_links_of_the_base(path: str, resolved: str) -> None:
    links = {"lib": "usr/lib", "bin": "/usr/bin", "var/run": "../run", "round": "round"}
    assert BaseSystem(links=links, passwd="", group="").resolve(path) == resolved


def test_accounts_are_added_once() -> None:
    base = "root:x:0:0:root:/root:/bin/sh\nsalt:x:450:451::/:/bin/sh"
    assert merge_passwd(base, [SALT], "image x") == base + "\n"
    assert merge_group("root:x:0:\n", [SALT], "image x") == "root:x:0:\nsalt:x:451:\n"


@pytest.mark.parametrize("base", ["salt:x:7:7::/:/bin/sh\n", "other:x:450:7::/:/bin/sh\n"])
def test_accounts_of_the_base_are_not_overruled(base: str) -> None:
    with pytest.raises(BuildError, match=r"user 'salt' \(450\) collides"):
        merge_passwd(base, [SALT], "image x")


def test_a_tiny_archive_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    (tmp_path / "empty").write_bytes(buffer.getvalue())
    assert scan_base([tmp_path / "empty"]).links == {}
