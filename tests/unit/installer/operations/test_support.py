# SPDX-License-Identifier: Apache-2.0
"""The archive for support holds what helps, and no private key, token or password."""

from __future__ import annotations

import base64
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from installer.base.paths import Paths
from installer.base.run import Completed
from installer.operations import support
from installer.operations.redaction import without_secrets
from tests.unit.installer.helpers import make_product

PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    .decode()
)
BODY = PEM.splitlines()[1]
TOKEN = "abcdef.0123456789abcdef"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl"
WORD = "hunter2-Kaesekuchen"
LINE = base64.b64encode(PEM.encode()).decode()
#: Where secrets were seen in such files, each with what must not get out of it.
LEAKS = {
    f"key:\n{PEM}": BODY,
    f"  out| {PEM[:-20]}": BODY,
    f"{PEM[40:]}": BODY,
    f"users: [{{user: {{client-key-data: {LINE}}}}}]": LINE,
    f"data: {{tls.key: {LINE}}}": LINE,
    f"kubeadm join 10.0.0.1:6443 --token {TOKEN}": TOKEN,
    f"token-id: abcdef, joined by {TOKEN}.": TOKEN,
    f"Authorization: Bearer {JWT}": JWT,
    f"the token {JWT} is not valid": JWT,
    f"password: {WORD}": WORD,
    f'"registryPassword": "{WORD} with words"': WORD,
    f"db_password={WORD}": WORD,
    f"  password: |\n    {WORD}\n    {WORD}\n": WORD,
    f"proxy=http://jo:{WORD}@10.0.0.1:3128": WORD,
    f"aescbc: {{keys: [{{name: key1, secret: {WORD}}}]}}": WORD,
    f"--basic-auth-password {WORD}": WORD,
    "root:$6$salt$0123456789abcdefghijk:19000": "0123456789abcdefghijk",
}
KEPT = (
    "clusterName: lab",
    "keyFile: /root/ca.key",
    "automountServiceAccountToken: false",
    "--service-account-key-file=/etc/kubernetes/pki/sa.pub",
    "the phase bootstrap-token is done",
    "2026-11-27T07:00:00Z exit code 0 0.02 s: systemctl is-active kubelet",
    "registry.k8s.io/pause@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
)
FORBIDDEN = re.compile(r"PRIVATE KEY|LS0tLS1CRUdJTiB[^D]|\beyJ\w{8,}\.|\b[a-z0-9]{6}\.[a-z0-9]{16}\b")


@pytest.mark.parametrize(("text", "secret"), LEAKS.items(), ids=range(len(LEAKS)))
def test_a_secret_is_taken_out(text: str, secret: str) -> None:
    shown = without_secrets(text)
    assert secret not in shown
    assert not FORBIDDEN.search(shown)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def make_host(root: Path) -> str:
    """Write files with secrets where the archive looks, and keys where it must not; return all secrets."""
    leaks = "\n".join(LEAKS)
    for name in (
        "etc/caisson/bootstrap.yaml",
        "etc/kubernetes/manifests/etcd.yaml",
        "etc/kubernetes/manifests/site.yaml",
        "var/log/caisson/bootstrap.log",
        "var/log/caisson/commands.log",
        "var/log/caisson/dnf/dnf.log",
        "var/lib/caisson/journal.jsonl",
        "var/lib/caisson/jobs/20261127-115003-node-add-3fa9c1/output.log",
        "var/lib/caisson/jobs/20261127-115003-node-add-3fa9c1/job.json",
        "etc/caisson/pki/ca.key",
        "etc/kubernetes/pki/sa.key",
        "etc/kubernetes/admin.conf",
    ):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"clusterName: lab\n{leaks}\n", encoding="utf-8")
    (root / "var/log/caisson/salt.log").write_bytes(b"x" * 50 + b"\n" + b"old\n" * support.FILE_LIMIT_BYTES)
    (root / "etc/kubernetes/manifests/link.yaml").symlink_to(root / "etc/kubernetes/pki/sa.key")
    return leaks


def test_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = make_host(tmp_path)

    def say(words: Sequence[str], **_: Any) -> Completed:
        return Completed(0, f"{words[0]} says\n{leaks}\n", "")

    monkeypatch.setattr(support, "run", say)
    for name in ("_status", "_check"):
        monkeypatch.setattr(support, name, lambda *_: f'{{"password": "{WORD}"}}\n')
    archive = tmp_path / "report.tar.gz"
    said: list[str] = []
    names = support.make_archive(make_product(), Paths(tmp_path), tmp_path, archive, progress=said.append)
    assert said == ["asking the host, its services and the cluster; each at most 60 s"]
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as reader:
        members = {member.name: reader.extractfile(member) for member in reader.getmembers()}
        texts = {name: file.read().decode() for name, file in members.items() if file is not None}
    assert set(texts) == {f"report/{name}" for name in names}
    everything = "\n".join(texts.values())
    assert [secret for secret in LEAKS.values() if secret in everything] == []
    assert not FORBIDDEN.search(everything)
    assert "clusterName: lab" in texts["report/files/etc/caisson/bootstrap.yaml"]
    assert texts["report/commands/pods.txt"].startswith("kubectl says")
    assert {"report/status.json", "report/check.json", "report/commands/journal-kubelet.txt"} <= set(texts)
    assert not [name for name in texts if "pki" in name or "admin.conf" in name or "link.yaml" in name]
    assert "report/files/etc/kubernetes/manifests/etcd.yaml" in texts
    job = "report/files/var/lib/caisson/jobs/20261127-115003-node-add-3fa9c1"
    assert {f"{job}/output.log", f"{job}/job.json"} <= set(texts)
    assert not [name for name in texts if "site.yaml" in name], "manifests of the site are its own"
    assert len(texts["report/files/var/log/caisson/salt.log"]) <= support.FILE_LIMIT_BYTES
