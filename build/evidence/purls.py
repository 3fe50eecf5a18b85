# SPDX-License-Identifier: Apache-2.0
"""Write package URLs, by which scanners look packages up.

Source: purl-spec, types apk, deb, golang, oci, pypi and rpm; the qualifier ``upstream`` is that of syft and grype.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from build.evidence.gobuildinfo import GoModule
from build.evidence.inside.model import Package, Release
from build.inventory.model import LockedPackage, Reference

#: Who builds packages of EL, by the vendor that their headers name.
_VENDORS = {
    "AlmaLinux": "almalinux", "CentOS": "centos", "Fedora Project": "fedora", "Red Hat, Inc.": "redhat",
    "Rocky Enterprise Software Foundation": "rocky",
}  # fmt: skip
_NAMESPACES = {"apk": "alpine", "deb": "debian"}  # of user lands that do not say what they are
_EL = re.compile(r"\.el(\d+)(?![0-9])")


def of_package(package: Package, release: Release) -> str:
    """Return the URL of a package that is installed in a user land.

    >>> which = Package(kind="rpm", name="which", version="1:2-9.el9", arch="x86_64", source="w-2-9.el9.src.rpm")
    >>> of_package(which, Release(id="almalinux", version="9.8"))
    'pkg:rpm/almalinux/which@2-9.el9?arch=x86_64&distro=almalinux-9.8&epoch=1&upstream=w-2-9.el9.src.rpm'
    >>> of_package(Package(kind="pypi", name="Ruamel_Yaml", version="0.18"), Release())
    'pkg:pypi/ruamel-yaml@0.18'
    """
    if package.kind == "pypi":
        return of_python(package.name, package.version)
    epoch, version = "", package.version
    if package.kind == "rpm" and ":" in version:
        epoch, _, version = version.partition(":")
    namespace = release.id or _NAMESPACES.get(package.kind, "")
    return _url(
        f"{package.kind}/{namespace}" if namespace else package.kind,
        package.name,
        version,
        {"arch": package.arch, "distro": _distro(release), "epoch": epoch, "upstream": package.source},
    )


def of_locked(package: LockedPackage, vendor: str, source: str) -> str:
    """Return the URL of an RPM of the bundle; that of a distribution's when its vendor is one."""
    namespace = _VENDORS.get(vendor, "")
    found = _EL.search(package.release)
    qualifiers = {
        "arch": package.arch,
        "distro": f"{namespace}-{found[1]}" if namespace and found else "",
        "epoch": str(package.epoch or ""),
        "upstream": source,
    }
    where = f"rpm/{namespace}" if namespace else "rpm"
    return _url(where, package.name, f"{package.version}-{package.release}", qualifiers)


def of_python(name: str, version: str) -> str:
    """Return the URL of a Python distribution."""
    return _url("pypi", re.sub(r"[-_.]+", "-", name).lower(), version, {})


def of_module(module: GoModule) -> str:
    """Return the URL of a Go module; one that was built from a work tree has no version."""
    is_released = module.version and module.version != "(devel)"
    version = f"@{quote(module.version, safe='.-')}" if is_released else ""
    return f"pkg:golang/{quote(module.path, safe='/.-~')}{version}"


def of_image(reference: Reference, digest: str) -> str:
    """Return the URL of an image: the name alone is unique only together with where it is."""
    name = reference.repository.rsplit("/", 1)[-1].lower()
    where = quote(f"{reference.registry}/{reference.repository}", safe="/.-")
    return f"pkg:oci/{name}@{quote(digest, safe=':')}?repository_url={where}&tag={quote(reference.tag, safe='.-')}"


def _distro(release: Release) -> str:
    return "-".join(part for part in (release.id, release.version) if part)


def _url(where: str, name: str, version: str, qualifiers: dict[str, str]) -> str:
    given = "&".join(
        f"{key}={quote(value, safe='.-~:/')}" for key, value in sorted(qualifiers.items()) if value
    )
    return (
        f"pkg:{where}/{quote(name, safe='.-~')}@{quote(version, safe='.-~:')}{f'?{given}' if given else ''}"
    )
