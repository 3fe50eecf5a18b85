# SPDX-License-Identifier: Apache-2.0
"""The lab's own promises, on real nodes: hosts like EL9, three networks, a switch that sees, no traces.

Everything else that is tested on nodes stands on these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cleanup
from lab.errors import CommandError, LabError
from lab.node import Lab, Node
from lab.root import UNWANTED_PROGRAMS, find_python
from lab.run import run
from lab.switch import OUTSIDE

pytestmark = pytest.mark.lab

BOOT_S = 60.0
"""Alone it takes a few seconds; two more labs may be at work."""


def shell(node: Node, script: str, *, check: bool = True, timeout_s: float = 60) -> str:
    """Run a script in the node; return what it printed, without the last newline."""
    return node.run(["bash", "-c", script], check=check, timeout_s=timeout_s).stdout.rstrip("\n")


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small ISO with an executable file and a large one."""
    work_dir = tmp_path_factory.mktemp("iso")
    tree = work_dir / "tree"
    tree.mkdir()
    (tree / "hello.sh").write_text("#!/bin/bash\necho hello from the ISO\n")
    (tree / "hello.sh").chmod(0o755)
    (tree / "large").write_bytes(os.urandom(1 << 20) * 32)
    run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "CAISSON_TEST", "-o", work_dir / "test.iso", tree]
    )
    return work_dir / "test.iso"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab of this module's own; at its end nothing of it is left."""
    with Lab() as instance:
        yield instance
    assert cleanup.leftovers(instance.name) == []


@pytest.fixture(scope="module")
def first(lab: Lab, iso: Path) -> Node:
    """Return a node with an ISO."""
    return lab.start_node("node1", iso=iso)


@pytest.fixture(scope="module")
def second(lab: Lab, first: Node) -> Node:
    """Return a second node, without a nameserver."""
    return lab.start_node("node2", nameserver=None)


def test_a_node_is_up_soon_and_everything_in_it_runs(first: Node) -> None:
    assert first.boot_s < BOOT_S
    assert shell(first, "systemctl is-system-running") == "running"
    assert shell(first, "systemctl is-active firewalld sshd dbus").split() == ["active"] * 3
    assert shell(first, "firewall-cmd --state; firewall-cmd --get-default-zone").split() == [
        "running",
        "public",
    ]
    assert "FirewallBackend=nftables" in first.read_file("/etc/firewalld/firewalld.conf").splitlines()
    assert "table inet firewalld" in shell(first, "nft list tables")


def test_it_looks_like_el9(first: Node) -> None:
    os_release = first.read_file("/etc/os-release")
    assert 'ID="almalinux"' in os_release
    assert "stand-in" in os_release
    assert shell(first, "hostname") == "node1"
    assert shell(first, "getent ahostsv4 node1").split()[0] == "10.77.1.11"
    version = shell(first, "/usr/libexec/platform-python -c 'import sys; print(sys.version_info[:2])'")
    assert version == "(3, 9)" or find_python() is None
    assert shell(first, "findmnt --noheadings --output FSTYPE /") == "xfs"


def test_nothing_is_there_that_the_iso_must_bring(first: Node) -> None:
    found = shell(first, f"for name in {' '.join(UNWANTED_PROGRAMS)}; do command -v $name; done", check=False)
    assert found == ""


def test_the_rpm_database_knows_the_baseline_and_nothing_else(first: Node) -> None:
    names = shell(first, "rpm -qa --queryformat '%{NAME}\\n'").splitlines()
    assert {"almalinux-release", "systemd", "firewalld", "bash", "dnf"} <= set(names)
    assert not {"kubelet", "containerd.io", "salt-minion", "socat", "conntrack-tools", "tar"} & set(names)
    assert {name for name in names if names.count(name) > 1} == {"kernel-core"}
    assert len(set(names)) == 261
    release = shell(first, "python3 -c 'import dnf.rpm; print(dnf.rpm.detect_releasever(\"/\"))'")
    assert release == "9"


def test_control_groups_are_its_own_and_writable(first: Node) -> None:
    paths = [line.split(":", 2)[2] for line in shell(first, "cat /proc/self/cgroup").splitlines()]
    assert set(paths) == {"/"}
    shell(first, "mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/memory/x && rmdir /sys/fs/cgroup/*/x")
    assert shell(first, "findmnt --noheadings --output FSTYPE /sys/fs/bpf") == "bpf"
    assert shell(first, "findmnt --noheadings --output PROPAGATION /") == "shared"
    shell(first, "modprobe overlay && modprobe br_netfilter")


def test_the_nodes_see_each_other_in_three_networks(first: Node, second: Node) -> None:
    for prefix in ("10.77.1", "10.77.2", "10.77.3"):
        shell(first, f"ping -n -c 1 -W 2 {prefix}.12")
        shell(second, f"ping -n -c 1 -W 2 {prefix}.11")
    assert shell(first, "ip -json route show default").count('"gateway":"10.77.3.1"') == 1
    assert shell(second, "cat /etc/resolv.conf") == ""


def test_firewalld_lets_in_what_it_says_and_nothing_else(first: Node, second: Node) -> None:
    assert first.uplink_address  # booted
    shell(second, "timeout 5 bash -c '</dev/tcp/10.77.1.11/22'")
    with pytest.raises(CommandError):
        shell(second, "timeout 5 bash -c '</dev/tcp/10.77.1.11/6443'")


def test_nothing_leaves_and_what_tries_is_counted(lab: Lab, first: Node, second: Node) -> None:
    assert lab.switch.counts().packets == 0, lab.switch.counts()
    assert lab.switch.counts().dns_queries == 0, lab.switch.counts()
    for node in (first, second):
        seen = lab.switch.probe(node)
        assert seen.packets == 2
        assert seen.dns_queries == 1
    counts = lab.switch.counts()
    assert counts.packets_by_source == {"10.77.3.11": 2, "10.77.3.12": 2}
    assert set(counts.destinations) == {f"icmp {OUTSIDE}", f"udp {OUTSIDE}:9"}
    with pytest.raises(CommandError):
        shell(first, "timeout 2 bash -c '</dev/tcp/203.0.113.7/443'")
    with pytest.raises(CommandError):
        shell(first, "getent ahosts mirror.example.com")
    assert "tcp 203.0.113.7:443" in lab.switch.counts().destinations
    assert "mirror.example.com" in lab.switch.counts().dns_names
    shell(second, "timeout 2 bash -c '</dev/tcp/10.77.3.1/80'", check=False)
    assert "tcp 10.77.3.1:80" in lab.switch.counts().destinations
    lab.switch.reset()
    assert lab.switch.counts().packets == lab.switch.counts().dns_queries == 0
    assert lab.switch.counts().destinations == lab.switch.counts().dns_names == ()


def test_the_hosts_own_repositories_are_seen_when_asked(lab: Lab, first: Node) -> None:
    lab.switch.reset()
    shell(first, "timeout 5 dnf --quiet makecache --repo baseos", check=False)
    shell(first, "timeout 5 dnf --quiet makecache --repo appstream", check=False)
    counts = lab.switch.counts()
    assert "mirrors.almalinux.org" in counts.dns_names
    assert "tcp 203.0.113.80:80" in counts.destinations
    lab.switch.reset()


def test_files_go_in_and_come_out(first: Node, tmp_path: Path) -> None:
    first.write_file("/etc/new/dir/file", "text\nsecond\n", 0o600)
    assert first.read_file("/etc/new/dir/file") == "text\nsecond\n"
    assert shell(first, "stat -c %a:%U /etc/new/dir/file") == "600:root"
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 << 20))
    first.copy_in(large, "/root/copied/large", 0o755)
    assert (
        shell(first, "sha256sum < /root/copied/large") == run(["sha256sum", large]).stdout.split()[0] + "  -"
    )


def test_commands_have_a_clean_environment_and_a_limit(first: Node) -> None:
    names = {line.split("=")[0] for line in shell(first, "env").splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "USER", "PWD", "SHLVL", "_"}
    assert first.run(["printenv", "X"], env={"X": "1"}).stdout == "1\n"
    with pytest.raises(CommandError, match="sleep in node1 did not end within 1 s"):
        first.run(["sleep", "30"], timeout_s=1)
    assert "sleep 30" not in shell(first, "ps ax -o args")
    lines: list[tuple[str, float]] = []
    began = time.monotonic()
    code = first.stream(
        ["bash", "-c", "echo a; sleep 1; echo b >&2; exit 4"],
        lambda line: lines.append((line, time.monotonic() - began)),
    )
    assert (code, [line for line, _ in lines]) == (4, ["a", "b"])
    assert lines[0][1] < 0.9 < lines[1][1]


def test_an_iso_is_mounted_as_an_operator_does(first: Node) -> None:
    directory = first.mount_iso()
    assert shell(first, f"{directory}/hello.sh") == "hello from the ISO"
    assert shell(first, f"findmnt --noheadings --output FSTYPE {directory}") == "fuse.iso9660"
    assert shell(first, f"stat -c %a {directory}/hello.sh") == "755"
    with pytest.raises(CommandError):
        shell(first, f"touch {directory}/x")
    shell(first, f"umount {directory}")
    assert cleanup.wait_until(lambda: not any("/test.iso" in loop.file for loop in cleanup.loops()), 5)


def test_a_reboot_keeps_disk_names_and_mount_units(first: Node, second: Node) -> None:
    first.write_file("/root/kept", "kept\n")
    first.write_file(
        "/etc/systemd/system/srv-iso.mount",
        "[Unit]\nConditionPathExists=/var/lib/caisson-media/test.iso\n"
        "[Mount]\nWhat=/var/lib/caisson-media/test.iso\nWhere=/srv/iso\nType=iso9660\nOptions=loop,ro,nofail\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    shell(first, "systemctl enable --now srv-iso.mount; cmp /srv/iso/large /srv/iso/large")
    host_key = first.read_file("/etc/ssh/ssh_host_ed25519_key.pub")
    assert host_key != second.read_file("/etc/ssh/ssh_host_ed25519_key.pub")
    boot = shell(first, "cat /proc/sys/kernel/random/boot_id; cat /etc/machine-id").splitlines()
    shell(first, "sysctl -qw net.ipv4.ip_forward=1")

    first.reboot()

    assert first.read_file("/root/kept") == "kept\n"
    assert shell(first, "/srv/iso/hello.sh") == "hello from the ISO"
    assert first.read_file("/etc/ssh/ssh_host_ed25519_key.pub") == host_key
    assert shell(first, "cat /etc/machine-id") == boot[1]
    assert shell(first, "sysctl -n net.ipv4.ip_forward") == "0", "the network namespace was used before"
    assert shell(first, "journalctl --list-boots --no-pager | grep -c UTC") == "2"
    shell(second, "ping -n -c 1 -W 2 10.77.2.11")
    assert first.record.boots == 2


def test_the_iso_can_be_taken_away(first: Node) -> None:
    first.detach_iso()
    assert shell(first, "ls /var/lib/caisson-media") == ""
    assert shell(first, "/srv/iso/hello.sh") == "hello from the ISO", "what is mounted stays"
    first.reboot()
    assert shell(first, "findmnt /srv/iso", check=False) == ""


def test_a_stopped_node_says_so_and_boots_again(second: Node) -> None:
    second.write_file("/root/kept", "kept\n")
    second.stop()
    assert not second.is_up
    with pytest.raises(LabError, match="the node 'node2' is down"):
        second.run(["true"])
    second.boot()
    assert second.read_file("/root/kept") == "kept\n"


WRITES = """
set -e
cd /root
printf old >renamed; printf old >replaced; sync renamed replaced .
printf new >unsynced
printf new >renamed.new; mv renamed.new renamed
printf new >replaced.new; sync replaced.new; mv replaced.new replaced
printf new >synced; sync synced .
"""


def test_a_power_cut_loses_what_was_not_synced(second: Node) -> None:
    shell(second, WRITES)
    second.cut_power()
    assert not second.is_up
    second.boot()
    found = shell(second, "cd /root; for name in *; do echo $name=$(cat $name); done").splitlines()
    assert {"unsynced=", "renamed=", "replaced=new", "synced=new"} <= set(found), (
        "the log knows, the data do not"
    )


def test_a_power_cut_loses_it_although_somebody_holds_the_file_system(second: Node) -> None:
    """A mount namespace that was made meanwhile has a copy of the mount, and the kernel keeps what it has in memory."""
    holder = subprocess.Popen(["unshare", "--mount", "sleep", "60"])
    try:
        assert cleanup.wait_until(lambda: has_own_mounts(holder.pid), 5)
        shell(second, WRITES)
        second.cut_power()
        second.boot()
    finally:
        holder.kill()
        holder.wait()
    found = shell(second, "cd /root; for name in *; do echo $name=$(cat $name); done").splitlines()
    assert {"unsynced=", "synced=new"} <= set(found)


def has_own_mounts(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()


def test_a_node_that_is_stopped_loses_nothing(second: Node) -> None:
    shell(second, WRITES)
    second.stop()
    second.boot()
    found = shell(second, "cd /root; for name in *; do echo $name=$(cat $name); done").splitlines()
    assert {"unsynced=new", "renamed=new", "replaced=new", "synced=new"} <= set(found)


def test_failed_units_are_named(second: Node) -> None:
    second.write_file(
        "/etc/systemd/system/broken.service",
        "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n",
    )
    shell(second, "systemctl enable broken.service")
    with pytest.raises(LabError, match=r"degraded.*broken\.service"):
        second.reboot()
    second.reboot(degraded_ok=True)
    shell(second, "systemctl disable broken.service")


OWNER = """
import sys
from pathlib import Path
from lab.node import Lab
with Lab(sys.argv[1]) as lab:
    node = lab.start_node("node1", iso=Path(sys.argv[2]))
    node.mount_iso()
    print("ready", flush=True)
    node.run(["sleep", "300"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [None, 0.4, 0.9], ids=["booted", "0.4 s", "0.9 s"])
def test_whatever_ends_the_owner_nothing_is_left(
    iso: Path, repository_dir: Path, number: signal.Signals, after_s: float | None
) -> None:
    name = f"t{os.getpid()}"
    loops_before = {loop.device for loop in cleanup.loops()}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, name, str(iso)],
        cwd=repository_dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    try:
        with owner.stdout:
            if after_s is None:
                assert owner.stdout.readline() == "ready\n"
            else:
                time.sleep(after_s)
            owner.send_signal(number)
            owner.wait(60)
    finally:
        owner.kill()
        owner.wait()
    if number == signal.SIGKILL:
        assert after_s is not None or cleanup.leftovers(name) != []
        cleanup.sweep(only=name)
    assert cleanup.leftovers(name) == []
    own = [loop for loop in cleanup.loops() if loop.device not in loops_before and "test.iso" in loop.file]
    assert own == []


def test_a_loop_device_that_a_node_left_on_its_iso_is_found_and_taken_away(iso: Path) -> None:
    """Nothing has it mounted, so the kernel keeps it, under the name that the node had for the file."""
    with Lab() as lab:
        node = lab.start_node("node1", iso=iso)
        device = shell(node, "losetup --find --show --read-only /var/lib/caisson-media/test.iso")
        identity = next(loop.identity for loop in cleanup.loops() if str(loop.device) == device)
        node.stop()
        for left in (cleanup.leftovers(lab.name), cleanup.leftovers()):
            assert [line for line in left if line.startswith(f"loop device {device} on /")] != [], left
    assert identity not in [loop.identity for loop in cleanup.loops()]


def test_two_labs_share_nothing(lab: Lab, first: Node) -> None:
    with Lab() as other:
        twin = other.start_node("node1")
        assert twin.control_plane_address == first.control_plane_address
        other.switch.probe(twin)
        assert lab.switch.counts().packets == 0
    assert first.is_up
