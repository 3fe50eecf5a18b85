# SPDX-License-Identifier: Apache-2.0
"""How a phase is taken back: words for a person, who types them; they may not destroy what is the site's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from installer.operations.bootstrap import PHASES

UNDO = {phase.name: phase.undo for phase in PHASES}
#: Directories in which there is nothing but what Caisson put there, or what goes with its programs.
OWN_DIRS = {"/opt/caisson/VERSION-BUILD", "/var/lib/containerd", "/var/lib/kubelet"}
APART = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--")
# All that is written is on file systems of this namespace's own; the commands beside them are not there at all.
SCENE = """
for place in /var/lib /etc /mnt; do mount -t tmpfs tmpfs $place; done
mkdir -p /mnt/site /var/lib/site /var/lib/kubelet/pods/one/volumes /etc/systemd/system/kubelet.service.d
cd /var/lib/kubelet/pods/one/volumes
mkdir nfs 'a volume' 'a volume/inner'
touch /mnt/site/data /var/lib/site/data /var/lib/kubelet/config.yaml
mkdir /var/lib/site/inner
touch /etc/systemd/system/kubelet.service.d/{11-caisson,20-caisson-standalone,50-site}.conf
mount --bind /mnt/site nfs
mount --bind /var/lib/site 'a volume'
mount --bind /mnt/site 'a volume/inner'
"""
SHOW = "; cd /; find /mnt /var/lib /etc -type f | sort"


@pytest.mark.parametrize("name", sorted(UNDO))
def test_what_is_removed_is_named_and_not_guessed(name: str) -> None:
    """A pattern also takes what others have called alike, a unit of the same name for another ISO, say."""
    for words in re.findall(r"\brm ([^;&|]*)", UNDO[name]):
        assert not set("*?[") & set(words), words


@pytest.mark.subprocess
def test_of_two_isos_that_are_mounted_one_is_left(tmp_path: Path) -> None:
    units_dir = tmp_path / "units"
    units_dir.mkdir()
    for build in ("a", "b"):
        (units_dir / rf"srv-caisson-0.1.0\x2d{build}.mount").touch()
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n', encoding="utf-8")
    program.chmod(0o755)
    typed = (
        UNDO["mount-media"].replace("VERSION-BUILD", "0.1.0-a").replace("/etc/systemd/system", str(units_dir))
    )
    subprocess.run(["bash", "-euc", typed], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=30)
    assert [file.name for file in units_dir.iterdir()] == [r"srv-caisson-0.1.0\x2db.mount"]
    called = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert called == ["disable --now srv-caisson-0.1.0\\x2da.mount", "daemon-reload"]


@pytest.mark.subprocess
def test_calico_goes_and_the_policies_of_the_site_stay(tmp_path: Path) -> None:
    """They are objects of kinds that Calico's manifest brings: with such a kind all of them would be deleted."""
    program = tmp_path / "kubectl"
    listed = (
        "serviceaccount/calico-node",
        "customresourcedefinition.apiextensions.k8s.io/networkpolicies.crd.projectcalico.org",
        "daemonset.apps/calico-node",
    )
    program.write_text(
        f"#!/bin/sh\necho \"$@\" >> {tmp_path}/called\nprintf '%s\\n' {' '.join(listed)}\n", encoding="utf-8"
    )
    program.chmod(0o755)
    typed = UNDO["network"].partition(": ")[0]
    subprocess.run(["bash", "-euc", typed], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=30)
    _, deleting = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert deleting.endswith(f"-n kube-system delete {listed[0]} {listed[2]}")


def test_what_was_there_before_is_not_said_to_be_removed() -> None:
    """A site's own kubectl; swap units that it has masked itself; a minion that never ran."""
    assert "that were not there before" in UNDO["install-minion"]
    assert "swap.target" in UNDO["container-runtime"]
    assert "NAME.swap.caisson back to NAME.swap" in UNDO["container-runtime"]
    assert UNDO["stop-minion"].startswith("where one ran before")


@pytest.mark.parametrize("name", sorted(UNDO))
def test_nothing_is_removed_that_others_write_to(name: str) -> None:
    for words in re.findall(r"\brm ([^;&|]*)", UNDO[name]):
        options = {word for word in words.split() if word.startswith("-")}
        targets = {word for word in words.split() if word.startswith("/")}
        if "-r" in options:
            assert targets <= OWN_DIRS | {"/usr/bin/caisson"}, words
            assert "--one-file-system" in options or not {t for t in targets if t.startswith("/var/")}, words


def test_kubectl_is_told_of_which_cluster() -> None:
    calling = {name for name, undo in UNDO.items() if "kubectl " in undo.replace("kubeadm kubectl", "")}
    assert calling == {"addons", "network", "console"}
    for name in calling:
        calls = re.findall(r"kubectl (?:--kubeconfig (\S+))?", UNDO[name])
        assert set(calls) == {"/etc/kubernetes/admin.conf"}, name


def test_what_a_phase_has_written_is_named() -> None:
    for unit in ("caisson-hosts.path", "caisson-hosts.service"):
        assert f"/etc/systemd/system/{unit}" in UNDO["container-runtime"]
    assert "kube-proxy" not in UNDO["addons"]
    for kind in ("deployment", "serviceaccount"):
        assert f"{kind}/coredns" in UNDO["addons"]
    for kind in ("clusterrole", "clusterrolebinding"):
        assert f"{kind}/system:coredns" in UNDO["addons"]
    assert not re.search(r"delete[^:;]*(configmap|cm)/", UNDO["addons"]), "the Corefile may be the site's"
    assert "/etc/caisson/pillar/caisson.sls" in UNDO["minion-local"]


def _typed(tmp_path: Path, before: str = "") -> tuple[list[str], str]:
    """Type what takes the kubelet back, on a host with volumes of pods; return the files that are left."""
    for name in ("systemctl", "crictl"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n', encoding="utf-8")
        program.chmod(0o755)
    script = f"set -e\n{SCENE}\n{before}\ncd /; set +e\n{UNDO['kubelet-standalone']}{SHOW}"
    environment = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*APART, "bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    return done.stdout.split(), (tmp_path / "called").read_text(encoding="utf-8")


@pytest.mark.subprocess
def test_the_kubelet_goes_and_the_volumes_of_the_site_s_pods_stay(tmp_path: Path) -> None:
    """Also one that is bound from the same file system, whose name has a blank."""
    left, called = _typed(tmp_path)
    assert left == [
        "/etc/systemd/system/kubelet.service.d/50-site.conf",
        "/mnt/site/data",
        "/var/lib/site/data",
    ]
    assert called.splitlines() == [
        "systemctl disable --now kubelet",
        "crictl rmp --all --force",
        "systemctl daemon-reload",
    ]


@pytest.mark.subprocess
def test_nothing_is_removed_while_a_volume_is_in_use(tmp_path: Path) -> None:
    left, _ = _typed(
        tmp_path, before="(cd '/var/lib/kubelet/pods/one/volumes/a volume'; exec sleep 50) >&- 2>&- &"
    )
    assert {"/mnt/site/data", "/var/lib/site/data", "/var/lib/kubelet/config.yaml"} < set(left)
