# SPDX-License-Identifier: Apache-2.0
"""Make the yum repositories of the miniature upstream.

sources (lab.el9, lab.packages) --build--> signed RPMs
signed RPMs --createrepo_c, gpg--> <cache>/lab/yum-sets/<id>/<digest>/
<cache>/lab/yum/<id> is a link to the set that belongs to today's inputs
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

from lab import artifactory, el9, keys, modules, onedir, packages, rpmspec
from lab.cache import digest_of, lab_dir, locked, produce, recorded_sha256
from lab.core import ABSENT_NAMES, BASELINE, CORE_GROUP
from lab.errors import LabError
from lab.progress import step
from lab.rpmspec import Rpm, Source
from lab.run import run

__all__ = [
    "BASELINE",
    "CORE_GROUP",
    "baseline_rpms",
    "build_foreign_rpm",
    "build_repositories",
    "repository_keys",
]

_FORMAT = "1"
_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A yum repository: where its RPMs lie in it, how its metadata is compressed, whether it has groups, and its
    modules.yaml.

    These differ among the real ones, and so among these. ``signer`` owns its key. ``is_weak``: its metadata is as
    Artifactory makes it, with SHA-1, without filelists and without a signature.
    """

    id: str
    signer: str
    location: Callable[[str], str]
    compression: str = "gz"
    groups: bool = False
    modules: str = ""
    is_weak: bool = False


def _distribution(repository_id: str, signer: str, *, groups: bool = False, modules: str = "") -> Repository:
    return Repository(
        id=repository_id,
        signer=signer,
        location=lambda name: f"Packages/{name[0].lower()}/{name}",
        compression="xz",
        groups=groups,
        modules=modules,
    )


REPOSITORIES: tuple[Repository, ...] = (
    _distribution("appstream", "appstream", modules=modules.render(modules.STREAMS)),
    _distribution(f"appstream-{el9.OLD_RELEASE}", "appstream"),
    _distribution(f"appstream-{el9.OLD_RELEASE}-ga", "appstream"),
    _distribution(f"appstream-{el9.RELEASE}-ga", "appstream"),
    _distribution("baseos", "baseos", groups=True),
    _distribution(f"baseos-{el9.OLD_RELEASE}", "baseos", groups=True),
    _distribution(f"baseos-{el9.OLD_RELEASE}-ga", "baseos", groups=True),
    _distribution(f"baseos-{el9.RELEASE}-ga", "baseos", groups=True),
    Repository(id="docker-ce", signer="docker-ce", location=lambda name: f"Packages/{name}"),
    Repository(id="kubernetes", signer="kubernetes", location=lambda name: f"x86_64/{name}"),
    Repository(id="salt", signer="salt", location=lambda name: name, is_weak=True),
)


def build_repositories() -> dict[str, Path]:
    """Return the directories of all yum repositories by id; build what the cache lacks.

    Each is ``<cache>/lab/yum/<id>``: RPMs, repodata/, and, but for a weak one, the detached signature
    repodata/repomd.xml.asc with its key beside it.

    Raises:
        LabError: a component, a package or a repository could not be made.
    """
    sources = all_sources()
    return {
        repository.id: _build_repository(repository, sources[repository.id]) for repository in REPOSITORIES
    }


def all_sources() -> dict[str, tuple[Source, ...]]:
    """Return what each repository is made from, by repository id."""
    sources: dict[str, list[Source]] = {repository.id: [] for repository in REPOSITORIES}
    for repository_id, source in el9.SOURCES:
        sources[repository_id].append(source)
    sources["appstream"].extend(modules.SOURCES)
    sources["docker-ce"].append(packages.DOCKER_CE)
    sources["kubernetes"].append(packages.KUBERNETES)
    sources["salt"].append(packages.salt())
    return {repository_id: tuple(list_) for repository_id, list_ in sources.items()}


def baseline_rpms(group: Iterable[str] = CORE_GROUP) -> tuple[Path, ...]:
    """Return the RPM files of a baseline (the closure of a group), for the rpm database of a node or an image."""
    files: dict[str, Path] = {}
    known: list[Rpm] = []
    for source in (source for repository_id, source in el9.SOURCES if repository_id == "baseos"):
        directory = rpmspec.build(source)
        versioned = rpmspec.with_versions(source).packages
        known.extend(versioned)
        files |= {package.name: directory / package.file_name for package in versioned}
    return tuple(files[package.name] for package in baseline_closure(known, group))


def baseline_closure(known: Iterable[Rpm], group: Iterable[str]) -> tuple[Rpm, ...]:
    """Return the packages that a group names, with all that they require, in the order of their names.

    Raises:
        LabError: a name or a requirement is met by no known package.
    """
    by_capability: dict[str, Rpm] = {}
    for package in known:
        for capability in (package.name, *package.provides):
            by_capability.setdefault(capability.split()[0], package)
    chosen: dict[str, Rpm] = {}
    waiting = [(name, "the group") for name in group]
    while waiting:
        capability, wanted_by = waiting.pop()
        # Of a rich requirement, "(A or B)" or "(A if B)", the first stands for the whole.
        found = by_capability.get(capability.lstrip("(").split()[0])
        if found is None:
            raise LabError(
                f"nothing in the lab's baseline provides {capability!r}",
                details=f"wanted by {wanted_by}",
                resolution="add it to lab/el9-core.tsv",
            )
        if found.name not in chosen:
            chosen[found.name] = found
            waiting.extend((requirement, found.name) for requirement in found.requires)
    return tuple(chosen[name] for name in sorted(chosen))


def build_foreign_rpm(name: str) -> Path:
    """Return an RPM with the name, version and release of a real one, signed by a key that no repository has.

    It holds one text file, so that it can be told from the real one; a test puts it in the real one's place.

    Raises:
        LabError: no repository has a package of that name.
    """
    for sources in all_sources().values():
        for source in sources:
            for package in rpmspec.with_versions(source).packages:
                if package.name == name:
                    return _build_foreign(package)
    raise LabError(f"the lab has no package {name!r}", resolution="name a package of one of its repositories")


def weak_repositories() -> frozenset[str]:
    """Return the ids of the repositories whose metadata nobody signs."""
    return frozenset(repository.id for repository in REPOSITORIES if repository.is_weak)


def repository_keys() -> dict[str, keys.Key]:
    """Return the signing key of each repository by repository id (public half: ``.public_file``)."""
    return {repository.id: keys.key(repository.signer) for repository in REPOSITORIES}


def render_comps(group: Iterable[str]) -> str:
    """Return a comps.xml with the one group ``core``, whose packages are all mandatory."""
    lines = "".join(
        f'      <packagereq type="mandatory">{escape(name)}</packagereq>\n' for name in sorted(group)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">\n'
        "<comps>\n  <group>\n    <id>core</id>\n    <name>Core</name>\n"
        "    <description>Smallest installation: the lab's stand-in</description>\n"
        "    <default>true</default>\n    <uservisible>false</uservisible>\n"
        f"    <packagelist>\n{lines}    </packagelist>\n  </group>\n</comps>\n"
    )


def _build_foreign(package: Rpm) -> Path:
    text = rpmspec.Text(
        path=f"/usr/share/caisson-lab/foreign-{package.name}", text="signed by a foreign key\n"
    )
    source = Source(
        name=f"foreign-{package.name}",
        signer=keys.FOREIGN,
        packages=(replace(package, scripts=(), contents=(text,)),),
    )
    return rpmspec.build(source) / package.file_name


def _build_repository(repository: Repository, sources: tuple[Source, ...]) -> Path:
    directories = [_build_source(source) for source in sources]
    comps = render_comps([*CORE_GROUP, *ABSENT_NAMES]) if repository.groups else ""
    inputs = {
        "format": _FORMAT,
        "rpms": json.dumps([recorded_sha256(directory) for directory in directories], sort_keys=True),
        "comps": comps,
        "compression": repository.compression,
        "modules": repository.modules,
        "weak": "sha-1" if repository.is_weak else "",
        "layout": repository.location("name"),
        "key": keys.key(repository.signer).fingerprint,
    }
    target_dir = lab_dir("yum-sets") / repository.id / digest_of(inputs)
    produce(target_dir, partial(_compose, repository, directories, comps))
    return _point(lab_dir("yum") / repository.id, target_dir)


def half_mirror(repository_id: str, directory: Path) -> Path:
    """Return a mirror of a repository as it is in the middle of its synchronisation, below the cache.

    It has the metadata of today and the signature of the day before, and none of the packages.
    """
    signer = keys.key(next(entry.signer for entry in REPOSITORIES if entry.id == repository_id))
    repomd = (directory / "repodata" / "repomd.xml").read_bytes()
    name = digest_of({"format": _FORMAT, "repomd": repomd, "key": signer.fingerprint})
    return produce(lab_dir("yum-half") / repository_id / name, partial(_copy_half, directory, signer))


def _copy_half(directory: Path, signer: keys.Key, work_dir: Path) -> None:
    repomd_file = Path(shutil.copytree(directory / "repodata", work_dir / "repodata"), "repomd.xml")
    today = repomd_file.read_text()
    repomd_file.write_text(today.replace(str(rpmspec.BUILD_TIME), str(rpmspec.BUILD_TIME - _DAY_S)))
    _sign_metadata(repomd_file, signer=signer)
    repomd_file.write_text(today)


def _build_source(source: Source) -> Path:
    if source.name == "salt":
        onedir.build()
    return rpmspec.build(source)


def _compose(repository: Repository, directories: Iterable[Path], comps: str, work_dir: Path) -> None:
    with step(f"compose the yum repository {repository.id}"):
        for directory in directories:
            for rpm_file in sorted(directory.glob("*.rpm")):
                placed = work_dir / repository.location(rpm_file.name)
                placed.parent.mkdir(parents=True, exist_ok=True)
                os.link(rpm_file, placed)
        args: list[str | Path] = [
            "createrepo_c", "--quiet", "--no-database", "--workers", "2",
            "--general-compress-type", repository.compression,
            "--revision", str(rpmspec.BUILD_TIME), "--set-timestamp-to-revision",
        ]  # fmt: skip
        comps_file = work_dir / "comps.xml"
        if comps:
            comps_file.write_text(comps)
            args += ["--groupfile", comps_file]
        run([*args, work_dir], timeout_s=300)
        comps_file.unlink(missing_ok=True)
        if repository.modules:
            modules_file = work_dir / "modules.yaml"
            modules_file.write_text(repository.modules)
            run(["modifyrepo_c", "--mdtype=modules", modules_file, work_dir / "repodata"], timeout_s=300)
            modules_file.unlink()
        if repository.is_weak:
            artifactory.weaken(work_dir, revision=rpmspec.BUILD_TIME)
            return
        _sign_metadata(work_dir / "repodata" / "repomd.xml", signer=keys.key(repository.signer))


def _sign_metadata(repomd_file: Path, *, signer: keys.Key) -> None:
    with keys.signing_home(signer) as home_dir:
        keys.sign_detached(repomd_file, signer=signer, home_dir=home_dir)
    (repomd_file.parent / "repomd.xml.key").write_bytes(signer.public_file.read_bytes())


def _point(link: Path, target_dir: Path) -> Path:
    """Make ``link`` lead to ``target_dir``, at no moment to nothing."""
    wanted = os.path.relpath(target_dir, link.parent)
    with locked(link.parent / f"{link.name}.lock"):
        if not link.is_symlink() or str(link.readlink()) != wanted:
            fresh = link.with_name(f".{link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(wanted)
            fresh.rename(link)
    return link


def describe(repositories: Mapping[str, Path]) -> str:
    """Return one line per repository: id, number of RPMs, directory."""
    return "".join(
        f"{name:<12} {sum(1 for _ in directory.rglob('*.rpm')):>4} RPMs  {directory}\n"
        for name, directory in sorted(repositories.items())
    )
