# SPDX-License-Identifier: Apache-2.0
"""A node that something befell: what ``caisson status`` says of it, and the commands of the guide for that night.

Each test does one thing to the node and puts it back; the commands are those of the page, as they stand there.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.operations import status as operation
from lab.node import Node
from tests import pages

from .installing import shell, wait_ready

pytestmark = pytest.mark.lab

PAGE = Path(__file__).parents[2] / "docs/how-to/when-something-is-wrong.md"
SCHEMA = json.loads(Path(operation.__file__).with_name("status.schema.json").read_text(encoding="utf-8"))
#: Beside other nodes on a busy machine, Python itself takes its time to start and to end.
LIMIT_S = 20.0
VALUES = {
    "CLUSTERNAME": "lab",
    "ADDRESS": "10.77.1.11",
    "NODE": "node1",
    "NAME:TAG": "registry.example.com/site/app:1",
    "3fa9c1": "$(ls /var/lib/caisson/jobs | tail -n 1)",
}


@pytest.fixture(scope="module")
def node(whole: Node) -> Node:
    """Return the shared node; each test leaves it well."""
    return whole


TYPED: set[str] = set()


def typed(node: Node, *commands: str, timeout_s: float = 60) -> str:
    """Type commands of the page, in one shell, with the words that it leaves to its reader; return what they print."""
    written = [command.text for command in pages.commands(PAGE)]
    assert [command for command in commands if command not in written] == []
    TYPED.update(commands)
    script = "\n".join(("set -e", "cd /root", *commands))
    for word, value in VALUES.items():
        script = script.replace(word, value)
    return shell(node, script, timeout_s=timeout_s)


def status(node: Node) -> dict[str, Any]:
    """Return what ``caisson status --json`` says, which must come in time and fit the schema."""
    began = time.monotonic()
    done = node.run(["caisson", "status", "--json"], check=False, timeout_s=60)
    assert time.monotonic() - began < LIMIT_S
    state: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft7Validator(SCHEMA).validate(state)
    assert state["exit_code"] == done.returncode
    return state


def wait_well(node: Node, timeout_s: float = 150) -> list[str]:
    """Wait until nothing is wrong any more; return what is."""
    ends_at = time.monotonic() + timeout_s
    while (state := status(node))["exit_code"] and time.monotonic() < ends_at:
        time.sleep(2)
    return [*state["faults"], *([state["media"]["missing"]] if state["media"]["missing"] else [])]


@contextlib.contextmanager
def befallen(node: Node, doing: str, undoing: str) -> Iterator[dict[str, Any]]:
    """Yield the state of a node to which something was done; afterwards it must be well again."""
    shell(node, doing)
    try:
        yield status(node)
    finally:
        shell(node, undoing)
    assert wait_well(node) == []


def test_a_node_that_is_well(node: Node) -> None:
    assert wait_well(node) == []
    state = status(node)
    assert state["firewall"] == "active, with Caisson's policies"
    asks_for_a_password = ["HTTP 401"] * 2
    assert [one["answer"] for one in state["endpoints"]] == ["HTTP 200"] * 2 + asks_for_a_password
    assert [member["name"] for member in state["etcd"]["members"]] == ["node1"]
    assert state["etcd"]["version"].startswith("3.6.")
    assert "12 pods, all Ready" in typed(node, "caisson status")


def test_containerd_is_down(node: Node) -> None:
    with befallen(node, "systemctl stop containerd", "systemctl start containerd") as state:
        assert state["faults"][:2] == ["containerd.service is inactive", "containerd does not answer"]
        assert state["fixes"][0].startswith("see 'journalctl -u containerd")
        assert state["etcd"]["alarms"] == [], "etcd was asked without containerd"


def test_the_api_hangs(node: Node) -> None:
    with befallen(node, "pkill -STOP kube-apiserver", "pkill -CONT kube-apiserver") as state:
        assert "the Kubernetes API does not answer" in state["faults"]
        assert {pod["name"] for pod in state["static_pods"] if pod["is_running"]} >= {"etcd", "nginx"}
        assert "crictl ps -a" in " ".join(state["fixes"])


def test_etcd_hangs(node: Node) -> None:
    with befallen(node, "pkill -STOP -x etcd", "pkill -CONT -x etcd") as state:
        assert "etcd does not answer at 127.0.0.1:2379" in " ".join(state["faults"])


def test_the_registry_is_gone(node: Node) -> None:
    manifest = "/etc/kubernetes/manifests/registry.yaml"
    away = f"mv {manifest} /root/; until ! crictl ps --name '^registry$' --quiet | grep .; do sleep 1; done"
    with befallen(node, away, f"mv /root/registry.yaml {manifest}") as state:
        found = {endpoint["name"]: endpoint["answer"] for endpoint in state["endpoints"]}
        assert found["packages"] == "HTTP 200"
        assert found["pushes of images"] == "HTTP 502 instead of 200"
        assert found["registry"].startswith("no answer")


def test_firewalld_is_stopped_and_runs_without_our_policies(node: Node) -> None:
    with befallen(node, "systemctl stop firewalld", "systemctl start firewalld") as state:
        (fault,) = state["faults"]
        assert fault.startswith("firewalld is installed, but inactive")
    policy = "/etc/firewalld/policies/caisson-nodes.xml"
    away = f"mv {policy} /root/; firewall-cmd --reload"
    with befallen(node, away, f"mv /root/caisson-nodes.xml {policy}; firewall-cmd --reload") as state:
        assert state["faults"] == ["firewalld runs without Caisson's caisson-nodes"]
        assert state["fixes"] == ["run 'caisson bootstrap' again"]


def test_a_minion_that_does_not_answer(node: Node) -> None:
    stop = "systemctl kill --signal={} salt-minion"
    with befallen(node, stop.format("STOP"), stop.format("CONT")) as state:
        assert state["salt"] != "node1 answers its master"


def test_a_disk_that_fills(node: Node) -> None:
    fill = "fallocate --length $(( $(df --output=avail -B1M / | tail -1) - 1000 ))M /root/fill"
    with befallen(node, fill, "rm /root/fill") as state:
        assert "/ has 4 % free" in state["faults"][0]
        assert state["disks"][0]["free_percent"] < 5
    shown = typed(node, "df -h / /var /var/lib/etcd /var/lib/containerd", "du -xhd1 /var | sort -h")
    assert "/var/lib" in shown
    shell(node, "touch /var/log/caisson/salt.log.1")
    before = shell(node, "crictl images --quiet | sort")
    typed(
        node,
        "journalctl --vacuum-size=200M",
        "crictl rmi --prune",
        "find /var/log/caisson -name '*.log.[0-9]*' -delete",
        "dnf clean all",
    )
    assert shell(node, "crictl images --quiet | sort") == before
    assert shell(node, "ls /var/log/caisson/*.log.[0-9]* 2>/dev/null", check=False) == ""
    assert wait_ready(node, 90) == []


def test_kubectl_without_a_word_about_the_cluster(node: Node) -> None:
    shown = typed(
        node, "mkdir -p ~/.kube", "ln -sfn /etc/kubernetes/admin.conf ~/.kube/config", "kubectl get nodes"
    )
    assert "node1" in shown


def test_where_to_look(node: Node) -> None:
    shown = typed(
        node,
        "crictl ps -a",
        "crictl logs --tail 20 $(crictl ps -aq --label io.kubernetes.pod.namespace=kube-system "
        "--name '^kube-apiserver$' | head -1)",
        "journalctl -u kubelet -n 50 --no-pager",
        "systemctl is-active containerd kubelet",
        "kubectl describe node",
        "getent hosts api.CLUSTERNAME.internal",
        "swapon --show",
        "date --utc",
        "timedatectl",
    )
    for words in ("kube-apiserver", "active\nactive", "KubeletReady", "10.77.1.11", "Universal time"):
        assert words in shown, words


def test_what_was_asked_of_the_host(node: Node) -> None:
    shown = typed(node, "caisson jobs", "caisson job 3fa9c1", "caisson job 3fa9c1 --follow")
    for words in ("-bootstrap-", "succeeded", "verify-cluster", "phases in"):
        assert words in shown, words


def test_an_archive_for_support(node: Node) -> None:
    assert "without keys, tokens and passwords" in typed(node, "caisson report", timeout_s=180)
    listed = shell(node, "tar --list --file /root/caisson-report-node1-*.tar.gz")
    for name in ("status.json", "check.json", "commands/pods.txt", "files/var/log/caisson/bootstrap.log"):
        assert name in listed, name
    content = shell(node, "tar --extract --to-stdout --file /root/caisson-report-node1-*.tar.gz")
    assert "PRIVATE KEY" not in content
    token = shell(node, "kubeadm token list --output=jsonpath='{.token}'", check=False).strip()
    assert not token or token not in content


ETCD = "$(crictl ps -q --label io.kubernetes.pod.namespace=kube-system --name '^etcd$')"
KEYS_DIR = "/etc/kubernetes/pki/etcd"


def test_etcd_is_full(node: Node) -> None:
    """Old revisions of one object fill it; the alarm is raised by etcd's own call, as the quota is too far away."""
    keys = f"--cacert={KEYS_DIR}/ca.crt --cert={KEYS_DIR}/server.crt --key={KEYS_DIR}/server.key"
    shell(
        node,
        f"""set -e; etcd={ETCD}
        for number in $(seq 20); do
          head -c 700000 /dev/urandom | base64 --wrap=0 |
            crictl exec -i $etcd etcdctl {keys} put /filled > /dev/null
        done
        crictl exec $etcd etcdctl {keys} del /filled""",
    )
    raised = '{"action": "ACTIVATE", "alarm": "NOSPACE"}'
    keys = f"--cacert {KEYS_DIR}/ca.crt --cert {KEYS_DIR}/server.crt --key {KEYS_DIR}/server.key"
    shell(node, f"curl --fail {keys} --data '{raised}' https://127.0.0.1:2379/v3/maintenance/alarm")
    full = status(node)
    assert "etcd has raised the alarm NOSPACE" in full["faults"]
    assert "database space exceeded" in shell(node, "kubectl create namespace full 2>&1", check=False)
    shown = typed(
        node,
        "etcd=$(crictl ps -q --label io.kubernetes.pod.namespace=kube-system --name '^etcd$' | head -1)",
        'keys="--command-timeout=5m --cacert=/etc/kubernetes/pki/etcd/ca.crt '
        '--cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key"',
        "revision=$(crictl exec $etcd etcdctl $keys endpoint status -w json "
        "| grep -o '\"revision\":[0-9]*' | cut -d : -f 2)",
        "crictl exec $etcd etcdctl $keys compact --physical $revision",
        "crictl exec $etcd etcdctl $keys defrag",
        "crictl exec $etcd etcdctl $keys alarm disarm",
    )
    assert "Finished defragmenting etcd" in shown
    assert wait_well(node) == []
    assert full["etcd"]["size_bytes"] - status(node)["etcd"]["size_bytes"] > 15_000_000
    shell(node, "kubectl create namespace full && kubectl delete namespace full", timeout_s=120)


def test_certificates_are_renewed(node: Node) -> None:
    """With an API that does not answer, as past their end; and the kubelet gets one that cannot renew its own."""
    serial = "openssl x509 -noout -serial -in /etc/kubernetes/pki/apiserver.crt"
    served = "echo | openssl s_client -connect 10.77.1.11:6443 2>/dev/null | openssl x509 -noout -serial"
    before = shell(node, serial)
    assert "apiserver" in typed(node, "kubeadm certs check-expiration")
    shell(node, "pkill -STOP kube-apiserver")
    typed(
        node,
        "kubeadm certs renew all --config /etc/caisson/kubeadm/init.yaml",
        "crictl stop --timeout 30 $(crictl ps -q --label io.kubernetes.pod.namespace=kube-system "
        "--name '^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$')",
        timeout_s=120,
    )
    for file in ("apiserver.crt", "etcd/server.crt"):
        shell(node, f"openssl x509 -noout -checkend $((4 * 365 * 86400)) -in /etc/kubernetes/pki/{file}")
    assert wait_well(node) == []
    assert before != shell(node, serial) == shell(node, served)
    shell(
        node,
        "systemctl stop kubelet; rm /var/lib/kubelet/pki/kubelet-client-*; rm /etc/kubernetes/kubelet.conf",
    )
    typed(
        node,
        "(umask 077; kubeadm kubeconfig user --config /etc/caisson/kubeadm/init.yaml --org system:nodes "
        "--client-name system:node:NODE > /etc/kubernetes/kubelet.conf.new) "
        "&& mv /etc/kubernetes/kubelet.conf.new /etc/kubernetes/kubelet.conf",
        "systemctl restart kubelet",
    )
    left = shell(node, "stat --format '%a %n' /etc/kubernetes/kubelet.conf* /root/kubelet.conf", check=False)
    assert left == "600 /etc/kubernetes/kubelet.conf\n"
    assert wait_well(node) == []
    assert wait_ready(node, 90) == []


def test_an_image_is_brought_to_the_cluster(node: Node) -> None:
    reference = VALUES["NAME:TAG"]
    ctr = "ctr --namespace k8s.io images"
    shell(
        node,
        f"""set -e; cd /root
        {ctr} tag registry.k8s.io/pause:3.10.2 {reference}
        {ctr} export --local --platform linux/amd64 app.tar {reference}
        {ctr} rm {reference}""",
    )
    shown = typed(
        node,
        "caisson images push app.tar --as ADDRESS:8444/site/app:1",
        "caisson images list",
    )
    assert "10.77.1.11:8444/site/app:1" in shown
    shell(node, "kubectl run app --image=10.77.1.11:8444/site/app:1")
    shell(node, "kubectl wait --for=condition=Ready --timeout=60s pod/app", timeout_s=90)
    shell(node, "kubectl delete pod app --now")


def test_the_iso_was_moved_and_deleted(node: Node) -> None:
    """On a copy of the ISO, which may be moved; the lab's own is read-only."""
    (unit,) = shell(node, "ls /etc/systemd/system | grep '^srv-caisson-.*mount$'").split()
    file = "/var/lib/caisson-copy/the.iso"
    shell(
        node,
        f"""set -e
        mkdir -p /var/lib/caisson-copy; cp /var/lib/caisson-media/*.iso {file}
        cp '/etc/systemd/system/{unit}' /root/unit
        sed -i -e 's|^What=.*|What={file}|' -e 's|^ConditionPathExists=.*|ConditionPathExists={file}|' \
          '/etc/systemd/system/{unit}'
        systemctl daemon-reload; systemctl restart '{unit}'""",
        timeout_s=120,
    )
    with befallen(node, f"mv {file} /root/other.iso", f"mv /root/other.iso {file}") as state:
        assert state["exit_code"] == 20
        assert (
            state["media"]["missing"] == f"{file} is no longer there: the media is lost with the next reboot"
        )
        assert state["media"]["resolution"] == f"it was moved: mv /root/other.iso {file}"
    shown = typed(node, "losetup --list", "systemctl cat 'srv-caisson-*.mount'")
    assert f"What={file}" in shown
    shell(node, f"rm {file}")
    fix = status(node)["media"]["resolution"]
    assert fix.startswith("do not reboot; write it again from what is mounted: cp /dev/loop")
    shell(node, fix.partition(": ")[2], timeout_s=120)
    assert shell(node, f"cmp {file} /var/lib/caisson-media/*.iso && echo same") == "same\n"
    assert wait_well(node) == []
    shell(
        node, f"cp /root/unit '/etc/systemd/system/{unit}'; systemctl daemon-reload; systemctl stop '{unit}'"
    )
    assert status(node)["media"]["missing"].startswith("nothing is mounted at /srv/caisson/")
    typed(
        node,
        "systemctl start $(systemctl list-unit-files --no-legend 'srv-caisson-*.mount' | cut -d ' ' -f 1)",
    )
    assert wait_well(node) == []


def test_every_command_of_the_page_is_typed() -> None:
    """By the tests above, of which this one is the last."""
    assert {command.text for command in pages.commands(PAGE)} - TYPED == set()
