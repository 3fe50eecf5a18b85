# SPDX-License-Identifier: Apache-2.0
"""Make a first configuration from the networks of a host: every key is in it, most of them as comments."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from installer.config.bootstrap import DEFAULT_PODS_CIDR, DEFAULT_SERVICES_CIDR, UNUSABLE
from installer.config.facts import Address

LOCAL_BRIDGES = re.compile(
    r"(?:docker\d+|br-[0-9a-f]{12}|podman\d+|cni-podman\d+|virbr\d+|lxcbr\d+|lxdbr\d+)\Z"
)
EXAMPLE_CIDR = "192.0.2.0/24"
# Tried one after the other where a default is in the way of the host's own networks.
PODS_CIDRS = (DEFAULT_PODS_CIDR, "172.30.0.0/16", "192.168.128.0/17")
SERVICES_CIDRS = (DEFAULT_SERVICES_CIDR, "172.29.0.0/16", "192.168.64.0/18")


def render(addresses: Sequence[Address], node_name: str, *, default_interface: str = "") -> str:
    """Return the text; without an IPv4 address the control plane is an example that matches nothing.

    The control plane is the network of the interface with the default route, where there is one; networks that
    ``config check`` would refuse, and bridges of containers and virtual machines on this host, are not proposed.
    """
    usable = [address for address in addresses if _is_usable(address)]
    ranked = sorted(usable, key=lambda address: address.interface != default_interface)
    networks = list(dict.fromkeys(address.network for address in ranked))
    # A bridge is not proposed, yet the networks of pods and services must stay clear of it.
    taken = [address.network for address in addresses if ":" not in address.address]
    control = networks[0] if networks else EXAMPLE_CIDR
    workload = networks[-1] if networks else EXAMPLE_CIDR
    interfaces = "".join(f"  #   {address}\n" for address in addresses) or "  #   none: give this host one\n"
    return f"""\
# Caisson's bootstrap configuration, made for {node_name}. Every key: bootstrap.sh config explain
# Check it: bootstrap.sh config check --config FILE
apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: cluster1  # the API will be api.cluster1.internal

networks:
  # Lists are tried in their order: the first network that holds an address of the host is taken. This host has:
{interfaces}\
  controlPlane:
    cidrs: [{control}]
    # vip: {_example_vip(control)}  # a free address, for a control plane of several nodes
  # workloadPlane:  # pods of different nodes talk here; default: as controlPlane
  #   cidrs: [{workload}]
  {_range("pods", PODS_CIDRS, taken)}
  {_range("services", SERVICES_CIDRS, taken)}

# node: {{name: {node_name}}}  # default: the host name

# apiServer:
#   extraSans: [k8s.example.com]  # more names and addresses of the API

# media:
#   signingKey: {"0" * 40}  # refuse media that this key did not sign
#   certificate:  # of nginx; default: made on this host, and renewed
#     {{certificateFile: /root/media.crt, keyFile: /root/media.key, authorityFile: /root/site-ca.crt}}

# containerd:
#   discardUnpackedLayers: false  # true: less disk, and images cannot be saved from a node

# images:  # of the site, pushed to its registry; archives (*.tar) and OCI layouts
#   directory: /mnt/site-images
#   iso: /var/lib/caisson-media/site.iso  # the same on an ISO, which is mounted while it is read

# authorities:  # default: made on this host
#   services: {{certificateFile: /root/services-ca.crt, keyFile: /root/services-ca.key}}  # for nginx
#   cluster: {{certificateFile: /root/cluster-ca.crt, keyFile: /root/cluster-ca.key}}  # for Kubernetes

# overrides:
#   containerd: |  # TOML
#     version = 3
#   kubelet: {{maxPods: 200}}  # fields of KubeletConfiguration
#   kubeProxy: {{}}  # fields of KubeProxyConfiguration
#   kubeadmPatches: {{}}  # file name: text
#   allowPackageChanges: []  # packages of this host that may be upgraded or removed
#   ignorePreflights:
#     - {{id: CSN117, reason: one node alone keeps its own time}}
"""


def _is_usable(address: Address) -> bool:
    """Tell whether a plane could be on this address's network.

    >>> [_is_usable(Address(name, "169.254.3.1", 24)) for name in ("usb0",)]
    [False]
    >>> [_is_usable(Address(name, "10.0.0.5", 24)) for name in ("eth0", "docker0", "br-12ab34cd56ef", "virbr0")]
    [True, False, False, False]
    """
    if ":" in address.address or LOCAL_BRIDGES.match(address.interface):
        return False
    return not any(ipaddress.IPv4Network(address.network).overlaps(network) for network in UNUSABLE)


def _range(name: str, candidates: Sequence[str], taken: Sequence[str]) -> str:
    """Return the line of a network: a comment when it is the default, set when the default is in the way."""
    free = [cidr for cidr in candidates if not any(_overlap(cidr, other) for other in taken)]
    if not free or free[0] == candidates[0]:
        return f"# {name}: {{cidr: {candidates[0]}}}  # the default"
    return f"{name}: {{cidr: {free[0]}}}  # the default {candidates[0]} overlaps this host's networks"


def _overlap(first: str, second: str) -> bool:
    return ipaddress.IPv4Network(first).overlaps(ipaddress.IPv4Network(second))


def _example_vip(cidr: str) -> str:
    network = ipaddress.IPv4Network(cidr)
    return str(network.broadcast_address - 1 if network.prefixlen < 31 else network.network_address)
