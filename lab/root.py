# SPDX-License-Identifier: Apache-2.0
"""The root file system of a node: a Debian user land that behaves as a minimal EL9 host does.

    packages (Debian) --mmdebstrap--> archive --+
    files, Python 3.9, baseline RPMs -----------+--> a small XFS image, kept by the digest of all these;
                                                     each node gets a copy that grows to its disk's size

What it has: systemd, dnf and rpm on an EL9 os-release, firewalld, sshd. What it must not have: anything that
the ISO has to bring (socat, conntrack). The rpm database says that the closure of the comps group ``core`` is
installed, as on a minimal EL9 host: all else must come from the ISO. What firewalld or dracut bring to such a
host (iptables, ethtool) has the files of the lab's RPM, so that a host without firewalld lacks iptables too.
What only the test machine forces (control groups, bpf, the fuse helper for ISO 9660) is named so below.
"""

from __future__ import annotations

import glob
import gzip
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cache, el9
from lab.cleanup import LabRecord, boot_id, claim, exclusive, make_control_groups, remove_lab, this_process
from lab.errors import LabError
from lab.places import PREFIX, LabPlaces
from lab.progress import step
from lab.rpms import build_repositories
from lab.run import run

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "dnf",
    "firewalld",
    "fuseiso",
    "iproute2",
    "ipset",
    "iputils-ping",
    "kmod",
    "less",
    "libseccomp2",
    "mount",
    "netbase",
    "nftables",
    "openssh-server",
    "passwd",
    "procps",
    "python3",
    "python3-dnf",
    "rpm",
    "sudo",
    "systemd",
    "systemd-sysv",
    "util-linux",
    "xz-utils",
    "zstd",
)

IMAGE_SIZE_BYTES = 2 << 30
KEPT_IMAGES = 5
RELEASE = "9.8"

#: Programs that would hide a package missing from the ISO: no host comes with them.
UNWANTED_PROGRAMS = ("conntrack", "crictl", "socat")

#: Debian's copies of what the lab has RPMs of: a host has the files of those that its rpm database knows.
REPLACED_PROGRAMS = ("arptables", "ebtables", "ethtool", "ip6tables", "iptables", "nft", "tc")
REPLACING_PACKAGES = (
    "ethtool",
    "iproute-tc",
    "iptables-libs",
    "iptables-nft",
    "libnetfilter_conntrack",
    "libnfnetlink",
    "nftables",
)


#: Debian's own housekeeping, which would ask the network or has nothing to do here.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dnf-makecache.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "systemd-pstore.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
)


#: Modules by the kernel option that builds them in; only those that the kernel has are listed in the node.
BUILTIN_MODULES: Mapping[str, str] = {
    "autofs4": "AUTOFS_FS",
    "br_netfilter": "BRIDGE_NETFILTER",
    "bridge": "BRIDGE",
    "dummy": "DUMMY",
    "erofs": "EROFS_FS",
    "fuse": "FUSE_FS",
    "ip_set": "IP_SET",
    "ip_tables": "IP_NF_IPTABLES",
    "ip_vs": "IP_VS",
    "ipip": "NET_IPIP",
    "iscsi_tcp": "ISCSI_TCP",
    "loop": "BLK_DEV_LOOP",
    "nf_conntrack": "NF_CONNTRACK",
    "nf_conntrack_netlink": "NF_CT_NETLINK",
    "nf_nat": "NF_NAT",
    "nf_tables": "NF_TABLES",
    "nft_compat": "NFT_COMPAT",
    "nft_ct": "NFT_CT",
    "nft_fib": "NFT_FIB",
    "nft_masq": "NFT_MASQ",
    "nft_reject": "NFT_REJECT",
    "overlay": "OVERLAY_FS",
    "squashfs": "SQUASHFS",
    "tun": "TUN",
    "veth": "VETH",
    "vxlan": "VXLAN",
    "wireguard": "WIREGUARD",
    "x_tables": "NETFILTER_XTABLES",
    "xfs": "XFS_FS",
    "xt_set": "NETFILTER_XT_SET",
}

#: What a Python in the node does not need.
_UNNEEDED = (
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "site-packages",
    "lib2to3",
    "include",
    "share",
    "config-3.9-*",
    "*.a",
    "_tkinter*",
    "pip*",
    "idle*",
    "2to3*",
    "pydoc*",
    "easy_install*",
)
_PYTHON_CHECK = (
    "import bz2, ctypes, hashlib, json, lzma, sqlite3, ssl, sys, zlib; assert sys.version_info[:2] == (3, 9)"
)


@dataclass(frozen=True, kw_only=True)
class File:
    """One text file of the root."""

    text: str
    mode: int = 0o644


OS_RELEASE = f"""NAME="AlmaLinux"
VERSION="{RELEASE} (test stand-in)"
ID="almalinux"
ID_LIKE="rhel centos fedora"
VERSION_ID="{RELEASE}"
PLATFORM_ID="platform:el9"
PRETTY_NAME="AlmaLinux {RELEASE} (test stand-in: a Debian user land)"
ANSI_COLOR="0;34"
CPE_NAME="cpe:/o:almalinux:almalinux:9::baseos"
HOME_URL="https://almalinux.org/"
REDHAT_SUPPORT_PRODUCT="AlmaLinux"
REDHAT_SUPPORT_PRODUCT_VERSION="{RELEASE}"
"""

_RELEASE_LINE = f"AlmaLinux release {RELEASE} (test stand-in)\n"

RELEASE_FILES = ("usr/lib/os-release", "etc/redhat-release", "etc/almalinux-release", "etc/system-release")

FILES: Mapping[str, File] = {
    # --- an EL9 host, as far as programs can see
    "usr/lib/os-release": File(text=OS_RELEASE),
    "etc/redhat-release": File(text=_RELEASE_LINE),
    "etc/almalinux-release": File(text=_RELEASE_LINE),
    "etc/system-release": File(text=_RELEASE_LINE),
    "etc/locale.conf": File(text="LANG=C.UTF-8\n"),
    "etc/fstab": File(text="# The root is mounted by the lab.\n"),
    "etc/dnf/dnf.conf": File(
        text="[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\n"
        "skip_if_unavailable=False\n"
    ),
    # EL9's place of the rpm database; Debian's rpm is for building and keeps one in the home directory.
    "etc/rpm/macros.caisson-lab": File(text="%_dbpath /var/lib/rpm\n%rhel 9\n%dist .el9\n"),
    # The host's own repositories: nobody answers for them, and the switch sees who asks, with or without a
    # nameserver. The product must neither use nor change them.
    "etc/yum.repos.d/almalinux-baseos.repo": File(
        text="[baseos]\nname=AlmaLinux $releasever - BaseOS\n"
        "mirrorlist=https://mirrors.almalinux.org/mirrorlist/$releasever/baseos\n"
        "enabled=1\ngpgcheck=1\ncountme=1\nmetadata_expire=86400\n"
        "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-AlmaLinux-9\n"
    ),
    "etc/yum.repos.d/almalinux-appstream.repo": File(
        text="[appstream]\nname=AlmaLinux $releasever - AppStream\n"
        "baseurl=http://203.0.113.80/almalinux/$releasever/AppStream/$basearch/os/\n"
        "enabled=1\ngpgcheck=1\ncountme=1\nmetadata_expire=86400\n"
        "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-AlmaLinux-9\n"
    ),
    "etc/systemd/system/ssh.service.d/10-host-keys.conf": File(
        text="# Each node makes its own host keys at its first start.\n"
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n"
    ),
    "etc/systemd/journald.conf.d/10-lab.conf": File(
        text="# The kernel is shared: its messages are about other nodes too.\n"
        "[Journal]\nReadKMsg=no\nStorage=persistent\nSystemMaxUse=256M\nRateLimitIntervalSec=0\n"
    ),
    # --- only the test machine forces the following
    "etc/systemd/system/lab-machine.service": File(
        text="""[Unit]
Description=What only the test machine forces: writable control groups, shared mounts, bpf
Documentation=man:systemd-nspawn(1)
DefaultDependencies=no
After=-.mount
Before=sysinit.target systemd-tmpfiles-setup-dev.service local-fs-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/caisson-lab/machine

[Install]
WantedBy=sysinit.target
"""
    ),
    "usr/lib/caisson-lab/machine": File(
        mode=0o755,
        text="""#!/bin/bash
# nspawn mounts version 1 control groups read-only and leaves the root private; systemd does not mount the
# BPF file system in a container, and refuses a mount unit for it.
set -euo pipefail
main() {
  local kind target
  while read -r _ target kind _; do
    case "$kind" in
      cgroup) mount -o remount,bind,rw "$target" ;;
    esac
  done < /proc/self/mounts
  mount --make-rshared /
  mountpoint --quiet /sys/fs/bpf || mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf
}
main "$@"
""",
    ),
    "usr/sbin/mount.iso9660": File(
        mode=0o755,
        text="""#!/bin/bash
# This kernel has no ISO 9660: mount(8) calls this with the loop device that it has set up.
set -euo pipefail
main() {
  local device=$1 directory=$2
  exec fuseiso "$device" "$directory" -o "allow_other,ro,fsname=$device,subtype=iso9660"
}
main "$@"
""",
    ),
    "etc/tmpfiles.d/caisson-lab-loop.conf": File(
        text="c /dev/loop-control 0660 root disk - 10:237\n"
        + "".join(f"b /dev/loop{number} 0660 root disk - 7:{number}\n" for number in range(32))
    ),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A host as it may be found: its minor release, and what its installation left out of the group ``core``.

    ``repository`` is the lab's yum repository of that release. ``without`` are packages that its rpm database does
    not know, ``files`` (patterns, relative to the root) what the user land has of them, which is removed.
    ``packages`` are Debian's that its user land has besides.
    """

    release: str
    repository: str
    without: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


_FILES_OF_FIREWALLD = (
    "etc/firewalld",
    "etc/systemd/system/*.wants/firewalld.service",
    "etc/systemd/system/dbus-org.fedoraproject.FirewallD1.service",
    "usr/bin/firewall-*",
    "usr/lib/firewalld",
    "usr/lib/python3/dist-packages/firewall",
    "usr/lib/systemd/system/firewalld.service",
    "usr/sbin/firewalld",
    "usr/share/dbus-1/system.d/FirewallD.conf",
    "usr/share/polkit-1/actions/org.fedoraproject.FirewallD1.*",
)


#: The hosts that packages.yaml names as baselines.
PROFILES: Mapping[str, Profile] = {
    "el9.8-minimal": Profile(release=RELEASE, repository="baseos"),
    "el9.8-cloud": Profile(
        release=RELEASE,
        repository="baseos",
        without=("firewalld",),
        files=(*_FILES_OF_FIREWALLD, "usr/bin/tar"),
        # Off as long as no data source is there (its generator asks ds-identify): tests bring one.
        packages=("cloud-init",),
    ),
    "el9.6-minimal": Profile(release=el9.OLD_RELEASE, repository=f"baseos-{el9.OLD_RELEASE}"),
}


_BASELINE_PLACE = "/run/caisson-lab-baseline"
_DNF = (
    "dnf",
    "--assumeyes",
    "--noplugins",
    "--releasever=9",
    "--setopt=reposdir=/run/none",
    "--nogpgcheck",
    "--setopt=cachedir=/run/caisson-lab-dnf",
    "--setopt=install_weak_deps=False",
    f"--repofrompath=baseline,file://{_BASELINE_PLACE}",
)


def ensure_root(baseline_dir: Path | None = None, profile: str = "el9.8-minimal") -> Path:
    """Return the image that nodes are copied from; make it if it is not there.

    ``profile`` is a name in PROFILES. ``baseline_dir`` is the yum repository whose comps group ``core`` a host
    has installed; without one the lab's own of the profile is built and used. A cold start takes about two
    minutes and the Debian mirror.

    Raises:
        LabError: mmdebstrap, mkfs.xfs or dnf failed.
    """
    host = PROFILES[profile]
    if baseline_dir is None:
        baseline_dir = build_repositories()[host.repository]
    baseline_dir = baseline_dir.resolve()
    python_dir = find_python()
    parts: dict[str, str | bytes] = {
        "recipe": Path(__file__).read_bytes(),
        "baseline": (baseline_dir / "repodata" / "repomd.xml").read_bytes(),
        "python": python_dir.name if python_dir else "",
        "kernel": platform.release(),
        "profile": repr(host),
    }
    target_dir = cache.lab_dir("roots") / "node" / cache.digest_of(parts)
    if not cache.is_intact(target_dir):
        archive = _archive((*PACKAGES, *host.packages))
        with step("root file system of the nodes"):
            cache.produce(
                target_dir, lambda work_dir: _make_image(work_dir, archive, baseline_dir, python_dir, host)
            )
        _remove_old(target_dir.parent)
    os.utime(target_dir)
    return target_dir / "root.xfs"


def find_python() -> Path | None:
    """Return the directory of the newest Python 3.9 that pyenv keeps on this machine, or None."""
    versions_dir = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [path for path in versions_dir.glob("3.9.*") if re.fullmatch(r"3\.9\.\d+", path.name)]
    found = [path for path in found if (path / "bin" / "python3.9").is_file()]
    return max(found, key=lambda path: int(path.name.rsplit(".", 1)[1]), default=None)


def install_baseline(root_dir: Path, baseline_dir: Path, without: Sequence[str] = ()) -> None:
    """Record in the root's rpm database that the closure of the comps group ``core`` and two kernels are installed.

    ``without`` are packages of the group that are left out.

    Only the records: the files are Debian's, but for REPLACING_PACKAGES. dnf does it, inside the root, as an EL9
    installation does, so its history knows the group too.

    Raises:
        CommandError: the group is not closed under its own requirements.
        LabError: nothing was installed.
    """
    groups = make_control_groups(f"{PREFIX}{root_dir.parent.name}-{root_dir.name}")
    enter = _enter_command(root_dir, baseline_dir)
    records = [
        "--setopt=tsflags=justdb,noscripts,nocontexts,nocaps",
        *(f"--exclude={name}" for name in without),
    ]
    kernels = [f"{kernel.name}-{kernel.version}-{kernel.release}" for kernel in el9.KERNELS]
    for words in (["group", "install", "core"], ["install", *kernels]):
        run([*enter, *_DNF, *records, *words], timeout_s=300, control_groups=groups)
    query = [*enter, "rpm", "-qa", "--queryformat", "%{NAME}\n"]
    installed = set(run(query, timeout_s=60, control_groups=groups).stdout.split())
    if not installed:
        raise LabError(
            "the rpm database of the node's root is empty after the baseline was installed",
            details=f"repository {baseline_dir}",
            resolution="see that its comps.xml has a group 'core' with packages",
        )
    if replacing := [name for name in REPLACING_PACKAGES if name in installed]:
        run([*enter, *_DNF, "reinstall", *replacing], timeout_s=300, control_groups=groups)


def _enter_command(root_dir: Path, baseline_dir: Path) -> list[str]:
    """Return the command that runs another one inside the root, with the repository at hand."""
    nspawn = ["systemd-nspawn", "--quiet", "-D", str(root_dir)]
    nspawn += ["--register=no", "--keep-unit", "--private-network"]
    nspawn += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
    return [*nspawn, f"--bind-ro={baseline_dir}:{_BASELINE_PLACE}", "--"]


def builtin_modules(options: str) -> tuple[str, ...]:
    r"""Return the modules that a kernel with these options (the text of its .config) has built in.

    >>> builtin_modules("CONFIG_VXLAN=y\nCONFIG_DUMMY=m\n# CONFIG_IP_VS is not set\n")
    ('vxlan',)
    """
    built_in = {line[len("CONFIG_") : -2] for line in options.splitlines() if line.endswith("=y")}
    return tuple(name for name, option in BUILTIN_MODULES.items() if option in built_in)


def _remove_old(images_dir: Path) -> None:
    """Remove all but the images that were used last: each change of the recipe makes another one."""
    images = sorted(
        (path for path in images_dir.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for image_dir in images[:-KEPT_IMAGES]:
        cache.remove_tree(image_dir)
        image_dir.with_suffix(".json").unlink(missing_ok=True)
        image_dir.with_suffix(".lock").unlink(missing_ok=True)


def _archive(packages: Sequence[str]) -> Path:
    """Return the bare Debian root as an archive; a minute when cold."""
    target_dir = (
        cache.lab_dir("roots") / "debian" / cache.digest_of({"suite": SUITE, "packages": " ".join(packages)})
    )

    def make(work_dir: Path) -> None:
        run(
            [
                "mmdebstrap",
                "--variant=minbase",
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=Acquire::Retries "5"',
            ]
            + [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale")]
            + [f"--include={','.join(packages)}", SUITE, work_dir / "root.tar"],
            timeout_s=1800,
        )

    if not cache.is_intact(target_dir):
        with step("Debian packages of the nodes' root"):
            cache.produce(target_dir, make)
    return target_dir / "root.tar"


def _make_image(
    work_dir: Path, archive: Path, baseline_dir: Path, python_dir: Path | None, host: Profile
) -> None:
    """Fill a new image; the mount belongs to a lab of its own, so that a killed run is swept as any other."""
    lab = f"root{os.getpid()}"
    claim(lab, LabRecord(owner=this_process(), boot_id=boot_id()))
    root_dir = LabPlaces(lab=lab).run_dir / "root"
    image_file = work_dir / "root.xfs"
    try:
        with image_file.open("wb") as image:
            image.truncate(IMAGE_SIZE_BYTES)
        run(["mkfs.xfs", "-q", "-L", "root", image_file])
        root_dir.mkdir()
        run(["mount", "-o", "loop,nouuid", image_file, root_dir])
        run(["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", root_dir, "-xf", archive])
        _configure(root_dir, python_dir, host)
        install_baseline(root_dir, baseline_dir, host.without)
        _tidy(root_dir)
    finally:
        with exclusive():
            remove_lab(lab)


def _configure(root_dir: Path, python_dir: Path | None, host: Profile) -> None:
    for name in ("etc/os-release", "etc/debian_version", "etc/machine-id", "etc/hostname", "etc/resolv.conf"):
        (root_dir / name).unlink(missing_ok=True)
    (root_dir / "etc/os-release").symlink_to("../usr/lib/os-release")
    for name, file in FILES.items():
        path = root_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text.replace(RELEASE, host.release) if name in RELEASE_FILES else file.text)
        path.chmod(file.mode)
    for program in (*UNWANTED_PROGRAMS, *REPLACED_PROGRAMS):
        for directory in ("usr/bin", "usr/sbin", "bin", "sbin"):
            (root_dir / directory / program).unlink(missing_ok=True)
    for key in (root_dir / "etc/ssh").glob("ssh_host_*_key*"):
        key.unlink()
    for name in ("var/lib/rpm", "root/.rpmdb", "opt", "srv", "mnt", "usr/libexec"):
        (root_dir / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root_dir / "root/.rpmdb")
    _set_firewalld_backend(root_dir / "etc/firewalld/firewalld.conf")
    _list_builtin_modules(root_dir)
    _install_python(root_dir, python_dir)
    run(["systemctl", f"--root={root_dir}", "mask", *MASKED_UNITS])
    run(["systemctl", f"--root={root_dir}", "enable", "lab-machine.service", "ssh.service"])
    if "firewalld" not in host.without:
        run(["systemctl", f"--root={root_dir}", "enable", "firewalld.service"])
    run(["systemctl", f"--root={root_dir}", "set-default", "multi-user.target"])
    remove_files(root_dir, host.files)


def remove_files(root_dir: Path, patterns: Sequence[str]) -> None:
    """Remove files and whole directories of a root by patterns.

    Raises:
        LabError: a pattern matches nothing, so that what it stands for may still be there under another name.
    """
    for pattern in patterns:
        # Path.glob passes over links that lead nowhere.
        found = [root_dir / name for name in glob.glob(pattern, root_dir=root_dir)]  # noqa: PTH207
        if not found:
            raise LabError(
                f"the user land has no {pattern!r} that could be left out",
                details=f"below {root_dir}",
                resolution="look where its package has it now, and correct the profile in lab/root.py",
            )
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _set_firewalld_backend(file: Path) -> None:
    """Choose nftables, EL9's back end, whatever Debian's default is."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("FirewallBackend=")]
    file.write_text("\n".join([*lines, "FirewallBackend=nftables", ""]))


def _list_builtin_modules(root_dir: Path) -> None:
    """Let modprobe succeed for what the kernel has built in, as on a host with its kernel's package."""
    options_file = Path("/proc/config.gz")
    release = platform.release()
    if Path("/lib/modules", release).is_dir() or not options_file.exists():
        return  # the machine's own directory is shown in the node
    directory = root_dir / "lib/modules" / release
    directory.mkdir(parents=True, exist_ok=True)
    names = builtin_modules(gzip.decompress(options_file.read_bytes()).decode())
    (directory / "modules.builtin").write_text("".join(f"kernel/builtin/{name}.ko\n" for name in names))
    (directory / "modules.order").write_text("")
    run(["chroot", root_dir, "depmod", release])


def _install_python(root_dir: Path, python_dir: Path | None) -> None:
    """Put a Python 3.9 where EL9 has its own; without one here the user land's newer one stands in."""
    platform_python = root_dir / "usr/libexec/platform-python"
    platform_python.unlink(missing_ok=True)
    if python_dir is None:
        platform_python.symlink_to("/usr/bin/python3")
        return
    target_dir = root_dir / "opt/python3.9"
    shutil.copytree(python_dir, target_dir, symlinks=True, ignore=shutil.ignore_patterns(*_UNNEEDED))
    (target_dir / "lib/python3.9/site-packages").mkdir()
    (root_dir / "etc/ld.so.conf.d/python3.9.conf").write_text("/opt/python3.9/lib\n")
    run(["chroot", root_dir, "ldconfig"])
    platform_python.symlink_to("/opt/python3.9/bin/python3.9")
    run(["chroot", root_dir, "/usr/libexec/platform-python", "-I", "-c", _PYTHON_CHECK])


def _tidy(root_dir: Path) -> None:
    """Remove what only the making left behind."""
    for name in ("var/cache/apt", "var/lib/apt/lists", "var/cache/dnf", "var/log", "tmp", "run"):
        for path in (root_dir / name).glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (root_dir / "var/log/journal").mkdir(parents=True)
