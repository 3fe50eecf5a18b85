# SPDX-License-Identifier: Apache-2.0
"""Another ISO of the same versions is used: states, packages, images, program; nothing stops.

On a copy of a kept disk, in the order written. One that is killed, and the way back, are in ``tests/soak``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import kept
from lab.node import Lab, Node

from . import second_iso
from .installing import lab_iso, shell
from .second_iso import IMAGE, SecondIso
from .test_media import FILE, caisson, head, path_of, status

pytestmark = pytest.mark.lab

API = "kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz"
APISERVER = "crictl ps --quiet --state Running --name '^kube-apiserver$'"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondIso]:
    """Return an ISO of another build of the same versions, with an image more and maps of its own."""
    made = second_iso.make(lab_iso(), tmp_path_factory.mktemp("second"), has_clash=False)
    yield made
    made.iso.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def node(second: SecondIso) -> Iterator[Node]:
    with Lab() as lab:
        node = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        assert str(node.attach_iso(second.iso)) == FILE
        caisson(node, "add", FILE)
        yield node


def use(node: Node, name: str, code: int = 0) -> str:
    """Run ``caisson media use`` and return what it says."""
    done = node.run(["caisson", "media", "use", name], check=False, timeout_s=1200)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def in_use(node: Node) -> dict[str, Any]:
    """Return what says which ISO is in use."""
    pillar = shell(node, "tail -n +2 /etc/caisson/pillar/caisson.sls")
    return {
        "installed": json.loads(shell(node, "cat /var/lib/caisson/installed.json"))["full_version"],
        "states": Path(json.loads(pillar)["caisson"]["media_dir"]).name,
        "program": shell(node, "grep -o '/opt/caisson/[^/]*' /usr/bin/caisson").strip().rpartition("/")[2],
        "nginx": shell(node, "grep -o 'root /srv/caisson/[^;]*' /etc/caisson/nginx/nginx.conf | head -1")
        .strip()
        .rpartition("/")[2],
        "packages": shell(
            node, "grep -o '/srv/caisson/[^/]*' /etc/caisson/dnf/repos.d/caisson.repo | head -1"
        )
        .strip()
        .rpartition("/")[2],
    }


def test_another_one_is_used_and_both_serve(node: Node, second: SecondIso) -> None:
    api = shell(node, APISERVER)
    use(node, second.name)
    assert set(in_use(node).values()) == {second.name}
    assert [(row["name"], row["in_use"], row["problem"]) for row in caisson(node, "list")["media"]] == [
        (second.name, True, ""),
        (second.own.full_version, False, ""),
    ]
    assert status(node, 0)["other_media"][0]["name"] == second.own.full_version
    assert head(node, path_of(IMAGE)) == (200, second.image_digest)
    own = next(iter(second.own.images.values()))
    assert head(node, path_of(own.reference)) == (200, own.digest)
    assert head(node, f"/media/{second.own.full_version}/repo/el9/repodata/repomd.xml")[0] == 200
    assert shell(node, APISERVER) == api, "the control plane was not started again"


def test_a_second_time_changes_nothing(node: Node, second: SecondIso) -> None:
    assert "0 changes" in use(node, second.name)


def test_one_that_is_in_use_now_is_not_removed(node: Node, second: SecondIso) -> None:
    error = caisson(node, "remove", second.name, code=12)["error"]
    assert "is in use" in error["message"]
