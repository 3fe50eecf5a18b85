# SPDX-License-Identifier: Apache-2.0
"""The pure parts of Salt's execution modules: what they make of the pillar and of upstream's texts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

MODULES_DIR = Path(__file__).parents[3] / "salt" / "_modules"


def load(name: str, directory: Path = MODULES_DIR) -> ModuleType:
    """Import one module by its file, as Salt's loader does."""
    spec = importlib.util.spec_from_file_location(name, directory / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installer() -> Any:
    """Return the module by which states reach the installer, which is that of this tree."""
    module: Any = load("caisson_installer")
    module.__dict__["__pillar__"] = {"caisson": {"self_dir": str(Path(__file__).parents[3])}}
    return module


@pytest.fixture
def caisson() -> dict[str, Any]:
    """Return a pillar as the installer writes it."""
    return {
        "cluster": {"name": "lab", "endpoint": "api.lab.internal"},
        "networks": {"pods": "10.233.0.0/16", "services": "10.96.0.0/12", "vip": "10.77.1.100"},
        "api_server": {"extra_sans": ["k8s.example.com"]},
        "node": {"name": "node1", "control_plane_address": "10.77.1.11"},
        "versions": {"kubernetes": "1.36.4"},
        "overrides": {
            "kubelet": {"cgroupDriver": "cgroupfs"},
            "kube_proxy": {},
            "kubeadm_patches": {"etcd0+merge.yaml": "x"},
            "ignore_preflights": [{"id": "SystemVerification", "reason": "control groups v1"}],
        },
    }


def test_kubeadm_configuration_names_the_version_the_endpoint_and_nothing_by_all(
    caisson: dict[str, Any],
) -> None:
    init, cluster, kubelet, proxy = load("caisson_kubeadm").configuration(caisson)
    assert cluster["kubernetesVersion"] == "v1.36.4"
    assert cluster["certificateValidityPeriod"] == "43800h0m0s"
    assert cluster["controlPlaneEndpoint"] == "api.lab.internal:6443"
    assert cluster["apiServer"] == {"certSANs": ["k8s.example.com", "10.77.1.100"]}
    assert init["nodeRegistration"]["ignorePreflightErrors"] == [
        "DirAvailable--var-lib-etcd",
        "Firewalld",
        "SystemVerification",
    ]
    assert init["nodeRegistration"]["imagePullPolicy"] == "IfNotPresent"
    assert kubelet["cgroupDriver"] == "cgroupfs"
    assert proxy["mode"] == "nftables"


def test_the_standalone_kubelet_keeps_what_the_later_one_has(caisson: dict[str, Any]) -> None:
    module = load("caisson_kubeadm")
    standalone = module.standalone_kubelet(caisson)
    later = module.configuration(caisson)[2]
    assert standalone["cgroupDriver"] == later["cgroupDriver"] == "cgroupfs"
    assert standalone["enableServer"] is False


def test_patches_bind_api_server_and_kubelet_to_the_control_plane(caisson: dict[str, Any]) -> None:
    caisson["networks"]["vip"] = None
    files = load("caisson_kubeadm").patches(caisson)
    assert json.loads(files["kube-apiserver0+json.json"])[0]["value"] == "--bind-address=10.77.1.11"
    assert json.loads(files["kubeletconfiguration0+strategic.json"]) == {"address": "10.77.1.11"}
    assert files["etcd0+merge.yaml"] == "x"


def test_with_a_virtual_address_the_api_server_listens_on_every_address(caisson: dict[str, Any]) -> None:
    """Bound to the node's own, it would refuse who asks at the virtual one."""
    files = load("caisson_kubeadm").patches(caisson)
    assert caisson["networks"]["vip"]
    assert not [name for name in files if name.startswith("kube-apiserver")]
    assert "kubeletconfiguration0+strategic.json" in files


COREFILE = """.:53 {
    errors
    health {
       lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_corefile_without_a_nameserver_has_no_forward() -> None:
    text = load("caisson_kubernetes").corefile(COREFILE, [])
    gone = [line for line in COREFILE.splitlines() if line not in text.splitlines()]
    assert gone == ["    forward . /etc/resolv.conf {", "       max_concurrent 1000", "    loop"]
    assert text.count("{") == text.count("}")


def test_corefile_with_a_nameserver_loses_loop_only_and_is_stable() -> None:
    module = load("caisson_kubernetes")
    text = module.corefile(COREFILE, ["192.0.2.53"])
    assert text == COREFILE.replace("    loop\n", "")
    assert module.corefile(text, ["192.0.2.53"]) == text


SITE_BLOCKS = """corp.example:53 {
    # a loop {
    forward . 10.9.9.9 {
       max_concurrent 10
    }
    loop
    cache
}
lab.example { forward . 10.9.9.8 }
(shared) {
    loop
}
"""


@pytest.mark.parametrize("nameservers", [[], ["192.0.2.53"]])
@pytest.mark.parametrize(("before", "after"), [("", SITE_BLOCKS), (SITE_BLOCKS, "")])
def test_corefile_keeps_what_the_site_has_added(before: str, after: str, nameservers: list[str]) -> None:
    module = load("caisson_kubernetes")
    text = module.corefile(before + COREFILE + after, nameservers)
    assert text == before + module.corefile(COREFILE, nameservers) + after
    assert module.corefile(text, nameservers) == text


@pytest.mark.parametrize(
    ("line", "nameservers", "is_kept"),
    [
        ("forward . 10.9.9.9", [], True),
        ("forward . 10.9.9.9 {\n       max_concurrent 1\n    }", [], True),
        ("forward corp.example /etc/resolv.conf", [], True),
        ("forward . /etc/resolv.conf.site", [], True),
        ("forward . /etc/resolv.conf", [], False),
        ("forward   .\t/etc/resolv.conf  # of the host", [], False),
        ("forward . /etc/resolv.conf { # of the host\n       except {$ZONE}\n    }", [], False),
        ("forward . /etc/resolv.conf", ["192.0.2.53"], True),
        ("loop # detect", ["192.0.2.53"], False),
        ("#loop", [], True),
    ],
)
def test_corefile_loses_whole_directives_and_no_others(
    line: str, nameservers: list[str], *, is_kept: bool
) -> None:
    around = ".:53 {{\n    errors\n{}    log {{\n       class loop\n    }}\n}}\n"
    text = around.format(f"    {line}\n")
    expected = text if is_kept else around.format("")
    assert load("caisson_kubernetes").corefile(text, nameservers) == expected


@pytest.mark.parametrize("names", [".:53 corp.example:53", ".:53, corp.example:53", "corp.example:53, .:53"])
def test_kubeadm_s_own_block_is_known_among_other_names(names: str) -> None:
    text = load("caisson_kubernetes").corefile(COREFILE.replace(".:53", names, 1), ["192.0.2.53"])
    assert text == COREFILE.replace(".:53", names, 1).replace("    loop\n", "")


MANIFEST = """---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: a.crd.projectcalico.org
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: calico-node
spec:
  template:
    spec:
      initContainers:
        - {name: upgrade-ipam, command: [/opt/cni/bin/calico-ipam, -upgrade]}
        - {name: install-cni, command: [/opt/cni/bin/install]}
      containers:
        - name: calico-node
          env:
            - {name: CALICO_IPV4POOL_VXLAN, value: CrossSubnet}
            - {name: FELIX_HEALTHENABLED, value: "true"}
          readinessProbe:
            exec: {command: [/bin/calico-node, -felix-ready]}
            periodSeconds: 10
            timeoutSeconds: 10
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: calico-kube-controllers
spec:
  template:
    spec:
      containers:
        - name: calico-kube-controllers
          readinessProbe:
            exec: {command: [/usr/bin/check-status, -r]}
            periodSeconds: 10
"""


def test_calico_manifest_is_patched_in_its_workloads_only() -> None:
    module = load("caisson_kubernetes")
    text = module.calico_manifest(MANIFEST, "10.233.0.0/16", ["10.77.2.0/24", "10.88.2.0/24"])
    definition, daemon_set, deployment = module.split_documents(text)
    assert module.is_definition(definition)
    assert definition in MANIFEST
    pod = yaml.safe_load(daemon_set)["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["install-cni"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["CALICO_IPV4POOL_VXLAN"] == "Always"
    assert environment["CALICO_IPV4POOL_CIDR"] == "10.233.0.0/16"
    assert environment["IP_AUTODETECTION_METHOD"] == "cidr=10.77.2.0/24,10.88.2.0/24"
    assert environment["FELIX_USAGEREPORTINGENABLED"] == "false"
    assert environment["FELIX_HEALTHENABLED"] == "true"
    (controllers,) = yaml.safe_load(deployment)["spec"]["template"]["spec"]["containers"]
    for patched in (container, controllers):
        assert patched["startupProbe"]["exec"] == patched["readinessProbe"]["exec"]
        assert patched["readinessProbe"]["periodSeconds"] == 10
        assert (patched["startupProbe"]["periodSeconds"], patched["startupProbe"]["failureThreshold"]) == (
            1,
            600,
        )


def test_a_startup_probe_of_upstreams_own_stays() -> None:
    manifest = MANIFEST.replace(
        "readinessProbe:", "startupProbe: {exec: {command: [own]}}\n          readinessProbe:"
    )
    text = load("caisson_kubernetes").calico_manifest(manifest, "10.233.0.0/16", [])
    assert text.count("- own") == 2
    assert "failureThreshold: 600" not in text


def test_a_manifest_without_the_workloads_is_refused() -> None:
    with pytest.raises(ValueError, match="no container calico-kube-controllers and no container calico-node"):
        load("caisson_kubernetes").calico_manifest("kind: List\n", "10.233.0.0/16", [])


def test_swap_lines_of_fstab() -> None:
    fstab = "# UUID=1 none swap sw 0 0\nUUID=2 none swap defaults 0 0\n/dev/sda1 / xfs defaults 0 0\n"
    assert load("caisson_host").swap_lines(fstab) == ["UUID=2 none swap defaults 0 0"]


def test_stamp_files_are_named_after_their_phase() -> None:
    assert load("caisson_kubeadm").stamp_file("control-plane all").name == "control-plane-all.json"
