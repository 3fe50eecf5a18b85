# SPDX-License-Identifier: Apache-2.0
"""Fetch Debian packages and unpack their payload, without installing anything.

    names --apt-get download (own state, signatures verified)--> .deb --dpkg-deb -x--> <cache>/lab/debs/..

The versions are those that the mirror has when a package is first wanted; they stay while the cache does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.cache import lab_dir, locked, produce, replace_text, sorted_names
from lab.errors import CommandError, LabError
from lab.progress import step
from lab.run import run

DEFAULT_SUITE = "bookworm"
MIRROR_VARIABLE = "CAISSON_DEBIAN_MIRROR"
KEYRING_FILE = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHITECTURE = "amd64"
DOWNLOAD_TIMEOUT_S = 1800


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A Debian package whose payload lies unpacked under ``tree_dir``."""

    name: str
    version: str
    suite: str
    tree_dir: Path


@dataclass(frozen=True, kw_only=True)
class _Mirror:
    """Where a suite's packages and its security updates come from (URIs)."""

    main: str
    security: str


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    version: str
    file_name: str


def unpack(names: Iterable[str], *, suite: str = DEFAULT_SUITE) -> dict[str, Deb]:
    """Return the named packages of a suite, unpacked, without what they depend on; fetch what is not cached.

    Raises:
        LabError: no mirror is known, or apt could not fetch a package.
    """
    wanted = sorted_names(names)
    resolved = _resolve(wanted, suite=suite)
    return {name: _unpacked(name, resolved[name], suite=suite) for name in wanted}


def versions(names: Iterable[str], *, suite: str = DEFAULT_SUITE) -> dict[str, str]:
    """Return the versions of packages (fetched if need be), without looking at their payload."""
    wanted = sorted_names(names)
    resolved = _resolve(wanted, suite=suite)
    return {name: resolved[name].version for name in wanted}


def closure(names: Iterable[str], *, suite: str = DEFAULT_SUITE) -> tuple[str, ...]:
    """Return the named packages and all that they depend on (no recommendations), in byte order."""
    wanted = sorted_names(names)
    closures_file = _suite_dir(suite) / "closures.json"
    key = " ".join(wanted)
    with locked(_suite_dir(suite) / "apt.lock"):
        known: dict[str, list[str]] = _read_json(closures_file)
        if key not in known:
            apt = _apt(suite)
            answer = run([*apt, "--simulate", "install", *wanted], timeout_s=DOWNLOAD_TIMEOUT_S)
            known[key] = parse_simulation(answer.stdout)
            replace_text(closures_file, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return tuple(known[key])


def parse_simulation(text: str) -> list[str]:
    r"""Return the names of the packages that ``apt-get --simulate install`` would install, in byte order.

    >>> parse_simulation("Inst zlib1g (1:1.2 X [amd64])\nInst libc6 (2.36 X [amd64])\nConf libc6 (2.36)\n")
    ['libc6', 'zlib1g']
    """
    lines = (line.split() for line in text.splitlines() if line.startswith("Inst "))
    return list(sorted_names(words[1].partition(":")[0] for words in lines))


def parse_mirrors(text: str) -> _Mirror | None:
    r"""Return the mirror among lines ``<URI> <release>`` of the machine's own apt sources, or None.

    >>> parse_mirrors("http://a/debian/ bookworm\nhttp://a/debian-security/ bookworm-security\n").security
    'http://a/debian-security/'
    """
    by_kind: dict[bool, str] = {}
    for line in text.splitlines():
        uri, _, release = line.partition(" ")
        if "/debian" in uri:
            by_kind.setdefault(release.endswith("-security"), uri)
    if False not in by_kind:
        return None
    main = by_kind[False]
    return _Mirror(main=main, security=by_kind.get(True) or main.rstrip("/") + "-security/")


def render_sources(mirror: _Mirror, *, suite: str, keyring_file: Path) -> str:
    """Return the apt sources (deb822) of a suite, its updates and its security updates."""
    places = ((mirror.main, f"{suite} {suite}-updates"), (mirror.security, f"{suite}-security"))
    return "\n".join(
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {keyring_file}\n"
        for uri, suites in places
    )


def _suite_dir(suite: str) -> Path:
    return lab_dir("debs") / suite


def _resolve(wanted: Sequence[str], *, suite: str) -> Mapping[str, _Resolved]:
    resolved_file = _suite_dir(suite) / "resolved.json"
    known = _read_resolved(resolved_file)
    if known.keys() >= set(wanted):
        return known
    with locked(_suite_dir(suite) / "apt.lock"):
        known = _read_resolved(resolved_file)
        missing = [name for name in wanted if name not in known]
        if missing:
            known |= _download(missing, suite=suite)
            document = {name: asdict(entry) for name, entry in known.items()}
            replace_text(resolved_file, json.dumps(document, indent=1, sort_keys=True) + "\n")
    return known


def _download(names: Sequence[str], *, suite: str) -> dict[str, _Resolved]:
    files_dir = _suite_dir(suite) / "files"
    files_dir.mkdir(parents=True, exist_ok=True)
    fetched: dict[str, _Resolved] = {}
    with (
        step(f"fetch {len(names)} Debian packages of {suite}"),
        TemporaryDirectory(prefix=".download.", dir=files_dir) as work,
    ):
        try:
            run([*_apt(suite), "download", *names], cwd=Path(work), timeout_s=DOWNLOAD_TIMEOUT_S)
        except CommandError:
            # Lists that are days old may name files which the mirror no longer has.
            _ready_file(suite).unlink(missing_ok=True)
            run([*_apt(suite), "download", *names], cwd=Path(work), timeout_s=DOWNLOAD_TIMEOUT_S)
        for file in sorted(Path(work).glob("*.deb")):
            answer = run(["dpkg-deb", "--showformat", "${Package} ${Version}", "--show", file])
            name, version = answer.stdout.split()
            fetched[name] = _Resolved(version=version, file_name=file.name)
            file.rename(files_dir / file.name)
    absent = [name for name in names if name not in fetched]
    if absent:
        raise LabError(
            f"apt fetched no package {', '.join(absent)}",
            details=f"suite {suite}; fetched: {', '.join(fetched)}",
            resolution="name real packages, not virtual ones",
        )
    return fetched


def _unpacked(name: str, entry: _Resolved, *, suite: str) -> Deb:
    deb_file = _suite_dir(suite) / "files" / entry.file_name
    directory = entry.version.replace(":", "_")
    tree_dir = produce(_suite_dir(suite) / "trees" / name / directory, partial(_extract, deb_file))
    return Deb(name=name, version=entry.version, suite=suite, tree_dir=tree_dir)


def _extract(deb_file: Path, work_dir: Path) -> None:
    run(["dpkg-deb", "--extract", deb_file, work_dir], timeout_s=DOWNLOAD_TIMEOUT_S)


def _apt(suite: str) -> list[str]:
    """Return ``apt-get`` with options that give it a state of its own; the first time, fetch its lists."""
    state_dir = _suite_dir(suite) / "apt"
    sources_file = state_dir / "sources.sources"
    apt = [
        "apt-get",
        "--quiet=2",
        *_options(
            {
                "APT::Architecture": ARCHITECTURE,
                "APT::Architectures": ARCHITECTURE,
                "APT::Get::AllowUnauthenticated": "false",
                "APT::Get::List-Cleanup": "true",
                "APT::Install-Recommends": "false",
                "APT::Sandbox::User": "root",
                "Acquire::AllowInsecureRepositories": "false",
                "Acquire::Languages": "none",
                "Acquire::Retries": "3",
                "Dir::Cache": state_dir / "cache",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
                "Dir::Etc::sourcelist": sources_file,
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::State": state_dir,
                "Dir::State::status": state_dir / "status",
            }
        ),
    ]
    if not _ready_file(suite).exists():
        for directory in ("lists/partial", "cache/archives/partial"):
            (state_dir / directory).mkdir(parents=True, exist_ok=True)
        (state_dir / "status").touch()
        replace_text(sources_file, render_sources(_mirror(), suite=suite, keyring_file=_keyring_file()))
        with step(f"fetch the package lists of Debian {suite}"):
            run([*apt, "--error-on=any", "update"], timeout_s=DOWNLOAD_TIMEOUT_S)
        _ready_file(suite).touch()
    return apt


def _ready_file(suite: str) -> Path:
    """Return the file that says: this suite's package lists were fetched."""
    return _suite_dir(suite) / "apt" / "ready"


def _options(settings: Mapping[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _mirror() -> _Mirror:
    named = os.environ.get(MIRROR_VARIABLE)
    if named:
        return _Mirror(main=named, security=named.rstrip("/") + "-security/")
    answer = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"], check=False)
    mirror = parse_mirrors(answer.stdout)
    if mirror is None:
        raise LabError(
            "no Debian mirror is known",
            details="the machine's apt sources name none",
            resolution=f"set {MIRROR_VARIABLE} to the URI of a Debian mirror's 'debian' directory",
        )
    return mirror


def _keyring_file() -> Path:
    if not KEYRING_FILE.exists():
        raise LabError(
            "the keys that sign Debian's package lists are not installed",
            details=f"{KEYRING_FILE} is missing",
            resolution="install the package debian-archive-keyring",
        )
    return KEYRING_FILE


def _read_resolved(path: Path) -> dict[str, _Resolved]:
    return {name: _Resolved(**fields) for name, fields in _read_json(path).items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return document if isinstance(document, dict) else {}
