# SPDX-License-Identifier: Apache-2.0
"""The preflights on real nodes: a fit one stays as it is, a hostile one gets one table of all that is wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lab.node import Lab, Node
from tests.node.installing import lab_iso

pytestmark = pytest.mark.lab

INSTALLER_DIR = Path(__file__).parents[2] / "installer"
CONFIG_FILE = "/root/bootstrap.yaml"
"""What other work on this machine costs is not the check's: the best of so many counts."""
FAULTS = 20
AT_ONCE, REPEATED = 2, 4

#: Everything of a host that a check could have changed. Left out: what lives (journal, firewalld's log, processes).
STATE = """
find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /var/log/journal -o -path /var/log/firewalld \
  -o -path /root/state \\) -prune -o -printf '%y %m %u:%g %s %T@ %l %p\\n' | grep -v ' /var/lib/rpm' | sort -k7
find /run /dev /tmp -mindepth 1 -maxdepth 2 -printf '%y %p\\n' \
  | grep -v -e /run/systemd -e /run/udev -e systemd-private | sort
sha256sum /var/lib/rpm/rpmdb.sqlite /etc/dnf/dnf.conf /etc/yum.repos.d/*
rpm -qa | sort
rpm -q gpg-pubkey
find /sys/fs/cgroup -type d | grep -c -i caisson
mount | sort
nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'
firewall-cmd --list-all-zones
ip -oneline link show | sed 's/qdisc.*//'
ip address show | grep -w -e inet -e inet6
ip route show table all
sysctl --all --pattern '^(net.ipv4.ip_forward|net.bridge|vm.swap|kernel.panic)'
ls -1 /proc/self/ns /var/run/netns 2>/dev/null
"""

#: Each line is one fault, and the code of the check that must name it.
HOSTILE: tuple[tuple[str, str], ...] = (
    ("CSN102", "sed -i 's/^VERSION_ID=.*/VERSION_ID=\"8.10\"/' /usr/lib/os-release"),
    ("CSN108", "mv /usr/sbin/modprobe /usr/sbin/modprobe.away"),
    ("CSN114", "sed -i 's/^10.77.1.11 .*/127.0.1.1 node1/' /etc/hosts"),
    ("CSN115", "echo uninitialized > /etc/machine-id"),
    ("CSN118", "echo 'net.ipv4.ip_forward = 0' > /etc/sysctl.d/95-hardening.conf"),
    ("CSN121", "mkdir -p /etc/sudoers.d; echo 'Defaults secure_path=/sbin:/opt/bin' > /etc/sudoers.d/site"),
    ("CSN122", "echo 'https_proxy=http://proxy.example.com:3128' >> /etc/environment"),
    ("CSN201", "systemd-run --quiet --unit=squatter python3 -m http.server 6443; sleep 2"),
    ("CSN202", "ip route delete default"),
    ("CSN203", "ip route add 10.233.64.0/24 dev eth1"),
    ("CSN204", "echo 'nameserver 127.0.0.53' > /etc/resolv.conf"),
    (
        "CSN206",
        "mkdir -p /etc/NetworkManager/conf.d; echo unmanaged-devices=eth9 > /etc/NetworkManager/conf.d/99.conf",
    ),
    (
        "CSN303",
        "cd /var/lib; mkdir -p kubelet; mount --bind kubelet kubelet; mount -o remount,bind,noexec kubelet",
    ),
    ("CSN304", "mkdir -p /var/lib/etcd; mount -t tmpfs -o size=8g tmpfs /var/lib/etcd"),
    ("CSN402", "systemd-run --quiet --unit=docker sleep infinity"),
    ("CSN403", "mkdir -p /etc/cni/net.d; touch /etc/cni/net.d/10-flannel.conflist"),
    ("CSN404", "mkdir -p /etc/salt/minion.d; echo 'master: salt.example.com' > /etc/salt/minion.d/site.conf"),
    ("CSN406", "nft add table ip filter; nft add chain ip filter KUBE-FORWARD"),
    ("CSN408", "systemd-run --quiet --unit=fapolicyd sleep infinity"),
    ("CSN409", "echo 'exclude=containerd*' >> /etc/dnf/dnf.conf"),
)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Start a node of a lab of its own, the ISO mounted; no bootstrap gets past the checks on it."""
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        node.prepare_bootstrap()
        yield node


def bootstrap_sh(node: Node, *words: str) -> tuple[int, str]:
    """Run the installer's command of the mounted media; return exit code and what it printed."""
    done = node.run(["/mnt/caisson/bootstrap.sh", *words], check=False, timeout_s=120)
    return done.returncode, done.stdout + done.stderr


def report_of(node: Node) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of ``check --json``, checked against its schema."""
    done = node.run(
        ["/mnt/caisson/bootstrap.sh", "check", "--json", "--config", CONFIG_FILE], check=False, timeout_s=240
    )
    report: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft7Validator(check_schema()).validate(report)
    return done.returncode, report


def check_schema() -> Any:
    """Return the JSON Schema of what ``check --json`` prints."""
    return json.loads((INSTALLER_DIR / "checks/check.schema.json").read_text(encoding="utf-8"))


def state_of(node: Node) -> list[str]:
    """Return the host's state as lines."""
    return node.run(["bash", "-c", STATE], check=False, timeout_s=120).stdout.splitlines()


def findings_of(report: dict[str, Any]) -> dict[str, list[str]]:
    """Return code -> evidence of the checks that found something."""
    return {check["id"]: check["evidence"] for check in report["checks"] if check["evidence"]}


def check_calmly(node: Node, tries: int = 1) -> list[float]:
    """Check a clean node: nothing is found, and the host stays as it was. Return the seconds that each try took."""
    bootstrap_sh(
        node, "check", "--config", CONFIG_FILE
    )  # what starts at first use (dbus, sockets) has started
    before = state_of(node)
    took_s = []
    for _ in range(tries):
        started = time.monotonic()
        returncode, output = bootstrap_sh(node, "check", "--config", CONFIG_FILE)
        took_s.append(time.monotonic() - started)
        assert returncode == 0, output
        assert " failed" not in output
        assert "skipped" not in output
    after = state_of(node)
    assert len(before) > 1000
    assert sorted(set(before) ^ set(after)) == []
    return took_s


def test_a_clean_node_passes_and_stays_as_it_was(node: Node) -> None:
    """How long it takes, ``./doit.sh soak`` says, which has the machine to itself."""
    check_calmly(node)


def check_at_once_and_under_load(node: Node, repeated: int) -> None:
    """Check a clean node so many times, two at a time, beside a load: nothing is found that is not there, or stays."""
    usual = set(findings_of(report_of(node)[1])) | {"CSN305"}
    node.run(["systemd-run", "--quiet", "--unit=load", "bash", "-c", "while :; do :; done"], timeout_s=30)
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            reports = [ran.result() for ran in [pool.submit(report_of, node) for _ in range(repeated)]]
    finally:
        node.run(["systemctl", "stop", "load.service"], timeout_s=60)
    for code, report in reports:
        ends = {check["id"]: check["status"] for check in report["checks"]}
        assert (code, set(findings_of(report)) - usual) == (0, set()), report
        assert "skipped" not in ends.values(), ends
    assert [line for line in state_of(node) if "caisson-trial" in line or "caistrial" in line] == []


def test_checks_of_a_clean_node_at_once_and_under_load_find_nothing_of_their_own(node: Node) -> None:
    """A descriptor that a fork holds, a clean-up that comes late, another check beside: no findings about the host.

    ``tests/soak`` does it more often.
    """
    check_at_once_and_under_load(node, REPEATED)


def test_twelve_faults_of_a_configuration_are_twelve_lines_and_nothing_else(node: Node) -> None:
    node.write_file(
        "/root/faulty.yaml",
        """\
apiVersion: caisson/v1
kind: Bootstrap
clusterName: my_cluster
networks:
  controlPlane: {cidrs: [192.0.2.0/24]}
  workloadPlain: {cidrs: [10.77.2.0/24]}
  pods: {cidr: 10.233.0.0/28}
  services: {cidr: 10.77.1.0/28}
node: {nane: node1}
apiServer: {extraSans: [K8S.example.com]}
media: {signingKey: ABCD}
overrides:
  kubelet: {apiVersion: v1}
  allowPackageChanges: [glibc, glibc]
  ignorePreflights: [{id: all, reason: we know}]
""",
    )
    before = state_of(node)
    returncode, output = bootstrap_sh(node, "--accept-lab-bundle", "--config", "/root/faulty.yaml")
    assert returncode == 3
    assert output.startswith("error: CSE003 the configuration /root/faulty.yaml has 12 faults")
    lines = re.findall(r"^  /root/faulty.yaml:(\d+): ", output, re.MULTILINE)
    assert [int(line) for line in lines] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15]
    assert (
        "networks.controlPlane.cidrs: no address of this host lies in 192.0.2.0/24; it has 10.77.1." in output
    )
    assert "networks.services.cidr: 10.77.1.0/28 holds this host's address 10.77.1." in output
    assert state_of(node) == before


DROP = """
nft add table inet site
nft add chain inet site forward '{ type filter hook forward priority 0; policy drop; }'
"""


def test_a_packet_filter_that_drops_is_found_by_packets(node: Node) -> None:
    node.run(["bash", "-c", DROP], timeout_s=30)
    try:
        evidence = findings_of(report_of(node)[1])["CSN504"]
    finally:
        node.run(["nft", "delete", "table", "inet", "site"], timeout_s=30)
    lost = "a datagram from 10.233.255.250 to 10.233.255.254 did not arrive"
    assert evidence == [f"{lost}; chains that drop by default: inet site forward"]


def test_a_hostile_node_gets_one_table_with_a_row_for_each_fault(node: Node) -> None:
    # What the lab's machine itself makes a check say, and the one that depends on who else uses the disk.
    accepted = {*findings_of(report_of(node)[1]), "CSN305"}
    for _, command in HOSTILE:
        node.run(["bash", "-c", command], timeout_s=60)
    before = state_of(node)
    returncode, output = bootstrap_sh(node, "check", "--config", CONFIG_FILE)
    rows = [line for line in output.splitlines() if line.startswith("CSN") and line[:6] not in accepted]
    assert [row.split()[0] for row in rows] == [code for code, _ in HOSTILE], output
    assert len(rows) == FAULTS
    assert returncode == 4
    code, report = report_of(node)
    assert code == 4
    assert [name for name in findings_of(report) if name not in accepted] == [name for name, _ in HOSTILE]
    assert sorted(set(before) ^ set(state_of(node))) == []
    started = bootstrap_sh(node, "--accept-lab-bundle", "--config", CONFIG_FILE)
    assert started[0] == 4
    assert "error: CSE004 CSP104 preflight: " in started[1]


SALT_CONFIGURATION = """\
id: node1
file_client: local
module_dirs: [/mnt/caisson/salt/_modules]
cachedir: /run/salt-trial/cache
pki_dir: /run/salt-trial/pki
enable_fqdns_grains: false
pillar_roots: {base: [/run/salt-trial/pillar]}
"""


def test_salt_gives_the_same_rows(node: Node) -> None:
    """The hostile node of the test before, which is now checked by Salt's own Python."""
    node.write_file("/run/salt-trial/minion", SALT_CONFIGURATION)
    node.run(["bash", "-c", "rpm -i --nodeps --nosignature /mnt/caisson/repo/el9/Packages/salt-*.rpm"])
    node.run(["bash", "-c", "systemctl disable --now salt-minion salt-master; true"])
    words = ["salt-call", "--local", "--config-dir=/run/salt-trial", "--out=json", "--log-level=error"]
    words += ["caisson_preflight.run", CONFIG_FILE]
    node.write_file("/run/salt-trial/pillar/top.sls", 'base: {"*": [caisson]}')
    node.write_file("/run/salt-trial/pillar/caisson.sls", "caisson: {self_dir: /mnt/caisson}")
    through_salt = json.loads(node.run(words, timeout_s=120).stdout)["local"]
    jsonschema.Draft7Validator(check_schema()).validate(through_salt)
    alone = report_of(node)[1]
    assert rows_of(through_salt) == rows_of(alone)
    assert len(through_salt["failed"]) >= len([row for row in rows_of(alone).values() if row[0] == "failed"])


def rows_of(report: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Return code -> how it ended and why, less the one that measures the disk."""
    return {
        check["id"]: (check["status"], check["evidence"])
        for check in report["checks"]
        if check["id"] != "CSN305"
    }
