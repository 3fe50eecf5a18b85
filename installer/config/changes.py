# SPDX-License-Identifier: Apache-2.0
"""Compare a configuration with the one that this host was installed with: what is applied, what cannot change.

The installed one is the pillar: the bootstrap writes it only after this comparison, so it never holds a value that
was refused, however often bootstrap.yaml itself was edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import ConfigError
from installer.base.paths import Paths
from installer.config.authority import Authority
from installer.config.bootstrap import Config
from installer.config.facts import Facts
from installer.config.leaf import Leaf

FIRST_STAMP = "/var/lib/caisson/kubeadm/certs-all.json"
"""From then on there are certificates, and soon objects, that hold the values below."""
KUBELET_KEPT = ("cgroupDriver", "staticPodPath")
"""Running containers were started with them."""
NONE = object()


@dataclass(frozen=True)
class Field:
    """A key of bootstrap.yaml, where its value is among ``values``, and why it cannot change, empty when it can."""

    key: str
    place: tuple[str, ...]
    fixed: str = ""


FIELDS = (
    Field("clusterName", ("cluster", "name"), "the API's name and the certificates hold it"),
    Field("networks.controlPlane.cidrs", ("networks", "control_plane")),
    Field("networks.controlPlane.vip", ("networks", "vip")),
    Field("networks.workloadPlane.cidrs", ("networks", "workload_plane")),
    Field("networks.pods.cidr", ("networks", "pods"), "pods have addresses of it"),
    Field("networks.services.cidr", ("networks", "services"), "services have addresses of it"),
    Field("node.name", ("node", "name"), "the node is registered under it"),
    Field(
        "networks.controlPlane: this host's address",
        ("node", "control_plane_address"),
        "etcd and the certificates are bound to it",
    ),
    Field("networks.workloadPlane: this host's address", ("node", "workload_plane_address")),
    Field("apiServer.extraSans", ("api_server", "extra_sans")),
    Field("media.certificate", ("media", "certificate")),
    Field("authorities.services", ("authorities", "services"), "it was copied when the host was installed"),
    Field(
        "authorities.cluster", ("authorities", "cluster"), "every certificate of the cluster comes from it"
    ),
    Field("containerd.discardUnpackedLayers", ("containerd", "discard_unpacked_layers")),
    Field("images.directory", ("site_images", "directory")),
    Field("images.iso", ("site_images", "iso")),
    Field("overrides.containerd", ("overrides", "containerd")),
    *(
        Field(f"overrides.kubelet.{key}", ("overrides", "kubelet", key), "running pods were started with it")
        for key in KUBELET_KEPT
    ),
    Field("overrides.kubelet", ("overrides", "kubelet")),
    Field("overrides.kubeProxy", ("overrides", "kube_proxy")),
    Field("overrides.kubeadmPatches", ("overrides", "kubeadm_patches")),
    Field("overrides.ignorePreflights", ("overrides", "ignore_preflights")),
)


@dataclass(frozen=True)
class Change:
    """What one field was and shall be; ``fixed`` says why that is refused, empty when the next run applies it."""

    key: str
    old: str
    new: str
    fixed: str

    @property
    def verdict(self) -> str:
        """What the next bootstrap makes of it."""
        if self.old == self.new:
            return "unchanged"
        return f"refused: {self.fixed}" if self.fixed else "applied"


def values(config: Config, facts: Facts) -> dict[str, Any]:
    """Return what the user and the host say, as it stands in the pillar. Pure."""
    overrides = config.overrides
    return {
        "cluster": {"name": config.cluster_name, "endpoint": config.endpoint},
        "networks": {
            "control_plane": [str(cidr) for cidr in config.networks.control_plane_cidrs],
            "workload_plane": [str(cidr) for cidr in config.networks.workload_plane_cidrs],
            "pods": str(config.networks.pods_cidr),
            "services": str(config.networks.services_cidr),
            "vip": str(config.networks.vip) if config.networks.vip else None,
        },
        "api_server": {"extra_sans": list(config.extra_sans)},
        "containerd": {"discard_unpacked_layers": config.discard_unpacked_layers},
        "site_images": {
            "directory": str(config.images_directory or ""),
            "iso": str(config.images_iso or ""),
        },
        "media": {"certificate": _leaf(config.media_certificate)},
        "authorities": {
            "services": _authority(config.services_authority),
            "cluster": _authority(config.cluster_authority),
        },
        "node": {
            "name": facts.node_name,
            "control_plane_address": str(facts.control_plane_address),
            "control_plane_interface": facts.control_plane_interface,
            "workload_plane_address": str(facts.workload_plane_address),
            "workload_plane_interface": facts.workload_plane_interface,
        },
        "overrides": {
            "containerd": overrides.containerd,
            "kubelet": dict(overrides.kubelet),
            "kube_proxy": dict(overrides.kube_proxy),
            "kubeadm_patches": dict(overrides.kubeadm_patches),
            "ignore_preflights": [
                {"id": entry.id, "reason": entry.reason} for entry in overrides.ignore_preflights
            ],
        },
    }


def _authority(given: Authority | None) -> dict[str, str] | None:
    """Return where the files of a site's authority are: a key itself is never in the pillar."""
    if given is None:
        return None
    return {"certificate_file": str(given.certificate_file), "key_file": str(given.key_file)}


def _leaf(given: Leaf | None) -> dict[str, str] | None:
    if given is None:
        return None
    return {
        "certificate_file": str(given.certificate_file),
        "key_file": str(given.key_file),
        "authority_file": str(given.authority_file),
    }


def installed(paths: Paths) -> Mapping[str, Any] | None:
    """Return the values that this host's control plane was made with, None before there is one."""
    return recorded(paths) if paths.at(FIRST_STAMP).exists() else None


def recorded(paths: Paths) -> Mapping[str, Any] | None:
    """Return the values that Salt was given last, None when it has none."""
    return read_pillar(paths.pillar_dir / "caisson.sls")


def read_pillar(file: Path) -> Mapping[str, Any] | None:
    """Return the values in a file of the pillar, None when there is none that can be read."""
    try:
        return read_pillar_text(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_pillar_text(text: str) -> Mapping[str, Any] | None:
    """Return the values in the text of such a file, None when it is none."""
    try:
        found = json.loads(text.partition("\n")[2])["caisson"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return every field of both, in the order of bootstrap.yaml; a kept key only where one of them has it."""
    return tuple(
        Change(field.key, _show(before), _show(after), field.fixed)
        for field in FIELDS
        for before, after in [(_at(old, field), _at(new, field))]
        if before is not NONE or after is not NONE
    )


def check(paths: Paths, config: Config, facts: Facts) -> None:
    """Refuse what cannot change any more, before anything is touched.

    Raises:
        ConfigError: there is such a change; each is in ``details``, with the old and the new value.
    """
    old = installed(paths)
    refused = [*_refused(old, values(config, facts))] if old is not None else []
    if refused:
        raise ConfigError(
            "the configuration changes what cannot change on an installed cluster",
            details="\n".join(refused),
            resolution=f"put the old values back in {config.file}; 'caisson config diff' shows all changes",
        )


def since(paths: Paths, config: Config, facts: Facts) -> list[str]:
    """Return the keys of bootstrap.yaml that say something else than what Salt was given last."""
    old = recorded(paths)
    found = compare(old, values(config, facts)) if old is not None else ()
    return [change.key for change in found if change.old != change.new]


def _refused(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for change in compare(old, new):
        if change.fixed and change.old != change.new:
            yield f"{change.key}: installed with {change.old}, now {change.new}: {change.fixed}"


def _at(data: Mapping[str, Any], field: Field) -> object:
    value: object = data
    for step in field.place:
        if not isinstance(value, Mapping) or step not in value:
            return NONE
        value = value[step]
    if field.place == ("overrides", "kubelet") and isinstance(value, Mapping):
        return {key: entry for key, entry in value.items() if key not in KUBELET_KEPT}
    return value


def _show(value: object) -> str:
    """Return a value on one line; nothing at all is ``-``.

    >>> _show([]), _show("10.0.0.0/8"), _show({"maxPods": 200})
    ('-', '10.0.0.0/8', '{"maxPods": 200}')
    """
    if value is NONE or value is None or value in ("", [], {}):
        return "-"
    return value if isinstance(value, str) and "\n" not in value else json.dumps(value, sort_keys=True)
