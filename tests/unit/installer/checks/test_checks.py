# SPDX-License-Identifier: Apache-2.0
"""Every check: a host on which it is silent, and one on which it says exactly this."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from installer.base.run import Completed
from installer.checks import CHECKS, machine
from installer.checks.host import Host, read_umask
from installer.checks.preflight import Check, Severity, SkippedError
from installer.checks.trials import BusyError, Media, Trials
from installer.config import bootstrap as config
from installer.config.ports import Port
from installer.media import dnf, mounting, state
from tests.authorities import make_authority, make_leaf
from tests.unit.installer.helpers import CONFIG_TEXT, make_config, make_facts, make_product

FLAGS = "fpu cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
ROUTES = [
    {"dst": "default", "gateway": "10.77.3.1", "dev": "eth2"},
    {"dst": "10.77.1.0/24", "dev": "eth0"},
]
SOCKETS = "  sl  local_address rem_address   st tx rx tr tm->when retrnsmt   uid  timeout inode\n"
FILES = {
    "etc/os-release": 'ID="almalinux"\nVERSION_ID="9.8"\nPRETTY_NAME="AlmaLinux 9.8"\n',
    "proc/cpuinfo": f"processor\t: 0\nflags\t\t: {FLAGS}\n",
    "proc/meminfo": "MemTotal:        8000000 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/self/mountinfo": "22 1 252:0 / / rw,relatime - xfs /dev/vda3 rw\n",
    "proc/net/tcp": SOCKETS,
    "proc/sys/kernel/osrelease": "5.14.0\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "sys/module/overlay/x": "",
    "lib/modules/5.14.0/modules.builtin": "kernel/net/br_netfilter.ko\nkernel/net/nf-conntrack.ko.xz\n",
    "run/systemd/system/x": "",
    "etc/hosts": "127.0.0.1 localhost\n10.77.1.11 node1 # me\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/resolv.conf": "nameserver 10.0.0.53\n",
    **{f"usr/bin/{tool}": "" for tool in ("dnf", "rpm", "systemctl", "ip", "mount", "modprobe")},
}


class Commands:
    """The commands of a fit host; ``answers`` replaces some, by their first words."""

    def __init__(self) -> None:
        self.answers: dict[str, Completed] = {
            "ip -json": Completed(0, json.dumps(ROUTES), ""),
            "rpm": Completed(10, "package docker-ce is not installed\n", ""),
            "systemctl is-active firewalld.service": Completed(0, "active\n", ""),
            "systemctl is-active chronyd.service": Completed(0, "active\ninactive\ninactive\n", ""),
            "systemctl show-environment": Completed(0, "PATH=/usr/bin\n", ""),
            "chronyc": Completed(0, "Leap status     : Normal\n", ""),
            "timeout 3 getent ahostsv4 node1": Completed(0, "10.77.1.11 STREAM node1\n", ""),
            "xfs_info": Completed(0, "naming =version 2 bsize=4096 ascii-ci=0, ftype=1\n", ""),
            "nft": Completed(0, "table inet firewalld {\n\tchain filter_INPUT {\n\t}\n}\n", ""),
            "systemctl": Completed(3, "inactive\n" * 20, ""),
            "modprobe": Completed(0, "", ""),
        }

    def __call__(self, args: Sequence[str]) -> Completed:
        text = " ".join(args)
        return next(answer for words, answer in self.answers.items() if text.startswith(words))


def statvfs(*, free_gib: float = 50.0, free_inodes: int = 1_000_000) -> Callable[[Path], os.statvfs_result]:
    blocks = int(free_gib * 1024**3 / 4096)
    return lambda _: os.statvfs_result(
        (4096, 4096, blocks * 2, blocks, blocks, 2_000_000, free_inodes, free_inodes, 0, 255)
    )


class FitTrials(Trials):
    """Trials that go well; a test puts another answer into the attribute."""

    def __init__(self) -> None:
        self.sync_times_s: Sequence[float] = [0.001] * 200
        self.overlay_fault = ""
        self.programs: Mapping[str, Completed] = {"kubelet: /usr/bin/kubelet": Completed(0, "v1\n", "")}
        self.container = Completed(0, "v1\n", "")
        self.packages = Completed(0, "Complete!\n", "")
        self.packet_fault = ""
        self.asked: list[object] = []

    def time_syncs(self, directory: Path) -> Sequence[float]:
        return self.sync_times_s

    def mount_overlay(self, directory: Path) -> str:
        return self.overlay_fault

    def run_programs(self, media: Media) -> Mapping[str, Completed]:
        return self.programs

    def run_container(self, media: Media) -> Completed:
        return self.container

    def try_packages(self, media: Media, names: Sequence[str]) -> Completed:
        self.asked = [media.media_dir, *names]
        return self.packages

    def send_packets(self, network: ipaddress.IPv4Network, *, has_firewalld: bool) -> str:
        self.asked = [str(network), has_firewalld]
        return self.packet_fault


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host on which every check is silent."""
    for name, text in FILES.items():
        write(tmp_path, name, text)
    return Host(
        root=tmp_path,
        run=Commands(),
        config=make_config(),
        facts=make_facts(),
        product=make_product(),
        ports=(
            Port("kube-apiserver", 6443, "tcp", "control_plane", "kube-apiserver"),
            Port("registry", 5000, "tcp", "loopback", "registry"),
            Port("calico-vxlan", 4789, "udp", "any", "calico-node"),
        ),
        user_id=0,
        machine="x86_64",
        cpu_count=4,
        name="node1",
        now=1_800_000_000.0,
        statvfs=statvfs(),
        umask=0o022,
        media_dir=tmp_path / "media",
        trials=FitTrials(),
    )


def write(root: Path, name: str, text: str) -> None:
    file = root / name.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def find(code: str) -> Check:
    return next(check for check in CHECKS if check.id == code)


def said(code: str, host: Host) -> list[str]:
    """Return the evidence of a check; a warning is marked with '?'."""
    check = find(code)
    return [
        ("? " if (finding.severity or check.severity) is Severity.WARNING else "") + finding.evidence
        for finding in check.run(host)
    ]


def commands(host: Host) -> dict[str, Completed]:
    assert isinstance(host.run, Commands)
    return host.run.answers


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_silent_on_a_fit_host(check: Check, host: Host) -> None:
    assert list(check.run(host)) == []


def test_codes_are_unique_and_in_order() -> None:
    codes = [check.id for check in CHECKS]
    assert codes == sorted(set(codes))
    assert all(check.fix and check.title for check in CHECKS)


def test_every_check_has_a_scenario_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [check.id for check in CHECKS if f"def test_{check.id.lower()}_" not in text] == []


def test_csn101_root(host: Host) -> None:
    assert said("CSN101", dataclasses.replace(host, user_id=1000)) == ["user id 1000"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n", ["Debian (ID=debian, VERSION_ID=12)"]),
        ('ID="rhel"\nVERSION_ID="8.10"\n', ["rhel (ID=rhel, VERSION_ID=8.10)"]),
        ("", ["unknown (ID=unknown, VERSION_ID=unknown)"]),
        ("# x\nID=rocky\nVERSION_ID='9.4'\n", []),
    ],
)
def test_csn102_os(host: Host, text: str, expected: list[str]) -> None:
    write(host.root, "etc/os-release", text)
    assert said("CSN102", host) == expected


def test_csn103_architecture(host: Host) -> None:
    assert said("CSN103", dataclasses.replace(host, machine="aarch64")) == ["the machine is aarch64"]


def test_csn104_cpu_features(host: Host) -> None:
    write(host.root, "proc/cpuinfo", "flags : fpu cx16 lahf_lm popcnt sse4_1\n")
    assert said("CSN104", host) == ["missing: sse4_2, ssse3"]
    write(host.root, "proc/cpuinfo", "")
    assert said("CSN104", host) == ["? /proc/cpuinfo has no flags"]


def test_csn105_cpus(host: Host) -> None:
    assert said("CSN105", dataclasses.replace(host, cpu_count=1)) == ["1 CPU, at least 2 needed"]


def test_csn106_memory(host: Host) -> None:
    write(host.root, "proc/meminfo", "MemTotal: 1000000 kB\n")
    assert said("CSN106", host) == ["976.6 MiB, at least 1.7 GiB needed"]
    write(host.root, "proc/meminfo", "MemTotal: 2000000 kB\n")
    assert said("CSN106", host) == ["? 1.9 GiB, 4.0 GiB recommended"]


def test_csn107_systemd(host: Host) -> None:
    (host.root / "run/systemd/system/x").unlink()
    (host.root / "run/systemd/system").rmdir()
    assert said("CSN107", host) == ["/run/systemd/system is not there"]


def test_csn108_tools(host: Host) -> None:
    (host.root / "usr/bin/dnf").unlink()
    assert said("CSN108", host) == ["there is no 'dnf'"]


def test_csn109_swap(host: Host) -> None:
    write(host.root, "proc/swaps", "Filename\n/dev/dm-1 partition 1 0 -2\n/swap file 1 0 -3\n")
    assert said("CSN109", host) == ["? in use: /dev/dm-1, /swap"]
    kept = make_config("overrides: {kubelet: {failSwapOn: false}}\n")
    assert said("CSN109", dataclasses.replace(host, config=kept)) == []


def test_csn110_cgroup_v1(host: Host) -> None:
    (host.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    assert said("CSN110", host) == ["/sys/fs/cgroup is version 1"]
    accepted = make_config("overrides: {kubelet: {failCgroupV1: false}}\n")
    assert said("CSN110", dataclasses.replace(host, config=accepted)) == [
        "? /sys/fs/cgroup is version 1, accepted by overrides.kubelet.failCgroupV1"
    ]


def test_csn111_controllers(host: Host) -> None:
    write(host.root, "sys/fs/cgroup/cgroup.controllers", "cpu io")
    assert said("CSN111", host) == ["missing: cpuset, memory, pids"]
    (host.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    write(host.root, "proc/cgroups", "#a b c d\ncpu 1 1 1\ncpuset 1 1 1\nmemory 1 1 0\npids 1 1 1\n")
    assert said("CSN111", host) == ["missing: memory"]


def test_csn112_modules(host: Host) -> None:
    commands(host)["modprobe"] = Completed(1, "", "modprobe: FATAL: Module vxlan not found.\n")
    named = [line.split(":")[0] for line in said("CSN112", host)]
    assert named[:3] == ["nf_tables", "vxlan", "ip_set"]
    assert said("CSN112", host)[1] == "vxlan: modprobe: FATAL: Module vxlan not found."
    options = {option for name, option in machine.MODULES.items() if name != "ip_set"}
    config = "".join(f"{option}=y\n" for option in sorted(options)) + "CONFIG_IP_SET=m\n"
    (host.root / "proc/config.gz").write_bytes(gzip.compress(config.encode()))
    assert [line.split(":")[0] for line in said("CSN112", host)] == ["ip_set"]


@pytest.mark.parametrize(
    "name", ["nft_numgen", "nft_fib_ipv4", "nft_masq", "xt_set", "xt_mark", "ip_set_hash_ip"]
)
def test_csn112_what_kube_proxy_and_calico_ask_for_later(host: Host, name: str) -> None:
    """A host with kernel-core alone lacks them: a crash loop, long after the bootstrap began."""
    answers = commands(host)
    missing = Completed(1, "", f"modprobe: FATAL: Module {name} not found in directory /lib/modules/5.14.0\n")
    host = dataclasses.replace(host, run=Commands())
    commands(host).clear()
    commands(host).update({f"modprobe --show-depends {name}": missing, **answers})
    found = [line.split(":")[0] for line in said("CSN112", host)]
    assert name in found
    assert all(other.startswith(name) for other in found)


def test_csn112_forbidden_or_shut_out(host: Host) -> None:
    commands(host)["modprobe"] = Completed(0, "install /bin/false \n", "")
    assert "vxlan: a file in /etc/modprobe.d forbids it" in said("CSN112", host)
    commands(host)["modprobe"] = Completed(0, "insmod /lib/modules/5.14.0/kernel/x.ko.xz \n", "")
    assert said("CSN112", host) == []
    write(host.root, "proc/sys/kernel/modules_disabled", "1\n")
    assert "vxlan: not loaded, and kernel.modules_disabled is 1" in said("CSN112", host)
    assert not [line for line in said("CSN112", host) if line.startswith(("overlay:", "br_netfilter:"))]


def test_csn113_name(host: Host) -> None:
    bare = dataclasses.replace(host, facts=None)
    assert said("CSN113", dataclasses.replace(bare, name="my_host")) == ["'my_host' cannot be a node's name"]
    assert said("CSN113", dataclasses.replace(bare, name="localhost.localdomain")) == [
        "'localhost.localdomain' is every host's name"
    ]


def test_csn114_name_resolves(host: Host) -> None:
    write(host.root, "etc/hosts", "127.0.1.1 node1\n")
    assert said("CSN114", host) == ["? /etc/hosts says that 'node1' is 127.0.1.1"]
    write(host.root, "etc/hosts", "")
    assert said("CSN114", host) == ["? 'node1' is not in /etc/hosts"]
    write(host.root, "etc/nsswitch.conf", "hosts: files myhostname dns\n")
    assert said("CSN114", host) == []


def test_csn115_machine_id(host: Host) -> None:
    write(host.root, "etc/machine-id", "uninitialized\n")
    assert said("CSN115", host) == ["/etc/machine-id holds 'uninitialized'"]


def test_csn116_clock(host: Host) -> None:
    early = dataclasses.replace(host, now=1_700_000_000.0 - 10 * 86_400)
    assert said("CSN116", early) == ["the clock is 10 days before the date of the media"]


def test_csn117_time(host: Host) -> None:
    commands(host)["chronyc"] = Completed(0, "Leap status     : Not synchronised\n", "")
    assert said("CSN117", host) == ["? chronyd runs and follows no clock"]
    commands(host)["systemctl is-active chronyd.service"] = Completed(3, "inactive\n" * 3, "")
    assert said("CSN117", host) == ["? none of chronyd, ntpd, systemd-timesyncd is active"]


def test_csn118_sysctls(host: Host) -> None:
    write(host.root, "etc/sysctl.d/10-early.conf", "net.ipv4.ip_forward = 0\n")
    write(host.root, "usr/lib/sysctl.d/99-hidden.conf", "net.ipv4.ip_forward = 0\n")
    write(host.root, "etc/sysctl.d/99-hidden.conf", "# net.ipv4.ip_forward = 0\n")
    write(host.root, "etc/sysctl.d/95-a.conf", "net.ipv4.ip_forward = 0\n")
    write(host.root, "etc/sysctl.d/96-b.conf", "net.ipv4.ip_forward = 1\n")
    assert said("CSN118", host) == []
    write(host.root, "usr/lib/sysctl.d/97-c.conf", "kernel.x=1\n-net/ipv4/conf/all/forwarding=0\n")
    assert said("CSN118", host) == [
        (
            "/usr/lib/sysctl.d/97-c.conf:2 sets net.ipv4.conf.all.forwarding to 0, "
            "after 90-caisson.conf set it to 1"
        )
    ]


def test_csn119_fips(host: Host) -> None:
    write(host.root, "proc/sys/crypto/fips_enabled", "0\n")
    assert said("CSN119", host) == []
    write(host.root, "proc/sys/crypto/fips_enabled", "1\n")
    assert said("CSN119", host) == ["? /proc/sys/crypto/fips_enabled is 1"]


def test_csn120_umask(host: Host, tmp_path: Path) -> None:
    assert said("CSN120", dataclasses.replace(host, umask=0o077)) == ["? the mask is 0077"]
    assert said("CSN120", dataclasses.replace(host, umask=0)) == []
    write(tmp_path, "status", "Name:\tx\nUmask:\t0027\n")
    assert read_umask(tmp_path / "status") == 0o027


def test_csn121_secure_path(host: Host) -> None:
    write(host.root, "etc/sudoers", "Defaults    secure_path = /sbin:/bin:/usr/sbin:/usr/bin\n")
    write(host.root, "etc/sudoers.d/old.rpmsave", "Defaults secure_path = /x\n")
    assert said("CSN121", host) == []
    write(host.root, "etc/sudoers.d/site", 'Defaults:ann secure_path="/usr/sbin:/opt/bin"\n')
    assert said("CSN121", host) == ["? /etc/sudoers.d/site: secure_path is without /usr/bin"]


def test_csn122_proxy(host: Host) -> None:
    write(host.root, "etc/environment", "https_proxy=http://proxy:3128\nno_proxy=10.77.0.0/16,.internal\n")
    assert said("CSN122", host) == []
    write(host.root, "etc/environment", 'HTTPS_PROXY="http://proxy:3128"\nno_proxy=localhost\n')
    assert said("CSN122", host) == [
        "? /etc/environment sets https_proxy, and no_proxy does not name 10.77.1.11, api.lab.internal"
    ]
    write(host.root, "etc/environment", "")
    commands(host)["systemctl show-environment"] = Completed(0, "http_proxy=http://proxy:3128\n", "")
    assert said("CSN122", dataclasses.replace(host, facts=None)) == [
        "systemd's environment sets http_proxy, and there is no no_proxy"
    ]


def test_csn122_proxies_of_the_units_that_the_media_will_bring(host: Host) -> None:
    drop_in = "etc/systemd/system/containerd.service.d/http-proxy.conf"
    write(
        host.root,
        drop_in,
        '[Service]\nEnvironment="HTTPS_PROXY=http://proxy:3128" "NO_PROXY=10.77.0.0/16,.internal"\n',
    )
    assert said("CSN122", host) == []
    write(host.root, drop_in, "[Service]\nEnvironment=HTTPS_PROXY=http://proxy:3128\n")
    assert said("CSN122", host) == [
        f"/{drop_in} sets https_proxy, and no_proxy does not name 10.77.1.11, api.lab.internal"
    ]
    write(host.root, drop_in, "[Service]\nEnvironmentFile=-/etc/sysconfig/proxies\n")
    write(host.root, "etc/sysconfig/proxies", "export http_proxy=http://proxy:3128\nno_proxy=localhost\n")
    assert said("CSN122", host) == [
        f"/{drop_in} sets http_proxy, and no_proxy does not name 10.77.1.11, api.lab.internal"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/systemd/system/service.d/proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://proxy:3128\n"),
        (
            "usr/local/lib/systemd/system/kubelet.service.d/p.conf",
            "[Service]\nEnvironment=HTTPS_PROXY=http://p:1\n",
        ),
        ("etc/systemd/system/kubelet.service.d/p.conf", "[Service]\nEnvironment = HTTPS_PROXY=http://p:1\n"),
        (
            "etc/systemd/system/kubelet.service.d/p.conf",
            "[Service]\nEnvironment=A=b \\\n  HTTPS_PROXY=http://p:1\n",
        ),
        ("etc/systemd/system/kubelet.service.d/p.conf", "[Service]\nEnvironmentFile = -/etc/proxies/*.env\n"),
    ],
)
def test_csn122_as_systemd_reads_it(host: Host, name: str, text: str) -> None:
    write(host.root, "etc/proxies/site.env", "HTTPS_PROXY=http://p:1\n")
    write(host.root, name, text)
    found = said("CSN122", host)
    assert found
    assert set(found) == {
        f"/{name} sets https_proxy, and no_proxy does not name 10.77.1.11, api.lab.internal"
    }


def test_csn122_as_pam_reads_it(host: Host) -> None:
    write(host.root, "etc/environment", "export https_proxy=http://proxy:3128\n")
    assert len(said("CSN122", host)) == 1
    good = "https_proxy=http://proxy:3128\nno_proxy=10.77.0.0/16,.internal\nNO_PROXY=\n"
    write(host.root, "etc/environment", good)
    assert said("CSN122", host) == []


def listen(
    root: Path, table: str, address: str, *, inode: int, process: str = "", cgroup: str = "0::/"
) -> None:
    state = "0A" if table.startswith("tcp") else "07"
    line = f"   0: {address} 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 1 0\n"
    write(root, f"proc/net/{table}", SOCKETS + line)
    if process:
        write(root, "proc/77/comm", process + "\n")
        write(root, "proc/77/cgroup", cgroup + "\n")
        (root / "proc/77/fd").mkdir(exist_ok=True)
        (root / "proc/77/fd/5").symlink_to(f"socket:[{inode}]")


def test_csn201_ports(host: Host) -> None:
    listen(host.root, "tcp", "00000000:192B", inode=9, process="httpd")
    expected = "tcp 0.0.0.0:6443 (for kube-apiserver) is held by process 77 (httpd)"
    assert said("CSN201", host) == [expected]
    ours = dataclasses.replace(host, is_ours=True)
    assert said("CSN201", ours) == [expected]
    write(host.root, "proc/77/cgroup", "4:cpu:/kubepods/burstable/pod1\n")
    assert said("CSN201", ours) == []


def test_csn201_takes_systemd_for_the_console_s_own_once_its_unit_is_there(host: Host) -> None:
    console = Port("console", 9443, "tcp", "control_plane", "caisson-console")
    ours = dataclasses.replace(host, is_ours=True, ports=(console,))
    listen(host.root, "tcp", "0B014D0A:24E3", inode=9, process="systemd", cgroup="0::/init.scope")
    assert said("CSN201", ours) == ["tcp 10.77.1.11:9443 (for console) is held by process 77 (systemd)"]
    write(host.root, "etc/systemd/system/caisson-console.socket", "[Socket]\n")
    assert said("CSN201", ours) == []
    write(host.root, "proc/77/comm", "python3\n")
    assert said("CSN201", ours) != []
    write(host.root, "proc/77/cgroup", "0::/system.slice/caisson-console.service\n")
    assert said("CSN201", ours) == []
    assert said("CSN201", dataclasses.replace(ours, is_ours=False)) != []


def test_csn201_only_where_it_is_in_the_way(host: Host) -> None:
    listen(host.root, "tcp", "0B014D0A:1388", inode=9)
    assert said("CSN201", host) == []
    listen(host.root, "tcp", "0100007F:1388", inode=9)
    assert said("CSN201", host) == [
        "tcp 127.0.0.1:5000 (for registry) is held by the kernel or an unknown process"
    ]
    listen(host.root, "tcp", "0100007F:192B", inode=9)
    assert said("CSN201", host) == []
    listen(host.root, "tcp", "0B014D0A:192B", inode=9)
    assert said("CSN201", host)[0].startswith("tcp 10.77.1.11:6443")
    listen(host.root, "tcp", "0B014D0A:192B".replace("192B", "0016"), inode=9)
    assert said("CSN201", host) == []


def test_csn201_udp_over_ipv6(host: Host) -> None:
    listen(host.root, "udp6", f"{'0' * 32}:12B5", inode=0)
    assert said("CSN201", host) == [
        "udp :::4789 (for calico-vxlan) is held by the kernel or an unknown process"
    ]
    assert said("CSN201", dataclasses.replace(host, is_ours=True)) == []


def test_csn202_default_route(host: Host) -> None:
    commands(host)["ip -json"] = Completed(0, "[]", "")
    assert said("CSN202", host) == ["'ip route' shows no default route"]
    for kind in ("blackhole", "unreachable", "prohibit"):
        refusing = {"type": kind, "dst": "default", "metric": 1024}
        commands(host)["ip -json"] = Completed(0, json.dumps([refusing]), "")
        assert said("CSN202", host) == [
            f"the default route is of the kind {kind}: the kernel refuses what it should send there"
        ]
        commands(host)["ip -json"] = Completed(0, json.dumps([refusing, *ROUTES]), "")
        assert said("CSN202", host) == []
        # The lowest metric wins: a gateway behind it is never asked.
        worse = {**ROUTES[0], "metric": 2000}
        commands(host)["ip -json"] = Completed(0, json.dumps([refusing, worse]), "")
        assert said("CSN202", host)[0].startswith(f"the default route is of the kind {kind}")
    dead = {**ROUTES[0], "flags": ["dead", "linkdown"]}
    commands(host)["ip -json"] = Completed(0, json.dumps([dead]), "")
    assert said("CSN202", host) == ["'ip route' shows no default route whose interface is up"]
    commands(host)["ip -json"] = Completed(0, json.dumps([dead, {**ROUTES[0], "metric": 900}]), "")
    assert said("CSN202", host) == []


def test_csn203_networks(host: Host) -> None:
    routes = [
        {"dst": "10.233.64.0/26", "dev": "tun0"},
        {"dst": "10.233.5.7", "dev": "cali12ab"},
        {"type": "blackhole", "dst": "10.233.5.0/26"},
    ]
    commands(host)["ip -json"] = Completed(0, json.dumps(routes), "")
    first = "networks.pods.cidr 10.233.0.0/16 overlaps the route to 10.233.64.0/26 (tun0)"
    assert said("CSN203", dataclasses.replace(host, is_ours=True)) == [first]
    assert len(said("CSN203", host)) == 3


def test_csn204_nameservers(host: Host) -> None:
    write(host.root, "etc/resolv.conf", "nameserver 127.0.0.53\n")
    assert said("CSN204", host) == ["? nameserver 127.0.0.53"]


def test_csn205_a_name_that_hangs(host: Host) -> None:
    commands(host)["timeout 3 getent ahostsv4 node1"] = Completed(124, "", "")
    assert said("CSN205", host) == ["? 'node1' is not resolved within 3 s"]
    commands(host)["timeout 3 getent ahostsv4 node1"] = Completed(2, "", "")
    assert said("CSN205", host) == []


def test_csn206_networkmanager(host: Host) -> None:
    directory = "etc/NetworkManager/conf.d"
    write(host.root, f"{directory}/10-site.conf", "[keyfile]\nunmanaged-devices=eth9\n")
    write(host.root, f"{directory}/98-more.conf", "[keyfile]\nunmanaged-devices+=eth9\n")
    write(host.root, f"{directory}/99-good.conf", "[keyfile]\nunmanaged-devices=interface-name:cali*\n")
    assert said("CSN206", host) == []
    write(host.root, f"{directory}/99-site.conf", "[keyfile]\nunmanaged-devices=eth9\n")
    assert said("CSN206", host) == [
        "/etc/NetworkManager/conf.d/99-site.conf sets unmanaged-devices without cali*"
    ]


def test_csn207_virtual_address(host: Host) -> None:
    text = CONFIG_TEXT.replace("10.77.1.0/24]", "10.77.1.0/24], vip: 10.77.1.100")
    wanted = dataclasses.replace(host, config=config.parse(text))
    assert said("CSN207", wanted) == []
    links = [{"ifname": "eth0", "addr_info": [{"local": "10.77.1.11"}, {"local": "10.77.1.100"}]}]
    commands(host)["ip -json"] = Completed(0, json.dumps(links), "")
    assert said("CSN207", wanted) == ["10.77.1.100 is an address of eth0"]
    assert said("CSN207", dataclasses.replace(wanted, is_ours=True)) == []


def test_csn208_addresses_for_a_time(host: Host) -> None:
    infos = [
        {"family": "inet", "local": "10.77.1.11", "dynamic": True, "valid_life_time": 43_000},
        {"family": "inet", "local": "10.77.3.11", "dynamic": True},
        {"family": "inet6", "local": "2001:db8::5", "dynamic": True},
    ]
    links = [
        {"ifname": "eth0", "addr_info": infos},
        {"ifname": "eth1", "addr_info": [{"local": "10.77.2.11"}]},
    ]
    commands(host)["ip -json"] = Completed(0, json.dumps(links), "")
    assert said("CSN208", host) == [
        "? 10.77.1.11 of the control plane (eth0) was given for a time only, as by DHCP"
    ]
    with pytest.raises(SkippedError):
        said("CSN208", dataclasses.replace(host, facts=None))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"etc/cloud/cloud.cfg": "manage_etc_hosts: true\n"},
            "etc/cloud/cloud.cfg sets manage_etc_hosts to true",
        ),
        ({"etc/cloud/cloud.cfg": "users: [x]\n# manage_etc_hosts: true\n"}, ""),
        (
            {
                "etc/cloud/cloud.cfg": "manage_etc_hosts: false\n",
                "etc/cloud/cloud.cfg.d/9.cfg": "manage_etc_hosts: True",
            },
            "etc/cloud/cloud.cfg.d/9.cfg sets manage_etc_hosts to True",
        ),
        (
            {
                "etc/cloud/cloud.cfg.d/5.cfg": "manage_etc_hosts: true\n",
                "etc/cloud/cloud.cfg.d/9.cfg": "manage_etc_hosts: false\n",
            },
            "",
        ),
        # What the cloud says wins over what the image says, and the user over the cloud.
        (
            {
                "etc/cloud/cloud.cfg": "manage_etc_hosts: false\n",
                "var/lib/cloud/instance/vendor-cloud-config.txt": "#cloud-config\nmanage_etc_hosts: 'localhost'\n",
            },
            "var/lib/cloud/instance/vendor-cloud-config.txt sets manage_etc_hosts to localhost",
        ),
        (
            {
                "var/lib/cloud/instance/cloud-config.txt": '"manage_etc_hosts": no\n',
                "var/lib/cloud/instance/vendor-cloud-config.txt": "manage_etc_hosts: true\n",
            },
            "",
        ),
        ({"etc/cloud/cloud.cfg": "manage_etc_hosts: true\n", "etc/cloud/cloud-init.disabled": ""}, ""),
        ({"etc/cloud/cloud.cfg": "manage_etc_hosts: true\n", "proc/cmdline": "ro cloud-init=disabled\n"}, ""),
    ],
)
def test_csn209_cloud_init_and_hosts(host: Host, files: Mapping[str, str], expected: str) -> None:
    for name, text in files.items():
        write(host.root, name, text)
    assert said("CSN209", host) == ([f"? /{expected}"] if expected else [])


def test_csn301_disk(host: Host) -> None:
    small = dataclasses.replace(host, statvfs=statvfs(free_gib=3))
    assert said("CSN301", small) == [
        "3.0 GiB free for /var/lib/containerd, /var/lib/kubelet, /var/lib/etcd; 6.0 GiB needed"
    ]
    assert said("CSN301", dataclasses.replace(small, is_ours=True)) == []
    image = dataclasses.replace(make_product().images["pause"], size_bytes=20 * 1024**3)
    large = dataclasses.replace(host, product=dataclasses.replace(make_product(), images={"x": image}))
    assert said("CSN301", large)[0].endswith("62.0 GiB needed")


def test_csn302_inodes(host: Host) -> None:
    few = dataclasses.replace(host, statvfs=statvfs(free_inodes=10))
    assert said("CSN302", few)[0].startswith("10 free for /var/lib/containerd")


def test_csn303_mounts(host: Host) -> None:
    write(
        host.root,
        "proc/self/mountinfo",
        "22 1 252:0 / / rw - xfs /dev/vda3 rw\n23 22 252:1 / /var rw,noexec,nosuid - xfs /dev/vda4 rw\n"
        "24 22 252:2 / /usr ro - xfs /dev/vda5 ro\n",
    )
    assert said("CSN303", host) == [
        "/var/lib/containerd: /var is mounted noexec",
        "? /var/lib/kubelet: /var is mounted noexec: no program starts from a pod's volume",
        "/usr/bin: /usr is mounted ro",
    ]


def test_csn303_where_links_lead(host: Host) -> None:
    write(
        host.root,
        "proc/self/mountinfo",
        "22 1 252:0 / / rw - xfs /dev/vda3 rw\n23 22 252:1 / /data rw,noexec - xfs /dev/vda4 rw\n"
        "24 22 0:30 / /memory rw - tmpfs tmpfs rw\n",
    )
    (host.root / "data/images").mkdir(parents=True)
    (host.root / "var/lib").mkdir(parents=True, exist_ok=True)
    (host.root / "var/lib/containerd").symlink_to(host.root / "data/images")
    assert said("CSN303", host) == ["/var/lib/containerd (a link to /data/images): /data is mounted noexec"]
    # Relative, and to a directory that is not there yet.
    (host.root / "var/lib/etcd").symlink_to("../../memory/etcd")
    assert said("CSN304", host) == ["/var/lib/etcd: /memory is tmpfs"]


def test_csn303_options_that_hardening_guides_want(host: Host) -> None:
    root = "22 1 252:0 / / rw - xfs /dev/vda3 rw\n"
    write(host.root, "proc/self/mountinfo", root + "23 22 252:1 / /var rw,nodev,nosuid - xfs /dev/vda4 rw\n")
    assert said("CSN303", host)[0] == (
        "? /var/lib/containerd: /var is mounted nodev: raw block volumes will not work"
    )
    assert all(line.startswith("? ") for line in said("CSN303", host))
    write(host.root, "proc/self/mountinfo", root + "23 22 252:1 / /opt rw,noexec - xfs /dev/vda4 rw\n")
    assert said("CSN303", host) == [
        "/opt/cni/bin: /opt is mounted noexec",
        "/opt/saltstack: /opt is mounted noexec",
    ]


def test_csn304_file_systems(host: Host) -> None:
    write(
        host.root,
        "proc/self/mountinfo",
        "22 1 252:0 / / rw - xfs /dev/vda3 rw\n23 22 0:40 / /var/lib/etcd rw - tmpfs tmpfs rw\n",
    )
    assert said("CSN304", host) == ["/var/lib/etcd: /var/lib/etcd is tmpfs"]
    commands(host)["xfs_info"] = Completed(0, "naming =version 2 bsize=4096 ascii-ci=0, ftype=0\n", "")
    assert said("CSN304", host)[:2] == [
        "/var/lib/containerd: / is XFS with ftype=0",
        "/var/lib/kubelet: / is XFS with ftype=0",
    ]


def test_csn305_syncs(host: Host) -> None:
    trials(host).sync_times_s = [0.001] * 190 + [0.025] * 10
    assert said("CSN305", host) == ["? of 200 syncs one in a hundred takes 25 ms or more, 10 ms is the limit"]
    trials(host).sync_times_s = ()
    with pytest.raises(SkippedError, match="no nameless files"):
        said("CSN305", host)


def test_csn306_who_can_change_the_iso(host: Host) -> None:
    """``check`` says what the phase verify-media would refuse."""
    media_dir, iso = host.path("/media"), host.path("/var/media/c.iso")
    write(host.root, "var/media/c.iso", "")
    write(host.root, "sys/block/loop3/loop/backing_file", "/var/media/c.iso\n")
    line = f"23 22 7:3 / {media_dir} ro - iso9660 /dev/loop3 ro\n"
    write(host.root, "proc/self/mountinfo", FILES["proc/self/mountinfo"] + line)
    assert said("CSN306", host) == []
    iso.chmod(0o666)
    (finding,) = find("CSN306").run(host)
    assert finding.evidence.startswith(f"the ISO {iso} can be changed by another user than root: ")
    assert f"{iso}: everybody may write to it" in finding.evidence
    assert finding.fix.startswith("install -D -t /var/lib/caisson-media -o root ")
    with pytest.raises(SkippedError, match="not mounted"):
        said("CSN306", dataclasses.replace(host, media_dir=None))
    iso.unlink()
    (gone,) = said("CSN306", host)
    assert gone.startswith("the ISO behind /dev/loop3 is no longer there: /var/media/c.iso")
    write(host.root, "var/media/c\u200b.iso", "")
    write(host.root, "sys/block/loop3/loop/backing_file", "/var/media/c\u200b.iso\n")
    (name,) = said("CSN306", host)
    assert name.startswith("the name of the ISO cannot stand in a mount unit")


def test_csn306_a_share_whatever_its_name(host: Host) -> None:
    share = host.root / os.fsdecode(b"media-\xfc")
    share.mkdir()
    (share / "c.iso").touch()
    backing = host.root / "sys/block/loop3/loop/backing_file"
    backing.parent.mkdir(parents=True)
    backing.write_bytes(b"/media-\xfc/c.iso\n")
    lines = f"23 22 7:3 / {host.path('/media')} ro - iso9660 /dev/loop3 ro\n".encode()
    lines += b"24 22 0:50 / /media-\xfc rw - nfs4 server:/iso rw\n"
    mounts = host.root / "proc/self/mountinfo"
    mounts.write_bytes(mounts.read_bytes() + lines)
    assert len(said("CSN306", host)) == 1
    backing.write_bytes(b"/media-\xc3\xbc/c.iso\n")
    share.rename(host.root / "media-\u00fc")
    mounts.write_bytes(mounts.read_bytes().replace(b"\xfc", b"\xc3\xbc"))
    (found,) = said("CSN306", host)
    assert "server:/iso, of type nfs4" in found


def test_csn307_the_iso_is_not_where_it_should_be(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """``check`` says what ``status`` does; the cases are in tests/unit/installer/media/test_state.py."""
    monkeypatch.setattr(state, "read_mounts", lambda: ())
    installed = dataclasses.replace(host, product=make_product())
    assert said("CSN307", installed) == [], "a host before its bootstrap, or a further node"
    unit = mounting.unit_name(host.path("/srv/caisson/0.1.0"))
    write(host.root, f"etc/systemd/system/{unit}", "[Mount]\nWhat=/nowhere/c.iso\n")
    (finding,) = find("CSN307").run(installed)
    assert finding.evidence.endswith("/srv/caisson/0.1.0: /nowhere/c.iso is not there")
    assert finding.fix.startswith("put the ISO back as /nowhere/c.iso, then: systemctl start")


@pytest.mark.parametrize("name", ["media.crt", "site.crt"])
@pytest.mark.parametrize(("days", "words"), [(61, ""), (59.5, "ends in 59 days"), (-2, "ended on")])
def test_csn411_the_certificate_of_the_media_server(host: Host, name: str, days: float, words: str) -> None:
    assert said("CSN411", host) == [], "a host that serves nothing"
    end = dt.datetime.fromtimestamp(host.now, dt.UTC) + dt.timedelta(days=days)
    leaf, _ = make_leaf(host.path("/"), make_authority(host.path("/a")), end=end)
    write(
        host.root,
        "etc/caisson/tls/media.crt",
        make_leaf_text(host) if name == "site.crt" else leaf.read_text(),
    )
    if name == "site.crt":
        write(host.root, "etc/caisson/tls/site.crt", leaf.read_text())
    found = said("CSN411", host)
    assert len(found) == bool(words)
    assert not words or (words in found[0] and name in found[0])


def make_leaf_text(host: Host) -> str:
    """Return a certificate that ends in a hundred years."""
    leaf, _ = make_leaf(host.path("/a"), make_authority(host.path("/a")))
    return leaf.read_text()


def test_csn411_one_that_cannot_be_read(host: Host) -> None:
    write(host.root, "etc/caisson/tls/media.crt", "")
    (text,) = said("CSN411", host)
    assert "cannot be read" in text


def test_csn401_packages(host: Host) -> None:
    commands(host)["rpm"] = Completed(9, "found docker-ce\npackage docker is not installed\nfound runc\n", "")
    assert said("CSN401", host) == [
        "docker-ce brings a container runtime of its own",
        "runc conflicts with containerd.io, which brings its own",
    ]


def test_csn402_services(host: Host) -> None:
    answers = ["active", *["inactive"] * 12, "active", "inactive"]
    commands(host)["systemctl"] = Completed(0, "\n".join(answers) + "\n", "")
    assert said("CSN402", host) == ["docker.service is active", "kubelet.service is active"]
    assert said("CSN402", dataclasses.replace(host, is_ours=True)) == ["docker.service is active"]


def test_csn403_other_cluster(host: Host) -> None:
    write(host.root, "etc/kubernetes/admin.conf", "")
    write(host.root, "etc/kubernetes/kubelet.conf", "")
    write(host.root, "etc/cni/net.d/10-x.conflist", "")
    assert said("CSN403", host) == ["/etc/kubernetes/admin.conf and 1 more", "/etc/cni/net.d/10-x.conflist"]
    assert said("CSN403", dataclasses.replace(host, is_ours=True)) == []


def test_csn403_a_control_plane_of_others(host: Host) -> None:
    """One of another origin is told by its reasons; one of this cluster is expected, as its services are."""
    write(host.root, "etc/kubernetes/admin.conf", "")
    other = dataclasses.replace(host, other_origin=("node name: a on this host, b wanted",))
    assert said("CSN403", other) == ["a control plane of another origin: node name: a on this host, b wanted"]
    assert said("CSN403", dataclasses.replace(host, other_origin=(), is_ours=True)) == []


def test_csn402_a_timer_that_is_never_found_active(host: Host) -> None:
    answers = commands(host)
    host = dataclasses.replace(host, run=Commands())
    commands(host).clear()
    enabled = Completed(0, "enabled\n", "")
    commands(host).update({"systemctl is-enabled nm-cloud-setup.timer": enabled, **answers})
    assert said("CSN402", host) == ["nm-cloud-setup.timer is enabled"]


def test_csn403_a_disk_of_its_own_and_what_is_left_on_it(host: Host) -> None:
    (host.root / "var/lib/etcd/lost+found").mkdir(parents=True)
    assert said("CSN403", host) == []
    (host.root / "var/lib/etcd/member").mkdir()
    assert said("CSN403", host) == ["/var/lib/etcd/member"]


def test_csn403_drop_ins_that_outlived_their_package(host: Host) -> None:
    write(host.root, "etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS=\n")
    proxy = "[Service]\nEnvironment=HTTPS_PROXY=http://proxy:3128\n"
    write(host.root, "etc/systemd/system/containerd.service.d/http-proxy.conf", proxy)
    assert said("CSN403", host) == []
    write(host.root, "etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS=--cgroup-driver=cgroupfs\n")
    outside = "run/systemd/system/kubelet.service.d/5.conf"
    write(host.root, outside, '[Service]\nEnvironment = "KUBELET_EXTRA_ARGS=--v=9"\n')
    drop_in = "etc/systemd/system/kubelet.service.d/99-local.conf"
    write(host.root, drop_in, '[Service]\nEnvironment="KUBELET_EXTRA_ARGS=--max-pods=5"\n')
    assert said("CSN403", host) == [
        "/etc/sysconfig/kubelet changes how the unit is started",
        f"/{drop_in} changes how the unit is started",
        f"/{outside} changes how the unit is started",
    ]


def test_csn404_in_the_main_file(host: Host) -> None:
    write(host.root, "etc/salt/minion", "#master: salt\nmaster: salt.example.com\n")
    assert said("CSN404", host) == ["? /etc/salt/minion names another master: salt.example.com"]


def test_csn404_other_salt(host: Host) -> None:
    write(host.root, "etc/salt/minion.d/site.conf", "# x\nmaster: salt.example.com\n")
    assert said("CSN404", host) == ["? /etc/salt/minion.d/site.conf names another master: salt.example.com"]


def test_csn405_firewalld(host: Host) -> None:
    commands(host)["systemctl is-active firewalld.service"] = Completed(3, "inactive\n", "")
    commands(host)["rpm"] = Completed(0, "firewalld-1.3.4-15.el9.noarch\n", "")
    assert said("CSN405", host) == ["? firewalld.service is inactive"]
    assert [finding.fix for finding in find("CSN405").run(host)] == [""]  # that of the check


def test_csn405_on_a_host_without_it_says_how_to_install_it_from_the_media(
    host: Host, repository_dir: Path
) -> None:
    """By words that need no network: the host's own repositories may not answer. The guide has the same."""
    commands(host)["systemctl is-active firewalld.service"] = Completed(4, "inactive\n", "")
    commands(host)["rpm"] = Completed(1, "package firewalld is not installed\n", "")
    assert said("CSN405", host) == ["? firewalld is not installed"]
    (finding,) = find("CSN405").run(host)
    install = "dnf --config /etc/caisson/dnf/dnf.conf --noplugins --releasever=9 -y install firewalld"
    start = "systemctl enable --now firewalld"
    assert f"HOME=/etc/caisson/dnf {install} && {start}, then run the bootstrap again" in finding.fix
    guide = (repository_dir / "docs/how-to/install-on-a-host.md").read_text(encoding="utf-8")
    assert (
        f"# HOME=/etc/caisson/dnf {install}\n# {start}\n# /mnt/caisson/bootstrap.sh --config bootstrap.yaml\n"
        in guide
    )


CHAINS = """\
table ip filter {
\tchain KUBE-FORWARD {
\t}
\tchain cali-FORWARD {
\t}
}
table ip kube-proxy {
}
"""


def test_csn406_packet_filters(host: Host) -> None:
    commands(host)["nft"] = Completed(0, CHAINS, "")
    commands(host)["ip -json"] = Completed(0, json.dumps([{"ifname": "eth0"}, {"ifname": "cni0"}]), "")
    assert said("CSN406", host) == [
        "chains of packet filters: KUBE-FORWARD, cali-FORWARD, kube-proxy",
        "interfaces: cni0",
    ]
    assert said("CSN406", dataclasses.replace(host, is_ours=True)) == []


def test_csn406_of_other_networks(host: Host) -> None:
    names = ["eth0", "lxcbr0", "cilium_host", "lxc1a2b3c", "lxc_health", "vethwe-bridge"]
    commands(host)["nft"] = Completed(
        0, "table ip filter {\n\tchain CILIUM_INPUT {\n\t}\n\tchain WEAVE-NPC {\n\t}\n}\n", ""
    )
    commands(host)["ip -json"] = Completed(0, json.dumps([{"ifname": name} for name in names]), "")
    assert said("CSN406", host) == [
        "chains of packet filters: CILIUM_INPUT, WEAVE-NPC",
        "interfaces: cilium_host, lxc1a2b3c, lxc_health and 1 more",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "flannel-wg",
        "flannel-v6.1",
        "wireguard.cali",
        "antrea-gw0",
        "ovn-k8s-mp0",
        "kube-bridge",
        "nodelocaldns",
    ],
)
def test_csn406_interfaces_of_yet_others(host: Host, name: str) -> None:
    commands(host)["ip -json"] = Completed(0, json.dumps([{"ifname": "eth0"}, {"ifname": name}]), "")
    assert said("CSN406", host) == [f"interfaces: {name}"]


def test_csn407_permissive_by_the_boot_loader(host: Host) -> None:
    write(host.root, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
    write(host.root, "sys/fs/selinux/enforce", "0")
    assert said("CSN407", host) == ["? SELinux is permissive, from the next boot on it will be enforcing"]
    write(host.root, "proc/cmdline", "ro enforcing=0\n")
    assert said("CSN407", host) == []


def test_csn407_off_by_the_boot_loader(host: Host) -> None:
    write(host.root, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
    assert said("CSN407", host) == ["? SELinux is disabled, from the next boot on it will be enforcing"]
    write(host.root, "proc/cmdline", "BOOT_IMAGE=/vmlinuz ro selinux=0 quiet\n")
    assert said("CSN407", host) == []


def test_csn407_selinux(host: Host) -> None:
    write(host.root, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
    write(host.root, "sys/fs/selinux/enforce", "1")
    assert said("CSN407", host) == []
    write(host.root, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=mls\n")
    assert said("CSN407", host) == ["SELinux is enforcing with the policy 'mls'"]
    write(host.root, "etc/selinux/config", "SELINUX=disabled\n")
    assert said("CSN407", host) == ["? SELinux is enforcing, from the next boot on it will be disabled"]


def test_csn408_fapolicyd(host: Host) -> None:
    answers = commands(host)
    host = dataclasses.replace(host, run=Commands())
    commands(host).clear()
    commands(host).update({"systemctl is-active fapolicyd": Completed(0, "active\n", ""), **answers})
    evidence = "fapolicyd.service is active, and no rule allows /opt/caisson/, /opt/cni/, /run/containerd/ and 4 more"
    assert said("CSN408", host) == [evidence]
    write(host.root, "etc/fapolicyd/fapolicyd.conf", "# permissive = 1\npermissive = 1\n")
    assert said("CSN408", host) == [f"? {evidence}"]
    (finding,) = find("CSN408").run(host)
    rules = re.match(
        r"printf '(.*)' > (/etc/fapolicyd/rules\.d/39-caisson\.rules) && fagenrules --load ", finding.fix
    )
    assert rules, finding.fix
    write(host.root, rules[2], rules[1].replace("\\n", "\n"))
    assert said("CSN408", host) == []
    # A rule of the site for more than that is as good; one that denies, or allows less, is not.
    write(host.root, rules[2], "allow perm=any all : dir=/opt/\n# allow perm=any all : dir=/var/\n")
    write(
        host.root,
        "etc/fapolicyd/rules.d/80-x.rules",
        "allow perm=open all : dir=/var/\nallow perm=any all : dir=/srv/\n",
    )
    assert said("CSN408", host)[0].endswith(
        "allows /run/containerd/, /var/cache/salt/, /var/lib/containerd/ and 1 more"
    )


def test_csn409_locks(host: Host) -> None:
    write(host.root, "etc/dnf/dnf.conf", "[main]\nbest=True\nexclude=vim* kube*,\n  kubelet\ngpgcheck=1\n")
    write(host.root, "etc/dnf/plugins/versionlock.list", "# x\nkubelet-0:1.30.*\nkubelet-extra-0:1.*\n")
    assert said("CSN409", host) == [
        "? /etc/dnf/dnf.conf excludes 'kube*': not applied to kubelet",
        "? /etc/dnf/dnf.conf excludes 'kubelet': not applied to kubelet",
        "? /etc/dnf/plugins/versionlock.list locks 'kubelet-0:1.30.*': not applied to kubelet",
    ]


def test_csn410_versions(host: Host) -> None:
    commands(host)["rpm"] = Completed(0, "found kubelet 1.30.1-1\nfound salt 3006.9-0\n", "")
    assert said("CSN410", host) == ["kubelet 1.30.1-1 is installed, the media has 1.36.4-150500.1.1"]
    commands(host)["rpm"] = Completed(0, "found kubelet 1.36.4-150500.1.1\n", "")
    assert said("CSN410", host) == []


def trials(host: Host) -> FitTrials:
    assert isinstance(host.trials, FitTrials)
    return host.trials


@pytest.mark.parametrize("code", ["CSN501", "CSN502", "CSN503", "CSN504", "CSN505"])
def test_trials_need_root(host: Host, code: str) -> None:
    with pytest.raises(SkippedError, match="only root can try it"):
        said(code, dataclasses.replace(host, user_id=1000))


@pytest.mark.parametrize("code", ["CSN501", "CSN503", "CSN505"])
def test_trials_of_packages_need_the_media(host: Host, code: str) -> None:
    with pytest.raises(SkippedError, match="the media with the packages is not mounted"):
        said(code, dataclasses.replace(host, media_dir=None))


def test_csn501_programs(host: Host) -> None:
    missing = "runc: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by runc)\n"
    trials(host).programs = {
        "containerd.io: /usr/bin/runc": Completed(1, "", missing),
        "kubelet: /usr/bin/kubelet": Completed(-4, "", ""),
    }
    assert said("CSN501", host) == [
        f"containerd.io: /usr/bin/runc: exit code 1: {missing.strip()}",
        "kubelet: /usr/bin/kubelet: ended by SIGILL",
    ]


def test_csn502_overlay(host: Host) -> None:
    trials(host).overlay_fault = "[Errno 22] mount: Invalid argument"
    assert said("CSN502", host) == [f"on {host.root}: [Errno 22] mount: Invalid argument"]


def test_csn503_container(host: Host) -> None:
    trials(host).container = Completed(1, "", "x\nrunc run failed: unable to start init\n")
    assert said("CSN503", host) == ["runc: exit code 1: runc run failed: unable to start init"]
    left = "unable to remove cgroup path: device or resource busy\n"
    trials(host).container = Completed(1, "crictl version v1.36.0\n", left)
    assert said("CSN503", host) == [], "what runc could not clean up says nothing about the host"


@pytest.mark.parametrize(("code", "name"), [("CSN502", "mount_overlay"), ("CSN504", "send_packets")])
def test_a_trial_that_another_check_is_at_is_skipped(
    host: Host, monkeypatch: pytest.MonkeyPatch, code: str, name: str
) -> None:
    def busy(*_: object, **__: object) -> str:
        raise BusyError("another check on this host is at the same trial")

    monkeypatch.setattr(FitTrials, name, busy)
    with pytest.raises(SkippedError, match="another check"):
        said(code, host)


DROPPING = """\
table inet firewalld {
\tchain filter_FORWARD {
\t\ttype filter hook forward priority filter + 10; policy drop;
\t}
}
table inet site {
\tchain forward {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
"""


def test_csn504_packets(host: Host) -> None:
    assert said("CSN504", host) == []
    assert trials(host).asked == ["10.233.0.0/16", True]
    trials(host).packet_fault = "a datagram from 10.233.255.250 to 10.233.255.254 did not arrive"
    assert said("CSN504", host) == [trials(host).packet_fault]
    commands(host)["nft"] = Completed(0, DROPPING, "")
    assert said("CSN504", host) == [
        f"{trials(host).packet_fault}; chains that drop by default: inet site forward"
    ]
    assert said("CSN504", dataclasses.replace(host, is_ours=True)) == []


CHANGES = """\
Installing:
 kubelet      x86_64   1.36.4-150500.1.1   caisson   23 M
Upgrading:
 nftables     x86_64   1:1.0.9-1.el9       caisson   370 k
     replacing  nftables-old.x86_64 1.0.1-1.el9
Removing dependent packages:
 podman       x86_64   4:4.9-1.el9         @appstream  60 M

Transaction Summary
"""


def test_csn505_packages(host: Host) -> None:
    assert said("CSN505", host) == []
    assert trials(host).asked == [host.media_dir, *dnf.HOST_PACKAGES]
    trials(host).packages = Completed(0, CHANGES, "")
    assert said("CSN505", host) == [
        "dnf would change a package of this host: upgrading nftables",
        "dnf would change a package of this host: removing podman",
    ]
    allowed = make_config("overrides: {allowPackageChanges: [nftables, podman]}\n")
    assert said("CSN505", dataclasses.replace(host, config=allowed)) == []
    trials(host).packages = Completed(
        1, "", "Error: \n - nothing provides libx.so.1 needed by socat-1.7-1.x86_64 from caisson\n"
    )
    assert said("CSN505", host) == [
        "package socat-1.7-1.x86_64 needs libx.so.1, which neither the media nor this host has"
    ]


def test_the_states_of_salt_install_what_dnf_was_tested_with(repository_dir: Path) -> None:
    found: list[str] = []
    for file in sorted((repository_dir / "salt").rglob("*.sls")):
        text = "\n".join(line for line in file.read_text().splitlines() if "{%" not in line)
        if "caisson_package.installed" in text:
            for state in yaml.safe_load(text).values():
                found += state.get("caisson_package.installed", [{}])[0].get("packages", [])
    assert sorted(found) == sorted(set(dnf.HOST_PACKAGES) - {"salt-minion"})
