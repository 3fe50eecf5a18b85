# SPDX-License-Identifier: Apache-2.0
"""The list of hosts that become nodes: every fault at once, with its line or its option, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import ConfigError
from installer.config import bootstrap, nodes
from installer.config.nodes import NodeEntry, Role, Taint
from tests.unit.installer.helpers import CONFIG_TEXT

HEAD = "apiVersion: caisson/v1\nkind: NodeList\nnodes:\n"
KEY_A = "SHA256:" + "a" * 43
KEY_B = "SHA256:" + "b" * 42 + "+"
NAME_RULE = (
    "The node's name: lower case letters, digits, '-' and '.', at most 63, letters or digits at the edges. "
    "Default: the host's own name."
)
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\n"


def faults_of(text: str, **known: Any) -> list[str]:
    """Return the faults without the file's name; none for a good text."""
    try:
        nodes.parse(text, file=Path("n.yaml"), **known)
    except ConfigError as exc:
        return [line.removeprefix("n.yaml:") for line in exc.details.splitlines()]
    return []


def option_faults(**options: Any) -> list[str]:
    try:
        nodes.from_options({"address": "10.0.0.2", **options})
    except ConfigError as exc:
        return exc.details.splitlines()
    return []


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    file = tmp_path / "id_ed25519"
    file.write_text(PRIVATE)
    file.chmod(0o600)
    return file


def test_a_host_with_everything_and_one_with_nothing(identity: Path) -> None:
    found = nodes.parse(
        HEAD
        + f"""\
  - address: 10.0.0.2
    role: control-plane
    name: node2
    user: EXAMPLE\\admin
    port: 2222
    identity: {identity}
    hostKey: {KEY_A}
    labels: {{example.com/rack: r1, zone: ""}}
    taints: ["gpu=yes:NoSchedule", "x/y:NoExecute"]
  - address: 10.0.0.3
""",
        control_planes=2,
    )
    assert found.nodes == (
        NodeEntry(
            "10.0.0.2",
            Role.CONTROL_PLANE,
            "node2",
            "EXAMPLE\\admin",
            2222,
            identity,
            KEY_A,
            {"example.com/rack": "r1", "zone": ""},
            (Taint("gpu", "yes", "NoSchedule"), Taint("x/y", "", "NoExecute")),
        ),
        NodeEntry("10.0.0.3"),
    )
    assert found.nodes[1].user == "root"
    assert found.nodes[1].port == 22
    assert found.of(Role.WORKER) == (found.nodes[1],)
    assert [str(taint) for taint in found.nodes[0].taints] == ["gpu=yes:NoSchedule", "x/y:NoExecute"]
    assert (found.nodes[0].title, found.nodes[1].title) == ("node2 (10.0.0.2)", "10.0.0.3")
    assert found.notes == ()


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = f"""\
apiVersion: caisson/v1
kind: NodeList
nodes:
  - address: 10.0.0.2
    role: master
    name: Node2
    hostkey: {KEY_A}
  - address: 10.0.0.2
    user: -oProxyCommand=x
    port: 70000
    identity: {tmp_path}/none
  - role: worker
    hostKey: MD5:aa
    labels: {{kubernetes.io/hostname: a, "a b": c, d: "-"}}
    taints: [a, "b:NoRun", "c=-:NoSchedule", "e:NoExecute", "e=1:NoExecute"]
"""
    user_rule = (
        "Who logs in: root, or a user who may become root by sudo; letters, digits and '_.@-\\', "
        "no '-' at the start."
    )
    key_rule = (
        "The fingerprint of the host's key, SHA256: and 43 characters, as 'ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub' shows it there. Default: it is shown and confirmed on the terminal."
    )
    effects = "must end with one of :NoSchedule, :PreferNoSchedule, :NoExecute"
    edges = "letters, digits and '-_.', at most 63, letters or digits at the edges"
    assert faults_of(text) == [
        "5: nodes[0].role: must be one of worker, control-plane, not 'master'",
        f"6: nodes[0].name: 'Node2' is not allowed: {NAME_RULE}",
        "7: nodes[0].hostkey: unknown key; did you mean 'hostKey'?",
        (
            "8: nodes[1].address: '10.0.0.2' is that of nodes[0].address too: one host has it; remove the entry, or "
            "write the other host's address"
        ),
        f"9: nodes[1].user: '-oProxyCommand=x' is not allowed: {user_rule}",
        "10: nodes[1].port: must be at most 65535, not 70000",
        (
            f"11: nodes[1].identity: {tmp_path}/none cannot be read: No such file or directory; write the file of a "
            "private key"
        ),
        "12: nodes[2].address: is missing",
        f"13: nodes[2].hostKey: 'MD5:aa' is not allowed: {key_rule}",
        f"14: nodes[2].labels.a b: 'a b' cannot be a key: {edges}",
        f"14: nodes[2].labels.d: '-' cannot be a label's value: {edges}",
        "14: nodes[2].labels.kubernetes.io/hostname: is set by Kubernetes itself: leave it out",
        f"15: nodes[2].taints[0]: '' cannot be a key: {edges}",
        f"15: nodes[2].taints[0]: 'a' {effects}",
        f"15: nodes[2].taints[1]: 'b:NoRun' {effects}",
        f"15: nodes[2].taints[2]: '-' cannot be a taint's value: {edges}",
        "15: nodes[2].taints[4]: 'e:NoExecute' is there twice: a node has one of it",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("name: 010", "must be text, not the number 8 (YAML reads '010' so): put it in quotes"),
        ("name: 12:30", "must be text, not the number 750 (YAML reads '12:30' so): put it in quotes"),
        ("name: 1e3", ""),  # YAML 1.1 wants a point in a number with an exponent: this is a text
        ("name: 1_000", "must be text, not the number 1000 (YAML reads '1_000' so): put it in quotes"),
        ("name: 0x1f", "must be text, not the number 31 (YAML reads '0x1f' so): put it in quotes"),
        ("name: no", "must be text, not False (YAML reads 'no' so): put it in quotes"),
        ("name: 42", "must be text, not the number 42: put it in quotes"),
        ("name: 2026-01-01", "must be text, not 2026-01-01 (date): quote it"),
        ('name: "a\\n"', "'a\\n' is not allowed: " + NAME_RULE),
        ("name:", "must be text, not nothing"),
        ("name: localhost.localdomain", "'localhost.localdomain' is every host's name"),
        ("port: '22'", "must be a whole number, not the text '22'"),
        ("port: 0", "must be at least 1, not 0"),
        ("labels: {ready: true}", "must be text, not True: put it in quotes"),
        ("labels: {disks: 010}", "must be text, not the number 8 (YAML reads '010' so): put it in quotes"),
    ],
)
def test_what_yaml_misreads_is_named(line: str, fault: str) -> None:
    found = faults_of(f"{HEAD}  - address: 10.0.0.2\n    {line}\n")
    assert [text.split(": ", 2)[2] for text in found] == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("127.0.0.1", "127.0.0.1 lies in the reserved 127.0.0.0/8: write one that other hosts reach"),
        ("10.233.0.9", "(10.233.0.0/16): give the host another address"),
        ("10.96.1.1", "(10.96.0.0/12): give the host another address"),
        ("10.77.1.9", "is the cluster's virtual address: write the host's own address"),
        ("node2.example", "a name would be asked of a nameserver; the node's name belongs into 'name'"),
        ("10.1", "must be text, not the number 10.1: put it in quotes"),
    ],
)
def test_addresses(address: str, fault: str) -> None:
    text = CONFIG_TEXT.replace("10.77.1.0/24]}", "10.77.1.0/24], vip: 10.77.1.9}", 1)
    config = bootstrap.parse(text)
    found = faults_of(f"{HEAD}  - address: {address}\n", config=config)
    assert len(found) == 1
    assert found[0].endswith(fault)


def test_what_two_hosts_may_not_share() -> None:
    text = (
        f"{HEAD}  - {{address: 10.0.0.2, name: a, hostKey: '{KEY_A}'}}\n"
        f"  - {{address: 10.0.0.3, name: a, hostKey: '{KEY_A}'}}\n"
        f"  - {{address: 10.0.0.4, name: b, hostKey: '{KEY_B}'}}\n"
    )
    assert [fault.split(": ")[1] for fault in faults_of(text)] == ["nodes[1].hostKey", "nodes[1].name"]


def test_the_file_of_a_key_is_looked_at_as_ssh_does(tmp_path: Path, identity: Path) -> None:
    def of(file: object) -> list[str]:
        return [
            text.split(": ", 2)[2]
            for text in faults_of(f"{HEAD}  - address: 10.0.0.2\n    identity: {file}\n")
        ]

    assert of(identity) == []
    assert of("id") == ["'id' is no absolute path: begin it with '/'"]
    identity.chmod(0o640)
    assert of(identity) == [
        f"others may read {identity} (mode 0640), and ssh then refuses it: chmod 600 {identity}"
    ]
    public = tmp_path / "id_ed25519.pub"
    public.write_text("ssh-ed25519 AAAA\n")
    public.chmod(0o600)
    assert of(public) == [f"{public} is a public key: write the file of the private one"]
    assert of(tmp_path)[0].startswith(f"{tmp_path} cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("there", "roles", "is_noted"),
    [(1, "c", True), (1, "cc", False), (1, "w", False), (2, "c", False), (2, "w", False), (3, "cw", True)],
)
def test_an_even_number_of_control_planes_is_noted(there: int, roles: str, is_noted: bool) -> None:
    names = {"c": "control-plane", "w": "worker"}
    text = HEAD + "".join(
        f"  - {{address: 10.0.0.{number}, role: {names[role]}}}\n" for number, role in enumerate(roles, 2)
    )
    found = nodes.parse(text, control_planes=there)
    assert bool(found.notes) is is_noted


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nodes: []", "nodes: 5", "nodes: [5]", "nodes: [[]]", HEAD + "  - 1: 2\n", "a: [", HEAD],
)
def test_other_shapes_are_faults_not_failures(text: str) -> None:
    assert faults_of(text)


def test_the_command_line_is_a_list_of_one(identity: Path) -> None:
    found = nodes.from_options(
        {
            "address": "10.0.0.2",
            "role": "worker",
            "name": "",
            "user": None,
            "port": 2222,
            "identity": str(identity),
            "labels": "a=b,c=",
            "taints": "gpu=yes:NoSchedule",
        }
    )
    (entry,) = found.nodes
    assert (entry.user, entry.port, entry.labels) == ("root", 2222, {"a": "b", "c": ""})
    assert entry.taints == (Taint("gpu", "yes", "NoSchedule"),)


def test_faults_of_the_command_line_name_the_option() -> None:
    found = option_faults(hostKey="SHA1:x", labels="a,b=c,b=d", taints="x", port=0, address="a@10.0.0.2")
    assert [line.split(": ")[0] for line in found] == [
        "HOST",
        "--host-key",
        "--labels",
        "--labels",
        "--port",
        "--taints",
        "--taints",
    ]
    assert option_faults(labels="-=c")[0].startswith("--labels: -: '-' cannot be a key")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        nodes.load(tmp_path / "none.yaml")
    file = tmp_path / "nodes.yaml"
    file.write_bytes(b"a\n\xff")
    with pytest.raises(ConfigError) as caught:
        nodes.load(file)
    assert caught.value.details == "line 2 has the byte 0xff"
    file.write_bytes((HEAD + "  - address: 10.0.0.2\n").replace("\n", "\r\n").encode())
    assert nodes.load(file).nodes == (NodeEntry("10.0.0.2"),)


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(nodes.load_schema())
