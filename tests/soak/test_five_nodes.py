# SPDX-License-Identifier: Apache-2.0
"""Three control planes and two workers: they are what three nodes are, and any control plane may be lost."""

from __future__ import annotations

import json

import pytest

from tests.node.growing import BACK_TIMEOUT_S, Site, all_ready, running, until
from tests.node.installing import KUBECTL, shell
from tests.node.test_control_planes import (  # noqa: F401 - their tests, with the cluster of this directory
    test_a_second_time_changes_nothing,
    test_all_are_voters_and_their_pods_ready,
    test_etcd_is_open_to_control_planes_alone,
    test_every_node_finds_all_of_them,
    test_no_etcd_would_found_another_cluster,
    test_no_key_and_no_token_is_left,
    test_nothing_left_the_networks_of_the_lab,
    test_the_pods_are_as_the_first_one_s,
    voters,
)
from tests.node.test_node_add import (  # noqa: F401
    test_all_nodes_are_shown_and_each_is_asked,
    test_of_a_list_one_broken_host_stops_no_other,
    test_pods_of_all_nodes_answer_each_other,
)
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab

THREE_OF_FIVE = ("node1", "node2", "node3")
GAP_TIMEOUT_S = 60.0
NOT_READY_TIMEOUT_S = 120.0
#: A pod on the worker that nothing but its kubelet keeps alive.
WORKLOAD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: WORKER
  containers: [{name: pause, image: IMAGE}]
"""


def test_no_control_plane_joins_while_a_member_is_down(site: Site) -> None:
    """Nor is a key sent: etcd 3.6 before 3.6.11 would take the learner and not promote it."""
    manifest = "/etc/kubernetes/manifests/etcd.yaml"
    asked = "crictl ps -q --name '^etcd$'"
    node = site.nodes["node3"]
    shell(site.nodes["node2"], "rm /var/lib/caisson/kubeadm/join-control-plane-join-mark-control-plane.json")
    shell(node, f"mv {manifest} /root/")
    try:
        until(lambda: not shell(node, asked).strip(), GAP_TIMEOUT_S)
        done = site.driver.run(
            ["caisson", "node", "add", *site.words["node2"]], timeout_s=BACK_TIMEOUT_S, check=False
        )
        assert done.returncode != 0
        assert "member node3 of etcd does not answer" in done.stdout + done.stderr
        assert shell(site.nodes["node2"], "ls -d /run/caisson-join 2>/dev/null || true") == ""
    finally:
        shell(node, f"mv /root/etcd.yaml {manifest}")
    until(lambda: voters(site, "node3") == list(site.control_planes), BACK_TIMEOUT_S)
    until(site.is_whole, BACK_TIMEOUT_S)
    assert "succeeded" in site.add("node2")


def apply(site: Site, name: str, at: str) -> None:
    """Start a pod on the worker."""
    images = shell(site.worker, "crictl images --output json")
    tags = [tag for image in json.loads(images)["images"] for tag in image["repoTags"] if "/pause:" in tag]
    text = WORKLOAD.replace("NAME", name).replace("WORKER", site.worker_name).replace("IMAGE", tags[0])
    site.nodes[at].write_file(f"/root/{name}.yaml", text)
    site.nodes[at].run([*KUBECTL, "apply", "--filename", f"/root/{name}.yaml"], timeout_s=60)


def is_ready(site: Site, name: str, at: str) -> bool:
    """Tell whether a pod is Ready, as a control plane says."""
    conditions = site.kubectl("get", "pod", name, at=at)["status"]["conditions"]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def lose(site: Site, off: str) -> dict[str, float]:
    """Power a control plane off and on again; return how many seconds what took that others wait for."""
    at = next(name for name in site.control_planes if name != off)
    before, after = f"before-{off}", f"after-{off}"
    apply(site, before, at)
    # What is Ready was seen by its kubelet, which on a busy host may start a container a second time.
    until(lambda: is_ready(site, before, at), GAP_TIMEOUT_S)
    kept_id = running(site.worker, before)
    asked = "curl -sS --max-time 10 --cacert /etc/kubernetes/pki/ca.crt https://api.lab.internal:6443/livez"
    site.nodes[off].cut_power()
    took = {"kubectl": until(lambda: site.kubectl("get", "nodes", at=at), GAP_TIMEOUT_S)}
    took["by name"] = until(lambda: shell(site.worker, asked) == "ok", GAP_TIMEOUT_S)
    apply(site, after, at)
    took["pod"] = until(lambda: running(site.worker, after), GAP_TIMEOUT_S)
    until(lambda: site.ready(at) == {**all_ready(*site.names), off: "Unknown"}, NOT_READY_TIMEOUT_S)
    assert running(site.worker, before) == kept_id
    site.nodes[off].boot()
    took["Ready again"] = until(lambda: site.ready(at) == all_ready(*site.names), BACK_TIMEOUT_S)
    until(lambda: voters(site, off) == list(site.control_planes), BACK_TIMEOUT_S)
    site.nodes[at].run([*KUBECTL, "delete", "pod", before, after, "--grace-period=1"], timeout_s=60)
    return took


@pytest.mark.parametrize("off", THREE_OF_FIVE)
def test_any_control_plane_may_be_powered_off(off: str, site: Site, record: Record) -> None:
    took = lose(site, off)
    record(
        f"{off} of three control planes powered off",
        ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()),
    )
