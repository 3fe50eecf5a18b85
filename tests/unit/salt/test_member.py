# SPDX-License-Identifier: Apache-2.0
"""A further control plane joins, whatever was cut off before: on a tree of files, kubeadm played by a list of calls."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

CA = "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"
KEYS = {
    "ca.crt": CA,
    "ca.key": "PRIVATE KEY a",
    "front-proxy-ca.crt": "b",
    "front-proxy-ca.key": "PRIVATE KEY b",
    "etcd/ca.crt": "c",
    "etcd/ca.key": "PRIVATE KEY c",
    "sa.pub": "d",
    "sa.key": "PRIVATE KEY d",
}
BOOTSTRAP = "kubernetes/bootstrap-kubelet.conf"
TOKEN = "abcdef.0123456789abcdef"
LEAVES = ("pki/apiserver.crt", "pki/apiserver.key", "pki/etcd/peer.crt")
ORDER = [
    "preflight",
    "control-plane-prepare certs",
    "control-plane-prepare kubeconfig",
    "kubelet-start",
    "etcd-join",
    "control-plane-prepare control-plane",
    "control-plane-join mark-control-plane",
]
OF_THE_KUBELET = ("bootstrap-kubelet.conf", "kubelet.conf")
"""kubeadm writes over the first, and the kubelet over the second where its certificate is not there."""
WRITES = {
    ORDER[1]: LEAVES,
    ORDER[2]: ("admin.conf", "controller-manager.conf", "scheduler.conf"),
    ORDER[3]: OF_THE_KUBELET,
    ORDER[4]: ("manifests/etcd.yaml",),
    ORDER[5]: tuple(
        f"manifests/{name}.yaml" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
}


def bootstrap_file(user: str = f"{{token: {TOKEN}}}") -> str:
    """Return what kubeadm writes for the kubelet; the authority's certificate is no secret."""
    return f"""apiVersion: v1
clusters:
- cluster: {{certificate-authority-data: Y2E=, server: "https://10.0.0.2:6443"}}
  name: caisson
contexts:
- context: {{cluster: caisson, user: tls-bootstrap-token-user}}
  name: tls-bootstrap-token-user@caisson
current-context: tls-bootstrap-token-user@caisson
kind: Config
users:
- name: tls-bootstrap-token-user
  user: {user}
"""


class Host:
    """A host on which kubeadm writes what the real one writes, and refuses what it refuses.

    The kubelet that it starts writes kubelet.conf at once. A certificate it asks its own API server for.
    Source: kubernetes 1.36, pkg/kubelet/certificate/bootstrap, LoadClientConfig.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.stops, self.runs = root, 0, True
        self.calls: list[str] = []
        self.fails_at = ""
        self.awaited: list[str] = []
        self.stopped: list[str] = []
        self.module: ModuleType = load("caisson_member")
        files = [str(root / "kubernetes" / name) for name in (*LEAVES, "pki/ca.crt", "pki/sa.key")]
        vars(self.module).update(
            KUBERNETES_DIR=str(root / "kubernetes"),
            DISCOVERY_FILE=str(root / "run/discovery.conf"),
            KEYS_DIR=str(root / "run/pki"),
            STAMPS_DIR=str(root / "stamps"),
            ETCD_DIR=str(root / "etcd"),
            CLIENT_CERTIFICATE_FILE=str(root / "kubelet-client-current.pem"),
            FRESH_FILE=str(root / "run/fresh-etcd"),
            __pillar__={
                "caisson": {
                    "cluster": {"ca_sha256": hashlib.sha256(CA.encode()).hexdigest()},
                    "node": {"name": "node2", "control_plane_address": "10.0.0.2"},
                }
            },
            __salt__={
                "cmd.run_all": self.run,
                "caisson_installer.call": self.write,
                "caisson_kubeadm.certificate_files": lambda: files,
                "caisson_wait.probe_url": self.probe,
                "caisson_join.has_joined": lambda: "",
                "caisson_kubeadm.restart_container": self.stopped.append,
            },
        )

    def write(self, module: str, function: str, file: Path, content: bytes, *, mode: int) -> None:
        assert (module, function) == ("installer.base.files", "write_file")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)

    def probe(self, url: str, ca_file: str) -> str:
        assert ca_file == str(self.root / "kubernetes/pki/ca.crt")
        self.awaited.append(url)
        (self.root / "kubelet-client-current.pem").write_text("the kubelet has its certificate")
        return ""

    def give(self) -> None:
        """Let the keys and the token arrive."""
        for name, text in KEYS.items():
            file = self.root / "run/pki" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (self.root / "run/discovery.conf").write_text(TOKEN)

    def run(self, words: list[str], **_: Any) -> dict[str, Any]:
        if words[0] == "systemctl":
            self.stops += words[1] == "stop"
            self.runs = words[1] == "start"
            return {"retcode": 0, "stdout": "", "stderr": ""}
        phase = " ".join(words[3 : words.index("--config")])
        self.calls.append(phase)
        assert phase != ORDER[4] or self.runs, "it waits for the pod of etcd, which the kubelet starts"
        self.runs = self.runs or phase == "kubelet-start"
        if self.fails_at == f"preflight of {phase}":
            return {"retcode": 1, "stdout": "", "stderr": "[ERROR X]: no\n"}
        for name in WRITES.get(phase, ()):
            file = self.root / "kubernetes" / name
            is_written_over = name.startswith("manifests") or name in OF_THE_KUBELET
            assert not file.exists() or is_written_over, f"kubeadm keeps or refuses {name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(bootstrap_file() if name == OF_THE_KUBELET[0] else phase)
            if phase == self.fails_at:
                return {"retcode": 1, "stdout": "", "stderr": "[ERROR X]: no\n"}
        return {"retcode": 0, "stdout": "", "stderr": ""}

    def state(self, *, test: bool = False) -> dict[str, Any]:
        result = load("caisson_result")
        functions = {
            f"caisson_member.{key}": value for key, value in vars(self.module).items() if callable(value)
        }
        functions |= {"caisson_result.ensure": result.ensure, "caisson_result.until": result.until}
        state = load("caisson_join", STATES_DIR)
        vars(state).update(__salt__=functions, __opts__={"test": test}, MEMBER_TIMEOUT_S=0)
        said: dict[str, Any] = state.joined("Join the cluster", is_control_plane=True)
        return said

    def data(self) -> Path:
        """Return a file of etcd's data, which is there."""
        file = self.root / "etcd/member/wal/0.wal"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        return file

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Let a run leave everything in memory that was sent: nobody comes to take it away."""
        forget = self.module.forget_secrets
        vars(self.module)["forget_secrets"] = lambda: False
        yield
        vars(self.module)["forget_secrets"] = forget

    def secrets(self) -> list[str]:
        """Return what lies in memory still, and the files that hold the token."""
        files = [file for file in self.root.glob("kubernetes/**/*") if file.is_file()]
        found = [*self.root.glob("run/**/*"), *(file for file in files if TOKEN in file.read_text())]
        return [str(file) for file in found]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.give()
    return host


def test_etcd_joins_before_the_api_server_is_placed(host: Host) -> None:
    said = host.state()
    assert said["result"] is True, said
    assert host.calls == ORDER
    assert host.awaited == ["https://10.0.0.2:6443/livez", "https://10.0.0.2:6443/readyz"]
    assert list(said["changes"]) == ORDER


def test_the_keys_are_placed_with_kubeadm_s_modes_and_gone_from_memory(host: Host) -> None:
    host.state()
    modes = {name: oct((host.root / "kubernetes/pki" / name).stat().st_mode & 0o777) for name in KEYS}
    assert {name: mode for name, mode in modes.items() if mode != "0o600"} == dict.fromkeys(
        ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt"), "0o644"
    )
    assert host.secrets() == []
    assert not (host.root / BOOTSTRAP).exists()


def test_nothing_that_is_said_holds_a_key(host: Host) -> None:
    said = json.dumps(host.state())
    assert "PRIVATE KEY" not in said
    assert TOKEN not in said


def test_a_second_time_changes_nothing_and_takes_what_came_for_it_away(host: Host) -> None:
    host.state()
    host.give()
    said = host.state()
    assert (said["result"], said["changes"]) == (True, {})
    assert (host.calls, host.secrets()) == (ORDER, [])


def test_in_test_mode_nothing_is_touched(host: Host) -> None:
    said = host.state(test=True)
    assert (said["result"], host.calls) == (None, [])
    assert host.secrets() != []


@pytest.mark.parametrize("phase", [phase for phase in ORDER if phase in WRITES])
def test_a_phase_that_was_cut_off_is_run_again_without_its_halves(host: Host, phase: str) -> None:
    """Nor does a key stay in memory meanwhile."""
    host.fails_at = phase
    said = host.state()
    assert said["result"] is False
    assert "[ERROR X]: no" in said["comment"]
    assert host.secrets() == []
    host.fails_at = ""
    host.give()
    host.calls.clear()
    assert host.state()["result"] is True
    # The token has gone with the join that failed: a kubelet without a certificate is started once more with another.
    begins = min(ORDER.index(phase), ORDER.index("kubelet-start"))
    assert host.calls == ORDER[begins:]


@pytest.mark.parametrize("is_left", [True, False])
def test_a_kubelet_without_a_certificate_gets_another_token(host: Host, *, is_left: bool) -> None:
    """It writes kubelet.conf when it starts, with a file that there is none of yet; its token is dead by then."""
    host.fails_at = "etcd-join"
    host.state()
    assert (host.root / "kubernetes/kubelet.conf").is_file()
    if is_left:  # the run was killed before it could take it away
        (host.root / "kubernetes/bootstrap-kubelet.conf").write_text("dead")
    host.fails_at = ""
    host.give()
    host.calls.clear()
    assert host.state()["result"] is True
    assert host.calls == ORDER[3:]


@pytest.mark.parametrize("phase", ["etcd-join", "control-plane-prepare control-plane"])
def test_a_kubelet_that_is_no_node_yet_starts_at_a_boot(host: Host, phase: str) -> None:
    """Etcd has two voters by then, perhaps: without the one that this kubelet starts there is no quorum."""
    host.fails_at = phase
    assert host.state()["result"] is False
    file = host.root / BOOTSTRAP
    expected = yaml.safe_load(bootstrap_file(user="{}"))
    assert (yaml.safe_load(file.read_text()), oct(file.stat().st_mode & 0o777)) == (expected, "0o600")
    assert host.secrets() == []
    assert host.state()["result"] is False  # nobody sent anything
    assert yaml.safe_load(file.read_text()) == expected


def test_it_starts_also_where_another_token_did_not_get_there(host: Host) -> None:
    host.fails_at = "etcd-join"
    host.state()
    host.give()
    host.fails_at = "preflight of kubelet-start"
    assert host.state()["result"] is False
    assert yaml.safe_load((host.root / BOOTSTRAP).read_text()) == yaml.safe_load(bootstrap_file(user="{}"))
    assert host.stops == 0


@pytest.mark.parametrize("text", ["", "users: [", "[]", "users: 7\n", "users: [x]\n"])
def test_a_torn_file_of_the_kubelet_goes(host: Host, text: str) -> None:
    """No kubelet starts with it, and nobody knows what is in it."""
    file = host.root / BOOTSTRAP
    file.parent.mkdir()
    file.write_text(f"{text}# {TOKEN}")
    host.module.forget_secrets()
    assert not file.exists()


@pytest.mark.parametrize("content", [None, ""])
def test_a_certificate_that_is_gone_or_torn_is_asked_for_again(host: Host, content: str | None) -> None:
    host.state()
    file = host.root / "kubelet-client-current.pem"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert host.module.pending() == ORDER[3:]


def test_what_a_phase_made_and_somebody_removed_is_made_again_with_all_after_it(host: Host) -> None:
    host.state()
    host.give()
    (host.root / "kubernetes/manifests/etcd.yaml").unlink()
    host.calls.clear()
    assert host.state()["result"] is True
    assert host.calls == ORDER[4:]


def test_the_keys_of_the_authorities_may_be_taken_away_again(host: Host) -> None:
    """They are what is given, not what a phase makes: without them it is a control plane all the same."""
    host.state()
    keys = [host.root / "kubernetes/pki" / name for name in KEYS if name.endswith("ca.key")]
    assert len(keys) == 3
    for key in keys:
        key.unlink()
    host.calls.clear()
    said = host.state()
    assert (said["result"], said["changes"], host.calls) == (True, {}, [])
    (host.root / "kubernetes/manifests/kube-scheduler.yaml").unlink()
    host.give()
    assert host.state()["result"] is True
    assert host.calls == ORDER[5:]
    assert all(key.is_file() for key in keys)


def test_a_kubelet_that_has_its_certificate_is_not_started_as_another(host: Host) -> None:
    """It is refused by kubeadm while its Node is Ready, and kubelet.conf would be gone."""
    host.state()
    conf = host.root / "kubernetes/kubelet.conf"
    conf.write_text("as it is")
    (host.root / "kubernetes/pki/apiserver.crt").unlink()
    host.give()
    host.calls.clear()
    assert host.state()["result"] is True
    assert host.calls == [phase for phase in ORDER[1:] if phase != "kubelet-start"]
    assert (conf.read_text(), host.stops) == ("as it is", 0)


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("cut_at", ["etcd-join", "control-plane-prepare control-plane", ""])
def test_the_data_of_a_removed_member_goes_and_no_other(host: Host, cut_at: str, *, is_fresh: bool) -> None:
    """Who sends the keys knows whether this host is a member of etcd still; it may have been all that it was before."""
    host.fails_at = cut_at
    host.state()
    host.fails_at = ""
    data = host.data()
    host.give()
    if is_fresh:
        (host.root / "run/fresh-etcd").touch()
    host.calls.clear()
    assert host.state()["result"] is True
    assert data.exists() is not is_fresh
    assert (host.stops, host.stopped) == ((1, ["etcd"]) if is_fresh else (0, []))
    if cut_at:
        assert host.calls == ORDER[3:]
    else:
        assert host.calls == (ORDER[4:] if is_fresh else [])


def test_a_member_that_joined_again_loses_nothing_when_that_is_cut_off(host: Host) -> None:
    """From then on it may be a member: neither the word that it is none nor the note that it has joined are left."""
    host.state()
    for phase in ("preflight of etcd-join", "etcd-join", "control-plane-prepare control-plane"):
        host.give()
        (host.root / "run/fresh-etcd").touch()
        host.data()
        host.fails_at = phase
        with host.killed():
            assert host.state()["result"] is False
        assert host.module.pending() == ORDER[4 if "etcd" in phase else 5 :]
        data = host.data()
        host.give()
        host.fails_at = ""
        host.calls.clear()
        assert host.state()["result"] is True
        assert host.calls == ORDER[4 if "etcd" in phase else 5 :]
        assert data.exists()


def test_data_that_cannot_be_removed_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Etcd would be added to the others, and not start with it."""
    data = host.data()
    (host.root / "run/fresh-etcd").touch()

    def refuse(place: Path, **_: Any) -> None:
        if place == host.root / "etcd/member":
            raise OSError("it is mounted")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    said = host.state()
    assert said["result"] is False
    assert "it is mounted" in said["comment"]
    assert (host.calls, data.exists()) == (ORDER[:4], True)
    assert (host.root / "run/fresh-etcd").exists()


def test_the_kubelet_that_a_cut_removal_has_stopped_is_started_for_etcd(host: Host) -> None:
    """It has its certificate, so kubeadm does not start it."""
    host.state()
    (host.root / "kubernetes/manifests/etcd.yaml").unlink()
    host.runs = False
    host.give()
    assert host.state()["result"] is True


def test_a_first_join_does_not_stop_the_kubelet_for_etcd(host: Host) -> None:
    (host.root / "run/fresh-etcd").touch()
    assert host.state()["result"] is True
    assert (host.calls, host.stops, host.stopped) == (ORDER, 0, [])


def test_without_the_keys_it_says_how_to_get_them(host: Host) -> None:
    (host.root / "run/pki/etcd/ca.key").unlink()
    said = host.state()
    assert (said["result"], host.calls) == (False, [])
    assert "run the same 'caisson node add' again" in said["comment"]


def test_keys_of_another_cluster_are_not_placed(host: Host) -> None:
    (host.root / "run/pki/ca.crt").write_text("another's")
    said = host.state()
    assert "not of this cluster" in said["comment"]
    assert not (host.root / "kubernetes/pki").exists()


def test_stamps_of_another_cluster_count_for_nothing(host: Host) -> None:
    host.state()
    vars(host.module)["__pillar__"]["caisson"]["cluster"]["ca_sha256"] = "0" * 64
    assert host.module.pending() == ORDER
