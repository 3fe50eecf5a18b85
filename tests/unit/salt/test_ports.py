# SPDX-License-Identifier: Apache-2.0
"""The numbers of the port table stand in the table: who listens, opens, asks or shows takes them from there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

#: Numbers that Kubernetes, the kubelet, kube-proxy and Salt have by themselves, where Caisson leaves them as they are.
OTHERS_OWN = {
    ("installer/checks/trials.py", 4789),
    ("installer/config/control_plane.py", 6443),
    ("installer/operations/cluster.py", 4505),
    ("installer/operations/report.py", 6443),
    ("installer/operations/tokens.py", 6443),
    # kubeadm gives etcd these, and no way to give others.
    ("salt/_modules/caisson_etcd.py", 2379),
    ("salt/_modules/caisson_etcd.py", 2380),
    ("salt/_modules/caisson_kubeadm.py", 6443),
    ("salt/_modules/caisson_member.py", 6443),
    ("salt/control_plane/initialised.sls", 6443),
    ("salt/control_plane/started.sls", 10248),
    ("salt/kubelet/standalone.sls", 10248),
}


def found(root: Path) -> set[tuple[str, int]]:
    """Return file and number of each mention of a port outside of the table."""
    table = yaml.safe_load((root / "salt/parameters/ports.yaml").read_text())["ports"]
    numbers = "|".join(str(entry["port"]) for entry in table)
    files = [
        file
        for directory in ("salt", "installer")
        for file in (root / directory).rglob("*")
        if file.suffix in (".py", ".sls", ".j2", ".yml", ".jinja") and "vendor" not in file.parts
    ]
    return {
        (str(file.relative_to(root)), int(number))
        for file in files
        for number in re.findall(rf"(?<![\w.])({numbers})(?![\w.])", file.read_text())
    }


def test_no_other_file_has_the_number_of_a_port(repository_dir: Path) -> None:
    assert found(repository_dir) == OTHERS_OWN
