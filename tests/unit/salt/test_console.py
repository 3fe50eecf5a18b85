# SPDX-License-Identifier: Apache-2.0
"""What the console of a control plane is told, and what Kubernetes is told of its roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

CAISSON: dict[str, Any] = {
    "node": {"name": "node1", "control_plane_address": "10.77.1.11"},
    "networks": {"vip": None, "control_plane": ["10.77.1.0/24"]},
    "cluster": {"name": "lab", "endpoint": "api.lab.internal"},
    "product": {"version": "1", "build": "b", "profile": "lab", "lab": True},
}
WITH_VIP = {**CAISSON, "networks": {"vip": "10.77.9.9", "control_plane": ["10.77.1.0/24"]}}
GROUP = "console.caisson.internal"
ROLES_FILE = Path(__file__).parents[3] / "salt/console/files/roles.yaml"


def test_the_settings_name_where_it_listens_and_how_it_is_called() -> None:
    said = load("caisson_console").settings(WITH_VIP, 9443, 6443)
    assert said["listen"] == ["10.77.1.11", "10.77.9.9"]
    assert {"node1", "console.lab.internal", "api.lab.internal"} < set(said["names"])
    assert said["api"] == "https://api.lab.internal:6443"
    assert "key" not in json.dumps(said)


def test_the_certificate_is_for_the_same_addresses_and_names() -> None:
    module = load("caisson_console")
    assert module.alternative_names(CAISSON) == (
        "IP:10.77.1.11, DNS:node1, DNS:console.lab.internal, DNS:api.lab.internal"
    )
    assert "IP:10.77.9.9" in module.alternative_names(WITH_VIP)


def test_packets_are_exchanged_with_the_control_plane_alone() -> None:
    module = load("caisson_console")
    assert module.allowed_networks(WITH_VIP) == ["10.77.1.0/24", "10.77.1.11/32", "10.77.9.9/32"]


class Cluster:
    """An API that has objects, through the module's own kubectl."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items
        self.applied: list[str] = []

    def kubectl(self, *words: str, **_: object) -> str:
        assert words[0] == "get"
        return json.dumps({"items": self.items}) if self.items else ""


@pytest.fixture
def roles() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load(ROLES_FILE.read_text())["items"]
    return items


def differing(monkeypatch: pytest.MonkeyPatch, items: list[dict[str, Any]]) -> list[str]:
    module: Any = load("caisson_kubernetes")
    monkeypatch.setattr(module, "kubectl", Cluster(items).kubectl)
    found: list[str] = module.differing(ROLES_FILE.read_text())
    return found


def test_roles_that_somebody_changed_or_deleted_are_seen(
    monkeypatch: pytest.MonkeyPatch, roles: list[dict[str, Any]]
) -> None:
    there = [{**item, "metadata": {**item["metadata"], "uid": "1"}} for item in roles]
    assert differing(monkeypatch, there) == []
    assert differing(monkeypatch, there[1:]) == ["namespace/caisson-users"]
    changed = [*there[:2], {**there[2], "rules": []}, there[3]]
    assert differing(monkeypatch, changed) == ["clusterrole/caisson-operator"]
    assert len(differing(monkeypatch, [])) == 4


def test_who_looks_sees_no_secret_and_changes_nothing(roles: list[dict[str, Any]]) -> None:
    by_name = {item["metadata"]["name"]: item.get("rules", []) for item in roles}
    viewer, operator = by_name["caisson-viewer"], by_name["caisson-operator"]
    assert {verb for rule in viewer for verb in rule["verbs"]} == {"get", "list", "watch"}
    for rules in (viewer, operator):
        named = {resource for rule in rules for resource in rule.get("resources", [])}
        assert not named & {"secrets", "configmaps", "*", "serviceaccounts/token"}
    looked_at = {
        resource for rule in viewer if GROUP in rule.get("apiGroups", []) for resource in rule["resources"]
    }
    assert "jobs" in looked_at
    assert "reports" not in looked_at, "a report has journals and manifests in it"
    own = [rule for rule in operator if set(rule["verbs"]) & {"create", "delete"}]
    assert all(rule["apiGroups"] == [GROUP] for rule in own)
    assert operator[: len(viewer)] == viewer


def test_the_rights_that_the_installer_asks_for_are_given(roles: list[dict[str, Any]]) -> None:
    from installer.operations.door import acts, rights  # noqa: PLC0415

    def may(name: str, right: rights.Right) -> bool:
        rules = next(item["rules"] for item in roles if item["metadata"]["name"] == name)
        return any(
            {rights.GROUP, "*"} & set(rule.get("apiGroups", []))
            and {right.resource, "*"} & set(rule["resources"])
            and {right.verb, "*"} & set(rule["verbs"])
            for rule in rules
        )

    wanted = {*acts.RIGHTS.values(), acts.CANCEL}
    assert all(may("caisson-admin", right) for right in wanted)
    assert not any(may("caisson-viewer", right) for right in wanted)
    refused = {right for right in wanted if not may("caisson-operator", right)}
    assert refused == {rights.Right("delete", "hosts")}


def test_a_public_key_is_shown_once(tmp_path: Path) -> None:
    state: Any = load("caisson_console", STATES_DIR)
    shown = {"text": "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n"}
    functions = {
        "caisson_result.ensure": load("caisson_result").ensure,
        "caisson_console.public_key": lambda _: shown["text"],
    }
    state.__dict__.update(__salt__=functions, __opts__={"test": False})
    file = tmp_path / "tls.pub"
    (tmp_path / "tls.key").touch()
    assert state.key_shown(str(file), str(tmp_path / "tls.key"))["changes"]
    assert file.read_text() == shown["text"]
    assert not state.key_shown(str(file), str(tmp_path / "tls.key"))["changes"]


def test_a_service_that_runs_is_started_again_for_newer_files_alone(tmp_path: Path) -> None:
    state: Any = load("caisson_service", STATES_DIR)
    module: Any = load("caisson_service")
    file = tmp_path / "console.json"
    file.write_text("{}")
    said: list[tuple[str, ...]] = []
    now = {"started": 0}
    functions = {
        "caisson_result.ensure": load("caisson_result").ensure,
        "caisson_service.started_s": lambda _: now["started"],
        "caisson_service.newer": module.newer,
        "caisson_service.systemctl": lambda *words: said.append(words),
    }
    state.__dict__.update(__salt__=functions, __opts__={"test": False})

    def renew() -> bool:
        return bool(state.renewed("x", "caisson-console.service", [str(file)])["changes"])

    assert not renew()
    now["started"] = int(file.stat().st_mtime)
    assert not renew()
    now["started"] -= 5
    assert renew()
    assert said == [("daemon-reload",), ("try-restart", "caisson-console.service")]
