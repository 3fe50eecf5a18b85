# SPDX-License-Identifier: Apache-2.0
"""Name what Caisson leaves on a host: the one list of it, for the words that take a phase back and for the reset.

A test compiles all states and compares: what a phase writes is named here.
"""

from __future__ import annotations

import re

# ---- what the states and the installer write, by the phase that does ---------------------------------

LOCAL_FILES = (
    "/etc/caisson/pillar/top.sls",
    "/etc/caisson/pillar/caisson.sls",
    "/etc/caisson/salt/local/minion",
    "/etc/caisson/hosts.json",
)
RUNTIME_FILES = (
    "/etc/containerd/config.toml",
    "/etc/containerd/conf.d/90-overrides.toml",
    "/etc/containerd/certs.d/_default/hosts.toml",
    "/etc/crictl.yaml",
    "/etc/systemd/system/caisson-hosts.path",
    "/etc/systemd/system/caisson-hosts.service",
    "/etc/modules-load.d/caisson.conf",
    "/etc/sysctl.d/90-caisson.conf",
    "/etc/NetworkManager/conf.d/90-caisson.conf",
)
KUBELET_FILES = (
    "/etc/systemd/system/kubelet.service.d/11-caisson.conf",
    "/etc/systemd/system/kubelet.service.d/20-caisson-standalone.conf",
    "/etc/caisson/kubelet/standalone.yaml",
)
MASTER_FILES = ("/etc/kubernetes/manifests/salt-master.yaml", "/etc/caisson/salt/master/master")
MINION_FILES = ("/etc/salt/minion.d/90-caisson.conf", "/etc/salt/pki/minion/minion_master.pub")
LOGIN_FILES = (
    "/etc/caisson/registry-login/password",
    "/etc/caisson/registry/htpasswd",
    "/etc/caisson/nginx/registry-login.conf",
)
BARRED_NODES_DIR = "/etc/caisson/nginx/nodes"
MEDIA_MAPS_DIR = "/etc/caisson/nginx/media"
REGISTRY_FILES = ("/etc/kubernetes/manifests/registry.yaml", "/etc/caisson/registry/config.yml")
REPLACED_FILE = "/var/lib/caisson/replaced/registry.yaml"
"""The manifest of a registry while a newer one takes its place."""
NGINX_FILES = (
    "/etc/kubernetes/manifests/nginx.yaml",
    "/etc/caisson/nginx/nginx.conf",
    "/etc/caisson/nginx/oci-maps.conf",
    "/etc/caisson/nginx/oci-locations.conf",
    "/etc/caisson/nginx/own-names.conf",
    "/etc/systemd/system/caisson-renew.service",
    "/etc/systemd/system/caisson-renew.timer",
    "/etc/systemd/system/caisson-follow.service",
    "/etc/systemd/system/caisson-follow.timer",
)
KEEPALIVED_FILES = (
    "/etc/kubernetes/manifests/keepalived.yaml",
    "/etc/caisson/keepalived/keepalived.conf",
    "/etc/caisson/keepalived/check.sh",
    "/etc/caisson/keepalived/run.sh",
)
GUARD_FILES = ("/etc/systemd/system/caisson-guard.service", "/etc/caisson/guard.nft")
FIREWALL_FILES = (
    "/etc/firewalld/zones/caisson-pods.xml",
    "/etc/firewalld/policies/caisson-services.xml",
    "/etc/firewalld/policies/caisson-nodes.xml",
)
CONSOLE_UNITS = (
    "caisson-console.socket",
    "caisson-console.service",
    "caisson-door.socket",
    "caisson-door@.service",
)
CONSOLE_UNIT_FILES = tuple(f"/etc/systemd/system/{unit}" for unit in CONSOLE_UNITS)
CONSOLE_FILES = (
    *CONSOLE_UNIT_FILES,
    "/etc/caisson/console/console.json",
    "/etc/caisson/console/tls.crt",
    "/etc/caisson/console/tls.key",
    "/etc/caisson/console/tls.pub",
)
CONSOLE_USER = "caisson-console"
JOIN_FILES = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/caisson/kubeadm/join.yaml",
    "/etc/kubernetes/patches/kubeletconfiguration0+strategic.json",
    "/var/lib/caisson/told",
)
RENEW_STAMP_FILE = "/var/lib/systemd/timers/stamp-caisson-renew.timer"
"""When that timer ran last, as systemd notes it for one that is Persistent."""
FILES = (
    *LOCAL_FILES,
    *RUNTIME_FILES,
    *KUBELET_FILES,
    *MASTER_FILES,
    *MINION_FILES,
    *LOGIN_FILES,
    *REGISTRY_FILES,
    *NGINX_FILES,
    *KEEPALIVED_FILES,
    *GUARD_FILES,
    *FIREWALL_FILES,
    *CONSOLE_FILES,
    *JOIN_FILES,
    RENEW_STAMP_FILE,
)
HOSTS_UNITS = ("caisson-hosts.path", "caisson-hosts.service")
RENEW_UNITS = (
    "caisson-renew.timer",
    "caisson-renew.service",
    "caisson-follow.timer",
    "caisson-follow.service",
)
GUARD_UNIT = "caisson-guard.service"
KUBELET_UNIT = "kubelet.service"
LATER_UNITS = (
    *CONSOLE_UNITS[:3],
    "salt-minion.service",
    *HOSTS_UNITS,
    *RENEW_UNITS,
    GUARD_UNIT,
    "containerd.service",
)
"""What is stopped once the pods are: containerd stops them. Path and timer before the service that they start."""
UNITS_DIR = "/etc/systemd/system"
MEDIA_UNITS = "srv-caisson-*.mount"
MEDIA_DIR = "/srv/caisson"
FSTAB_MARK = "# caisson: "
POD_ZONE = "caisson-pods"
NFT_TABLES = (("inet", "caisson"),)

# ---- what the programs write that it runs -----------------------------------------------

STATE_DIR = "/var/lib/caisson"
CACHE_DIR = "/var/cache/caisson"
CONFIG_DIR = "/etc/caisson"
PROGRAM_DIR = "/opt/caisson"
RUN_DIRS = (
    "/run/caisson-console",
    "/run/caisson-images",
    "/run/caisson-join",
    "/run/caisson-media",
    "/run/caisson-ssh",
    "/run/caisson-vip",
)
REGISTRY_DIR = "/var/lib/caisson/registry"
KUBERNETES_DIR = "/etc/kubernetes"
RUNTIME_TREES = ("/run/containerd", "/run/calico", "/run/nri", "/run/nodeagent", "/run/salt")
TREES = (
    *RUNTIME_TREES,
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/calico",
    "/var/log/pods",
    "/var/log/containers",
    "/var/log/calico",
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/nodeagent~uds",
)
"""Directories that hold nothing but what a node of Kubernetes puts there: its own, containerd's, Calico's, Salt's."""
TREES_OF_PACKAGES = {"containerd.io": ("/var/lib/containerd",), "salt-minion": ("/var/cache/salt/minion",)}
"""Theirs, if the package came with Caisson: one that was there before has what the site put there."""
FILES_OF_PACKAGES = {
    "salt-minion": (
        "/etc/salt/minion.d/_schedule.conf",
        "/etc/salt/minion_id",
        "/etc/salt/pki/minion/minion.pem",
        "/etc/salt/pki/minion/minion.pub",
    )
}
CNI_PATTERNS = (
    "/var/lib/cni/results/k8s-pod-network-*",
    "/var/lib/cni/results/cni-loopback-*",
    "/var/lib/cni/networks/k8s-pod-network",
)
"""What the plugins note of pods, among notes of podman's, say. Source: libcni, api.go; Calico's and go-cni's names."""
TIMER_STAMP_FILE = "/var/lib/systemd/timers/stamp-caisson-renew.timer"
"""When the timer has run last, as systemd keeps it of one that catches up after a boot."""
PROGRAM_FILES = (
    "/etc/cni/net.d/10-calico.conflist",
    "/etc/cni/net.d/calico-kubeconfig",
    "/opt/cni/bin/calico",
    "/opt/cni/bin/calico-ipam",
    "/run/salt-minion.pid",
    "/run/process_responsibility_salt-minion.pid",
    TIMER_STAMP_FILE,
)
"""What programs write among files of others. Source: Calico 3.31, cni-plugin/pkg/install; Salt 3008; systemd."""
EMPTIED_DIRS = (
    "/var/lib/cni/results",
    "/var/lib/cni/networks",
    "/var/lib/cni",
    "/etc/cni/net.d",
    "/etc/cni",
    "/etc/containerd/certs.d/_default",
    "/etc/containerd/certs.d",
    "/etc/containerd/conf.d",
    "/etc/containerd",
    "/etc/NetworkManager/conf.d",
    "/etc/NetworkManager",
    "/etc/salt/pki/minion",
    "/etc/salt/pki",
    "/etc/salt/minion.d",
    "/etc/salt",
    "/etc/systemd/system/kubelet.service.d",
    "/opt/cni/bin",
    "/opt/cni",
    "/opt/containerd/bin",
    "/opt/containerd/lib",
    "/opt/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
    "/usr/lib/systemd/system/kubelet.service.d",
    "/opt/saltstack/salt",
    "/opt/saltstack",
    "/etc/sysconfig",
    "/var/cache/salt",
    "/root/.kube/cache/discovery",
    "/root/.kube/cache/http/.diskv-temp",
    "/root/.kube/cache/http",
    "/root/.kube/cache",
    "/root/.kube",
)
"""Directories that go when nothing is left in them, the deepest first; most are of packages, and go with those."""
SHARED_DIRS = ("/etc/NetworkManager/conf.d", "/etc/NetworkManager", "/run/netns")
"""Those of them that other programs have too."""
TREE_CONTENTS = {
    "/var/lib/kubelet": re.compile(
        r"(?:pods|plugins|plugins_registry|pod-resources|device-plugins|pki|checkpoints|image_manager|config\.yaml|"
        r"instance-config\.yaml|kubeadm-flags\.env|\w+_state|cpu_manager_state|seccomp|usernamespaces)\Z"
    ),
    "/var/lib/containerd": re.compile(r"(?:io\.containerd\..+|tmpmounts)\Z"),
    "/var/lib/etcd": re.compile(r"member\Z"),
    "/var/lib/calico": re.compile(r"(?:nodename|mtu)\Z"),
}
"""What the programs call their own in such a directory: a volume of the site's that lies beside these stays."""
MOUNT_ROOTS = ("/var/lib/kubelet", "/run/containerd", "/var/lib/containerd", "/run/calico", "/var/lib/calico")
"""What is mounted below these was mounted by the kubelet, containerd or Calico, unless the host has it on record."""
CNI_NETWORK = re.compile(r"/run/netns/cni-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The network of a pod, as the notes of the plugins have it; podman's have such names too."""
POD_INTERFACE = re.compile(r"cali[0-9a-f]{11}\Z")
INTERFACES = ("vxlan.calico", "vxlan-v6.calico")
ROUTE_PROTOCOL = "80"
"""Source: Calico, felix/dataplane/linux/dataplanedefs."""
CHAINS = re.compile(r"(?:cali-|KUBE-)")
"""Chains of iptables that Calico, the kubelet and kube-proxy make."""
SHARED_CHAINS = re.compile(r"CNI-HOSTPORT-(?:DNAT|SNAT|MASQ|SETMARK)\Z")
"""Chains that the plugin ``portmap`` makes; those of podman's containers hang in them too."""
CNI_CHAINS = "CNI-"
SETS = re.compile(r"cali[46][0st]")
"""Sets of ipset. Source: Calico, felix/ipsets, ``IPSetNamePrefix``: ``cali4``, ``cali6``, then 0, s or t."""
RULE_MARK = '--comment "cali:'
PROGRAM_TABLES = ("kube-proxy", "calico")
"""Tables of nftables, of both address families."""
LEGACY_TABLES = ("raw", "mangle", "nat", "filter", "security")
KUBECTL_CACHE = "/root/.kube/cache"
