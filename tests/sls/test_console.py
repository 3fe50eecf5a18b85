# SPDX-License-Identifier: Apache-2.0
"""The console's certificate, made by the real Salt below a directory; its units, weighed by systemd itself."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.authorities import make_authority
from tests.sls.compiler import GRAINS, Compiler
from tests.sls.test_pki import TREE_DIR, handshake

USER = re.compile(r"^Create the user of the console:\n(?:  .*\n)+", re.MULTILINE)
EXPOSURE = 2.0


def tree_below(tmp_path: Path) -> Path:
    """Return a copy of the tree whose paths lie below a directory, and which makes no user."""
    tree_dir = tmp_path / "tree"
    shutil.copytree(TREE_DIR, tree_dir)
    for file in [*(tree_dir / "pki").glob("*.sls"), *(tree_dir / "console").glob("*.sls")]:
        text = USER.sub("", file.read_text()).replace("/etc/caisson", f"{tmp_path}/etc")
        file.write_text(text)
    module = tree_dir / "_modules/caisson_console.py"
    module.write_text(module.read_text().replace("/etc/caisson", f"{tmp_path}/etc"))
    return tree_dir


@pytest.fixture
def caisson(pillar: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    data: dict[str, Any] = copy.deepcopy(pillar["caisson"])
    if data["authorities"]["services"]:
        certificate, key = make_authority(tmp_path / "site")
        data["authorities"]["services"] = {"certificate_file": str(certificate), "key_file": str(key)}
    return data


def names_of(certificate: bytes) -> list[str]:
    found = x509.load_pem_x509_certificate(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(entry.value) for entry in names]


def test_the_certificate_is_for_every_address_and_name_and_made_once(
    tmp_path: Path, caisson: dict[str, Any]
) -> None:
    compiler = Compiler(tree_below(tmp_path), tmp_path / "minion", GRAINS)
    compiler.apply("pki.authority", {"caisson": caisson})
    said = compiler.apply("console.certified", {"caisson": caisson})
    assert all(state["result"] for state in said), said
    leaf = tmp_path / "etc/console/tls.crt"
    names = names_of(leaf.read_bytes())
    address = caisson["node"]["control_plane_address"]
    assert {address, caisson["node"]["name"], f"console.{caisson['cluster']['name']}.internal"} < set(names)
    assert (caisson["networks"]["vip"] or address) in names
    handshake(tmp_path / "etc/ca.crt", (leaf, tmp_path / "etc/console/tls.key"), caisson["node"]["name"])
    assert (tmp_path / "etc/console/tls.key").stat().st_mode & 0o777 == 0o600
    again = compiler.apply("console.certified", {"caisson": caisson})
    assert [state["__id__"] for state in again if state["changes"]] == []


def test_another_control_plane_shows_a_key_and_gets_a_certificate_for_it(
    tmp_path: Path, caisson: dict[str, Any]
) -> None:
    """Its key never leaves it: what goes over is the public half, and back comes what is signed here."""
    compiler = Compiler(tree_below(tmp_path), tmp_path / "minion", GRAINS)
    compiler.apply("pki.authority", {"caisson": caisson})
    assert all(state["result"] for state in compiler.apply("console.certified", {"caisson": caisson}))
    shown = (tmp_path / "etc/console/tls.pub").read_text()
    from installer.operations import node_console  # noqa: PLC0415

    assert node_console.PUBLIC_KEY.fullmatch(shown)
    other = copy.deepcopy(caisson)
    other["node"].update(name="node7", control_plane_address="192.0.2.7")
    made = compiler.call("caisson_console.sign", shown, node_console.told(other))
    assert node_console.CERTIFICATE.fullmatch(made)
    assert {"node7", "192.0.2.7"} < set(names_of(made.encode()))
    leaf = tmp_path / "other.crt"
    leaf.write_text(made)
    handshake(tmp_path / "etc/ca.crt", (leaf, tmp_path / "etc/console/tls.key"), "node7")


def unit(compiler: Compiler, pillar: dict[str, Any], name: str) -> str:
    """Return the text of a unit as it is written."""
    chunks = compiler.compile("console", pillar).chunks
    chunk = next(one for one in chunks if one["name"] == f"/etc/systemd/system/{name}")
    text: str = compiler.render(chunk["source"], chunk["context"], pillar)
    return text


def test_systemd_finds_the_console_hardly_exposed(
    compiler: Compiler, pillar: dict[str, Any], tmp_path: Path
) -> None:
    """Weighed by systemd-analyze, which reads the file and starts nothing."""
    file = tmp_path / "caisson-console.service"
    file.write_text(unit(compiler, pillar, file.name))
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found is not None, said.stderr
    assert float(found[1]) <= EXPOSURE
    assert "Unknown" not in said.stderr


@pytest.mark.parametrize(
    "name",
    ["caisson-console.socket", "caisson-console.service", "caisson-door.socket", "caisson-door@.service"],
)
def test_every_line_of_a_unit_is_a_line(compiler: Compiler, pillar: dict[str, Any], name: str) -> None:
    lines = [line for line in unit(compiler, pillar, name).splitlines() if line]
    assert all(re.match(r"\[\w+\]\Z|[A-Z][A-Za-z]+=|#", line) for line in lines)
    if name == "caisson-console.socket":
        vip = pillar["caisson"]["networks"]["vip"]
        assert sum(line.startswith("ListenStream=") for line in lines) == (2 if vip else 1)
