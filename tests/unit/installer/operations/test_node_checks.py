# SPDX-License-Identifier: Apache-2.0
"""``caisson check`` of further nodes: asked over the bus, without what others must not see of the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from installer.base.errors import CommandError, UsageError
from installer.base.paths import Paths
from installer.checks import CHECKS
from installer.checks.preflight import Finding, Report, Result, Status
from installer.config import bootstrap as config
from installer.engine import pillartop
from installer.operations import bus, node_checks
from tests.unit.installer.helpers import make_config, product_bytes

OVERRIDES = """\
node: {name: node1}
overrides:
  kubelet: {failSwapOn: false, maxPods: 200}
  containerd: "version = 3\\n[x]\\npassword = 'geheim'"
  kubeadmPatches: {etcd.json: '{"password": "geheim"}'}
  allowPackageChanges: [runc]
  ignorePreflights: [{id: CSN101, reason: small}]
apiServer: {extraSans: [geheim.example]}
"""


@pytest.fixture
def tree(tmp_path: Path, repository_dir: Path) -> Path:
    directory = tmp_path / "tree"
    (directory / "salt/parameters").mkdir(parents=True)
    (directory / "product.json").write_bytes(product_bytes())
    ports = (repository_dir / "salt/parameters/ports.yaml").read_text()
    (directory / "salt/parameters/ports.yaml").write_text(ports)
    return directory


def report(*findings: Finding) -> Mapping[str, Any]:
    status = Status.FAILED if findings else Status.PASSED
    return Report((Result(CHECKS[0], status, findings),)).to_json()


def test_each_node_is_a_part_of_one_table(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good one, one with a fault, one that is silent and one that says something else: the look goes on."""
    asked: list[Any] = []
    answers = {
        "node2": {"report": report()},
        "node3": {"report": report(Finding("it is \x1b[31mred", fix="paint it"))},
        "node5": "Traceback\n(most recent",
    }

    def ask(names: Any, function: str, request: str, **_: Any) -> Any:
        asked.append((list(names), function, json.loads(request)))
        return answers

    monkeypatch.setattr(bus, "ask_all", ask)
    names = ["node2", "node3", "node4", "node5"]
    found = node_checks.check(tree, make_config(OVERRIDES), names, say=lambda _: None)
    rows = [row[:3] for row in node_checks.table(found)[1:]]
    code = CHECKS[0].id
    assert rows == [
        ("node2", "-", "passed"),
        ("node3", code, "failed"),
        ("node4", "-", "failed"),
        ("node5", "-", "failed"),
    ]
    assert [node.has_failed for node in found] == [False, True, True, True]
    assert "paint it" in node_checks.table(found)[2][4]
    assert all(cell.isprintable() for row in node_checks.table(found) for cell in row)
    assert "caisson status --node node4" in found[2].why
    assert (asked[0][0], asked[0][1]) == (names, "caisson_node.check")
    assert asked[0][2]["with_trials"] is False


def test_a_report_that_could_not_be_shown_is_none(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be no JSON, or end the checks of all."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    odd = {**report(), "checks": [{**report()["checks"][0], "seconds": float("nan")}]}
    answers = {
        "node2": {"report": odd},
        "node3": {"report": deep},
        "node4": {"report": report()},
        "node5": deep,
    }
    monkeypatch.setattr(bus, "ask_all", lambda *_, **__: answers)
    found = node_checks.check(tree, make_config(), sorted(answers), say=lambda _: None)
    assert [node.has_failed for node in found] == [True, True, False, True]
    assert all(cell.isprintable() for row in node_checks.table(found) for cell in row)


def test_what_is_sent_is_what_the_checks_read(tree: Path) -> None:
    """It lies in Salt's job cache, every minion gets it, and so does each host that is only looked at."""
    sent = node_checks.for_checks(make_config(OVERRIDES))
    assert "geheim" not in sent.lower()
    assert set(yaml.safe_load(sent)) == {"apiVersion", "kind", "clusterName", "networks", "overrides"}
    again = config.parse(sent)
    assert again.overrides.kubelet == {"failSwapOn": False}
    assert again.overrides.ignored == {"CSN101": "small"}
    assert again.overrides.allowed_package_changes == ("runc",)
    assert again.networks == make_config().networks
    assert "overrides" not in node_checks.for_checks(make_config())


@pytest.mark.parametrize("answer", [None, CommandError("'crictl' did not finish within 90 s")])
def test_a_bus_that_is_down_is_said_of_each_node(
    tree: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    def ask(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(bus, "ask_all", ask)
    (found,) = node_checks.check(tree, make_config(), ["node2"], say=lambda _: None)
    assert found.has_failed
    assert ("salt-master" in found.why) or ("crictl" in found.why)


def test_which_nodes_are_meant(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert node_checks.names(paths) == []
    for name in ("node2", "node3.example"):
        pillartop.write(paths, "node1", {"node": {"name": name}})
    assert node_checks.names(paths) == ["node2", "node3.example"]
    assert node_checks.names(paths, "node3.example") == ["node3.example"]
    with pytest.raises(UsageError, match="no node 'node9'"):
        node_checks.names(paths, "node9")
