# SPDX-License-Identifier: Apache-2.0
"""A host as a site may have it: its own dnf slow, locked and cut off; its own authorities and names for the API.

None of it makes the bootstrap slower or different from that of the clean host of the other tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

from lab.errors import LabError
from lab.node import Lab, Node, bootstrap_config
from tests.authorities import make_authority

from .conftest import Cluster
from .installing import install, lab_iso, phase_seconds, repository_files

pytestmark = pytest.mark.lab

PLUGIN_SLEEP_S = 60
PLUGIN = f"""\
import time
import dnf

class Slow(dnf.Plugin):
    name = "slow"

    def __init__(self, base, cli):
        super().__init__(base, cli)
        time.sleep({PLUGIN_SLEEP_S})
"""
DEAD_MIRROR = """\
[dead]
name=a mirror that answers nobody
baseurl=http://203.0.113.99/el9/
enabled=1
gpgcheck=0
"""
MAKE_HOSTILE = """
echo 'exclude=containerd*' >> /etc/dnf/dnf.conf
echo 'plugins=1' >> /etc/dnf/dnf.conf
mkdir -p /etc/dnf/plugins
echo 'kubelet-0:1.30.1-1.*' > /etc/dnf/plugins/versionlock.list
printf '[main]\\nenabled=1\\n' > /etc/dnf/plugins/slow.conf
"""
# A phase that waits for one sleep of the plugin takes this much longer than on the clean node.
TOLERANCE_S = 45.0
INSTALLING_PHASES = ("install-minion", "container-runtime", "kubelet-standalone")
AUTHORITIES = """\
apiServer: {extraSans: [k8s.example.com, 203.0.113.7]}
authorities:
  services: {certificateFile: /root/services/ca.crt, keyFile: /root/services/ca.key}
  cluster: {certificateFile: /root/cluster/ca.crt, keyFile: /root/cluster/ca.key}
"""


@dataclass(frozen=True)
class Site:
    """A node that was bootstrapped, and what its own repository files were before."""

    node: Node
    output: str
    repository_files_before: str


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Start a node of a lab of its own and spoil its dnf."""
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        node.run(["bash", "-euc", MAKE_HOSTILE], timeout_s=30)
        plugins_dir = node.run(
            ["python3", "-c", "import dnf.const; print(dnf.const.PLUGINPATH)"], timeout_s=30
        ).stdout.strip()
        node.write_file(f"{plugins_dir}/slow.py", PLUGIN)
        node.write_file("/etc/yum.repos.d/dead.repo", DEAD_MIRROR)
        yield node


@pytest.fixture(scope="module")
def site(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Bootstrap it with the site's authorities; then take their files off the host."""
    for name in ("services", "cluster"):
        for file in make_authority(tmp_path_factory.mktemp(name)):
            node.write_file(f"/root/{name}/{file.name}", file.read_text(), 0o600)
    cidrs = "cidrs: [192.0.2.0/24, 10.77.1.0/24]"
    text = bootstrap_config(node.name).replace(cidrs, f"{cidrs}\n    vip: 10.77.1.200")
    before = repository_files(node)
    output = install(node, text + AUTHORITIES).output
    node.run(["bash", "-c", "cp /root/services/ca.crt /root/s.crt; cp /root/cluster/ca.crt /root/c.crt"])
    node.run(["rm", "-r", "/root/services", "/root/cluster"])
    return Site(node, output, before)


def test_the_hosts_own_dnf_is_as_bad_as_it_was_made(node: Node) -> None:
    """Or the tests below would prove nothing."""
    with pytest.raises(LabError, match="10 s"):
        node.run(["dnf", "repolist"], timeout_s=10)


def test_the_bootstrap_is_neither_slower_nor_different(site: Site, cluster: Cluster) -> None:
    """Compared with the shared cluster, whose node is clean."""
    took, clean = phase_seconds(site.node), phase_seconds(cluster.node)
    assert {name for name in INSTALLING_PHASES if took[name] > clean[name] + TOLERANCE_S} == set(), took
    assert "CSN409  warning" in site.output
    assert "/etc/dnf/dnf.conf excludes 'containerd*': not applied to containerd.io" in site.output
    assert "versionlock.list locks 'kubelet-0:1.30.1-1.*': not applied to kubelet" in site.output
    installed = "rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\\n' | sort"
    assert site.node.run(["bash", "-c", installed], timeout_s=60).stdout == cluster.shell(installed)
    assert repository_files(site.node) == site.repository_files_before


def certificate(node: Node, file: str) -> str:
    """Return a certificate as text."""
    return node.run(["openssl", "x509", "-noout", "-text", "-in", file], timeout_s=30).stdout


def test_the_cluster_is_signed_by_the_sites_authority(site: Site) -> None:
    pki = PurePosixPath("/etc/kubernetes/pki")
    assert site.node.read_file(pki / "ca.crt") == site.node.read_file("/root/c.crt")
    verified = ["openssl", "verify", "-CAfile", "/root/c.crt", f"{pki}/apiserver.crt"]
    assert site.node.run(verified, timeout_s=30).stdout.endswith(": OK\n")
    assert site.node.run(["stat", "-c", "%a", f"{pki}/ca.key"], timeout_s=30).stdout == "600\n"


def test_the_api_servers_certificate_has_the_names_and_addresses(site: Site) -> None:
    text = certificate(site.node, "/etc/kubernetes/pki/apiserver.crt")
    names = set(re.findall(r"(?:DNS|IP Address):([^,\s]+)", text))
    assert {"k8s.example.com", "203.0.113.7", "10.77.1.200", "api.lab.internal", "10.77.1.11"} <= names


def test_nginx_is_signed_by_the_sites_authority(site: Site) -> None:
    assert site.node.read_file("/etc/caisson/ca.crt") == site.node.read_file("/root/s.crt")
    asked = ["curl", "--silent", "--show-error", "--fail", "--cacert", "/root/s.crt"]
    site.node.run([*asked, "https://10.77.1.11:8443/", "--output", "/dev/null"], timeout_s=30)


def test_check_still_takes_the_configuration_when_the_files_are_gone(site: Site) -> None:
    done = site.node.run(["caisson", "config", "check"], timeout_s=60, check=False)
    assert done.returncode == 0, done.stderr
