# SPDX-License-Identifier: Apache-2.0
"""The packages of the upstream projects: kubernetes, docker-ce and salt, with upstream's names and layout.

Source: the %files and tags of kubernetes/release (cmd/krel/templates), docker/containerd-packaging and
saltstack/salt (pkg/rpm); the texts are written anew.
"""

from __future__ import annotations

from lab import onedir
from lab.rpmspec import RELOAD_UNITS, Directory, Link, Programs, Rpm, Source, Text, Tree

KUBERNETES_RELEASE = "150500.1.1"
UNIT_DIR = "/usr/lib/systemd/system"

_RELOADS = (("post", RELOAD_UNITS), ("postun", RELOAD_UNITS))

_KUBELET_UNIT = """\
[Unit]
Description=kubelet: runs the pods of this node
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""

_KUBEADM_DROP_IN = """\
# How kubeadm runs the kubelet. Flags that kubeadm works out are in /var/lib/kubelet/kubeadm-flags.env;
# an administrator's own go into KUBELET_EXTRA_ARGS in /etc/sysconfig/kubelet, or the configuration file.
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/sysconfig/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS \
$KUBELET_EXTRA_ARGS
"""

_CONTAINERD_UNIT = """\
[Unit]
Description=containerd: container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""

_CONTAINERD_CONFIGURATION = """\
# As packaged, containerd serves Docker and no kubelet: its CRI plugin is off.
# Write a configuration of your own ("containerd config default" shows all of it) to run Kubernetes.
disabled_plugins = ["cri"]
"""

KUBERNETES = Source(
    name="kubernetes",
    signer="kubernetes",
    packages=(
        Rpm(
            name="kubelet",
            version="1.36.4",
            release=KUBERNETES_RELEASE,
            summary="Node agent of Kubernetes",
            requires=("iptables >= 1.4.21", "kubernetes-cni >= 1.2.0", "util-linux"),
            contents=(
                Programs(component="kubernetes", names=("kubelet",)),
                Text(path=f"{UNIT_DIR}/kubelet.service", text=_KUBELET_UNIT),
                Text(path="/etc/sysconfig/kubelet", text="KUBELET_EXTRA_ARGS=\n", config=True),
                Directory(path="/etc/kubernetes/manifests"),
            ),
        ),
        Rpm(
            name="kubeadm",
            version="1.36.4",
            release=KUBERNETES_RELEASE,
            summary="Make a Kubernetes cluster",
            contents=(
                Programs(component="kubernetes", names=("kubeadm",)),
                Text(path=f"{UNIT_DIR}/kubelet.service.d/10-kubeadm.conf", text=_KUBEADM_DROP_IN),
            ),
        ),
        Rpm(
            name="kubectl",
            version="1.36.4",
            release=KUBERNETES_RELEASE,
            summary="Command line client of Kubernetes",
            contents=(Programs(component="kubernetes", names=("kubectl",)),),
        ),
        Rpm(
            name="cri-tools",
            version="1.36.0",
            release=KUBERNETES_RELEASE,
            summary="Command line client of container runtimes",
            contents=(Programs(component="critools", names=("crictl",)),),
        ),
        Rpm(
            name="kubernetes-cni",
            version="1.9.1",
            release=KUBERNETES_RELEASE,
            summary="Network plugins of containers",
            contents=(Programs(component="cni", directory="/opt/cni/bin"),),
        ),
    ),
)

DOCKER_CE = Source(
    name="docker-ce",
    signer="docker-ce",
    packages=(
        Rpm(
            name="containerd.io",
            version="2.3.7",
            release="1.el9",
            summary="Container runtime, with runc",
            requires=("/bin/sh", "container-selinux >= 2:2.74", "libseccomp", "systemd"),
            provides=("containerd", "runc"),
            conflicts=("containerd", "runc"),
            obsoletes=("containerd", "runc"),
            scripts=_RELOADS,
            contents=(
                Programs(component="containerd"),
                Programs(component="runc"),
                Text(path=f"{UNIT_DIR}/containerd.service", text=_CONTAINERD_UNIT),
                Text(path="/etc/containerd/config.toml", text=_CONTAINERD_CONFIGURATION, config=True),
            ),
        ),
    ),
)

_SALT_RELEASE = "0"
_SAME_SALT = f"salt = {onedir.VERSION}-{_SALT_RELEASE}"

_SALT_MASTER_CONFIGURATION = """\
# Configuration of the Salt master; files in master.d are read after this one.
default_include: master.d/*.conf
user: salt
"""

_SALT_MINION_CONFIGURATION = """\
# Configuration of the Salt minion; files in minion.d are read after this one.
default_include: minion.d/*.conf
"""

_MAKE_SALT_USER = """\
getent group salt >/dev/null || groupadd -r salt
getent passwd salt >/dev/null || useradd -r -g salt -d /opt/saltstack/salt -s /sbin/nologin -c Salt salt
exit 0
"""


def _salt_unit(role: str, *, open_files: int, kill_mode: str) -> str:
    return (
        f"[Unit]\nDescription=Salt {role}\nDocumentation=https://docs.saltproject.io\nAfter=network.target\n\n"
        f"[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/bin/salt-{role}\nLimitNOFILE={open_files}\n"
        f"KillMode={kill_mode}\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def _salt_links(*programs: str) -> tuple[Link, ...]:
    return tuple(Link(path=f"/usr/bin/{name}", target=f"{onedir.ONEDIR}/{name}") for name in programs)


def salt() -> Source:
    """Return Salt's packages; names the tree that they install, without making it."""
    tree = Tree(source_dir=onedir.tree_dir(), path=onedir.ONEDIR)
    return Source(
        name="salt",
        signer="salt",
        packages=(
            Rpm(
                name="salt",
                version=onedir.VERSION,
                release=_SALT_RELEASE,
                summary="Salt and the Python it runs on",
                requires=(
                    "/bin/sh",
                    "/usr/sbin/groupadd",
                    "/usr/sbin/useradd",
                    "/usr/sbin/usermod",
                    "dmidecode",
                    "openssl",
                    "pciutils",
                    "which",
                ),
                scripts=(("pre", _MAKE_SALT_USER),),
                contents=(
                    tree,
                    Directory(path="/etc/salt"),
                    Directory(path="/etc/salt/pki"),
                    Directory(path="/var/cache/salt"),
                    Directory(path="/var/log/salt"),
                ),
            ),
            Rpm(
                name="salt-master",
                version=onedir.VERSION,
                release=_SALT_RELEASE,
                summary="Salt's server",
                requires=("/bin/sh", _SAME_SALT, "systemd"),
                scripts=_RELOADS,
                contents=(
                    *_salt_links("salt", "salt-cp", "salt-key", "salt-master", "salt-run"),
                    Text(path=f"{UNIT_DIR}/salt-master.service",
                         text=_salt_unit("master", open_files=100_000, kill_mode="control-group")),
                    Text(path="/etc/salt/master", text=_SALT_MASTER_CONFIGURATION, mode=0o640, config=True),
                    Directory(path="/etc/salt/master.d"),
                    Directory(path="/etc/salt/pki/master", mode=0o700, owner="salt", group="salt"),
                    Directory(path="/var/cache/salt/master", mode=0o750, owner="salt", group="salt"),
                ),
            ),
            Rpm(
                name="salt-minion",
                version=onedir.VERSION,
                release=_SALT_RELEASE,
                summary="Salt's agent",
                requires=("/bin/sh", _SAME_SALT, "systemd"),
                scripts=_RELOADS,
                contents=(
                    *_salt_links("salt-call", "salt-minion"),
                    Text(path=f"{UNIT_DIR}/salt-minion.service",
                         text=_salt_unit("minion", open_files=8192, kill_mode="process")),
                    Text(path="/etc/salt/minion", text=_SALT_MINION_CONFIGURATION, mode=0o640, config=True),
                    Directory(path="/etc/salt/minion.d"),
                    Directory(path="/etc/salt/pki/minion", mode=0o700),
                    Directory(path="/var/cache/salt/minion", mode=0o750),
                ),
            ),
            Rpm(
                name="salt-ssh",
                version=onedir.VERSION,
                release=_SALT_RELEASE,
                summary="Salt over SSH, without an agent",
                requires=(_SAME_SALT,),
                contents=_salt_links("salt-ssh"),
            ),
        ),
    )  # fmt: skip
