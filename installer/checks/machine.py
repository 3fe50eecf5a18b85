# SPDX-License-Identifier: Apache-2.0
"""The machine: CPU, memory, kernel, name, clock, and how it starts. Codes CSN1xx."""

from __future__ import annotations

import gzip
import ipaddress
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from installer.base.ui import format_bytes
from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity, SkippedError
from installer.config.facts import NODE_NAME

OS_IDS = frozenset({"almalinux", "rhel", "rocky", "centos", "ol"})
OS_MAJOR = "9"
# Source: x86-64 psABI, micro-architecture levels; names as in /proc/cpuinfo.
X86_64_V2_FLAGS = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})
MINIMUM_CPUS = 2
MINIMUM_MEMORY_BYTES = 1700 * 1024**2
"""What kubeadm asks of a control plane. Source: kubeadm constants.go, ControlPlaneMem."""
RECOMMENDED_MEMORY_BYTES = 4 * 1024**3
CLOCK_TOLERANCE_S = 86_400.0
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
MODULES: Mapping[str, str] = {
    "overlay": "CONFIG_OVERLAY_FS",
    "br_netfilter": "CONFIG_BRIDGE_NETFILTER",
    "nf_conntrack": "CONFIG_NF_CONNTRACK",
    "nf_tables": "CONFIG_NF_TABLES",
    "vxlan": "CONFIG_VXLAN",
    "ip_set": "CONFIG_IP_SET",
    "veth": "CONFIG_VETH",
    # kube-proxy in its nftables mode. Source: Kubernetes 1.36, pkg/proxy/nftables/proxier.go.
    "nf_conntrack_netlink": "CONFIG_NF_CT_NETLINK",
    "nft_ct": "CONFIG_NFT_CT",
    "nft_fib_ipv4": "CONFIG_NFT_FIB_IPV4",
    "nft_masq": "CONFIG_NFT_MASQ",
    "nft_nat": "CONFIG_NFT_NAT",
    "nft_numgen": "CONFIG_NFT_NUMGEN",
    "nft_reject_ipv4": "CONFIG_NFT_REJECT_IPV4",
    # Calico's felix, through iptables-nft. Source: Calico 3.31, felix/iptables and felix/ipsets.
    "ip_set_hash_ip": "CONFIG_IP_SET_HASH_IP",
    "ip_set_hash_ipport": "CONFIG_IP_SET_HASH_IPPORT",
    "ip_set_hash_net": "CONFIG_IP_SET_HASH_NET",
    "ipt_REJECT": "CONFIG_IP_NF_TARGET_REJECT",
    "ipt_rpfilter": "CONFIG_IP_NF_MATCH_RPFILTER",
    "nft_compat": "CONFIG_NFT_COMPAT",
    "xt_CT": "CONFIG_NETFILTER_XT_TARGET_CT",
    "xt_MASQUERADE": "CONFIG_NETFILTER_XT_TARGET_MASQUERADE",
    "xt_addrtype": "CONFIG_NETFILTER_XT_MATCH_ADDRTYPE",
    "xt_comment": "CONFIG_NETFILTER_XT_MATCH_COMMENT",
    "xt_conntrack": "CONFIG_NETFILTER_XT_MATCH_CONNTRACK",
    "xt_mark": "CONFIG_NETFILTER_XT_MARK",
    "xt_multiport": "CONFIG_NETFILTER_XT_MATCH_MULTIPORT",
    "xt_nat": "CONFIG_NETFILTER_XT_NAT",
    "xt_set": "CONFIG_NETFILTER_XT_SET",
}
"""Kernel module -> the option that builds it in. The kernel loads most of them when they are first asked for."""
FORBIDDEN_MODULE = re.compile(r"^install\s+\S*/(?:false|true)\b", re.MULTILINE)
"""How hardening guides turn a module off, as ``modprobe --show-depends`` shows it. Source: modprobe.d(5)."""
ALLOW_MODULE = "remove its 'install' line: grep -rw {name} /etc/modprobe.d /usr/lib/modprobe.d"
LOAD_BEFORE = "name {name} in a file in /etc/modules-load.d and reboot: it is then loaded before the lock"
TOOLS = ("dnf", "rpm", "systemctl", "ip", "mount", "modprobe")
TIME_SERVICES = ("chronyd", "ntpd", "systemd-timesyncd")
SYSCTL_FILE = "90-caisson.conf"
SYSCTL_DIRS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.forwarding": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}
SECURE_PATHS: Mapping[str, str] = {"/usr/bin": "/bin", "/usr/sbin": "/sbin"}
"""Directories and what EL9 also calls them."""
PROXIED_UNITS = ("containerd", "kubelet")
UNIT_DIRS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
SEARCH_DIRS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


def is_root(host: Host) -> Iterator[Finding]:
    """Look for root: packages, services, mounts and files below /etc are root's to change."""
    if host.user_id != 0:
        yield Finding(f"user id {host.user_id}")


def has_supported_os(host: Host) -> Iterator[Finding]:
    """Compare /etc/os-release with what the media's packages are made for: RHEL 9 and its rebuilds."""
    release = parse_os_release(host.read("/etc/os-release") or "")
    name, version = release.get("ID", "unknown"), release.get("VERSION_ID", "unknown")
    if name not in OS_IDS or version.split(".")[0] != OS_MAJOR:
        yield Finding(f"{release.get('PRETTY_NAME', name)} (ID={name}, VERSION_ID={version})")


def has_supported_architecture(host: Host) -> Iterator[Finding]:
    """Compare the machine with the media's packages and images: both are built for x86_64 only."""
    if host.machine != "x86_64":
        yield Finding(f"the machine is {host.machine}")


def has_cpu_features(host: Host) -> Iterator[Finding]:
    """Look for the flags of x86-64-v2, for which EL9 and its images are compiled.

    Without them a program dies of an illegal instruction at its first use. Virtual machines often hide flags.
    """
    match = re.search(r"^flags\s*:\s*(.+)$", host.read("/proc/cpuinfo") or "", re.MULTILINE)
    if match is None:
        yield Finding("/proc/cpuinfo has no flags", severity=Severity.WARNING)
        return
    missing = X86_64_V2_FLAGS - set(match.group(1).split())
    if missing:
        yield Finding(f"missing: {', '.join(sorted(missing))}")


def has_cpus(host: Host) -> Iterator[Finding]:
    """Count the CPUs that this process may use; kubeadm refuses a control plane with fewer than two."""
    if host.cpu_count < MINIMUM_CPUS:
        yield Finding(f"{host.cpu_count} CPU, at least {MINIMUM_CPUS} needed")


def has_memory(host: Host) -> Iterator[Finding]:
    """Read the memory; kubeadm refuses a control plane with less than 1700 MB, and 4 GiB leave room for pods."""
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
    """Look for systemd: it is what starts the kubelet, containerd and the mount of the media."""
    if not host.path("/run/systemd/system").is_dir():
        yield Finding("/run/systemd/system is not there")


def has_tools(host: Host) -> Iterator[Finding]:
    """Look for the few programs that the installer itself starts, where it looks for them."""
    for tool in TOOLS:
        if not any(host.path(f"{directory}/{tool}").exists() for directory in SEARCH_DIRS):
            yield Finding(f"there is no '{tool}'")


def has_no_swap(host: Host) -> Iterator[Finding]:
    """Look for swap: the kubelet does not start with it unless it is told to accept it."""
    if host.config is not None and host.config.overrides.kubelet.get("failSwapOn") is False:
        return
    lines = (host.read("/proc/swaps") or "").splitlines()[1:]
    if lines:
        yield Finding(f"in use: {', '.join(line.split()[0] for line in lines if line.split())}")


def has_cgroup_v2(host: Host) -> Iterator[Finding]:
    """Look for control groups version 2: a kubelet from 1.35 on refuses version 1."""
    if host.path("/sys/fs/cgroup/cgroup.controllers").exists():
        return
    is_accepted = host.config is not None and host.config.overrides.kubelet.get("failCgroupV1") is False
    yield Finding(
        "/sys/fs/cgroup is version 1"
        + (", accepted by overrides.kubelet.failCgroupV1" if is_accepted else ""),
        severity=Severity.WARNING if is_accepted else None,
    )


def has_cgroup_controllers(host: Host) -> Iterator[Finding]:
    """Look for the controllers by which pods get their share of CPU, memory and processes."""
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
    """Look whether the kernel has, or could load, what pods, services and policies are made of."""
    built_in = _built_in_modules(host)
    options = _kernel_options(host)
    for name, option in MODULES.items():
        if host.path(f"/sys/module/{name}").exists() or name in built_in or option in options:
            continue
        dry = host.run(["modprobe", "--show-depends", name])
        if dry.returncode != 0:
            said = (dry.stderr or dry.stdout).strip().splitlines()
            yield Finding(f"{name}: {said[-1] if said else 'modprobe cannot load it'}")
        elif FORBIDDEN_MODULE.search(dry.stdout):
            yield Finding(f"{name}: a file in /etc/modprobe.d forbids it", fix=ALLOW_MODULE.format(name=name))
        elif (host.read("/proc/sys/kernel/modules_disabled") or "").strip() == "1":
            fix = LOAD_BEFORE.format(name=name)
            yield Finding(f"{name}: not loaded, and kernel.modules_disabled is 1", fix=fix)


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
    """Look at the node's name: Kubernetes takes it as the name of an object, and it must be this host's alone."""
    name = host.facts.node_name if host.facts is not None else host.name
    if not NODE_NAME.match(name) or len(name) > 63:
        yield Finding(f"'{name}' cannot be a node's name")
    elif name.split(".")[0] in ("localhost", "localhost4", "localhost6"):
        yield Finding(f"'{name}' is every host's name")


def has_resolvable_name(host: Host) -> Iterator[Finding]:
    """Look whether the host's own name is known without asking a nameserver.

    Salt, the kubelet and sudo ask for it often; where nobody answers, each question takes many seconds.
    """
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
    """Look for the machine's id: systemd, journald and DHCP need one, and the kubelet reports it."""
    text = (host.read("/etc/machine-id") or "").strip()
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        yield Finding(f"/etc/machine-id holds {text!r}")


def has_sane_clock(host: Host) -> Iterator[Finding]:
    """Compare the clock with the date of the media: a certificate made in the past or future is not valid."""
    if host.product is None:
        raise SkippedError("the media's date is not known")
    late_s = host.product.source_date_epoch - host.now
    if late_s > CLOCK_TOLERANCE_S:
        yield Finding(f"the clock is {late_s / 86_400:.0f} days before the date of the media")


def keeps_time(host: Host) -> Iterator[Finding]:
    """Look for a service that keeps the clock: certificates, Salt and etcd compare the times of several hosts."""
    units = [f"{name}.service" for name in TIME_SERVICES]
    states = host.run(["systemctl", "is-active", *units]).stdout.split()
    if "active" not in states:
        yield Finding(f"none of {', '.join(TIME_SERVICES)} is active")
    elif dict(zip(TIME_SERVICES, states)).get("chronyd") == "active":
        tracking = host.run(["chronyc", "-n", "tracking"]).stdout
        if re.search(r"^Leap status\s*:\s*Not synchronised", tracking, re.MULTILINE):
            yield Finding("chronyd runs and follows no clock")


def keeps_sysctls(host: Host) -> Iterator[Finding]:
    """Look for files that take back at the next boot what the bootstrap sets.

    They are read in the order of their names, whichever directory they are in, and the last one wins.
    Source: sysctl.d(5).
    """
    last: dict[str, tuple[str, str]] = {}
    for name, file in sorted(_sysctl_files(host).items()):
        if name <= SYSCTL_FILE:
            continue
        for number, line in enumerate((host.read(file) or "").splitlines(), start=1):
            key, separator, value = line.strip().lstrip("-").partition("=")
            key = key.strip().replace("/", ".")
            if separator and key in SYSCTLS and not line.lstrip().startswith(("#", ";")):
                last[key] = (f"{file}:{number}", value.strip())
    for key, (place, value) in last.items():
        if value != SYSCTLS[key]:
            yield Finding(f"{place} sets {key} to {value}, after {SYSCTL_FILE} set it to {SYSCTLS[key]}")


def _sysctl_files(host: Host) -> dict[str, str]:
    """Return name -> path of the files that are read at boot; a directory's file hides those of later ones."""
    found: dict[str, str] = {}
    for directory in SYSCTL_DIRS:
        for file in sorted(host.path(directory).glob("*.conf")):
            found.setdefault(file.name, f"{directory}/{file.name}")
    return found


def is_not_in_fips_mode(host: Host) -> Iterator[Finding]:
    """Look for FIPS mode: the kernel and OpenSSL then refuse algorithms, and Caisson was never tested so."""
    if (host.read("/proc/sys/crypto/fips_enabled") or "").strip() == "1":
        yield Finding("/proc/sys/crypto/fips_enabled is 1")


def has_usual_umask(host: Host) -> Iterator[Finding]:
    """Look at the mask of new files: with 077 other users' services cannot read what root writes for them."""
    if host.umask & ~0o022:
        yield Finding(f"the mask is {host.umask:04o}")


def has_usual_secure_path(host: Host) -> Iterator[Finding]:
    """Look where sudo searches for programs: kubectl, crictl and caisson are in /usr/bin."""
    files = ["/etc/sudoers"]
    files += [f"/etc/sudoers.d/{file.name}" for file in sorted(host.path("/etc/sudoers.d").glob("*"))]
    for name in files:
        text = "" if "." in Path(name).name else host.read(name) or ""
        for match in re.finditer(r"^\s*Defaults\b.*\bsecure_path\s*=\s*\"?([^\"\n]*)", text, re.MULTILINE):
            listed = set(match.group(1).strip().split(":"))
            missing = [path for path, alias in SECURE_PATHS.items() if not listed & {path, alias}]
            if missing:
                yield Finding(f"{name}: secure_path is without {', '.join(missing)}")


def has_no_proxy_in_the_way(host: Host) -> Iterator[Finding]:
    """Look for proxies that would be asked for the cluster's own addresses.

    What systemd gives to services reaches containerd, the kubelet and, through kubeadm, every control-plane pod;
    what is in /etc/environment reaches people: their kubectl then talks to a proxy.
    """
    manager = host.run(["systemctl", "show-environment"]).stdout
    places = [
        ("systemd's environment", _variables(manager), None),
        ("/etc/environment", _variables(host.read("/etc/environment") or ""), Severity.WARNING),
        *((place, variables, None) for place, variables in _unit_environments(host)),
    ]
    for place, variables, severity in places:
        proxies = [name for name in PROXY_VARIABLES if variables.get(name)]
        needed = (host.facts.control_plane_address, host.facts.endpoint) if host.facts is not None else ()
        direct = variables.get("no_proxy", "")
        asked = [target for target in needed if not _is_direct(target, direct)]
        if proxies and (asked or not direct):
            names = f"no_proxy does not name {', '.join(asked)}" if asked else "there is no no_proxy"
            yield Finding(f"{place} sets {', '.join(proxies)}, and {names}", severity=severity)


def _variables(text: str) -> dict[str, str]:
    r"""Return the variables of a text, names in lower case; of two spellings the one that says something.

    pam_env takes ``export`` before a name; systemd and curl ask for both spellings.

    >>> _variables("export https_proxy=http://p:3128\nno_proxy=.internal\nNO_PROXY=\n")
    {'https_proxy': 'http://p:3128', 'no_proxy': '.internal'}
    """
    found: dict[str, str] = {}
    for key, value in parse_os_release(text).items():
        name = (key.removeprefix("export ")).strip().lower()
        found[name] = value or found.get(name, "")
    return found


def _unit_environments(host: Host) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what drop-ins, and the files that they name, give to the units that the media will bring."""
    # "service.d" holds what all services get. Source: systemd.unit(5).
    for name in ("service.d", *(f"{unit}.service.d" for unit in PROXIED_UNITS)):
        for file in [
            file for where in UNIT_DIRS for file in sorted(host.path(f"{where}/{name}").glob("*.conf"))
        ]:
            place = f"/{file.relative_to(host.root)}"
            words = _unit_variables(host, host.read(place) or "")
            if words:
                yield place, _variables("\n".join(words))
    for unit in PROXIED_UNITS:
        for name in (f"/etc/sysconfig/{unit}", f"/etc/default/{unit}"):
            text = host.read(name)
            if text:
                yield name, _variables(text)


def _unit_variables(host: Host, text: str) -> list[str]:
    """Return the assignments of a unit's file and of the files that it names, which may be patterns.

    Source: systemd.exec(5), Environment= and EnvironmentFile=; systemd.syntax(7): blanks around "=", lines that go on.
    """
    found: list[str] = []
    for key, value in re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*)$", text.replace("\\\n", " "), re.MULTILINE):
        if key == "Environment":
            found += _words(value)
        elif key == "EnvironmentFile" and value.lstrip("-").startswith("/"):
            for file in sorted(host.root.glob(value.strip().lstrip("-").lstrip("/"))):
                found += (host.read(f"/{file.relative_to(host.root)}") or "").splitlines()
    return found


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return []


def _is_direct(target: str, no_proxy: str) -> bool:
    """Say whether ``no_proxy`` takes a name or address out of the proxy's hands.

    >>> _is_direct("10.1.2.3", "localhost,10.0.0.0/8"), _is_direct("api.lab.internal", ".internal")
    (True, True)
    """
    for word in (part.strip() for part in no_proxy.split(",")):
        if word in ("*", target) or (word.lstrip("*.") and target.endswith("." + word.lstrip("*."))):
            return True
        try:
            if ipaddress.ip_address(target) in ipaddress.ip_network(word, strict=False):
                return True
        except ValueError:
            continue
    return False


def parse_os_release(text: str) -> dict[str, str]:
    r"""Parse os-release.

    >>> parse_os_release('ID="almalinux"\nVERSION_ID=9.8')
    {'ID': 'almalinux', 'VERSION_ID': '9.8'}
    """
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


MACHINE: tuple[Check, ...] = (
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
        "the bootstrap turns it off, now and after each boot; to keep it set overrides.kubelet.failSwapOn: false",
    ),
    Check(
        "CSN110",
        Severity.ERROR,
        "control groups are version 2",
        has_cgroup_v2,
        "grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1; reboot",
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
        "set it (timedatectl set-ntp false; timedatectl set-time 'YYYY-MM-DD hh:mm:ss'), and the hardware clock: "
        "certificates would not be valid yet",
    ),
    Check(
        "CSN117",
        Severity.WARNING,
        "something keeps the time",
        keeps_time,
        "install chrony and give it a server, be it another host of the site; one node alone may go without",
    ),
    Check(
        "CSN118",
        Severity.ERROR,
        "the kernel's settings outlive a boot",
        keeps_sysctls,
        "remove the line: services and pods would be cut off at the next boot",
    ),
    Check(
        "CSN119",
        Severity.WARNING,
        "FIPS mode is off",
        is_not_in_fips_mode,
        "try the installation on a host that may fail, or: fips-mode-setup --disable",
    ),
    Check(
        "CSN120",
        Severity.WARNING,
        "new files can be read",
        has_usual_umask,
        "umask 0022 before writing files for the cluster by hand; the bootstrap sets it for itself",
    ),
    Check(
        "CSN121",
        Severity.WARNING,
        "sudo finds the programs",
        has_usual_secure_path,
        "add the directory to secure_path (visudo)",
    ),
    Check(
        "CSN122",
        Severity.ERROR,
        "no proxy stands in the way",
        has_no_proxy_in_the_way,
        "name the control-plane network and .internal in no_proxy, or remove the proxy",
    ),
)
