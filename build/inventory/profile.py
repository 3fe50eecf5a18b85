# SPDX-License-Identifier: Apache-2.0
"""Read an upstream profile: where the bytes come from, and which keys vouch for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from build.base.document import Faults, Record, fingerprint, fitting, read_document
from build.base.errors import ProfileError
from build.inventory.model import (
    DEFAULT_CONNECT_TIMEOUT_S,
    Endpoint,
    MetadataTrust,
    PinnedKey,
    Profile,
    Registry,
    Repository,
)
from build.inventory.reference import normal_name, registry_host

_LONGEST_CONNECT_TIMEOUT_S = 600
LAB_PROFILE = Path("_out/lab/upstream.yaml")


def profile_file(name: str, root_dir: Path) -> Path:
    """Return the file of a profile: ``production``, ``lab``, another name in ``profiles/``, or a path."""
    if name == "lab":
        return root_dir / LAB_PROFILE
    if "/" in name or name.endswith(".yaml"):
        return Path(name).absolute()
    return root_dir / "profiles" / f"{name}.yaml"


def read_profile(file: Path, extra_files: Sequence[Path] = ()) -> Profile:
    """Read a profile, with the repositories, registries and addresses that a vendor's files bring along.

    What the profile itself says of an id comes first: a site's mirror has its own addresses for them.

    Raises: ProfileError with every fault of the files.
    """
    faults = Faults(ProfileError)
    missing = "give the name of a file in profiles/, or the path of a profile: ./doit.sh iso upstream=NAME"
    record = read_document(file, faults, missing=missing)
    profile = None if record is None else _parse_profile(record, file.absolute())
    for extra_file in extra_files:
        extra = read_document(extra_file, faults, missing="extra=PATH names a vendor's inventory file")
        if profile is not None and extra is not None:
            profile = _with_extra(profile, extra, extra_file.absolute().parent)
    return faults.result(profile)


def _with_extra(profile: Profile, extra: Record, directory: Path) -> Profile:
    """Return the profile with what it does not have yet."""
    return dataclasses.replace(
        profile,
        repositories={**_parse_repositories(extra, directory), **profile.repositories},
        registries={**_parse_registries(extra), **profile.registries},
    )


def _parse_profile(record: Record, file: Path) -> Profile:
    policy = record.optional_text("signature_policy")
    profile = Profile(
        name=record.parsed("name", _profile_name, ""),
        is_lab=record.flag("lab"),
        file=file,
        lock_file=Path(file.parent, record.text("lock_file")).resolve(),
        versions=record.text_map("versions", required=False),
        repositories=_parse_repositories(record, file.parent, required=True),
        registries=_parse_registries(record, required=True),
        manifests=record.text_map("manifests", required=False),
        python_indexes=record.text_or_texts("python_index", _base_url) if record.has("python_index") else (),
        connect_timeout_s=_connect_timeout_s(record),
        signature_policy=None if policy is None else Path(file.parent, policy).resolve(),
    )
    record.close()
    return profile


def _connect_timeout_s(record: Record) -> float:
    if not record.has("connect_timeout_s"):
        return DEFAULT_CONNECT_TIMEOUT_S
    seconds = record.number("connect_timeout_s", 1)
    if not 1 <= seconds <= _LONGEST_CONNECT_TIMEOUT_S:
        record.fault(
            f"'connect_timeout_s' must be from 1 to {_LONGEST_CONNECT_TIMEOUT_S}", key="connect_timeout_s"
        )
    return seconds


_profile_name = fitting(
    r"[a-z0-9][a-z0-9-]*", "profile name {text!r} must be lower-case letters, digits and hyphens"
)


def _parse_repositories(profile: Record, directory: Path, *, required: bool = False) -> dict[str, Repository]:
    found: dict[str, Repository] = {}
    table = profile.record("repositories", required=required)
    for name in table.take_keys() if table else ():
        record = table.record(name) if table else None
        if record is None:
            continue
        _refuse_lists(record, name)
        base_urls = record.text_or_texts("base_url", _base_url)
        trust = record.parsed("metadata", _metadata_trust, MetadataTrust.SIGNED)
        if trust is MetadataTrust.TLS and not all(map(is_trusted_connection, base_urls)):
            record.fault(
                "'metadata: tls' trusts the connection, so base_url must be https://", key="metadata"
            )
        keys = tuple(_parse_key(key, directory) for key in record.records("keys"))
        if record.has("keys") and not keys:
            record.fault(f"repository '{name}' names no key: its packages could not be verified", key="keys")
        certificate, key = _parse_client(record, directory, base_urls)
        record.close()
        found[name] = Repository(
            id=name,
            base_urls=base_urls,
            metadata=trust,
            keys=keys,
            client_certificate=certificate,
            client_key=key,
        )
    return found


def _refuse_lists(record: Record, name: str) -> None:
    """Say what takes the place of a list of mirrors that a server makes up."""
    for kind in ("mirrorlist", "metalink"):
        if record.has(kind):
            record.leave(kind)
            record.fault(
                f"repository '{name}' names a {kind}, which is not supported: a lock should not depend on a list that "
                "changes with the hour; give addresses of mirrors as base_url, a list of them is asked in turn",
                key=kind,
            )


def _parse_client(
    record: Record, directory: Path, base_urls: Sequence[str]
) -> tuple[Path | None, Path | None]:
    """Return the client's certificate and its private key."""
    files = [
        (directory / record.text(field)).resolve() if record.has(field) else None
        for field in ("client_certificate", "client_key")
    ]
    if files[1] and not files[0]:
        record.fault("'client_key' belongs to a 'client_certificate', which is missing", key="client_key")
    if files[0] and not all(url.startswith("https://") for url in base_urls):
        record.fault("'client_certificate' needs TLS, so base_url must be https://", key="client_certificate")
    return files[0], files[1]


def is_trusted_connection(url: str) -> bool:
    """Tell whether nobody on the way can change what comes from an address: TLS, or this machine itself.

    Source: W3C Secure Contexts, 3.1: an origin of 127.0.0.0/8 is potentially trustworthy.
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or re.fullmatch(r"127(\.\d{1,3}){3}", parts.hostname or "") is not None


def _parse_key(record: Record, directory: Path) -> PinnedKey:
    key = PinnedKey(
        file=(directory / record.text("file")).resolve(),
        fingerprint=record.parsed("fingerprint", fingerprint, ""),
    )
    record.close()
    return key


def _parse_registries(profile: Record, *, required: bool = False) -> dict[str, Registry]:
    found: dict[str, Registry] = {}
    table = profile.record("registries", required=required)
    for host in table.take_keys() if table else ():
        if table is not None:
            urls = table.text_or_texts(host, _registry_url)
            try:
                name, _ = normal_name(registry_host(host), "a/b")
                found[name] = Registry(host=name, endpoints=tuple(map(_endpoint, urls)))
            except ValueError as exc:
                table.fault(str(exc), key=host)
    return found


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    return Endpoint(url=f"{parts.scheme}://{parts.netloc}", prefix=parts.path.strip("/"))


_any_base_url = fitting(
    r"https?://[^\s/?#]+/([^\s?#]*/)?",
    "base_url '{text}' must start with http:// or https:// and end with a slash",
)
_any_registry_url = fitting(
    r"https?://[^\s/?#]+(/[^\s?#]*)?", "registry address '{text}' must be http(s)://HOST[:PORT][/PREFIX]"
)


def _base_url(text: str) -> str:
    return _any_base_url(_without_login(text, "~/.netrc"))


def _registry_url(text: str) -> str:
    return _any_registry_url(_without_login(text, "podman login, docker login or skopeo login"))


def _without_login(text: str, instead: str) -> str:
    """Return an address when no login is in it: a profile is read by many, and shown in errors."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError(f"an address has a login in it: keep that out of the profile ({instead})")
    return text


def _metadata_trust(text: str) -> MetadataTrust:
    try:
        return MetadataTrust(text)
    except ValueError:
        raise ValueError(f"'metadata' must be one of: {', '.join(MetadataTrust)}; not '{text}'") from None
