# SPDX-License-Identifier: Apache-2.0
"""The console of a control plane: what it is told, under which names it is known, and the certificate for them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

DOOR_SOCKET = "/run/caisson-console/door.sock"
CREDENTIALS_DIR = "/run/credentials/caisson-console.service"
"""Where systemd lays down what the console may read, for it alone. Source: systemd.exec(5), LoadCredential=."""
AUTHORITY = {
    "signing_private_key": "/etc/caisson/pki/ca.key",
    "signing_cert": "/etc/caisson/pki/ca.crt",
}
LEAF = {
    "CN": "Caisson console",
    "basicConstraints": "critical, CA:FALSE",
    "keyUsage": "critical, digitalSignature",
    "extendedKeyUsage": "serverAuth",
    "subjectKeyIdentifier": "hash",
    "authorityKeyIdentifier": "keyid:always",
    "days_valid": 825,
}


def addresses(caisson: dict[str, Any]) -> list[str]:
    """Return where the console of this node listens: its address, and the virtual one, which may come. Pure."""
    vip = caisson["networks"].get("vip")
    return [caisson["node"]["control_plane_address"], *([vip] if vip else [])]


def names(caisson: dict[str, Any]) -> list[str]:
    """Return the names that a browser may call it by, beside the addresses. Pure."""
    node = caisson["node"]["name"]
    return [node, f"console.{caisson['cluster']['name']}.internal", caisson["cluster"]["endpoint"]]


def alternative_names(caisson: dict[str, Any]) -> str:
    """Return the subjectAltName of its certificate. Pure."""
    return ", ".join(
        [*(f"IP:{entry}" for entry in addresses(caisson)), *(f"DNS:{name}" for name in names(caisson))]
    )


def settings(caisson: dict[str, Any], port: int, api_port: int) -> dict[str, Any]:
    """Return what ``console.json`` says. Pure."""
    return {
        "listen": addresses(caisson),
        "port": port,
        "names": [*addresses(caisson), *names(caisson)],
        "api": f"https://{caisson['cluster']['endpoint']}:{api_port}",
        "ca": f"{CREDENTIALS_DIR}/ca.crt",
        "cluster": caisson["cluster"]["name"],
        "product": caisson.get("product", {}),
        "door": DOOR_SOCKET,
    }


def allowed_networks(caisson: dict[str, Any]) -> list[str]:
    """Return with whom the console may exchange packets: browsers and the API are on the control plane. Pure."""
    networks = [*caisson["networks"]["control_plane"], *addresses(caisson)]
    return list(dict.fromkeys(str(ipaddress.ip_network(entry)) for entry in networks))


def sign(public_key: str, caisson: dict[str, Any]) -> str:
    """Return a certificate for the console of another control plane, by its pillar; its key stays there."""
    names_said = alternative_names(caisson)
    made: str = __salt__["x509.create_certificate"](
        public_key=public_key, subjectAltName=names_said, **AUTHORITY, **LEAF
    )
    return made


def public_key(key_file: str) -> str:
    """Return the public half of a private key, as PEM."""
    return str(__salt__["x509.get_public_key"](key_file)).strip() + "\n"
