# SPDX-License-Identifier: Apache-2.0
"""Which of kubeadm's phases are run again after which change, and what is removed and started anew."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from installer.config import control_plane
from installer.config.bootstrap import OWN_PATCHES
from tests.authorities import make_authority, make_leaf
from tests.unit.salt.test_modules import caisson, installer, load  # noqa: F401  a fixture

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
        # The API server listens elsewhere then, too.
        (("networks", "vip"), None, {"certs all", "upload-config all", "control-plane all"}),
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
    caisson["networks"]["vip"] = None  # with one, one patch fewer
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


def rooted(root: Path) -> ModuleType:
    """Return the module for a host whose files are below ``root``."""
    module = load("caisson_kubeadm")
    module.__dict__.update(
        ROOT_DIR=str(root),
        KUBERNETES_DIR=str(root / "etc/kubernetes"),
        MANIFESTS_DIR=str(root / "etc/kubernetes/manifests"),
        STAMPS_DIR=str(root / "var/lib/caisson/kubeadm"),
        __context__={},
        __salt__={"caisson_installer.load": installer().load},
    )
    return module


def unfinished(root: Path, torn: dict[str, str | None], phase: str) -> set[str]:
    """Return the files that a second run finds after the first one was cut off and left ``torn``."""
    directory = root / "etc/kubernetes"
    (directory / "pki/etcd").mkdir(parents=True, exist_ok=True)
    there = {name: text for name, text in {**WHOLE, **torn}.items() if text is not None}
    for name, text in there.items():
        (directory / name).write_text(text)
    removed = rooted(root).remove_unfinished(phase)
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
    manifest = tmp_path / "etc/kubernetes/manifests/kube-apiserver.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("x")
    assert unfinished(tmp_path, {"pki/ca.key": ""}, phase) == set(WHOLE)


class Host:
    """A host on which ``kubeadm`` writes one file, kept as a record of what was asked of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.inputs = directory, "1"
        self.product, self.is_living = directory / "made.crt", False
        self.done: list[str] = []
        self.is_left_alone, self.cannot_sign, self.fails = False, "", False
        self.unsigned, self.gone = "", ""
        self.differences: list[str] = []
        self.pods: dict[str, Any] = {}
        self.answers: list[list[str]] = []
        self.asked: list[dict[str, Any]] = []

    def unsettled(self, before: dict[str, Any]) -> list[str]:
        self.asked.append(before)
        return self.answers.pop(0) if before and self.answers else []

    def lacks_objects(self, _: str) -> str:
        if self.gone == "no answer":
            raise RuntimeError(self.gone)
        return self.gone

    def run_phase(self, phase: str) -> dict[str, Any]:
        self.gone = ""
        self.done.append(f"{phase}, {'kept' if self.product.exists() else 'new'}")
        if self.fails:
            return {"retcode": 1, "stdout": "", "stderr": "no"}
        if not self.product.exists():
            self.product.write_text("x")
        return {"retcode": 0, "stdout": "", "stderr": ""}

    def functions(self) -> dict[str, Any]:
        return {
            "caisson_kubeadm.stamp_file": lambda phase: self.directory / f"{phase}.json",
            "caisson_kubeadm.expected_stamp": lambda _: {"inputs_sha256": self.inputs},
            "caisson_kubeadm.has_living_control_plane": lambda: self.is_living,
            "caisson_kubeadm.is_left_alone": lambda: self.is_left_alone,
            "caisson_kubeadm.cannot_sign": lambda _: self.cannot_sign,
            "caisson_kubeadm.unsigned_names": lambda _: self.unsigned,
            "caisson_kubeadm.lacks_objects": self.lacks_objects,
            "caisson_kubeadm.static_pods": lambda _: dict(self.pods),
            "caisson_kubeadm.unsettled": self.unsettled,
            "caisson_result.until": load("caisson_result").until,
            "caisson_installer.call": installer().call,
            "caisson_preflight.control_plane_differences": lambda: self.differences,
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


def test_a_phase_that_fails_gets_its_certificate_back(host: Host) -> None:
    """What runs has it in memory only, and reads the file when it is started again."""
    given: dict[str, Any] = {"produces": [str(host.product)], "renews": [str(host.product)]}
    state(host).phase_completed("x", "certs all", **given)
    host.product.write_text("served")
    host.inputs, host.fails = "2", True
    assert state(host).phase_completed("x", "certs all", **given)["result"] is False
    assert host.product.read_text() == "served"
    host.fails = False
    assert state(host).phase_completed("x", "certs all", **given)["result"]
    assert host.product.read_text() == "x"
    assert [file.name for file in host.directory.iterdir() if "before" in file.name] == []


def test_the_half_of_a_killed_run_is_not_taken_for_what_was_whole(host: Host) -> None:
    given: dict[str, Any] = {"produces": [str(host.product)], "renews": [str(host.product)]}
    state(host).phase_completed("x", "certs all", **given)
    host.product.write_text("half")
    host.product.with_name("made.crt.before").write_text("whole")
    host.inputs, host.fails = "2", True
    state(host).phase_completed("x", "certs all", **given)
    assert host.product.read_text() == "whole"


def test_nothing_is_put_aside_where_nothing_can_be_signed(host: Host) -> None:
    """The authority's key is kept elsewhere: what the site has signed must be for the new names."""
    given: dict[str, Any] = {"renews": [str(host.product)], "restarts": "kube-apiserver"}
    completed(host, **given)
    host.inputs, host.cannot_sign, host.unsigned = "2", "ca.key is not there", "not signed for b; no ca.key"
    for inputs in ("2", "3"):
        host.inputs, host.done = inputs, []
        answer = state(host).phase_completed("x", "certs all", **given)
        assert (answer["result"], answer["changes"], host.done) == (False, {}, [])
        assert answer["comment"].startswith("not signed for b; no ca.key: have it signed")
    host.unsigned = ""
    assert completed(host, **given) == ["certs all, kept", "restart kube-apiserver"]
    assert completed(host, **given) == []


def test_an_addon_that_somebody_deleted_is_applied_again(host: Host) -> None:
    given = {"restarts": "daemonset/kube-proxy"}
    completed(host, "addon kube-proxy", **given)
    assert completed(host, "addon kube-proxy", **given) == []
    host.gone = "daemonset.apps/kube-proxy"
    assert completed(host, "addon kube-proxy", **given)[0] == "addon kube-proxy, kept"
    assert completed(host, "addon kube-proxy", **given) == []
    host.gone, host.done = "no answer", []
    answer = state(host).phase_completed("x", "addon kube-proxy", produces=[str(host.product)])
    assert (answer["result"], answer["comment"], host.done) == (False, "no answer", [])


def test_a_control_plane_of_others_is_left_alone(host: Host) -> None:
    host.is_left_alone = True
    for phase in ALL_PHASES:
        assert completed(host, phase) == []
    assert state(host).control_plane_fits("x")["result"] is True
    host.differences = ["cluster name: a on this host, b wanted"]
    answer = state(host).control_plane_fits("x")
    assert answer["result"] is False
    assert "another origin:\ncluster name: a" in answer["comment"]


def test_a_control_plane_of_ours_is_compared_with_nothing(host: Host) -> None:
    host.differences = ["cluster name: a on this host, b wanted"]
    assert state(host).control_plane_fits("x")["result"] is True


def begun_again(host: Host, phase: str) -> ModuleType:
    """Return the state of a host on which the phase was completed, and its configuration then changed."""
    completed(host, phase)
    host.done, host.asked, host.inputs = [], [], "2"
    host.pods = {"kube-scheduler": {"manifest": "1", "uid": "a"}}
    return state(host)


def test_a_first_run_waits_for_no_pod_of_before(host: Host) -> None:
    """There is no API server that could be asked; one that was cut off has written etcd's manifest already."""
    host.pods = {"etcd": {"manifest": "1", "uid": "a"}}
    host.answers = [["etcd: connection refused"]] * 9
    completed(host, "etcd local")
    assert host.asked == [{}]


def test_a_phase_ends_when_its_static_pods_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    module = begun_again(host, "control-plane all")
    host.answers = [
        ["kube-scheduler: the pod of before is still there"],
        ["kube-scheduler: not Ready yet"],
        [],
    ]
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert module.phase_completed("x", "control-plane all")["result"]
    assert len(slept) == 2
    assert host.asked[0] == host.pods


def killed(_: str) -> dict[str, Any]:
    raise KeyboardInterrupt


def test_the_pods_of_before_are_known_after_a_kill_too(host: Host) -> None:
    """The manifest is written, its pod is not there yet: a look at what runs now would take the old for the new."""
    module = begun_again(host, "control-plane all")
    module.__dict__["__salt__"]["caisson_kubeadm.run_phase"] = killed
    with pytest.raises(KeyboardInterrupt):
        module.phase_completed("x", "control-plane all")
    first, host.pods = host.pods, {"kube-scheduler": {"manifest": "2", "uid": "a"}}
    assert state(host).phase_completed("x", "control-plane all")["result"]
    assert host.asked == [first]
    assert sorted(file.name for file in host.directory.glob("control*")) == ["control-plane all.json"]


def test_pods_that_never_settle_are_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    module = begun_again(host, "etcd local")
    host.answers = [["etcd: not Ready yet"]] * 3
    monkeypatch.setattr(module, "SETTLED_TIMEOUT_S", -1)
    answer = module.phase_completed("x", "etcd local")
    assert answer["result"] is False
    assert "etcd: not Ready yet" in answer["comment"]
    host.asked, host.answers, host.pods = [], [], {"etcd": {"manifest": "2", "uid": "b"}}
    assert state(host).phase_completed("x", "etcd local")["result"]
    assert host.asked == [host.pods]


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_configuration_that_is_put_back_after_a_fault_is_applied(host: Host, *, is_killed: bool) -> None:
    """The stamp of before fits it again, yet the files are those of the run that was cut off or failed."""
    module = begun_again(host, "control-plane all")
    if is_killed:
        module.__dict__["__salt__"]["caisson_kubeadm.run_phase"] = killed
        with pytest.raises(KeyboardInterrupt):
            module.phase_completed("x", "control-plane all")
    else:
        host.fails = True
        assert module.phase_completed("x", "control-plane all")["result"] is False
    host.inputs, host.fails = "1", False
    assert completed(host, "control-plane all") == ["control-plane all, kept"]
    assert completed(host, "control-plane all") == []


def pod(uid: str, ready: str, spec: dict[str, Any]) -> str:
    """Return what the API says of a static pod."""
    annotations = {"kubernetes.io/config.hash": uid}
    conditions = [{"type": "Ready", "status": ready}]
    return json.dumps(
        {"metadata": {"annotations": annotations}, "spec": spec, "status": {"conditions": conditions}}
    )


STILL = "the pod of before is still there"
OLD_SPEC = {"containers": [{"name": "etcd", "command": ["etcd", "--a=1"]}], "dnsPolicy": "ClusterFirst"}
BEFORE_TEXT = "spec: {containers: [{name: etcd, command: [etcd, --a=1]}]}"
WRITTEN_OUT = BEFORE_TEXT.replace("]}]}", "]}], dnsPolicy: ClusterFirst}")
ANNOTATED = f'{{metadata: {{creationTimestamp: null, annotations: {{a: "1"}}}}, {BEFORE_TEXT}}}'
ONE_MORE = BEFORE_TEXT.replace("--a=1", "--a=1, --b=2")
ONE_LESS = BEFORE_TEXT.replace(", --a=1", "")


def settling(
    root: Path, text: str, before: str, uid: str, ready: str, *, spec: dict[str, Any], age_s: float = 60.0
) -> list[str]:
    """Return what is not settled after a manifest was written, and the pod is as told; its uid was ``old``."""
    module, file = rooted(root), root / "etc/kubernetes/manifests/etcd.yaml"
    words: list[list[str]] = []

    def run_all(command: list[str], **_: Any) -> dict[str, Any]:
        words.append(command)
        return {"retcode": 0, "stdout": '{"items": [{"metadata": {"uid": "old"}}]}', "stderr": ""}

    module.__dict__.update(
        __pillar__={"caisson": {"node": {"name": "node1.example"}}},
        __salt__={"cmd.run_all": run_all, "caisson_kubernetes.kubectl": lambda *_: pod(uid, ready, spec)},
    )
    for directory in (module.MANIFESTS_DIR, module.STAMPS_DIR):
        Path(directory).mkdir(parents=True)
    file.write_text(before)
    assert module.static_pods("etcd local") == {}
    module.stamp_file("control-plane all").write_text("{}")
    noted = module.static_pods("etcd local")
    assert "^etcd\\-node1\\.example$" in [*words[-1]] or "^etcd-node1\\.example$" in [*words[-1]]
    file.write_text(text)
    os.utime(file, (time.time() - age_s,) * 2)
    assert module.static_pods("certs all") == {}
    found: list[str] = module.unsettled(noted)
    return found


@pytest.mark.parametrize(
    ("manifest", "uid", "ready", "fault"),
    [
        (BEFORE_TEXT, "old", "True", ""),
        (f"{{{BEFORE_TEXT}}}", "old", "True", ""),  # the same words in another form
        (BEFORE_TEXT, "old", "False", "not Ready yet"),
        (ONE_MORE, "new", "True", ""),
        (ONE_MORE, "new", "False", "not Ready yet"),
        (ONE_MORE, "old", "True", STILL),
        (ONE_LESS, "old", "True", STILL),
        # An API default that is written out: another manifest, the same pod for the kubelet.
        (WRITTEN_OUT, "old", "True", ""),
        (WRITTEN_OUT, "old", "False", "not Ready yet"),
        # What a patch adds beside the spec is another pod as well.
        (ANNOTATED, "old", "True", STILL),
        (ANNOTATED, "new", "True", ""),
    ],
)
def test_a_static_pod_has_settled_when_it_is_that_of_its_manifest(
    tmp_path: Path, manifest: str, uid: str, ready: str, fault: str
) -> None:
    found = settling(tmp_path, manifest, BEFORE_TEXT, uid, ready, spec=OLD_SPEC)
    assert found == ([f"etcd: {fault}"] if fault else [])


def test_a_default_that_is_taken_out_again_settles_when_the_kubelet_has_looked(tmp_path: Path) -> None:
    def told(root: str, age_s: float) -> list[str]:
        where = tmp_path / root
        return settling(where, BEFORE_TEXT, WRITTEN_OUT, "old", "True", spec=OLD_SPEC, age_s=age_s)

    assert told("at once", 1) == [f"etcd: {STILL}"]  # it may have been no default: lifetimes, say
    assert told("later", 31) == []


def test_a_pod_that_came_after_a_run_that_failed_is_no_pod_of_before(tmp_path: Path) -> None:
    """The manifest was written by the run that failed; its pod came late, and the next run writes the same."""
    spec = {"containers": [{"name": "etcd", "command": ["etcd", "--a=1", "--b=2"]}]}
    assert settling(tmp_path / "a", ONE_MORE, ONE_MORE, "new", "True", spec=spec) == []
    # A change that was taken back before its pod was replaced: what runs now is of neither.
    found = settling(tmp_path / "b", BEFORE_TEXT, BEFORE_TEXT, "between", "True", spec=spec)
    assert found == [f"etcd: {STILL}"]


@pytest.mark.parametrize(
    ("wanted", "found", "is_held"),
    [
        ({"hostNetwork": False, "resources": {}, "status": None}, {}, True),
        ({"securityContext": {}}, {"securityContext": {"runAsUser": 0}}, True),
        ({"a": {"b": 1}}, {}, False),
        ({"a": 0}, {"a": 1}, False),
        ({"tolerations": [{"key": "x"}]}, {"tolerations": [{"key": "x"}, {"operator": "Exists"}]}, True),
        ({"tolerations": []}, {"tolerations": [{"operator": "Exists"}]}, True),
        ({"tolerations": [{"key": "x"}]}, {"tolerations": [{"operator": "Exists"}]}, False),
        ({"volumes": []}, {"volumes": [{"name": "x"}]}, False),
        ({"volumes": [{"name": "x"}]}, {"volumes": [{"name": "x", "hostPath": {}}]}, True),
    ],
)
def test_what_the_api_says_holds_what_a_manifest_says(
    wanted: dict[str, Any], found: dict[str, Any], *, is_held: bool
) -> None:
    assert load("caisson_kubeadm").holds(found, wanted) is is_held


def test_kubeadm_is_asked_for_its_version_once(tmp_path: Path, caisson: dict[str, Any]) -> None:  # noqa: F811
    module, asked = load("caisson_kubeadm"), []
    (tmp_path / "kubeadm").write_text("x")

    def run_stdout(command: list[str], **_: Any) -> str:
        asked.append(command)
        return "v1.36.4\n"

    module.__dict__.update(
        KUBEADM_FILE=str(tmp_path / "kubeadm"),
        __pillar__={"caisson": caisson},
        __context__={},
        __salt__={"cmd.run_stdout": run_stdout},
    )
    assert {module.expected_stamp(phase)["kubeadm"] for phase in ALL_PHASES} == {"v1.36.4"}
    assert len(asked) == 1
    (tmp_path / "kubeadm").write_text("another one")
    module.expected_stamp("preflight")
    assert len(asked) == 2


def test_what_kubeadm_makes_is_looked_for_by_name() -> None:
    """The keys of authorities are not: a site may take them away. Source: the files of a node by kubeadm 1.36."""
    files = load("caisson_kubeadm").certificate_files()
    assert len(files) == len(set(files)) == 19
    assert [file for file in files if file.endswith("ca.key")] == []
    assert "/etc/kubernetes/pki/etcd/healthcheck-client.key" in files


@pytest.mark.parametrize("has_stamp", [True, False])
@pytest.mark.parametrize("is_living", [True, False])
def test_whose_control_plane_it_is(tmp_path: Path, *, is_living: bool, has_stamp: bool) -> None:
    """The installer's own answer, before the run, and this one are the same code."""
    module = rooted(tmp_path)
    if is_living:
        Path(module.MANIFESTS_DIR).mkdir(parents=True)
        (Path(module.MANIFESTS_DIR) / "etcd.yaml").write_text("x")
    if has_stamp:
        Path(module.STAMPS_DIR).mkdir(parents=True)
        module.stamp_file("certs all").write_text("{}")
    assert module.has_living_control_plane() is is_living
    assert module.is_left_alone() is control_plane.is_of_others(tmp_path)
    assert module.is_left_alone() is (is_living and not has_stamp)
    key = tmp_path / "ca.key"
    assert module.waits_for(str(key)) is not (is_living or has_stamp)
    key.touch()
    assert module.waits_for(str(key)) is not (is_living or has_stamp)
    key.write_text("x")
    assert not module.waits_for(str(key))


SIGNED = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "NODE1",
    "10.77.1.11",
    "10.96.0.1",
    "10.77.1.100",
    "api.lab.internal",
)


@pytest.mark.parametrize(
    ("sans", "signed", "lacking"),
    [
        ([], SIGNED, ""),
        (["k8s.example.com"], SIGNED, "k8s.example.com"),
        (["k8s.example.com"], (*SIGNED, "k8s.example.com"), ""),
        (["K8S.example.com"], (*SIGNED, "*.example.com"), ""),
        (["a.k8s.example.com"], (*SIGNED, "*.example.com"), "a.k8s.example.com"),
        (["*.example.com"], (*SIGNED, "*.example.com"), ""),
        (["2001:DB8::0:1"], (*SIGNED, "2001:db8::1"), ""),
        (["192.0.2.7", "2001:db8::1"], SIGNED, "192.0.2.7, 2001:db8::1"),
        ([], SIGNED[1:-1], "kubernetes, api.lab.internal"),
        (["x"], (), None),
    ],
)
def test_without_a_key_the_api_server_s_certificate_must_have_the_names(
    tmp_path: Path,
    caisson: dict[str, Any],  # noqa: F811
    sans: list[str],
    signed: tuple[str, ...],
    lacking: str | None,
) -> None:
    """Otherwise kubeadm keeps it, says nothing, and the change would count as applied."""
    module, pki_dir = rooted(tmp_path), tmp_path / "etc/kubernetes/pki"
    pki_dir.mkdir(parents=True)
    caisson["api_server"]["extra_sans"] = sans
    module.__dict__["__pillar__"] = {"caisson": caisson}
    (pki_dir / "ca.crt").write_text(CERTIFICATE)
    assert module.unsigned_names("certs all") == ""  # kubeadm says that there is none
    server = pki_dir / "apiserver.crt"
    leaf, _ = make_leaf(tmp_path, make_authority(tmp_path), names=signed)
    server.write_text("a comment\n" + leaf.read_text() if lacking is not None else CERTIFICATE)
    found = module.unsigned_names("certs all")
    if lacking is None:
        assert "holds no certificate" in found
    else:
        why = f"{server} is not signed for {lacking}; {pki_dir}/ca.key is not there: "
        assert found == (f"{why}without it no certificate can be signed" if lacking else "")
    assert module.unsigned_names("kubeconfig all") == ""
    (pki_dir / "ca.key").write_text(KEY)
    assert module.unsigned_names("certs all") == ""


def test_both_addons_are_asked_for_by_one_question(tmp_path: Path) -> None:
    module = rooted(tmp_path)
    there = [name for names in module.ADDONS.values() for name in names]
    asked: list[tuple[str, ...]] = []

    def kubectl(*words: str) -> str:
        asked.append(words)
        return "".join(f"{name}\n" for name in there)

    module.__dict__["__salt__"]["caisson_kubernetes.kubectl"] = kubectl
    for _ in range(2):
        assert [module.lacks_objects(phase) for phase in ALL_PHASES] == [""] * len(ALL_PHASES)
    assert len(asked) == 2  # once a run
    assert {"daemonset.apps/kube-proxy", "deployment.apps/coredns", "--ignore-not-found"} <= {*asked[0]}
    there.remove("deployment.apps/coredns")
    there.remove("service/kube-dns")
    assert module.lacks_objects("addon kube-proxy") == ""
    assert module.lacks_objects("addon coredns") == "deployment.apps/coredns, service/kube-dns"


@pytest.mark.parametrize(
    ("phase", "key", "can"), [("certs all", KEY, True), ("certs all", None, False), ("x", None, True)]
)
def test_without_the_authority_s_key_nothing_is_signed(
    tmp_path: Path, phase: str, key: str | None, *, can: bool
) -> None:
    module = load("caisson_kubeadm")
    module.__dict__.update(KUBERNETES_DIR=str(tmp_path))
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/ca.crt").write_text(CERTIFICATE)
    if key is not None:
        (tmp_path / "pki/ca.key").write_text(key)
    assert (module.cannot_sign(phase) == "") is can
