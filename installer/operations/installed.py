# SPDX-License-Identifier: Apache-2.0
"""Remember which bundle a host is installed from, and refuse another before anything is touched."""

from __future__ import annotations

import json
from dataclasses import dataclass

from installer.base.errors import HostError, OtherBundleError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.media.product import Product


@dataclass(frozen=True)
class Installed:
    """The bundle that this host's packages came from; ``product_sha256`` is the digest of its product.json."""

    title: str
    full_version: str
    product_sha256: str


def read(paths: Paths) -> Installed | None:
    """Return what was noted, None on a host where nothing was installed yet.

    Raises:
        HostError: the note cannot be read.
    """
    file = paths.installed_file
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Installed(str(data["title"]), str(data["full_version"]), str(data["product_sha256"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise HostError(
            f"{file} cannot be read: it says which ISO this host is installed from",
            details=str(exc),
            resolution=f"compare 'ls /srv/caisson' with the ISO that you hold; when they agree, remove {file}",
        ) from exc


def note(product: Product, paths: Paths) -> bool:
    """Note that from now on the host holds packages of ``product``; return whether that is new."""
    content = {"title": product.title, "full_version": product.full_version, "product_sha256": product.sha256}
    return write_file(paths.installed_file, json.dumps(content, indent=1, sort_keys=True) + "\n", mode=0o600)


def forget(paths: Paths) -> None:
    """Take the note back: no package of the bundle got on the host, so that a corrected ISO may be taken."""
    paths.installed_file.unlink(missing_ok=True)


def refuse_other(product: Product, paths: Paths) -> None:
    """Refuse a bundle that is not the one this host is installed from.

    Until the first package is installed, any bundle may take another's place: an ISO that was refused is no end.

    Raises:
        OtherBundleError: it is another version, or another build of the same version.
        HostError: the note cannot be read.
    """
    found = read(paths)
    if found is None or found.product_sha256 == product.sha256:
        return
    kind = "another build of the same version" if _version(found) == product.version else "another version"
    raise OtherBundleError(
        f"this host is installed from {found.title}; this ISO is {kind}",
        details=f"installed: {found.full_version}\nthis ISO:  {product.full_version}\nnothing was changed",
        resolution=f"start the bootstrap.sh of {found.full_version}, or 'caisson bootstrap'; "
        "an installed host cannot be moved to another bundle yet",
    )


def _version(installed: Installed) -> str:
    return installed.full_version.partition("-")[0]
