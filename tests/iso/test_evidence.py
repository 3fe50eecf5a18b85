# SPDX-License-Identifier: Apache-2.0
"""What the lab's ISO says of itself: bill of materials, page for people."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import createrepo_c
import pytest

from tests.unit.build.sbomschemas import dangling, faults

TIMEOUT_S = 120
#: Counts what a browser makes of the page, and writes it where --dump-dom shows it.
PROBE = """
<script>
addEventListener("load", () => {
  const anchors = [...document.querySelectorAll('a[href^="#"]')];
  document.body.dataset.found = JSON.stringify({
    overflow: document.documentElement.scrollWidth - innerWidth,
    rows: document.querySelectorAll("tbody tr").length,
    broken: anchors.filter(a => !document.querySelector(a.getAttribute("href"))).length,
    headings: [...document.querySelectorAll("h2")].map(h => h.textContent),
    height: document.documentElement.scrollHeight,
  });
});
</script>
"""


@pytest.fixture(scope="module", params=["spdx", "cdx"])
def document(request: pytest.FixtureRequest, tree_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tree_dir / "sbom" / f"caisson.{request.param}.json").read_text())
    return content


def test_the_bill_of_materials_is_valid(document: dict[str, Any]) -> None:
    assert list(faults(document)) == []
    assert dangling(document) == set()


def test_every_file_from_upstream_is_in_it(document: dict[str, Any], tree_dir: Path) -> None:
    """By digest, as SHA256SUMS has it; configurations and manifests of images stand for their images."""
    text = json.dumps(document)
    for line in (tree_dir / "SHA256SUMS").read_text().splitlines():
        digest, _, path = line.partition("  ")
        size_bytes = (tree_dir / path).stat().st_size
        if (
            path.endswith(".rpm")
            or path.startswith("manifests/")
            or (path.startswith("oci/blobs/") and size_bytes > 100_000)
        ):
            assert digest in text, path


def test_it_names_the_modules_of_programs(document: dict[str, Any], tree_dir: Path) -> None:
    """Kubernetes, etcd, containerd, runc: each from the binary's own words."""
    text = json.dumps(document)
    kubernetes = json.loads((tree_dir / "product.json").read_text())["versions"]["kubernetes"]
    for purl in (
        f"pkg:golang/k8s.io/kubernetes@v{kubernetes}", "pkg:golang/go.etcd.io/etcd/server/v3@",
        "pkg:golang/github.com/containerd/containerd/v2@", "pkg:golang/github.com/opencontainers/runc@",
        "pkg:golang/stdlib@", "pkg:golang/github.com/projectcalico/calico@",
    ):  # fmt: skip
        assert purl in text, purl


def test_go_itself_says_the_same_of_a_program(tree_dir: Path, tmp_path: Path) -> None:
    """With the Go that the lab compiles with: the modules of the API server, line by line."""
    go = shutil.which("go", path="/usr/local/go/bin:/usr/bin:/usr/local/bin")
    if go is None:
        pytest.skip("no Go here")
    index = json.loads((tree_dir / "oci" / "index.json").read_text())
    bill = json.loads((tree_dir / "sbom" / "caisson.cdx.json").read_text())
    name = "registry.k8s.io/kube-apiserver"
    blobs = tree_dir / "oci" / "blobs" / "sha256"
    (entry,) = [
        entry for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"].startswith(f"{name}:")
    ]  # fmt: skip
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    while "layers" not in manifest:
        child = next(
            child for child in manifest["manifests"]
            if (blobs / child["digest"].removeprefix("sha256:")).exists()
        )  # fmt: skip
        manifest = json.loads((blobs / child["digest"].removeprefix("sha256:")).read_text())
    for layer in manifest["layers"]:
        subprocess.run(
            ["tar", "-xzf", blobs / layer["digest"].removeprefix("sha256:"), "-C", tmp_path],
            check=True,
            timeout=TIMEOUT_S,
        )
    (program,) = tmp_path.rglob("kube-apiserver")
    said = subprocess.run(
        [go, "version", "-m", program], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    ).stdout
    wanted: list[str] = []
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["=>"]:
            wanted.pop()
        if words[:1] in (["mod"], ["dep"], ["=>"]):
            wanted.append(f"go-{words[1]}@{words[2]}")
    (linked,) = [
        entry["dependsOn"] for entry in bill["dependencies"]
        if entry["ref"].startswith("program-image-") and entry["ref"].endswith("/kube-apiserver")
    ]  # fmt: skip
    assert {ref for ref in linked if not ref.startswith("go-stdlib@")} == set(wanted)


# ---------------------------------------------------------------- the page


def chromium(*args: str, profile_dir: Path) -> str:
    """Run Debian's Chromium without a screen or a network; return what it prints."""
    program = shutil.which("chromium")
    assert program, "./doit.sh test installs chromium"
    done = subprocess.run(
        [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--virtual-time-budget=5000", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile_dir}", *args,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("width", [1280, 600])
def test_the_page_in_a_browser(tree_dir: Path, tmp_path: Path, width: int) -> None:
    """It fits screens of both widths, every link inside leads somewhere, every table is there."""
    product = json.loads((tree_dir / "product.json").read_text())
    page = tmp_path / "index.html"
    page.write_text((tree_dir / "index.html").read_text().replace("</body>", f"{PROBE}</body>"))
    dom = chromium(
        f"--window-size={width},900", "--dump-dom", page.as_uri(), profile_dir=tmp_path / "profile"
    )
    match = re.search(r'data-found="([^"]*)"', dom)
    assert match, dom[-500:]
    found = json.loads(html.unescape(match.group(1)))
    assert found["overflow"] <= 0
    assert found["broken"] == 0
    assert found["rows"] > len(product["images"]) + len(product["packages"]) + len(product["versions"])
    assert found["headings"][:4] == ["Verify", "Install", "Contents", "Versions"]
    picture = tmp_path / "page.png"
    chromium(
        f"--window-size={width},{found['height']}", f"--screenshot={picture}", (tree_dir / "index.html").as_uri(),
        profile_dir=tmp_path / "profile",
    )  # fmt: skip
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (width, found["height"])
    assert len(data) > 100_000, "a page full of text is no small picture"


def test_every_relative_link_of_the_page_leads_to_a_file(tree_dir: Path) -> None:
    text = (tree_dir / "index.html").read_text()
    links = [link for link in re.findall(r'href="([^"]*)"', text) if not link.startswith("#")]
    assert links
    assert [link for link in links if not (tree_dir / link).exists()] == []


def test_the_page_has_the_licence_of_each_package(tree_dir: Path) -> None:
    text = html.unescape((tree_dir / "index.html").read_text())
    rows = re.findall(r"<tr><td><code>([^<]*)</code></td><td>[^<]*</td><td>([^<]*)</td><td>[^<]*</td>", text)
    said = dict(rows)
    files = sorted((tree_dir / "repo" / "el9" / "Packages").glob("*.rpm"))
    assert files
    for file in files:
        header = createrepo_c.package_from_rpm(str(file))
        assert said[header.nevra().replace("-0:", "-")] == header.rpm_license
