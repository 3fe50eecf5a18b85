# SPDX-License-Identifier: Apache-2.0
"""The comps group ``core`` of EL 9, and the packages of its closure that the lab has without files.

    el9-core.tsv --read_table--> BASELINE

A lab node's files are Debian's. These packages say what a host may count on, so that a requirement outside of
them must come from the ISO or fail.
"""

from __future__ import annotations

from pathlib import Path

from lab.rpmspec import Rpm

TABLE_FILE = Path(__file__).with_name("el9-core.tsv")

#: The mandatory packages of the group.
#: Source: CentOS Stream 9 BaseOS, comps.xml of 2022-02 and 2025-01: the same names in both.
CORE_GROUP: tuple[str, ...] = (
    "audit",
    "basesystem",
    "bash",
    "coreutils",
    "cronie",
    "crypto-policies",
    "crypto-policies-scripts",
    "curl",
    "dnf",
    "e2fsprogs",
    "filesystem",
    "firewalld",
    "glibc",
    "grubby",
    "hostname",
    "iproute",
    "iproute-tc",
    "iputils",
    "irqbalance",
    "kbd",
    "kexec-tools",
    "less",
    "logrotate",
    "man-db",
    "ncurses",
    "openssh-clients",
    "openssh-server",
    "p11-kit",
    "parted",
    "passwd",
    "policycoreutils",
    "procps-ng",
    "rootfiles",
    "rpm",
    "rpm-plugin-audit",
    "selinux-policy-targeted",
    "setup",
    "shadow-utils",
    "sssd-common",
    "sssd-kcm",
    "sudo",
    "systemd",
    "util-linux",
    "vim-minimal",
    "xfsprogs",
    "yum",
)

#: Names that the group has too, and the repository does not: a comps file may be that of several products.
ABSENT_NAMES: tuple[str, ...] = ("insights-client", "subscription-manager")


def read_table(text: str) -> tuple[Rpm, ...]:
    r"""Return the packages of a table: name, epoch, version, release, architecture, requires, provides.

    >>> read_table("# a comment\nkmod\t2:28-11.el9\tx86_64\tglibc; zlib\n")[0].requires
    ('glibc', 'zlib')
    """
    return tuple(_package(line) for line in text.splitlines() if line and not line.startswith("#"))


def _package(line: str) -> Rpm:
    name, build, architecture, requires, provides = [*line.split("\t"), "", ""][:5]
    epoch, _, build = build.rpartition(":")
    version, _, release = build.partition("-")
    return Rpm(
        name=name,
        epoch=int(epoch or 0),
        version=version,
        release=release,
        noarch=architecture == "noarch",
        summary=f"Stand-in for what a minimal EL 9 host has of {name}",
        requires=_words(requires),
        provides=_words(provides),
    )


def _words(field: str) -> tuple[str, ...]:
    return tuple(word for word in field.split("; ") if word)


BASELINE: tuple[Rpm, ...] = read_table(TABLE_FILE.read_text())
