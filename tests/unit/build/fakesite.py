# SPDX-License-Identifier: Apache-2.0
"""A whole upstream in small: a signed repository, a registry, a manifest, and the sources that want them."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from build.inventory.model import Digest
from build.inventory.sources import Sources
from tests.unit.build.factory import tiny_rpm
from tests.unit.build.fakerepo import Rpm, comps_xml, repository_files
from tests.unit.build.fakeupstream import FakeUpstream, serve
from tests.unit.build.signers import Signer

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST_TEXT = b"apiVersion: v1\nkind: Namespace\n"

VERSIONS = "format: 1\nversions: {tool: '1.0'}\n"
IMAGES = """format: 1
images:
  - {id: pause, reference: "registry.k8s.io/pause:3.10", purpose: the sandbox}
  - {id: old, reference: "registry.k8s.io/old:1", purpose: a Docker manifest}
composed:
  - {id: made, reference: "caisson.internal/made:1", base: pause, packages: [tool], purpose: is composed}
manifests:
  - {id: net, url: "https://raw.example.com/net.yaml", path: net.yaml, purpose: the network}
"""
PACKAGES = """format: 1
baselines: [{id: el9, release: "9.8", repository: baseos, group: core}]
packages: [{name: tool, version: "{tool}", repository: tools, purpose: the tool}]
"""
POLICY = "format: 1\nregistries: [registry.k8s.io]\nlicences: [MIT]\n"
PROFILE = """name: site
lab: true
lock_file: site.lock
repositories:
  baseos: {{base_url: "{url}/baseos/", metadata: signed, keys: [{{file: main.asc, fingerprint: {key}}}]}}
  tools: {{base_url: "{url}/tools/", metadata: signed, keys: [{{file: main.asc, fingerprint: {key}}}]}}
registries: {{registry.k8s.io: "{url}/k8s"}}
manifests: {{"https://raw.example.com/": "{url}/raw/"}}
"""


@dataclasses.dataclass(frozen=True)
class Site:
    """The upstream, its key, and the directory with sources and profile."""

    root_dir: Path
    upstream: FakeUpstream
    key: Signer

    @property
    def profile_file(self) -> Path:
        return self.root_dir / "profile.yaml"

    @property
    def lock_file(self) -> Path:
        return self.root_dir / "site.lock"

    @property
    def sources(self) -> Sources:
        return Sources(self.root_dir)

    def put_repository(
        self,
        name: str,
        rpms: Sequence[Rpm],
        *,
        comps: bytes | None = None,
        by: Signer | None = None,
        has_filelists: bool = True,
    ) -> None:
        """Serve a repository with a signed repomd.xml."""
        for path, data in repository_files(rpms, comps=comps, has_filelists=has_filelists).items():
            self.upstream.put(f"/{name}/{path}", data)
        repomd_file = self.root_dir / "repomd.xml"
        repomd_file.write_bytes(self.upstream.content[f"/{name}/repodata/repomd.xml"])
        signature_file = (by or self.key).sign_detached(repomd_file)
        self.upstream.put(f"/{name}/repodata/repomd.xml.asc", signature_file.read_bytes())

    def rpm(
        self,
        name: str,
        *,
        evr: str = "1.0-1.el9",
        requires: tuple[str, ...] = (),
        by: Signer | None = None,
    ) -> Rpm:
        """Make a real RPM, signed by the site's key or another; it requires what only metadata says."""
        key = by or self.key
        file = key.home_dir / f"{name}-{evr}.rpm"
        if not file.exists():
            version, _, release = evr.partition("-")
            file.write_bytes(tiny_rpm(name, version, release))
            key.sign_rpm(file)
        return Rpm(name=name, evr=evr, data=file.read_bytes(), requires=requires)

    def put_image(self, name: str, *, is_docker: bool = False, is_indexed: bool = True) -> list[str]:
        """Serve an image of two layers and return the digests of its blobs, configuration first."""
        repository = f"k8s/{name}"
        config = {
            "os": "linux",
            "architecture": "amd64",
            "created": "2026-01-02T03:04:05.678901Z",
            "name": name,
        }
        blobs = [
            json.dumps(config).encode(),
            *(gzip.compress(f"{name}{n}".encode() * 99, mtime=0) for n in (1, 2)),
        ]
        types = [DOCKER_CONFIG, DOCKER_LAYER] if is_docker else [OCI_CONFIG, OCI_LAYER]
        described = [
            {"mediaType": types[min(number, 1)], "digest": str(Digest.of_bytes(blob)), "size": len(blob)}
            for number, blob in enumerate(blobs)
        ]
        media_type = DOCKER_MANIFEST if is_docker else OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described[0],
            "layers": described[1:],
        }
        manifest = json.dumps(document).encode()
        manifests = {"top": (manifest, media_type)}
        if is_indexed:
            entries = [
                {
                    "mediaType": media_type,
                    "digest": str(Digest.of_bytes(data)),
                    "size": len(data),
                    "platform": {"os": "linux", "architecture": architecture},
                }
                for architecture, data in (("arm64", b"{}"), ("amd64", manifest))
            ]
            index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
            manifests = {"top": (index, OCI_INDEX), "child": (manifest, media_type)}
        tag = "1" if name == "old" else "3.10"
        self.upstream.put_image(repository, tag, manifests)
        return [self.upstream.put_blob(repository, blob) for blob in blobs]


@contextmanager
def fake_site(root_dir: Path, main_key: Signer) -> Iterator[Site]:
    """Set up a site that can be locked and fetched; ``main_key`` may serve many sites."""
    root_dir.mkdir(parents=True, exist_ok=True)
    key = dataclasses.replace(main_key, key_file=root_dir / "main.asc")
    key.key_file.write_bytes(main_key.key_file.read_bytes())
    with serve() as upstream:
        site = Site(root_dir, upstream, key)
        baseline = [Rpm(name="setup"), Rpm(name="bash", requires=("setup",))]
        site.put_repository("baseos", baseline, comps=comps_xml("core", ["bash"], ["nothing"]))
        library = site.rpm("library")
        tool = site.rpm("tool", requires=("library", "bash"))
        site.put_repository("tools", [tool, library, Rpm(name="unused")])
        site.put_image("pause")
        site.put_image("old", is_docker=True, is_indexed=False)
        upstream.put("/raw/net.yaml", MANIFEST_TEXT)
        texts = {"versions": VERSIONS, "images": IMAGES, "packages": PACKAGES, "policy": POLICY}
        texts["profile"] = PROFILE.format(url=upstream.url, key=key.fingerprint)
        for name, text in texts.items():
            (root_dir / f"{name}.yaml").write_text(text, encoding="utf-8")
        yield site
