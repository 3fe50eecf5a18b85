# SPDX-License-Identifier: Apache-2.0
"""Describe RPMs as data, write the one spec that makes them, build and sign them.

    Source --render_spec--> .spec --rpmbuild--> RPMs --rpmsign--> <cache>/lab/rpms/<source>/<digest>/

Several packages come from one spec, so that a hundred small ones cost one rpmbuild.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import debs, golang, keys
from lab.cache import digest_of, lab_dir, produce
from lab.errors import LabError
from lab.progress import step
from lab.run import run

#: Time stamp of every RPM and file in it: one value, so that the same inputs give the same packages.
BUILD_TIME = 1_790_812_800
BUILD_TIMEOUT_S = 1800
FORMAT = "1"

#: The scriptlet of a package with systemd units, after it was installed and after it was removed.
RELOAD_UNITS = "[ ! -d /run/systemd/system ] || systemctl daemon-reload >/dev/null 2>&1 || :\n"

#: What of a Debian package is of no use to a program that runs.
_LEFT_OUT = (
    "/etc/*",
    "/usr/share/bash-completion/*",
    "/usr/share/bug/*",
    "/usr/share/doc/*",
    "/usr/share/doc-base/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
_MERGED = ("/bin/", "/sbin/", "/lib/", "/lib64/")

# Debian's rpm differs from EL9's in these; the build host and its time zone stay out of the packages.
_MACROS = {
    "_build_id_links": "none",
    "_buildhost": "lab.caisson.internal",
    "_binary_payload": "w3T2.zstdio",
    "_source_payload": "w3.zstdio",
    "_binary_filedigest_algorithm": "8",
    "_source_filedigest_algorithm": "8",
    "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "_unpackaged_files_terminate_build": "1",
    "__os_install_post": "%{nil}",
    "__spec_install_post": "%{nil}",
    "clamp_mtime_to_source_date_epoch": "1",
    "debug_package": "%{nil}",
    "dist": "%{nil}",
    "source_date_epoch_from_changelog": "0",
    "use_source_date_epoch_as_buildtime": "1",
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """A small file with its text. ``config``: kept when an administrator changed it, as upstream's is."""

    path: str
    text: str
    mode: int = 0o644
    config: bool = False


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Programs of a compiled component, put into ``directory``; an empty ``names`` means all of them."""

    component: str
    names: tuple[str, ...] = ()
    directory: str = "/usr/bin"


@dataclass(frozen=True, kw_only=True)
class DebianFiles:
    """The files of Debian packages whose merged path (/usr/sbin, never /sbin) matches one of ``include``."""

    packages: tuple[str, ...]
    include: tuple[str, ...] = ("/usr/*",)


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory that the package owns."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A whole directory, which the package owns with all that is in it; ``source_dir.name`` is its digest."""

    source_dir: Path
    path: str


Content = Text | Programs | DebianFiles | Link | Directory | Tree


@dataclass(frozen=True, kw_only=True)
class Rpm:
    """One binary package. Without a ``version`` it takes that of the first Debian package it has files of.

    ``scripts`` maps ``pre``, ``post``, ``preun`` or ``postun`` to the text of a scriptlet for /bin/sh.
    """

    name: str
    version: str = ""
    release: str = "1.el9"
    epoch: int = 0
    noarch: bool = False
    summary: str
    license: str = "Apache-2.0"
    url: str = "https://caisson.internal/lab"
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    contents: tuple[Content, ...] = ()

    @property
    def file_name(self) -> str:
        """Return the name of the RPM's file."""
        return f"{self.name}-{self.version}-{self.release}.{'noarch' if self.noarch else 'x86_64'}.rpm"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Packages that are built together and signed with the key of one owner."""

    name: str
    signer: str
    packages: tuple[Rpm, ...]


def build(source: Source) -> Path:
    """Return the directory with a source's signed RPMs; build them unless the cache has them.

    Raises:
        LabError: two packages hold the same file, or a program failed.
    """
    signer = keys.key(source.signer)
    versioned = with_versions(source)
    inputs = {
        "spec": render_spec(versioned, _placeholder_files(versioned)),
        "macros": repr(sorted(_MACROS.items())),
        "key": signer.fingerprint,
        "format": FORMAT,
        "time": str(BUILD_TIME),
        **dict(_content_inputs(versioned)),
    }
    target_dir = lab_dir("rpms") / source.name / digest_of(inputs)
    return produce(target_dir, partial(_build, versioned, signer))


def with_versions(source: Source) -> Source:
    """Return the source with every package's version filled in."""
    missing = [package for package in source.packages if not package.version]
    first_debs = {package.name: _first_deb(package) for package in missing}
    known = debs.versions(first_debs.values()) if missing else {}
    packages = tuple(
        package
        if package.version
        else replace(package, version=upstream_version(known[first_debs[package.name]]))
        for package in source.packages
    )
    return Source(name=source.name, signer=source.signer, packages=packages)


def upstream_version(debian_version: str) -> str:
    """Return the upstream part of a Debian version, without epoch, revision and repackaging marks.

    >>> [upstream_version(v) for v in ("1:1.4.7-1+b2", "1.34+dfsg-1.2", "3.0.17-1~deb12u2", "2.38")]
    ['1.4.7', '1.34', '3.0.17', '2.38']
    """
    without_epoch = debian_version.rpartition(":")[2]
    upstream = without_epoch.rpartition("-")[0] or without_epoch
    for mark in ("+", "~"):
        upstream = upstream.partition(mark)[0]
    return upstream.replace("-", ".")


def merged_path(path: str) -> str:
    """Return a path as it is where /bin, /sbin and /lib are links into /usr.

    >>> merged_path("/sbin/tc"), merged_path("/usr/bin/socat")
    ('/usr/sbin/tc', '/usr/bin/socat')
    """
    return f"/usr{path}" if path.startswith(_MERGED) else path


def render_spec(source: Source, files: Mapping[str, tuple[str, ...]]) -> str:
    """Return the text of the spec file; ``files`` holds the %files lines of each package by name."""
    return "\n".join(_spec_lines(source, files)) + "\n"


def _spec_lines(source: Source, files: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    yield from (
        f"Name: caisson-lab-{source.name}",
        "Version: 1",
        "Release: 1",
        "Summary: Packages of the lab's miniature upstream",
        "License: Apache-2.0",
        "AutoReqProv: no",
        "",
        "%description",
        "Packages of the lab's miniature upstream.",
    )
    for package in source.packages:
        yield ""
        yield from _package_lines(package)
    yield from ("", "%install", "cp -a %{lab_tree_dir}/. %{buildroot}/")
    for package in source.packages:
        for moment, text in package.scripts:
            yield from ("", f"%{moment} -n {package.name}", _escaped(text.rstrip()))
        yield from ("", f"%files -n {package.name}", *files[package.name])


def _package_lines(package: Rpm) -> Iterator[str]:
    yield f"%package -n {package.name}"
    if package.epoch:
        yield f"Epoch: {package.epoch}"
    yield f"Version: {package.version}"
    yield f"Release: {package.release}"
    yield f"Summary: {_escaped(package.summary)}"
    yield f"License: {package.license}"
    yield f"URL: {package.url}"
    if package.noarch:
        yield "BuildArch: noarch"
    yield "AutoReqProv: no"
    for tag, values in (
        ("Requires", package.requires),
        ("Provides", package.provides),
        ("Conflicts", package.conflicts),
        ("Obsoletes", package.obsoletes),
    ):
        for value in values:
            yield f"{tag}: {value}"
    yield ""
    yield f"%description -n {package.name}"
    yield _escaped(package.summary) + "."
    yield "Made by Caisson's lab as a stand-in with the real package's name; not the distributor's own build."


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _first_deb(package: Rpm) -> str:
    for content in package.contents:
        if isinstance(content, DebianFiles):
            return content.packages[0]
    raise LabError(
        f"the package {package.name} has no version",
        resolution="give it one in its table, or files of a Debian package",
    )


def _placeholder_files(source: Source) -> dict[str, tuple[str, ...]]:
    """Return what stands for the file lists in a cache key: the contents are keyed one by one instead."""
    return {package.name: () for package in source.packages}


def _content_inputs(source: Source) -> Iterator[tuple[str, str]]:
    for package in source.packages:
        for number, content in enumerate(package.contents):
            yield f"{package.name}/{number}", _content_key(content)


def _content_key(content: Content) -> str:
    if isinstance(content, Programs):
        return f"{content!r} {golang.output_dir(golang.component(content.component)).name}"
    if isinstance(content, DebianFiles):
        return f"{content!r} {sorted(debs.versions(content.packages).items())}"
    if isinstance(content, Tree):
        return f"{content.path} {content.source_dir.name}"
    return repr(content)


def _build(source: Source, signer: keys.Key, work_dir: Path) -> None:
    with (
        step(f"build {len(source.packages)} RPMs of {source.name}"),
        TemporaryDirectory(prefix=".rpmbuild.", dir=work_dir) as top,
    ):
        top_dir = Path(top)
        tree_dir = top_dir / "tree"
        tree_dir.mkdir()
        files = {package.name: tuple(_place_all(package, tree_dir)) for package in source.packages}
        _refuse_shared_files(files)
        spec_file = top_dir / f"{source.name}.spec"
        spec_file.write_text(render_spec(source, files))
        macros = {
            **_MACROS,
            "_topdir": str(top_dir / "rpmbuild"),
            "_dbpath": str(top_dir / "rpmdb"),
            "_rpmdir": str(work_dir),
            "_tmppath": str(top_dir),
            "lab_tree_dir": str(tree_dir),
        }
        run(
            ["rpmbuild", "--quiet", "--target", "x86_64-linux", *_defines(macros), "-bb", spec_file],
            env={"SOURCE_DATE_EPOCH": str(BUILD_TIME), "TZ": "UTC"},
            timeout_s=BUILD_TIMEOUT_S,
        )
        sign(sorted(work_dir.glob("*.rpm")), signer=signer)


def sign(files: Sequence[Path], *, signer: keys.Key) -> None:
    """Sign RPM files in place."""
    with keys.signing_home(signer) as home_dir, TemporaryDirectory(prefix="caisson-rpmdb-") as database_dir:
        # Debian's rpm looks for gpg2, which Debian does not have.
        macros = {
            "__gpg": shutil.which("gpg") or "/usr/bin/gpg",
            "_dbpath": database_dir,
            "_gpg_name": signer.fingerprint,
            "_gpg_path": str(home_dir),
            "_gpg_digest_algo": "sha256",
        }
        run(["rpmsign", *_defines(macros), "--addsign", *files], timeout_s=BUILD_TIMEOUT_S)


def _defines(macros: dict[str, str]) -> list[str]:
    return [word for name, value in sorted(macros.items()) for word in ("--define", f"{name} {value}")]


def _refuse_shared_files(files: Mapping[str, tuple[str, ...]]) -> None:
    owners: dict[str, str] = {}
    for name, lines in files.items():
        for line in lines:
            if line.startswith("%dir"):
                continue
            other = owners.setdefault(line.rpartition(" ")[2], name)
            if other != name:
                raise LabError(f"the packages {other} and {name} both hold {line}")


def _place_all(package: Rpm, tree_dir: Path) -> Iterator[str]:
    for content in package.contents:
        yield from _place(content, tree_dir)


def _place(content: Content, tree_dir: Path) -> Iterator[str]:
    """Put one content into the tree and yield its lines for %files."""
    if isinstance(content, Text):
        file = _below(tree_dir, content.path)
        file.write_text(content.text)
        file.chmod(content.mode)
        yield f"%config(noreplace) {content.path}" if content.config else content.path
    elif isinstance(content, Link):
        _below(tree_dir, content.path).symlink_to(content.target)
        yield content.path
    elif isinstance(content, Directory):
        _below(tree_dir, content.path).mkdir(exist_ok=True)
        yield f"%dir %attr({content.mode:04o}, {content.owner}, {content.group}) {content.path}"
    elif isinstance(content, Tree):
        _copy_tree(content.source_dir, _below(tree_dir, content.path))
        yield content.path
    elif isinstance(content, Programs):
        programs_dir = golang.build(content.component)
        for name in content.names or sorted(file.name for file in programs_dir.iterdir()):
            path = f"{content.directory}/{name}"
            shutil.copyfile(programs_dir / name, _below(tree_dir, path))
            (tree_dir / path.lstrip("/")).chmod(0o755)
            yield path
    else:
        yield from _place_debian_files(content, tree_dir)


def _place_debian_files(content: DebianFiles, tree_dir: Path) -> Iterator[str]:
    for deb in debs.unpack(content.packages).values():
        placed = 0
        for source in _files_below(deb.tree_dir):
            path = merged_path("/" + str(source.relative_to(deb.tree_dir)))
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in _LEFT_OUT):
                continue
            if not any(fnmatch.fnmatchcase(path, pattern) for pattern in content.include):
                continue
            shutil.copy2(source, _below(tree_dir, path), follow_symlinks=False)
            placed += 1
            yield path
        if not placed:
            raise LabError(
                f"nothing of the Debian package {deb.name} {deb.version} is wanted",
                details=f"patterns: {', '.join(content.include)}",
                resolution="correct the patterns in the lab's table of packages",
            )


def _files_below(directory: Path) -> Iterable[Path]:
    for parent, directories, names in os.walk(directory):
        directories.sort()
        links = [name for name in directories if Path(parent, name).is_symlink()]
        for name in sorted(names + links):
            yield Path(parent, name)


def _below(tree_dir: Path, path: str) -> Path:
    placed = tree_dir / path.lstrip("/")
    placed.parent.mkdir(parents=True, exist_ok=True)
    return placed


def _copy_tree(source_dir: Path, target_dir: Path) -> None:
    run(["cp", "-a", source_dir, target_dir], timeout_s=BUILD_TIMEOUT_S)
