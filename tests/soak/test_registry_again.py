# SPDX-License-Identifier: Apache-2.0
"""A registry that is replaced, cut off or older, and the images that a site brings: each takes further bootstraps."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import kept
from lab.node import Lab, Node
from tests.node.installing import lab_iso, shell
from tests.node.test_registry import (
    BOOTSTRAP,
    CTR,
    DNS,
    MANIFEST_FILE,
    NEWER,
    OLDER,
    PAUSE,
    READ,
    REPLACED_FILE,
    again,
    asked,
    await_registry,
    exported,
    registry_image,
    run_as,
    steps_of,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Yield a node that was bootstrapped some time ago."""
    with Lab() as lab:
        yield kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())


@pytest.fixture(scope="module")
def archives(node: Node) -> dict[str, str]:
    """Return two images of the ISO as archives on the node."""
    return exported(node)


@pytest.mark.parametrize("cut", ["after the removal", "while it goes down"])
def test_a_replacement_that_is_cut_off_ends_where_it_would_have(node: Node, cut: str) -> None:
    """What a killed run leaves is put there: the manifest beside, none in its place."""
    ours = registry_image(node)
    older = run_as(node, OLDER)
    shell(node, f"mkdir -p $(dirname {REPLACED_FILE}); cp {MANIFEST_FILE} {REPLACED_FILE}")
    if cut == "while it goes down":
        shell(node, f"rm {MANIFEST_FILE}")
    again(node)
    assert registry_image(node) == ours
    await_registry(node, ours)
    assert shell(node, f"ls {REPLACED_FILE} 2>/dev/null || true") == ""
    assert ", 0 changes" in again(node)
    shell(node, f"{CTR} remove {older}")


def test_an_older_media_leaves_a_newer_registry_alone(node: Node) -> None:
    """The node's registry says that it is newer: for the bootstrap its own media is then an older one."""
    ours = node.read_file(MANIFEST_FILE)
    newer = run_as(node, NEWER)
    running = shell(node, "crictl ps --quiet --state running --name '^registry$'")
    said = again(node)
    assert f"registry: {NEWER} is left as it is, the media's" in said
    assert registry_image(node) == newer
    assert shell(node, "crictl ps --quiet --state running --name '^registry$'") == running
    assert ", 0 changes" in said
    # As it was, for the tests that follow.
    shell(
        node,
        f"cat > /etc/kubernetes/.registry <<'END'\n{ours}END\nmv /etc/kubernetes/.registry {MANIFEST_FILE}",
    )
    await_registry(node, registry_image(node))
    shell(node, f"{CTR} remove {newer}")


def test_images_that_the_site_brings_are_pushed_by_the_bootstrap(
    node: Node, archives: dict[str, str]
) -> None:
    """Out of a directory: one archive is enough to be pulled by its name, and a second run sends nothing."""
    name = shell(node, f"{CTR} list --quiet | grep '^{PAUSE}'").split()[0]
    shell(node, f"{CTR} tag --force {name} quay.io/brought/app:1; mkdir -p /root/brought")
    shell(
        node,
        f"{CTR} export --local --platform linux/amd64 /root/brought/app.tar quay.io/brought/app:1; "
        f"{CTR} remove quay.io/brought/app:1",
    )
    configuration = node.read_file("/etc/caisson/bootstrap.yaml")
    text = f"{configuration.rstrip()}\nimages: {{directory: /root/brought}}\n"
    shell(node, f"cat > /root/brought.yaml <<'END'\n{text}END")
    options = "--config /root/brought.yaml"
    # A reference of the ISO is refused, by its name, before anything is pushed.
    shell(node, f"cp {archives[DNS]} /root/brought/dns.tar")
    refused = node.run(["bash", "-c", f"{BOOTSTRAP} {options} 2>&1"], check=False, timeout_s=600)
    assert refused.returncode == 6, refused.stdout
    assert "is an image of the ISO" in refused.stdout
    assert asked(node, "/v2/brought/app/manifests/1?ns=quay.io", where=READ) == 404
    shell(node, "rm /root/brought/dns.tar")
    first = again(node, options)
    assert "1 image of the site, 1 new" in first
    assert [step.split()[1] for step in steps_of(node, "site-images")] == ["quay.io/brought/app:1"]
    shell(node, "crictl pull quay.io/brought/app:1", timeout_s=120)
    second = again(node, options)
    assert "1 image of the site, 0 new" in second
    assert ", 0 changes" in second
    # The drive is taken away.
    shell(node, "rm -r /root/brought")
    third = again(node, options)
    assert "not there any more, and pushed before: /root/brought" in third
    assert ", 0 changes" in third
    listed = json.loads(shell(node, "caisson images list --json", timeout_s=120))["images"]
    (entry,) = [entry for entry in listed if entry["name"] == "quay.io/brought/app:1"]
    assert (entry["origin"], entry["nodes"]) == ("site", ["node1"])
    shell(
        node,
        f"cat > /root/before.yaml <<'END'\n{configuration}END\ncaisson bootstrap --config /root/before.yaml",
    )
