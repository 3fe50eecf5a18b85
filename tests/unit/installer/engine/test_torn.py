# SPDX-License-Identifier: Apache-2.0
"""What a power cut left without a byte goes; what is whole, or not Caisson's, stays."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from installer.base.paths import Paths
from installer.config import changes
from installer.engine import torn
from tests.unit.salt.test_modules import load

ROOT_DIR = Path(__file__).parents[4]


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
        "/etc/caisson/tls/media.crt",
        "/etc/caisson/salt/pki/master/minions/node1",
        "/etc/cni/net.d/10-calico.conflist",
        "/etc/cni/net.d/calico-kubeconfig",
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/manifests/nginx.yaml",
        "/etc/kubernetes/patches/kube-apiserver0+json.json",
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
    [
        "/etc/.hosts.77.new",
        "/etc/caisson/pillar/.top.sls.7.new",
        "/etc/systemd/system/.srv-a.mount.1.new",
        "/var/lib/caisson/jobs/20261127-115003-node-add-3fa9c1/.result.json.7.new",
    ],
)
def test_a_temporary_of_a_write_that_was_killed_goes(paths: Paths, name: str) -> None:
    file = write(paths, name, "half")
    assert torn.remove(paths) == [file]


OF_A_SITE = (
    "/etc/caisson/site.note",
    "/etc/caisson/pki/.gitkeep",
    "/etc/cni/net.d/.nerdctl.lock",
    "/etc/kubernetes.repo",
    "/etc/kubernetes/manifests/.gitkeep",
    "/etc/kubernetes/patches/.gitkeep",
    "/etc/kubernetes/pki/tokens.csv",
    "/etc/kubernetes/site/flag",
    "/etc/kubernetes/site/.flag.7.new",
    "/etc/salt/grains",
    "/etc/salt/minion.d/99-site.conf",
    "/etc/.pwd.lock",
    "/var/lib/caisson/registry/docker/registry/v2/blobs/sha256/e3/e3b0/data",
    "/var/lib/caisson/registry/docker/registry/v2/repositories/app/_uploads/1/data",
    "/var/lib/caisson/registry/docker/registry/v2/.data.7.new",
    "/var/lib/kubelet/pki/site.lock",
    "/var/lib/kubelet/pods/x/ready",
)


@pytest.mark.parametrize("name", OF_A_SITE)
def test_what_is_not_ours_stays(paths: Paths, name: str) -> None:
    file = write(paths, name)
    assert torn.remove(paths) == []
    assert file.exists()


OF_A_CONTROL_PLANE = (
    "/etc/cni/net.d/10-calico.conflist",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/etc/kubernetes/patches/etcd0+merge.yaml",
    "/etc/kubernetes/pki/ca.key",
    "/var/lib/kubelet/config.yaml",
)


@pytest.mark.parametrize("living", ["kube-apiserver", "etcd"])
def test_of_a_control_plane_of_others_only_caisson_s_own_manifests_go(paths: Paths, living: str) -> None:
    write(paths, f"/etc/kubernetes/manifests/{living}.yaml", "kind: Pod")
    theirs = [write(paths, name) for name in OF_A_CONTROL_PLANE]
    own = write(paths, "/etc/kubernetes/manifests/registry.yaml")
    assert torn.remove(paths) == [own]
    assert all(file.exists() for file in theirs)
    write(paths, changes.FIRST_STAMP, "{}")
    assert set(torn.remove(paths)) == set(theirs)


def test_a_control_plane_does_not_become_one_of_others(paths: Paths) -> None:
    """By its first stamp it is known as Caisson's, also by an empty one."""
    stamp = write(paths, changes.FIRST_STAMP)
    manifest = write(paths, "/etc/kubernetes/manifests/etcd.yaml")
    assert torn.remove(paths) == [manifest]
    assert stamp.exists()


def test_own_manifests_are_the_table_s() -> None:
    table = yaml.safe_load((ROOT_DIR / "salt/parameters/static_pods.yaml").read_text())["static_pods"]
    own = {Path(name).stem for name in torn.CAISSON if name.startswith("/etc/kubernetes/manifests/")}
    assert own == set(table)
    assert {file for files in table.values() for file in files} <= {*torn.CAISSON, *torn.KUBEADM}


def test_every_file_that_a_state_manages_in_these_places_is_known() -> None:
    """A file of a new state is in the list, or its name is worked out there (``{{``)."""
    places = ("/etc/caisson/", "/etc/cni/", "/etc/kubernetes/", "/etc/salt/")
    managed = re.compile(r"file\.managed:\n(?: +#.*\n)* +- name: (/[^\s{]+)$", re.MULTILINE)
    texts = [file.read_text() for file in sorted((ROOT_DIR / "salt").rglob("*.sls"))]
    names = {name for text in texts for name in managed.findall(text) if name.startswith(places)}
    assert "/etc/caisson/guard.nft" in names
    assert names <= {*torn.CAISSON, *torn.SALT}


def test_what_takes_long_is_told(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torn, "SILENT_S", 0.01)
    write(paths, "/var/cache/caisson/dnf/x", "x")
    is_told = threading.Event()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: is_told.wait(30))
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        is_told.set()

    torn.remove(paths, say)
    assert said == ["looking for what the interrupted run left half-written"]


def test_no_directory_is_walked(paths: Paths) -> None:
    """The site's images are tens of thousands of files."""
    assert not [
        pattern
        for pattern in (*torn.CAISSON, *torn.SALT, *torn.KUBEADM, *torn.TEMPORARIES)
        if "**" in pattern
    ]


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


def test_kubeadm_s_files_are_those_that_its_phases_are_known_to_make() -> None:
    kubeadm = load("caisson_kubeadm")
    phases = "".join(file.read_text() for file in (ROOT_DIR / "salt/control_plane").glob("*.sls"))
    made = set(kubeadm.certificate_files()) | {f"/etc/kubernetes/{name}" for name in kubeadm.KUBECONFIGS}
    produced = re.findall(r"'(/(?:etc/kubernetes|var/lib/kubelet)/[\w./-]+\.(?:yaml|env|crt|key))'", phases)
    assert len(produced) > 3
    assert made | set(produced) <= set(torn.KUBEADM)
