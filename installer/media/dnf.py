# SPDX-License-Identifier: Apache-2.0
"""Install packages from the media and from nowhere else.

dnf gets a configuration of its own: one repository (the media: ``file://``, or served by another node over HTTPS,
with Caisson's own authority), signatures checked, no plugins, its own cache and logs. What the host has configured
(repositories, excludes, plugins, proxies) is neither read nor changed. The keys of the media are in a keyring that
only this dnf looks at: in rpm's database every repository of the host would be trusted with them.

This is the only driver of dnf: Salt's states (``caisson_dnf``) call it from the installer's copy on the host.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import InstallerError, PackageError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import Completed, describe_code, run
from installer.media import repository, rpmdb, transaction
from installer.media.product import Product
from installer.media.rpmdb import Found

DNF_TIMEOUT_S = 1800.0
"""What rpm has begun then is let finish: nobody signals a transaction (base/session.py)."""
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
LAST_LINES = 15
KEY_BLOCK = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----.*?-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)
CUT_SCRIPT = re.compile(r"%(\w+)\((\S+)\) scriptlet failed, signal (\d+)")
KEY_IMPORT = re.compile(r"^(Importing GPG key|Key imported|\s*(Userid|Fingerprint|From)\s*:)")

# What dnf says, and what it means; {0} is the first group. Source: dnf 4.14 (EL9), rpm 4.16; librepo shows curl's
# numbers (libcurl-errors(3)).
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
        re.compile(r"Curl error \(6\): .*? for https://([^/:\s]+)"),
        "the media server {0} has no address here",
        "run the same command again: it writes the name into /etc/hosts",
    ),
    (
        re.compile(r"Curl error \((?:7|28)\): .*? for https://([^/:\s]+)"),
        "the media server {0} does not answer",
        "check on the bootstrap node that nginx runs (caisson status), and that its port is open to this host",
    ),
    (
        re.compile(r"Curl error \(60\): .*? for https://([^/:\s]+)"),
        "the certificate of the media server {0} is refused",
        "check the clocks of both hosts; then run the same command again: it sends the authority's certificate",
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


@dataclass(frozen=True)
class Served:
    """The media as other nodes serve it: the addresses, with blanks between, and the servers' authority."""

    url: str
    ca_file: str


def render_repository(media_dir: Path, product: Product, served: Served | None = None) -> str:
    """Return the definition of the only repository: the media, mounted here or served by another node.

    The keys of its packages are in ``media_dir`` either way.
    """
    keys = " ".join(f"file://{media_dir}/{key}" for key in product.rpm_keys)
    options = {
        "name": f"Caisson {product.full_version}" + (" lab" if product.is_lab else ""),
        "baseurl": f"file://{media_dir}/{repository.REPOSITORY}" if served is None else served.url,
        "enabled": "1",
        "gpgcheck": "1",
        "gpgkey": keys,
        "module_hotfixes": "1",
        "metadata_expire": "0",
        "skip_if_unavailable": "0",
    }
    if served is not None:
        # One that is gone costs the time-out once for each package, where another may be asked.
        timeout_s = "3" if " " in served.url else "10"
        options |= {"sslverify": "1", "sslcacert": served.ca_file, "timeout": timeout_s, "retries": "3"}
    return "# Written by Caisson.\n[caisson]\n" + _lines(options)


def knows(paths: Paths, media_dir: Path, product: Product, served: Served | None = None) -> bool:
    """Say whether dnf is told of the repository as it is; a host on which dnf was never used needs not be."""
    file = paths.dnf_dir / "repos.d/caisson.repo"
    return not file.exists() or file.read_text("utf-8") == render_repository(media_dir, product, served)


def _lines(options: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in options.items())


def render_macros(paths: Paths) -> str:
    """Return the macros of rpm that dnf reads by its HOME: the keyring is a directory, not rpm's database.

    Source: rpm, macros.in, ``%_keyring``, ``%_keyringpath``; lib/rpmts.c, loadKeyringFromFiles.
    """
    return f"%_keyring fs\n%_keyringpath {paths.dnf_dir}/keys\n"


def write_files(paths: Paths, media_dir: Path, product: Product, served: Served | None = None) -> bool:
    """Write dnf's own configuration and keyring below ``paths``; return whether anything changed."""
    (paths.dnf_dir / "vars").mkdir(parents=True, exist_ok=True)
    (paths.log_dir / "dnf").mkdir(parents=True, exist_ok=True)
    written = [
        write_file(paths.dnf_dir / "dnf.conf", render_main(paths)),
        write_file(paths.dnf_dir / "repos.d/caisson.repo", render_repository(media_dir, product, served)),
        write_file(paths.dnf_dir / ".rpmmacros", render_macros(paths)),
    ]
    wanted = split_keys([media_dir / key for key in product.rpm_keys])
    written += [write_file(paths.dnf_dir / "keys" / name, block) for name, block in wanted.items()]
    for file in (paths.dnf_dir / "keys").glob("*"):
        if file.name not in wanted:
            file.unlink()
            written.append(True)
    return any(written)


def split_keys(files: Sequence[Path]) -> dict[str, bytes]:
    """Return name -> text of each key in key files: rpm reads one key of each file in a keyring of this kind.

    A file that is not there confirms nothing: dnf then refuses the packages of its key by name.
    """
    return {
        f"{file.stem}-{number}.key": block + b"\n"
        for file in files
        if file.is_file()
        for number, block in enumerate(KEY_BLOCK.findall(file.read_bytes()), start=1)
    }


def dnf_arguments(paths: Paths, *words: str) -> list[str]:
    """Return the command line of dnf that reads nothing of the host's configuration; see ``dnf_environment``."""
    return ["dnf", "--config", str(paths.dnf_dir / "dnf.conf"), "--noplugins", "--releasever=9", "-y", *words]


def dnf_environment(paths: Paths) -> dict[str, str]:
    """Return what else that dnf needs: where its keyring is."""
    return {"HOME": str(paths.dnf_dir)}


def unsettled(names: Sequence[str], *, paths: Paths, product: Product) -> list[str]:
    """Return which of ``names`` an ``install`` would bring; all, when a transaction was cut. Only looks."""
    return _unsettled(names, product, transaction.read(paths))


def _unsettled(names: Sequence[str], product: Product, note: transaction.Note) -> list[str]:
    return list(names) if note.is_open else wanting(names, product.packages, rpmdb.installed(names), note)


def install(
    names: Sequence[str],
    *,
    paths: Paths,
    media_dir: Path,
    product: Product,
    progress: Callable[[str], None],
    detail: Callable[[str], None],
    served: Served | None = None,
) -> bool:
    """Install packages of the media by name, with what they need; return whether anything changed.

    Packages that are there in the media's version cost one query. Newer ones of the host stay. What a transaction
    brought that was cut is installed again, as if for the first time; what the site has installed since is let be.

    Raises:
        PackageError: dnf or rpm refused; the message names the package where dnf does.
    """
    is_configured = write_files(paths, media_dir, product, served)
    note = transaction.read(paths)
    if not _unsettled(names, product, note):
        return is_configured
    now = rpmdb.packages()
    before = now if note.before is None else note.before
    offered = repository.builds(media_dir, product)
    cut = transaction.find_cut(before, now, offered)
    transaction.begin(paths, before, note.brought)
    if cut:
        shown = ", ".join(package.name for package in (*cut.fresh, *cut.replaced))
        detail(f"a transaction of packages was cut; installed again: {shown}")
    progress(f"dnf to install {', '.join(names)}")
    with _noted(paths, before, note):
        found = _carry_out_all(names, cut, paths)
    after = rpmdb.packages()
    added = sorted(package.nevra for package in after - before)
    if added:
        detail("installed: " + " ".join(added))
        progress(f"{len(added)} packages were installed")
    settled = {name: [_offered(product.packages, name), *found[name]] for name in names}
    brought = transaction.brought(transaction.Note(before, brought=note.brought), now, offered)
    transaction.end(paths, settled, None if brought is None else brought | transaction.fresh(now, after))
    return bool(cut) or before != after or is_configured


def _carry_out_all(names: Sequence[str], cut: transaction.Cut, paths: Paths) -> dict[str, Found]:
    """Install ``names``, and again what was cut; return who provides the names then."""
    rpmdb.forget(cut.fresh)
    again = [package.name for package in cut.fresh if package.name not in names]
    carry_out(["install", *names, *again], names, paths)
    if cut.replaced:
        carry_out(["reinstall", *(package.nevra for package in cut.replaced)], names, paths)
        rpmdb.erase(set(cut.leftover) & rpmdb.packages())
    found = rpmdb.installed(names)
    _check(names, found, rpmdb.damaged([package.name for package in (*cut.fresh, *cut.replaced)]), paths)
    return found


@contextlib.contextmanager
def _noted(paths: Paths, before: frozenset[rpmdb.Package], note: transaction.Note) -> Iterator[None]:
    """Take the note of a transaction back when it was refused and has changed nothing; name the note when it stays."""
    try:
        yield
    except InstallerError as error:
        if rpmdb.packages() == before:
            transaction.forget(paths, note.brought)
        elif note.is_open:
            way_out = (
                f"{paths.transaction_file} notes the transaction that was cut; once the packages are in order"
                " (dnf check, rpm --verify PACKAGE), remove that file: then it is not carried out again"
            )
            words = "\n".join(filter(None, (error.resolution, way_out)))
            raise type(error)(error.message, details=error.details, resolution=words) from error
        raise


def carry_out(words: Sequence[str], names: Sequence[str], paths: Paths) -> None:
    """Let dnf carry out one transaction; ``names`` is what was wanted of it, for people.

    Raises:
        PackageError: it refused, or a script of a package was cut.
    """
    environment = dnf_environment(paths)
    completed = run(dnf_arguments(paths, *words), timeout_s=DNF_TIMEOUT_S, check=False, env=environment)
    if completed.returncode != 0:
        raise explain(completed, names, paths)
    cut = CUT_SCRIPT.search(completed.stdout + completed.stderr)
    if cut:
        script, package, number = cut.groups()
        raise PackageError(
            f"the script {script} of the package {package} was ended by signal {number}",
            details=f"{_tail(completed)}\nlog: {paths.log_dir / 'dnf'}",
            resolution="run this again: the package is then installed again; was the host short of memory?",
        )


def remove(packages: Sequence[rpmdb.Package], paths: Paths) -> None:
    """Remove these packages in one transaction, by dnf, so that its own record of them is right.

    They are all that goes: nothing else needs them (``rpmdb.removable``), and dnf removes no more than it is told.

    Raises:
        PackageError: dnf or rpm refused.
    """
    (paths.dnf_dir / "vars").mkdir(parents=True, exist_ok=True)
    write_file(paths.dnf_dir / "dnf.conf", render_main(paths))
    words = dnf_arguments(paths, "--disablerepo=*", "remove", *(package.nevra for package in packages))
    completed = run(words, timeout_s=DNF_TIMEOUT_S, check=False, env=dnf_environment(paths))
    left = rpmdb.packages() & frozenset(packages)
    if completed.returncode != 0 or left:
        raise PackageError(
            f"dnf could not remove {len(left)} packages",
            details=f"{_tail(completed)}\nlog: {paths.log_dir / 'dnf'}",
            resolution="see the last lines above, then run the same command again",
        )


def _check(names: Sequence[str], found: Mapping[str, Found], damaged: Sequence[str], paths: Paths) -> None:
    absent = [name for name in names if name not in found]
    if absent:
        raise PackageError(
            f"dnf ended well, but {', '.join(absent)} is not installed",
            resolution=f"see {paths.log_dir / 'dnf'}",
        )
    if damaged:
        raise PackageError(
            f"{len(damaged)} files of packages that were installed again are not the packages' own",
            details="\n".join(damaged[:LAST_LINES]),
            resolution="check the disk, then run this again; 'rpm --verify PACKAGE' shows more",
        )


def wanting(
    names: Iterable[str],
    offered: Mapping[str, str],
    installed: Mapping[str, Found],
    note: transaction.Note,
) -> list[str]:
    """Return the names that are not installed, or not in the version (``version-release``) that is offered.

    What another package provides has no version to compare, and what dnf has let be once it would let be again.

    >>> found = {"a": Found("a", "2-1"), "b": Found("b", "1-1")}
    >>> wanting(["a", "b", "c"], {"a": "4:2-1", "b": "2-1"}, found, transaction.Note())
    ['b', 'c']
    >>> wanting(["a", "b"], {"b": "2-1"}, found, transaction.Note(settled={"b": ["2-1", "b", "1-1"]}))
    []
    """
    missing = []
    for name in names:
        offer, found = _offered(offered, name), installed.get(name)
        if found is None or (
            offer
            and found.name == name
            and found.version != offer
            and not note.has_settled(name, offer, found)
        ):
            missing.append(name)
    return missing


def _offered(packages: Mapping[str, str], name: str) -> str:
    """Return the version-release that the media has, without the epoch; "" for a name that no package has."""
    return packages.get(name, "").split(":")[-1]


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
