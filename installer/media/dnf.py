# SPDX-License-Identifier: Apache-2.0
"""Install packages from the media and from nowhere else.

dnf gets a configuration of its own: one repository (the media, ``file://``), signatures checked, no plugins,
its own cache and logs. What the host has configured (repositories, excludes, plugins, proxies) is neither
read nor changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from installer.base.errors import CommandError, PackageError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import Completed, describe_code, run
from installer.base.ui import Ui
from installer.media.product import Product

DNF_TIMEOUT_S = 900.0
HOST_PACKAGES = (
    "salt-minion",
    "container-selinux",
    "containerd.io",
    "cri-tools",
    "kubelet",
    "kubeadm",
    "kubectl",
    "kubernetes-cni",
    "conntrack-tools",
    "ebtables",
    "ethtool",
    "iproute-tc",
    "nftables",
    "socat",
    "tar",
    "xz",
)
"""Everything that a bootstrap installs by name; the states of Salt name the same (a test compares them)."""
RPM_TIMEOUT_S = 120.0
LAST_LINES = 15
KEY_IMPORT = re.compile(r"^(Importing GPG key|Key imported|\s*(Userid|Fingerprint|From)\s*:)")

# What dnf says, and what it means; {0} is the first group. Source: dnf 4.14 (EL9), rpm 4.16.
TELLTALES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"Failing package is: (\S+)"),
        "package {0} does not have a good signature by a key of the media",
        "the media is damaged or was tampered with: do not install from it; compare the ISO's checksum",
    ),
    (
        re.compile(r"Public key for (\S+) is not (?:installed|trusted)"),
        "package {0} is signed by a key that is not on the media",
        "the media is damaged or was tampered with: do not install from it; compare the ISO's checksum",
    ),
    (
        re.compile(r"Package (\S+) is not signed"),
        "package {0} is not signed",
        "the media is damaged or was tampered with: do not install from it; compare the ISO's checksum",
    ),
    (
        re.compile(r"(?:No match for argument|Unable to find a match): (.+)"),
        "the media has no package {0}",
        "the media does not fit this installer: start bootstrap.sh of the same media",
    ),
    (
        re.compile(r"At least (\S+ more space needed on the \S+ filesystem)"),
        "there is not enough space: {0}",
        "make room there, then run this again",
    ),
    (
        re.compile(r"nothing provides (.+?) needed by (.+?) from"),
        "package {1} needs {0}, which neither the media nor this host has",
        "this host lacks a package of EL9's minimal install: install that from your own repositories",
    ),
    (
        re.compile(r"file (\S+) .*conflicts? (?:between|with).*"),
        "packages conflict over the file {0}",
        "remove the package of this host that owns it (rpm -qf FILE), then run this again",
    ),
    (
        re.compile(r"package (\S+) .*conflicts with (.+?) provided by (\S+)"),
        "package {0} conflicts with {2} of this host",
        "remove that package, then run this again",
    ),
)


def render_main(paths: Paths) -> str:
    """Return dnf.conf."""
    options = {
        "gpgcheck": "1",
        "plugins": "0",
        "reposdir": str(paths.dnf_dir / "repos.d"),
        "varsdir": str(paths.dnf_dir / "vars"),
        "cachedir": str(paths.dnf_cache_dir),
        "logdir": str(paths.log_dir / "dnf"),
        # Two builds of one package may be there, each for another minor release of the host: the newest that fits.
        "best": "0",
        "install_weak_deps": "0",
        "clean_requirements_on_remove": "0",
        "skip_if_unavailable": "0",
        "keepcache": "0",
        "deltarpm": "0",
        "zchunk": "0",
        "color": "never",
        "module_platform_id": "platform:el9",
    }
    return "# Written by Caisson: only Caisson uses it.\n[main]\n" + _lines(options)


def render_repository(media_dir: Path, product: Product) -> str:
    """Return the definition of the only repository: the media."""
    keys = " ".join(f"file://{media_dir}/{key}" for key in product.rpm_keys)
    options = {
        "name": f"Caisson {product.full_version}" + (" lab" if product.is_lab else ""),
        "baseurl": f"file://{media_dir}/repo/el9",
        "enabled": "1",
        "gpgcheck": "1",
        "gpgkey": keys,
        "module_hotfixes": "1",
        "metadata_expire": "0",
        "skip_if_unavailable": "0",
    }
    return "# Written by Caisson.\n[caisson]\n" + _lines(options)


def _lines(options: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in options.items())


def write_files(paths: Paths, media_dir: Path, product: Product) -> bool:
    """Write dnf's own configuration below ``paths``; return whether it changed."""
    (paths.dnf_dir / "vars").mkdir(parents=True, exist_ok=True)
    (paths.log_dir / "dnf").mkdir(parents=True, exist_ok=True)
    written = (
        write_file(paths.dnf_dir / "dnf.conf", render_main(paths)),
        write_file(paths.dnf_dir / "repos.d/caisson.repo", render_repository(media_dir, product)),
    )
    return any(written)


def dnf_arguments(paths: Paths, *words: str) -> list[str]:
    """Return the command line of dnf that reads nothing of the host's configuration."""
    return ["dnf", "--config", str(paths.dnf_dir / "dnf.conf"), "--noplugins", "--releasever=9", "-y", *words]


def install(names: Sequence[str], *, paths: Paths, media_dir: Path, product: Product, ui: Ui) -> bool:
    """Install packages of the media by name, with what they need; return whether rpm's database changed.

    Packages that are there in the media's version cost one query. Newer ones of the host stay.

    Raises:
        PackageError: dnf or rpm refused; the message names the package where dnf does.
    """
    is_configured = write_files(paths, media_dir, product)
    if not wanting(names, product.packages, installed_versions(names)):
        return is_configured
    ui.progress(f"dnf to install {', '.join(names)}")
    before = all_packages()
    arguments = dnf_arguments(paths, "install", *names)
    completed = run(arguments, timeout_s=DNF_TIMEOUT_S, check=False)
    if completed.returncode != 0:
        raise explain(completed, names, paths)
    after = all_packages()
    added = sorted(after - before)
    if added:
        ui.detail("installed: " + " ".join(added))
        ui.progress(f"{len(added)} packages were installed")
    still = [name for name in names if name not in installed_versions(names)]
    if still:
        raise PackageError(
            f"dnf ended well, but {', '.join(still)} is not installed",
            details=_tail(completed),
            resolution=f"see {paths.log_dir / 'dnf'}",
        )
    return before != after or is_configured


def wanting(names: Iterable[str], offered: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return the names that are not installed, or not in the version (``version-release``) that is offered.

    >>> wanting(["a", "b", "c"], {"a": "2-1", "b": "2-1"}, {"a": "2-1", "b": "1-1", "c": "7-1"})
    ['b']
    """
    return [
        name
        for name in names
        if name not in installed or installed[name] != offered.get(name, installed[name])
    ]


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Return ``version-release`` of those of ``names`` that are installed."""
    completed = run(
        ["rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n", *names],
        timeout_s=RPM_TIMEOUT_S,
        check=False,
    )
    words = (line.split() for line in completed.stdout.splitlines())
    return {line[0]: line[1] for line in words if len(line) == 2}


def all_packages() -> frozenset[str]:
    """Return name-version-release.architecture of every installed package.

    Raises:
        PackageError: rpm's database cannot be read.
    """
    try:
        listed = run(
            ["rpm", "-qa", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n"], timeout_s=RPM_TIMEOUT_S
        )
    except CommandError as exc:
        raise PackageError(
            "rpm's database cannot be read", details=exc.details, resolution="try 'rpm --rebuilddb'"
        ) from exc
    return frozenset(listed.stdout.split())


def explain(completed: Completed, names: Sequence[str], paths: Paths) -> PackageError:
    """Turn what dnf said into an error that names the package."""
    text = completed.stdout + "\n" + completed.stderr
    for pattern, message, resolution in TELLTALES:
        match = pattern.search(text)
        if match:
            groups = [group.strip() for group in match.groups()]
            return PackageError(
                message.format(*groups),
                details=f"wanted: {', '.join(names)}\n{_tail(completed)}\nlog: {paths.log_dir / 'dnf'}",
                resolution=resolution,
            )
    return PackageError(
        f"dnf could not install {', '.join(names)}: {describe_code(completed.returncode)}",
        details=f"{_tail(completed)}\nlog: {paths.log_dir / 'dnf'}",
        resolution="see the last lines above",
    )


def explain_trial(completed: Completed) -> PackageError:
    """Turn what dnf said in a test of the whole installation into an error."""
    return explain(completed, HOST_PACKAGES, Paths())


def _tail(completed: Completed) -> str:
    said = (completed.stdout + "\n" + completed.stderr).splitlines()
    lines = [line for line in said if line.strip() and not KEY_IMPORT.match(line)]
    return "\n".join(f"| {line}" for line in lines[-LAST_LINES:])
