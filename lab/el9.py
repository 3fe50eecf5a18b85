# SPDX-License-Identifier: Apache-2.0
"""The lab's stand-ins for the distribution: what a minimal EL 9 host has, and what the ISO must bring to it.

BASELINE is, with firewalld and nftables of the extras, the closure of the comps group ``core``: packages without
files, because a lab node's files are Debian's. They say what a host may count on, so that a requirement outside
them must come from the ISO or fail. The EXTRAS have real payload, from Debian's binaries: a host that came without
one of them gets what works. Names, epochs and requirements follow EL 9; versions are those of the payload.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.rpmspec import RELOAD_UNITS, DebianFiles, Directory, Link, Rpm, Source, Text

LIBRARIES = "/usr/lib/x86_64-linux-gnu/*.so*"


def _has(
    name: str,
    version: str,
    requires: str = "",
    provides: str = "",
    *,
    epoch: int = 0,
    noarch: bool = False,
    capabilities: tuple[str, ...] = (),
) -> Rpm:
    """Return a baseline package; ``requires`` and ``provides`` are names separated by blanks."""
    upstream, _, release = version.partition("-")
    return Rpm(
        name=name,
        version=upstream,
        release=release or "1.el9",
        epoch=epoch,
        noarch=noarch,
        summary=f"Stand-in for what a minimal EL 9 host has of {name}",
        requires=tuple(requires.split()),
        provides=(*provides.split(), *capabilities),
    )


def _library(name: str, version: str, soname: str, requires: str = "glibc") -> Rpm:
    return _has(name, version, requires, " ".join(f"{word}()(64bit)" for word in soname.split()))


CORE_GROUP: tuple[str, ...] = (
    "NetworkManager",
    "almalinux-release",
    "audit",
    "basesystem",
    "bash",
    "coreutils",
    "cronie",
    "crypto-policies",
    "curl",
    "dnf",
    "e2fsprogs",
    "filesystem",
    "firewalld",
    "glibc",
    "hostname",
    "iproute",
    "iputils",
    "irqbalance",
    "kbd",
    "less",
    "man-db",
    "ncurses",
    "openssh-clients",
    "openssh-server",
    "p11-kit",
    "parted",
    "policycoreutils",
    "procps-ng",
    "rootfiles",
    "rpm",
    "selinux-policy-targeted",
    "setup",
    "shadow-utils",
    "sudo",
    "systemd",
    "util-linux",
    "vim-minimal",
    "xfsprogs",
    "yum",
)

BASELINE: tuple[Rpm, ...] = (
    _has("NetworkManager", "1.54.0-3.el9", "NetworkManager-libnm dbus glib2 libndp polkit systemd", epoch=1),
    _library("NetworkManager-libnm", "1.54.0-3.el9", "libnm.so.0", "glib2"),
    _library("acl", "2.3.1-4.el9", "", "libacl"),
    _has("almalinux-gpg-keys", "9.8-1.el9", provides="system-gpg-keys", noarch=True),
    _has(
        "almalinux-release",
        "9.8-1.el9",
        "almalinux-repos almalinux-gpg-keys",
        capabilities=(
            "redhat-release = 9.8-1.el9",
            "system-release = 9.8-1.el9",
            "system-release(releasever) = 9",
            "base-module(platform:el9)",
        ),
    ),
    _has("almalinux-repos", "9.8-1.el9", "almalinux-gpg-keys", "system-repos", noarch=True),
    _has("alternatives", "1.24-2.el9", "glibc popt", "/usr/sbin/alternatives /usr/sbin/update-alternatives"),
    _has("audit", "3.1.5-7.el9", "audit-libs coreutils systemd", "/usr/sbin/auditctl"),
    _library("audit-libs", "3.1.5-7.el9", "libaudit.so.1 libauparse.so.0", "glibc libcap-ng"),
    _has("basesystem", "11-13.el9", "filesystem setup", noarch=True),
    _has("bash", "5.1.8-9.el9", "filesystem glibc ncurses-libs",
         "/bin/bash /bin/sh /usr/bin/bash /usr/bin/sh"),
    _library("bzip2-libs", "1.0.8-10.el9", "libbz2.so.1"),
    _has("ca-certificates", "2025.2.80-90.el9", "coreutils findutils grep p11-kit p11-kit-trust sed",
         noarch=True),
    _has("coreutils", "8.32-39.el9", "coreutils-common libacl libattr libcap gmp libselinux openssl-libs",
         "/bin/cat /usr/bin/env /usr/bin/id /usr/bin/chown"),
    _has("coreutils-common", "8.32-39.el9"),
    _has("cracklib", "2.9.6-27.el9", "gzip zlib"),
    _has("cracklib-dicts", "2.9.6-27.el9", "cracklib"),
    _has("cronie", "1.5.7-15.el9", "bash coreutils cronie-anacron libselinux pam systemd"),
    _has("cronie-anacron", "1.5.7-15.el9", "cronie crontabs coreutils"),
    _has("crontabs", "1.11-27.20190603git.el9", "sed", "/usr/bin/run-parts", noarch=True),
    _has("crypto-policies", "20250905-1.git377cc42.el9", noarch=True),
    _has("curl", "7.76.1-34.el9", "libcurl openssl-libs zlib", "/usr/bin/curl"),
    _library("cyrus-sasl-lib", "2.1.27-22.el9", "libsasl2.so.3", "gdbm-libs krb5-libs openssl-libs"),
    _has("dbus", "1.12.20-8.el9", "dbus-broker systemd", epoch=1),
    _has("dbus-broker", "28-7.el9", "audit-libs dbus-common expat libcap-ng libselinux systemd systemd-libs"),
    _has("dbus-common", "1.12.20-8.el9", epoch=1, noarch=True),
    _library("dbus-libs", "1.12.20-8.el9", "libdbus-1.so.3", "glibc systemd-libs"),
    _has("device-mapper", "1.02.206-2.el9", "device-mapper-libs util-linux", epoch=9),
    _library("device-mapper-libs", "1.02.206-2.el9", "libdevmapper.so.1.02",
             "device-mapper libselinux systemd-libs"),
    _has("diffutils", "3.7-12.el9", "glibc", "/usr/bin/diff"),
    _has("dnf", "4.14.0-31.el9", "python3-dnf", "/usr/bin/dnf", noarch=True),
    _has("dnf-data", "4.14.0-31.el9", noarch=True),
    _has("e2fsprogs", "1.46.5-8.el9", "e2fsprogs-libs libblkid libcom_err libss libuuid"),
    _library("e2fsprogs-libs", "1.46.5-8.el9", "libext2fs.so.2 libe2p.so.2", "libcom_err"),
    _library("elfutils-libelf", "0.193-1.el9", "libelf.so.1", "libzstd zlib"),
    _library("expat", "2.5.0-5.el9", "libexpat.so.1"),
    _library("file-libs", "5.39-16.el9", "libmagic.so.1", "bzip2-libs xz-libs zlib"),
    _has("filesystem", "3.16-5.el9", "setup"),
    _has("findutils", "4.8.0-7.el9", "glibc libselinux", "/usr/bin/find /usr/bin/xargs", epoch=1),
    _has("firewalld-filesystem", "1.3.4-15.el9", noarch=True),
    _has("gawk", "5.1.0-6.el9", "gmp libsigsegv mpfr readline", "/bin/awk /usr/bin/awk /usr/bin/gawk"),
    _library("gdbm-libs", "1.23-1.el9", "libgdbm.so.6"),
    _library("glib2", "2.68.4-18.el9", "libglib-2.0.so.0 libgio-2.0.so.0",
             "gnutls libffi libmount pcre zlib"),
    _has(
        "glibc",
        "2.34-231.el9",
        "basesystem glibc-common glibc-minimal-langpack",
        capabilities=(
            "ld-linux-x86-64.so.2()(64bit)",
            "libc.so.6()(64bit)",
            "libc.so.6(GLIBC_2.34)(64bit)",
            "libm.so.6()(64bit)",
            "libpthread.so.0()(64bit)",
            "libresolv.so.2()(64bit)",
        ),
    ),
    _has("glibc-common", "2.34-231.el9", "glibc tzdata", "/usr/bin/getent"),
    _has("glibc-minimal-langpack", "2.34-231.el9", "glibc", "glibc-langpack"),
    _library("gmp", "6.2.0-13.el9", "libgmp.so.10"),
    _has("gnupg2", "2.3.3-5.el9", "gnutls libassuan libgcrypt libksba npth readline sqlite-libs"),
    _library("gnutls", "3.8.3-9.el9", "libgnutls.so.30",
             "crypto-policies gmp libtasn1 libunistring nettle p11-kit"),
    _has("gpgme", "1.15.1-6.el9", "gnupg2 libassuan libgpg-error", "libgpgme.so.11()(64bit)"),
    _has("grep", "3.6-5.el9", "glibc pcre", "/bin/grep /usr/bin/grep"),
    _has("groff-base", "1.22.4-10.el9", "libgcc libstdc++"),
    _has("gzip", "1.12-1.el9", "coreutils", "/bin/gzip /usr/bin/gzip"),
    _has("hostname", "3.23-6.el9", "glibc", "/usr/bin/hostname"),
    _library("inih", "49-6.el9", "libinih.so.0"),
    _has("iproute", "6.14.0-2.el9", "elfutils-libelf libbpf libcap libmnl libselinux psmisc",
         "/sbin/ip /usr/sbin/ip /usr/sbin/ss"),
    _has("ipset", "7.11-11.el9", "ipset-libs", "/usr/sbin/ipset"),
    _library("ipset-libs", "7.11-11.el9", "libipset.so.13", "libmnl"),
    _has("iputils", "20210202-15.el9", "libcap systemd", "/usr/bin/ping"),
    _has("irqbalance", "1.9.4-4.el9", "glib2 libcap-ng ncurses-libs numactl-libs systemd", epoch=2),
    _library("jansson", "2.14-1.el9", "libjansson.so.4"),
    _library("json-c", "0.14-11.el9", "libjson-c.so.5"),
    _has("kbd", "2.4.0-11.el9", "kbd-legacy kbd-misc pam"),
    _has("kbd-legacy", "2.4.0-11.el9", "kbd", noarch=True),
    _has("kbd-misc", "2.4.0-11.el9", noarch=True),
    _library("keyutils-libs", "1.6.3-1.el9", "libkeyutils.so.1"),
    _has("kmod", "28-11.el9", "kmod-libs xz-libs openssl-libs zlib", "/sbin/modprobe /usr/sbin/modprobe"),
    _library("kmod-libs", "28-11.el9", "libkmod.so.2", "libzstd openssl-libs xz-libs zlib"),
    _library("krb5-libs", "1.21.1-8.el9", "libkrb5.so.3 libgssapi_krb5.so.2",
             "coreutils crypto-policies keyutils-libs libcom_err libselinux libverto openssl-libs"),
    _has("less", "590-6.el9", "ncurses-libs", "/usr/bin/less"),
    _library("libacl", "2.3.1-4.el9", "libacl.so.1", "libattr"),
    _library("libarchive", "3.5.3-6.el9", "libarchive.so.13",
             "bzip2-libs libacl libxml2 libzstd lz4-libs openssl-libs xz-libs zlib"),
    _library("libassuan", "2.5.5-3.el9", "libassuan.so.0", "libgpg-error"),
    _library("libattr", "2.5.1-3.el9", "libattr.so.1"),
    _library("libblkid", "2.37.4-21.el9", "libblkid.so.1", "coreutils libuuid"),
    _library("libbpf", "1.5.0-2.el9", "libbpf.so.1", "elfutils-libelf zlib"),
    _library("libcap", "2.48-10.el9", "libcap.so.2 libpsx.so.2", "libgcc"),
    _library("libcap-ng", "0.8.2-7.el9", "libcap-ng.so.0"),
    _has("libcap-ng-python3", "0.8.2-7.el9", "libcap-ng python3"),
    _library("libcbor", "0.7.0-5.el9", "libcbor.so.0.7"),
    _library("libcom_err", "1.46.5-8.el9", "libcom_err.so.2"),
    _library("libcomps", "0.1.18-1.el9", "libcomps.so.0", "expat libxml2 zlib"),
    _library("libcurl", "7.76.1-34.el9", "libcurl.so.4",
             "krb5-libs libidn2 libnghttp2 libpsl libssh openldap openssl-libs zlib"),
    _library("libdb", "5.3.28-57.el9", "libdb-5.3.so"),
    _library("libdnf", "0.69.0-16.el9", "libdnf.so.2",
             "glib2 gpgme json-c libmodulemd librepo libsolv rpm-libs sqlite-libs"),
    _library("libeconf", "0.4.1-4.el9", "libeconf.so.0"),
    _library("libedit", "3.1-38.20210216cvs.el9", "libedit.so.0", "ncurses-libs"),
    _library("libfdisk", "2.37.4-21.el9", "libfdisk.so.1", "libblkid libuuid"),
    _library("libffi", "3.4.2-8.el9", "libffi.so.8"),
    _library("libfido2", "1.13.0-2.el9", "libfido2.so.1", "libcbor openssl-libs systemd-libs zlib"),
    _library("libgcc", "11.5.0-11.el9", "libgcc_s.so.1", ""),
    _library("libgcrypt", "1.10.0-11.el9", "libgcrypt.so.20", "libgpg-error"),
    _library("libgpg-error", "1.42-5.el9", "libgpg-error.so.0"),
    _library("libidn2", "2.3.0-7.el9", "libidn2.so.0", "libunistring"),
    _library("libksba", "1.5.1-7.el9", "libksba.so.8", "libgpg-error"),
    _library("libmnl", "1.0.4-16.el9", "libmnl.so.0"),
    _library("libmodulemd", "2.13.0-2.el9", "libmodulemd.so.2", "file-libs glib2 libyaml rpm-libs"),
    _library("libmount", "2.37.4-21.el9", "libmount.so.1", "libblkid libselinux libuuid"),
    _library("libndp", "1.9-1.el9", "libndp.so.0"),
    _library("libnftnl", "1.2.6-4.el9", "libnftnl.so.11", "libmnl"),
    _library("libnghttp2", "1.43.0-6.el9", "libnghttp2.so.14"),
    _library("libpipeline", "1.5.3-4.el9", "libpipeline.so.1"),
    _library("libpsl", "0.21.1-5.el9", "libpsl.so.5", "libidn2 libunistring publicsuffix-list-dafsa"),
    _library("libpwquality", "1.4.4-8.el9", "libpwquality.so.1", "cracklib cracklib-dicts pam"),
    _library("librepo", "1.14.5-2.el9", "librepo.so.0", "glib2 gpgme libcurl libxml2 openssl-libs"),
    _library("libseccomp", "2.5.2-2.el9", "libseccomp.so.2"),
    _library("libselinux", "3.6-3.el9", "libselinux.so.1", "libsepol pcre2"),
    _has("libselinux-utils", "3.6-3.el9", "libselinux", "/usr/sbin/getenforce"),
    _library("libsemanage", "3.6-5.el9", "libsemanage.so.2", "audit-libs bzip2-libs libselinux libsepol"),
    _library("libsepol", "3.6-3.el9", "libsepol.so.2"),
    _library("libsigsegv", "2.13-4.el9", "libsigsegv.so.2"),
    _library("libsmartcols", "2.37.4-21.el9", "libsmartcols.so.1"),
    _library("libsolv", "0.7.24-3.el9", "libsolv.so.1", "bzip2-libs libxml2 libzstd rpm-libs xz-libs zlib"),
    _library("libss", "1.46.5-8.el9", "libss.so.2", "libcom_err"),
    _library("libssh", "0.10.4-15.el9", "libssh.so.4", "krb5-libs libssh-config openssl-libs zlib"),
    _has("libssh-config", "0.10.4-15.el9", noarch=True),
    _library("libstdc++", "11.5.0-11.el9", "libstdc++.so.6", "glibc libgcc"),
    _library("libtasn1", "4.16.0-9.el9", "libtasn1.so.6"),
    _library("libunistring", "0.9.10-15.el9", "libunistring.so.2"),
    _library("libutempter", "1.2.1-6.el9", "libutempter.so.0", "shadow-utils"),
    _library("libuuid", "2.37.4-21.el9", "libuuid.so.1"),
    _library("libverto", "0.3.2-3.el9", "libverto.so.1"),
    _library("libxcrypt", "4.4.18-3.el9", "libcrypt.so.2"),
    _library("libxml2", "2.9.13-12.el9", "libxml2.so.2", "xz-libs zlib"),
    _library("libyaml", "0.2.5-7.el9", "libyaml-0.so.2"),
    _library("libzstd", "1.5.5-1.el9", "libzstd.so.1"),
    _library("lua-libs", "5.4.4-4.el9", "liblua-5.4.so"),
    _library("lz4-libs", "1.9.3-5.el9", "liblz4.so.1"),
    _has("man-db", "2.9.3-9.el9", "coreutils gdbm-libs grep groff-base gzip less libpipeline zlib"),
    _library("mpfr", "4.1.0-7.el9", "libmpfr.so.6", "gmp"),
    _has("ncurses", "6.2-12.20210508.el9", "ncurses-libs"),
    _has("ncurses-base", "6.2-12.20210508.el9", noarch=True),
    _library("ncurses-libs", "6.2-12.20210508.el9", "libncursesw.so.6 libtinfo.so.6", "glibc ncurses-base"),
    _library("nettle", "3.10.1-1.el9", "libnettle.so.8 libhogweed.so.6", "gmp"),
    _library("npth", "1.6-8.el9", "libnpth.so.0"),
    _library("numactl-libs", "2.0.19-3.el9", "libnuma.so.1"),
    _library("openldap", "2.6.8-4.el9", "libldap.so.2 liblber.so.2", "cyrus-sasl-lib openssl-libs"),
    _has("openssh", "8.7p1-47.el9", "audit-libs libselinux openssl-libs"),
    _has("openssh-clients", "8.7p1-47.el9", "crypto-policies krb5-libs libedit libfido2 openssh",
         "/usr/bin/ssh"),
    _has("openssh-server", "8.7p1-47.el9",
         "audit-libs crypto-policies krb5-libs openssh pam shadow-utils systemd"),
    _has("openssl-libs", "3.5.1-4.el9", "ca-certificates crypto-policies glibc zlib",
         "libcrypto.so.3()(64bit) libssl.so.3()(64bit)", epoch=1),
    _has("p11-kit", "0.25.3-3.el9", "libffi libtasn1"),
    _has("p11-kit-trust", "0.25.3-3.el9", "alternatives libtasn1 p11-kit"),
    _has("pam", "1.5.1-26.el9",
         "audit-libs coreutils libdb libeconf libpwquality libselinux libxcrypt setup"),
    _has("parted", "3.5-3.el9", "device-mapper-libs libblkid libuuid readline"),
    _library("pcre", "8.44-4.el9", "libpcre.so.1"),
    _library("pcre2", "10.40-6.el9", "libpcre2-8.so.0", "pcre2-syntax"),
    _has("pcre2-syntax", "10.40-6.el9", noarch=True),
    _has("policycoreutils", "3.6-3.el9",
         "audit-libs coreutils diffutils gawk grep libselinux-utils libsemanage libsepol rpm sed util-linux",
         "/usr/sbin/restorecon /usr/sbin/semodule"),
    _has("polkit", "0.117-14.el9", "dbus expat glib2 pam polkit-libs polkit-pkla-compat"),
    _library("polkit-libs", "0.117-14.el9", "libpolkit-gobject-1.so.0", "glib2"),
    _has("polkit-pkla-compat", "0.1-21.el9", "glib2 polkit-libs"),
    _library("popt", "1.18-8.el9", "libpopt.so.0"),
    _has("procps-ng", "3.3.17-14.el9", "ncurses-libs systemd-libs", "/usr/bin/ps /usr/sbin/sysctl"),
    _has("psmisc", "23.4-3.el9", "libselinux ncurses-libs"),
    _has("publicsuffix-list-dafsa", "20210518-3.el9", noarch=True),
    _has("python3", "3.9.25-2.el9", "python3-libs", "/usr/bin/python3 /usr/libexec/platform-python",
         capabilities=("python(abi) = 3.9",)),
    _has("python3-dbus", "1.2.18-2.el9", "dbus-libs glib2 python3"),
    _has("python3-dnf", "4.14.0-31.el9",
         "dnf-data python3-gpg python3-hawkey python3-libcomps python3-libdnf python3-rpm", noarch=True),
    _has("python3-gobject-base", "3.40.1-6.el9", "glib2 python3"),
    _has("python3-gpg", "1.15.1-6.el9", "gpgme python3"),
    _has("python3-hawkey", "0.69.0-16.el9", "libdnf python3-libdnf"),
    _has("python3-libcomps", "0.1.18-1.el9", "libcomps python3"),
    _has("python3-libdnf", "0.69.0-16.el9", "libdnf python3"),
    _library("python3-libs", "3.9.25-2.el9", "libpython3.9.so.1.0",
             "bzip2-libs expat gdbm-libs libffi libxcrypt ncurses-libs openssl-libs readline sqlite-libs "
             "tzdata xz-libs"),
    _has("python3-nftables", "1.0.9-5.el9", "nftables python3", epoch=1),
    _has("python3-rpm", "4.16.1.3-39.el9", "python3 rpm-libs"),
    _library("readline", "8.1-4.el9", "libreadline.so.8", "ncurses-libs"),
    _has("rootfiles", "8.1-35.el9", noarch=True),
    _has("rpm", "4.16.1.3-39.el9", "coreutils curl libarchive popt rpm-libs sqlite-libs", "/usr/bin/rpm"),
    _library("rpm-libs", "4.16.1.3-39.el9", "librpm.so.9 librpmio.so.9",
             "audit-libs bzip2-libs elfutils-libelf libacl libcap libgcrypt libzstd lua-libs popt "
             "sqlite-libs xz-libs"),
    _has("sed", "4.8-9.el9", "glibc libacl libselinux", "/bin/sed /usr/bin/sed"),
    _has("selinux-policy", "38.1.65-1.el9", "policycoreutils",
         noarch=True, capabilities=("selinux-policy-base",)),
    _has("selinux-policy-targeted", "38.1.65-1.el9", "coreutils policycoreutils selinux-policy", noarch=True),
    _has("setup", "2.13.7-10.el9", "system-release", noarch=True),
    _has("shadow-utils", "4.9-15.el9", "audit-libs libacl libattr libselinux libsemanage libxcrypt setup",
         "/usr/sbin/groupadd /usr/sbin/useradd /usr/sbin/usermod", epoch=2),
    _library("sqlite-libs", "3.34.1-9.el9", "libsqlite3.so.0", "zlib"),
    _has("sudo", "1.9.5p2-13.el9", "audit-libs openldap pam vim-minimal", "/usr/bin/sudo"),
    _has("systemd", "252-55.el9",
         "coreutils dbus kmod libacl libblkid libcap libmount libseccomp libselinux pam systemd-libs "
         "systemd-pam "
         "systemd-rpm-macros util-linux",
         "/usr/bin/systemctl /usr/bin/systemd-tmpfiles syslog systemd-sysv"),
    _library("systemd-libs", "252-55.el9", "libsystemd.so.0 libudev.so.1",
             "glibc libcap libgcrypt libgcc lz4-libs xz-libs libzstd"),
    _has("systemd-pam", "252-55.el9", "pam systemd"),
    _has("systemd-rpm-macros", "252-55.el9", noarch=True),
    _has("tzdata", "2025b-2.el9", noarch=True),
    _library("userspace-rcu", "0.12.1-6.el9", "liburcu.so.6"),
    _has("util-linux", "2.37.4-21.el9",
         "audit-libs coreutils libblkid libcap-ng libfdisk libmount libselinux libsmartcols libutempter "
         "libuuid pam "
         "util-linux-core",
         "/bin/mount /usr/bin/mount /usr/sbin/losetup"),
    _has("util-linux-core", "2.37.4-21.el9", "libblkid libmount libsmartcols libuuid systemd-libs"),
    _has("vim-minimal", "8.2.2637-22.el9", "acl libselinux ncurses-libs", "/usr/bin/vi", epoch=2),
    _has("xfsprogs", "6.4.0-7.el9", "device-mapper-libs inih libblkid libedit libuuid userspace-rcu"),
    _library("xz-libs", "5.2.5-8.el9", "liblzma.so.5"),
    _has("yum", "4.14.0-31.el9", "dnf", noarch=True),
    _library("zlib", "1.2.11-40.el9", "libz.so.1"),
)  # fmt: skip


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
            requires="firewalld-filesystem ipset nftables python3-firewall systemd",
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
    # Debian's socat wants libwrap, which EL 9 has no more; it comes along.
    _debian("socat", "socat", "libwrap0", summary="Relay between two channels of bytes",
            include=("/usr/bin/socat", LIBRARIES),
            requires="libcrypto.so.3()(64bit) libssl.so.3()(64bit) libreadline.so.8()(64bit)"),
)  # fmt: skip

#: What differed in the last minor release but one: its SELinux policy is too old for today's container-selinux.
OLD_RELEASE = "9.6"
_OLD_VERSIONS = {
    "almalinux-gpg-keys": "9.6-1.el9",
    "almalinux-release": "9.6-1.el9",
    "almalinux-repos": "9.6-1.el9",
    "selinux-policy": "38.1.53-5.el9",
    "selinux-policy-targeted": "38.1.53-5.el9",
}


def _as_old(package: Rpm) -> Rpm:
    """Return the build of a baseline package that the old minor release has."""
    if package.name not in _OLD_VERSIONS:
        return package
    version, _, release = _OLD_VERSIONS[package.name].partition("-")
    today = f"{package.version}-{package.release}"
    provides = tuple(capability.replace(today, f"{version}-{release}") for capability in package.provides)
    return replace(package, version=version, release=release, provides=provides)


OLD_BASELINE: tuple[Rpm, ...] = tuple(_as_old(package) for package in BASELINE)
OLD_APPSTREAM: tuple[Rpm, ...] = (_container_selinux("2.235.0", "1.el9_6", policy="38.1.53"),)

SOURCES: tuple[tuple[str, Source], ...] = (
    ("baseos", Source(name="el9-baseline", signer="baseos", packages=BASELINE)),
    ("baseos", Source(name="el9-baseos", signer="baseos", packages=BASEOS_EXTRAS)),
    ("appstream", Source(name="el9-appstream", signer="appstream", packages=APPSTREAM_EXTRAS)),
    (f"baseos-{OLD_RELEASE}", Source(name="el9-old-baseline", signer="baseos", packages=OLD_BASELINE)),
    (f"baseos-{OLD_RELEASE}", Source(name="el9-baseos", signer="baseos", packages=BASEOS_EXTRAS)),
    (
        f"appstream-{OLD_RELEASE}",
        Source(name="el9-old-appstream", signer="appstream", packages=OLD_APPSTREAM),
    ),
)
