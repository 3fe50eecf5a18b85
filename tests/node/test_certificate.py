# SPDX-License-Identifier: Apache-2.0
"""nginx' certificate on a node that was bootstrapped: listed, renewed in place, one of the site taken and refused.

On a copy of a kept disk, in the order written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from lab import kept
from lab.node import Lab, Node
from tests.authorities import make_authority, make_leaf

from .installing import lab_iso, shell

pytestmark = pytest.mark.lab

ADDRESS = "10.77.1.11"
CURL = "curl --silent --show-error --fail --cacert /etc/caisson/ca.crt --output /dev/null"
NGINX = "crictl ps --quiet --state Running --label io.kubernetes.pod.namespace=kube-system --name '^nginx$'"
OWN = "/etc/caisson/tls/media.crt"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())


def certificates(node: Node, action: str, code: int = 0) -> Any:
    """Run ``caisson certificates .. --json``; what it prints is as its schema says."""
    done = node.run(["caisson", "certificates", action, "--json"], check=False, timeout_s=300)
    assert done.returncode == code, done.stdout + done.stderr
    data = json.loads(done.stdout)
    jsonschema.validate(data, schemas.load("certificates"))
    return data


def test_it_is_listed_and_the_timer_runs(node: Node) -> None:
    listed = {entry["file"]: entry for entry in certificates(node, "list")["certificates"]}
    assert listed[OWN]["days_left"] > 800
    assert shell(
        node, "systemctl is-active caisson-renew.timer; systemctl is-enabled caisson-renew.timer"
    ).split() == [
        "active",
        "enabled",
    ]
    assert certificates(node, "renew")["served"]["done"] == []


@pytest.mark.parametrize("way", ["caisson certificates renew", "systemctl start caisson-renew.service"])
def test_it_is_renewed_without_a_restart(node: Node, way: str) -> None:
    nginx, before = shell(node, NGINX), shell(node, f"sha256sum {OWN}")
    shell(node, f": > {OWN}")
    shell(node, way, timeout_s=300)
    assert shell(node, f"sha256sum {OWN}") != before
    assert shell(node, NGINX) == nginx, "the pod was not started again"
    shell(node, f"{CURL} https://{ADDRESS}:8443/v2/")
    assert certificates(node, "renew")["served"]["done"] == []


def test_it_is_renewed_while_the_iso_is_away(node: Node) -> None:
    place = shell(node, "ls -d /srv/caisson/*").strip()
    loop = shell(node, f"findmnt --noheadings --output SOURCE {place}").strip()
    backing = shell(node, f"losetup --noheadings --output BACK-FILE {loop}").strip()
    shell(node, f"umount {place}; : > {OWN}")
    try:
        assert certificates(node, "renew")["served"]["days_left"] > 800
    finally:
        shell(node, f"mount -t iso9660 -o loop,ro {backing} {place}")


def test_a_second_bootstrap_finds_nothing_to_change(node: Node) -> None:
    """The renewed one is as the state would have made it."""
    nginx = shell(node, NGINX)
    done = node.run(["caisson", "bootstrap", "--accept-lab-bundle"], check=False, timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 changes" in done.stdout
    assert shell(node, NGINX) == nginx


def test_a_certificate_of_the_site_is_refused_or_served(node: Node, tmp_path: Any) -> None:
    authority = make_authority(tmp_path / "site")
    text = shell(node, "cat /etc/caisson/bootstrap.yaml")
    media = (
        "media:\n  certificate: {certificateFile: /root/media.crt, keyFile: /root/media.key, "
        "authorityFile: /root/site-ca.crt}\n"
    )
    node.write_file("/root/bootstrap.yaml", text + media)
    node.write_file("/root/site-ca.crt", authority[0].read_text())
    name = "media.lab.internal"
    for names, code in ((("10.9.9.9", name), 3), ((ADDRESS, name), 0)):
        leaf, key = make_leaf(tmp_path, authority, names=names)
        node.write_file("/root/media.crt", leaf.read_text())
        node.write_file("/root/media.key", key.read_text())
        shell(node, "chmod 0600 /root/media.key /root/bootstrap.yaml")
        done = node.run(
            ["caisson", "bootstrap", "--config", "/root/bootstrap.yaml", "--accept-lab-bundle"],
            check=False,
            timeout_s=900,
        )
        assert (done.returncode == 0) == (code == 0), done.stdout + done.stderr
        if code:
            assert "IP address mismatch" in done.stderr
    assert certificates(node, "renew")["served"]["is_of_site"] is True
    shell(node, f"{CURL} https://{ADDRESS}:8443/v2/")
    leaf, key = make_leaf(tmp_path, authority, names=(ADDRESS, name))
    nginx = shell(node, NGINX)
    node.write_file("/root/media.crt", leaf.read_text())
    node.write_file("/root/media.key", key.read_text())
    shell(node, "chmod 0600 /root/media.key")
    done_words = certificates(node, "renew")["served"]["done"]
    assert done_words == ["the site's was taken from its files", "nginx has read it"]
    assert shell(node, NGINX) == nginx
