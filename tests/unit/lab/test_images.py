# SPDX-License-Identifier: Apache-2.0
"""Layers are the same bytes of the same entries; manifests vary as upstream's do."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab import images
from lab.errors import LabError
from lab.images import Entry, Flavour, Image, Index, Kind, Layer, MadeLayer

ENTRIES = (
    images.text_file("usr/bin/tool", "#!/bin/sh\n", 0o755),
    images.symlink("usr/bin/alias", "tool"),
    images.hard_link("a-second-name", "usr/bin/tool", 0o755),
    images.directory("tmp", 0o1777),
)


def tar_of(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    images.write_tar(images.with_parents(entries), buffer)
    return buffer.getvalue()


def root_tar(*members: tuple[str, bytes | str]) -> io.BytesIO:
    """Return a tar as mmdebstrap makes it: names begin with ``./``; text is a link's target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(f"./{name}")
            member.mtime = images.CREATED_EPOCH + 1000
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def test_a_tar_depends_on_nothing_but_its_entries() -> None:
    assert tar_of(ENTRIES) == tar_of(reversed(ENTRIES))


def test_a_tar_has_parents_first_hard_links_last_and_one_time() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of(ENTRIES))) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        "tmp", "usr", "usr/bin", "usr/bin/alias", "usr/bin/tool", "a-second-name",
    ]  # fmt: skip
    assert {member.mtime for member in members} == {images.CREATED_EPOCH}
    assert [oct(member.mode) for member in members[:2]] == ["0o1777", "0o755"]


def test_a_file_capability_is_carried_as_container_runtimes_read_it() -> None:
    entry = Entry(path="coredns", mode=0o755, data=b"x", capability=images.BIND_SERVICE_CAPABILITY)
    with tarfile.open(fileobj=io.BytesIO(tar_of([entry]))) as archive:
        headers = archive.getmembers()[0].pax_headers
    # VFS_CAP_REVISION_2 with the effective bit, permitted: bit 10 (CAP_NET_BIND_SERVICE).
    assert headers["SCHILY.xattr.security.capability"].encode() == b"\1\0\0\2\0\4" + bytes(14)


def test_a_root_is_stripped_and_completed() -> None:
    tar = root_tar(
        ("etc/apt/sources.list", b"where it came from"),
        ("usr/share/doc/tool/copyright", b"text"),
        ("usr/share/base-passwd/passwd.master", b"root:*:0:0:root:/root:/bin/bash\n"),
        ("usr/share/base-passwd/group.master", b"root:*:0:\n"),
        ("usr/share/ca-certificates/mozilla/B.crt", b"B\n"),
        ("usr/share/ca-certificates/mozilla/A.crt", b"A\n"),
        ("usr/sbin/iptables-nft", "xtables-nft-multi"),
        ("bin", "usr/bin"),
    )
    entries = images.root_entries(tar, [images.Account(name="nginx", uid=101)])
    assert "etc/apt/sources.list" not in entries
    assert "usr/share/doc/tool/copyright" not in entries
    assert entries["etc/passwd"].data.decode().splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "nginx:x:101:101::/nonexistent:/usr/sbin/nologin",
    ]
    assert entries["etc/group"].data == b"root:x:0:\nnginx:x:101:\n"
    assert entries["etc/ssl/certs/ca-certificates.crt"].data == b"A\nB\n"
    assert entries["usr/sbin/iptables"].target == "iptables-nft"
    assert "usr/sbin/ip6tables" not in entries  # there is nothing for it to point to
    assert (entries["bin"].kind, entries["bin"].target) == (Kind.SYMLINK, "usr/bin")
    assert entries["var/run"].target == "/run"
    assert max(entry.mtime for entry in entries.values()) == images.CREATED_EPOCH


def test_a_device_in_a_root_is_an_error() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("./srv/null")
        member.type = tarfile.CHRTYPE
        archive.addfile(member)
    buffer.seek(0)
    with pytest.raises(LabError, match="srv/null"):
        images.root_entries(buffer)


def test_a_layer_is_made_once_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "program"
    source.write_bytes(b"first" * 1000)
    layer = Layer(comment="a program", added=(images.program("usr/bin/program", source),))

    first = images.make_layer(layer)
    assert images.make_layer(layer) == first
    assert first.blob.file is not None
    packed = first.blob.file.read_bytes()
    assert first.blob.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert first.blob.size_bytes == len(packed)
    assert first.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert packed[4:8] == bytes(4), "the gzip header has a time"

    source.write_bytes(b"second" * 1000)
    assert images.make_layer(layer).blob.digest != first.blob.digest


def made_layer(text: str) -> MadeLayer:
    """Return a layer that says it is ``text``."""
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    blob = images.Blob(digest=digest, size_bytes=len(text), data=text.encode())
    return MadeLayer(blob=blob, diff_id=digest, comment=text)


def image(flavour: Flavour, index: Index) -> Image:
    """Return a small image of one flavour."""
    return Image(
        id="tool",
        reference="docker.io/library/tool:1.0",
        layers=(),
        entrypoint=("/tool",),
        command=("serve",),
        user="65532:65532",
        ports=("53/udp",),
        flavour=flavour,
        index=index,
    )


@pytest.mark.parametrize("flavour", list(Flavour))
def test_manifest_and_configuration(flavour: Flavour, golden: Callable[[str, str], None]) -> None:
    made = images.compose(image(flavour, Index.NONE), [made_layer("one"), made_layer("two")])
    assert len(made.manifests) == 1
    golden(f"manifest-{flavour}.json", made.manifests[0].text + "\n")
    golden("image-configuration.json", json.dumps(json.loads(made.blobs[0].data), indent=1) + "\n")


@pytest.mark.parametrize(
    ("index", "platforms", "absent"),
    [
        (Index.FOREIGN, ["amd64", "arm64"], 0),
        (Index.SPARSE, ["amd64", "arm64"], 1),
        (Index.ATTESTED, ["amd64", "arm64", "unknown"], 0),
    ],
)
@pytest.mark.parametrize("flavour", list(Flavour))
def test_index(flavour: Flavour, index: Index, platforms: list[str], absent: int) -> None:
    made = images.compose(image(flavour, index), [made_layer("one")])
    top = json.loads(made.manifests[-1].text)
    assert made.manifests[-1].media_type == top["mediaType"]
    assert [child["platform"]["architecture"] for child in top["manifests"]] == platforms
    present = {manifest.digest: manifest for manifest in made.manifests}
    children = [child for child in top["manifests"] if child["digest"] in present]
    assert len(top["manifests"]) - len(children) == absent
    assert top["manifests"][0] in children, "linux/amd64 is always there"
    blobs = {blob.digest: blob for blob in made.blobs}
    for child in children:
        manifest = present[child["digest"]]
        assert child["size"] == len(manifest.text.encode())
        assert child["digest"] == f"sha256:{hashlib.sha256(manifest.text.encode()).hexdigest()}"
        document = json.loads(manifest.text)
        for descriptor in (document["config"], *document["layers"]):
            assert blobs[descriptor["digest"]].size_bytes == descriptor["size"]


def test_a_reference_is_a_repository_and_a_tag() -> None:
    made = images.compose(image(Flavour.OCI, Index.NONE), [made_layer("one")])
    assert (made.repository, made.tag) == ("docker.io/library/tool", "1.0")
    assert made.size_bytes == made.blobs[0].size_bytes + 3


@pytest.fixture
def described(tmp_path: Path) -> tuple[Image, ...]:
    """Return the lab's own images, with a Calico that has three files."""
    for name, text in (
        ("sbin/start_runit", "#!/bin/sh\n"),
        ("etc/rc.local", "x\n"),
        ("etc/felix.cfg", "y\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return images.describe_images(lambda component, name: Path("/programs", component, name), tmp_path, b"")


def test_the_images_are_these(described: tuple[Image, ...], golden: Callable[[str, str], None]) -> None:
    lines = (
        f"{image.reference} {image.flavour} {image.index} {len(image.layers)} layers" for image in described
    )
    golden("images.txt", "\n".join(lines) + "\n")


def test_the_images_vary_as_the_real_ones_do(described: tuple[Image, ...]) -> None:
    assert {image.flavour for image in described} == set(Flavour)
    assert {image.index for image in described} == set(Index)
    assert [image.id for image in described] == sorted(image.id for image in described)
    assert sum(len(image.layers) > 1 for image in described) > len(described) / 2


def test_nothing_is_added_through_a_link_of_the_root_below(described: tuple[Image, ...]) -> None:
    for image in described:
        if any(layer.root for layer in image.layers):
            for entry in (entry for layer in image.layers for entry in layer.added):
                assert not entry.path.startswith(("bin/", "sbin/", "lib/", "lib64/", "var/run/")), image.id


def test_calicos_scripts_can_be_run_and_its_configuration_cannot(described: tuple[Image, ...]) -> None:
    node = next(image for image in described if image.id == "calico-node")
    modes = {entry.path: entry.mode for layer in node.layers for entry in layer.added}
    assert modes["usr/sbin/start_runit"] == 0o755
    assert modes["etc/rc.local"] == 0o755
    assert modes["etc/felix.cfg"] == 0o644


def test_a_second_name_has_the_mode_of_the_first(described: tuple[Image, ...]) -> None:
    for image in described:
        entries = {entry.path: entry for layer in image.layers for entry in layer.added}
        for entry in entries.values():
            if entry.kind is Kind.HARDLINK:
                assert entry.mode == entries[entry.target].mode, entry.path
