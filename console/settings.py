# SPDX-License-Identifier: Apache-2.0
"""Read ``console.json``, which Salt writes: where to listen, under which names, whom to ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_FILE = Path("/etc/caisson/console/console.json")
DEFAULT_PORT = 9443


class SettingsError(Exception):
    """The settings cannot be used; its text has what, where and how to put it right."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """What this host is installed from."""

    version: str = ""
    build: str = ""
    profile: str = ""
    lab: bool = False

    @property
    def title(self) -> str:
        """Return version and build, as far as they are known."""
        return "-".join(part for part in (self.version, self.build) if part) or "unknown version"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the console is told; ``names`` are those a browser may call it by, in small letters, without a port."""

    listen: tuple[str, ...]
    port: int
    names: frozenset[str]
    api_url: str
    api_ca_file: Path
    door_socket: Path
    cluster: str
    certificate_file: Path
    key_file: Path
    product: Product = field(default_factory=Product)


def load(file: Path, credentials_dir: Path | None = None) -> Settings:
    """Return the settings of a file; the key of the certificate comes from systemd's credentials, else from beside it.

    Raises:
        SettingsError: it cannot be read or has faults: all of them are named.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{file} cannot be read: {exc}. 'caisson bootstrap' writes it again.") from exc
    if not isinstance(data, dict):
        raise SettingsError(f"{file} is no JSON object. 'caisson bootstrap' writes it again.")
    faults: list[str] = []
    settings = _parse(data, file.parent, credentials_dir, faults)
    if faults:
        raise SettingsError(f"{file} has faults: {'; '.join(faults)}. 'caisson bootstrap' writes it again.")
    return settings


def _parse(
    data: Mapping[str, Any], directory: Path, credentials_dir: Path | None, faults: list[str]
) -> Settings:
    def text(key: str, default: str | None = None) -> str:
        found = data.get(key, default)
        if not isinstance(found, str) or not found:
            faults.append(f"'{key}' is no text")
            return ""
        return found

    def texts(key: str) -> tuple[str, ...]:
        found = data.get(key)
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
            faults.append(f"'{key}' is no list of texts")
            return ()
        return tuple(found)

    port = data.get("port", DEFAULT_PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        faults.append("'port' is no port")
        port = DEFAULT_PORT
    api_url = text("api")
    if api_url and not api_url.startswith("https://"):
        faults.append("'api' does not begin with https://")
    listen = texts("listen")
    key = credentials_dir / "tls.key" if credentials_dir is not None else directory / "tls.key"
    return Settings(
        listen=listen,
        port=port,
        names=frozenset(name.lower() for name in (*texts("names"), *listen)),
        api_url=api_url.rstrip("/"),
        api_ca_file=Path(text("ca", "/etc/kubernetes/pki/ca.crt")),
        door_socket=Path(text("door", "/run/caisson/door.sock")),
        cluster=text("cluster"),
        certificate_file=directory / "tls.crt",
        key_file=key,
        product=_product(data.get("product")),
    )


def _product(data: Any) -> Product:
    found = data if isinstance(data, dict) else {}
    return Product(
        version=str(found.get("version", "")),
        build=str(found.get("build", "")),
        profile=str(found.get("profile", "")),
        lab=found.get("lab") is True,
    )
