# SPDX-License-Identifier: Apache-2.0
"""Air-gapped nodes: systemd in a container of its own, as close to a minimal EL9 host as the machine allows.

    with Lab() as lab:
        node = lab.start_node("node1", iso=Path("_out/caisson-VERSION-BUILD-lab.iso"))
        node.mount_iso()
        node.run(["/mnt/caisson/bootstrap.sh", ...])

A node has three interfaces (control plane, workload plane, uplink with the default route), its root on a disk
image of its own, its own control-group namespace, and no neighbour but the other nodes of its lab.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import FrameType, TracebackType
from typing import Any, Self

from lab import cleanup
from lab.cleanup import LabRecord, NodeRecord, Process, is_alive, process_of, wait_until
from lab.errors import LabError
from lab.places import (
    CONTROL_PLANE,
    GATEWAY,
    MEDIA_DIR,
    UPLINK,
    WORKLOAD_PLANE,
    LabPlaces,
    NodePlaces,
    checked_lab_name,
    node_number,
)
from lab.root import ensure_root
from lab.run import Completed, become, run, spawn, stream
from lab.switch import Switch

DISK_SIZE_BYTES = 24 << 30
BOOT_TIMEOUT_S = 120.0
ISO_MOUNT_DIR = "/mnt/caisson"
CONFIGURATION_FILE = "/root/bootstrap.yaml"

#: The environment of everything that is run in a node: nothing of this machine's.
NODE_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
}

_WATCHERS_FILE = Path("/proc/sys/fs/inotify/max_user_instances")
_WATCHERS = 1024
_NUMBERS = itertools.count(1)
_SETTLED = ("running", "degraded", "maintenance", "stopping")
_XFS_IOC_GOINGDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; as with Ctrl-C, everything is cleaned up on the way out."""


class Node:
    """One node, made by ``Lab.start_node``; its state is on disk, so another process can take it up."""

    def __init__(self, lab: str, name: str) -> None:
        self._places = LabPlaces(lab=lab).node(name)
        self.name = name
        self.number = node_number(name)
        self.boot_s = 0.0

    # --- what it is

    @property
    def places(self) -> NodePlaces:
        """Return the paths and names of this node on the machine."""
        return self._places

    @property
    def control_plane_address(self) -> str:
        """Return the address of eth0."""
        return CONTROL_PLANE.address(self.number)

    @property
    def workload_plane_address(self) -> str:
        """Return the address of eth1."""
        return WORKLOAD_PLANE.address(self.number)

    @property
    def uplink_address(self) -> str:
        """Return the address of eth2, which has the default route."""
        return UPLINK.address(self.number)

    @property
    def record(self) -> NodeRecord:
        """Return what is recorded of this node.

        Raises:
            LabError: the node is gone.
        """
        for record in cleanup.read_nodes(self._places.lab):
            if record.name == self.name:
                return record
        raise LabError(
            f"there is no node {self.name!r} in the lab {self._places.lab!r}",
            resolution="see '.venv/bin/python -m lab node list'",
        )

    @property
    def is_up(self) -> bool:
        """Tell whether the node's first process runs."""
        return is_alive(self.record.leader)

    # --- using it

    def run(
        self,
        args: Sequence[str | PurePosixPath],
        *,
        timeout_s: float = 600,
        check: bool = True,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command in the node, as root, with a clean environment to which ``env`` is added.

        Raises:
            CommandError: as ``lab.run.run`` does.
            LabError: the node is down.
        """
        words, groups = self._inside(args, env)
        label = f"{PurePosixPath(args[0]).name} in {self.name}"
        return run(
            words, timeout_s=timeout_s, check=check, input_text=input_text, control_groups=groups, label=label
        )

    def stream(
        self,
        args: Sequence[str | PurePosixPath],
        on_line: Callable[[str], None],
        *,
        timeout_s: float = 3600,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command in the node, hand on each line of its output as it comes, and return its exit code.

        Raises:
            CommandError: it took longer than ``timeout_s``.
            LabError: the node is down.
        """
        words, groups = self._inside(args, env)
        label = f"{PurePosixPath(args[0]).name} in {self.name}"
        return stream(words, on_line, timeout_s=timeout_s, control_groups=groups, label=label)

    def write_file(self, path: str | PurePosixPath, text: str, mode: int = 0o644) -> None:
        """Write a file in the node in one piece, its directory made if need be."""
        target = PurePosixPath(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        self.run(
            ["install", "-D", "-m", f"{mode:04o}", "/dev/stdin", temporary], input_text=text, timeout_s=60
        )
        self.run(["mv", "-T", temporary, target], timeout_s=60)

    def read_file(self, path: str | PurePosixPath) -> str:
        """Return the text of a file in the node."""
        return self.run(["cat", PurePosixPath(path)], timeout_s=60).stdout

    def authorize(
        self,
        public_key: str,
        *,
        user: str = "root",
        password: str = "",
        sudoers: str = "ALL=(ALL) NOPASSWD: ALL",
    ) -> str:
        """Let a key (a line of a ``.pub`` file) log in by SSH, and return the fingerprint of the node's host key.

        Another ``user`` than root is made, with what sudo lets him do; ``password`` (plain) is set when it is given,
        and sshd lets it log in.

        Raises:
            CommandError: the node's sshd did not get ready.
        """
        if user != "root":
            if self.run(["id", "-u", user], check=False, timeout_s=60).returncode != 0:
                self.run(["useradd", "--create-home", "--shell", "/bin/bash", user], timeout_s=60)
            self.write_file(f"/etc/sudoers.d/{user}", f"{user} {sudoers}\n" if sudoers else "", 0o440)
        if password:
            self.run(["chpasswd"], input_text=f"{user}:{password}\n", timeout_s=60)
        home = "/root" if user == "root" else f"/home/{user}"
        self.run(["install", "-d", "-m", "0700", "-o", user, "-g", user, f"{home}/.ssh"], timeout_s=60)
        self.write_file(f"{home}/.ssh/authorized_keys", public_key.strip() + "\n", 0o600)
        self.run(["chown", f"{user}:{user}", f"{home}/.ssh/authorized_keys"], timeout_s=60)
        self.run(["systemctl", "start", "ssh.service"], timeout_s=60)
        said = self.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"], timeout_s=60).stdout
        return said.split()[1]

    def copy_in(self, source: Path, target: str | PurePosixPath, mode: int = 0o644) -> None:
        """Copy a file of this machine into the node, whatever its size; the directory is made if need be."""
        path = PurePosixPath(target)
        self.run(["mkdir", "-p", path.parent], timeout_s=60)
        seen_here = Path(f"/proc/{self._leader().pid}/root", *path.parts[1:])
        run(["cp", "--sparse=auto", source, seen_here], timeout_s=600)
        self.run(["chmod", f"{mode:04o}", path], timeout_s=60)

    def enter(self, args: Sequence[str] = ()) -> None:
        """Replace this process by a shell in the node, on a terminal of the node's, or by a command there.

        Raises:
            LabError: the node is down.
        """
        extra = {"TERM": os.environ.get("TERM", "xterm")}
        shell = ["script", "--quiet", "--return", "--command", "bash --login", "/dev/null"]
        words, groups = self._inside(
            list(args) or (shell if sys.stdin.isatty() else ["bash", "--login"]), extra
        )
        for group in groups:
            (group / "cgroup.procs").write_text("0")
        become(words)

    # --- the ISO

    def attach_iso(self, iso: Path) -> PurePosixPath:
        """Let the node have an ISO file, and return its path there. It stays over reboots.

        It is a copy of its own, as each host has: a loop device of one file is given to all that mount it, and only
        the first of them could say what is behind it.

        Raises:
            LabError: there is no such file.
        """
        require_iso(iso)
        media = self._places.media_dir / iso.name
        media.unlink(missing_ok=True)
        run(["cp", "--reflink=auto", "--sparse=always", iso.resolve(), media])
        return PurePosixPath(MEDIA_DIR, iso.name)

    def detach_iso(self) -> None:
        """Take the ISO files away, now and for later boots; what is mounted from them stays mounted."""
        for media in self._places.media_dir.iterdir():
            media.unlink()

    def mount_iso(self, directory: str = ISO_MOUNT_DIR) -> str:
        """Mount the ISO as an operator does, unless something is mounted there already; return where.

        Raises:
            LabError: the node sees no ISO, or several.
        """
        if self.run(["mountpoint", "--quiet", directory], check=False, timeout_s=60).returncode == 0:
            return directory
        media = sorted(self._places.media_dir.iterdir())
        if len(media) != 1:
            raise LabError(
                f"the node {self.name!r} sees {len(media)} ISO files, where one is needed",
                details=", ".join(path.name for path in media) or "none",
                resolution="attach one with attach_iso()",
            )
        self.run(["mkdir", "-p", directory], timeout_s=60)
        self.run(["mount", "-o", "loop,ro", f"{MEDIA_DIR}/{media[0].name}", directory], timeout_s=60)
        return directory

    def prepare_bootstrap(self, configuration: str = "") -> list[str]:
        """Write bootstrap.yaml, mount the ISO, and return the command that bootstraps the node.

        ``configuration`` is the text of bootstrap.yaml; without one it is the lab's usual.

        Raises:
            LabError: as ``mount_iso``.
        """
        self.write_file(CONFIGURATION_FILE, configuration or bootstrap_config(self.name), 0o600)
        # An operator wrote it yesterday: a power cut of today does not take it away.
        self.run(["sync", CONFIGURATION_FILE, PurePosixPath(CONFIGURATION_FILE).parent], timeout_s=60)
        return [f"{self.mount_iso()}/bootstrap.sh", "--config", CONFIGURATION_FILE, "--accept-lab-bundle"]

    # --- its life

    def boot(self, *, degraded_ok: bool = False) -> None:
        """Start the node on its disk, in a fresh network namespace, and wait until it has settled.

        Raises:
            LabError: it did not come up, or (unless ``degraded_ok``) units of it failed.
        """
        began = time.monotonic()
        places, record = self._places, self.record
        cleanup.stop_node(places.lab, self.name, record)
        self._mount_root()
        Switch(lab=places.lab).connect(places, self.number)
        groups = cleanup.make_control_groups(places.key)
        record = replace(
            record, control_groups=tuple(map(str, groups)), nspawn=None, leader=None, boots=record.boots + 1
        )
        cleanup.write_record(places.record_file, record)
        nspawn = spawn(
            nspawn_command(places),
            output_file=places.console_file,
            env=_NSPAWN_ENVIRONMENT,
            control_groups=groups,
        )
        record = replace(record, nspawn=process_of(nspawn.pid))
        cleanup.write_record(places.record_file, record)
        found: list[Process] = []
        wait_until(lambda: nspawn.poll() is not None or bool(found or _add_leader(found, nspawn.pid)), 20.0)
        if not found:
            raise self._not_booted("nspawn did not start its first process")
        cleanup.write_record(places.record_file, replace(record, leader=found[0]))
        self.wait_booted(degraded_ok=degraded_ok)
        self.boot_s = time.monotonic() - began

    def wait_booted(self, *, timeout_s: float = BOOT_TIMEOUT_S, degraded_ok: bool = False) -> None:
        """Wait until systemd in the node has started everything.

        Raises:
            LabError: it took longer than ``timeout_s``; or, unless ``degraded_ok``, units failed.
        """
        ends_at = time.monotonic() + timeout_s
        state = ""
        while time.monotonic() < ends_at:
            if not self.is_up:
                raise self._not_booted("its first process ended")
            state = self.run(["systemctl", "is-system-running"], check=False, timeout_s=30).stdout.strip()
            if state in _SETTLED:
                break
            time.sleep(0.1)
        if state == "running" or (state == "degraded" and degraded_ok):
            return
        if state not in _SETTLED:
            raise self._not_booted(f"systemd says {state or 'nothing'!r} after {timeout_s:g} s")
        failed = self.run(
            ["systemctl", "--failed", "--plain", "--no-legend"], check=False, timeout_s=30
        ).stdout
        units = ", ".join(line.split()[0] for line in failed.splitlines()) or "none that it names"
        raise self._not_booted(f"systemd says {state!r}; failed units: {units}")

    def reboot(self, *, degraded_ok: bool = False) -> None:
        """Reboot the node as its administrator would, and wait until it has settled again.

        nspawn, told to keep its unit, ends instead of booting again: that is done here.

        Raises:
            LabError: it did not go down, or did not come up.
        """
        nspawn = self.record.nspawn
        self.run(["systemctl", "reboot"], check=False, timeout_s=60)
        if not wait_until(lambda: not is_alive(nspawn), BOOT_TIMEOUT_S, poll_s=0.2):
            raise self._not_booted(f"it did not go down within {BOOT_TIMEOUT_S:g} s of 'systemctl reboot'")
        self.boot(degraded_ok=degraded_ok)

    def power_off(self) -> None:
        """Shut the node down as its administrator would; its file system is unmounted, so its disk can be copied.

        Raises:
            LabError: it did not go down, or its disk stays in use.
        """
        nspawn = self.record.nspawn
        self.run(["systemctl", "poweroff"], check=False, timeout_s=60)
        if not wait_until(lambda: not is_alive(nspawn), BOOT_TIMEOUT_S, poll_s=0.2):
            raise self._not_booted(f"it did not go down within {BOOT_TIMEOUT_S:g} s of 'systemctl poweroff'")
        self.stop()
        cleanup.release_disk(self._places)

    def stop(self) -> None:
        """End all processes of the node at once; what they wrote stays written, synced or not."""
        cleanup.stop_node(self._places.lab, self.name, self.record)

    def cut_power(self) -> None:
        """Stop the node as a power cut does: what was not on its disk by now is lost.

        The file system of its root goes down first, without its log being flushed: dirty pages and the changes of
        names that were in memory alone never reach the image, and the next ``boot`` replays the log. What was handed
        to the disk counts as written: a disk that lies about its own cache is not played here. ``sync`` is of the
        whole machine: that of another node writes out this one's pages too.

        Raises:
            LabError: the node is down, or its disk stays in use.
        """
        self._leader()
        shut_down(self._places.root_dir)
        self.stop()
        cleanup.release_disk(self._places)

    def remove(self) -> None:
        """Stop the node and remove everything of it."""
        cleanup.remove_node(self._places.lab, self.name)

    # --- inside

    def create(self, base_image: Path, *, disk_size_bytes: int, nameserver: str | None) -> None:
        """Make the node's record and its disk, and write on it what only this node has."""
        places = self._places
        self.take_over(base_image)
        os.truncate(places.image_file, disk_size_bytes)
        self._mount_root()
        run(["xfs_growfs", places.root_dir])
        for name, text in personal_files(self, nameserver=nameserver).items():
            (places.root_dir / name).write_text(text)
        (places.root_dir / MEDIA_DIR.relative_to("/")).mkdir()

    def take_over(self, disk: Path) -> None:
        """Make the node's record and its disk, which is a copy of one that this node had before, as it is."""
        places = self._places
        record = NodeRecord(
            name=self.name,
            number=self.number,
            owner=cleanup.this_process(),
            image_file=str(places.image_file),
            root_dir=str(places.root_dir),
            media_dir=str(places.media_dir),
            netns=places.key,
        )
        cleanup.write_record(places.record_file, record)
        places.root_dir.mkdir(parents=True)
        places.media_dir.mkdir(parents=True)
        run(["cp", "--reflink=auto", "--sparse=always", disk, places.image_file])
        places.image_file.chmod(0o600)

    def _mount_root(self) -> None:
        places = self._places
        if not any(Path(mount.target) == places.root_dir for mount in cleanup.mounts()):
            run(["mount", "-o", "loop,nouuid", places.image_file, places.root_dir])

    def _leader(self) -> Process:
        leader = self.record.leader
        if leader is None or not is_alive(leader):
            raise LabError(
                f"the node {self.name!r} is down",
                details=f"console: {self._places.console_file}",
                resolution=f"start it with '.venv/bin/python -m lab node start {self.name}'",
            )
        return leader

    def _inside(
        self, args: Sequence[str | PurePosixPath], env: Mapping[str, str] | None
    ) -> tuple[list[str], Sequence[Path]]:
        variables = [f"{name}={value}" for name, value in {**NODE_ENVIRONMENT, **(env or {})}.items()]
        words = [
            "nsenter",
            "--target",
            str(self._leader().pid),
            "--all",
            "--",
            "/usr/bin/env",
            "-i",
            *variables,
        ]
        return [*words, *map(str, args)], [
            _namespace_root(Path(group)) for group in self.record.control_groups
        ]

    def _not_booted(self, reason: str) -> LabError:
        console = self._places.console_file
        tail = console.read_text(errors="replace").splitlines()[-20:] if console.exists() else []
        return LabError(
            f"the node {self.name!r} did not boot: {reason.strip()}",
            details="\n".join([f"end of its console ({console}):", *tail]),
            resolution=f"see 'journalctl -b -p warning' in it: .venv/bin/python -m lab node enter {self.name}",
        )


def shut_down(mounted_dir: Path) -> None:
    """Let a file system go down this instant, its log as it is on the disk; only unmounting it is left to do.

    Source: linux/fs/xfs/libxfs/xfs_fs.h, XFS_IOC_GOINGDOWN, _IOR('X', 125, __u32); XFS_FSOP_GOING_FLAGS_NOLOGFLUSH.
    """
    descriptor = os.open(mounted_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _XFS_IOC_GOINGDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


_NSPAWN_ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes"}


def nspawn_command(places: NodePlaces) -> list[str | Path]:
    """Return the command that boots a node on its mounted root.

    All capabilities and the system calls that a container runtime needs; its own network namespace, cabled
    already, so that interfaces are there before the first unit starts.
    """
    command: list[str | Path] = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={places.root_dir}",
        f"--machine={places.key}",
        f"--hostname={places.name}",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path={places.netns_file}",
        "--capability=all",
        "--system-call-filter=@keyring bpf perf_event_open",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--bind=/dev/fuse",
        "--bind=/dev/kmsg",
        f"--bind={places.media_dir}:{MEDIA_DIR}",
    ]
    modules_dir = Path("/lib/modules", os.uname().release)
    if modules_dir.is_dir():
        command.append(f"--bind-ro={modules_dir}")
    return command


def personal_files(node: Node, *, nameserver: str | None) -> dict[str, str]:
    """Return the files that make a root this node's: names, addresses, nameserver (None: an empty file)."""
    return {
        "etc/hostname": f"{node.name}\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/hosts": (
            "127.0.0.1   localhost localhost.localdomain\n::1         localhost localhost.localdomain\n"
            f"{node.control_plane_address}   {node.name}\n"
        ),
        "etc/resolv.conf": f"nameserver {nameserver}\n" if nameserver else "",
    }


class Lab:
    """Some nodes on a switch of their own. Entering sweeps what dead labs left; leaving removes everything.

    ``name`` is part of every name on the machine (default: made of the process number). Two labs share
    nothing, so tests run beside a lab that was kept. ``baseline_dir``, ``profile``: see ``lab.root.ensure_root``.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        baseline_dir: Path | None = None,
        profile: str = "el9.8-minimal",
    ) -> None:
        self.name = checked_lab_name(name or f"p{os.getpid()}n{next(_NUMBERS)}")
        self.nodes: dict[str, Node] = {}
        self.switch = Switch(lab=self.name)
        self._baseline_dir = baseline_dir
        self._profile = profile
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._catch_signals()
        try:
            self.open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def open(self) -> None:
        """Claim the lab's name and start its switch.

        Raises:
            LabError: not root, or the name is in use.
        """
        if os.geteuid() != 0:
            raise LabError(
                "lab nodes need root",
                details="they are containers with mounts and networks of their own",
                resolution="run the same command as root",
            )
        record = LabRecord(owner=cleanup.this_process(), boot_id=cleanup.boot_id())
        cleanup.claim(self.name, record)
        _allow_watchers()
        self.switch.start()

    @property
    def root_image(self) -> Path:
        """Return the image that its nodes are copied from; it is made if need be."""
        return ensure_root(self._baseline_dir, self._profile)

    @classmethod
    def attached(cls, name: str) -> Lab:
        """Return a lab that is there already, whoever made it; leaving it alone is up to the caller."""
        lab = cls(name)
        lab.nodes = {record.name: Node(name, record.name) for record in cleanup.read_nodes(name)}
        return lab

    def start_node(
        self,
        name: str,
        *,
        iso: Path | None = None,
        nameserver: str | None = GATEWAY,
        disk_size_bytes: int = DISK_SIZE_BYTES,
        disk: Path | None = None,
    ) -> Node:
        """Make a node, boot it, and wait until everything in it runs.

        ``nameserver``: what its resolv.conf names; None leaves the file empty. The disk is sparse. ``disk``: one that a
        node of this name was powered off with; it boots a copy, and nameserver and size are those of the disk.

        Raises:
            LabError: there is such a node already, the root could not be made, or the node did not come up.
        """
        if name in self.nodes:
            raise LabError(f"the lab has a node {name!r} already", resolution="take another name")
        node = Node(self.name, name)
        if disk is None:
            node.create(self.root_image, disk_size_bytes=disk_size_bytes, nameserver=nameserver)
        else:
            node.take_over(disk)
        self.nodes[name] = node
        if iso is not None:
            node.attach_iso(iso)
        node.boot()
        # The operating system was installed long ago: no power cut takes any of it away.
        node.run(["sync", "--file-system", "/"], timeout_s=60)
        return node

    def keep(self) -> None:
        """Let the lab stay when this process ends, until somebody stops it with ``python -m lab``."""
        record = cleanup.read_lab(self.name)
        if record is None:
            raise LabError(f"there is no lab {self.name!r}", resolution="start a node first")
        cleanup.write_record(LabPlaces(lab=self.name).record_file, replace(record, kept=True))

    def close(self) -> None:
        """Remove everything of the lab, unless it is kept."""
        record = cleanup.read_lab(self.name)
        if record is None or not record.kept:
            self.remove()

    def remove(self) -> None:
        """Remove everything of the lab, kept or not."""
        with cleanup.exclusive():
            cleanup.remove_lab(self.name)
        self.nodes.clear()

    def _close(self) -> None:
        with _shielded():
            self.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _catch_signals(self) -> None:
        """Make the polite signals end this process as Ctrl-C does: through every ``with`` and ``finally``."""
        if threading.current_thread() is not threading.main_thread():
            return

        def interrupt(number: int, _frame: FrameType | None) -> None:
            raise Interrupted(f"signal {signal.Signals(number).name}")

        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, interrupt)


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Let nobody interrupt a cleanup: a second Ctrl-C would leave half of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *_SIGNALS)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_iso(iso: Path) -> None:
    """Make sure that there is such an ISO file.

    Raises:
        LabError: there is none.
    """
    if not iso.is_file():
        raise LabError(
            f"there is no ISO file {iso}",
            resolution="make it with './doit.sh iso upstream=lab', or name another one",
        )


def bootstrap_config(node_name: str, *, cluster_name: str = "lab") -> str:
    """Return the text of the product's configuration for a node, with what only this machine forces.

    Everything goes through options that any site has: see the reference of bootstrap.yaml.
    """
    return f"""apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: {cluster_name}
networks:
  controlPlane:
    cidrs: [192.0.2.0/24, {CONTROL_PLANE.cidr}]
  workloadPlane:
    cidrs: [198.51.100.0/24, {WORKLOAD_PLANE.cidr}]
node:
  name: {node_name}
# Only the test machine forces what follows: control groups v1, no CAP_SYS_RESOURCE, a network namespace.
overrides:
  containerd: |
    version = 3
    [plugins."io.containerd.cri.v1.runtime"]
      restrict_oom_score_adj = true
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
  kubelet:
    cgroupDriver: cgroupfs
    failCgroupV1: false
  kubeProxy:
    conntrack:
      maxPerCore: 0
  ignorePreflights:
    - id: SystemVerification
      reason: control groups v1 on the test machine
"""


def _allow_watchers() -> None:
    """Raise the kernel's limit of inotify instances, for all labs and until this machine boots again.

    A node with a cluster takes about 40 and the usual limit is 128: the systemd of the fourth would not start
    ("Failed to allocate manager object: Too many open files"). It is of no use to put it back: others may need it.
    """
    if int(_WATCHERS_FILE.read_text()) < _WATCHERS:
        _WATCHERS_FILE.write_text(f"{_WATCHERS}\n")


def _add_leader(found: list[Process], nspawn_pid: int) -> bool:
    """Find nspawn's child that is process 1 of a namespace of its own, once it has become systemd."""
    for task in Path(f"/proc/{nspawn_pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for pid in map(int, task.read_text().split()):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                numbers = next((line.split()[1:] for line in status if line.startswith("NSpid:")), [])
                process = process_of(pid)
                if len(numbers) == 2 and numbers[1] == "1" and status[0].split()[1] == "systemd" and process:
                    found.append(process)
                    return True
    return False


def _namespace_root(group: Path) -> Path:
    """Return the group that a node sees as the root: where systemd has one, nspawn puts it one level down."""
    payload = group / "payload"
    return payload if payload.is_dir() else group
