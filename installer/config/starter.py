# SPDX-License-Identifier: Apache-2.0
"""Make a first configuration from the networks of a host: every key is in it, most of them as comments."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from installer.config.bootstrap import DEFAULT_PODS_CIDR, DEFAULT_SERVICES_CIDR
from installer.config.facts import Address

EXAMPLE_CIDR = "192.0.2.0/24"
# Tried in turn where a default is in the way of the host's own networks.
PODS_CIDRS = (DEFAULT_PODS_CIDR, "172.30.0.0/16", "192.168.128.0/17")
SERVICES_CIDRS = (DEFAULT_SERVICES_CIDR, "172.29.0.0/16", "192.168.64.0/18")


def render(addresses: Sequence[Address], node_name: str) -> str:
    """Return the text; without an IPv4 address the control plane is an example that matches nothing."""
    networks = list(dict.fromkeys(address.network for address in addresses if ":" not in address.address))
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
  # Lists are tried in turn: the first network that holds an address of the host is taken. This host has:
{interfaces}\
  controlPlane:
    cidrs: [{control}]
    # vip: {_example_vip(control)}  # a free address, for a control plane of several nodes
  # workloadPlane:  # pods of different nodes talk here; default: as controlPlane
  #   cidrs: [{workload}]
  {_range("pods", PODS_CIDRS, networks)}
  {_range("services", SERVICES_CIDRS, networks)}

# node: {{name: {node_name}}}  # default: the host name

# apiServer:
#   extraSans: [k8s.example.com]  # more names and addresses of the API

# media:
#   signingKey: {"0" * 40}  # refuse media that this key did not sign

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
