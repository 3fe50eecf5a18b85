# SPDX-License-Identifier: Apache-2.0
"""The states of pki, applied by the real Salt below a directory: what they make passes the strictest check."""

from __future__ import annotations

import copy
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.authorities import make_authority
from tests.sls.compiler import GRAINS, Compiler

TREE_DIR = Path(__file__).parents[2] / "salt"
Applied = list[dict[str, Any]]


def apply(tmp_path: Path, caisson: dict[str, Any]) -> Applied:
    """Apply ``pki`` with its paths moved below ``tmp_path``; return what each state said."""
    tree_dir = tmp_path / "tree"
    if not tree_dir.exists():
        shutil.copytree(TREE_DIR, tree_dir)
        for file in (tree_dir / "pki").glob("*.sls"):
            file.write_text(file.read_text().replace("/etc/caisson", f"{tmp_path}/etc"))
    return Compiler(tree_dir, tmp_path / "minion", GRAINS).apply("pki", {"caisson": caisson})


def handshake(authority_file: Path, leaf: tuple[Path, Path], name: str) -> None:
    """Let a client as strict as Python's newest meet the server, in memory."""
    client_context = ssl.create_default_context(cafile=str(authority_file))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*leaf)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(back, there, server_hostname=name)
    server = server_context.wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == "TLSv1.3"


@pytest.fixture
def caisson(pillar: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the pillar; a site's authority, if it has one, is an issued one at a path that YAML would misread."""
    data: dict[str, Any] = copy.deepcopy(pillar["caisson"])
    if data["authorities"]["services"]:
        root = make_authority(tmp_path / "root", subject="a root")
        certificate, key = make_authority(tmp_path / "site: #1 'CA'", issuer=root)
        data["authorities"]["services"] = {"certificate_file": str(certificate), "key_file": str(key)}
    return data


def test_the_made_certificates_pass_a_strict_check(tmp_path: Path, caisson: dict[str, Any]) -> None:
    first = apply(tmp_path, caisson)
    assert [state["comment"] for state in first if not state["result"]] == []
    pki_dir = tmp_path / "etc" / "pki"
    leaf = pki_dir.parent / "tls/media.crt", pki_dir.parent / "tls/media.key"
    names = (
        caisson["node"]["name"],
        caisson["node"]["control_plane_address"],
        caisson["media_name"],
    )
    for name in names:
        handshake(tmp_path / "etc" / "ca.crt", leaf, name)
    second = apply(tmp_path, caisson)
    assert [state["changes"] for state in second if state["changes"] or not state["result"]] == []


@pytest.mark.parametrize("name", ["10023", "null", "n" * 63 + ".example"])
def test_names_that_yaml_or_x509_would_misread(tmp_path: Path, caisson: dict[str, Any], name: str) -> None:
    caisson["node"]["name"], caisson["cluster"]["name"] = name, name[:63]
    assert [state["comment"] for state in apply(tmp_path, caisson) if not state["result"]] == []
    pki_dir = tmp_path / "etc" / "tls"
    certificate = x509.load_pem_x509_certificate((pki_dir / "media.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name, caisson["media_name"]]
    handshake(tmp_path / "etc" / "ca.crt", (pki_dir / "media.crt", pki_dir / "media.key"), name)


@pytest.mark.parametrize("name", ["pki/ca.key", "pki/ca.crt", "tls/media.key", "tls/media.crt", "ca.crt"])
def test_a_file_that_a_power_cut_emptied_is_made_again(
    tmp_path: Path, caisson: dict[str, Any], name: str
) -> None:
    """As a journalling file system leaves what was renamed and not synced: the name is there, no byte is."""
    apply(tmp_path, caisson)
    (tmp_path / "etc" / name).write_text("")
    again = apply(tmp_path, caisson)
    assert [state["comment"] for state in again if not state["result"]] == []
    leaf = tmp_path / "etc/tls/media.crt", tmp_path / "etc/tls/media.key"
    handshake(tmp_path / "etc/ca.crt", leaf, caisson["node"]["name"])
