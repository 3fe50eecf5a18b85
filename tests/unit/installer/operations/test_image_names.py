# SPDX-License-Identifier: Apache-2.0
"""Names of images are read as containerd reads them, and stored as nginx' map has it (tests/sls/test_images.py)."""

from __future__ import annotations

import pytest

from installer.base.errors import UsageError
from installer.operations.image_names import ImageName, of_path, parse

OWN = ("10.0.0.1:8444", "media.lab.internal:8444")
DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "said", "path"),
    [
        ("nginx", "docker.io/library/nginx:latest", "docker.io/library/nginx"),
        ("nginx:1.30", "docker.io/library/nginx:1.30", "docker.io/library/nginx"),
        ("vendor/app", "docker.io/vendor/app:latest", "docker.io/vendor/app"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1", "docker.io/library/nginx"),
        ("index.docker.io/a/b/c:1", "docker.io/a/b/c:1", "docker.io/a/b/c"),
        ("quay.io/vendor/app:RC.1_x-y", "quay.io/vendor/app:RC.1_x-y", "quay.io/vendor/app"),
        ("localhost/app:1", "localhost/app:1", "localhost/app"),
        ("registry:5000/app", "registry:5000/app:latest", "registry__5000/app"),
        ("r.site:5000/a/b:2", "r.site:5000/a/b:2", "r.site__5000/a/b"),
        ("r.site__5000/a/b:2", "r.site:5000/a/b:2", "r.site__5000/a/b"),
        ("10.0.0.1:8444/site/app:1", "site/app:1", "site/app"),
        ("media.lab.internal:8444/app:1", "app:1", "app"),
        ("10.0.0.1:8443/site/app:1", "10.0.0.1:8443/site/app:1", "10.0.0.1__8443/site/app"),
        ("quay.io/quay.io/a:1", "quay.io/quay.io/a:1", "quay.io/quay.io/a"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}", "quay.io/a"),
        (f"quay.io/a:1@{DIGEST}", f"quay.io/a@{DIGEST}", "quay.io/a"),
    ],
)
def test_a_name_has_one_spelling(text: str, said: str, path: str) -> None:
    name = parse(text, own_names=OWN)
    assert (name.said(), name.path) == (said, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "/app",
        "app:",
        "app:a b",
        "app:" + "x" * 129,
        "App",
        "Quay.io/app",
        "quay.io/App",
        "quay.io/",
        "quay.io//app",
        "quay.io/a..b",
        "quay.io/../a",
        "quay.io/a?x=1",
        "quay.io/a\n",
        "quay.io:x/a",
        "-quay.io/a",
        "quay.io/a@sha256:1",
        "quay.io/a@",
        "https://quay.io/a:1",
        "quay.io/" + "a" * 250,
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not the name of an image"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["quay.io/a:1", "r.site:5000/a/b:1", "docker.io/library/a:1", "localhost/a:1"]
)
def test_what_is_stored_is_read_back(text: str) -> None:
    name = parse(text)
    assert of_path(name.path, name.tag) == name


def test_a_path_without_a_registry_is_the_site_s_own() -> None:
    assert of_path("site/app", "1") == ImageName("", "site/app", "1")
    assert of_path("site/app", "1").said("10.0.0.1:8444") == "10.0.0.1:8444/site/app:1"
    assert of_path("quay.io", "1").said("own") == "own/quay.io:1"
