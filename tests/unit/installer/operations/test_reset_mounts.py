# SPDX-License-Identifier: Apache-2.0
"""What the node mounted is unmounted, what is the host's own is not, and nothing mounted loses a byte: real mounts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from installer.operations import reset_plan

ROOT_DIR = Path(__file__).parents[4]
APART = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--")
# All that is written is on file systems of this namespace's own.
SCENE = """
for place in /var/lib /etc /mnt /run /srv /opt; do mount -t tmpfs tmpfs $place; done
mkdir -p /mnt/site /srv/db /var/lib/kubelet/{pods/one/volumes/nfs,pods/one/volumes/same,pki,site-db,plugins/disk} \
  /var/lib/containerd/big /run/netns /etc/systemd/system /run/containerd/rootfs /var/lib/etcd/member
touch /mnt/site/data /srv/db/data /var/lib/kubelet/site-db/data /var/lib/etcd/member/db /var/lib/kubelet/pki/key
mount --bind /mnt/site /var/lib/kubelet/pods/one/volumes/nfs
mount --bind /srv/db /var/lib/kubelet/pods/one/volumes/same
mount -t tmpfs overlay /run/containerd/rootfs
mount -t tmpfs disk /var/lib/containerd/big; touch /var/lib/containerd/big/data
mount -t tmpfs disk /var/lib/etcd; mkdir /var/lib/etcd/member; touch /var/lib/etcd/member/db
mount -t tmpfs disk /var/lib/kubelet/plugins/disk; touch /var/lib/kubelet/plugins/disk/data
echo '/dev/sdb /var/lib/containerd/big xfs defaults 0 0' > /etc/fstab
touch '/etc/systemd/system/var-lib-kubelet-plugins-disk.mount'
mkdir -p /var/lib/cni/results /var/lib/caisson
touch /run/netns/{cni-02dbd558-e11b-3446-e348-e7c1e804c150,cni-ffffffff-e11b-3446-e348-e7c1e804c150,mine}
echo '{"result": {"interfaces": [{"sandbox": "/var/run/netns/cni-02dbd558-e11b-3446-e348-e7c1e804c150"}]}}' \
  > /var/lib/cni/results/cni-loopback-0-lo
echo '{"result": "of podman"}' > /var/lib/cni/results/podman-1-eth0
echo '{"settled": {}, "brought": ["containerd.io.x86_64"]}' > /var/lib/caisson/packages.json
"""
ACT = """
import json, sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from installer.base.errors import InstallerError
from installer.base.mounts import read_mounts
from installer.operations import reset_files, reset_mounts
from tests.unit.installer.operations.resetting import make_reset
found = make_reset(Path("/"), ["/var/lib/kubelet/site-db"])
rounds = []
for _ in range(2):
    error = ""
    texts = []
    try:
        for plan in (reset_mounts.plan, reset_files.plan):
            for action in plan(found):
                texts.append(action.text)
                action.do()
    except InstallerError as exc:
        error = exc.message + exc.details
    rounds.append({"texts": texts, "error": error})
points = [mount.mount_point for mount in read_mounts() if mount.mount_point.startswith("/var/lib/")]
files = sorted(str(file) for root in ("/mnt", "/srv", "/var/lib") for file in Path(root).rglob("*") if file.is_file())
print(json.dumps({"rounds": rounds, "points": points, "files": files, "others": found.others,
                  "networks": [file.name for file in Path("/run/netns").iterdir()]}))
"""


def _acted(tmp_path: Path, before: str = "") -> dict[str, Any]:
    program = tmp_path / "act.py"
    program.write_text(ACT, encoding="utf-8")
    script = f"{SCENE}\n{before}\n{sys.executable} {program} {ROOT_DIR}"
    done = subprocess.run(
        [*APART, "bash", "-euc", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.subprocess
def test_nothing_of_the_site_s_goes_and_a_second_time_there_is_nothing(tmp_path: Path) -> None:
    """Also data on the same file system, on a disk that is mounted in the middle, and beside the kubelet's own."""
    said = _acted(tmp_path)
    assert [entry["error"] for entry in said["rounds"]] == ["", ""]
    assert said["rounds"][1]["texts"] == []
    assert said["files"] == [
        "/mnt/site/data",
        "/srv/db/data",
        "/var/lib/caisson/packages.json",
        "/var/lib/cni/results/podman-1-eth0",
        "/var/lib/containerd/big/data",
        "/var/lib/kubelet/plugins/disk/data",
        "/var/lib/kubelet/site-db/data",
    ]
    assert said["points"] == ["/var/lib/containerd/big", "/var/lib/etcd", "/var/lib/kubelet/plugins/disk"]
    assert sorted(said["networks"]) == ["cni-ffffffff-e11b-3446-e348-e7c1e804c150", "mine"]
    assert set(said["others"]) >= {"/var/lib/kubelet/plugins/disk", "/var/lib/etcd"}


@pytest.mark.subprocess
def test_nothing_is_deleted_while_a_volume_is_in_use(tmp_path: Path) -> None:
    used = "(cd /var/lib/kubelet/pods/one/volumes/same; exec sleep 50) >&- 2>&- & sleep 0.3"
    said = _acted(tmp_path, before=used)
    assert "1 mounts are in use" in said["rounds"][0]["error"]
    assert "/var/lib/kubelet/pods/one/volumes/same" in said["rounds"][0]["error"]
    assert {"/srv/db/data", "/var/lib/kubelet/pki/key", "/var/lib/etcd/member/db"} < set(said["files"])


@pytest.mark.parametrize(
    ("place", "is_data"),
    [
        ("/srv/db", True),
        ("/data", True),
        ("/var/lib/postgres", True),
        ("/var/lib/kubelet/site-db", True),
        ("/var/lib/kubelet/plugins/csi.example", False),
        ("/var/lib/kubelet", False),
        ("/var/lib", False),
        ("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", False),
        ("/", False),
        ("/proc", False),
        ("/dev/disk", False),
        ("/var/log/pods", False),
        ("relative", False),
        ("/srv/../etc", False),
        ("", False),
    ],
)
def test_which_volumes_are_data(place: str, *, is_data: bool) -> None:
    assert reset_plan.is_data(place) is is_data
