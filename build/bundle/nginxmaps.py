# SPDX-License-Identifier: Apache-2.0
"""Serve an OCI layout as a read-only registry by configuration of nginx alone.

    served images -> oci-maps.conf       (http level: tag -> digest, digest -> type)
                  -> oci-locations.conf  (server level: the registry's paths)

A request for a name that the layout has is answered from its files; everything else below /v2/ goes to the
named location ``@registry``, which the including server defines, with its path unchanged. So no request is
ever rewritten: the type of a manifest picks a named location through a variable in ``error_page``, because
``default_type`` expands no variables and ``proxy_pass`` would pass a rewritten path on.

Both forms of a name are found: ``/v2/pause/manifests/3.10.2?ns=registry.k8s.io`` (containerd) and
``/v2/registry.k8s.io/pause/manifests/3.10.2`` (podman, CRI-O, skopeo).
Source: OCI distribution-spec 1.1, "Pull"; containerd docs/hosts.md; nginx 1.22 ngx_http_core_module.
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
    tags = {str(image.reference): image.digest.hex for image in served}
    types = {digest.hex: kind.location for image in served for digest, kind in image.manifests}
    listed: dict[str, list[str]] = {}
    for image in served:
        name = f"{image.reference.registry}/{image.reference.repository}"
        listed.setdefault(name, []).append(image.reference.tag)
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
            '    default "";',
            '    "~^(?<oci_ns_host>[A-Za-z0-9.-]+(?::[0-9]+)?)$" "$oci_ns_host/";',
            "}",
            "# Keys are patterns, because nginx does not tell upper from lower case in others: tags do.",
            *_map('"$oci_ns$oci_repo:$oci_ref"', "$oci_tag", '""', _patterns(tags)),
            *_map("$oci_hex", "$oci_location", "@registry", types),
            *_map('"$oci_ns$oci_repo"', "$oci_tags", '""', _patterns(lists)),
            "",
        )
    )


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


def _map(source: str, variable: str, default: str, values: Mapping[str, str]) -> Iterable[str]:
    yield f"map {source} {variable} {{"
    yield f"    default {default};"
    for key, value in sorted(values.items()):
        yield f'    "{key}" {value};'
    yield "}"


def render_locations(oci_dir: str) -> str:
    """Render oci-locations.conf: to be included in a server that defines the location ``@registry``.

    ``oci_dir`` is where nginx finds the layout.
    """
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
        f"    root {oci_dir};",
        "    try_files /blobs/sha256/$oci_hex @registry;",
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
            "    types {}",
            "    default_type application/octet-stream;",
            *content,
            "}",
        ),
        (
            f'location ~ "^/v2/(?<oci_repo>.+)/manifests/sha256:{_HEX}$" {{',
            only_reads,
            *choose,
            "}",
        ),
        (
            'location ~ "^/v2/(?<oci_repo>.+)/manifests/(?<oci_ref>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$" {',
            only_reads,
            "    set $oci_hex $oci_tag;",
            *choose,
            "}",
        ),
        (
            'location ~ "^/v2/(?<oci_repo>.+)/tags/list$" {',
            only_reads,
            *fall,
            '    if ($oci_tags = "") { return 418; }',
            "    default_type application/json;",
            version,
            """    return 200 '{"name":"$oci_repo","tags":[$oci_tags]}';""",
            "}",
        ),
        ("location /v2/ {", only_reads, *fall, "    return 418;", "}"),
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
