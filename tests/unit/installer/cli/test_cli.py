# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, JSON, and no traceback unless asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.checks import CHECKS, readiness
from installer.checks.preflight import Finding, Report, Result, Status
from installer.cli import explanations
from installer.cli import main as cli
from installer.config import bootstrap as config
from installer.config import changes, hosts, starter
from installer.config.facts import Address
from installer.engine import pillartop, saltcall
from installer.engine.context import Context
from installer.engine.phase import Operation, Phase
from installer.operations import bootstrap, node_checks, own_state, schemas
from installer.operations.host_state import FirewallState, ServiceStates
from installer.operations.node_checks import NodeCheck
from installer.operations.static_pods import StaticPods
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT
from tests.unit.installer.workers import make_worker

CHECK_SCHEMA = jsonschema.Draft7Validator(
    json.loads(Path(readiness.__file__).with_name("check.schema.json").read_text(encoding="utf-8"))
)
Captured = pytest.CaptureFixture[str]


def call(tree: Path, *words: str) -> int:
    return cli.main(["--program", "bootstrap.sh", *words], tree_dir=tree, paths=Paths(tree.parent / "root"))


def use_phases(monkeypatch: pytest.MonkeyPatch, *chosen: Phase) -> None:
    monkeypatch.setattr(bootstrap, "OPERATION", Operation("bootstrap", chosen))


def bootstrap_words(tree: Path) -> list[str]:
    return ["--config", str(tree.parent / "b.yaml"), "--accept-lab-bundle"]


def test_a_bootstrap(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    seen: list[Context] = []

    def remember(context: Context) -> bool:
        seen.append(context)
        return False

    use_phases(monkeypatch, Phase("CSP901", "one", "do one", remember, "none"))
    assert call(tree, *bootstrap_words(tree)) == 0
    root = tree.parent / "root"
    assert seen[0].media_dir == root / "srv/caisson/0.1.0"
    assert seen[0].source_dir == tree
    assert (root / "etc/caisson/bootstrap.yaml").read_text() == (tree.parent / "b.yaml").read_text()
    assert (root / "etc/caisson/bootstrap.yaml").stat().st_mode & 0o777 == 0o600
    assert (root / "var/log/caisson").stat().st_mode & 0o777 == 0o700
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == (
        "Caisson 0.1.0 (LAB BUNDLE, profile lab: not for production): bootstrap of node1 (10.77.1.11)"
    )
    assert shown[-1] == "1 phases in 0.0 s, 0 changes"
    assert shown[-1] in (root / "var/log/caisson/bootstrap.log").read_text()


def test_json_of_a_bootstrap(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", lambda _: True, "none"))
    assert call(tree, *bootstrap_words(tree), "--json") == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["phases"][0]["has_changed"] is True
    assert "[ 1/1] CSP901 one" in captured.err


def test_a_lab_bundle_must_be_accepted(tree: Path, capsys: Captured) -> None:
    assert call(tree, "--config", str(tree.parent / "b.yaml")) == 7
    assert "give --accept-lab-bundle" in capsys.readouterr().err
    assert not (tree.parent / "root").exists()


def test_faults_of_the_configuration_leave_nothing_behind(tree: Path, capsys: Captured) -> None:
    (tree.parent / "b.yaml").write_text("x: 1\n")
    assert call(tree, *bootstrap_words(tree), "--json") == 3
    data = json.loads(capsys.readouterr().out)
    CHECK_SCHEMA.validate(data)
    assert data["error"]["code"] == "CSE003"
    assert data["error"]["class"] == "ConfigError"
    assert len(data["error"]["details"]) == 5
    assert not (tree.parent / "root").exists()


def test_an_unknown_code_to_ignore(tree: Path, capsys: Captured) -> None:
    extra = "overrides: {ignorePreflights: [{id: CSN999, reason: none}, {id: Mem, reason: none}]}\n"
    (tree.parent / "b.yaml").write_text(CONFIG_TEXT + extra)
    assert call(tree, *bootstrap_words(tree)) == 3
    assert "there is no check CSN999" in capsys.readouterr().err


def test_not_root(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert call(tree, *bootstrap_words(tree)) == 12
    assert "must be run as root" in capsys.readouterr().err


def fail_cluster(_: Context) -> bool:
    raise ClusterError("etcd is red")


def fail_internally(_: Context) -> bool:
    raise ZeroDivisionError("division by zero")


def interrupt(_: Context) -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("run", "code", "text"),
    [
        (fail_cluster, 11, "error: CSE011 CSP901 one: etcd is red"),
        (fail_internally, 1, "ZeroDivisionError: division by zero (test_cli.py:"),
        (interrupt, 130, "error: CSE130 CSP901 one: stopped"),
    ],
)
def test_a_failing_phase(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    run: Callable[[Context], bool],
    code: int,
    text: str,
) -> None:
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", run, "none"))
    assert call(tree, *bootstrap_words(tree)) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    log = (tree.parent / "root/var/log/caisson/bootstrap.log").read_text()
    assert ("Traceback" in log) == (code == 1)
    assert ("error: " in log) == (code != 1)


def test_debug_shows_the_traceback(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", fail_internally, "none"))
    assert call(tree, *bootstrap_words(tree), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "code"), [(Status.PASSED, 0), (Status.WARNING, 0), (Status.FAILED, 4)])
def test_check(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, status: Status, code: int
) -> None:
    findings = () if status is Status.PASSED else (Finding("it is red"),)
    monkeypatch.setattr(readiness, "assess", lambda *_, **__: Report((Result(CHECKS[0], status, findings),)))
    assert call(tree, "check") == code
    assert capsys.readouterr().out.splitlines()[-1] == f"1 checks: 1 {status.value}"
    assert call(tree, "check", "--json") == code
    shown = json.loads(capsys.readouterr().out)
    assert shown["checks"][0]["status"] == status.value
    CHECK_SCHEMA.validate(shown)
    assert not (tree.parent / "root").exists()


def test_config_init_makes_a_good_configuration(tree: Path, capsys: Captured) -> None:
    assert call(tree, "config", "init") == 0
    (tree.parent / "b.yaml").write_text(capsys.readouterr().out.replace("# node:", "node:"))
    assert call(tree, "config", "check", "--config", str(tree.parent / "b.yaml")) == 0
    assert "control plane address     10.77.1.11" in capsys.readouterr().out
    assert call(tree, "config", "check", "--json", "--config", str(tree.parent / "b.yaml")) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["control_plane_cidr"] == "10.77.1.0/24"


def test_explain(tree: Path, capsys: Captured) -> None:
    assert call(tree, "explain", "csn110") == 0
    assert "control groups are version 2" in capsys.readouterr().out
    assert call(tree, "explain", "mount-media") == 0
    assert "undo: systemctl disable" in capsys.readouterr().out
    assert call(tree, "explain", "exit-codes") == 0
    assert "LockedError" in capsys.readouterr().out
    assert call(tree, "explain", "x") == 2
    capsys.readouterr()
    assert call(tree, "explain", "CSP104") == 0
    assert "CSP104 phase preflight: check the host" in capsys.readouterr().out
    assert call(tree, "explain", "CSE004") == 0
    assert capsys.readouterr().out.splitlines() == [
        "CSE004 PreflightError: the host is not fit, or a running check failed",
        "",
        f"What to do: {explanations.WHAT_TO_DO['PreflightError']}",
        "",
        "The command ends with exit code 4.",
    ]


def test_explain_a_key(tree: Path, capsys: Captured) -> None:
    assert call(tree, "config", "explain", "networks.pods.cidr") == 0
    assert capsys.readouterr().out.splitlines() == [
        "networks.pods.cidr: Between /8 and /24; each node takes a /24 of it.",
        "type: text",
        "required",
        "default: 10.233.0.0/16",
    ]
    assert call(tree, "config", "explain", "overrides.ignorePreflights[0]") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("  overrides.ignorePreflights[].reason: Why")
    assert call(tree, "config", "explain") == 0
    assert len(capsys.readouterr().out.splitlines()) > 30
    assert call(tree, "config", "explain", "networks.pod.cidr") == 2
    assert "near: networks.pods.cidr" in capsys.readouterr().err


def test_config_init_writes_a_file_and_overwrites_none(tree: Path, capsys: Captured) -> None:
    file = tree.parent / "new/c.yaml"
    assert call(tree, "config", "init", "--output", str(file)) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"bootstrap.sh config check --config {file}" in capsys.readouterr().out
    assert call(tree, "config", "init", "--output", str(file)) == 0
    file.write_text("mine")
    assert call(tree, "config", "init", "--output", str(file)) == 2
    assert file.read_text() == "mine"


def test_config_init_avoids_the_networks_of_the_host() -> None:
    text = starter.render([Address("eth0", "10.100.0.5", 16)], "node1")
    assert "services: {cidr: 172.29.0.0/16}  # the default 10.96.0.0/12 overlaps" in text
    assert "# pods: {cidr: 10.233.0.0/16}  # the default" in text
    assert config.parse(text, host_addresses=["10.100.0.5"]).networks.services_cidr.prefixlen == 16


def test_every_key_of_the_schema_is_in_a_first_configuration() -> None:
    text = starter.render(ADDRESSES, "node1")
    keys = {field.path.rpartition(".")[2].replace("[]", "") for field in explanations.fields()}
    assert sorted(key for key in keys if f"{key}:" not in text) == []


def test_wrong_words(tree: Path, capsys: Captured) -> None:
    assert call(tree, "--nonesuch") == 2
    assert "unrecognized arguments: --nonesuch" in capsys.readouterr().err


def test_the_copy_needs_the_media_for_a_bootstrap(tree: Path, capsys: Captured) -> None:
    (tree / "SHA256SUMS").unlink()
    assert call(tree, *bootstrap_words(tree)) == 6
    assert "is not mounted at" in capsys.readouterr().err


def test_caisson_without_words_shows_its_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 0
    assert "usage: caisson" in capsys.readouterr().out


def test_config_diff_and_a_bootstrap_that_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    file, paths = tree.parent / "b.yaml", Paths(tree.parent / "root")
    assert call(tree, "config", "diff", "--config", str(file)) == 12
    assert "there is no control plane on this host yet" in capsys.readouterr().err
    use_phases(monkeypatch, Phase("CSP901", "one", "do", saltcall.write_configuration, "none"))
    assert call(tree, *bootstrap_words(tree)) == 0
    stamp = paths.at(changes.FIRST_STAMP)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    capsys.readouterr()
    assert call(tree, "config", "diff", "--config", str(file)) == 0
    text = file.read_text()
    file.write_text(text + "apiServer: {extraSans: [k8s.example.com]}\n")
    assert call(tree, "config", "diff", "--config", str(file)) == 0
    line = next(
        line for line in capsys.readouterr().out.splitlines() if "extraSans" in line and "k8s" in line
    )
    assert line.split() == ["apiServer.extraSans", "-", '["k8s.example.com"]', "applied"]
    file.write_text(text.replace("networks:", "networks:\n  pods: {cidr: 10.1.0.0/16}"))
    assert call(tree, "config", "diff", "--json", "--config", str(file)) == 3
    fields = {field["key"]: field for field in json.loads(capsys.readouterr().out)["fields"]}
    assert fields["networks.pods.cidr"]["verdict"] == "refused: pods have addresses of it"
    assert fields["clusterName"]["verdict"] == "unchanged"
    use_phases(monkeypatch, Phase("CSP901", "one", "do", lambda _: pytest.fail("a phase was run"), "none"))
    installed = paths.config_file.read_text()
    assert call(tree, *bootstrap_words(tree)) == 3
    said = capsys.readouterr().err
    assert (
        "networks.pods.cidr: installed with 10.233.0.0/16, now 10.1.0.0/16: pods have addresses of it" in said
    )
    assert paths.config_file.read_text() == installed


@pytest.mark.parametrize(
    "words",
    [
        ("config", "init"),
        ("config", "explain", "networks.pods.cidr"),
        ("explain", "CSE004"),
        ("explain", "exit-codes"),
    ],
)
def test_every_command_that_takes_json_prints_json(
    tree: Path, capsys: Captured, words: tuple[str, ...]
) -> None:
    assert call(tree, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert call(tree, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"format": 1, "lines": lines}


def test_exit_codes_are_explained_without_markup(tree: Path, capsys: Captured) -> None:
    assert call(tree, "explain", "exit-codes") == 0
    text = capsys.readouterr().out
    assert "``" not in text
    assert "====" not in text
    assert re.search(r"^21 +CSE021 +UnhealthyError +'status': a service", text, re.MULTILINE)
    for error in explanations.error_classes():
        assert call(tree, "explain", error.code()) == 0
        assert "What to do: " in capsys.readouterr().out


def test_a_first_configuration_is_named_by_a_command_that_is_there(tree: Path, capsys: Captured) -> None:
    """On a host where nothing is installed yet, there is no 'caisson'."""
    assert call(tree, "config", "check", "--config", "none.yaml") == 3
    assert "bootstrap.sh config init" in capsys.readouterr().err


def test_names_are_put_back_until_nobody_takes_them_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What becomes of the file while the service that puts it right still runs, systemd does not see."""
    answers = [True, True, False]
    monkeypatch.setattr(cli, "HOSTS_SETTLE_S", 0.0)
    monkeypatch.setattr(cli, "need_root", lambda: None)
    monkeypatch.setattr(hosts, "keep", lambda _: answers.pop(0))
    assert cli.main(["--program", "caisson", "hosts"], paths=Paths(tmp_path)) == 0
    assert answers == []


def test_a_check_is_also_of_the_further_nodes_or_of_one_alone(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    paths = Paths(tree.parent / "root")
    paths.config_file.parent.mkdir(parents=True)
    paths.config_file.write_text(CONFIG_TEXT)
    for name in ("node2", "node3"):
        pillartop.write(paths, "node1", {"node": {"name": name}})
    good = Report((Result(CHECKS[0], Status.PASSED, ()),))
    monkeypatch.setattr(readiness, "assess", lambda *_, **__: good)
    asked: list[list[str]] = []

    def check(_: object, __: object, names: list[str], **___: object) -> tuple[NodeCheck, ...]:
        asked.append(names)
        return tuple(NodeCheck(name, good.to_json()) for name in names)

    monkeypatch.setattr(node_checks, "check", check)
    assert call(tree, "check", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    CHECK_SCHEMA.validate(shown)
    assert [node["name"] for node in shown["nodes"]] == ["node2", "node3"]
    assert call(tree, "check") == 0
    assert "node3  -     passed  all checks" in capsys.readouterr().out
    assert call(tree, "check", "--node", "node3", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    CHECK_SCHEMA.validate(shown)
    assert list(shown) == ["format", "nodes"]
    assert asked == [["node2", "node3"], ["node2", "node3"], ["node3"]]
    monkeypatch.setattr(node_checks, "check", lambda *_, **__: (NodeCheck("node2", why="away"),))
    assert call(tree, "check") == 4
    assert call(tree, "check", "--node", "node9") == 2


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_check_of_one_node_that_cannot_be_made_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, as_json: tuple[str, ...]
) -> None:
    """Without the configuration nothing can be asked; another user learns that it is for root."""
    paths = Paths(tree.parent / "root")
    pillartop.write(paths, "node1", {"node": {"name": "node2"}})
    monkeypatch.setattr(node_checks, "check", lambda *_, **__: pytest.fail("asked"))
    assert call(tree, "check", "--node", "node2", *as_json) == 3
    said = capsys.readouterr()
    assert f"{paths.config_file}" in said.err
    assert "nodes" not in said.out
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(pillartop, "known", lambda _: [])
    assert call(tree, "check", "--node", "node2", *as_json) == 12
    assert "this must be run as root" in capsys.readouterr().err


def test_nodes_that_are_not_checked_are_said(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """To another user, and where the configuration is gone; before a bootstrap there is nothing to say."""
    good = Report((Result(CHECKS[0], Status.PASSED, ()),))
    monkeypatch.setattr(readiness, "assess", lambda *_, **__: good)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert call(tree, "check") == 0
    assert capsys.readouterr().err == ""
    paths = Paths(tree.parent / "root")
    pillartop.write(paths, "node1", {"node": {"name": "node2"}})
    assert call(tree, "check", "--json") == 0
    said = capsys.readouterr()
    assert "further nodes, if there are some, are not checked: that must be run as root" in said.err
    CHECK_SCHEMA.validate(json.loads(said.out))
    assert "nodes" not in json.loads(said.out), "an empty list would say that there are none"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert call(tree, "check") == 0
    assert f"not checked, for there is no {paths.config_file}: node2" in capsys.readouterr().err


def test_a_user_who_may_not_look_into_the_directory_of_the_configuration(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """It is root's alone, 0700: what needs the configuration is skipped, and that is said."""
    config_files: list[Path | None] = []
    good = Report((Result(CHECKS[0], Status.PASSED, ()),))

    def assess(_: Path, file: Path | None, **__: object) -> Report:
        config_files.append(file)
        return good

    stat = Path.stat

    def refuse(self: Path, **options: bool) -> object:
        if "etc/caisson/" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(readiness, "assess", assess)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "stat", refuse)
    assert call(tree, "check") == 0
    said = capsys.readouterr().err
    assert "etc/caisson/bootstrap.yaml is for root only" in said
    assert "are not checked: that must be run as root" in said
    assert config_files == [None]


def test_further_nodes_that_do_not_know_of_a_change_are_named(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Before, by 'config diff', and after the bootstrap that applied it; a run without a change says nothing."""
    file, paths = tree.parent / "b.yaml", Paths(tree.parent / "root")
    use_phases(monkeypatch, Phase("CSP901", "one", "do", saltcall.write_configuration, "none"))
    assert call(tree, *bootstrap_words(tree)) == 0
    paths.at(changes.FIRST_STAMP).parent.mkdir(parents=True, exist_ok=True)
    paths.at(changes.FIRST_STAMP).touch()
    told = {"name": "node2", "role": "worker", "control_plane_address": "10.77.1.12"}
    pillartop.write(paths, "node1", {"node": told})
    top = (paths.pillar_dir / "top.sls").read_text()
    capsys.readouterr()
    assert call(tree, *bootstrap_words(tree)) == 0
    assert "further nodes" not in capsys.readouterr().out
    file.write_text(file.read_text() + "overrides: {kubelet: {maxPods: 200}}\n")
    expected = "further nodes keep what they joined with of overrides.kubelet until each is taken out"
    assert call(tree, "config", "diff", "--config", str(file)) == 0
    assert expected in capsys.readouterr().out
    assert call(tree, *bootstrap_words(tree)) == 0
    said = capsys.readouterr().out
    assert expected in said
    assert said.rstrip().endswith("'caisson node add'): node2")
    # What the nodes were told stays theirs.
    assert (paths.pillar_dir / "top.sls").read_text() == top
    assert pillartop.known(paths) == ["node2"]


# ---- on a further node -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("status", "--node", "node3"), "other nodes are asked for"),
        (("check", "--node", "node3"), "other nodes are checked"),
        (("config", "diff"), "the configuration of the cluster is compared"),
        (("node", "add", "10.77.1.13"), "nodes are added"),
        (("node", "check", "10.77.1.13"), "other hosts are looked at"),
        (("bootstrap", "--accept-lab-bundle"), "a bootstrap is run"),
    ],
)
def test_what_belongs_to_the_bootstrap_node_is_refused_with_its_address(
    tree: Path, capsys: Captured, words: tuple[str, ...], what: str
) -> None:
    root = tree.parent / "root"
    paths = make_worker(root)
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    assert cli.main(list(words), tree_dir=tree, paths=paths) == 12
    said = capsys.readouterr().err
    assert f"{what} on the bootstrap node, not here" in said
    assert "node2 is a worker of the cluster lab" in said
    assert "start the same command on 10.77.1.11" in said
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_further_node_says_of_itself_what_it_is(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    paths = make_worker(tree.parent / "root")
    identity = own_state.identify(paths)
    nothing = own_state.OwnState(
        identity,
        ServiceStates({"kubelet": "active"}),
        FirewallState("active"),
        (),
        StaticPods(()),
        None,
        (),
        "connected to 10.77.1.11:4505",
        (),
    )
    monkeypatch.setattr(own_state, "gather", lambda *_, **__: nothing)
    assert cli.main(["status"], tree_dir=tree, paths=paths) == 0
    assert "ask about all of it on 10.77.1.11" in capsys.readouterr().out
    assert cli.main(["status", "--json"], tree_dir=tree, paths=paths) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schemas.load("status"))
    assert shown["node"]["bootstrap_node"] == "10.77.1.11"
