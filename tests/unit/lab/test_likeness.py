# SPDX-License-Identifier: Apache-2.0
"""Two nodes that kubeadm made alike come out equal, whatever was random; what was decided is seen, by name."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from lab.errors import LabError
from lab.likeness import IS_THERE, Allowed, Difference, differ, judge, normalise, read_allowed

CERTIFICATE = """Certificate:
    Data:
        Version: 3 (0x2)
        Serial Number: {serial} (0x1)
        Signature Algorithm: sha256WithRSAEncryption
        Issuer: CN=kubernetes
        Validity
            Not Before: Nov 27 06:{minute}:00 2026 GMT
            Not After : Nov 26 06:30:00 2031 GMT
        Subject: CN=kube-apiserver
        Subject Public Key Info:
            Public Key Algorithm: rsaEncryption
                Public-Key: (2048 bit)
        X509v3 extensions:
            X509v3 Key Usage: critical
                Digital Signature, Key Encipherment
            X509v3 Authority Key Identifier:{space}
                {serial}:AA
            X509v3 Subject Alternative Name:{space}
                DNS:api.lab.internal, DNS:kubernetes, IP Address:10.77.1.11
"""
MANIFEST = """apiVersion: v1
kind: Pod
metadata: {name: kube-scheduler, creationTimestamp: null}
spec:
  containers:
  - name: kube-scheduler
    command:
    - kube-scheduler
    - --bind-address=127.0.0.1
    - --leader-elect=true
"""


def raw(seed: int) -> dict[str, Any]:
    """Return what is read on a node; the seed changes all that is made at random."""
    token, pem = f"{seed:06d}", base64.b64encode(f"-----BEGIN CERTIFICATE-----\n{seed}\n".encode()).decode()
    metadata = {
        "namespace": "kube-system",
        "uid": str(seed),
        "managedFields": [seed],
        "creationTimestamp": f"2026-11-2{seed}T01:00:00Z",
    }
    cluster = (
        f"kind: Config\nclusters:\n- name: ''\n  cluster: {{server: x, certificate-authority-data: {pem}}}\n"
    )
    return {
        "objects": [
            {
                "kind": "ConfigMap",
                "metadata": {**metadata, "name": "cluster-info"},
                "data": {f"jws-kubeconfig-{token}": f"eyJhbGci{seed}..x{seed}", "kubeconfig": cluster},
            },
            {
                "kind": "Secret",
                "metadata": {**metadata, "name": f"bootstrap-token-{token}"},
                "type": "bootstrap.kubernetes.io/token",
                "data": {
                    "token-id": token,
                    "token-secret": f"{seed:016d}",
                    "expiration": f"2026-11-2{seed + 1}T01:00:01Z",
                },
            },
            {
                "kind": "ClusterRole",
                "metadata": {"name": "kubeadm:get-nodes", "creationTimestamp": str(seed)},
                "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
            },
        ],
        "manifests": {"kube-scheduler.yaml": MANIFEST},
        "kubeconfigs": {"admin.conf": cluster},
        "certificates": {
            "/etc/kubernetes/pki/apiserver.crt": CERTIFICATE.format(
                serial=seed, minute=29 + seed, space=" " * seed
            )
        },
        "kubelet": {"command line": json.dumps(["/usr/bin/kubelet", "--config=/x", "--node-ip=10.77.1.11"])},
        "listing": "644 root:root /etc/kubernetes/pki/ca.crt\n"
        f"600 root:root /var/lib/kubelet/pki/kubelet-client-2026-11-27-06-01-0{seed}.pem\n"
        "777 root:root /var/lib/kubelet/pki/kubelet-client-current.pem -> "
        f"/var/lib/kubelet/pki/kubelet-client-2026-11-27-06-01-0{seed}.pem\n",
    }


def test_what_is_made_at_random_makes_no_difference() -> None:
    assert differ(normalise(raw(1)), normalise(raw(2))) == ()


def changed(*steps: str | int, value: object) -> tuple[Difference, ...]:
    """Return the differences after one change in what was read."""
    other = copy.deepcopy(raw(2))
    place: Any = other
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    return differ(normalise(raw(1)), normalise(other))


def test_an_added_flag_is_one_difference_and_named() -> None:
    text = MANIFEST + "    - --v=4\n"
    (found,) = changed("manifests", "kube-scheduler.yaml", value=text)
    assert found.place == "manifest kube-scheduler.yaml: spec.containers.kube-scheduler.command.--v"
    assert (found.bootstrap, found.kubeadm, found.side) == ("", "4", "kubeadm")


@pytest.mark.parametrize(
    ("steps", "value", "place"),
    [
        (
            ("objects", 2, "rules", 0, "verbs"),
            ["get", "list"],
            "ClusterRole kubeadm:get-nodes: rules.0.verbs.1",
        ),
        (
            ("objects", 0, "data", "kubeconfig"),
            "kind: Other\n",
            "ConfigMap kube-system/cluster-info: data.kubeconfig",
        ),
        (("objects", 1, "type"), "Opaque", "Secret kube-system/bootstrap-token-<id>: type"),
        (
            ("objects", 1, "data", "token-id"),
            "UPPER1",
            "Secret kube-system/bootstrap-token-<id>: data.token-id",
        ),
        (
            ("objects", 1, "data", "token-secret"),
            "short",
            "Secret kube-system/bootstrap-token-<id>: data.token-secret",
        ),
        (
            ("objects", 1, "data", "expiration"),
            "2026-11-24T01:00:00Z",
            "Secret kube-system/bootstrap-token-<id>: data.expiration",
        ),
        (("kubeconfigs", "admin.conf"), "kind: Config\nclusters: []\n", "kubeconfig admin.conf: clusters"),
        (("kubelet", "command line"), '["/usr/bin/kubelet"]', "kubelet command line: --config"),
        (
            ("listing",),
            raw(2)["listing"].replace("644", "666"),
            "file /etc/kubernetes/pki/ca.crt: mode",
        ),
        (
            ("listing",),
            raw(2)["listing"].replace("600 root:root", "600 kube:root"),
            "file /var/lib/kubelet/pki/kubelet-client-<date>.pem: owner",
        ),
    ],
)
def test_what_was_decided_is_seen(steps: tuple[str | int, ...], value: object, place: str) -> None:
    assert any(one.place.startswith(place) for one in changed(*steps, value=value))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("CN=kube-apiserver", "CN=other", "subject"),
        ("CN=kubernetes", "CN=other", "issuer"),
        ("2048 bit", "4096 bit", "key"),
        ("26 06:30:00 2031", "27 06:30:00 2031", "days"),
        ("Key Usage: critical", "Key Usage:", "Key Usage"),
        ("DNS:kubernetes", "DNS:kubernetes.default", "Subject Alternative Name"),
        ("Authority Key Identifier", "Other", "Authority Key Identifier"),
    ],
)
def test_what_a_certificate_says_is_compared(old: str, new: str, field: str) -> None:
    file = "/etc/kubernetes/pki/apiserver.crt"
    text = raw(2)["certificates"][file].replace(old, new)
    places = [one.place for one in changed("certificates", file, value=text)]
    assert f"certificate {file}: {field}" in places


def test_the_order_of_names_in_a_certificate_makes_no_difference() -> None:
    file = "/etc/kubernetes/pki/apiserver.crt"
    text = raw(2)["certificates"][file].replace(
        "DNS:api.lab.internal, DNS:kubernetes", "DNS:kubernetes, DNS:api.lab.internal"
    )
    assert changed("certificates", file, value=text) == ()


def test_a_line_of_a_text_is_one_difference_and_named() -> None:
    text = ".:53 {\n    errors\n    loop\n}\n"
    other = copy.deepcopy(raw(2))
    other["objects"][0]["data"]["Corefile"] = text.replace("    loop\n", "")
    mine = copy.deepcopy(raw(1))
    mine["objects"][0]["data"]["Corefile"] = text
    (found,) = differ(normalise(mine), normalise(other))
    assert (found.place, found.side) == (
        "ConfigMap kube-system/cluster-info: data.Corefile..:53.loop",
        "bootstrap",
    )


BLOCKS = "a:53 {\n    errors\n    loop\n    cache {\n        ttl 30\n    }\n}\nb:53 {\n    errors\n}\n"
SERVER = {"name": "a", "command": ["x", "--v=4"]}


@pytest.mark.parametrize(
    ("mine", "other", "places"),
    [
        (
            {"Corefile": BLOCKS},
            {"Corefile": BLOCKS.replace("    loop\n", "", 1).replace("b:53 {\n", "b:53 {\n    loop\n")},
            ["Corefile.a:53.loop", "Corefile.b:53.loop"],
        ),
        (
            {"Corefile": BLOCKS},
            {"Corefile": BLOCKS.replace("        ttl 30\n    }\n", "    }\n    ttl 30\n")},
            ["Corefile.a:53.cache.ttl 30", "Corefile.a:53.ttl 30"],
        ),
        ({"text": "a\nb\nb\n"}, {"text": "a\nb\n"}, ["text.b"]),
        (
            {"initContainers": [{"name": "a"}, {"name": "b"}]},
            {"initContainers": [{"name": "b"}, {"name": "a"}]},
            ["initContainers.(order)"],
        ),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}]},
            {"env": [{"name": "B", "value": "$(A)"}, {"name": "A", "value": "1"}]},
            ["env.(order)"],
        ),
        ({"containers": [{"name": "a"}, SERVER]}, {"containers": [{"name": "a"}, SERVER]}, []),
        ({"volumes": [{"name": "a"}, {"name": "b"}]}, {"volumes": [{"name": "b"}, {"name": "a"}]}, []),
        ({"args": ["--a=1", "--a=2, 3"]}, {"args": ["--a=1, 2", "--a=3"]}, ["args.--a"]),
        ({"args": ["--a=1", "--a=2"]}, {"args": ["--a=2", "--a=1"]}, ["args.--a"]),
        ({"args": ["--a=1", "--a=2"]}, {"args": ["--a=1, 2"]}, ["args.--a"]),
        ({"args": ["--a=1", "--b=2"]}, {"args": ["--b=2", "--a=1"]}, []),
    ],
)
def test_where_and_in_which_order_a_thing_stands_is_seen(
    mine: dict[str, Any], other: dict[str, Any], places: list[str]
) -> None:
    def thing(data: dict[str, Any]) -> dict[str, dict[str, str]]:
        item = {"kind": "X", "metadata": {"name": "y"}, "data": data}
        return normalise({**raw(1), "objects": [item]})

    found = [one.place.removeprefix("X y: data.") for one in differ(thing(mine), thing(other))]
    assert found == places


def test_another_version_of_the_api_is_seen() -> None:
    mine, other = copy.deepcopy(raw(1)), copy.deepcopy(raw(2))
    for one, version in ((mine, "v1"), (other, "v1beta1")):
        one["objects"][2]["apiVersion"] = f"rbac.authorization.k8s.io/{version}"
    (found,) = differ(normalise(mine), normalise(other))
    assert found.place == "ClusterRole kubeadm:get-nodes: apiVersion"


def test_an_object_that_only_one_has_is_one_difference() -> None:
    assert changed("objects", value=raw(2)["objects"][:2]) == (
        Difference("ClusterRole kubeadm:get-nodes", IS_THERE, ""),
    )


def test_a_difference_that_is_not_listed_and_an_entry_without_one_are_told() -> None:
    differences = [Difference("manifest nginx.yaml", IS_THERE, ""), Difference("file /x: mode", "600", "644")]
    entries = [
        Allowed("manifest ngin*", "bootstrap", "ours"),
        Allowed("file /y*", "both", "no more", "600", "644"),
    ]
    assert judge(differences, entries) == ((differences[1],), (entries[1],))


def test_an_entry_is_about_one_side() -> None:
    difference = Difference("manifest nginx.yaml", "", IS_THERE)
    assert not Allowed("manifest ngin*", "bootstrap", "ours").fits(difference)


@pytest.mark.parametrize(("value", "fits"), [("600", True), ("0600", False), ("", False)])
def test_an_entry_of_what_both_have_is_about_two_values(value: str, *, fits: bool) -> None:
    entry = Allowed("file /x: mode", "both", "ours", "600", "644")
    assert entry.fits(Difference("file /x: mode", value, "644")) is fits
    assert not entry.fits(Difference("file /x: mode", "600", value))


@pytest.mark.parametrize(
    "text",
    [
        "[{place: x, side: both, reason: y}]",
        "[{place: x, side: both, reason: y, bootstrap: a}]",
        "[{place: x, side: kubeadm, reason: y, kubeadm: a}]",
        "[{place: x, side: nobody, reason: y}]",
        "[{place: x, side: bootstrap, reason: ' '}]",
        "[{place: x, side: kubeadm, reason: y}, {place: x, side: kubeadm, reason: z}]",
    ],
)
def test_a_list_with_faults_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="x"):
        read_allowed(text)
