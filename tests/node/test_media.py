# SPDX-License-Identifier: Apache-2.0
"""Two ISOs side by side: added, served, verified, damaged, deleted while mounted, removed; the one in use goes on.

On a copy of a kept disk, in the order written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.operations import schemas
from lab import kept
from lab.node import Lab, Node

from . import second_iso
from .installing import lab_iso, shell
from .second_iso import IMAGE, SecondIso

pytestmark = pytest.mark.lab

ADDRESS = "10.77.1.11:8443"
CURL = "curl --silent --show-error --cacert /etc/caisson/ca.crt"
FILE = "/var/lib/caisson-media/caisson-second.iso"
NGINX = "crictl ps --quiet --state Running --label io.kubernetes.pod.namespace=kube-system --name '^nginx$'"
PLACES = "/etc/systemd/system /var/lib/caisson/media /etc/caisson /srv/caisson"
OF_THE_NODE = f"find {PLACES} -xdev -type f -size +0 -print0 | sort -z | xargs -0 sha256sum; ls /srv/caisson"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondIso]:
    """Return an ISO of another build."""
    made = second_iso.make(lab_iso(), tmp_path_factory.mktemp("second"))
    yield made
    made.iso.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def node(second: SecondIso) -> Iterator[Node]:
    """Return a node that was bootstrapped some time ago, and that sees both ISOs."""
    with Lab() as lab:
        node = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        assert str(node.attach_iso(second.iso)) == FILE
        yield node


def caisson(node: Node, *words: str, code: int = 0) -> Any:
    """Run ``caisson media .. --json``; what it prints is as its schema says."""
    done = node.run(["caisson", "media", *words, "--json"], check=False, timeout_s=600)
    assert done.returncode == code, done.stdout + done.stderr
    data = json.loads(done.stdout)
    jsonschema.validate(data, schemas.load("media"))
    return data


def status(node: Node, code: int) -> Any:
    """Return what ``caisson status`` says."""
    done = node.run(["caisson", "status", "--json"], check=False, timeout_s=60)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def head(node: Node, path: str) -> tuple[int, str]:
    """Ask the media server; return status and digest."""
    said = shell(node, f"{CURL} --head 'https://{ADDRESS}{path}'")
    digests = [line for line in said.splitlines() if line.lower().startswith("docker-content-digest:")]
    return int(said.split()[1]), digests[0].split()[1] if digests else ""


def path_of(reference: str) -> str:
    """Return what is asked for the manifest of an image."""
    name, _, tag = reference.rpartition(":")
    return f"/v2/{name}/manifests/{tag}"


def blob(node: Node, digest: str) -> str:
    """Return the digest of the bytes that are served for a blob."""
    return "sha256:" + shell(node, f"{CURL} 'https://{ADDRESS}/v2/a/b/blobs/{digest}' | sha256sum")[:64]


def test_a_file_that_others_can_change_is_refused_and_nothing_stays(node: Node) -> None:
    before = shell(node, OF_THE_NODE)
    shell(node, f"install -D -m 0666 {FILE} /home/somebody/loose.iso", timeout_s=120)
    error = caisson(node, "add", "/home/somebody/loose.iso", code=6)["error"]
    assert "can be changed by another user than root" in error["message"]
    shell(node, "rm -r /home/somebody; head -c 100M /dev/zero > /root/none.iso")
    assert "is no ISO" in caisson(node, "add", "/root/none.iso", code=6)["error"]["message"]
    shell(node, f"head -c 300M {FILE} > /root/none.iso", timeout_s=120)
    caisson(node, "add", "/root/none.iso", code=6)
    shell(node, "rm /root/none.iso")
    assert shell(node, OF_THE_NODE) == before


def test_one_is_added_and_the_second_time_changes_nothing(node: Node, second: SecondIso) -> None:
    nginx, before = shell(node, NGINX), shell(node, OF_THE_NODE).splitlines()
    done = node.run(["caisson", "media", "add", FILE], timeout_s=600)
    assert f"{second.name}, from {FILE}: is mounted now and after each boot" in done.stdout
    assert f"{second.clash}: served from {second.own.full_version}, not from {second.name}" in done.stdout
    after = shell(node, OF_THE_NODE)
    assert set(before) <= set(after.splitlines()), "nothing of what is in use was changed"
    again = caisson(node, "add", FILE)
    assert (again["changed"], again["name"], again["made_from"]) == (False, second.name, FILE)
    assert shell(node, OF_THE_NODE) == after
    assert shell(node, NGINX) == nginx, "the pod was not started again"


def test_both_are_listed(node: Node, second: SecondIso) -> None:
    rows = caisson(node, "list")["media"]
    assert [(row["name"], row["in_use"], row["mounted"], row["problem"]) for row in rows] == [
        (second.own.full_version, True, True, ""),
        (second.name, False, True, ""),
    ]
    assert [row["hidden"] for row in rows] == [[], [second.clash]]
    assert status(node, 0)["other_media"][0]["name"] == second.name


def test_images_and_packages_of_both_are_had(node: Node, second: SecondIso) -> None:
    shell(node, f"crictl pull {IMAGE}", timeout_s=120)
    assert head(node, path_of(IMAGE)) == (200, second.image_digest)
    own = next(image for image in second.own.images.values() if image.reference == second.clash)
    assert head(node, path_of(second.clash)) == (200, own.digest), "of two, that of the ISO in use"
    name = second.clash.rpartition(":")[0]
    assert head(node, f"/v2/{name}/manifests/{second.image_digest}") == (200, second.image_digest)
    assert blob(node, second.layer_digest) == second.layer_digest
    repository = f"https://{ADDRESS}/media/{second.name}/repo/el9"
    shell(node, f"{CURL} --fail {repository}/repodata/repomd.xml --output /dev/null")
    assert head(node, "/repo/el9/repodata/repomd.xml")[0] == 200


def test_a_digest_that_both_have_is_served_from_either(node: Node, second: SecondIso) -> None:
    digest = "sha256:" + Path(second.shared_path).name
    for name in (second.name, second.own.full_version):
        place = f"/srv/caisson/{name}"
        loop = shell(node, f"findmnt --noheadings --output SOURCE {place}").strip()
        backing = shell(node, f"losetup --noheadings --output BACK-FILE {loop}").strip()
        shell(node, f"umount {place}")
        try:
            assert blob(node, digest) == digest
            state = status(node, 20)
            away = [state["media"], *state["other_media"]]
            assert [one["missing"] for one in away if one["missing"]] == [f"nothing is mounted at {place}"]
        finally:
            # By hand: a start of the unit would wait for udev's word of the loop device, which a node has not.
            shell(node, f"mount -t iso9660 -o loop,ro {backing} {place}")
    assert status(node, 0)["media"]["missing"] == ""


def test_a_flipped_byte_is_named(node: Node, second: SecondIso) -> None:
    assert caisson(node, "verify", second.name)["verified"][0]["faults"] == []
    name = f"oci/blobs/sha256/{second.layer_digest.partition(':')[2]}"
    flip(node, second)
    found = caisson(node, "verify", code=6)
    assert found["exit_code"] == 6
    assert [(one["name"], [fault["path"] for fault in one["faults"]]) for one in found["verified"]] == [
        (second.own.full_version, []),
        (second.name, [name]),
    ]
    done = node.run(["caisson", "media", "verify", second.name], check=False, timeout_s=300)
    assert f"differs: {name}" in done.stderr
    flip(node, second)
    caisson(node, "verify", second.name)


def flip(node: Node, second: SecondIso) -> None:
    """Change a byte of the added ISO's layer in the file, or change it back, and let no cache hide it."""
    layer = (second.iso.parent / "new/oci/blobs/sha256" / second.layer_digest.partition(":")[2]).read_bytes()
    assert hashlib.sha256(layer).hexdigest() == second.layer_digest.partition(":")[2]
    file = node.places.media_dir / second.iso.name
    data = second.iso.read_bytes()
    offset = data.index(layer) + len(layer) // 2
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))
    loop = shell(node, f"findmnt --noheadings --output SOURCE /srv/caisson/{second.name}").strip()
    shell(node, f"sync; blockdev --flushbufs {loop}")


def test_the_file_is_deleted_while_it_is_mounted(node: Node, second: SecondIso) -> None:
    file = node.places.media_dir / second.iso.name
    file.unlink()
    state = status(node, 20)
    (other,) = state["other_media"]
    assert other["missing"] == f"{FILE} is no longer there: the media is lost with the next reboot"
    assert other["resolution"].startswith("do not reboot; write it again from what is mounted: cp /dev/loop")
    assert blob(node, second.layer_digest) == second.layer_digest
    check = json.loads(node.run(["caisson", "check", "--json"], check=False, timeout_s=300).stdout)
    assert [one["status"] for one in check["checks"] if one["id"] == "CSN307"] == ["passed"], "the one in use"
    node.attach_iso(second.iso)
    assert status(node, 0)["other_media"][0]["missing"] == ""


def test_a_file_that_was_replaced_is_told(node: Node, second: SecondIso) -> None:
    file = node.places.media_dir / second.iso.name
    file.unlink()
    file.write_bytes(b"\0" * 1_000_000)
    (other,) = status(node, 20)["other_media"]
    assert FILE in other["missing"]
    assert other["resolution"]
    node.attach_iso(second.iso)
    assert status(node, 0)["other_media"][0]["missing"] == ""


def test_one_is_removed_and_the_other_serves_on(node: Node, second: SecondIso) -> None:
    nginx = shell(node, NGINX)
    shell(node, f"crictl rmi {IMAGE}")
    error = caisson(node, "remove", second.own.full_version, code=12)["error"]
    assert "is in use" in error["message"]
    assert caisson(node, "remove", second.name) == {"format": 1, "name": second.name, "made_from": FILE}
    assert second.name not in shell(
        node, f"findmnt --list --output TARGET; find {PLACES} -xdev; systemctl list-unit-files"
    )
    assert head(node, path_of(IMAGE))[0] == 404
    assert head(node, path_of(second.clash))[0] == 200
    assert shell(node, f"test -f {FILE} && echo there") == "there\n", "the file is the operator's"
    assert shell(node, NGINX) == nginx
    assert [row["name"] for row in caisson(node, "list")["media"]] == [second.own.full_version]
    assert status(node, 0)["other_media"] == []


def test_a_drive_is_taken(node: Node, second: SecondIso) -> None:
    """A loop device stands for the drive; what is behind it is found, and mounted from then on."""
    device = shell(node, f"losetup --find --show --read-only {FILE}").strip()
    added = caisson(node, "add", device)
    assert (added["changed"], added["made_from"]) == (True, FILE)
    assert head(node, path_of(IMAGE)) == (200, second.image_digest)
    caisson(node, "remove", second.name)
    shell(node, f"losetup --detach {device}")
