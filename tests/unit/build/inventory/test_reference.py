# SPDX-License-Identifier: Apache-2.0
"""Names of images: what is completed, and what is refused before it reaches an address or nginx."""

from __future__ import annotations

import pytest

from build.inventory.reference import Reference, completed, registry_host


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("pause:3", "did you mean 'docker.io/library/pause:3'"),
        ("library/nginx:1", "did you mean 'docker.io/library/nginx:1'"),
        ("registry.k8s.io/pause", "no tag"),
        ("localhost:5000/pause", "no tag"),
        ("registry.k8s.io/Pause:1", "bad name"),
        ("registry.k8s.io/pause:", "bad tag"),
        ("registry.k8s.io/pause:1\n", "bad tag"),
        (f"registry.k8s.io/pause:1@sha256:{'0' * 64}", "has a digest"),
        (f"registry.k8s.io/pause@sha256:{'0' * 64}", "has a digest"),
        (f"registry.k8s.io/{'a' * 256}:1", "bad name"),
        ("registry.k8s.io//pause:1", "bad name"),
        ("registry.k8s.io/../pause:1", "bad name"),
        ("registry.k8s.io/a___b:1", "bad name"),
    ],
)
def test_references_are_whole(reference: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Reference.parse(reference)


@pytest.mark.parametrize(
    "registry",
    [
        'evil.io";include /etc/passwd;#',
        "evil.io'",
        "evil.io;",
        "evil.io\n",
        "evil .io",
        "~^.*$.io",
        "$host.io",
        "{evil}.io",
        "user@evil.io",
        "evil..io",
        "-evil.io",
        ".io",
        "evil.io:",
        "evil.io:0",
        "evil.io:65536",
        "evil.io:5000:5000",
        "Evil.io",
        "\u212aubernetes.io",
        f"{'a' * 260}.io",
    ],
)
def test_hosts_that_are_none_are_refused(registry: str) -> None:
    """What gets here goes into nginx's maps and into addresses."""
    with pytest.raises(ValueError, match=r"registry|digest"):
        Reference.parse(f"{registry}/pause:1")
    with pytest.raises(ValueError, match="registry"):
        registry_host(registry)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:5000/a/b-c/d_e:v1.2-x", None),
        ("localhost/a__b/c--d:1", None),
        ("10.0.0.1:65535/pause:3", None),
        ("docker.io/nginx:1.30", "docker.io/library/nginx:1.30"),
        ("docker.io/library/nginx:1.30", None),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("registry-1.docker.io/calico/node:1", "docker.io/calico/node:1"),
        ("quay.io/nginx:1", None),
    ],
)
def test_a_reference_is_normal_and_reads_back(text: str, expected: str | None) -> None:
    normal = str(Reference.parse(text))
    assert normal == (expected or text)
    assert str(Reference.parse(normal)) == normal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx:1.30", "docker.io/library/nginx:1.30"),
        ("index.docker.io/nginx@sha256:00", "docker.io/library/nginx@sha256:00"),
        ("localhost:5000/pause", "localhost:5000/pause:latest"),
        ("registry.k8s.io/a/b:1@sha256:00", "registry.k8s.io/a/b:1@sha256:00"),
    ],
)
def test_a_short_name_is_completed_as_runtimes_do(text: str, expected: str) -> None:
    assert completed(text) == expected
