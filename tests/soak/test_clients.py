# SPDX-License-Identifier: Apache-2.0
"""Images as clients of the field push and pull them: each format, by tag and digest, a layer of a gigabyte, in parts.

buildah stands on a host of the control plane's network that is no node; podman pushes and pulls by the same code
(containers/image). skopeo and ctr: tests/node/test_registry.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import kept
from lab.neighbour import Neighbour
from lab.node import Lab, Node
from lab.places import CONTROL_PLANE
from tests.node.installing import lab_iso, shell
from tests.node.test_registry import PASSWORD_FILE, PUSH, READ
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab

TIMEOUT_S = 600.0
LARGE_BYTES = 1 << 30
#: The goal is 0.8, on a calm machine; other labs run beside this one.
ISO_RATE = 0.4
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY = b"{}"
KINDS = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)


class Client:
    """buildah beside the node, with a storage of its own, and curl."""

    def __init__(self, host: Neighbour, node: Node, directory: Path) -> None:
        self.host, self.directory = host, directory
        self.certs, self.auth = directory / "certs", directory / "auth.json"
        self.certs.mkdir()
        (self.certs / "ca.crt").write_text(node.read_file("/etc/caisson/ca.crt"))
        self.password = node.read_file(PASSWORD_FILE).strip()
        pair = base64.b64encode(f"caisson:{self.password}".encode()).decode()
        self.auth.write_text(json.dumps({"auths": {PUSH: {"auth": pair}}}))
        storage: list[str | Path] = [
            "--storage-driver",
            "vfs",
            "--root",
            directory / "root",
            "--runroot",
            directory / "run",
        ]
        self.buildah: list[str | Path] = ["buildah", *storage]

    def run(self, *words: str | Path) -> str:
        """Run buildah and return what it says."""
        return self.host.run([*self.buildah, *words], timeout_s=TIMEOUT_S).stdout.strip()

    def commit(self, name: str, content: bytes | Path, *options: str, arch: str = "amd64") -> None:
        """Make an image of one file; ``options`` are those of ``buildah commit``."""
        file = content if isinstance(content, Path) else self.directory / "content"
        if isinstance(content, bytes):
            file.write_bytes(content)
        container = self.run("from", "scratch")
        self.run("config", "--arch", arch, container)
        self.run("copy", container, file, "/content")
        self.run("commit", "--quiet", "--rm", *options, container, f"localhost/{name}")

    def push(self, name: str, *options: str, what: str = "push") -> str:
        """Push an image, return its digest."""
        said = self.directory / "digest"
        login: list[str | Path] = ["--authfile", self.auth, "--cert-dir", self.certs, "--digestfile", said]
        self.run(*what.split(), *login, *options, f"localhost/{name}", f"docker://{PUSH}/quay.io/{name}")
        return said.read_text().strip()

    def pull(self, reference: str) -> str:
        """Pull an image as anybody does, return the digest of its configuration."""
        return self.run("pull", "--quiet", "--cert-dir", self.certs, f"docker://{READ}/quay.io/{reference}")

    def ask(
        self, where: str, path: str, *options: str, data: bytes | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Ask with curl; return the body and the headers, in small letters; ``status`` is one of them."""
        head, body, sent = (self.directory / name for name in ("head", "body", "sent"))
        words: list[str | Path] = ["curl", "--silent", "--show-error", "--cacert", self.certs / "ca.crt"]
        words += ["--user", f"caisson:{self.password}", "--dump-header", head, "--output", body, *options]
        if data is not None:
            sent.write_bytes(data)
            words += ["--data-binary", f"@{sent}"]
        body.write_bytes(b"")
        self.host.run([*words, f"https://{where}{path}"], timeout_s=TIMEOUT_S)
        first, *lines = head.read_text().replace("\r", "").strip().rpartition("\n\n")[2].splitlines()
        found = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        return body.read_bytes(), {**found, "status": first.split()[1]}

    def upload(self, repository: str, content: bytes) -> dict[str, Any]:
        """Push one blob, in one piece; return its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        _, begun = self.ask(PUSH, f"/v2/{repository}/blobs/uploads/", "--request", "POST")
        assert begun["status"] == "202", begun
        place = begun["location"].partition(f"//{PUSH}")[2] or begun["location"]
        joined = f"{place}{'&' if '?' in place else '?'}digest={digest}"
        kind = ("--request", "PUT", "--header", "Content-Type: application/octet-stream")
        _, done = self.ask(PUSH, joined, *kind, data=content)
        assert done["status"] == "201", done
        return {"digest": digest, "size": len(content)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def node(lab: Lab) -> Node:
    """Return a node that was bootstrapped some time ago."""
    return kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())


@pytest.fixture(scope="module")
def client(lab: Lab, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield buildah on a host beside the node."""
    host = Neighbour(lab=lab.name, name="inside", plane=CONTROL_PLANE, address="10.77.1.150/24")
    host.connect()
    yield Client(host, node, tmp_path_factory.mktemp("buildah"))
    host.remove()


def accepting(*kinds: str) -> tuple[str, str]:
    """Return the options of curl for manifests of these kinds."""
    return "--header", f"Accept: {', '.join(kinds)}"


def kind_of(client: Client, path: str) -> str:
    """Return the media type that a manifest is served with."""
    _, head = client.ask(READ, f"/v2/quay.io/{path}", *accepting(*KINDS))
    return head["content-type"]


@pytest.mark.parametrize(("form", "kind"), [("oci", OCI_MANIFEST), ("v2s2", DOCKER_MANIFEST)])
def test_a_single_manifest(client: Client, node: Node, form: str, kind: str) -> None:
    name = f"vendor/single-{form}:1"
    client.commit(name, form.encode())
    digest = client.push(name, "--format", form)
    repository = name.partition(":")[0]
    assert kind_of(client, f"{repository}/manifests/1") == kind
    assert kind_of(client, f"{repository}/manifests/{digest}") == kind
    assert client.pull(name) == client.pull(f"{repository}@{digest}")
    shell(node, f"crictl pull quay.io/{name}; crictl pull quay.io/{repository}@{digest}", timeout_s=120)


@pytest.mark.parametrize(("form", "kind"), [("oci", OCI_INDEX), ("v2s2", DOCKER_LIST)])
def test_an_index(client: Client, node: Node, form: str, kind: str) -> None:
    repository = f"vendor/index-{form}"
    client.commit(f"{repository}-one:1", f"one {form}".encode())
    client.commit(f"{repository}-two:1", f"two {form}".encode(), arch="arm64")
    client.run("manifest", "create", f"localhost/{repository}:1")
    for part in ("one", "two"):
        client.run("manifest", "add", f"localhost/{repository}:1", f"localhost/{repository}-{part}:1")
    digest = client.push(f"{repository}:1", "--all", "--format", form, what="manifest push")
    assert kind_of(client, f"{repository}/manifests/1") == kind
    shell(
        node, f"crictl pull quay.io/{repository}:1; crictl pull quay.io/{repository}@{digest}", timeout_s=120
    )
    assert client.pull(f"{repository}:1") == client.pull(f"{repository}@{digest}")


def test_a_layer_of_a_gigabyte_and_parts_of_it(client: Client, node: Node, record: Record) -> None:
    large = client.directory / "large"
    with Path("/dev/urandom").open("rb") as source, large.open("wb") as file:
        for _ in range(LARGE_BYTES >> 20):
            file.write(source.read(1 << 20))
    name = "vendor/large:1"
    client.commit(name, large)
    digest = client.push(name, "--disable-compression")
    manifest, _ = client.ask(READ, f"/v2/quay.io/vendor/large/manifests/{digest}", *accepting(OCI_MANIFEST))
    (layer,) = json.loads(manifest)["layers"]
    assert layer["size"] > LARGE_BYTES
    path = f"/v2/quay.io/vendor/large/blobs/{layer['digest']}"
    whole, head = client.ask(READ, path)
    assert (head["status"], f"sha256:{hashlib.sha256(whole).hexdigest()}") == ("200", layer["digest"])
    for first, last in ((0, 99), (LARGE_BYTES - 50, LARGE_BYTES + 49)):
        part, head = client.ask(READ, path, "--range", f"{first}-{last}")
        assert (head["status"], part) == ("206", whole[first : last + 1])
        assert head["content-range"] == f"bytes {first}-{last}/{layer['size']}"
    _, head = client.ask(READ, path, "--range", f"{layer['size'] + 1}-")
    assert head["status"] == "416"
    rate = rate_beside_dd(node, f"https://{READ}{path}", registry_file(layer["digest"]))
    pulled = shell(
        node, f"crictl pull quay.io/{name} >/dev/null; crictl inspecti quay.io/{name}", timeout_s=TIMEOUT_S
    )
    assert any(entry.endswith(digest) for entry in json.loads(pulled)["status"]["repoDigests"])
    shell(node, f"crictl rmi quay.io/{name}; caisson images remove quay.io/{name}", timeout_s=TIMEOUT_S)
    assert client.ask(READ, path)[1]["status"] == "404"
    record("an image with a layer of 1 GiB", "pushed by buildah, pulled whole and in parts, removed")
    record("its layer through nginx, beside dd of its file", f"{rate:.2f} of that rate")


def test_an_artifact_that_is_about_an_image(client: Client, node: Node) -> None:
    """A signature, say: its manifest names the image as its subject; a tag of that digest leads clients to it."""
    client.commit("vendor/subject:1", b"subject")
    digest = client.push("vendor/subject:1")
    body, head = client.ask(READ, f"/v2/quay.io/vendor/subject/manifests/{digest}", *accepting(OCI_MANIFEST))
    subject = {"mediaType": head["content-type"], "digest": digest, "size": len(body)}
    repository = "quay.io/vendor/subject"
    layer = {"mediaType": "text/plain", **client.upload(repository, b"signed by the vendor")}
    config = {"mediaType": "application/vnd.oci.empty.v1+json", **client.upload(repository, EMPTY)}
    kind = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature",
    }
    text = json.dumps({**kind, "config": config, "layers": [layer], "subject": subject}).encode()
    own = f"sha256:{hashlib.sha256(text).hexdigest()}"
    tag = digest.replace(":", "-")
    for reference in (own, tag):
        sent = ("--request", "PUT", "--header", f"Content-Type: {OCI_MANIFEST}")
        _, head = client.ask(PUSH, f"/v2/{repository}/manifests/{reference}", *sent, data=text)
        assert (head["status"], head["docker-content-digest"]) == ("201", own)
    for reference in (own, tag):
        found, _ = client.ask(READ, f"/v2/{repository}/manifests/{reference}", *accepting(OCI_MANIFEST))
        assert found == text
    shell(node, "caisson images verify", timeout_s=TIMEOUT_S)
    shell(node, f"caisson images remove {repository}:1", timeout_s=TIMEOUT_S)
    found, _ = client.ask(READ, f"/v2/{repository}/manifests/{tag}", *accepting(OCI_MANIFEST))
    assert found == text, "who removes an image removes that image"


def test_the_largest_blob_of_the_iso_comes_as_fast_as_its_file_is_read(node: Node, record: Record) -> None:
    listed = shell(node, "ls -S /srv/caisson/*/oci/blobs/sha256/* | head -1").strip()
    rate = rate_beside_dd(node, f"https://{READ}/v2/a/b/blobs/sha256:{Path(listed).name}", listed)
    size = int(shell(node, f"stat --format=%s {listed}"))
    record(
        f"the ISO's largest blob ({size >> 20} MiB) through nginx, beside dd of its file",
        f"{rate:.2f} of that rate",
    )
    assert rate > ISO_RATE


def registry_file(digest: str) -> str:
    """Return where the registry keeps a blob."""
    hexadecimal = digest.partition(":")[2]
    return f"/var/lib/caisson/registry/docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"


def rate_beside_dd(node: Node, url: str, file: str) -> float:
    """Return how fast a blob comes through nginx and TLS, as a part of what dd reads of its file.

    In turns, on the node, the best of five each; the file is not in the page cache of the node when it is begun.
    """
    ways = {
        "dd": f"dd if={file} of=/dev/null bs=1M status=none",
        "nginx": f"curl --silent --fail --cacert /etc/caisson/ca.crt --output /dev/null {url}",
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, words in ways.items():
            begin = f"dd if={file} iflag=nocache count=0 status=none; began=$(date +%s%N)"
            script = f"{begin}; {words}; echo $(($(date +%s%N) - began))"
            took[name].append(float(shell(node, script, timeout_s=TIMEOUT_S)) / 1e9)
    print({name: [round(value, 2) for value in values] for name, values in took.items()})
    return min(took["dd"]) / min(took["nginx"])
