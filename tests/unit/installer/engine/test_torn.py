# SPDX-License-Identifier: Apache-2.0
"""What a power cut left without a byte goes; what is whole, or not Caisson's, stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.paths import Paths
from installer.engine import torn


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def write(paths: Paths, absolute: str, text: str = "") -> Path:
    file = paths.at(absolute)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "name",
    [
        "/etc/caisson/pki/ca.key",
        "/etc/caisson/salt/pki/master/master.pem",
        "/etc/caisson/kubelet/standalone.yaml",
        "/etc/cni/net.d/10-calico.conflist",
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/manifests/etcd.yaml",
        "/etc/kubernetes/pki/etcd/server.crt",
        "/etc/salt/minion.d/90-caisson.conf",
        "/etc/salt/pki/minion/minion_master.pub",
        "/var/cache/caisson/salt-master/sessions/node1",
        "/var/lib/caisson/kubeadm/certs-all.json",
        "/var/lib/kubelet/config.yaml",
        "/var/lib/kubelet/kubeadm-flags.env",
        "/var/lib/kubelet/pki/kubelet-client-2026-11-27-07-00-00.pem",
    ],
)
def test_a_file_without_a_byte_goes_and_a_whole_one_stays(paths: Paths, name: str) -> None:
    file = write(paths, name)
    assert torn.remove(paths) == [file]
    assert not file.exists()
    write(paths, name, "x")
    assert torn.remove(paths) == []
    assert file.read_text() == "x"


@pytest.mark.parametrize(
    "name",
    ["/etc/.hosts.77.new", "/etc/caisson/pillar/.top.sls.7.new", "/etc/systemd/system/.srv-a.mount.1.new"],
)
def test_a_temporary_of_a_write_that_was_killed_goes(paths: Paths, name: str) -> None:
    file = write(paths, name, "half")
    assert torn.remove(paths) == [file]


@pytest.mark.parametrize(
    "name", ["/etc/kubernetes.repo", "/etc/salt/grains", "/etc/.pwd.lock", "/var/lib/kubelet/pods/x/ready"]
)
def test_what_is_not_ours_stays(paths: Paths, name: str) -> None:
    file = write(paths, name)
    assert torn.remove(paths) == []
    assert file.exists()


def test_links_and_directories_stay(paths: Paths) -> None:
    file = write(paths, "/var/lib/kubelet/pki/kubelet-client-1.pem")
    link = file.with_name("kubelet-client-current.pem")
    link.symlink_to(file.name)
    (paths.at("/etc/kubernetes") / "manifests").mkdir(parents=True)
    assert torn.remove(paths) == [file]
    assert link.is_symlink()
    assert (paths.at("/etc/kubernetes") / "manifests").is_dir()


def test_a_host_without_any_of_it(paths: Paths) -> None:
    assert torn.remove(paths) == []


def test_caches_go_as_a_whole(paths: Paths) -> None:
    half = write(paths, "/var/cache/caisson/dnf/caisson/repodata/primary.xml.gz", "half of it")
    write(paths, "/var/cache/caisson/salt-master/health/alive")
    assert torn.remove(paths) == []
    assert not half.exists()
    assert paths.at("/var/cache/caisson/salt-master/health/alive").exists()
