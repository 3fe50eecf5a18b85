# SPDX-License-Identifier: Apache-2.0
"""Yum repositories as text: metadata of packages that need not exist."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import lzma
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rpm:
    """One package of a repository; ``requires`` and ``provides`` are names, files or ``name = evr``.

    ``pre`` is required too, by a scriptlet.
    ``stated_size`` is what metadata says: -1 for the truth, None for nothing.
    """

    name: str
    evr: str = "1.0-1.el9"
    arch: str = "noarch"
    requires: tuple[str, ...] = ()
    pre: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    data: bytes | None = None
    build_time: int = 1_700_000_000
    checksum_type: str = "sha256"
    stated_size: int | None = -1
    file_name: str = ""
    location_base: str = ""

    @property
    def content(self) -> bytes:
        """Return the bytes of the package: given, or something of its own."""
        return self.data if self.data is not None else f"{self.name} {self.evr}".encode()

    @property
    def epoch(self) -> str:
        return self.evr.rpartition(":")[0] or "0"

    @property
    def version(self) -> str:
        return self.evr.rpartition(":")[2].rpartition("-")[0]

    @property
    def release(self) -> str:
        return self.evr.rpartition("-")[2]

    @property
    def location(self) -> str:
        if self.file_name:
            return self.file_name
        return f"Packages/{self.name}-{self.version}-{self.release}.{self.arch}.rpm"

    @property
    def checksum(self) -> str:
        """Return the sum that metadata gives; ``sha`` is what Artifactory calls SHA-1."""
        algorithm = "sha1" if self.checksum_type == "sha" else self.checksum_type
        return hashlib.new(algorithm, self.content).hexdigest()

    @property
    def size_attribute(self) -> str:
        size = len(self.content) if self.stated_size == -1 else self.stated_size
        return "" if size is None else f'package="{size}" '


def _entries(kind: str, names: Sequence[str], pre: Sequence[str] = ()) -> str:
    if not names and not pre:
        return ""
    lines = []
    for name in (*names, *pre):
        word, _, rest = (name, "", "") if name.startswith("(") else name.partition(" ")
        attributes = f"name={quoteattr(word)}"
        if rest:
            sign, _, evr = rest.partition(" ")
            flags = {"=": "EQ", ">=": "GE", "<": "LT"}[sign]
            epoch, _, version = evr.rpartition(":")
            version, _, release = version.partition("-")
            attributes += f' flags="{flags}" epoch="{epoch or 0}" ver="{version}"'
            attributes += f' rel="{release}"' if release else ""
        attributes += ' pre="1"' if name in pre else ""
        lines.append(f"<rpm:entry {attributes}/>")
    return f"<rpm:{kind}>{''.join(lines)}</rpm:{kind}>"


def _version(rpm: Rpm) -> str:
    return f'epoch="{rpm.epoch}" ver="{rpm.version}" rel="{rpm.release}"'


def _base(rpm: Rpm) -> str:
    return f'xml:base="{rpm.location_base}" ' if rpm.location_base else ""


def primary_xml(rpms: Sequence[Rpm]) -> bytes:
    """Return primary.xml."""
    packages = "".join(
        f'<package type="rpm"><name>{rpm.name}</name><arch>{rpm.arch}</arch><version {_version(rpm)}/>'
        f'<checksum type="{rpm.checksum_type}" pkgid="YES">'
        f"{rpm.checksum}</checksum>"
        f"<summary>{rpm.name}</summary><description/><packager/><url/>"
        f'<time file="{rpm.build_time}" build="{rpm.build_time}"/>'
        f'<size {rpm.size_attribute}installed="1" archive="1"/><location {_base(rpm)}href="{rpm.location}"/>'
        f"<format><rpm:license>MIT</rpm:license>"
        + _entries("provides", [f"{rpm.name} = {rpm.evr}", *rpm.provides])
        + _entries("requires", rpm.requires, rpm.pre)
        + _entries("conflicts", rpm.conflicts)
        + _entries("recommends", rpm.recommends)
        + "</format></package>"
        for rpm in rpms
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<metadata xmlns="http://linux.duke.edu/metadata/common" '
        f'xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="{len(rpms)}">{packages}</metadata>\n'
    ).encode()


def filelists_xml(rpms: Sequence[Rpm]) -> bytes:
    """Return filelists.xml."""
    packages = "".join(
        f'<package pkgid="{rpm.checksum}" name="{rpm.name}" '
        f'arch="{rpm.arch}"><version {_version(rpm)}/>'
        + "".join(f"<file>{file}</file>" for file in rpm.files)
        + "</package>"
        for rpm in rpms
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<filelists xmlns="http://linux.duke.edu/metadata/filelists" '
        f'packages="{len(rpms)}">{packages}</filelists>\n'
    ).encode()


def comps_xml(group: str, mandatory: Sequence[str], optional: Sequence[str] = ()) -> bytes:
    """Return comps.xml with one group."""
    requests = "".join(f'<packagereq type="mandatory">{name}</packagereq>' for name in mandatory)
    requests += "".join(f'<packagereq type="optional">{name}</packagereq>' for name in optional)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">\n'
        f"<comps><group><id>{group}</id><name>{group}</name><packagelist>{requests}</packagelist></group>"
        "</comps>\n"
    ).encode()


def repository_files(
    rpms: Sequence[Rpm], *, comps: bytes | None = None, has_filelists: bool = True
) -> dict[str, bytes]:
    """Return all files of a repository by path: metadata (gz, comps in xz) and packages."""
    metadata = {"primary": (gzip.compress(primary_xml(rpms), mtime=0), primary_xml(rpms), "primary.xml.gz")}
    if has_filelists:
        plain = filelists_xml(rpms)
        metadata["filelists"] = (gzip.compress(plain, mtime=0), plain, "filelists.xml.gz")
    if comps is not None:
        metadata["group_xz"] = (lzma.compress(comps), comps, "comps.xml.xz")
    records = []
    files = {rpm.location: rpm.content for rpm in rpms}
    for kind, (packed, plain, name) in metadata.items():
        checksum = hashlib.sha256(packed).hexdigest()
        location = f"repodata/{checksum}-{name}"
        files[location] = packed
        records.append(
            f'<data type="{kind}"><checksum type="sha256">{checksum}</checksum>'
            f'<open-checksum type="sha256">{hashlib.sha256(plain).hexdigest()}</open-checksum>'
            f'<location href="{location}"/><timestamp>1</timestamp><size>{len(packed)}</size>'
            f"<open-size>{len(plain)}</open-size></data>"
        )
    files["repodata/repomd.xml"] = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<repomd xmlns="http://linux.duke.edu/metadata/repo" '
        f'xmlns:rpm="http://linux.duke.edu/metadata/rpm"><revision>1</revision>{"".join(records)}</repomd>\n'
    ).encode()
    return files
