# SPDX-License-Identifier: Apache-2.0
"""Whose control plane it is, by the files that kubeadm leaves: of the configured cluster, or of another origin."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import PreflightError
from installer.base.paths import Paths
from installer.checks import host as checks_host
from installer.config import changes, control_plane
from installer.media import product
from tests.authorities import make_authority
from tests.unit.installer.helpers import make_config, make_facts, product_bytes

KUBERNETES = "1.36.4"


def manifest(component: str, *flags: str, version: str = "v1.36.4") -> str:
    lines = "".join(f"    - {flag}\n" for flag in (component, *flags))
    image = f"    image: registry.k8s.io/{component}:{version}\n"
    return f"kind: Pod\nspec:\n  containers:\n  - command:\n{lines}{image}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Return the paths of a host on which ``kubeadm init`` ran with the helpers' configuration."""
    paths = Paths(tmp_path / "root")
    pki_dir = paths.at("/etc/kubernetes/pki")
    pki_dir.mkdir(parents=True)
    certificate, _ = make_authority(tmp_path / "made", subject="kubernetes")
    (pki_dir / "ca.crt").write_text(certificate.read_text())
    trusted = base64.b64encode(certificate.read_bytes()).decode()
    server = "https://api.lab.internal:6443"
    files = {
        "/etc/kubernetes/admin.conf": "kind: Config\nclusters:\n- name: lab\n  cluster:\n"
        f"    server: {server}\n    certificate-authority-data: {trusted}\n",
        "/etc/kubernetes/manifests/kube-apiserver.yaml": manifest(
            "kube-apiserver", "--advertise-address=10.77.1.11", "--service-cluster-ip-range=10.96.0.0/12"
        ),
        "/etc/kubernetes/manifests/kube-controller-manager.yaml": manifest(
            "kube-controller-manager", "--cluster-cidr=10.233.0.0/16", "--cluster-name=lab"
        ),
        "/etc/kubernetes/manifests/etcd.yaml": manifest("etcd", "--name=node1", version="3.6.8-0"),
        "/var/lib/kubelet/config.yaml": "cgroupDriver: systemd\nstaticPodPath: /etc/kubernetes/manifests\n",
    }
    for name, text in files.items():
        paths.at(name).parent.mkdir(parents=True, exist_ok=True)
        paths.at(name).write_text(text)
    return paths


def told(paths: Paths, extra: str = "", **facts: Any) -> list[str]:
    values = changes.values(make_config(extra), dataclasses.replace(make_facts(), **facts))
    return control_plane.differences(paths.root, values, KUBERNETES)


def replace(paths: Paths, name: str, old: str, new: str) -> None:
    file = paths.at(f"/etc/kubernetes/{name}")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_one_of_the_same_cluster_is_no_other(paths: Paths) -> None:
    assert control_plane.is_of_others(paths.root)
    assert told(paths) == []
    control_plane.check(paths, make_config(), make_facts(), KUBERNETES)


def test_a_host_without_one_and_one_that_caisson_made_are_not_asked(paths: Paths, tmp_path: Path) -> None:
    assert not control_plane.is_of_others(tmp_path / "empty")
    replace(paths, "manifests/kube-controller-manager.yaml", "--cluster-name=lab", "--cluster-name=other")
    stamp = paths.at(changes.FIRST_STAMP)
    stamp.parent.mkdir(parents=True)
    stamp.write_text("{}")
    assert not control_plane.is_of_others(paths.root)
    control_plane.check(paths, make_config(), make_facts(), KUBERNETES)


@pytest.mark.parametrize(
    ("name", "old", "new", "key"),
    [
        (
            "manifests/kube-controller-manager.yaml",
            "--cluster-name=lab",
            "--cluster-name=kubernetes",
            "cluster name",
        ),
        ("manifests/kube-controller-manager.yaml", "10.233.0.0/16", "10.244.0.0/16", "pod CIDR"),
        ("manifests/kube-controller-manager.yaml", "10.233.0.0/16", "10.233.0.0/16,fd00::/48", "pod CIDR"),
        ("manifests/kube-controller-manager.yaml", "    - --cluster-cidr=10.233.0.0/16\n", "", "pod CIDR"),
        ("manifests/kube-apiserver.yaml", "10.96.0.0/12", "10.96.0.0/16", "service CIDR"),
        ("manifests/kube-apiserver.yaml", "10.77.1.11", "10.77.3.11", "address"),
        ("manifests/kube-apiserver.yaml", "v1.36.4", "v1.35.9", "version of Kubernetes"),
        ("manifests/kube-apiserver.yaml", "v1.36.4", "v1.35.9@sha256:ab", "version of Kubernetes"),
        (
            "manifests/kube-apiserver.yaml",
            "--advertise",
            "--secure-port=8443\n    - --advertise",
            "port of the API server",
        ),
        ("manifests/kube-apiserver.yaml", "kind: Pod", "- torn: [", "port of the API server"),
        ("manifests/etcd.yaml", "--name=node1", "--name=node2", "node name"),
        ("manifests/etcd.yaml", "kind: Pod", "- torn: [", "node name"),
        ("admin.conf", "https://api.lab.internal:6443", "https://10.77.1.11:6443", "endpoint"),
        ("admin.conf", "clusters:", "nothing:", "endpoint"),
        ("../../var/lib/kubelet/config.yaml", "systemd", "cgroupfs", "kubelet's cgroupDriver"),
        (
            "../../var/lib/kubelet/config.yaml",
            "/etc/kubernetes/manifests",
            "/opt/pods",
            "kubelet's staticPodPath",
        ),
    ],
)
def test_each_fact_of_another_origin_is_told(paths: Paths, name: str, old: str, new: str, key: str) -> None:
    replace(paths, name, old, new)
    assert key in [line.partition(":")[0] for line in told(paths)]
    with pytest.raises(PreflightError, match="another origin") as caught:
        control_plane.check(paths, make_config(), make_facts(), KUBERNETES)
    assert f"{key}: " in caught.value.details


def test_all_are_told_at_once_with_both_values(paths: Paths) -> None:
    assert told(paths, node_name="node9") == ["node name: node1 on this host, node9 wanted"]


def test_the_last_of_two_flags_counts(paths: Paths) -> None:
    twice = "--cluster-name=other\n    - --cluster-name=lab"
    replace(paths, "manifests/kube-controller-manager.yaml", "--cluster-name=lab", twice)
    assert told(paths) == []


def test_one_network_in_another_spelling_is_the_same(paths: Paths) -> None:
    replace(paths, "manifests/kube-apiserver.yaml", "10.96.0.0/12", "10.96.0.1/12")
    assert told(paths) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (":v1.36.4", ":v1.36.4@sha256:0123"),
        ("registry.k8s.io/", "registry.example:5000/k8s/"),
        ("--advertise", "--secure-port=6443\n    - --advertise"),
    ],
)
def test_one_api_server_in_other_words_is_the_same(paths: Paths, old: str, new: str) -> None:
    replace(paths, "manifests/kube-apiserver.yaml", old, new)
    assert told(paths) == []


@pytest.mark.parametrize("file", ["pki/ca.crt", "/etc/kubernetes/pki/ca.crt"])
def test_the_authority_of_admin_conf_may_be_a_file(paths: Paths, file: str) -> None:
    admin = paths.at("/etc/kubernetes/admin.conf")
    text, _, _ = admin.read_text().partition("certificate-authority-data")
    admin.write_text(f"{text}certificate-authority: {file}\n")
    assert told(paths) == []
    admin.write_text(f"{text}certificate-authority: pki/other.crt\n")
    assert [line.partition(":")[0] for line in told(paths)] == ["authority that admin.conf trusts"]


@pytest.mark.parametrize(
    ("current", "is_same"), [("ours", True), ("other", False), ("gone", False), ("", False)]
)
def test_of_several_clusters_that_of_the_current_context_counts(
    paths: Paths, current: str, *, is_same: bool
) -> None:
    other = "clusters:\n- name: other\n  cluster: {server: https://192.0.2.1:6443}\n"
    replace(paths, "admin.conf", "clusters:\n", other)
    contexts = "".join(
        f"- {{name: {name}, context: {{cluster: {cluster}, user: x}}}}\n"
        for name, cluster in (("other", "other"), ("ours", "lab"))
    )
    admin = paths.at("/etc/kubernetes/admin.conf")
    admin.write_text(f"{admin.read_text()}contexts:\n{contexts}current-context: '{current}'\n")
    assert (told(paths) == []) is is_same


def test_files_of_two_clusters_are_no_cluster(paths: Paths, tmp_path: Path) -> None:
    other, _ = make_authority(tmp_path / "other", subject="kubernetes")
    paths.at("/etc/kubernetes/pki/ca.crt").write_text(other.read_text())
    assert [line.partition(":")[0] for line in told(paths)] == ["authority that admin.conf trusts"]
    paths.at("/etc/kubernetes/pki/ca.crt").unlink()
    assert told(paths)[-1] == "authority: /etc/kubernetes/pki/ca.crt cannot be read"


@pytest.mark.parametrize("is_same", [True, False])
def test_the_authority_that_a_site_brings_is_the_cluster_s(
    paths: Paths, tmp_path: Path, *, is_same: bool
) -> None:
    other, key = make_authority(tmp_path / "other")
    if is_same:
        # Whatever stands around the certificate.
        other.write_text("a comment\n" + paths.at("/etc/kubernetes/pki/ca.crt").read_text())
    values = changes.values(make_config(), make_facts())
    values["authorities"] = {"cluster": {"certificate_file": "/site/ca.crt", "key_file": str(key)}}
    paths.at("/site").mkdir()
    paths.at("/site/ca.crt").write_text(other.read_text())
    lines = control_plane.differences(paths.root, values, KUBERNETES)
    assert [line.partition(":")[0] for line in lines] == ([] if is_same else ["authority"])


@pytest.mark.parametrize(
    ("name", "is_foreign"),
    [
        ("10-calico.conflist", False),
        ("calico-kubeconfig", False),
        (".kubernetes-cni-keep", False),
        ("10-flannel.conflist", True),
        ("05-cilium.conf", True),
    ],
)
def test_a_second_pod_network_is_not_brought(paths: Paths, name: str, *, is_foreign: bool) -> None:
    directory = paths.at("/etc/cni/net.d")
    directory.mkdir(parents=True)
    (directory / name).write_text("{}")
    assert told(paths) == (
        [f"pod network: {name} on this host, 10-calico.conflist wanted"] if is_foreign else []
    )


@pytest.mark.parametrize(
    ("name", "text", "is_foreign"),
    [
        ("99-loopback.conf", '{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}', False),
        ("99-loopback.conflist", '{"name": "lo", "plugins": [{"type": "loopback"}]}', False),
        ("99-loopback.conflist", '{"plugins": [{"type": "loopback"}, {"type": "bridge"}]}', True),
        ("99-loopback.conflist", '{"plugins": []}', True),
        ("99-loopback.conf", '{"type": "bridge"}', True),
        ("99-loopback.conf", "[]", True),
        ("99-loopback.conf", '{"type": "loop', True),
    ],
)
def test_the_loopback_interface_is_no_pod_network(
    paths: Paths, name: str, text: str, *, is_foreign: bool
) -> None:
    directory = paths.at("/etc/cni/net.d")
    directory.mkdir(parents=True)
    (directory / name).write_text(text)
    assert (told(paths) != []) is is_foreign


@pytest.mark.parametrize(
    ("user", "name", "origin"),
    [
        (0, "node1", ()),
        (0, "node2", ("node name: node2 on this host, node1 wanted",)),
        (1000, "node2", None),  # who cannot read kubeadm's files says nothing of them
    ],
)
def test_the_checks_see_the_same(
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    name: str,
    origin: tuple[str, ...] | None,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    replace(paths, "manifests/etcd.yaml", "--name=node1", f"--name={name}")
    ports = tmp_path / "salt/parameters/ports.yaml"
    ports.parent.mkdir(parents=True)
    ports.write_text(Path("salt/parameters/ports.yaml").read_text())
    seen = checks_host.view(
        config=make_config(),
        facts=make_facts(),
        product=product.parse(product_bytes()),
        tree_dir=tmp_path,
        paths=paths,
    )
    assert (seen.is_ours, seen.is_left_alone) == (origin == (), origin == ())
    assert seen.other_origin == origin
