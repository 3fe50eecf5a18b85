# SPDX-License-Identifier: Apache-2.0
"""nginx' certificate: the installer renews it as the state makes it, and the site's authority is published."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.config import leaf, x509
from installer.config.leaf import Leaf
from installer.operations import media_certificate, replica_certificate
from tests.authorities import make_authority, make_leaf
from tests.sls.compiler import GRAINS, Compiler
from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

SITE = {"certificate_file": "/root/m.crt", "key_file": "/root/m.key", "authority_file": "/root/ca.crt"}


def test_the_installer_renews_it_word_for_word_as_the_state_makes_it(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    """Else the next bootstrap would make another one, and start nginx with it."""
    (chunk,) = (
        chunk
        for chunk in compiler.compile("pki.media", pillar).chunks
        if chunk["__id__"] == "Create media server certificate"
    )
    wanted = media_certificate.arguments(pillar["caisson"])
    assert {key: chunk[key] for key in wanted} == wanted
    own = {"state", "fun", "order", "require"}
    assert {key for key in chunk if not key.startswith("__")} - set(wanted) <= own


def test_with_a_certificate_of_the_site_nginx_serves_that_and_its_authority_is_published(
    compiler: Compiler, pillar: dict[str, Any]
) -> None:
    with_site = copy.deepcopy(pillar)
    with_site["caisson"]["media"] = {"certificate": SITE}
    for given, name, sources in (
        (pillar, "media", ["/etc/caisson/pki/ca.crt"]),
        (with_site, "site", ["/etc/caisson/pki/ca.crt", "/etc/caisson/pki/site-ca.crt"]),
    ):
        conf = compiler.render(
            "salt://nginx/files/nginx.conf.j2", {"address": "192.0.2.11", "media_dir": "/srv"}, given
        )
        assert f"ssl_certificate /etc/caisson/tls/{name}.crt;" in conf
        assert f"ssl_certificate_key /etc/caisson/tls/{name}.key;" in conf
        compiled = compiler.compile("pki", given)
        assert list(compiled.faults) == []
        (chunk,) = (chunk for chunk in compiled.chunks if chunk["__id__"] == "Publish CA certificate")
        assert chunk["sources"] == sources


def test_that_of_a_further_media_server_is_signed_again_for_the_key_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real Salt, given the public key alone; the way of the words: test_replica_renewal.py."""
    paths = Paths(tmp_path)
    authority = make_authority(tmp_path / "ca")
    certificate, key = make_leaf(tmp_path, authority, names=("192.0.2.12",))
    note = replica_certificate.note_file(paths, "cp2")
    note.parent.mkdir(parents=True)
    note.write_bytes(certificate.read_bytes())
    given: list[dict[str, Any]] = []

    def single(function: str, wanted: dict[str, Any]) -> None:
        signing = {"signing_private_key": str(authority[1]), "signing_cert": str(authority[0])}
        given.append({**wanted, **signing})
        tree_dir = tmp_path / "tree"
        tree_dir.mkdir()
        words = [{name: value} for name, value in given[-1].items()]
        (tree_dir / "one.sls").write_text(json.dumps({"Sign it:": {function: words}}))
        said = Compiler(tree_dir, tmp_path / "minion", GRAINS).apply("one", {})[0]
        assert said["result"] is True, said

    monkeypatch.setattr(replica_certificate, "_single", single)
    text = replica_certificate.sign_again("cp2", "192.0.2.12", "media.lab.internal", paths)
    (tmp_path / "new.crt").write_bytes(text)
    assert x509.names(tmp_path / "new.crt") == {"192.0.2.12", "cp2", "media.lab.internal"}
    found = Leaf(tmp_path / "new.crt", key, authority[0])
    assert list(leaf.examine(found, ("192.0.2.12", "media.lab.internal"))) == []


def test_a_timer_looks_each_day(compiler: Compiler, pillar: dict[str, Any]) -> None:
    compiled = compiler.compile("nginx", pillar)
    assert list(compiled.faults) == []
    units = {chunk["unit"] for chunk in compiled.chunks if chunk["state"] == "caisson_service"}
    assert units >= {"caisson-renew.service", "caisson-renew.timer"}


def test_published_holds_all_and_changes_nothing_twice(tmp_path: Path) -> None:
    state: Any = load("caisson_certificate", STATES_DIR)
    result: Any = load("caisson_result")
    state.__dict__.update(__salt__={"caisson_result.ensure": result.ensure}, __opts__={"test": False})
    one, two, file = tmp_path / "1", tmp_path / "2", tmp_path / "ca.crt"
    one.write_text("ONE\n\n")
    two.write_text("TWO")
    said = state.published(str(file), [str(one), str(two)])
    assert (said["result"], said["changes"]) == (True, {str(file): "written"})
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("ONE\nTWO\n", 0o644)
    assert state.published(str(file), [str(one), str(two)])["changes"] == {}
    two.unlink()
    said = state.published(str(file), [str(one), str(two)])
    assert (said["result"], said["comment"]) == (False, f"{two}: is not there")
    state.__opts__["test"] = True
    assert state.published(str(file), [str(one), str(two)])["result"] is None


@pytest.mark.parametrize("name", ["nginx.conf", "oci-maps.conf"])
def test_a_newer_certificate_is_no_new_pod(compiler: Compiler, pillar: dict[str, Any], name: str) -> None:
    (chunk,) = (c for c in compiler.compile("nginx", pillar).chunks if c["__id__"] == "Run nginx")
    assert f"/etc/caisson/nginx/{name}" in chunk["configuration_files"]
    assert not [file for file in chunk["configuration_files"] if "/tls/" in file or "/pki/" in file]
