# SPDX-License-Identifier: Apache-2.0
"""A node by itself, by the real salt-call in local mode: with the pillar and configuration that a node is sent."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import from_json
from installer.base.paths import Paths
from installer.engine import detached, nodepillar
from installer.operations import settling

SALT_CALL = Path(sys.executable).with_name("salt-call")
TREE = {
    "host.sls": "Say who this is:\n  test.succeed_with_changes:\n"
    "    - name: {{ pillar['caisson']['node']['name'] | json }}\n",
    "containerd.sls": "Find nothing to do:\n  test.nop\n",
    "broken.sls": "Fail here:\n  test.fail_without_changes:\n    - comment: no room\n",
    "wrong.sls": "Say:\n  test.nonesuch: []\n",
}


@pytest.fixture
def paths(tmp_path: Path, worker_pillar: dict[str, Any]) -> Paths:
    """Return a node that was sent what a node is sent, with a small tree of states."""
    caisson = {**worker_pillar["caisson"], "media_dir": str(tmp_path / "opt")}
    (tmp_path / "opt/salt").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    for name, text in TREE.items():
        (tmp_path / "opt/salt" / name).write_text(text)
    for path, text in nodepillar.local_files(caisson).items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    configuration = tmp_path / "etc/caisson/salt/local/minion"
    said = json.loads(configuration.read_text())
    said["pillar_roots"] = {"base": [str(tmp_path / "etc/caisson/pillar")]}
    said["cachedir"] = str(tmp_path / "cache")
    configuration.write_text(json.dumps({**said, "root_dir": str(tmp_path)}))
    return Paths(tmp_path)


def carry_out(paths: Paths, *sls: str) -> dict[str, Any]:
    job_id = detached.start(paths, "a-job", sls, start_unit=lambda *_: None, active=list)
    detached.carry_out(paths, job_id, sls, salt_call=str(SALT_CALL))
    said = detached.look(paths, job_id, active=list)
    assert said["state"] == "ended"
    result: dict[str, Any] = said["result"]
    return result


def test_states_are_applied_in_their_order_with_the_node_s_own_pillar(paths: Paths) -> None:
    assert carry_out(paths, "host", "containerd") == {
        "total": 2,
        "changed": ["Say who this is"],
        "error": None,
    }
    log = (paths.log_dir / "salt.log").read_text()
    assert "node2" in log
    assert detached.look(paths, "another", active=list)["progress"] == "Find nothing to do"


@pytest.mark.parametrize(("sls", "words"), [("broken", "Fail here"), ("wrong", "nonesuch"), ("none", "none")])
def test_what_fails_is_told_in_salt_s_own_words(paths: Paths, sls: str, words: str) -> None:
    result = carry_out(paths, "host", sls)
    error = from_json(result["error"])
    assert error.exit_code == 10
    assert words in error.details


def test_the_minion_s_key_is_made_once(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, repository_dir: Path
) -> None:
    """By Caisson's own module, which the configuration that a node is sent lets Salt find."""
    configuration = paths.at("/etc/caisson/salt/local/minion")
    said = json.loads(configuration.read_text())
    said["module_dirs"] = [str(repository_dir / "salt/_modules")]
    configuration.write_text(json.dumps(said))
    monkeypatch.setattr(settling, "SALT_CALL", str(SALT_CALL))
    is_made, public_key = settling._make_key(paths)
    assert is_made
    assert public_key.startswith("-----BEGIN PUBLIC KEY-----")
    assert paths.at("/etc/salt/pki/minion/minion.pem").stat().st_mode & 0o077 == 0
    assert settling._make_key(paths) == (False, public_key)
