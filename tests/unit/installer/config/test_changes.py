# SPDX-License-Identifier: Apache-2.0
"""A configuration against the installed one: applied, refused with old and new value, unchanged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ConfigError
from installer.base.paths import Paths
from installer.config import changes
from installer.config.bootstrap import parse
from installer.engine import saltcall
from tests.unit.installer.helpers import CONFIG_TEXT, make_config, make_context, make_facts


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Return the paths of a host that was installed with the helpers' configuration."""
    context = make_context(tmp_path)
    saltcall.write_configuration(context)
    stamp = context.paths.at(changes.FIRST_STAMP)
    stamp.parent.mkdir(parents=True)
    stamp.write_text("{}")
    return context.paths


def verdicts(paths: Paths, extra: str = "", **facts: Any) -> dict[str, str]:
    installed = changes.installed(paths)
    assert installed is not None
    new = changes.values(make_config(extra), dataclasses.replace(make_facts(), **facts))
    return {
        change.key: change.verdict
        for change in changes.compare(installed, new)
        if change.verdict != "unchanged"
    }


def test_the_same_configuration_changes_nothing(paths: Paths) -> None:
    assert verdicts(paths) == {}
    changes.check(paths, make_config(), make_facts())


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ("apiServer: {extraSans: [k8s.example.com]}\n", "apiServer.extraSans"),
        ("overrides: {kubelet: {maxPods: 200}}\n", "overrides.kubelet"),
        ("overrides: {kubeProxy: {mode: iptables}}\n", "overrides.kubeProxy"),
        (
            "overrides: {ignorePreflights: [{id: CSN117, reason: radio clock}]}\n",
            "overrides.ignorePreflights",
        ),
        ('overrides: {kubeadmPatches: {etcd0+merge.yaml: "metadata: {}"}}\n', "overrides.kubeadmPatches"),
    ],
)
def test_what_is_applied(paths: Paths, extra: str, key: str) -> None:
    assert verdicts(paths, extra) == {key: "applied"}
    changes.check(paths, make_config(extra), make_facts())


def test_what_cannot_change_is_refused_all_at_once(paths: Paths) -> None:
    text = "overrides: {kubelet: {cgroupDriver: cgroupfs}}\nnetworks:\n  pods: {cidr: 10.1.0.0/16}\n"
    text += "  services: {cidr: 10.2.0.0/16}\n  controlPlane: {cidrs: [10.77.1.0/24]}\n"
    body = CONFIG_TEXT.replace("clusterName: lab", "clusterName: other").partition("networks:")[0]
    facts = dataclasses.replace(make_facts(), node_name="node9", control_plane_address="10.77.1.99")
    with pytest.raises(ConfigError) as caught:
        changes.check(paths, parse(body + text), facts)
    assert [line.rpartition(": ")[0] for line in caught.value.details.splitlines()] == [
        "clusterName: installed with lab, now other",
        "networks.pods.cidr: installed with 10.233.0.0/16, now 10.1.0.0/16",
        "networks.services.cidr: installed with 10.96.0.0/12, now 10.2.0.0/16",
        "node.name: installed with node1, now node9",
        "networks.controlPlane: this host's address: installed with 10.77.1.11, now 10.77.1.99",
        "overrides.kubelet.cgroupDriver: installed with -, now cgroupfs",
    ]


def test_before_there_is_a_control_plane_all_may_change(tmp_path: Path, paths: Paths) -> None:
    facts = dataclasses.replace(make_facts(), node_name="node9")
    with pytest.raises(ConfigError):
        changes.check(paths, make_config(), facts)
    paths.at(changes.FIRST_STAMP).unlink()
    assert changes.installed(paths) is None
    changes.check(paths, make_config(), facts)


def test_every_value_of_the_pillar_has_a_field(paths: Paths) -> None:
    """A value that nobody compares would be changed on a cluster without a word."""
    told = {field.place for field in changes.FIELDS}
    derived = {
        ("cluster", "endpoint"),  # from the cluster's name
        ("node", "control_plane_interface"),  # a name that the kernel may change; nothing is bound to it
        ("node", "workload_plane_interface"),
    }
    data: dict[str, dict[str, Any]] = changes.values(make_config(), make_facts())
    assert {(part, key) for part, keys in data.items() for key in keys} - told == derived
    assert json.dumps(data)
