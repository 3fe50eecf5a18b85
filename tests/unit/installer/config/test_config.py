# SPDX-License-Identifier: Apache-2.0
"""The configuration: every fault at once, each with its line."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import jsonschema
import pytest

from installer.base.errors import ConfigError
from installer.config import bootstrap as config
from tests.authorities import make_authority
from tests.unit.installer.helpers import CONFIG_TEXT, make_config


def faults_of(text: str, *, host_addresses: tuple[str, ...] = ()) -> list[str]:
    """Return the faults without the file's name; none for a good text."""
    try:
        config.parse(text, file=Path("b.yaml"), host_addresses=host_addresses)
    except ConfigError as exc:
        return [line.removeprefix("b.yaml:") for line in exc.details.splitlines()]
    return []


def test_defaults() -> None:
    found = make_config()
    assert found.cluster_name == "lab"
    assert found.endpoint == "api.lab.internal"
    assert found.node_name is None
    assert str(found.networks.pods_cidr) == "10.233.0.0/16"
    assert str(found.networks.services_cidr) == "10.96.0.0/12"
    assert found.networks.control_plane_cidrs[1] == ipaddress.IPv4Network("10.77.1.0/24")
    assert found.overrides == config.Overrides()


def test_workload_plane_defaults_to_the_control_plane() -> None:
    text = CONFIG_TEXT.replace("  workloadPlane: {cidrs: [198.51.100.0/24, 10.77.2.0/24]}\n", "")
    found = config.parse(text)
    assert found.networks.workload_plane_cidrs == found.networks.control_plane_cidrs


def test_all_overrides() -> None:
    found = make_config(
        "node: {name: n1}\n"
        "overrides:\n"
        "  containerd: |\n    version = 3\n"
        "  kubelet: {failCgroupV1: false}\n"
        "  kubeProxy: {conntrack: {maxPerCore: 0}}\n"
        "  kubeadmPatches: {etcd0+merge.yaml: 'metadata: {}'}\n"
        "  ignorePreflights: [{id: SystemVerification, reason: a lab}]\n"
    )
    assert found.node_name == "n1"
    assert found.overrides.containerd == "version = 3\n"
    assert found.overrides.kubelet == {"failCgroupV1": False}
    assert found.overrides.kube_proxy == {"conntrack": {"maxPerCore": 0}}
    assert found.overrides.kubeadm_patches == {"etcd0+merge.yaml": "metadata: {}"}
    assert found.overrides.ignored == {"SystemVerification": "a lab"}


def test_many_faults_at_once() -> None:
    text = """\
apiVersion: caisson/v2
kind: BootstrapConfiguration
clusterName: Lab
network: {}
networks:
  controlPlan: {cidrs: [10.0.0.0/24]}
  controlPlane: {cidrs: []}
  workloadPlane: {cidrs: [10.1.2.3/24]}
  pods: {cidr: 10.96.0.0/16}
  services: {cidr: 10.96.0.0/12}
overrides:
  kubelet: {kind: X}
  kubeadmPatches: {foo.yaml: 5}
  ignorePreflights: [{id: all, reason: because}, {id: A}]
node: {name: -n}
"""
    assert faults_of(text) == [
        "1: apiVersion: must be 'caisson/v1', not 'caisson/v2'",
        (
            "3: clusterName: 'Lab' is not allowed: lower case letters, digits and '-', at most 63, "
            "not at the edge a '-'"
        ),
        "4: network: unknown key; did you mean 'networks'?",
        "6: networks.controlPlan: unknown key; did you mean 'controlPlane'?",
        "7: networks.controlPlane.cidrs: must have at least 1 entry",
        (
            "8: networks.workloadPlane.cidrs[0]: '10.1.2.3/24' is an address inside a network; "
            "did you mean '10.1.2.0/24'?"
        ),
        "10: networks.services.cidr: 10.96.0.0/12 overlaps networks.pods.cidr (10.96.0.0/16)",
        "12: overrides.kubelet.kind: is set by Caisson: leave it out",
        (
            "13: overrides.kubeadmPatches.foo.yaml: is no name that can stand here: TARGET[SUFFIX]"
            "[+strategic|+merge|+json].yaml or .json, TARGET one of kube-apiserver, kube-controller-manager, "
            "kube-scheduler, etcd, kubeletconfiguration, corednsdeployment"
        ),
        "13: overrides.kubeadmPatches.foo.yaml: must be text, not the number 5: put it in quotes",
        "14: overrides.ignorePreflights[0].id: 'all' is not accepted: name each check, with its reason",
        "14: overrides.ignorePreflights[1].reason: is missing",
        (
            "15: node.name: '-n' is not allowed: lower case letters, digits, '-' and '.', at most 63, "
            "letters or digits at the edges"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: (file): is empty"]),
        ("- a\n", ["1: (file): must be a mapping of keys, not a list"]),
        ("a: [\n", ["2: (file): is not valid YAML: expected the node content, but found '<stream end>'"]),
        ("a: !!python/object:os.system x\n", None),
        ("? [a]\n: 1\n", None),
        ("1: a\n", ["1: 1: keys must be text: quote it"]),
        ("a: 1\nb: 2\n---\nc: 3\n", None),
    ],
)
def test_what_is_no_configuration(text: str, expected: list[str] | None) -> None:
    found = faults_of(text)
    assert found
    if expected is not None:
        assert found == expected


def test_a_key_that_is_there_twice_is_a_fault() -> None:
    assert faults_of(CONFIG_TEXT + "clusterName: other\n") == ["7: clusterName: is there twice"]


def test_a_known_key_at_another_place() -> None:
    assert faults_of(CONFIG_TEXT + "reason: x\n") == [
        (
            "7: reason: unknown key here; 'reason' belongs elsewhere; known here: "
            "apiServer, apiVersion, authorities, clusterName, containerd, images, kind, media, networks, node, "
            "overrides"
        )
    ]


def test_a_name_with_an_end_of_line_is_refused() -> None:
    assert len(faults_of(CONFIG_TEXT.replace("clusterName: lab", 'clusterName: "lab\\n"'))) == 1


def test_a_date_must_be_quoted() -> None:
    text = CONFIG_TEXT.replace("clusterName: lab", "clusterName: 2026-01-01")
    assert faults_of(text) == ["3: clusterName: must be text, not 2026-01-01 (date): quote it"]


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        ("10.233.0.0/25", "10.233.0.0/25 has a wrong size: between /8 and /24"),
        ("fd00::/64", "fd00::/64 is IPv6; this version of Caisson builds IPv4 clusters only"),
        ("169.254.0.0/16", "169.254.0.0/16 cannot be used: it overlaps the reserved 169.254.0.0/16"),
        ("0.0.0.0/0", "0.0.0.0/0 is everything, not a network"),
        ("pods", "'pods' is no network: write it as ADDRESS/PREFIX, like 10.1.2.0/24"),
        ("10.77.0.0/16", "10.77.0.0/16 overlaps networks.controlPlane.cidrs[1] (10.77.1.0/24)"),
    ],
)
def test_networks_that_cannot_be(pods: str, message: str) -> None:
    text = CONFIG_TEXT + f'  pods: {{cidr: "{pods}"}}\n'
    assert f"7: networks.pods.cidr: {message}" in faults_of(text)


def test_the_default_networks_are_checked_too() -> None:
    text = CONFIG_TEXT.replace("10.77.2.0/24", "10.100.0.0/16")
    assert faults_of(text) == [
        (
            "4: networks.services.cidr: the default 10.96.0.0/12 overlaps networks.workloadPlane.cidrs[1] "
            "(10.100.0.0/16)"
        )
    ]


def test_the_planes_may_be_the_same_network_but_not_overlap_in_part() -> None:
    same = CONFIG_TEXT.replace("10.77.2.0/24", "10.77.1.0/24")
    part = CONFIG_TEXT.replace("10.77.2.0/24", "10.77.1.0/25")
    assert faults_of(same) == []
    assert faults_of(part) == [
        (
            "6: networks.workloadPlane.cidrs[1]: 10.77.1.0/25 overlaps networks.controlPlane.cidrs[1] "
            "(10.77.1.0/24)"
        )
    ]


def test_an_address_of_the_host_inside_the_services() -> None:
    assert faults_of(CONFIG_TEXT, host_addresses=("10.100.0.5", "10.77.1.5", "10.77.2.5", "fe80::1")) == [
        "4: networks.services.cidr: the default 10.96.0.0/12 holds this host's address 10.100.0.5"
    ]


def test_lists_that_match_no_address_are_named_with_their_line() -> None:
    assert faults_of(CONFIG_TEXT, host_addresses=("10.9.9.9", "fd00::1")) == [
        (
            "5: networks.controlPlane.cidrs: no address of this host lies in 192.0.2.0/24, 10.77.1.0/24; "
            "it has 10.9.9.9, fd00::1"
        ),
        (
            "6: networks.workloadPlane.cidrs: no address of this host lies in 198.51.100.0/24, "
            "10.77.2.0/24; it has 10.9.9.9, fd00::1"
        ),
    ]


def test_ipv6_is_understood_and_not_built() -> None:
    mixed = config.parse(CONFIG_TEXT.replace("192.0.2.0/24", '"fd00:1::/64"'))
    assert [str(cidr) for cidr in mixed.networks.control_plane_cidrs] == ["10.77.1.0/24"]
    assert mixed.notes == (
        (
            "networks.controlPlane.cidrs: fd00:1::/64 is IPv6, never chosen: this version of Caisson "
            "builds IPv4 clusters only"
        ),
    )
    alone = CONFIG_TEXT.replace("192.0.2.0/24, 10.77.1.0/24", '"fd00:1::/64"')
    assert faults_of(alone) == [
        (
            "5: networks.controlPlane.cidrs: holds IPv6 networks only; this version of Caisson builds IPv4 "
            "clusters only: add an IPv4 one"
        )
    ]


VIP = "networks.controlPlane.vip"


@pytest.mark.parametrize(
    ("vip", "expected"),
    [
        ("10.77.1.100", []),
        ("vip", [f"5: {VIP}: 'vip' is no IPv4 address, like 10.1.2.3"]),
        (
            "10.77.9.1",
            [f"5: {VIP}: 10.77.9.1 lies in none of networks.controlPlane.cidrs: 192.0.2.0/24, 10.77.1.0/24"],
        ),
        ("10.77.1.255", [f"5: {VIP}: 10.77.1.255 is the first or last address of 10.77.1.0/24"]),
    ],
)
def test_the_virtual_address(vip: str, expected: list[str]) -> None:
    text = CONFIG_TEXT.replace("10.77.1.0/24]", f"10.77.1.0/24], vip: {vip}")
    assert faults_of(text) == expected
    if not expected:
        assert str(config.parse(text).networks.vip) == vip


def test_more_names_for_the_api_server() -> None:
    good = make_config("apiServer: {extraSans: [k8s.example.com, '*.example.com', 192.0.2.9, 'fd00::9']}\n")
    assert good.extra_sans == ("k8s.example.com", "*.example.com", "192.0.2.9", "fd00::9")
    assert faults_of(CONFIG_TEXT + "apiServer:\n  extraSans: [K8S, 'a_b', 1.2.3.444]\n") == [
        f"8: apiServer.extraSans[{index}]: {name!r} is neither a DNS name in lower case nor an IP address"
        for index, name in enumerate(("K8S", "a_b", "1.2.3.444"))
    ]


def test_a_pinned_signing_key() -> None:
    assert make_config(f"media: {{signingKey: {'ab' * 20}}}\n").signing_key == "AB" * 20
    assert faults_of(CONFIG_TEXT + "media: {signingKey: 'AB CD'}\n") == [
        "7: media.signingKey: 'AB CD' is not allowed: 40 hexadecimal digits"
    ]


def test_the_site_s_own_authorities(tmp_path: Path) -> None:
    certificate, key = make_authority(tmp_path)
    entry = f"{{certificateFile: {certificate}, keyFile: {key}}}"
    good = make_config(f"authorities: {{services: {entry}, cluster: {entry}}}\n")
    assert good.services_authority is not None
    assert good.services_authority == good.cluster_authority
    assert good.services_authority.key_file == key
    assert faults_of(CONFIG_TEXT + f"authorities:\n  cluster:\n    certificateFile: {key}\n") == [
        "8: authorities.cluster.keyFile: is missing"
    ]
    text = f"authorities:\n  cluster:\n    certificateFile: {certificate}\n    keyFile: /none\n"
    assert faults_of(CONFIG_TEXT + text) == [
        "10: authorities.cluster.keyFile: /none cannot be read: No such file or directory"
    ]


def test_the_site_s_files_may_go_once_they_were_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = make_authority(tmp_path)
    monkeypatch.setattr(config, "INSTALLED_AUTHORITIES", {"services": certificate, "cluster": tmp_path / "x"})
    gone = "{certificateFile: /gone/ca.crt, keyFile: /gone/ca.key}"
    text = f"authorities:\n  services: {gone}\n  cluster: {gone}\n"
    assert [line.split(":")[1] for line in faults_of(CONFIG_TEXT + text)] == [
        " authorities.cluster.certificateFile",
        " authorities.cluster.keyFile",
    ]


def test_packages_that_may_change() -> None:
    good = make_config("overrides: {allowPackageChanges: [nftables, libnftnl]}\n")
    assert good.overrides.allowed_package_changes == ("nftables", "libnftnl")
    assert faults_of(CONFIG_TEXT + "overrides: {allowPackageChanges: ['kube*']}\n") == [
        "7: overrides.allowPackageChanges[0]: 'kube*' is not allowed: the name of one package, no wildcard"
    ]


def test_twelve_faults_give_twelve_lines() -> None:
    text = """\
apiVersion: caisson/v1
kind: Bootstrap
clusterName: my_cluster
networks:
  controlPlane: {cidrs: [10.77.1.5/24]}
  workloadPlain: {cidrs: [10.77.2.0/24]}
  pods: {cidr: 10.233.0.0/28}
  services: {cidr: 10.77.0.0/16}
node: {nane: node1}
apiServer: {extraSans: [K8S.example.com]}
media: {signingKey: ABCD}
overrides:
  kubelet: {apiVersion: v1}
  allowPackageChanges: [glibc, glibc]
  ignorePreflights: [{id: all, reason: we know}]
"""
    found = faults_of(text, host_addresses=("10.77.1.11",))
    assert [int(line.split(":")[0]) for line in found] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15]


def test_a_byte_of_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_bytes(b"apiVersion: caisson/v1\n# B\xfcro\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text") as caught:
        config.load(file)
    assert caught.value.details == "line 2 has the byte 0xfc"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "none.yaml")


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    schema = config.load_schema()
    jsonschema.Draft7Validator.check_schema(schema)

    def walk(node: dict[str, object]) -> None:
        properties = node.get("properties")
        for key, value in properties.items() if isinstance(properties, dict) else ():
            assert "description" in value, key
            walk(value)

    walk(schema)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version = 3", ""),
        ("# of the site\nversion=2\n[plugins]\nversion = 7\n", ""),
        ("", ""),
        ("[plugins]\nversion = 3\n", "has no 'version = 3' before its first table"),
        ("root = '/x'\n", "has no 'version = 3' before its first table"),
        ("version = 1\n", "version = 1: containerd reads 2, 3 and 4"),
        ("version = 3\nversion = 3\n", "has 'version' more than once"),
    ],
)
def test_a_text_for_containerd_that_it_would_misread(text: str, problem: str) -> None:
    """Before anything is touched; containerd's own judgement comes when it is installed."""
    faults = faults_of(CONFIG_TEXT + f"overrides:\n  containerd: {json.dumps(text)}\n")
    assert len(faults) == bool(problem)
    assert all(problem in fault for fault in faults)


def test_a_checked_configuration_is_compared_with_another_host_only() -> None:
    text = CONFIG_TEXT + "  unknown: {}\n"
    found, misfits = config.parse_checked(text, host_addresses=["10.77.1.5", "10.233.0.7"])
    assert found.cluster_name == "lab"
    assert misfits == (
        "networks.pods.cidr: the default 10.233.0.0/16 holds this host's address 10.233.0.7",
        (
            "networks.workloadPlane.cidrs: no address of this host lies in 198.51.100.0/24, 10.77.2.0/24; it has "
            "10.77.1.5, 10.233.0.7"
        ),
    )
