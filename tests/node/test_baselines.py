# SPDX-License-Identifier: Apache-2.0
"""Hosts of the other baselines that packages.yaml names: one without firewalld, tar and xz, one of an older release.

The older one is installed from a signed ISO whose key is pinned, after what reads keys and signatures was run on it
with the clock two years ahead. The tests run in the order written; each class has a lab of its own, so that only one
cluster is up at a time.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from build import iso, sign
from build import product as product_files
from build.plan import Workspace
from build.project import Project
from installer.dnf import HOST_PACKAGES
from installer.errors import MediaError
from lab import debs
from lab.node import CONFIGURATION_FILE, Lab, Node, bootstrap_config
from tests.node.installing import Ended, install, journal, lab_iso, start, wait_ready
from tests.unit.build.signers import signer

pytestmark = pytest.mark.lab

READY_S = 90.0
AHEAD = "+2y"
AHEAD_S = 2 * 365 * 86_400
FAKETIME_FILE = "/usr/local/lib/libfaketimeMT.so.1"
PRELOAD_FILES = ("/etc/ld.so.preload", "/etc/faketimerc")
GPGV = "cd /root/media; gpgv --status-fd 1 --keyring ./SHA256SUMS.gpg SHA256SUMS.asc SHA256SUMS"
MEASURED_CHECKS = {"CSN305"}
"""What depends on what else the machine's disk has to do."""


def shell(node: Node, script: str, *, check: bool = True, timeout_s: float = 60) -> str:
    """Run a script in the node; return what it printed."""
    return node.run(["bash", "-c", script], check=check, timeout_s=timeout_s).stdout


def packages(node: Node) -> set[str]:
    """Return name, version, release and architecture of each installed package."""
    return set(shell(node, "rpm -qa").split())


def has_changed(node: Node, phase: str) -> bool:
    """Tell whether a phase changed anything when it was last run to its end."""
    ends = [entry for entry in journal(node) if entry["phase"] == phase and entry["event"] == "done"]
    return bool(ends[-1]["changed"])


def is_reached(neighbour: Node, address: str, port: int) -> bool:
    """Tell whether a neighbour gets a connection."""
    script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null"
    return neighbour.run(["bash", "-c", script], check=False, timeout_s=10).returncode == 0


@dataclass(frozen=True)
class Installed:
    """A node on which ``bootstrap.sh`` ended well, and the packages that it had before."""

    lab: Lab
    node: Node
    ended: Ended
    packages_before: set[str]


@pytest.fixture(scope="class")
def host() -> Iterator[Installed]:
    """Return a node of el9.8-cloud after its bootstrap."""
    with Lab(profile="el9.8-cloud") as lab:
        node = lab.start_node("node1", iso=lab_iso())
        there = shell(node, "command -v firewall-cmd firewalld tar xz unxz xzcat", check=False)
        assert there == "", "the baseline lacks these programs"
        before = packages(node)
        assert not [name for name in before if re.match(r"(firewalld|python3-firewall|tar|xz)-\d", name)]
        yield Installed(lab, node, install(node), before)


@pytest.fixture(scope="class")
def advice(host: Installed) -> str:
    """Return the command that the warning of the bootstrap prints, to the letter."""
    found = re.search(
        r"^CSN405 +warning +.*firewalld is not installed -> (.*)$", host.ended.output, re.MULTILINE
    )
    assert found, host.ended.output[:4000]
    command = re.search(r"when the bootstrap has ended: (dnf .+), then run the bootstrap again$", found[1])
    assert command, found[1]
    return command[1]


@pytest.fixture(scope="class")
def neighbour(host: Installed) -> Node:
    """Return another node of the same networks."""
    return host.lab.start_node("node2")


class TestWithoutFirewalldTarAndXz:
    """As a cloud image comes. firewalld is not installed uninvited; how to have it is said, and works."""

    def test_it_ends_well_and_leaves_the_host_without_a_firewall(
        self, host: Installed, neighbour: Node
    ) -> None:
        assert wait_ready(host.node, READY_S) == []
        assert is_reached(neighbour, "10.77.1.11", 10256), "as the warning says, all ports are open"
        shell(host.node, "caisson status")
        after = packages(host.node)
        assert host.packages_before <= after, "a package of the host was changed"
        assert not [name for name in after if name.startswith("firewalld-")]
        assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()

    def test_tar_and_xz_are_there_and_come_from_the_iso(self, host: Installed) -> None:
        query = "dnf --config /etc/caisson/dnf/dnf.conf --noplugins repoquery --installed"
        known = shell(
            host.node, f"{query} --queryformat '%{{name}} %{{from_repo}}\\n' {' '.join(HOST_PACKAGES)}"
        )
        origins = dict(line.split() for line in known.splitlines() if line)
        assert origins.items() >= {"tar": "caisson", "xz": "caisson"}.items(), known
        round_trip = (
            "cd /tmp && tar --create --xz --file etc.tar.xz /etc/hosts && tar --list --file etc.tar.xz"
        )
        assert shell(host.node, round_trip).split()[-1] == "etc/hosts"

    def test_a_second_start_changes_nothing(self, host: Installed) -> None:
        assert "0 changes" in install(host.node).output.splitlines()[-1]

    def test_firewalld_is_installed_by_the_command_that_the_warning_prints(
        self, host: Installed, advice: str
    ) -> None:
        shell(host.node, advice, timeout_s=300)
        assert shell(host.node, "firewall-cmd --state").strip() == "running"
        assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()
        install(host.node)
        assert has_changed(host.node, "firewall")
        rules = shell(host.node, "firewall-cmd --permanent --zone=public --list-rich-rules")
        assert 'source address="10.77.1.0/24" port port="6443"' in rules
        report = json.loads(
            shell(host.node, f"/mnt/caisson/bootstrap.sh check --json --config {CONFIGURATION_FILE}")
        )
        (check,) = (check for check in report["checks"] if check["id"] == "CSN405")
        assert check["status"] == "passed"

    def test_a_neighbour_reaches_the_port_table_only_and_pods_are_ready(
        self, host: Installed, neighbour: Node
    ) -> None:
        assert wait_ready(host.node, READY_S) == []
        assert is_reached(neighbour, "10.77.1.11", 6443)
        assert is_reached(neighbour, "10.77.1.11", 8443)
        assert not is_reached(neighbour, "10.77.1.11", 10256)
        assert not is_reached(neighbour, "10.77.3.11", 10250)
        assert host.lab.switch.counts().packets == 0, host.lab.switch.counts()


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
            version=project.product.version,
            source_date_epoch=project.lock.source_date_epoch,
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
    still = shell(node, f"grep --files-with-matches {FAKETIME_FILE} /proc/[0-9]*/maps", check=False)
    assert still == "", "what was started meanwhile runs on, with the wrong clock"


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


@pytest.fixture(scope="class")
def lab() -> Iterator[Lab]:
    """Return a lab of nodes of the older release."""
    with Lab(profile="el9.6-minimal") as instance:
        yield instance


@pytest.fixture(scope="class")
def node(lab: Lab, signed: SignedIso) -> Node:
    """Return a fresh node that sees the signed ISO."""
    return lab.start_node("node1", iso=signed.iso)


@pytest.fixture(scope="class")
def packages_before(node: Node) -> set[str]:
    """Return the packages of the fresh node."""
    return packages(node)


class TestOlderReleaseFromASignedIso:
    """Its SELinux policy is too old for today's container-selinux; the ISO has an older build for it."""

    def test_a_wrong_fingerprint_is_refused(
        self, node: Node, packages_before: set[str], signed: SignedIso
    ) -> None:
        foreign = "0123456789ABCDEF0123456789ABCDEF01234567"
        ended = start(node, node.prepare_bootstrap(pinning(node, foreign)))
        assert ended.returncode == MediaError.exit_code, ended.output
        assert ended.phase == "verify-media"
        said = ended.output[ended.output.index("error: ") :]
        assert f"signed by: {signed.fingerprint}" in said
        assert f"pinned:    {foreign}" in said
        assert packages(node) == packages_before

    def test_keys_and_signatures_are_good_with_the_clock_two_years_ahead(
        self, node: Node, packages_before: set[str], signed: SignedIso
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

    def test_it_is_installed_and_selinux_policy_stays(
        self, node: Node, packages_before: set[str], signed: SignedIso
    ) -> None:
        ended = install(node, pinning(node, signed.fingerprint))
        assert f"the media is signed by the pinned key {signed.fingerprint}" in ended.output
        after = packages(node)
        assert packages_before <= after, "a package of the host was changed"
        assert {name for name in after if name.startswith(("container-selinux", "selinux-policy-3"))} == {
            "container-selinux-2.235.0-1.el9_6.noarch",
            "selinux-policy-38.1.53-5.el9.noarch",
        }
        assert 'VERSION_ID="9.6"' in node.read_file("/etc/os-release")
        assert wait_ready(node, READY_S) == []
