# SPDX-License-Identifier: Apache-2.0
"""The lab's stand-ins for the distribution: what a minimal EL 9 host has, and what the ISO must bring to it.

BASELINE is, with some of the extras, the closure of the comps group ``core`` (``lab.core``). The EXTRAS have real
payload, from Debian's binaries: a host that came without one of them gets what works. Names, epochs and
requirements follow EL 9; versions are those of the payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lab.core import BASELINE
from lab.rpmspec import RELOAD_UNITS, DebianFiles, Directory, Link, Rpm, Source, Text

LIBRARIES = "/usr/lib/x86_64-linux-gnu/*.so*"


def _debian(
    name: str,
    *packages: str,
    summary: str,
    version: str = "",
    include: tuple[str, ...] = ("/usr/*",),
    requires: str = "",
    provides: str = "",
    more: tuple[Link | Text | Directory, ...] = (),
    epoch: int = 0,
    noarch: bool = False,
    scripts: tuple[tuple[str, str], ...] = (),
    capabilities: tuple[str, ...] = (),
    licence: str = "GPL-2.0-or-later",
) -> Rpm:
    """Return a package whose files and version are those of Debian packages."""
    return Rpm(
        name=name,
        version=version,
        epoch=epoch,
        noarch=noarch,
        summary=summary,
        license=licence,
        requires=tuple(requires.split()),
        provides=(*provides.split(), *capabilities),
        scripts=scripts,
        contents=(DebianFiles(packages=packages, include=include), *more),
    )


def _debian_library(name: str, package: str, soname: str, requires: str = "") -> Rpm:
    return _debian(
        name,
        package,
        summary=f"Library {soname}",
        include=(LIBRARIES,),
        requires=f"glibc {requires}".strip(),
        provides=f"{soname}()(64bit)",
    )


def _iptables_links() -> tuple[Link, ...]:
    programs = [
        f"{family}{verb}"
        for family in ("iptables", "ip6tables", "arptables", "ebtables")
        for verb in ("", "-save", "-restore")
    ]
    return tuple(Link(path=f"/usr/sbin/{name}", target="xtables-nft-multi") for name in programs)


_MAKE_CHRONY_USER = """\
getent group _chrony >/dev/null || groupadd -r _chrony
getent passwd _chrony >/dev/null || useradd -r -g _chrony -d /var/lib/chrony -s /sbin/nologin _chrony
exit 0
"""

_CHRONY_CONFIGURATION = """\
# Name the site's time servers here; the lab has none.
driftfile /var/lib/chrony/chrony.drift
makestep 1.0 3
rtcsync
logdir /var/log/chrony
"""

_FIREWALLD_CONFIGURATION = """\
# What EL 9 has by default; all options: firewalld.conf(5).
DefaultZone=public
CleanupOnExit=yes
CleanupModulesOnExit=no
IPv6_rpfilter=yes
IndividualCalls=no
LogDenied=off
FirewallBackend=nftables
FlushAllOnReload=yes
RFC3964_IPv4=yes
"""
_POLKIT_FILE = "/usr/share/polkit-1/actions/org.fedoraproject.FirewallD1"

BASEOS_EXTRAS: tuple[Rpm, ...] = (
    _debian("chrony", "chrony", summary="Keep the clock right by NTP",
            include=("/usr/bin/chronyc", "/usr/sbin/chronyd", "/usr/lib/systemd/system/chrony.service"),
            requires="glibc libcap libseccomp.so.2()(64bit) shadow-utils systemd",
            scripts=(("pre", _MAKE_CHRONY_USER),),
            more=(Text(path="/etc/chrony/chrony.conf", text=_CHRONY_CONFIGURATION, config=True),
                  Directory(path="/var/lib/chrony"))),
    _debian("conntrack-tools", "conntrack", summary="Look at and change the connection tracking table",
            include=("/usr/sbin/conntrack",),
            requires="libmnl.so.0()(64bit) libnetfilter_conntrack.so.3()(64bit) "
            "libnetfilter_cthelper.so.0()(64bit) "
            "libnetfilter_cttimeout.so.1()(64bit) libnetfilter_queue.so.1()(64bit) "
            "libnfnetlink.so.0()(64bit)"),
    _debian("dmidecode", "dmidecode", summary="Read a machine's description from its firmware", epoch=1,
            include=("/usr/sbin/*",), requires="glibc"),
    _debian("ethtool", "ethtool", summary="Look at and set properties of network interfaces", epoch=2,
            include=("/usr/sbin/ethtool",), requires="libmnl.so.0()(64bit)"),
    _debian("firewalld", "firewalld", summary="Firewall with zones", noarch=True,
            include=("/usr/bin/firewall-cmd", "/usr/bin/firewall-offline-cmd", "/usr/lib/firewalld/*",
                     "/usr/lib/systemd/system/firewalld.service", "/usr/sbin/firewalld",
                     "/usr/share/dbus-1/system.d/FirewallD.conf", f"{_POLKIT_FILE}.*"),
            requires="ebtables firewalld-filesystem ipset iptables nftables python3-firewall systemd",
            scripts=(("post", RELOAD_UNITS), ("postun", RELOAD_UNITS)),
            more=(Link(path=f"{_POLKIT_FILE}.policy", target=f"{Path(_POLKIT_FILE).name}.server.policy.choice"),
                  Text(path="/etc/firewalld/firewalld.conf", text=_FIREWALLD_CONFIGURATION, config=True),
                  *(Directory(path=f"/etc/firewalld{directory}", mode=0o750)
                    for directory in ("", "/helpers", "/icmptypes", "/ipsets", "/policies", "/services",
                                      "/zones")))),
    _debian("hwdata", "pci.ids", version="0.348", summary="Names of hardware by number", noarch=True),
    _debian("iproute-tc", "iproute2", summary="Shape network traffic", include=("/usr/sbin/tc",
            "/usr/lib/tc/*"),
            requires="iproute elfutils-libelf iptables-libs libmnl.so.0()(64bit)"),
    _debian("iptables-libs", "libxtables12", "libip4tc2", "libip6tc2", summary="Libraries of iptables",
            include=(LIBRARIES,), requires="glibc",
            provides="libip4tc.so.2()(64bit) libip6tc.so.2()(64bit) libxtables.so.12()(64bit)"),
    _debian("iptables-nft", "iptables", summary="iptables, ip6tables, arptables and ebtables on nftables",
            include=("/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-monitor",
                     "/usr/lib/x86_64-linux-gnu/xtables/*"),
            requires="iptables-libs libmnl.so.0()(64bit) libnetfilter_conntrack.so.3()(64bit) "
            "libnftnl.so.11()(64bit) nftables",
            provides="/usr/sbin/iptables arptables arptables-helper ebtables",
            capabilities=("iptables = 1.8.10-11.el9", "iptables-compat = 1.8.10-11.el9"),
            more=_iptables_links()),
    _debian_library("libnetfilter_conntrack", "libnetfilter-conntrack3", "libnetfilter_conntrack.so.3",
                    "libmnl.so.0()(64bit) libnfnetlink.so.0()(64bit)"),
    _debian_library("libnfnetlink", "libnfnetlink0", "libnfnetlink.so.0"),
    _debian("nftables", "nftables", "libnftables1", summary="Filter packets", epoch=1,
            include=("/usr/sbin/nft", LIBRARIES), requires="jansson libmnl libnftnl libedit",
            provides="libnftables.so.1()(64bit)"),
    _debian("openssl", "openssl", summary="Certificates and ciphers on the command line", epoch=1,
            licence="Apache-2.0",
            include=("/usr/bin/openssl",), requires="libcrypto.so.3()(64bit) libssl.so.3()(64bit)"),
    _debian("pciutils", "pciutils", summary="List and set up PCI devices", include=("/usr/bin/*",
            "/usr/sbin/*"),
            requires="hwdata pciutils-libs"),
    _debian_library("pciutils-libs", "libpci3", "libpci.so.3", "hwdata"),
    # The bindings that it calls (D-Bus, GLib, libnftables) are those of the user land.
    _debian("python3-firewall", "python3-firewall", summary="Python modules of firewalld", noarch=True,
            include=("/usr/lib/python3/dist-packages/firewall/*",),
            requires="libcap-ng-python3 python3-dbus python3-gobject-base python3-nftables"),
    _debian("tar", "tar", summary="Pack and unpack archives", epoch=2, include=("/usr/bin/tar",),
            licence="GPL-3.0-or-later",
            requires="libacl.so.1()(64bit) libselinux.so.1()(64bit)"),
    _debian("which", "debianutils", summary="Show where a command is",
            include=("/usr/bin/which.debianutils",),
            requires="bash", more=(Link(path="/usr/bin/which", target="which.debianutils"),)),
    _debian("xz", "xz-utils", summary="Compress and decompress",
            include=("/usr/bin/xz", "/usr/bin/unxz",
            "/usr/bin/xzcat"), requires="liblzma.so.5()(64bit) xz-libs"),
)  # fmt: skip


def _container_selinux(version: str, release: str, policy: str) -> Rpm:
    """Return a build of container-selinux and the SELinux policy that it wants at least."""
    return Rpm(
        name="container-selinux",
        version=version,
        release=release,
        epoch=4,
        noarch=True,
        summary="Stand-in without files for the SELinux policy of containers",
        requires=(
            "policycoreutils >= 3.6",
            f"selinux-policy >= {policy}",
            f"selinux-policy-base >= {policy}",
            f"selinux-policy-targeted >= {policy}",
        ),
        provides=(f"docker-engine-selinux = {version}-{release}",),
    )


APPSTREAM_EXTRAS: tuple[Rpm, ...] = (
    _container_selinux("2.245.0", "1.el9", policy="38.1.63"),
    _debian_library("libnetfilter_cthelper", "libnetfilter-cthelper0", "libnetfilter_cthelper.so.0",
                    "libmnl"),
    _debian_library("libnetfilter_cttimeout", "libnetfilter-cttimeout1", "libnetfilter_cttimeout.so.1",
                    "libmnl"),
    _debian_library("libnetfilter_queue", "libnetfilter-queue1", "libnetfilter_queue.so.1",
                    "libmnl libnfnetlink.so.0()(64bit)"),
    # Debian's socat wants libwrap, which EL 9 has no more: it is of the user land, whose sshd wants it too and must
    # outlive the package.
    _debian("socat", "socat", summary="Relay between two channels of bytes", include=("/usr/bin/socat",),
            requires="libcrypto.so.3()(64bit) libssl.so.3()(64bit) libreadline.so.8()(64bit)"),
)  # fmt: skip

#: What the composed image keepalived is made of. EL 9's is linked with net-snmp, and that with Perl's library: so is
#: Debian's. Libraries of a minimal host are without files here, so those that keepalived wants come along with it.
KEEPALIVED: tuple[Rpm, ...] = (
    _debian("keepalived", "keepalived", "libblkid1", "libglib2.0-0", "libmnl0", "libmount1", "libnftnl11",
            "libnl-3-200", "libnl-genl-3-200",
            summary="Keep an address on one of several hosts", include=("/usr/sbin/keepalived", LIBRARIES),
            requires="bash systemd libcrypto.so.3()(64bit) libmagic.so.1()(64bit) libmnl.so.0()(64bit) "
            "libnetsnmp.so.40()(64bit) libnetsnmpagent.so.40()(64bit) libnetsnmpmibs.so.40()(64bit) "
            "libnftnl.so.11()(64bit) libnl-3.so.200()(64bit) libnl-genl-3.so.200()(64bit) libssl.so.3()(64bit) "
            "libsystemd.so.0()(64bit)"),
    _debian_library("lm_sensors-libs", "libsensors5", "libsensors.so.5"),
    _debian("net-snmp-agent-libs", "libsnmp40", "libpci3", "libudev1", "libwrap0", summary="Libraries of an SNMP agent",
            licence="BSD-3-Clause",
            include=("/usr/lib/x86_64-linux-gnu/libnetsnmp[ahm]*.so*", "/usr/lib/x86_64-linux-gnu/libpci.so*",
                     "/usr/lib/x86_64-linux-gnu/libudev.so*", "/usr/lib/x86_64-linux-gnu/libwrap.so*"),
            requires="libnetsnmp.so.40()(64bit) libperl.so.5.32()(64bit) libsensors.so.5()(64bit)",
            provides="libnetsnmpagent.so.40()(64bit) libnetsnmpmibs.so.40()(64bit)"),
    _debian("net-snmp-libs", "libsnmp40", summary="Library of SNMP", licence="BSD-3-Clause",
            include=("/usr/lib/x86_64-linux-gnu/libnetsnmp.so*", "/usr/lib/x86_64-linux-gnu/libsnmp.so*"),
            requires="libcrypto.so.3()(64bit)", provides="libnetsnmp.so.40()(64bit)"),
    _debian("perl-libs", "libperl5.36", epoch=4, summary="Library of Perl",
            include=("/usr/lib/x86_64-linux-gnu/libperl.so*",), requires="glibc", provides="libperl.so.5.32()(64bit)"),
)  # fmt: skip

#: What differed in the last minor release but one: its SELinux policy is too old for today's container-selinux.
OLD_RELEASE = "9.6"
RELEASE = "9.8"
_OLD_VERSIONS = {
    "almalinux-gpg-keys": "9.6-1.el9",
    "almalinux-release": "9.6-1.el9",
    "almalinux-repos": "9.6-1.el9",
    "selinux-policy": "38.1.53-5.el9",
    "selinux-policy-targeted": "38.1.53-5.el9",
}


#: What the newest minor release had on the day it came out, where that differs from today.
_FIRST_VERSIONS = {
    "curl": "7.76.1-31.el9",
    "libcurl": "7.76.1-31.el9",
    "openssl-libs": "3.5.1-3.el9",
    "selinux-policy": "38.1.63-1.el9",
    "selinux-policy-targeted": "38.1.63-1.el9",
    "systemd": "252-53.el9",
    "systemd-libs": "252-53.el9",
    "systemd-pam": "252-53.el9",
    "systemd-rpm-macros": "252-53.el9",
    "systemd-udev": "252-53.el9",
}
_OLD_FIRST_VERSIONS = {"curl": "7.76.1-29.el9", "libcurl": "7.76.1-29.el9", "systemd": "252-51.el9"}


def _with_builds(packages: Iterable[Rpm], builds: Mapping[str, str]) -> tuple[Rpm, ...]:
    """Return packages, those that ``builds`` names (version-release by name) as other builds of themselves."""
    return tuple(
        _as_build(package, builds[package.name]) if package.name in builds else package
        for package in packages
    )


def _as_build(package: Rpm, build: str) -> Rpm:
    version, _, release = build.partition("-")
    today = f"{package.version}-{package.release}"
    provides = tuple(capability.replace(today, build) for capability in package.provides)
    return replace(package, version=version, release=release, provides=provides)


OLD_BASELINE = _with_builds(BASELINE, _OLD_VERSIONS)
FIRST_BASELINE = _with_builds(BASELINE, _FIRST_VERSIONS)
OLD_FIRST_BASELINE = _with_builds(OLD_BASELINE, _OLD_FIRST_VERSIONS)
OLD_APPSTREAM: tuple[Rpm, ...] = (_container_selinux("2.235.0", "1.el9_6", policy="38.1.53"),)


def _kernel(release: str) -> Rpm:
    """Return a build of the kernel's package; a host keeps several beside each other."""
    return Rpm(
        name="kernel-core",
        version="5.14.0",
        release=release,
        summary="Stand-in without files for the kernel",
        license="GPL-2.0-only",
        requires=("bash", "coreutils", "dracut", "systemd"),
        provides=("installonlypkg(kernel)", f"kernel-core-uname-r = 5.14.0-{release}.x86_64"),
    )


#: The kernels of every host that was updated once: the one it runs, and the one before.
KERNELS: tuple[Rpm, ...] = (_kernel("611.el9"), _kernel("611.5.1.el9_8"))


def _baseos(repository: str, name: str, baseline: tuple[Rpm, ...]) -> Iterator[tuple[str, Source]]:
    """Yield what one tree of BaseOS is made from, with the repository's id before each."""
    yield repository, Source(name=name, signer="baseos", packages=baseline)
    yield repository, Source(name="el9-baseos", signer="baseos", packages=BASEOS_EXTRAS)
    for kernel in KERNELS:
        yield repository, Source(name=f"el9-kernel-{kernel.release}", signer="baseos", packages=(kernel,))


_APPSTREAM = Source(name="el9-appstream", signer="appstream", packages=APPSTREAM_EXTRAS)
_OLD_APPSTREAM = Source(name="el9-old-appstream", signer="appstream", packages=OLD_APPSTREAM)
_KEEPALIVED = Source(name="el9-keepalived", signer="appstream", packages=KEEPALIVED)

#: Of each minor release two trees: today's, and that of its first day, which hosts without updates have.
SOURCES: tuple[tuple[str, Source], ...] = (
    *_baseos("baseos", "el9-baseline", BASELINE),
    *_baseos(f"baseos-{RELEASE}-ga", "el9-first-baseline", FIRST_BASELINE),
    *_baseos(f"baseos-{OLD_RELEASE}", "el9-old-baseline", OLD_BASELINE),
    *_baseos(f"baseos-{OLD_RELEASE}-ga", "el9-old-first-baseline", OLD_FIRST_BASELINE),
    ("appstream", _APPSTREAM),
    ("appstream", _KEEPALIVED),
    (f"appstream-{RELEASE}-ga", _APPSTREAM),
    (f"appstream-{RELEASE}-ga", _KEEPALIVED),
    (f"appstream-{OLD_RELEASE}", _OLD_APPSTREAM),
    (f"appstream-{OLD_RELEASE}-ga", _OLD_APPSTREAM),
)
