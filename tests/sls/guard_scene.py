# SPDX-License-Identifier: Apache-2.0
"""A host, its pod, a pod of another node and a neighbour in network namespaces, and what comes past the guard.

Run by ``test_guard.py`` under ``unshare``, with the file of the guard's rules; prints JSON, name of a case -> whether
the packet arrived. Sockets belong to the namespace in which they were made, so one process plays all of them.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
HOST, NEIGHBOUR = "192.0.2.11", "192.0.2.66"
POD, REMOTE_POD, SERVICE = "10.233.0.5", "10.233.64.53", "10.96.0.10"
# Of the same node as the other, but one whose address no neighbour claims.
FAR_POD = "10.233.64.54"
LOADS, PACKETS = 30, 3000
LINKS = f"""
mount -t tmpfs tmpfs /run
mkdir /run/netns
for name in pod neighbour other; do ip netns add $name; ip -n $name link set lo up; done
ip link set lo up
ip link add eth0 type veth peer name eth0 netns neighbour
ip link add cali1 type veth peer name eth0 netns pod
ip link add vxlan.calico type veth peer name eth0 netns other
for name in eth0 cali1 vxlan.calico; do ip link set $name up; done
for name in pod neighbour other; do ip -n $name link set eth0 up; done
for key in all default eth0 cali1 vxlan.calico; do echo 0 > /proc/sys/net/ipv4/conf/$key/rp_filter; done
echo 1 > /proc/sys/net/ipv4/ip_forward
ip address add {HOST}/24 dev eth0
ip address add 169.254.1.1/32 dev cali1
ip address add 169.254.1.2/32 dev vxlan.calico
ip route add {POD} dev cali1
ip route add {REMOTE_POD} dev vxlan.calico
ip route add {FAR_POD} dev vxlan.calico
ip -n pod address add {POD}/32 dev eth0
ip -n pod route add 169.254.1.1 dev eth0
ip -n pod route add default via 169.254.1.1
ip -n other address add {REMOTE_POD}/32 dev eth0
ip -n other address add {FAR_POD}/32 dev eth0
ip -n other route add 169.254.1.2 dev eth0
ip -n other route add default via 169.254.1.2
ip -n neighbour address add {NEIGHBOUR}/24 dev eth0
ip -n neighbour address add {REMOTE_POD}/32 dev lo
ip -n neighbour route add 10.0.0.0/8 via {HOST}
nft add table ip rewriting
nft 'add chain ip rewriting arriving {{ type nat hook prerouting priority dstnat; }}'
nft add rule ip rewriting arriving ip daddr {SERVICE} udp dport 53 dnat to {POD}:8053
"""


def bound(namespace: str, address: str, port: int) -> socket.socket:
    """Return a UDP socket of a namespace; "" is the host's."""
    library = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY) if namespace else os.dup(own)
    try:
        if library.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(0.3)
        made.bind((address, port))
    finally:
        library.setns(own, CLONE_NEWNET)
        os.close(own)
        os.close(there)
    return made


def arrives(sender: socket.socket, target: tuple[str, int], receiver: socket.socket) -> bool:
    """Send one datagram; tell whether it came."""
    sender.sendto(b"x", target)
    try:
        receiver.recv(10)
    except TimeoutError:
        return False
    return True


def asked(port: int, receivers: dict[tuple[str, int], socket.socket]) -> dict[str, bool]:
    """Let the neighbour ask each target from a port of its own, which no connection is known of."""
    return {
        f"a neighbour asks {target[0]}": arrives(bound("neighbour", NEIGHBOUR, port + n), target, receiver)
        for n, (target, receiver) in enumerate(receivers.items())
    }


def arrives_while_loaded(rules: Path, receiver: socket.socket) -> bool:
    """Load the rules again and again, as a reload of the unit does; tell whether any datagram came meanwhile."""
    sender, target = bound("neighbour", NEIGHBOUR, 6900), receiver.getsockname()
    words = f"for load in $(seq {LOADS}); do nft --file '{rules}'; done"
    with subprocess.Popen(["bash", "-euc", words]) as loading:
        sent = 0
        while loading.poll() is None or sent < PACKETS:
            sender.sendto(b"x", target)
            sent += 1
    if loading.returncode:
        raise OSError("the rules could not be loaded again")
    return arrives(sender, target, receiver)


def main() -> None:
    """Make the scene, open what is opened before the guard stands, load it, and try."""
    subprocess.run(["bash", "-euc", LINKS], check=True, stdin=subprocess.DEVNULL)
    pod, server = bound("pod", POD, 5555), bound("pod", POD, 8053)
    host = bound("", HOST, 7777)
    neighbour, client = bound("neighbour", NEIGHBOUR, 6666), bound("neighbour", NEIGHBOUR, 6667)
    forger = bound("neighbour", REMOTE_POD, 53)
    remote, remote_other = bound("other", REMOTE_POD, 53), bound("other", REMOTE_POD, 54)
    targets = {(POD, 8053): server, (SERVICE, 53): server, (FAR_POD, 53): bound("other", FAR_POD, 53)}
    before = asked(6700, targets)
    found = {
        "open before": arrives(neighbour, (POD, 8053), server),
        "a service, open before": arrives(client, (SERVICE, 53), server),
        "answered": arrives(server, (NEIGHBOUR, 6666), neighbour),
        "a service, answered": arrives(server, (NEIGHBOUR, 6667), client),
    }
    rules = Path(sys.argv[1])
    subprocess.run(["nft", "--file", str(rules)], check=True)
    found |= {
        "a pod asks another": arrives(pod, (REMOTE_POD, 53), remote),
        "a neighbour answers in its name": arrives(forger, (POD, 5555), pod),
        "the pod answers": arrives(remote, (POD, 5555), pod),
        "a pod of another node asks": arrives(remote_other, (POD, 8053), server),
        "the host asks a pod": arrives(host, (REMOTE_POD, 53), remote),
        "it answers without the tunnel": arrives(forger, (HOST, 7777), host),
        "a neighbour asks the host": arrives(neighbour, (HOST, 7777), host),
        "a neighbour asks the host as a pod": arrives(forger, (HOST, 5353), bound("", HOST, 5353)),
        "what was open before": arrives(neighbour, (POD, 8053), server),
        "a service that was open before": arrives(client, (SERVICE, 53), server),
    }
    found |= {"while it is loaded again": arrives_while_loaded(rules, server)}
    print(json.dumps({"before": before, "with the guard": asked(6800, targets), **found}))


if __name__ == "__main__":
    main()
