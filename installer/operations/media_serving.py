# SPDX-License-Identifier: Apache-2.0
"""Let nginx serve what the ISOs of this host have, without starting it again, and see that it does."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.media.product import Product
from installer.operations import containers, media, media_maps
from installer.operations.endpoints import client_context
from installer.operations.images import CA_FILE, Site
from installer.operations.media import Say

RELOAD_S = 20.0
POLL_S = 0.3
LET_GO_S = 5.0
"""How long a worker of nginx that has yet to read its maps again is waited for, before an ISO is unmounted."""
RELOAD = ("nginx", "-c", "/etc/caisson/nginx/nginx.conf", "-s", "reload")


def publish(site: Site, own: Product, *, say: Say, without: str = "", is_sure: bool = True) -> bool:
    """Let nginx serve what the ISOs have that are mounted now, but ``without``; return whether anything changed.

    It reads its files again in place: what is being pulled goes on. It is asked until it answers as they say. Unless
    ``is_sure`` it reads them in any case.

    Raises:
        HostError: it does not run, or does not answer so.
    """
    paths = site.paths
    there = [one for one in media.known(paths) if one.full_version != without]
    in_use = media.own_layout(own, paths)
    added = [layout for _, layout in media.added_layouts(there, paths, say)]
    texts = media_maps.render(in_use, added)
    taken = {image.name for image in in_use.images}
    wanted = {
        image.name: image.digest
        for layout in reversed(added)
        for image in layout.images
        if image.name not in taken
    }
    if not any(texts.values()) and not paths.media_maps_dir.is_dir():
        return False
    before = served_names(paths)
    is_written = media_maps.write(paths.media_maps_dir, texts)
    if not is_written and is_sure and all(_serves(site, *pair) for pair in wanted.items()):
        return False
    say("nginx reads its maps again")
    run(["crictl", "exec", container(), *RELOAD], timeout_s=60)
    _await_nginx(site, wanted, {name: before[name] for name in before.keys() - wanted.keys() - taken})
    media_maps.told(paths.media_maps_dir)
    return True


def served_names(paths: Paths) -> dict[str, str]:
    """Return what nginx' maps have of other ISOs now: name -> digest in hexadecimal."""
    try:
        lines = (paths.media_maps_dir / media_maps.TAGS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.split('"') for line in lines if line.count('"') == 2]
    return {
        name.lstrip("~^").rstrip("$").replace("\\.", "."): digest.strip("; ") for _, name, digest in pairs
    }


def container() -> str:
    """Return the id of nginx' container. Raises: HostError when it does not run."""
    asked = ["crictl", "ps", "--quiet", "--state", "Running", *containers.selection("nginx")]
    found = run(asked, timeout_s=60).stdout.split()
    if not found:
        raise HostError(
            "nginx does not run, which serves the ISOs",
            details="nothing was changed",
            resolution=f"see: {containers.listing('nginx')}; and 'caisson status'",
        )
    return found[0]


def _await_nginx(site: Site, wanted: Mapping[str, str], gone: Mapping[str, str]) -> None:
    """Wait until nginx serves each name with its digest, and a while until it serves what is gone no more.

    Raises:
        HostError: it does not.
    """
    started, left = time.monotonic(), dict(wanted)
    while left := {name: digest for name, digest in left.items() if not _serves(site, name, digest)}:
        if time.monotonic() > started + RELOAD_S:
            name = min(left)
            raise HostError(
                f"nginx does not serve {name} as its maps say",
                details=f"{len(left)} names are not served with the digests of their ISOs; {name}: sha256:{left[name]}",
                resolution=f"see: {containers.log('nginx')}",
            )
        time.sleep(POLL_S)
    # The site's registry may have the same image of that name.
    while time.monotonic() < started + LET_GO_S and any(_serves(site, *pair) for pair in gone.items()):
        time.sleep(POLL_S)


def await_name(site: Site, name: str, digest: str, *, limit_s: float) -> bool:
    """Ask for a name until it is served with this digest; say whether it was within the limit."""
    deadline = time.monotonic() + limit_s
    while not _serves(site, name, digest):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _serves(site: Site, name: str, digest: str) -> bool:
    """Ask nginx for the manifest of a name, and say whether it has this digest."""
    path, _, tag = name.rpartition(":")
    connection = http.client.HTTPSConnection(
        site.address, site.ports["media-https"], timeout=10, context=client_context(site.paths.at(CA_FILE))
    )
    try:
        headers = {"Accept": ", ".join(media_maps.LOCATIONS)}
        connection.request("HEAD", f"/v2/{path}/manifests/{tag}", headers=headers)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return answer.status == 200 and answer.headers.get("Docker-Content-Digest") == f"sha256:{digest}"
    finally:
        connection.close()
