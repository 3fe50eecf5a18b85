# SPDX-License-Identifier: Apache-2.0
"""The checks of a host. Codes are stable: 1xx machine, 2xx network, 3xx disks, 4xx what is on it."""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from installer.facts import NODE_NAME, POD_INTERFACES, read_nameservers
from installer.host import Host, Port
from installer.mounts import find_mount, parse_mountinfo
from installer.preflight import Check, Finding, Severity, SkippedError
from installer.ui import format_bytes

OS_IDS = frozenset({"almalinux", "rhel", "rocky", "centos", "ol"})
OS_MAJOR = "9"
# Source: x86-64 psABI, micro-architecture levels; names as in /proc/cpuinfo.
X86_64_V2_FLAGS = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})
MINIMUM_CPUS = 2
MINIMUM_MEMORY_BYTES = 1700 * 1024**2
"""What kubeadm asks of a control plane. Source: kubeadm constants.go, ControlPlaneMem."""
RECOMMENDED_MEMORY_BYTES = 4 * 1024**3
MINIMUM_DISK_BYTES = 6 * 1024**3
IMAGE_GROWTH = 3
"""Compressed layer + its unpacked files, with some room: what containerd needs for each byte on the media."""
MINIMUM_DISK_OURS_BYTES = 1024**3
MINIMUM_INODES = 100_000
DATA_DIRS = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd")
LASTING_DIRS = (*DATA_DIRS, "/opt/caisson", "/usr/bin", "/etc", "/var/log")
CLOCK_TOLERANCE_S = 86_400.0
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
MODULES: Mapping[str, str] = {
    "overlay": "CONFIG_OVERLAY_FS",
    "br_netfilter": "CONFIG_BRIDGE_NETFILTER",
    "nf_conntrack": "CONFIG_NF_CONNTRACK",
    "nf_tables": "CONFIG_NF_TABLES",
    "vxlan": "CONFIG_VXLAN",
    "ip_set": "CONFIG_IP_SET",
}
TOOLS = ("dnf", "rpm", "systemctl", "ip", "mount", "modprobe")
SEARCH_DIRS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
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
OWN_SERVICES = ("kubelet", "containerd")
LEFTOVERS = (
    "/etc/kubernetes/*.conf",
    "/etc/kubernetes/manifests/*",
    "/etc/kubernetes/pki/*",
    "/var/lib/etcd/member",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/pki/*",
    "/etc/cni/net.d/*",
)
OWN_PROCESSES = frozenset({"kubelet", "containerd"})


# ---- 1xx: the machine ------------------------------------------------------------------------------------


def is_root(host: Host) -> Iterator[Finding]:
    """CSN101."""
    if host.user_id != 0:
        yield Finding(f"user id {host.user_id}")


def has_supported_os(host: Host) -> Iterator[Finding]:
    """CSN102."""
    release = parse_os_release(host.read("/etc/os-release") or "")
    name, version = release.get("ID", "unknown"), release.get("VERSION_ID", "unknown")
    if name not in OS_IDS or version.split(".")[0] != OS_MAJOR:
        yield Finding(f"{release.get('PRETTY_NAME', name)} (ID={name}, VERSION_ID={version})")


def has_supported_architecture(host: Host) -> Iterator[Finding]:
    """CSN103."""
    if host.machine != "x86_64":
        yield Finding(f"the machine is {host.machine}")


def has_cpu_features(host: Host) -> Iterator[Finding]:
    """CSN104."""
    match = re.search(r"^flags\s*:\s*(.+)$", host.read("/proc/cpuinfo") or "", re.MULTILINE)
    if match is None:
        yield Finding("/proc/cpuinfo has no flags", severity=Severity.WARNING)
        return
    missing = X86_64_V2_FLAGS - set(match.group(1).split())
    if missing:
        yield Finding(f"missing: {', '.join(sorted(missing))}")


def has_cpus(host: Host) -> Iterator[Finding]:
    """CSN105."""
    if host.cpu_count < MINIMUM_CPUS:
        yield Finding(f"{host.cpu_count} CPU, at least {MINIMUM_CPUS} needed")


def has_memory(host: Host) -> Iterator[Finding]:
    """CSN106."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", host.read("/proc/meminfo") or "", re.MULTILINE)
    if match is None:
        yield Finding("/proc/meminfo has no MemTotal", severity=Severity.WARNING)
        return
    memory_bytes = int(match.group(1)) * 1024
    if memory_bytes < MINIMUM_MEMORY_BYTES:
        yield Finding(f"{format_bytes(memory_bytes)}, at least {format_bytes(MINIMUM_MEMORY_BYTES)} needed")
    elif memory_bytes < RECOMMENDED_MEMORY_BYTES:
        yield Finding(
            f"{format_bytes(memory_bytes)}, {format_bytes(RECOMMENDED_MEMORY_BYTES)} recommended",
            severity=Severity.WARNING,
        )


def has_systemd(host: Host) -> Iterator[Finding]:
    """CSN107."""
    if not host.path("/run/systemd/system").is_dir():
        yield Finding("/run/systemd/system is not there")


def has_tools(host: Host) -> Iterator[Finding]:
    """CSN108."""
    for tool in TOOLS:
        if not any(host.path(f"{directory}/{tool}").exists() for directory in SEARCH_DIRS):
            yield Finding(f"there is no '{tool}'")


def has_no_swap(host: Host) -> Iterator[Finding]:
    """CSN109."""
    if host.config is not None and host.config.overrides.kubelet.get("failSwapOn") is False:
        return
    lines = (host.read("/proc/swaps") or "").splitlines()[1:]
    if lines:
        yield Finding(f"in use: {', '.join(line.split()[0] for line in lines if line.split())}")


def has_cgroup_v2(host: Host) -> Iterator[Finding]:
    """CSN110."""
    if host.path("/sys/fs/cgroup/cgroup.controllers").exists():
        return
    is_accepted = host.config is not None and host.config.overrides.kubelet.get("failCgroupV1") is False
    yield Finding(
        "/sys/fs/cgroup is version 1"
        + (", accepted by overrides.kubelet.failCgroupV1" if is_accepted else ""),
        severity=Severity.WARNING if is_accepted else None,
    )


def has_cgroup_controllers(host: Host) -> Iterator[Finding]:
    """CSN111."""
    unified = host.read("/sys/fs/cgroup/cgroup.controllers")
    if unified is not None:
        present = set(unified.split())
    else:
        rows = [line.split() for line in (host.read("/proc/cgroups") or "").splitlines()]
        present = {row[0] for row in rows if len(row) == 4 and row[3] == "1"}
    missing = [name for name in CONTROLLERS if name not in present]
    if missing:
        yield Finding(f"missing: {', '.join(missing)}")


def has_kernel_modules(host: Host) -> Iterator[Finding]:
    """CSN112."""
    built_in = _built_in_modules(host)
    options = _kernel_options(host)
    for name, option in MODULES.items():
        if host.path(f"/sys/module/{name}").exists() or name in built_in or option in options:
            continue
        dry = host.run(["modprobe", "--dry-run", name])
        if dry.returncode != 0:
            said = (dry.stderr or dry.stdout).strip().splitlines()
            yield Finding(f"{name}: {said[-1] if said else 'modprobe cannot load it'}")


def _built_in_modules(host: Host) -> frozenset[str]:
    release = (host.read("/proc/sys/kernel/osrelease") or "").strip()
    text = host.read(f"/lib/modules/{release}/modules.builtin") or ""
    return frozenset(Path(line).name.split(".")[0].replace("-", "_") for line in text.split())


def _kernel_options(host: Host) -> frozenset[str]:
    """Return the options that are built in (=y), from /proc/config.gz where the kernel has it."""
    try:
        text = gzip.decompress(host.path("/proc/config.gz").read_bytes()).decode("utf-8", errors="replace")
    except (OSError, EOFError):
        return frozenset()
    return frozenset(line[:-2] for line in text.splitlines() if line.endswith("=y"))


def has_host_name(host: Host) -> Iterator[Finding]:
    """CSN113."""
    name = host.facts.node_name if host.facts is not None else host.name
    if not NODE_NAME.match(name) or len(name) > 63:
        yield Finding(f"'{name}' cannot be a node's name")
    elif name.split(".")[0] in ("localhost", "localhost4", "localhost6"):
        yield Finding(f"'{name}' is every host's name")


def has_resolvable_name(host: Host) -> Iterator[Finding]:
    """CSN114."""
    name = host.facts.node_name if host.facts is not None else host.name
    for line in (host.read("/etc/hosts") or "").splitlines():
        words = line.split("#")[0].split()
        if name in words[1:]:
            if words[0].startswith("127.") or words[0] == "::1":
                yield Finding(f"/etc/hosts says that '{name}' is {words[0]}")
            return
    services = re.search(r"^hosts:(.*)$", host.read("/etc/nsswitch.conf") or "", re.MULTILINE)
    if services is None or "myhostname" not in services.group(1).split():
        yield Finding(f"'{name}' is not in /etc/hosts")


def has_machine_id(host: Host) -> Iterator[Finding]:
    """CSN115."""
    text = (host.read("/etc/machine-id") or "").strip()
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        yield Finding(f"/etc/machine-id holds {text!r}")


def has_sane_clock(host: Host) -> Iterator[Finding]:
    """CSN116."""
    if host.product is None:
        raise SkippedError("the media's date is not known")
    late_s = host.product.source_date_epoch - host.now
    if late_s > CLOCK_TOLERANCE_S:
        yield Finding(f"the clock is {late_s / 86_400:.0f} days before the date of the media")


def parse_os_release(text: str) -> dict[str, str]:
    r"""Parse os-release.

    >>> parse_os_release('ID="almalinux"\nVERSION_ID=9.8')
    {'ID': 'almalinux', 'VERSION_ID': '9.8'}
    """
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


# ---- 2xx: its network ------------------------------------------------------------------------------------


def has_free_ports(host: Host) -> Iterator[Finding]:
    """CSN201."""
    listeners = list(_listeners(host))
    owners: dict[str, int] | None = None
    for port in host.ports:
        for protocol, address, number, inode in listeners:
            if protocol != port.protocol or number != port.port or not _collides(port, address, host):
                continue
            if owners is None:
                owners = _socket_owners(host)
            holder = owners.get(inode)
            if not (host.is_ours and _is_own(host, holder)):
                where = f"{port.protocol} {address}:{port.port}"
                yield Finding(f"{where} (for {port.name}) is held by {_describe(host, holder)}")
                break


def _listeners(host: Host) -> Iterator[tuple[str, str, int, str]]:
    """Yield protocol, address, port and inode of each listening socket. Source: proc(5), /proc/net/tcp."""
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in (host.read(f"/proc/net/{table}") or "").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == state:
                raw, _, number = words[1].partition(":")
                yield table[:3], _parse_address(raw), int(number, 16), words[9]


def _parse_address(raw: str) -> str:
    """Turn the kernel's hexadecimal address (words in host order) into the usual text.

    >>> _parse_address("0100007F"), _parse_address("0" * 32)
    ('127.0.0.1', '::')
    """
    words = [bytes.fromhex(raw[index : index + 8])[::-1] for index in range(0, len(raw), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _collides(port: Port, address: str, host: Host) -> bool:
    """Say whether a listener on ``address`` is in the way of ``port``."""
    if address in ("0.0.0.0", "::") or port.bind == "any":  # noqa: S104  compared with, not bound to
        return True
    if port.bind == "loopback":
        return address in ("127.0.0.1", "::1")
    if host.facts is None:
        return not address.startswith("127.")
    return address in (host.facts.control_plane_address, host.facts.workload_plane_address)


def _socket_owners(host: Host) -> dict[str, int]:
    """Return inode of a socket -> process id, for all processes that may be seen."""
    owners: dict[str, int] = {}
    for process in host.path("/proc").glob("[0-9]*"):
        try:
            links = [str(entry.readlink()) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
        for link in links:
            if link.startswith("socket:["):
                owners.setdefault(link[8:-1], int(process.name))
    return owners


def _is_own(host: Host, process_id: int | None) -> bool:
    """Say whether a process is of the cluster: in a pod, one of the two services, the kernel (VXLAN)."""
    if process_id is None:
        return True
    name = (host.read(f"/proc/{process_id}/comm") or "").strip()
    return name in OWN_PROCESSES or "kubepods" in (host.read(f"/proc/{process_id}/cgroup") or "")


def _describe(host: Host, process_id: int | None) -> str:
    if process_id is None:
        return "the kernel or an unknown process"
    return f"process {process_id} ({(host.read(f'/proc/{process_id}/comm') or 'unknown').strip()})"


def has_default_route(host: Host) -> Iterator[Finding]:
    """CSN202."""
    if not any(route.get("dst") == "default" for route in _routes(host)):
        yield Finding("'ip route' shows no default route")


def has_free_networks(host: Host) -> Iterator[Finding]:
    """CSN203."""
    if host.config is None:
        raise SkippedError("no configuration was given")
    networks = {"pods": host.config.networks.pods_cidr, "services": host.config.networks.services_cidr}
    for route in _routes(host):
        destination = str(route.get("dst", ""))
        is_of_pods = POD_INTERFACES.match(str(route.get("dev", ""))) or route.get("type") == "blackhole"
        if destination == "default" or (host.is_ours and is_of_pods):
            continue
        try:
            routed = ipaddress.IPv4Network(destination)
        except ValueError:
            continue
        for name, network in networks.items():
            if routed.overlaps(network):
                yield Finding(
                    f"networks.{name}.cidr {network} overlaps the route to {routed} ({route.get('dev')})"
                )


def _routes(host: Host) -> list[dict[str, Any]]:
    answer = host.run(["ip", "-json", "-4", "route", "show"])
    routes = json.loads(answer.stdout or "[]")
    return [route for route in routes if isinstance(route, dict)]


def has_usable_nameservers(host: Host) -> Iterator[Finding]:
    """CSN204."""
    for server in read_nameservers(host.path("/etc/resolv.conf")):
        if server.startswith("127.") or server == "::1":
            yield Finding(f"nameserver {server}")


# ---- 3xx: its disks --------------------------------------------------------------------------------------


def has_disk_space(host: Host) -> Iterator[Finding]:
    """CSN301."""
    needed_bytes = MINIMUM_DISK_BYTES
    if host.product is not None:
        images_bytes = sum(image.size_bytes for image in host.product.images.values())
        needed_bytes = max(needed_bytes, images_bytes * IMAGE_GROWTH + 2 * 1024**3)
    if host.is_ours:
        needed_bytes = MINIMUM_DISK_OURS_BYTES
    for directories, device in _by_file_system(host, DATA_DIRS).items():
        free_bytes = device.f_bavail * device.f_frsize
        if free_bytes < needed_bytes:
            shown = f"{format_bytes(free_bytes)} free for {', '.join(directories)}"
            yield Finding(f"{shown}; {format_bytes(needed_bytes)} needed")


def has_inodes(host: Host) -> Iterator[Finding]:
    """CSN302."""
    for directories, device in _by_file_system(host, DATA_DIRS).items():
        if device.f_files and device.f_favail < MINIMUM_INODES:
            yield Finding(f"{device.f_favail} free for {', '.join(directories)}; {MINIMUM_INODES} needed")


def _by_file_system(host: Host, directories: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    """Group directories (or what exists above them) by the file system that they are on."""
    groups: dict[int, tuple[list[str], Any]] = {}
    for directory in directories:
        existing = host.path(directory)
        while not existing.exists():
            existing = existing.parent
        names, _ = groups.setdefault(existing.stat().st_dev, ([], host.statvfs(existing)))
        names.append(directory)
    return {tuple(names): status for names, status in groups.values()}


def has_usable_mounts(host: Host) -> Iterator[Finding]:
    """CSN303."""
    text = host.read("/proc/self/mountinfo") or ""
    mounts = parse_mountinfo(text)
    for directory in LASTING_DIRS:
        mount = find_mount(Path(directory), mounts)
        if mount is None:
            continue
        bad = {"ro", "noexec", "nodev"} if directory in DATA_DIRS else {"ro"}
        options = bad.intersection(mount.options)
        if options:
            yield Finding(f"{directory}: {mount.mount_point} is mounted {', '.join(sorted(options))}")


# ---- 4xx: what is on it ----------------------------------------------------------------------------------


def has_no_conflicting_packages(host: Host) -> Iterator[Finding]:
    """CSN401."""
    answer = host.run(["rpm", "-q", "--qf", "found %{NAME}\\n", *CONFLICTING_PACKAGES])
    words = (line.split() for line in answer.stdout.splitlines())
    for name in dict.fromkeys(line[1] for line in words if len(line) == 2 and line[0] == "found"):
        if name in CONFLICTING_PACKAGES:
            yield Finding(f"{name} {CONFLICTING_PACKAGES[name]}", fix=f"dnf remove {name}")


def has_no_conflicting_services(host: Host) -> Iterator[Finding]:
    """CSN402."""
    names = [*CONFLICTING_SERVICES, *(() if host.is_ours else OWN_SERVICES)]
    states = host.run(["systemctl", "is-active", *(f"{name}.service" for name in names)]).stdout.split()
    for name, state in zip(names, states):
        if state in ("active", "activating", "reloading"):
            yield Finding(f"{name}.service is {state}", fix=f"systemctl disable --now {name}.service")


def has_no_other_cluster(host: Host) -> Iterator[Finding]:
    """CSN403."""
    if host.is_ours:
        return
    for pattern in LEFTOVERS:
        found = sorted(host.root.glob(pattern.lstrip("/")))
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            yield Finding(f"/{found[0].relative_to(host.root)}{more}")


def has_no_other_salt(host: Host) -> Iterator[Finding]:
    """CSN404."""
    for file in sorted(host.path("/etc/salt/minion.d").glob("*.conf")) if not host.is_ours else ():
        match = re.search(
            r"^master:\s*(\S.*)$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            yield Finding(f"/etc/salt/minion.d/{file.name} names another master: {match.group(1)}")


def has_firewalld(host: Host) -> Iterator[Finding]:
    """CSN405."""
    state = host.run(["systemctl", "is-active", "firewalld.service"]).stdout.strip()
    if state != "active":
        yield Finding(f"firewalld.service is {state or 'not there'}")


CHECKS: tuple[Check, ...] = (
    Check("CSN101", Severity.ERROR, "runs as root", is_root, "run it with sudo"),
    Check(
        "CSN102",
        Severity.ERROR,
        "the operating system is supported",
        has_supported_os,
        "install on RHEL, AlmaLinux, Rocky Linux, CentOS Stream or Oracle Linux 9",
    ),
    Check(
        "CSN103",
        Severity.ERROR,
        "the architecture is x86_64",
        has_supported_architecture,
        "use an x86_64 machine",
    ),
    Check(
        "CSN104",
        Severity.ERROR,
        "the CPU is x86-64-v2",
        has_cpu_features,
        "in a virtual machine choose a newer CPU model (host-passthrough)",
    ),
    Check("CSN105", Severity.ERROR, "there are CPUs enough", has_cpus, "give the machine more CPUs"),
    Check("CSN106", Severity.ERROR, "there is memory enough", has_memory, "give the machine more memory"),
    Check(
        "CSN107",
        Severity.ERROR,
        "systemd runs the host",
        has_systemd,
        "use a host that was booted with systemd",
    ),
    Check("CSN108", Severity.ERROR, "the tools are there", has_tools, "install the package that holds it"),
    Check(
        "CSN109",
        Severity.WARNING,
        "swap is off",
        has_no_swap,
        "the bootstrap turns it off for good; to keep it set overrides.kubelet.failSwapOn: false",
    ),
    Check(
        "CSN110",
        Severity.ERROR,
        "control groups are version 2",
        has_cgroup_v2,
        "boot with systemd.unified_cgroup_hierarchy=1",
    ),
    Check(
        "CSN111",
        Severity.ERROR,
        "the control group controllers are there",
        has_cgroup_controllers,
        "remove cgroup_disable= from the kernel's command line",
    ),
    Check(
        "CSN112",
        Severity.ERROR,
        "the kernel modules are there",
        has_kernel_modules,
        "install kernel-modules of the running kernel",
    ),
    Check(
        "CSN113",
        Severity.ERROR,
        "the node has a usable name",
        has_host_name,
        "hostnamectl set-hostname NAME, or node.name in the configuration",
    ),
    Check(
        "CSN114",
        Severity.WARNING,
        "the node's name resolves without DNS",
        has_resolvable_name,
        "add the control-plane address and the name to /etc/hosts",
    ),
    Check("CSN115", Severity.ERROR, "the machine has an id", has_machine_id, "systemd-machine-id-setup"),
    Check(
        "CSN116",
        Severity.ERROR,
        "the clock is sane",
        has_sane_clock,
        "set it (timedatectl set-time), and the hardware clock: certificates would not be valid yet",
    ),
    Check(
        "CSN201",
        Severity.ERROR,
        "the ports are free",
        has_free_ports,
        "stop the process, or move it to another port",
    ),
    Check(
        "CSN202",
        Severity.ERROR,
        "there is a default route",
        has_default_route,
        "add one, to any gateway, even one that answers nobody: services need it (ip route add default ..)",
    ),
    Check(
        "CSN203",
        Severity.ERROR,
        "pods and services have networks of their own",
        has_free_networks,
        "choose another network in the configuration, or remove the route",
    ),
    Check(
        "CSN204",
        Severity.WARNING,
        "the nameservers can be reached by pods",
        has_usable_nameservers,
        "write the real nameserver into /etc/resolv.conf; a loopback one is not given to CoreDNS",
    ),
    Check(
        "CSN301",
        Severity.ERROR,
        "there is disk space enough",
        has_disk_space,
        "make room, or mount a larger disk there",
    ),
    Check(
        "CSN302",
        Severity.ERROR,
        "there are inodes enough",
        has_inodes,
        "make the file system anew with more inodes",
    ),
    Check(
        "CSN303",
        Severity.ERROR,
        "the file systems can be used",
        has_usable_mounts,
        "mount it with rw,exec,dev",
    ),
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
        "the bootstrap makes this minion its own: remove the file first if it must stay another's",
    ),
    Check(
        "CSN405",
        Severity.WARNING,
        "firewalld runs",
        has_firewalld,
        "systemctl enable --now firewalld; without it the ports of the cluster are open to every network",
    ),
)
