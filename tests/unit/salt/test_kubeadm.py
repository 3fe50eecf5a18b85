# SPDX-License-Identifier: Apache-2.0
"""Which of kubeadm's phases are run again after which change, and what is removed and started anew."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from installer.config.bootstrap import OWN_PATCHES
from tests.unit.salt.test_modules import caisson, load  # noqa: F401  a fixture

REPOSITORY_DIR = Path(__file__).parents[3]
STATES_DIR = REPOSITORY_DIR / "salt" / "_states"
ALL_PHASES = (
    "preflight",
    "certs all",
    "kubeconfig all",
    "kubelet-start",
    "etcd local",
    "control-plane all",
    "upload-config all",
    "mark-control-plane",
    "bootstrap-token",
    "kubelet-finalize all",
    "addon kube-proxy",
    "addon coredns",
)


@pytest.mark.parametrize(
    ("place", "value", "phases"),
    [
        (("api_server", "extra_sans"), ["other.example.com"], {"certs all", "upload-config all"}),
        (("networks", "vip"), "10.77.1.101", {"certs all", "upload-config all"}),
        (("overrides", "kubelet"), {"maxPods": 200}, {"kubelet-start", "upload-config all"}),
        (("overrides", "kube_proxy"), {"mode": "iptables"}, {"addon kube-proxy"}),
        (("overrides", "ignore_preflights"), [{"id": "CSN117", "reason": "x"}], set()),
        (("overrides", "ignore_preflights"), [{"id": "NumCPU", "reason": "x"}], set()),
        (("overrides", "kubeadm_patches"), {}, {"etcd local"}),
        (("overrides", "kubeadm_patches"), {"etcd0+merge.yaml": "x", "etcd1.json": "{}"}, {"etcd local"}),
        (
            ("overrides", "kubeadm_patches"),
            {"etcd0+merge.yaml": "x", "kube-scheduler+json.json": "[]"},
            {"control-plane all"},
        ),
        (
            ("overrides", "kubeadm_patches"),
            {"etcd0+merge.yaml": "x", "kubeletconfiguration+merge.json": "{}"},
            {"kubelet-start"},
        ),
    ],
)
def test_a_change_runs_again_what_reads_it(
    caisson: dict[str, Any],  # noqa: F811
    place: tuple[str, str],
    value: object,
    phases: set[str],
) -> None:
    module, changed = load("caisson_kubeadm"), copy.deepcopy(caisson)
    changed[place[0]][place[1]] = value
    before, after = module.reads(caisson), module.reads(changed)
    assert tuple(before) == ALL_PHASES
    assert {phase for phase in before if before[phase] != after[phase]} == phases


SUFFIXES = ("", "0", "audit", "-audit", "_x", "-site-2")
TYPES = ("", "+strategic", "+merge", "+json")
READERS = {
    "etcd": "etcd local",
    "kube-apiserver": "control-plane all",
    "kube-controller-manager": "control-plane all",
    "kube-scheduler": "control-plane all",
    "kubeletconfiguration": "kubelet-start",
    "corednsdeployment": "addon coredns",
}


@pytest.mark.parametrize("target", READERS)
def test_each_name_that_the_schema_accepts_is_read_by_its_phase(
    caisson: dict[str, Any],  # noqa: F811
    target: str,
) -> None:
    module = load("caisson_kubeadm")
    schema = json.loads((REPOSITORY_DIR / "installer/config/bootstrap.schema.json").read_text())
    overrides = schema["properties"]["overrides"]["properties"]
    accepted = re.compile(overrides["kubeadmPatches"]["propertyNames"]["pattern"])
    caisson["overrides"]["kubeadm_patches"] = {}
    before, tried = module.reads(caisson), 0
    for suffix, kind, extension in itertools.product(SUFFIXES, TYPES, ("json", "yaml")):
        name = f"{target}{suffix}{kind}.{extension}"
        if not accepted.search(name):
            continue
        tried += 1
        caisson["overrides"]["kubeadm_patches"] = {name: "{}"}
        after = module.reads(caisson)
        assert {phase for phase in before if before[phase] != after[phase]} == {READERS[target]}, name
    assert tried > len(SUFFIXES)


def test_only_the_containers_of_kube_system_are_stopped() -> None:
    """A container of the site may have the same name."""
    module = load("caisson_kubeadm")
    asked: list[list[str]] = []

    def run_all(words: list[str], **_: Any) -> dict[str, Any]:
        asked.append(words)
        return {"retcode": 0, "stdout": "c1\n", "stderr": ""}

    module.__dict__["__salt__"] = {
        "cmd.run_stdout": lambda words, **given: run_all(words, **given)["stdout"],
        "cmd.run_all": run_all,
    }
    module.restart_container("kube-apiserver")
    assert asked[0][-2:] == ["--label", "io.kubernetes.pod.namespace=kube-system"]
    assert asked[1] == ["crictl", "stop", "--timeout", "30", "c1"]


def test_only_kubeadm_s_own_names_reach_kubeadm(caisson: dict[str, Any]) -> None:  # noqa: F811
    caisson["overrides"]["ignore_preflights"] = [{"id": name, "reason": "x"} for name in ("CSN117", "NumCPU")]
    ignored = load("caisson_kubeadm").configuration(caisson)[0]["nodeRegistration"]["ignorePreflightErrors"]
    assert ignored == ["DirAvailable--var-lib-etcd", "Firewalld", "NumCPU"]


def test_the_names_of_caisson_s_own_patches_are_reserved(caisson: dict[str, Any]) -> None:  # noqa: F811
    caisson["overrides"]["kubeadm_patches"] = {}
    assert tuple(sorted(load("caisson_kubeadm").patches(caisson))) == OWN_PATCHES


KEY, CERTIFICATE = "-----BEGIN X-----\n-----END X-----\n", "-----BEGIN Y-----\n-----END Y-----\n"
AUTHORITIES = ("pki/ca", "pki/front-proxy-ca", "pki/etcd/ca")
LEAVES = ("pki/apiserver", "pki/front-proxy-client", "pki/etcd/server", "pki/apiserver-etcd-client")
ACCOUNTS = {"pki/sa.key", "pki/sa.pub"}
OF_THE_SITE = {
    "pki/oidc-ca.crt": CERTIFICATE,
    "pki/audit.key": "cut o",
    "pki/etcd/backup.crt": CERTIFICATE,
    "konnectivity.conf": "x",
}
WHOLE = {
    **{f"{name}.crt": CERTIFICATE for name in (*AUTHORITIES, *LEAVES)},
    **{f"{name}.key": KEY for name in (*AUTHORITIES, *LEAVES, "pki/sa")},
    "pki/sa.pub": KEY,
    "admin.conf": "x",
    "kubelet.conf": "x",
    **OF_THE_SITE,
}


def pairs(*stems: str) -> set[str]:
    return {f"{stem}{suffix}" for stem in stems for suffix in (".crt", ".key")}


def unfinished(directory: Path, torn: dict[str, str | None], phase: str) -> set[str]:
    """Return the files that a second run finds after the first one was cut off and left ``torn``."""
    (directory / "pki/etcd").mkdir(parents=True)
    there = {name: text for name, text in {**WHOLE, **torn}.items() if text is not None}
    for name, text in there.items():
        (directory / name).write_text(text)
    module = load("caisson_kubeadm")
    module.__dict__.update(
        KUBERNETES_DIR=str(directory), LIVING_FILES=(str(directory / "manifests/kube-apiserver.yaml"),)
    )
    removed = module.remove_unfinished(phase)
    left = {str(file.relative_to(directory)) for file in directory.rglob("*.*") if file.is_file()}
    assert {str(Path(file).relative_to(directory)) for file in removed} == set(there) - left
    return left - {"manifests/kube-apiserver.yaml"}


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        ({}, pairs(*AUTHORITIES) | ACCOUNTS),
        ({"pki/apiserver.crt": None}, pairs(*AUTHORITIES) | ACCOUNTS),
        ({"pki/sa.pub": None}, pairs(*AUTHORITIES)),
        ({"pki/front-proxy-ca.key": ""}, pairs("pki/ca", "pki/etcd/ca") | ACCOUNTS),
        ({"pki/etcd/ca.crt": "-----BEGIN Y-----\ncut o"}, pairs("pki/ca", "pki/front-proxy-ca") | ACCOUNTS),
        ({"pki/ca.crt": None}, pairs("pki/front-proxy-ca", "pki/etcd/ca") | ACCOUNTS),
        # An authority outside: its certificate, and what the site had signed by it.
        (
            {"pki/ca.key": None},
            pairs("pki/front-proxy-ca", "pki/etcd/ca", "pki/apiserver") | {"pki/ca.crt"} | ACCOUNTS,
        ),
    ],
)
def test_what_a_first_run_left_is_made_for_the_present_inputs(
    tmp_path: Path, torn: dict[str, str | None], kept: set[str]
) -> None:
    """Authorities that are whole stay; so does whatever kubeadm does not make."""
    left = unfinished(tmp_path, torn, "certs all")
    assert left == kept | set(OF_THE_SITE) | {"admin.conf", "kubelet.conf"}


def test_only_the_kubeconfigs_of_kubeadm_are_made_again(tmp_path: Path) -> None:
    assert set(WHOLE) - unfinished(tmp_path, {}, "kubeconfig all") == {"admin.conf", "kubelet.conf"}


def test_the_kubeconfigs_that_an_authority_outside_signed_stay(tmp_path: Path) -> None:
    left = unfinished(tmp_path, {"pki/ca.key": None}, "kubeconfig all")
    assert {"admin.conf", "kubelet.conf"} <= left


@pytest.mark.parametrize("phase", ["certs all", "kubeconfig all"])
def test_nothing_of_a_living_control_plane_is_removed(tmp_path: Path, phase: str) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/kube-apiserver.yaml").write_text("x")
    assert unfinished(tmp_path, {"pki/ca.key": ""}, phase) == set(WHOLE)


class Host:
    """A host on which ``kubeadm`` writes one file, kept as a record of what was asked of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.inputs = directory, "1"
        self.product, self.is_living = directory / "made.crt", False
        self.done: list[str] = []

    def run_phase(self, phase: str) -> dict[str, Any]:
        self.done.append(f"{phase}, {'kept' if self.product.exists() else 'new'}")
        if not self.product.exists():
            self.product.write_text("x")
        return {"retcode": 0, "stdout": "", "stderr": ""}

    def functions(self) -> dict[str, Any]:
        return {
            "caisson_kubeadm.stamp_file": lambda phase: self.directory / f"{phase}.json",
            "caisson_kubeadm.expected_stamp": lambda _: {"inputs_sha256": self.inputs},
            "caisson_kubeadm.has_living_control_plane": lambda: self.is_living,
            "caisson_kubeadm.run_phase": self.run_phase,
            "caisson_kubeadm.remove_unfinished": lambda _: self.done.append("remove unfinished"),
            "caisson_kubeadm.restart_container": lambda name: self.done.append(f"restart {name}"),
            "caisson_kubernetes.kubectl": lambda *words, **_: self.done.append(" ".join(words[2:])),
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def state(host: Host) -> ModuleType:
    module = load("caisson_kubeadm", STATES_DIR)
    module.__dict__.update(__salt__=host.functions(), __opts__={"test": False})
    return module


def completed(host: Host, phase: str = "certs all", **given: Any) -> list[str]:
    """Run the state once; return what it asked of the host."""
    host.done = []
    answer = state(host).phase_completed("x", phase, produces=[str(host.product)], **given)
    assert answer["result"], answer
    assert bool(answer["changes"]) == bool(host.done)
    return host.done


def test_a_changed_name_renews_the_certificate_and_restarts_its_server(host: Host) -> None:
    given: dict[str, Any] = {"renews": [str(host.product)], "restarts": "kube-apiserver"}
    assert completed(host, **given) == ["remove unfinished", "certs all, new"]
    assert completed(host, **given) == []
    host.inputs = "2"
    assert completed(host, **given) == ["certs all, new", "restart kube-apiserver"]
    assert completed(host, **given) == []


def test_a_changed_kube_proxy_is_rolled_out(host: Host) -> None:
    given = {"restarts": "daemonset/kube-proxy"}
    completed(host, "addon kube-proxy", **given)
    host.inputs = "2"
    assert completed(host, "addon kube-proxy", **given) == [
        "addon kube-proxy, kept",
        "rollout restart daemonset/kube-proxy",
        "rollout status daemonset/kube-proxy --timeout=120s",
    ]


def test_an_empty_product_is_made_again(host: Host) -> None:
    completed(host)
    host.product.write_text("")
    host.product.unlink()
    assert completed(host) == ["certs all, new"]
    host.product.write_text("")
    answer = state(host).phase_completed("x", "certs all", produces=[str(host.product)])
    assert answer["result"] is False
    assert "is not there or empty" in answer["comment"]


@pytest.mark.parametrize("is_living", [True, False])
def test_preflight_is_never_run_against_a_living_control_plane(host: Host, *, is_living: bool) -> None:
    host.is_living = is_living
    host.product.write_text("x")
    assert completed(host, "preflight") == ([] if is_living else ["preflight, kept"])
    host.inputs = "2"
    assert completed(host, "preflight") == []


def test_what_a_stamp_vouches_for_is_on_the_disk_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: seen.append((host.directory / "certs all.json").exists()))
    completed(host)
    assert seen == [False]
    assert json.loads((host.directory / "certs all.json").read_text()) == {"inputs_sha256": "1"}
