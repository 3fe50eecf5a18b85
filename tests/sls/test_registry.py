# SPDX-License-Identifier: Apache-2.0
"""The registry's phase: its steps in their order, what the other phases leave to it, its own configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from installer.engine.phase import States
from installer.operations.bootstrap import PHASES
from tests.sls.compiler import Chunk, Compiler


def applied(phase_name: str) -> States:
    """Return what Salt applies in a phase."""
    (applies,) = (phase.applies for phase in PHASES if phase.name == phase_name)
    assert isinstance(applies, States)
    return applies


def test_the_steps_come_in_their_order_and_each_waits_for_the_one_before(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    states = applied("registry")
    compiled = compiler.compile("registry", pillar)
    assert list(compiled.faults) == []
    ids = [chunk["__id__"] for chunk in compiled.chunks]
    assert [name for name in ids if name in states.steps] == list(states.steps)
    assert states.tells in ids[: ids.index(states.steps[0])]
    assert all(chunk["require"] for chunk in compiled.chunks if chunk["__id__"] in states.steps)


def test_whoever_puts_the_registry_in_place_means_the_same_pod(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    """With another argument the second would write another manifest, and no second run were quiet."""
    found = [
        {key: chunk[key] for key in ("source", "configuration_files", "image")}
        for sls in ("static_pods.placed", "registry", "control_plane")
        for chunk in compiler.compile(sls, pillar).chunks
        if chunk["state"] == "caisson_static_pod"
        and chunk["name"] == "registry"
        and chunk["fun"] in ("placed", "running")
    ]
    assert len(found) >= 3
    entry = pillar["caisson"]["images"]["registry"]
    image = {
        "reference": entry["reference"],
        "digests": [entry["platform_digest"], entry["digest"]],
        "built": pillar["caisson"]["built"],
    }
    assert all(made == found[0] for made in found)
    assert found[0]["image"] == image


def test_no_other_pod_is_compared(compiler: Compiler, pillar: dict[str, Any]) -> None:
    for sls in ("static_pods.placed", "control_plane", "salt_master", "nginx"):
        for chunk in compiler.compile(sls, pillar).chunks:
            if chunk["state"] == "caisson_static_pod" and chunk["name"] != "registry":
                assert chunk.get("image") is None


def _chunk(compiler: Compiler, pillar: dict[str, Any], sls: str, name: str) -> Chunk:
    (found,) = (chunk for chunk in compiler.compile(sls, pillar).chunks if chunk["__id__"] == name)
    return found


def test_the_first_images_leave_the_registry_s_to_its_phase(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    first = _chunk(compiler, pillar, "images.imported", "Import the first images")
    own = _chunk(compiler, pillar, "registry", "Import the image of the registry")
    assert first["pods"] == own["pods"]
    assert (first["left"], own["left"]) == (["newer", "older"], ["older"])
    assert own["images"].items() <= first["images"].items()


def test_the_configuration_is_written_between_the_old_one_and_the_new(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    """What a newer one understands is not for the older one to read, should it be started again meanwhile."""
    ids = [chunk["__id__"] for chunk in compiler.compile("registry", pillar).chunks]
    places = [
        ids.index(name)
        for name in ("Wait until the registry is down", "Write registry configuration", "Run registry")
    ]
    assert places == sorted(places)


def test_neither_media_writes_the_configuration_of_a_registry_of_another_version(
    compiler: Compiler, pillar: dict[str, Any], tmp_path: Path
) -> None:
    """The condition, as Salt asks it: of the real module, with a manifest that there is."""
    tree = tmp_path / "tree"
    modules = tree / "_modules"
    modules.mkdir(parents=True)
    source = Path(__file__).parents[2] / "salt/_modules/caisson_pod_image.py"
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    text = source.read_text().replace("/etc/kubernetes/manifests", str(manifests))
    (modules / source.name).write_text(text.replace("/var/lib/caisson/replaced", str(tmp_path / "none")))
    chunk = _chunk(compiler, pillar, "registry", "Write registry configuration")
    written = tmp_path / "config.yml"
    state = [{"name": str(written)}, {"contents": "x"}, {"unless": chunk["unless"]}]
    (tree / "x.sls").write_text(json.dumps({"Write it": {"file.managed": state}}))
    (tmp_path / "minion").mkdir()
    own = Compiler(tree, tmp_path / "minion", {"id": "node1", "kernel": "Linux"})
    repository = pillar["caisson"]["images"]["registry"]["reference"].rpartition(":")[0]
    for tag, is_written in (("99.0.0", False), ("0.0.1", False), ("none", True)):
        written.unlink(missing_ok=True)
        container = {"name": "registry", "image": f"{repository}:{tag}"}
        pod = {"metadata": {"name": "registry"}, "spec": {"containers": [container]}}
        (manifests / "registry.yaml").write_text(yaml.safe_dump(pod) if tag != "none" else "")
        (said,) = own.apply("x", pillar)
        assert said["result"] is True, said
        assert written.exists() is is_written, said
