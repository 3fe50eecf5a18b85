# SPDX-License-Identifier: Apache-2.0
"""What the bundle says of itself: product.json, index.html, SHA256SUMS."""

from __future__ import annotations

import dataclasses
import html
import html.parser
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from build.base.errors import BuildError
from build.bundle import page, product
from build.inventory.model import Digest
from build.store import filelist
from build.store.filelist import Entry
from installer.cli import main as cli
from tests.unit.build.factory import World, make_project, make_world

TOOLS = {"createrepo_c": "1.2.5", "rpm": "4.18.0", "xorriso": "1.5.4", "zlib": "1.3"}
IMAGES = {
    "pause": {
        "reference": "registry.k8s.io/pause:3.10.2",
        "digest": "sha256:" + "a" * 64,
        "platform_digest": "sha256:" + "b" * 64,
        "size_bytes": 745_472,
        "preload": True,
    }
}
LICENCES = {"kubelet": "ASL 2.0", "registry.k8s.io/pause:3.10.2": "Apache-2.0 & others"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def whole(world: World) -> product.Product:
    return product.Product(lock=world.lock, inventory=world.inventory, lock_digest=Digest.of_bytes(b"lock"))


def some_entries() -> list[Entry]:
    return [
        Entry(path=path, source=Path("/x"), size_bytes=5, digest=Digest.of_bytes(b"x"))
        for path in ("salt/top.sls", "bootstrap.sh")
    ]


def test_product_json(world: World, golden: Callable[[str, str], None]) -> None:
    document = product.render_product(whole(world), IMAGES, TOOLS)
    golden("product.json", json.dumps(document, indent=2, sort_keys=True) + "\n")


def test_an_epoch_is_part_of_a_version(world: World) -> None:
    package = dataclasses.replace(world.lock.package("kubelet"), epoch=4)
    lock = dataclasses.replace(world.lock, packages=(package,))
    document = product.render_product(dataclasses.replace(whole(world), lock=lock), {}, {})
    assert document["packages"] == {"kubelet": "4:1.36.4-150500.1.1"}


def test_the_name_of_a_lab_bundle_says_so(world: World) -> None:
    build = f"20251009.{Digest.of_bytes(b'lock').hex[:8]}"
    assert whole(world).bundle_name == f"caisson-0.1.0-{build}-lab.iso"
    lock = dataclasses.replace(world.lock, is_lab=False)
    assert dataclasses.replace(whole(world), lock=lock).bundle_name == f"caisson-0.1.0-{build}.iso"


def test_two_locks_give_two_names_everywhere(world: World) -> None:
    one = whole(world)
    other = dataclasses.replace(one, lock_digest=Digest.of_bytes(b"another lock"))
    assert one.version == other.version
    for names in zip(*((item.build, item.bundle_name, item.volume_id) for item in (one, other)), strict=True):
        assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("version", "volume"),
    [
        ("0.1.0", "CAISSON_0_1_0_20261127_1A2B3C4D"),
        ("10.20.30", "CAISSON_10_20_20261127_1A2B3C4D"),
        ("1.0.0-rc.1+x", "CAISSON_1_0_0_20261127_1A2B3C4D"),
        ("9" * 40, "CAISSON_999999_20261127_1A2B3C4D"),
    ],
)
def test_the_volume_is_named_within_the_rules(version: str, volume: str) -> None:
    found = product.volume_id(version, "20261127.1a2b3c4d")
    assert found == volume
    assert len(found) <= 32
    assert found != product.volume_id(version, "20261127.1a2b3c4e")


def test_a_tool_that_changed_since_the_same_lock_was_built_is_told(world: World, tmp_path: Path) -> None:
    file = tmp_path / "product.json"
    now = product.render_product(whole(world), IMAGES, TOOLS)
    assert product.changed_tools(file, now) == ()
    file.write_text(json.dumps(now))
    assert product.changed_tools(file, now) == ()
    file.write_text(json.dumps({**now, "tools": {**TOOLS, "xorriso": "1.5.2"}}))
    assert product.changed_tools(file, now) == (
        "xorriso was 1.5.2 when this lock was built before, it is 1.5.4 now: other bytes are possible",
    )
    file.write_text(json.dumps({**now, "tools": {}, "lock_sha256": "0" * 64}))
    assert product.changed_tools(file, now) == ()
    file.write_text("[")
    assert product.changed_tools(file, now) == ()


def test_index_html(world: World, golden: Callable[[str, str], None]) -> None:
    document = product.render_product(whole(world), IMAGES, TOOLS)
    text = page.render_page(
        world.lock, world.inventory, document, some_entries(), LICENCES, image="caisson.iso"
    )
    golden("index.html", text)


class Balance(html.parser.HTMLParser):
    """Follows the tags of a page that are opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert name != "src", "a page without a network"
            assert name != "href" or (value and "://" not in value and not value.startswith("/"))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_well_formed_and_escapes_what_it_is_given(world: World) -> None:
    inventory = dataclasses.replace(
        world.inventory,
        images=tuple(
            dataclasses.replace(image, purpose="<script>alert('x')</script>")
            for image in world.inventory.images
        ),
    )
    document = product.render_product(whole(world), IMAGES, TOOLS)
    text = page.render_page(world.lock, inventory, document, some_entries(), {}, image="x.iso")
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert "<script>" not in text
    assert "<script>alert('x')</script>" in "".join(balance.text)


def test_only_a_lab_bundle_warns(world: World) -> None:
    lock = dataclasses.replace(world.lock, is_lab=False)
    document = product.render_product(dataclasses.replace(whole(world), lock=lock), IMAGES, TOOLS)
    text = page.render_page(lock, world.inventory, document, [], {}, image="x.iso")
    assert "lab bundle" not in text.lower()
    assert 'class="lab"' not in text
    assert "--accept-lab-bundle" not in text


def test_sums_are_sorted_by_path() -> None:
    digest = Digest.of_bytes(b"x").hex
    assert product.render_sums(some_entries()) == f"{digest}  bootstrap.sh\n{digest}  salt/top.sls\n"


@pytest.mark.subprocess
def test_a_path_that_two_parts_want_stops_the_build(world: World, tmp_path: Path) -> None:
    """By xorriso and rpm, for their versions."""
    project = make_project(world, tmp_path)
    part = tmp_path / "part.json"
    filelist.write_part(
        part,
        [
            Entry(
                path="manifests/cni.yaml",
                source=part,
                size_bytes=1,
                digest=Digest.of_bytes(b"y"),
                owners=("a",),
            )
        ],
    )
    for step in list(project.plan_images()):
        step.run()
    step = product.plan_product(whole(world), [part], world.store, project.workspace)
    with pytest.raises(BuildError, match="want the same path") as caught:
        step.run()
    assert "manifests/cni.yaml: a and manifest cni differ" in caught.value.details


def test_commands_of_the_page_are_those_of_the_installer() -> None:
    """The page of a lab bundle shows more options: each command takes those that stand behind it."""
    text = html.unescape((Path(__file__).parent / "golden/index.html").read_text(encoding="utf-8"))
    commands = re.findall(r"^(?:<pre>)?/mnt/bootstrap\.sh (.+?)(?:</pre>)?$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(re.sub(r"\s*(#|>).*", "", command))
        words = words if words[0] in cli.COMMANDS else ["bootstrap", *words]
        cli.make_parser("bootstrap.sh").parse_args(words)
