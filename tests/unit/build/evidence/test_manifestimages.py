# SPDX-License-Identifier: Apache-2.0
"""Images are found wherever a manifest names them; a hostile manifest costs nothing."""

from __future__ import annotations

import time

import pytest

from build.base.errors import IntegrityError
from build.evidence.manifestimages import manifest_images
from build.evidence.wanted import full_reference

HEAD = "apiVersion: v1\nkind: Any\n"
DIGEST = "sha256:" + "0" * 64


def found(manifest: str, **not_images: str) -> list[str]:
    excused = {text.replace("_", "/"): reason for text, reason in not_images.items()}
    return [want.reference for want in manifest_images(f"{HEAD}{manifest}".encode(), "m.yaml", excused)]


def test_the_key_image_wherever_it_stands() -> None:
    manifest = b"""
apiVersion: apps/v1
kind: Deployment
metadata: {name: one}
spec:
  template:
    spec:
      initContainers: [{image: "quay.io/a:1"}]
      containers: [{image: busybox}, {name: no image}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: two}
spec: {properties: {image: {type: string, description: "like quay.io/example/a:1"}}}
---
{apiVersion: a/v1, kind: A}
---
apiVersion: v1
kind: List
items:
- image: localhost/c@sha256:00
"""
    wanted = list(manifest_images(manifest, "m.yaml"))
    assert [(want.reference, want.by) for want in wanted] == [
        ("quay.io/a:1", "m.yaml: Deployment one"),
        ("docker.io/library/busybox:latest", "m.yaml: Deployment one"),
        ("localhost/c@sha256:00", "m.yaml: a document without a name"),
    ]


@pytest.mark.parametrize(
    ("manifest", "references"),
    [
        ("spec: {volumes: [{name: v, image: {reference: 'quay.io/a/model:1'}}]}", ["quay.io/a/model:1"]),
        ("args: ['--helper-image=docker.io/busybox:1.37', '-v=2']", ["docker.io/library/busybox:1.37"]),
        (
            "command: [sh, -c, 'run registry.example.com:5000/a/b:v1 now']",
            ["registry.example.com:5000/a/b:v1"],
        ),
        ("args: [--image, localhost:5000/a]", []),
        ("args: [--image, 'registry:5000/a:1.']", ["registry:5000/a:1"]),
        (f"env: [{{name: RELATED_IMAGE_X, value: 'quay.io/x/y@{DIGEST}'}}]", [f"quay.io/x/y@{DIGEST}"]),
        (f"value: docker://quay.io/x/y:v1@{DIGEST}", [f"quay.io/x/y:v1@{DIGEST}"]),
        (
            "data:\n  pod.yaml: |\n    spec:\n      containers:\n      - {name: a, image: busybox}\n",
            ["docker.io/library/busybox:latest"],
        ),
        ('data: {pod.json: \'{"spec": {"image": "nginx:1"}}\'}', ["docker.io/library/nginx:1"]),
        ("data:\n  t: |\n    a: {{ x }}\n    image: quay.io/a/b:1\n", ["quay.io/a/b:1"]),
        (
            "spec: {registry: quay.io, repository: tigera/operator, tag: v1.40}",
            ["quay.io/tigera/operator:v1.40"],
        ),
        ("image: {repository: ghcr.io/a/b, tag: 1.5}", ["ghcr.io/a/b:1.5"]),
        ("image: {repository: a, tag: b}", []),
        (f"x: {{registry: quay.io, repository: a/b, digest: '{DIGEST}'}}", [f"quay.io/a/b@{DIGEST}"]),
        ("x: {repository: nvcr.io/nvidia, image: driver, version: 1.2}", ["nvcr.io/nvidia/driver:1.2"]),
        ("x: {repository: nvcr.io/a, image: 'b:2', version: 1}", ["nvcr.io/a/b:2"]),
        ("x: {registry: quay.io, image: a/b, version: v1}", ["quay.io/a/b:v1"]),
        ("x: {repository: https, image: busybox, version: v1}", ["docker.io/library/busybox:latest"]),
        ("""data: {a: '[{"image": "nginx:1"}]'}""", ["docker.io/library/nginx:1"]),
        ("data: {a: 'image: busybox:1'}", ["docker.io/library/busybox:1"]),
        ("args: ['--taint=node.example.com/a:NoSchedule']", []),
        ("url: 'https://example.com/a:8080/b'", []),
        ("url: 'http://10.0.0.1:8080/a:b'", []),
        ("spec: {apiVersion: projectcalico.org/v3}", []),
        ("caps: 'rbac.authorization.k8s.io/aggregate-to-admin: x'", []),
    ],
)
def test_other_places(manifest: str, references: list[str]) -> None:
    assert found(manifest) == references


def test_what_is_no_image_is_excused() -> None:
    manifest = "args: [a.example.com/b:c, quay.io/d:1]\nimage: docker.io/tool:1"
    assert found(manifest) == ["docker.io/library/tool:1", "a.example.com/b:c", "quay.io/d:1"]
    excused = {"a.example.com/b:c": "a label", "docker.io/tool:1": "never run"}
    assert [want.reference for want in manifest_images((HEAD + manifest).encode(), "m", excused)] == [
        "quay.io/d:1"
    ]


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("docker.io/calico/node:v3", "docker.io/calico/node:v3"),
        ("calico/node:v3", "docker.io/calico/node:v3"),
    ],
)
def test_names_are_completed_as_runtimes_do(short: str, full: str) -> None:
    assert full_reference(short) == full


def bomb(line: str) -> str:
    return "a0: &a0 {k0: 'quay.io/a/b:1'}\n" + "".join(
        line.format(number=number, above=number - 1) for number in range(1, 40)
    )


def test_aliases_are_followed_once() -> None:
    started = time.monotonic()
    lines = "a{number}: &a{number} [*a{above}, *a{above}, *a{above}, *a{above}]\n"
    assert found(bomb(lines)) == ["quay.io/a/b:1"]
    assert found("a: &a [*a, {image: 'quay.io/own/tail:1'}]") == ["quay.io/own/tail:1"]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "manifest",
    [
        bomb("a{number}: &a{number} {{k{number}: 1, <<: [*a{above}, *a{above}, *a{above}, *a{above}]}}\n"),
        "a: " + "[" * 5000 + "]" * 5000,
        "a: [",
    ],
    ids=["merge keys", "deep", "broken"],
)
def test_what_is_no_manifest_is_refused(manifest: str) -> None:
    started = time.monotonic()
    with pytest.raises(IntegrityError, match=r"'m\.yaml' is not YAML that can be read"):
        found(manifest)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "value",
    ["=", "2024-02-30", "!Ref x", "1" + "0" * 5000, "0b", "99999:99:99", "!!python/object:os.system {}"],
)
def test_values_are_text_whatever_they_look_like(value: str) -> None:
    assert found(f"enum: [{value}]\nspec: {{image: a/b:1}}") == ["docker.io/a/b:1"]
    assert found(f"spec: {{image: {{repository: quay.io/a/b, tag: 1.40}}, of: [{value}]}}") == [
        "quay.io/a/b:1.40"
    ]
    assert found("spec: [{image: null}, {image: ~}, {image: }, {image: true}]") == []
