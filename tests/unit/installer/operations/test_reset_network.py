# SPDX-License-Identifier: Apache-2.0
"""What the cluster put into the kernel's network goes, the site's own stays: real rules, in a network of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.operations import reset_network

ROOT_DIR = Path(__file__).parents[4]
APART = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--")
SCENE = """
mount -t tmpfs tmpfs /run
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
ip link add vxlan.calico type vxlan id 4096 dstport 4789 dev lo
ip link add cali0123456789a type veth peer name inside
ip link add calico-site type veth peer name other
ip address add 10.9.0.1/24 dev lo
ip address add 10.9.0.7/32 dev lo
ip route add blackhole 10.233.1.0/26 proto 80
ip route add blackhole 10.44.0.0/16
nft add table ip kube-proxy
nft add chain ip kube-proxy services
nft add table ip6 kube-proxy
nft add table inet caisson
nft add table inet site
nft add chain inet site mine
iptables-restore <<'EOF'
*filter
:FORWARD ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:cali-FORWARD - [0:0]
:cali-other - [0:0]
:KUBE-FIREWALL - [0:0]
:SITE - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp --dport 22 -m comment --comment "for cali: and KUBE-FIREWALL" -j ACCEPT
-A INPUT -j SITE
-A cali-FORWARD -j cali-other
-A SITE -p udp -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:cali-PREROUTING - [0:0]
-A PREROUTING -j cali-PREROUTING
COMMIT
EOF
ip6tables -t mangle -N KUBE-KUBELET-CANARY
"""
ACT = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from types import SimpleNamespace
from installer.base.paths import Paths
from installer.operations import reset_network
context = SimpleNamespace(paths=Paths(Path(sys.argv[2])))
for _ in range(2):
    actions = reset_network.plan(context)
    for action in actions:
        print(action.text)
        action.do()
    print("--", len(actions))
"""
SHOW = """
echo ==; ip -o -4 address | awk '{print "has", $4}'
ip -o link | cut -d ' ' -f 2; ip route show type blackhole; iptables-save | grep -E '^[*:-]'
nft list tables; ip6tables-save | grep -c KUBE || true
"""


def write_pillar(root: Path, vip: str) -> None:
    """Let Caisson have recorded a virtual address on the host below ``root``."""
    file = Paths(root).pillar_dir / "caisson.sls"
    file.parent.mkdir(parents=True)
    file.write_text(f"#!json\n{json.dumps({'caisson': {'networks': {'vip': vip}}})}", encoding="utf-8")


def test_an_address_that_the_site_gave_the_host_stays() -> None:
    """What keepalived gives is alone in its network."""
    links: list[dict[str, Any]] = [
        {"ifname": "eth0", "addr_info": [{"local": "10.9.0.7", "prefixlen": 24}]},
        {},
        {"ifname": "eth1", "addr_info": [{"local": "10.9.0.7", "prefixlen": 32}]},
    ]
    assert reset_network.held(links, "10.9.0.7") == [("10.9.0.7/32", "eth1")]


@pytest.mark.subprocess
def test_only_what_is_the_clusters_goes_and_a_second_time_there_is_nothing(tmp_path: Path) -> None:
    program = tmp_path / "act.py"
    program.write_text(ACT, encoding="utf-8")
    write_pillar(tmp_path, "10.9.0.7")
    script = f"{SCENE}\n{sys.executable} {program} {ROOT_DIR} {tmp_path}\n{SHOW}"
    done = subprocess.run(
        [*APART, "bash", "-euc", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    acted, _, left = done.stdout.partition("==\n")
    assert acted.splitlines()[-1] == "-- 0", acted
    assert [line for line in left.splitlines() if line.startswith("has")] == [
        "has 127.0.0.1/8",
        "has 10.9.0.1/24",
    ]
    assert "calico-site@" in left
    assert "cali0123456789a" not in left
    assert "vxlan.calico" not in left
    assert "blackhole 10.44.0.0/16" in left
    assert "10.233.1.0" not in left
    assert "-A INPUT -p tcp -m tcp --dport 22" in left
    assert "-A SITE -p udp -j DROP" in left
    assert [line for line in left.splitlines() if "cali-" in line or ":KUBE" in line] == []
    tables = [line for line in left.splitlines() if line.startswith("table")]
    assert sorted(tables) == ["table inet site", "table ip filter"]
    assert left.splitlines()[-1] == "0"


def test_a_table_with_a_rule_or_another_policy_is_not_empty() -> None:
    chain = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "accept"}
    table = {"table": {"family": "ip", "name": "filter"}}
    assert reset_network.empty_tables([table, {"chain": chain}], "ip") == ["filter"]
    assert reset_network.empty_tables([table, {"chain": {**chain, "policy": "drop"}}], "ip") == []
    assert (
        reset_network.empty_tables(
            [table, {"chain": chain}, {"rule": {"family": "ip", "table": "filter"}}], "ip"
        )
        == []
    )
    assert reset_network.empty_tables([{"table": {"family": "ip", "name": "site"}}], "ip") == []


def test_chains_of_the_plugins_stay_while_a_container_of_podman_s_hangs_in_them() -> None:
    shared = ":PREROUTING ACCEPT [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n"
    rule = "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
    gone = (
        "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
    )
    assert reset_network.take_out(f"*nat\n{shared}{rule}COMMIT\n") == f"{gone}-X CNI-HOSTPORT-DNAT\nCOMMIT\n"
    podman = ":CNI-DN-0123456789abcdef01234 - [0:0]\n"
    assert reset_network.take_out(f"*nat\n{shared}{podman}{rule}COMMIT\n") == ""


def test_interfaces_of_others_are_not_taken_for_pods() -> None:
    links: list[dict[str, Any]] = [
        {"ifname": "cali0123456789a", "linkinfo": {"info_kind": "veth"}},
        {"ifname": "cali0123456789a", "linkinfo": {"info_kind": "bridge"}},
        {"ifname": "california0", "linkinfo": {"info_kind": "veth"}},
        {"ifname": "vxlan.calico", "linkinfo": {"info_kind": "vxlan"}},
        {"ifname": "vxlan7", "linkinfo": {"info_kind": "vxlan"}},
        {"ifname": "lo"},
    ]
    assert reset_network.interfaces(links) == ["cali0123456789a", "vxlan.calico"]
