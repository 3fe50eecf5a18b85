# SPDX-License-Identifier: Apache-2.0
"""What is on the host already. Codes CSN4xx."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence

from installer.base.paths import Paths
from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity
from installer.config import leaf, x509
from installer.config.facts import POD_INTERFACES
from installer.media import dnf

CERTIFICATE_DAYS = 60
CONFLICTING_PACKAGES: Mapping[str, str] = {
    "docker-ce": "brings a container runtime of its own",
    "docker": "brings a container runtime of its own",
    "moby-engine": "brings a container runtime of its own",
    "podman-docker": "takes the place of docker's command",
    "containerd": "is another build of containerd",
    "runc": "conflicts with containerd.io, which brings its own",
    "cri-o": "is another container runtime",
    "k3s": "is another Kubernetes",
    "rke2-server": "is another Kubernetes",
    "rke2-agent": "is another Kubernetes",
}
CONFLICTING_SERVICES = (
    "docker",
    "crio",
    "k3s",
    "k3s-agent",
    "rke2-server",
    "rke2-agent",
    "k0scontroller",
    "k0sworker",
    "iptables",
    "ip6tables",
    "nftables",
    "ufw",
    "etcd",
)
CLOUD_UNITS = ("nm-cloud-setup.timer", "nm-cloud-setup.service")
"""They write rules of routing for each address of a cloud's interface, and with these pods are not reached."""
INSTALL_FIREWALLD = (
    "without it the ports of the cluster are open to every network; to have it, when the bootstrap has ended: "
    f"HOME={Paths().dnf_dir} {' '.join(dnf.dnf_arguments(Paths(), 'install', 'firewalld'))} "
    "&& systemctl enable --now firewalld, then run the bootstrap again"
)
SHOWN_NAMES = 3
LEFT_CHAINS = "(?:KUBE-|cali-|kube-proxy|CILIUM_|OLD_CILIUM_|WEAVE|FLANNEL-|flannel|ANTREA-|OVN-KUBE-|CNI-)"
LEFT_INTERFACES = re.compile(
    r"^(?:cilium_(?:host|net|vxlan|geneve)|lxc[0-9a-f]+|lxc_health|weave|vethwe-.*|datapath"
    r"|flannel-(?:v6\.\d+|wg|wg-v6)|wireguard\.cali|wg-v6\.cali|antrea-gw\d+|ovn-k8s-mp\d+"
    r"|kube-bridge|kube-dummy-if|nodelocaldns)$"
)
"""What the removal of other networks leaves until the next boot: Cilium, Weave, flannel, Calico's WireGuard, Antrea,
OVN-Kubernetes, kube-router, NodeLocal DNSCache."""
RUNNING_DIRS = (
    "/opt/caisson/",
    "/opt/cni/",
    "/run/containerd/",
    "/srv/caisson/",
    "/var/cache/salt/",
    "/var/lib/containerd/",
    "/var/lib/kubelet/",
)
"""Where programs and modules are that no package on the host owns: images, volumes, what Calico's pod installs."""
RULES_FILE = "/etc/fapolicyd/rules.d/39-caisson.rules"
"""Before the rules that deny (40 to 90), after the one against the dynamic linker (30). Source: fapolicyd 1.3."""
ALLOWING_RULE = re.compile(
    r"^[ \t]*allow[ \t]+perm=any[ \t]+all[ \t]*:[ \t]*dir=(/\S*/)[ \t]*$", re.MULTILINE
)
DNF_FILE = "/etc/dnf/dnf.conf"
LOCKS_FILE = "/etc/dnf/plugins/versionlock.list"
EXCLUDES = re.compile(r"^(?:exclude|excludepkgs|excludes)\s*=[ \t]*(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
"""An option of dnf.conf with its continuation lines. Source: dnf.conf(5)."""
VERSIONED_PACKAGES = (
    "kubelet",
    "kubeadm",
    "kubectl",
    "kubernetes-cni",
    "cri-tools",
    "containerd.io",
    "salt",
    "salt-minion",
    "salt-master",
)
OWN_SERVICES = ("kubelet", "containerd")
LEFTOVERS = (
    "/etc/kubernetes/*.conf",
    "/etc/kubernetes/manifests/*",
    "/etc/kubernetes/pki/*",
    "/var/lib/etcd/*",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/pki/*",
    "/etc/cni/net.d/*",
)
LEFT_SETTINGS = (
    "/etc/sysconfig/kubelet",
    "/etc/default/kubelet",
    *(
        f"{directory}/{unit}.service.d/*.conf"
        for directory in ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
        for unit in ("kubelet", "containerd")
    ),
)
COMMANDING = re.compile(
    r"^\s*(?:ExecStart\s*=|(?:Environment\s*=.*)?\bKUBELET_\w+=[\"']?[^\s\"'])", re.MULTILINE
)
"""What changes how a unit is started; a drop-in with a proxy alone is the business of CSN122."""


def has_no_conflicting_packages(host: Host) -> Iterator[Finding]:
    """Look for packages that bring, hide or replace parts that the media installs."""
    answer = host.run(["rpm", "-q", "--qf", "found %{NAME}\\n", *CONFLICTING_PACKAGES])
    words = (line.split() for line in answer.stdout.splitlines())
    for name in dict.fromkeys(line[1] for line in words if len(line) == 2 and line[0] == "found"):
        if name in CONFLICTING_PACKAGES:
            yield Finding(f"{name} {CONFLICTING_PACKAGES[name]}", fix=f"dnf remove {name}")


def has_no_conflicting_services(host: Host) -> Iterator[Finding]:
    """Look for services that manage the same containers, ports or packet filters."""
    names = [*CONFLICTING_SERVICES, *(() if host.is_ours else OWN_SERVICES)]
    states = host.run(["systemctl", "is-active", *(f"{name}.service" for name in names)]).stdout.split()
    for name, state in zip(names, states):
        if state in ("active", "activating", "reloading"):
            yield Finding(f"{name}.service is {state}", fix=f"systemctl disable --now {name}.service")
    # It runs for a second every few minutes, and is never found active; what counts is whether it will run again.
    for unit in CLOUD_UNITS:
        if host.run(["systemctl", "is-enabled", unit]).stdout.strip() == "enabled":
            yield Finding(f"{unit} is enabled", fix=f"systemctl disable --now {' '.join(CLOUD_UNITS)}")


def has_no_other_cluster(host: Host) -> Iterator[Finding]:
    """Look for files of another Kubernetes: kubeadm refuses them, or worse, takes them for its own.

    So does systemd with drop-ins of units that the media will bring: a flag in one wins over Caisson's. A control plane
    of the configured cluster, by the same version of kubeadm, is left alone.
    """
    for line in host.other_origin or ():
        yield Finding(f"a control plane of another origin: {line}")
    if host.is_ours or host.other_origin:
        return
    for pattern in LEFTOVERS:
        # A disk of its own has a lost+found, which is nobody's.
        found = sorted(file for file in host.root.glob(pattern.lstrip("/")) if file.name != "lost+found")
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            yield Finding(f"/{found[0].relative_to(host.root)}{more}")
    for pattern in LEFT_SETTINGS:
        for file in sorted(host.root.glob(pattern.lstrip("/"))):
            if COMMANDING.search(host.read(f"/{file.relative_to(host.root)}") or ""):
                yield Finding(f"/{file.relative_to(host.root)} changes how the unit is started")


def has_no_other_salt(host: Host) -> Iterator[Finding]:
    """Look for a Salt master that this host already obeys: it would undo what the bootstrap does."""
    files = [host.path("/etc/salt/minion"), *sorted(host.path("/etc/salt/minion.d").glob("*.conf"))]
    for file in [file for file in files if file.is_file()] if not host.is_ours else []:
        match = re.search(
            r"^master:\s*(\S.*)$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            yield Finding(f"/{file.relative_to(host.root)} names another master: {match.group(1)}")


def has_firewalld(host: Host) -> Iterator[Finding]:
    """Look for firewalld, to which the cluster's ports are given with the networks that may connect.

    A host that came without it stays without it, unless its administrator installs it: the media has it. From
    the end of the bootstrap on, Caisson's own dnf configuration installs it without any other repository.
    """
    state = host.run(["systemctl", "is-active", "firewalld.service"]).stdout.strip()
    if state == "active":
        return
    if host.run(["rpm", "-q", "firewalld"]).returncode == 0:
        yield Finding(f"firewalld.service is {state or 'not there'}")
    else:
        yield Finding("firewalld is not installed", fix=INSTALL_FIREWALLD)


def has_no_packet_leftovers(host: Host) -> Iterator[Finding]:
    """Look for chains and interfaces of another cluster: they outlive its packages, until the next boot.

    A KUBE-FORWARD of an old kube-proxy drops the packets of the new cluster.
    """
    if host.is_ours:
        return
    chains = host.run(["nft", "list", "chains"]).stdout
    found = sorted(set(re.findall(rf"\b(?:chain|table ip6?|table inet) ({LEFT_CHAINS}\S*)", chains)))
    if found:
        yield Finding(f"chains of packet filters: {_shorten(found)}", fix="reboot")
    links = json.loads(host.run(["ip", "-json", "link", "show"]).stdout or "[]")
    names = [str(link.get("ifname", "")) for link in links if isinstance(link, dict)]
    interfaces = [name for name in names if POD_INTERFACES.match(name) or LEFT_INTERFACES.match(name)]
    if interfaces:
        yield Finding(f"interfaces: {_shorten(interfaces)}")


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def has_suitable_selinux(host: Host) -> Iterator[Finding]:
    """Look at SELinux: in enforcing mode containers need the policy that container-selinux adds to 'targeted'.

    A mode in /etc/selinux/config other than the running one changes everything at the next boot. Enforcing confines the
    host's programs; containers run unconfined (spc_t), as containerd does unless a site sets enable_selinux.
    """
    text = host.read("/etc/selinux/config") or ""
    written = dict(re.findall(r"^(SELINUX|SELINUXTYPE)=(\w+)", text, re.MULTILINE))
    enforce = (host.read("/sys/fs/selinux/enforce") or "").strip()
    running = {"1": "enforcing", "0": "permissive"}.get(enforce, "disabled")
    policy = written.get("SELINUXTYPE", "targeted")
    if running == "enforcing" and policy != "targeted":
        yield Finding(f"SELinux is enforcing with the policy '{policy}'", severity=Severity.ERROR)
    later = written.get("SELINUX", running)
    said = re.findall(r"(?:^|\s)(selinux|enforcing)=(\d)(?=\s|$)", host.read("/proc/cmdline") or "")
    if ("selinux", "0") in said:
        # RHEL 9's way to turn it off: the file says nothing as long as the boot loader says so.
        return
    if ("enforcing", "0") in said and later == "enforcing":
        later = "permissive"
    if later != running:
        yield Finding(f"SELinux is {running}, from the next boot on it will be {later}")


def is_allowed_by_fapolicyd(host: Host) -> Iterator[Finding]:
    """Look whether fapolicyd, where it runs, lets programs of containers run: they are of no package that it trusts.

    Its rules are read as its own tool puts them together: all of /etc/fapolicyd/rules.d. What packages of the media
    bring is trusted as any package is. In permissive mode it only writes down what it would stop.
    """
    if host.run(["systemctl", "is-active", "fapolicyd.service"]).stdout.strip() != "active":
        return
    rules = "\n".join(
        host.read(f"/etc/fapolicyd/rules.d/{file.name}") or ""
        for file in sorted(host.path("/etc/fapolicyd/rules.d").glob("*.rules"))
    )
    allowed = [match.group(1) for match in ALLOWING_RULE.finditer(rules)]
    # A directory in a rule stands for all below it.
    missing = [name for name in RUNNING_DIRS if not any(name.startswith(rule) for rule in allowed)]
    if not missing:
        return
    settings = dict(
        re.findall(r"^(\w+)\s*=\s*(\w+)", host.read("/etc/fapolicyd/fapolicyd.conf") or "", re.MULTILINE)
    )
    lines = "".join(f"allow perm=any all : dir={name}\\n" for name in RUNNING_DIRS)
    yield Finding(
        f"fapolicyd.service is active, and no rule allows {_shorten(missing)}",
        fix=f"printf '{lines}' > {RULES_FILE} && fagenrules --load && systemctl restart fapolicyd",
        severity=Severity.WARNING if settings.get("permissive") == "1" else None,
    )


def has_no_locks_on_packages(host: Host) -> Iterator[Finding]:
    """Look for the host's own excludes and version locks on packages of the media.

    They are not applied: Caisson's dnf reads none of the host's settings. They stay, and a later 'dnf upgrade'
    obeys them.
    """
    names = sorted(host.product.packages) if host.product is not None else []
    for match in re.finditer(EXCLUDES, host.read(DNF_FILE) or ""):
        for pattern in re.split(r"[\s,]+", match.group(1).strip()):
            held = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
            if pattern and held:
                yield Finding(f"{DNF_FILE} excludes '{pattern}': not applied to {_shorten(held)}")
    for line in (host.read(LOCKS_FILE) or "").splitlines():
        pattern = line.strip().lstrip("!")
        held = [name for name in names if re.match(re.escape(name) + r"-(\d+:)?[\d*]", pattern)]
        if held:
            yield Finding(f"{LOCKS_FILE} locks '{pattern}': not applied to {_shorten(held)}")


def has_no_other_versions(host: Host) -> Iterator[Finding]:
    """Compare the versions of Kubernetes, containerd and Salt that are installed with those of the media.

    dnf keeps a newer one, and a node of another version is not what was tested.
    """
    if (host.is_ours and not host.is_left_alone) or host.product is None:
        return
    answer = host.run(["rpm", "-q", "--qf", "found %{NAME} %{VERSION}-%{RELEASE}\\n", *VERSIONED_PACKAGES])
    for name, version in re.findall(r"^found (\S+) (\S+)$", answer.stdout, re.MULTILINE):
        offered = host.product.packages.get(name, version).split(":")[-1]
        if version != offered:
            yield Finding(f"{name} {version} is installed, the media has {offered}", fix=f"dnf remove {name}")


def has_a_lasting_certificate(host: Host) -> Iterator[Finding]:
    """Look when the certificate ends with which nginx serves packages and images; a timer renews it 90 days before.

    Within the last 60 days something keeps it from being renewed, or the site has brought no newer one.
    """
    files = (Paths(host.root).media_certificate_file, host.path(leaf.INSTALLED_FILE))
    file = next((file for file in reversed(files) if file.is_file()), None)
    if file is None:
        return  # this host serves nothing
    try:
        ends = x509.parse(x509.read_der(file)).not_after
    except (OSError, ValueError) as exc:
        yield Finding(f"{file} cannot be read: {exc}")
        return
    days = int((ends - host.now) // 86_400)
    if days < CERTIFICATE_DAYS:
        day = time.strftime("%Y-%m-%d", time.gmtime(ends))
        yield Finding(f"{file} ended on {day}" if days < 0 else f"{file} ends in {days} days, on {day}")


SOFTWARE: tuple[Check, ...] = (
    Check("CSN401", Severity.ERROR, "no package conflicts", has_no_conflicting_packages, "remove it"),
    Check("CSN402", Severity.ERROR, "no service conflicts", has_no_conflicting_services, "disable it"),
    Check(
        "CSN403",
        Severity.ERROR,
        "no other cluster was here",
        has_no_other_cluster,
        "use a fresh host, or remove the other cluster with its own tool",
    ),
    Check(
        "CSN404",
        Severity.WARNING,
        "no other Salt master is set",
        has_no_other_salt,
        "nothing, if this minion may change its master: the bootstrap takes it over; else install on another host",
    ),
    Check(
        "CSN405",
        Severity.WARNING,
        "firewalld runs",
        has_firewalld,
        "systemctl enable --now firewalld; without it the ports of the cluster are open to every network",
    ),
    Check(
        "CSN406",
        Severity.ERROR,
        "no packet filter of another cluster is loaded",
        has_no_packet_leftovers,
        "reboot: they are not stored anywhere",
    ),
    Check(
        "CSN407",
        Severity.WARNING,
        "SELinux is in one suitable mode, also after a boot",
        has_suitable_selinux,
        "choose SELINUXTYPE=targeted and one mode in /etc/selinux/config, and reboot before the installation",
    ),
    Check(
        "CSN408",
        Severity.ERROR,
        "fapolicyd does not stop containers",
        is_allowed_by_fapolicyd,
        f"write rules for {', '.join(RUNNING_DIRS)} into {RULES_FILE}; the finding has the command",
    ),
    Check(
        "CSN409",
        Severity.WARNING,
        "no package of the media is locked",
        has_no_locks_on_packages,
        "nothing has to be done; remove it if later upgrades should not obey it either",
    ),
    Check(
        "CSN410",
        Severity.ERROR,
        "no other version is installed",
        has_no_other_versions,
        "remove it",
    ),
    Check(
        "CSN411",
        Severity.WARNING,
        "the certificate of the media server goes on to be good",
        has_a_lasting_certificate,
        "'caisson certificates renew' says why it was not renewed; a site's own comes from the files that "
        "media.certificate names",
    ),
)
