# SPDX-License-Identifier: Apache-2.0
"""Take down all that a host is: files, packages, mounts, network, firewall, units, settings; and compare two of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from lab.node import Node

TIMEOUT_S = 300.0
#: Logs are not part of it, nor what is in memory only, nor what a host counts.
SCRIPT = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp \
  -o -path /var/log \) -prune -o -printf '%y %m %u:%g %l %p\n' | sed 's/ *$//' | sort
find /run -xdev -maxdepth 2 -printf 'in memory: %y %p\n' | sort
find /etc /opt /usr/local /usr/bin /usr/lib/systemd /root -xdev -type f -print0 | sort -z | xargs -0 sha256sum
rpm -qa | sed 's/^/package /' | sort
findmnt --list --noheadings --output TARGET,FSTYPE | sed 's/  */ /; s/^/mount /' | sort
ip -o link | awk '{print "link", $2}' | sed 's/@if[0-9]*//' | sort
{ ip route show table all; ip -6 route show table all; ip rule; } | sed 's/ *$//; s/^/route /' | sort
nft list ruleset | sed 's/^/nft /'
firewall-cmd --list-all-zones; firewall-cmd --list-all-policies; firewall-cmd --permanent --list-all-policies
for key in net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
  net.ipv4.conf.all.route_localnet net.netfilter.nf_conntrack_acct \
  net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_tcp_timeout_close_wait; do
  sysctl "$key"
done
systemctl list-unit-files --no-legend --no-pager --state=enabled,disabled,masked | sed 's/  */ /g; s/^/unit /' | sort
ss -Hltun | awk '{print "listens", $1, $5}' | sort
getent passwd; getent group
ipset list -name | sed 's/^/set /'
find /sys/fs/cgroup -maxdepth 3 -type d -name '*kube*' | sort
"""
#: What differs and may, each with its reason; of a lab the reason is the lab's.
ALLOWED = (
    # The account that Salt's package makes: packages of EL leave accounts.
    r"^salt:x:|  /etc/(passwd|group|shadow|gshadow)-?$",
    # The command that runs, its lock; iptables's lock.
    r"^in memory: . /run/(caisson|caisson\.lock|caisson-reset|xtables\.lock|lock/.*)",
    # A getty makes it when it first waits for a key, which on a slow machine is late.
    r"^in memory: . /run/agetty\.reload",
    # systemd makes it for the first timer that is Persistent, whosesoever.
    r" /var/lib/systemd/timers$",
    # Each node has its own.
    r"  /etc/(machine-id|ssh/ssh_host_.*)$",
    # The lab's package replaced a file of Debian's that no package owned there.
    r" /usr/bin/tar$",
    # What the lab's operator has put there.
    r" /mnt/caisson$|/root/(bootstrap\.yaml|\.mtab\.fuseiso|\.ssh.*|id.*)$",
)


def take(node: Node) -> list[str]:
    """Return what the host is, one line each."""
    return node.run(["bash", "-c", SCRIPT], timeout_s=TIMEOUT_S, check=False).stdout.splitlines()


def differences(before: Iterable[str], after: Iterable[str], *allowed: str) -> list[str]:
    """Return the lines that one has and the other has not, but for those that may differ."""
    may = re.compile("|".join((*ALLOWED, *allowed)))
    lines = difflib.unified_diff(sorted(before), sorted(after), lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return [line for line in changed if not may.search(line[1:])]
