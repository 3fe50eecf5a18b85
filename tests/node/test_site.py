# SPDX-License-Identifier: Apache-2.0
"""A host as a site may have it: an older release, a slow, locked and cut off dnf, authorities of its own, a signed ISO.

None of it makes the bootstrap slower or different from that of the clean host of the other tests. Before it, what
reads keys and signatures is run with the clock two years ahead. The tests run in the order written.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from build.base.plan import Workspace
from build.bundle import iso, sign
from build.bundle import product as product_files
from build.project import Project
from installer.base.errors import MediaError
from lab import debs
from lab.errors import LabError
from lab.node import CONFIGURATION_FILE, Lab, Node, bootstrap_config
from tests.authorities import make_authority
from tests.unit.build.signers import signer

from .conftest import Calm
from .installing import (
    Ended,
    install,
    journal,
    packages,
    phase_seconds,
    repository_files,
    shell,
    start,
    wait_ready,
)

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
#: What the older release has in other builds, and the package that the lock has in two for that reason.
OF_THE_RELEASE = {
    "almalinux-gpg-keys",
    "almalinux-release",
    "almalinux-repos",
    "container-selinux",
    "selinux-policy",
    "selinux-policy-targeted",
}
READY_S = 90.0
VIP = "10.77.1.200"
PODS = 13
"""Keepalived's is one of them: there is a virtual address."""
AHEAD = "+2y"
AHEAD_S = 2 * 365 * 86_400
FAKETIME_FILE = "/usr/local/lib/libfaketimeMT.so.1"
PRELOAD_FILES = ("/etc/ld.so.preload", "/etc/faketimerc")
GPGV = "cd /root/media; gpgv --status-fd 1 --keyring ./SHA256SUMS.gpg SHA256SUMS.asc SHA256SUMS"
MEASURED_CHECKS = {"CSN305"}
"""What depends on what else the machine's disk has to do."""


@dataclass(frozen=True)
class SignedIso:
    """The lab's ISO with a signature, and the fingerprint of the key that made it."""

    iso: Path
    fingerprint: str


@pytest.fixture(scope="module")
def signed(repository_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIso]:
    """Sign the checksums of the built lab ISO and assemble it again elsewhere, by the pipeline's own planners.

    Everything else is taken from where the build put it: a signed bundle has the same bytes, and two files more.
    The key ends within a year, as one does whose owner is careful.
    """
    project = Project(repository_dir, "lab")
    work_dir = tmp_path_factory.mktemp("signed")
    workspace = Workspace(work_dir, project.workspace.profile_name)
    with signer(work_dir, "release", expire="1y") as key, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(key.home_dir))
        sums_file = product_files.sums_file(project.workspace)
        sign.plan_signature(sums_file, key.fingerprint, workspace).run()
        iso.plan_iso(
            parts=(*project.parts(), product_files.part_file(project.workspace), sign.part_file(workspace)),
            sums_file=sums_file,
            proofs=(),
            iso_file=work_dir / project.iso_file.name,
            volume=project.product.volume_id,
            source_date_epoch=project.lock.source_date_epoch,
            store=project.store,
            store_files=(),
            workspace=workspace,
            signing_key=key.fingerprint,
        ).run()
        yield SignedIso(work_dir / project.iso_file.name, key.fingerprint)
    (work_dir / project.iso_file.name).unlink()


def pinning(node: Node, fingerprint: str) -> str:
    """Return the lab's configuration with a pinned key."""
    return f"{bootstrap_config(node.name)}media: {{signingKey: {fingerprint}}}\n"


@contextlib.contextmanager
def clock_ahead(node: Node) -> Iterator[None]:
    """Let every dynamically linked program that is started in the node see a clock that is two years ahead.

    The library is Debian's, as the node's user land is; it is named in /etc/ld.so.preload, because the installer
    gives its commands an environment of their own.
    """
    package = debs.unpack(["libfaketime"])["libfaketime"]
    node.copy_in(next(package.tree_dir.rglob(Path(FAKETIME_FILE).name)), FAKETIME_FILE, 0o755)
    preload_file, time_file = PRELOAD_FILES
    node.write_file(time_file, f"{AHEAD}\n")
    node.write_file(preload_file, f"{FAKETIME_FILE}\n")
    try:
        yield
    finally:
        node.run(["rm", "--force", *PRELOAD_FILES], timeout_s=60)
        shell(node, "rm --force /dev/shm/*faketime*")
    files = shell(node, f"grep --files-with-matches {FAKETIME_FILE} /proc/[0-9]*/maps", check=False).split()
    still = [node.read_file(f"{file.rpartition('/')[0]}/comm").strip() for file in files]
    assert still == [], "what was started meanwhile runs on, with the wrong clock"


def findings(node: Node) -> dict[str, tuple[str, list[str]]]:
    """Return code -> status and evidence of ``bootstrap.sh check``, for checks that found something or were skipped."""
    words = ["/mnt/caisson/bootstrap.sh", "check", "--json", "--config", CONFIGURATION_FILE]
    report = json.loads(node.run(words, check=False, timeout_s=120).stdout)
    assert len(report["checks"]) > 40, "all checks were run"
    return {
        check["id"]: (check["status"], check["evidence"])
        for check in report["checks"]
        if check["status"] != "passed" and check["id"] not in MEASURED_CHECKS
    }


@pytest.fixture(scope="module")
def node(signed: SignedIso) -> Iterator[Node]:
    """Start a node of the older release that sees the signed ISO, in a lab of its own, and spoil its dnf."""
    with Lab(profile="el9.6-minimal") as lab:
        node = lab.start_node("node1", iso=signed.iso)
        node.run(["bash", "-euc", MAKE_HOSTILE], timeout_s=30)
        plugins_dir = shell(node, "python3 -c 'import dnf.const; print(dnf.const.PLUGINPATH)'").strip()
        node.write_file(f"{plugins_dir}/slow.py", PLUGIN)
        node.write_file("/etc/yum.repos.d/dead.repo", DEAD_MIRROR)
        yield node


@pytest.fixture(scope="module")
def packages_before(node: Node) -> set[str]:
    """Return the packages of the fresh node."""
    return packages(node)


@dataclass(frozen=True)
class Site:
    """A node that was bootstrapped, and what its own repository files were before."""

    node: Node
    ended: Ended
    repository_files_before: str


@pytest.fixture(scope="module")
def site(node: Node, signed: SignedIso, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Bootstrap it with the site's authorities and the pinned key; then take the authorities' files off the host."""
    for name in ("services", "cluster"):
        for file in make_authority(tmp_path_factory.mktemp(name)):
            node.write_file(f"/root/{name}/{file.name}", file.read_text(), 0o600)
    cidrs = "cidrs: [192.0.2.0/24, 10.77.1.0/24]"
    text = pinning(node, signed.fingerprint).replace(cidrs, f"{cidrs}\n    vip: {VIP}")
    before = repository_files(node)
    ended = install(node, text + AUTHORITIES)
    shell(node, "cp /root/services/ca.crt /root/s.crt; cp /root/cluster/ca.crt /root/c.crt")
    shell(node, "rm -r /root/services /root/cluster")
    return Site(node, ended, before)


def test_the_hosts_own_dnf_is_as_bad_as_it_was_made(node: Node) -> None:
    """Or the tests below would prove nothing."""
    with pytest.raises(LabError, match="5 s"):
        node.run(["dnf", "repolist"], timeout_s=5)


def test_a_wrong_fingerprint_is_refused(node: Node, packages_before: set[str], signed: SignedIso) -> None:
    foreign = "0123456789ABCDEF0123456789ABCDEF01234567"
    ended = start(node, node.prepare_bootstrap(pinning(node, foreign)))
    assert ended.returncode == MediaError.exit_code, ended.output
    assert ended.phase == "verify-media"
    said = ended.output[ended.output.index("error: ") :]
    assert f"signed by: {signed.fingerprint}" in said
    assert f"pinned:    {foreign}" in said
    assert packages(node) == packages_before


def test_keys_and_signatures_are_good_with_the_clock_two_years_ahead(
    node: Node, packages_before: set[str], signed: SignedIso
) -> None:
    """The preflights with their trials by dnf, and the phase verify-media with gpgv and rpmkeys.

    Nodes share the kernel's clock, so a library tells the programs another one. Static programs (crictl, kubelet
    and most others in Go) do not see it: what they make of a wrong clock is not shown here. The media is a
    plain copy of its files, from which the next phase refuses to work before it has changed anything; nothing is
    pinned, so the fingerprint is shown. The signing key has ended by that clock.
    """
    command = node.prepare_bootstrap()
    calm = findings(node)
    shell(node, "cp --recursive /mnt/caisson /root/media", timeout_s=300)
    now = int(shell(node, "date +%s"))
    with clock_ahead(node):
        assert abs(int(shell(node, "date +%s")) - now - AHEAD_S) < 2 * 86_400
        assert "KEYEXPIRED" in shell(node, GPGV, check=False)
        ahead = findings(node)
        ended = start(node, ["/root/media/bootstrap.sh", *command[1:]])
    shell(node, "rm --recursive --force /root/media")
    assert ahead == calm
    assert not [code for code, (status, _) in ahead.items() if status in ("failed", "skipped")], ahead
    assert f"the media is signed by the key {signed.fingerprint}: compare this" in ended.output
    assert (ended.phase, ended.returncode) == ("mount-media", MediaError.exit_code), ended.output
    assert "/root/media is not a mounted ISO" in ended.output
    done = [entry["phase"] for entry in journal(node) if entry["event"] == "done"]
    assert done == ["verify-media"]
    assert packages(node) == packages_before


def test_it_is_installed_from_the_signed_iso_and_selinux_policy_stays(
    site: Site, packages_before: set[str], signed: SignedIso
) -> None:
    assert f"the media is signed by the pinned key {signed.fingerprint}" in site.ended.output
    after = packages(site.node)
    assert packages_before <= after, "a package of the host was changed"
    assert {name for name in after if name.startswith(("container-selinux", "selinux-policy-3"))} == {
        "container-selinux-2.235.0-1.el9_6.noarch",
        "selinux-policy-38.1.53-5.el9.noarch",
    }
    assert 'VERSION_ID="9.6"' in site.node.read_file("/etc/os-release")
    assert wait_ready(site.node, READY_S, PODS) == []


def test_the_bootstrap_is_neither_slower_nor_different(site: Site, calm: Calm) -> None:
    """Compared with the shared cluster, whose node is clean, and of the newer release."""
    took, clean = phase_seconds(site.node), calm.phase_seconds
    assert {name for name in INSTALLING_PHASES if took[name] > clean[name] + TOLERANCE_S} == set(), took
    assert "CSN409  warning" in site.ended.output
    assert "/etc/dnf/dnf.conf excludes 'containerd*': not applied to containerd.io" in site.ended.output
    assert "versionlock.list locks 'kubelet-0:1.30.1-1.*': not applied to kubelet" in site.ended.output
    differing = packages(site.node) ^ calm.packages
    assert {package.rsplit("-", 2)[0] for package in differing} == OF_THE_RELEASE
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
    assert {"k8s.example.com", "203.0.113.7", VIP, "api.lab.internal", "10.77.1.11"} <= names


def test_the_virtual_address_is_held_from_the_beginning(site: Site) -> None:
    assert f"https://api.lab.internal:6443 ({VIP})" in site.ended.output
    assert f" {VIP}/" in shell(site.node, "ip -4 -oneline address show dev eth0")
    ready = f"curl --silent --cacert /etc/kubernetes/pki/ca.crt https://{VIP}:6443/readyz"
    assert shell(site.node, ready).strip() == "ok"


def test_nginx_is_signed_by_the_sites_authority(site: Site) -> None:
    assert site.node.read_file("/etc/caisson/ca.crt") == site.node.read_file("/root/s.crt")
    asked = ["curl", "--silent", "--show-error", "--fail", "--cacert", "/root/s.crt"]
    site.node.run([*asked, "https://10.77.1.11:8443/", "--output", "/dev/null"], timeout_s=30)


def test_check_still_takes_the_configuration_when_the_files_are_gone(site: Site) -> None:
    done = site.node.run(["caisson", "config", "check"], timeout_s=60, check=False)
    assert done.returncode == 0, done.stderr
