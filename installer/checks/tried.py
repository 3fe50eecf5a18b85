# SPDX-License-Identifier: Apache-2.0
"""What is tried, because looking does not tell. Codes CSN5xx."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Callable

from installer.base.run import Completed, describe_code
from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity, SkippedError
from installer.checks.trials import CONTAINER_SAYS, BusyError, Media
from installer.media import dnf

BENCHMARK_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")
"""For tests of network devices, in use nowhere. Source: RFC 2544, C.2.2."""
CHANGE_HEADINGS = re.compile(r"^(Upgrading|Downgrading|Reinstalling|Removing[^\n:]*|Obsoleting[^\n:]*):$")
DROPPING_CHAIN = re.compile(r"hook forward\b[^;]*;\s*policy drop;")


def _media(host: Host) -> Media:
    """Return the packages.

    Raises:
        SkippedError: they are not at hand, or this is not root.
    """
    _need_root(host)
    if host.media_dir is None or host.product is None:
        raise SkippedError("the media with the packages is not mounted")
    return Media(host.media_dir, host.product)


def _need_root(host: Host) -> None:
    if host.user_id != 0:
        raise SkippedError("only root can try it")


def _in_turn(trial: Callable[[], str]) -> str:
    try:
        return trial()
    except BusyError as exc:
        raise SkippedError(str(exc)) from exc


def runs_programs(host: Host) -> Iterator[Finding]:
    """Unpack the media's programs in memory and start each: a C library or a CPU that is too old shows here."""
    media = _media(host)
    for program, completed in () if host.is_ours else host.trials.run_programs(media).items():
        if completed.returncode != 0:
            yield Finding(f"{program}: {_last_words(completed)}")


def mounts_overlay(host: Host) -> Iterator[Finding]:
    """Mount an overlay on the disk of /var/lib/containerd and write through it, as every container does."""
    _need_root(host)
    fault = _in_turn(lambda: host.trials.mount_overlay(host.existing("/var/lib/containerd")))
    if fault:
        yield Finding(f"on {host.existing('/var/lib/containerd')}: {fault}")


def starts_container(host: Host) -> Iterator[Finding]:
    """Start a container by the media's own runc: namespaces, control groups and seccomp are all asked.

    It is started by who runs the check, not by containerd: what SELinux lets containerd's own domain do is not tried.
    """
    media = _media(host)
    if host.is_ours:
        return
    completed = host.trials.run_container(media)
    # What runc ran into when it cleaned up after the program says nothing about the host.
    if completed.returncode != 0 and not completed.stdout.startswith(CONTAINER_SAYS):
        yield Finding(f"runc: {_last_words(completed)}")


def passes_packets(host: Host) -> Iterator[Finding]:
    """Send a packet from one network namespace to another through this host, as from pod to pod.

    firewalld is told to trust both ends for that second, as it will be for pods. What still drops the packet is
    another packet filter, and would drop those of pods.
    """
    _need_root(host)
    if host.is_ours:
        return
    network = host.config.networks.pods_cidr if host.config is not None else BENCHMARK_NETWORK
    state = host.run(["systemctl", "is-active", "firewalld.service"]).stdout.strip()
    fault = _in_turn(lambda: host.trials.send_packets(network, has_firewalld=state == "active"))
    if fault:
        chains = _dropping_chains(host.run(["nft", "list", "chains"]).stdout)
        yield Finding(fault + (f"; chains that drop by default: {', '.join(chains)}" if chains else ""))


def _dropping_chains(text: str) -> list[str]:
    """Return the chains of ``nft list chains`` that drop what is forwarded, without firewalld's own."""
    found, table, chain = [], "", ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif DROPPING_CHAIN.search(line) and table != "inet firewalld":
            found.append(f"{table} {chain}")
    return found


def installs_packages(host: Host) -> Iterator[Finding]:
    """Let dnf test the whole installation from the media: what it needs, what conflicts, what it would change.

    Packages of the host are neither upgraded nor removed, unless overrides.allowPackageChanges names them.
    """
    media = _media(host)
    completed = host.trials.try_packages(media, dnf.HOST_PACKAGES)
    allowed = host.config.overrides.allowed_package_changes if host.config is not None else ()
    for name, change in changed_packages(completed.stdout).items():
        if name not in allowed:
            yield Finding(f"dnf would change a package of this host: {change} {name}")
    if completed.returncode != 0:
        error = dnf.explain_trial(completed)
        yield Finding(error.message, fix=error.resolution)


def changed_packages(text: str) -> dict[str, str]:
    r"""Return name -> what dnf would do to it, of packages that are installed already.

    >>> changed_packages("Upgrading:\n nftables  x86_64  1:1.0.9-1  caisson  370 k\n\nTransaction Summary\n")
    {'nftables': 'upgrading'}
    """
    found: dict[str, str] = {}
    change = ""
    for line in text.splitlines():
        heading = CHANGE_HEADINGS.match(line)
        if heading:
            change = heading.group(1).split()[0].lower()
        elif not line.startswith(" "):
            change = ""
        elif change and not line.startswith("  "):  # deeper are the packages that it replaces
            found.setdefault(line.split()[0], change)
    return found


def _last_words(completed: Completed) -> str:
    said = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
    ending = describe_code(completed.returncode)
    return f"{ending}: {said[-1].strip()}" if said else ending


TRIALS: tuple[Check, ...] = (
    Check(
        "CSN501",
        Severity.ERROR,
        "the programs of the media run",
        runs_programs,
        "use EL9 on a CPU with x86-64-v2; look for security software that stops unknown programs",
        is_trial=True,
    ),
    Check(
        "CSN502",
        Severity.ERROR,
        "an overlay can be mounted",
        mounts_overlay,
        "put /var/lib/containerd on XFS (ftype=1) or ext4",
        is_trial=True,
    ),
    Check(
        "CSN503",
        Severity.ERROR,
        "a container starts",
        starts_container,
        "look into the journal (journalctl -k) for what refused it: SELinux, seccomp, control groups",
        is_trial=True,
    ),
    Check(
        "CSN504",
        Severity.ERROR,
        "packets pass between two network namespaces",
        passes_packets,
        "remove the packet filter's rule that drops forwarded packets; firewalld may stay",
        is_trial=True,
    ),
    Check(
        "CSN505",
        Severity.ERROR,
        "the packages can be installed",
        installs_packages,
        "remove what conflicts, or name the package in overrides.allowPackageChanges",
        is_trial=True,
    ),
)
