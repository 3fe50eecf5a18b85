# SPDX-License-Identifier: Apache-2.0
"""Every certificate of a host is found, wherever it is kept, and one that ends soon is a fault."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from installer.base.paths import Paths
from installer.operations.certificates import certificate_rows, find_certificates

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def pem(days: float) -> bytes:
    """Return a certificate that ends so many days after NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=400))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a host with a certificate in each place."""
    kubeconfig = {"users": [{"user": {"client-certificate-data": base64.b64encode(pem(30)).decode()}}]}
    files = {
        "etc/kubernetes/pki/apiserver.crt": pem(1000),
        "etc/kubernetes/pki/etcd/server.crt": pem(60.5),
        "etc/caisson/tls/media.crt": pem(9000),
        "etc/caisson/console/tls.crt": pem(9001),
        "etc/kubernetes/admin.conf": yaml.safe_dump(kubeconfig).encode(),
        "etc/kubernetes/kubelet.conf": b"users: [{user: {client-certificate: /var/lib/kubelet/pki/x.pem}}]",
        "var/lib/kubelet/pki/kubelet-client-current.pem": b"-----BEGIN EC PRIVATE KEY-----\n" + pem(20),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_each_certificate_is_found_with_its_end(root: Path) -> None:
    states = find_certificates(Paths(root), now=NOW.timestamp())
    assert [(state.file, state.days_left) for state in states] == [
        ("/var/lib/kubelet/pki/kubelet-client-current.pem", 20),
        ("/etc/kubernetes/admin.conf", 30),
        ("/etc/kubernetes/pki/etcd/server.crt", 60),
        ("/etc/kubernetes/pki/apiserver.crt", 1000),
        ("/etc/caisson/tls/media.crt", 9000),
        ("/etc/caisson/console/tls.crt", 9001),
    ]
    # The kubelet renews its own in time; 20 days are too few for all others.
    assert [state.fault for state in states if state.fault] == [
        "certificate /etc/kubernetes/admin.conf ends in 30 days, on 2030-01-31"
    ]
    assert certificate_rows(states)[2] == ("/etc/kubernetes/admin.conf", "2030-01-31", "30")


def test_files_of_the_site_are_no_faults(root: Path) -> None:
    """Configurations that are no kubeconfigs, users with tokens, line ends of another system."""
    before = find_certificates(Paths(root), now=NOW.timestamp())
    kubernetes = root / "etc/kubernetes"
    (kubernetes / "audit-webhook.conf").write_text("users: [{name: x, user: {tokenFile: /x}}]")
    (kubernetes / "notes.conf").write_text("a = 1")
    (kubernetes / "scheduler.conf").write_text("users: [{name: x, user: {token: x}}]")
    admin = yaml.safe_load((kubernetes / "admin.conf").read_text())
    admin["users"].append({"name": "x", "user": {"token": "x"}})
    (kubernetes / "admin.conf").write_text(yaml.safe_dump(admin))
    file = kubernetes / "pki/apiserver.crt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert find_certificates(Paths(root), now=NOW.timestamp()) == before


def test_what_has_ended_and_what_cannot_be_read_are_faults(root: Path) -> None:
    (root / "etc/kubernetes/pki/ca.crt").write_bytes(pem(-3))
    (root / "etc/kubernetes/scheduler.conf").write_text("users: [}")
    (root / "etc/kubernetes/pki/sa.crt").write_text("")
    faults = [state.fault for state in find_certificates(Paths(root), now=NOW.timestamp())]
    assert "certificate /etc/kubernetes/pki/ca.crt ended on 2029-12-29" in faults
    assert "certificate /etc/kubernetes/pki/sa.crt cannot be read: it holds no certificate" in faults
    assert any(
        fault.startswith("certificate /etc/kubernetes/scheduler.conf cannot be read") for fault in faults
    )
