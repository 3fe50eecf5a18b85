# SPDX-License-Identifier: Apache-2.0
"""Serve an OCI layout as a read-only registry by configuration of nginx alone.

    served images -> oci-maps.conf       (http level: tag -> digest, digest -> type)
                  -> oci-locations.conf  (server level: the registry's paths)

A request for a name that the layout has is answered from its files; everything else below /v2/ goes to the
named location ``@registry``, which the including server defines, with its path unchanged. So no request is
ever rewritten: the type of a manifest picks a named location through a variable in ``error_page``, because
``default_type`` expands no variables and ``proxy_pass`` would pass a rewritten path on.

Both forms of a name are found: ``/v2/pause/manifests/3.10.2?ns=registry.k8s.io`` (containerd) and
``/v2/registry.k8s.io/pause/manifests/3.10.2`` (podman, CRI-O, skopeo). Either is one **full name**, which begins with
the registry's: ``$oci_name`` holds it for ``@registry``, in one spelling, and is empty where there is none.
``$oci_rest`` holds what follows it, and is empty for what is no manifest, blob or list of tags. Both have no other
letters than a registry's paths have, so they may be put together to one.

What other media have that lie on the host too is looked for after that: the installer writes it as lines of the same
maps (installer/operations/media_maps.py), with this media's locations and variables.

A registry's port is written ``registry.site:5000`` by containerd, in ``ns``, as ``%3A``. A registry stores no name with
a colon, and the names of other clients have none but in front: it is stored, and may be asked for, as
``registry.site__5000``. No host's name has an underscore.
Source: OCI distribution-spec 1.1, "Pull"; containerd docs/hosts.md and 2.3, core/remotes/docker, ``addNamespace``;
distribution/reference, ``ParseDockerRef``; nginx 1.22 ngx_http_core_module.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable, Mapping, Sequence

from build.base.errors import BuildError, joined_faults
from build.inventory.model import Digest, Reference


class ManifestType(enum.StrEnum):
    """The media types of manifests that registries serve."""

    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

    @property
    def location(self) -> str:
        """Return the named location that serves the type."""
        return f"@caisson_{self.name.lower()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """A tag in the layout: the digest it names and the type of every manifest below it that is present."""

    reference: Reference
    digest: Digest
    manifests: tuple[tuple[Digest, ManifestType], ...]


# Source: distribution/reference, regexp.go; what is a host and what a part of a name, Docker's rule.
_HOST = r"(?:localhost|[a-z0-9]+(?:-+[a-z0-9]+)*(?:[.][a-z0-9]+(?:-+[a-z0-9]+)*)+)"
_HOST_WITH_PORT = (
    "(?<oci_host>[a-z0-9]+(?:-+[a-z0-9]+)*(?:[.][a-z0-9]+(?:-+[a-z0-9]+)*)*)(?::|__)(?<oci_port>[0-9]{1,5})"
)
_PART = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_PARTS = f"{_PART}(?:/{_PART})*"
_DOCKER = "(?:index[.]|registry-1[.])?docker[.]io"
OWN_NAMES = "/etc/caisson/nginx/own-names*.conf"
"""Where a site says which names of registries are its own media server's, as lines of a map; there may be none."""
ADDED_DIR = "/etc/caisson/nginx/media"
"""Where a host says what it has of other media beside this one, as lines of these maps; there may be none."""
ADDED_SLOTS = 4
"""How many other media a host may have beside this one."""
_HEX = "(?<oci_hex>[0-9a-f]{64})"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:/-]+")
_DOT = r"\."
_MIN_HASH_BUCKET = 256
_MIN_HASH_SIZE = 2048


def render_maps(served: Sequence[Served]) -> str:
    """Render oci-maps.conf: to be included once, at the http level.

    It sets ``map_hash_bucket_size`` and ``map_hash_max_size``, which the including file must then not set.

    Raises: BuildError for a name that would not be read as it is meant.
    """
    _check_names(str(image.reference) for image in served)
    tags = {f"{stored_name(image.reference)}:{image.reference.tag}": image.digest.hex for image in served}
    types = {digest.hex: kind.location for image in served for digest, kind in image.manifests}
    listed: dict[str, list[str]] = {}
    for image in served:
        listed.setdefault(stored_name(image.reference), []).append(image.reference.tag)
    lists = {name: "'" + ",".join(f'"{tag}"' for tag in sorted(tags)) + "'" for name, tags in listed.items()}
    longest = max((len(key) for key in (*tags, *types, *lists)), default=0)
    bucket = max(_MIN_HASH_BUCKET, -(-2 * (longest + 32) // 64) * 64)
    size = max(_MIN_HASH_SIZE, 1 << (4 * max(len(tags), len(types))).bit_length())
    return "\n".join(
        (
            "# The names that the OCI layout serves. Made by the build; include it at the http level.",
            f"map_hash_bucket_size {bucket};",
            f"map_hash_max_size {size};",
            "",
            "# The registry that a client means: containerd names it in ?ns=, others put it into the path.",
            "map $arg_ns $oci_ns {",
            f"    include {OWN_NAMES};",
            '    default "?/";',
            '    "" "";',
            '    "~^(?<oci_ns_host>[A-Za-z0-9.-]+)$" "$oci_ns_host/";',
            '    "~^(?<oci_ns_name>[A-Za-z0-9.-]+)(?::|%3[Aa])(?<oci_ns_port>[0-9]+)$" "$oci_ns_name:$oci_ns_port/";',
            "}",
            "# The full name in the one spelling in which it is stored; empty when it is no name with a registry.",
            "map $oci_ns$oci_repo $oci_name {",
            '    default "";',
            f'    "~^{_DOCKER}/(?<oci_official>{_PART})$" docker.io/library/$oci_official;',
            f'    "~^{_DOCKER}/(?<oci_docker>{_PARTS})$" docker.io/$oci_docker;',
            f'    "~^{_HOST_WITH_PORT}/(?<oci_parts>{_PARTS})$" "${{oci_host}}__$oci_port/$oci_parts";',
            f'    "~^(?<oci_plain>{_HOST}/{_PARTS})$" $oci_plain;',
            "}",
            "# Keys are patterns, because nginx does not tell upper from lower case in others: tags do.",
            "# Other media come after this one: of two images of one name its own is served. Lists of tags are of all.",
            *_map('"$oci_name:$oci_ref"', "$oci_tag", '""', _patterns(tags), last="tags"),
            *_map("$oci_hex", "$oci_location", "@registry", types, last="types"),
            *_map("$oci_name", "$oci_tags", '""', _patterns(lists), first="lists"),
            "# Where the layouts of other media are.",
            *(
                line
                for number in _slots()
                for line in _map(f'"{number}"', f"$oci_added_{number}", '"/-"', {}, last="directories")
            ),
            "",
        )
    )


def stored_name(reference: Reference) -> str:
    """Return the full name of an image, without its tag, in the one spelling that a registry stores.

    >>> stored_name(Reference.parse("registry.site:5000/app:1"))
    'registry.site__5000/app'
    """
    return f"{reference.registry.replace(':', '__')}/{reference.repository}"


def _patterns(values: Mapping[str, str]) -> dict[str, str]:
    return {f"~^{name.replace('.', _DOT)}$": value for name, value in values.items()}


def _check_names(names: Iterable[str]) -> None:
    """Refuse names that would not be read by nginx as they are meant, whoever let them through."""
    faults = [repr(name) for name in names if not _PLAIN_NAME.fullmatch(name)]
    if faults:
        raise BuildError(
            "names of images cannot be served by nginx",
            details=joined_faults(faults),
            resolution="rename them in images.yaml: letters, digits and . _ - / : are possible",
        )


def _slots() -> Iterable[int]:
    return range(1, ADDED_SLOTS + 1)


def _map(
    source: str, variable: str, default: str, values: Mapping[str, str], *, first: str = "", last: str = ""
) -> Iterable[str]:
    """Yield a map; ``first`` and ``last`` name the lines of other media before and after its own.

    The first pattern that matches counts.
    """
    yield f"map {source} {variable} {{"
    yield f"    default {default};"
    if first:
        yield f"    include {ADDED_DIR}/{first}*.conf;"
    for key, value in sorted(values.items()):
        yield f'    "{key}" {value};'
    if last:
        yield f"    include {ADDED_DIR}/{last}*.conf;"
    yield "}"


def render_locations(oci_dir: str) -> str:
    """Render oci-locations.conf: to be included in a server that defines the location ``@registry``.

    ``oci_dir`` is where nginx finds the layout. A blob that several media have is served from any of them.
    """
    places = [oci_dir, *(f"$oci_added_{number}" for number in _slots())]
    only_reads = "    if ($request_method !~ ^(GET|HEAD)$) { return 405; }"
    version = "    add_header Docker-Distribution-Api-Version registry/2.0 always;"
    choose = ("    error_page 418 = $oci_location;", "    return 418;")
    fall = ("    error_page 418 = @registry;",)
    # The dates of all files on an ISO are equal: a date says nothing about content, the digest does.
    content = (
        "    etag off;",
        "    if_modified_since off;",
        "    add_header ETag '\"sha256:$oci_hex\"';",
        "    add_header Docker-Content-Digest sha256:$oci_hex;",
        version,
        "    root /;",
        f"    try_files {' '.join(f'{place}/blobs/sha256/$oci_hex' for place in places)} @registry;",
    )
    blocks: list[tuple[str, ...]] = [
        (
            "location = /v2/ {",
            only_reads,
            "    default_type application/json;",
            version,
            "    return 200 '{}';",
            "}",
        ),
        (
            f'location ~ "^/v2/(?<oci_repo>.+)/blobs/sha256:{_HEX}$" {{',
            only_reads,
            "    set $oci_rest blobs/sha256:$oci_hex;",
            "    types {}",
            "    default_type application/octet-stream;",
            *content,
            "}",
        ),
        (
            f'location ~ "^/v2/(?<oci_repo>.+)/manifests/sha256:{_HEX}$" {{',
            only_reads,
            "    set $oci_rest manifests/sha256:$oci_hex;",
            *choose,
            "}",
        ),
        (
            'location ~ "^/v2/(?<oci_repo>.+)/manifests/(?<oci_ref>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$" {',
            only_reads,
            "    set $oci_hex $oci_tag;",
            "    set $oci_rest manifests/$oci_ref;",
            *choose,
            "}",
        ),
        (
            'location ~ "^/v2/(?<oci_repo>.+)/tags/list$" {',
            only_reads,
            "    set $oci_rest tags/list;",
            *fall,
            '    if ($oci_tags = "") { return 418; }',
            "    default_type application/json;",
            version,
            """    return 200 '{"name":"$oci_repo","tags":[$oci_tags]}';""",
            "}",
        ),
        ("location /v2/ {", only_reads, "    set $oci_rest '';", *fall, "    return 418;", "}"),
    ]
    blocks += [
        (f"location {kind.location} {{", "    types {}", f"    default_type {kind};", *content, "}")
        for kind in ManifestType
    ]
    head = (
        "# A read-only registry over the OCI layout. Made by the build; include it in a server that defines",
        "# the location @registry, which gets what the layout does not have.",
    )
    return "\n".join((*head, *("\n".join(block) for block in blocks), ""))
