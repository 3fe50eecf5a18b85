# SPDX-License-Identifier: Apache-2.0
"""What an operator sees after ``bootstrap.sh`` on an air-gapped node: real kubelet, containerd, Salt, nginx, etcd.

The tests run in the order written: those that reboot the node are last.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import kept
from lab.errors import LabError

from .conftest import Cluster
from .installing import install, is_reached, lab_iso, pods, repository_files

pytestmark = pytest.mark.lab

PORTS_FILE = Path(__file__).parents[2] / "salt" / "parameters" / "ports.yaml"
SYSTEM_PODS = {
    "etcd": 1,
    "kube-apiserver": 1,
    "kube-controller-manager": 1,
    "kube-scheduler": 1,
    "kube-proxy": 1,
    "coredns": 2,
    "calico-node": 1,
    "calico-kube-controllers": 1,
    "salt-master": 1,
    "nginx": 1,
    "registry": 1,
}
OBSERVED_S = 60.0
IMPORTED = ("pause", "salt-master", "nginx", "registry")


def pods_by_component(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """Return component -> pods of kube-system."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEM_PODS}
    for pod in cluster.kubectl("--namespace", "kube-system", "get", "pods")["items"]:
        matches = [
            name for name in SYSTEM_PODS if re.fullmatch(rf"{name}(-[a-z0-9]+)+", pod["metadata"]["name"])
        ]
        found[max(matches, key=len)].append(pod)
    return found


def faults_of(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return one line for each pod that is missing, not Ready, or restarted."""
    faults = [
        f"{name}: {len(found[name])} pods" for name, count in SYSTEM_PODS.items() if len(found[name]) != count
    ]
    for pod in (pod for group in found.values() for pod in group):
        conditions = {entry["type"]: entry["status"] for entry in pod["status"]["conditions"]}
        restarts = [entry["restartCount"] for entry in pod["status"]["containerStatuses"]]
        if conditions.get("Ready") != "True" or pod["status"]["phase"] != "Running" or any(restarts):
            faults.append(
                f"{pod['metadata']['name']}: {pod['status']['phase']} {conditions} restarts {restarts}"
            )
    return faults


def product_of(cluster: Cluster) -> dict[str, Any]:
    """Return product.json as the node sees it."""
    content: dict[str, Any] = json.loads(cluster.shell("cat /srv/caisson/*/product.json"))
    return content


def test_the_node_is_ready_with_the_version_of_the_media(cluster: Cluster) -> None:
    node = cluster.kubectl("get", "node", "node1")
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v" + product_of(cluster)["versions"]["kubernetes"]
    assert {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}["Ready"] == "True"


def test_every_system_pod_runs_and_is_ready(cluster: Cluster) -> None:
    assert faults_of(pods_by_component(cluster)) == []


def test_the_output_shows_phases_nodes_addresses_and_kubeconfig(cluster: Cluster) -> None:
    for words in (
        "control-plane",
        "verify-cluster",
        "/etc/kubernetes/admin.conf",
        "10.77.1.11",
        "LAB BUNDLE",
    ):
        assert words in cluster.output, words


def nginx_log(cluster: Cluster) -> str:
    return cluster.kubectl_text("logs", "--namespace", "kube-system", "nginx-node1")


def test_every_running_image_came_from_nginx_or_is_one_of_the_imported(cluster: Cluster) -> None:
    images = product_of(cluster)["images"]
    running = cluster.kubectl("get", "pods", "--all-namespaces")["items"]
    used = {entry["image"] for pod in running for entry in pod["spec"]["containers"]}
    used |= {entry["image"] for pod in running for entry in pod["spec"].get("initContainers", [])}
    imported = {images[name]["reference"] for name in IMPORTED}
    log = nginx_log(cluster)
    for reference in sorted(used - imported):
        registry, _, rest = reference.partition("/")
        name, _, tag = rest.rpartition(":")
        asked = rf'"(HEAD|GET) /v2/{re.escape(name)}/manifests/{re.escape(tag)}\?ns={re.escape(registry)} [^"]*" 200 '
        assert re.search(asked, log), f"{reference} was never asked of nginx"
    listed = json.loads(cluster.shell("crictl images --output json"))["images"]
    references = {reference for image in listed for reference in image["repoTags"]}
    assert used <= references
    assert references <= {image["reference"] for image in images.values()}


def test_every_image_of_a_system_pod_is_pinned(cluster: Cluster) -> None:
    listed = json.loads(cluster.shell("crictl images --output json"))["images"]
    assert [image["repoTags"] for image in listed if not image.get("pinned")] == []


def test_dnf_used_the_media_only_and_the_hosts_repositories_are_untouched(cluster: Cluster) -> None:
    logs = cluster.shell("cat /var/log/caisson/dnf/*.log")
    assert "file:///srv/caisson/" in logs
    assert not re.search(r"https?://", logs), re.findall(r"https?://\S+", logs)[:3]
    repositories = set(re.findall(r"repo: (?:downloading from remote|using cache for): (\S+)", logs))
    assert repositories <= {"caisson"}
    assert repository_files(cluster.node) == cluster.repository_files_before


def test_an_image_that_is_not_on_the_media_fails_fast_and_asks_nobody(cluster: Cluster) -> None:
    names_before = list(cluster.lab.switch.counts().dns_names)
    cluster.kubectl_text("run", "none", "--image=registry.example.com/none:1", "--restart=Never")
    deadline = time.monotonic() + 5
    reason = ""
    while time.monotonic() < deadline and reason not in ("ErrImagePull", "ImagePullBackOff"):
        statuses = cluster.kubectl("get", "pod", "none")["status"].get("containerStatuses", [])
        reason = statuses[0]["state"].get("waiting", {}).get("reason", "") if statuses else ""
        time.sleep(0.2)
    cluster.kubectl_text("delete", "pod", "none", "--now")
    assert reason in ("ErrImagePull", "ImagePullBackOff")
    assert re.search(
        r'/v2/none/manifests/1\?ns=registry\.example\.com [^"]*" 404 \d+ ns=registry\.example\.com',
        nginx_log(cluster),
    )
    assert list(cluster.lab.switch.counts().dns_names) == names_before


def test_listeners_are_those_of_the_port_table_bound_where_it_says(cluster: Cluster) -> None:
    addresses = {"control_plane": "10.77.1.11", "loopback": "127.0.0.1", "any": "0.0.0.0"}
    table = {
        (entry["protocol"], entry["port"]): entry for entry in yaml.safe_load(PORTS_FILE.read_text())["ports"]
    }
    seen: dict[tuple[str, int], set[str]] = {}
    for line in cluster.shell("ss --listening --numeric --tcp --udp --no-header").splitlines():
        protocol, _, _, _, local = line.split()[:5]
        address, _, port = local.rpartition(":")
        address = {"*": "0.0.0.0", "[::]": "0.0.0.0"}.get(address, address)
        seen.setdefault((protocol, int(port)), set()).add(address)
    for key, entry in table.items():
        bound = seen.get(key, set()) - ({"127.0.0.1"} if entry["bind"] == "control_plane" else set())
        assert bound == {addresses[entry["bind"]]}, f"{entry['name']} {key}: {seen.get(key)}"
    # Whatever else listens is the host's own, or on loopback.
    others = {key: where - {"127.0.0.1", "[::1]"} for key, where in seen.items() if key not in table}
    assert {key for key, where in others.items() if where} <= {("tcp", 22)}


def test_two_networks_each_plane_where_it_belongs(cluster: Cluster) -> None:
    addresses = cluster.kubectl("get", "node", "node1")["status"]["addresses"]
    assert [entry["address"] for entry in addresses if entry["type"] == "InternalIP"] == ["10.77.1.11"]
    sans = cluster.shell("openssl x509 -in /etc/kubernetes/pki/apiserver.crt -noout -ext subjectAltName")
    assert "IP Address:10.77.1.11" in sans
    assert "DNS:api.lab.internal" in sans
    assert "10.77.2.11" not in sans
    etcd = cluster.shell("cat /etc/kubernetes/manifests/etcd.yaml")
    assert "--listen-client-urls=https://127.0.0.1:2379,https://10.77.1.11:2379" in etcd
    tunnel = cluster.shell("ip -details link show vxlan.calico")
    assert "local 10.77.2.11 dev eth1" in tunnel
    assert "dstport 4789" in tunnel
    # A packet into the tunnel really leaves by the workload plane: a neighbour is made up on the far side.
    far = "10.233.254.1"
    cluster.shell(
        f"""
        sent() {{
          ip -json -stats link show eth1 |
            python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["stats64"]["tx"]["packets"])'
        }}
        bridge fdb append 02:00:00:00:00:01 dev vxlan.calico dst 10.77.2.99
        ip neigh replace {far} lladdr 02:00:00:00:00:01 dev vxlan.calico
        ip neigh replace 10.77.2.99 lladdr 02:00:00:00:00:02 dev eth1
        ip route replace {far}/32 dev vxlan.calico
        before=$(sent)
        ping -c 3 -W 1 {far} >/dev/null || true
        after=$(sent)
        ip route delete {far}/32
        bridge fdb delete 02:00:00:00:00:01 dev vxlan.calico dst 10.77.2.99
        ip neigh delete 10.77.2.99 dev eth1
        test $((after - before)) -ge 3
        """
    )


def test_first_cidrs_that_match_nothing_are_passed_over(cluster: Cluster) -> None:
    config = yaml.safe_load(cluster.shell("cat /etc/caisson/bootstrap.yaml"))
    local = [ipaddress.ip_address(text) for text in ("10.77.1.11", "10.77.2.11", "10.77.3.11")]
    for plane in ("controlPlane", "workloadPlane"):
        first, second = (ipaddress.ip_network(cidr) for cidr in config["networks"][plane]["cidrs"])
        assert not any(address in first for address in local)
        assert any(address in second for address in local)


def test_firewalld_is_on_and_a_neighbour_reaches_the_table_only(cluster: Cluster) -> None:
    assert cluster.shell("firewall-cmd --state").strip() == "running"
    rules = cluster.shell("firewall-cmd --permanent --policy=caisson-nodes --list-rich-rules")
    assert 'source address="10.77.1.0/24" port port="6443"' in rules
    assert "10.233." not in cluster.shell("firewall-cmd --permanent --zone=caisson-pods --list-all")
    neighbour = cluster.lab.start_node("node2")
    try:
        for address, port, wanted in [
            ("10.77.1.11", 6443, "open"),
            ("10.77.1.11", 8443, "open"),
            ("10.77.1.11", 4505, "open"),
            ("10.77.1.11", 10256, "closed"),
            ("10.77.2.11", 6443, "closed"),
            ("10.77.2.11", 10256, "closed"),
            ("10.77.3.11", 10256, "closed"),
        ]:
            seen = "open" if is_reached(neighbour, address, port) else "closed"
            assert seen == wanted, (address, port)
    finally:
        neighbour.remove()


def test_pods_reach_services_the_api_and_dns(cluster: Cluster) -> None:
    script = """
    id=$(crictl ps --quiet --state running --name '^coredns$' | sed -n 1p)
    pid=$(crictl inspect "$id" | python3 -c 'import json,sys; print(json.load(sys.stdin)["info"]["pid"])')
    in_pod() { nsenter --target "$pid" --net timeout 5 "$@"; }
    in_pod curl --silent --fail --output /dev/null http://10.96.0.10:9153/metrics
    in_pod curl --silent --fail --insecure https://10.96.0.1:443/livez
    """
    assert cluster.shell(script).strip() == "ok"


def test_nothing_left_the_node_since_boot(cluster: Cluster) -> None:
    counts = cluster.lab.switch.counts()
    assert (counts.packets, list(counts.dns_names)) == (0, []), counts


def test_the_counter_sees_a_packet_and_a_query(cluster: Cluster) -> None:
    cluster.lab.switch.reset()
    cluster.node.run(["ping", "-c", "1", "-W", "1", "203.0.113.1"], timeout_s=10, check=False)
    cluster.node.run(["getent", "ahostsv4", "proof.example.com"], timeout_s=30, check=False)
    counts = cluster.lab.switch.counts()
    assert counts.packets >= 1
    assert any("proof.example.com" in name for name in counts.dns_names)
    cluster.lab.switch.reset()


def test_a_second_run_changes_nothing(cluster: Cluster) -> None:
    places = "/etc/kubernetes /etc/caisson /etc/containerd /etc/salt /opt/caisson"
    manifests = f"find {places} -type f | sort | xargs sha256sum"
    before = cluster.shell(manifests), pods(cluster.node)
    output = install(cluster.node).output
    assert "0 changes" in output, output[-4000:]
    assert (cluster.shell(manifests), pods(cluster.node)) == before


def test_no_pod_restarted_or_was_made_anew_in_the_minute_after_ready(cluster: Cluster) -> None:
    time.sleep(max(0.0, cluster.ready_at + OBSERVED_S - time.monotonic()))
    assert faults_of(pods_by_component(cluster)) == []
    assert pods(cluster.node) == cluster.pods_when_ready


def wait_ready_again(cluster: Cluster, since: str, timeout_s: float) -> list[str]:
    """Wait until every system pod runs since ``since`` (UTC, RFC 3339) and is Ready; return what is not.

    What the API server remembers of the time before a reboot says Ready too: the start of each container decides.
    """
    deadline = time.monotonic() + timeout_s
    faults = ["nothing was asked yet"]
    while faults and time.monotonic() < deadline:
        time.sleep(1)
        try:
            found = pods_by_component(cluster)
        except LabError as error:  # the API server does not answer yet
            faults = [str(error)]
            continue
        faults = [
            f"{name}: {len(found[name])}" for name, count in SYSTEM_PODS.items() if len(found[name]) != count
        ]
        for pod in (pod for group in found.values() for pod in group):
            conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
            states = [entry["state"] for entry in pod["status"].get("containerStatuses", [])]
            started = [state.get("running", {}).get("startedAt", "") for state in states]
            if conditions.get("Ready") != "True" or not started or min(started) < since:
                faults.append(
                    f"{pod['metadata']['name']}: Ready {conditions.get('Ready')}, started {started}"
                )
    return faults


def moment(cluster: Cluster) -> str:
    """Return what the node's clock says (UTC, RFC 3339)."""
    return cluster.shell("date --utc +%Y-%m-%dT%H:%M:%SZ").strip()


def reboot(cluster: Cluster) -> str:
    """Reboot the node; return the moment before, as the node's clock says it."""
    since = moment(cluster)
    cluster.node.reboot()
    return since


def test_after_a_reboot_the_media_is_mounted_and_all_pods_are_ready(
    cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    """While it is off its disk is kept for other tests, unless there is such a one or a test has failed."""
    since = moment(cluster)
    may_be_kept = not request.session.testsfailed
    if may_be_kept and kept.keep_disk(cluster.lab, cluster.node, iso=lab_iso()):
        cluster.node.boot()
    else:
        cluster.node.reboot()
    assert wait_ready_again(cluster, since, 90) == []
    counts = cluster.lab.switch.counts()
    assert (counts.packets, list(counts.dns_names)) == (0, []), counts
    assert "product.json" in cluster.shell("ls /srv/caisson/*/")
    status = cluster.node.run(["caisson", "status"], timeout_s=60, check=False)
    assert status.returncode == 0, status.stdout + status.stderr


def test_without_the_media_the_cluster_is_up_and_status_says_what_is_missing(cluster: Cluster) -> None:
    cluster.node.detach_iso()
    since = reboot(cluster)
    assert wait_ready_again(cluster, since, 90) == []
    status = cluster.node.run(["caisson", "status"], timeout_s=60, check=False)
    assert status.returncode == 20, status.stdout + status.stderr
    assert "/srv/caisson/" in status.stdout + status.stderr
