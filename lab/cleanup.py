# SPDX-License-Identifier: Apache-2.0
"""What a lab leaves on the machine: who owns it, what of it is still there, and how it is taken away.

Every lab has a record in /run that is written *before* each thing is made, and every thing carries the lab's
name, so a run that was killed is swept by the next one, by ``python -m lab clean``, or by hand. Processes are
ended by number *and* start time, or because they are inside a control group or a network namespace of ours:
never by what they are called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab.cache import lab_dir, locked, replace_text
from lab.errors import LabError
from lab.places import NETNS_DIR, PREFIX, RUN_DIR, LabPlaces, NodePlaces
from lab.run import run

_LOCK_FILE = RUN_DIR.with_suffix(".lock")
_PATIENCE_S = 15.0
_RELEASE_PATIENCE_S = 3.0
_POLL_S = 0.05
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64_BYTES = 232
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the command's name


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process beyond doubt: numbers are given again, a number with a start time (clock ticks) is not."""

    pid: int
    started: int


@dataclass(frozen=True, kw_only=True)
class LabRecord:
    """Who owns a lab. ``kept``: it stays when the owner is gone, until somebody stops it."""

    owner: Process
    boot_id: str
    kept: bool = False
    nameserver: Process | None = None


@dataclass(frozen=True, kw_only=True)
class NodeRecord:
    """Everything of one node that lives outside of this process."""

    name: str
    number: int
    owner: Process
    image_file: str
    root_dir: str
    media_dir: str
    netns: str
    control_groups: tuple[str, ...] = ()
    nspawn: Process | None = None
    leader: Process | None = None
    boots: int = 0


# --- processes -------------------------------------------------------------------------------------------


def process_of(pid: int) -> Process | None:
    """Return the process that has this number now, or None when there is none (a zombie counts as none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, started=int(fields[_START_TIME_FIELD]))


def is_alive(process: Process | None) -> bool:
    """Tell whether this very process still runs."""
    return process is not None and process_of(process.pid) == process


def end_process(process: Process | None, *, patience_s: float = _PATIENCE_S) -> None:
    """End this very process, if it still runs, and wait until it is gone.

    Raises:
        LabError: the kernel did not let go of it in time.
    """
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            # Looked at with the descriptor held: the number is this process's now, or nobody's.
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    if not wait_until(lambda: not is_alive(process), patience_s):
        raise LabError(
            f"process {process.pid} does not end",
            details=f"SIGKILL was sent {patience_s:g} s ago",
            resolution="see /proc/PID/stack for what the kernel waits for",
        )


def wait_until(condition: Callable[[], bool], patience_s: float, *, poll_s: float = _POLL_S) -> bool:
    """Ask again and again, without being busy; tell whether it came true in time."""
    ends_at = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= ends_at:
            return False
        time.sleep(poll_s)
    return True


def boot_id() -> str:
    """Return the kernel's name for this boot of the machine: process numbers of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def this_process() -> Process:
    """Return this very process, as the owner of what it makes."""
    process = process_of(os.getpid())
    if process is None:
        raise LabError("/proc does not show this process", resolution="mount /proc")
    return process


# --- records ---------------------------------------------------------------------------------------------


def write_record(path: Path, record: LabRecord | NodeRecord) -> None:
    """Write a record in one piece."""
    replace_text(path, json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True) + "\n")


def read_lab(lab: str) -> LabRecord | None:
    """Return the record of a lab, or None if it has none (or one that nobody can read)."""
    fields = _read(LabPlaces(lab=lab).record_file)
    try:
        return LabRecord(
            owner=Process(**fields["owner"]),
            boot_id=fields["boot_id"],
            kept=fields["kept"],
            nameserver=_process(fields["nameserver"]),
        )
    except (KeyError, TypeError):
        return None


def read_nodes(lab: str) -> tuple[NodeRecord, ...]:
    """Return the records of the nodes of a lab, by number; unreadable ones are left out."""
    nodes = []
    for path in sorted(LabPlaces(lab=lab).run_dir.glob("*.json")):
        fields = _read(path)
        with contextlib.suppress(KeyError, TypeError):
            nodes.append(
                NodeRecord(
                    **{
                        **fields,
                        "owner": Process(**fields["owner"]),
                        "control_groups": tuple(fields["control_groups"]),
                        "nspawn": _process(fields["nspawn"]),
                        "leader": _process(fields["leader"]),
                    }
                )
            )
    return tuple(sorted(nodes, key=lambda node: node.number))


def labs() -> tuple[str, ...]:
    """Return the names of all labs that have left anything: in /run, as namespaces, groups or disk images."""
    names = {path.name for path in _children(RUN_DIR)} | {path.name for path in _children(lab_dir("nodes"))}
    keys = [path.name for path in _children(NETNS_DIR)] + [path.name for path in _top_control_groups()]
    names |= {key.removeprefix(PREFIX).split("-", 1)[0] for key in keys if key.startswith(PREFIX)}
    return tuple(sorted(names))


def is_in_use(lab: str) -> bool:
    """Tell whether a lab must be left alone: its owner lives, or it was told to stay."""
    record = read_lab(lab)
    if record is None or record.boot_id != boot_id():
        return False
    return record.kept or is_alive(record.owner)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Keep other labs from being made or swept meanwhile."""
    with locked(_LOCK_FILE):
        yield


def claim(lab: str, record: LabRecord) -> None:
    """Sweep what dead runs left behind, then make the lab's record; the two as one step.

    Raises:
        LabError: a lab of that name is in use.
    """
    with exclusive():
        for name in labs():
            if not is_in_use(name):
                remove_lab(name)
        if read_lab(lab) is not None:
            raise LabError(
                f"the lab {lab!r} is in use",
                details=describe(lab),
                resolution=f"stop it with '.venv/bin/python -m lab clean --lab {lab}', or take another name",
            )
        write_record(LabPlaces(lab=lab).record_file, record)


def sweep(*, kept: bool = False, only: str | None = None) -> tuple[str, ...]:
    """Remove the labs whose owner is dead, with ``kept`` also those told to stay; return their names.

    A lab whose owner lives is never touched.
    """
    removed = []
    with exclusive():
        for name in labs():
            if only in (None, name) and (not is_in_use(name) or (kept and _may_end(name))):
                remove_lab(name)
                removed.append(name)
    return tuple(removed)


def describe(lab: str) -> str:
    """Return one line on who has a lab."""
    record = read_lab(lab)
    if record is None:
        return f"{lab}: no record"
    nodes = ", ".join(node.name for node in read_nodes(lab)) or "no nodes"
    alive = "runs" if is_alive(record.owner) else "is gone"
    return (
        f"{lab}: {nodes}; made by process {record.owner.pid}, which {alive}{'; kept' if record.kept else ''}"
    )


# --- taking away -----------------------------------------------------------------------------------------


def remove_node(lab: str, name: str) -> None:
    """Take one node away: processes, namespace, mount, control groups, disk image, record."""
    places = LabPlaces(lab=lab).node(name)
    record = next((node for node in read_nodes(lab) if node.name == name), None)
    stop_node(lab, name, record)
    _remove_mounts(places.dir)
    images = {places.image_file, *([Path(record.image_file)] if record else [])}
    media = {places.media_dir, *([Path(record.media_dir)] if record else [])}
    for directory in media:
        _release_loops(directory.glob("*"))
        shutil.rmtree(directory, ignore_errors=True)
    _release_loops(images)
    for image in images:
        image.unlink(missing_ok=True)
    shutil.rmtree(places.dir, ignore_errors=True)
    places.record_file.unlink(missing_ok=True)


def stop_node(lab: str, name: str, record: NodeRecord | None) -> None:
    """End everything of a node that runs, and drop its namespace and control groups; its disk stays as it is.

    The node's first process goes first: the kernel then ends all others of it, and nspawn follows by itself.
    """
    key = LabPlaces(lab=lab).node(name).key
    lab_record = read_lab(lab)
    if record is not None and lab_record is not None and lab_record.boot_id == boot_id():
        end_process(record.leader)
        wait_until(lambda: not is_alive(record.nspawn), 3.0)
        end_process(record.nspawn)
    _end_members(key)
    remove_netns(key)
    remove_control_groups(key)


def release_disk(places: NodePlaces) -> None:
    """Unmount the disk of a node that was stopped, so that the next mount reads what is on it.

    Another mount namespace of this machine (a build without network, a trial of the installer's tests) may have
    copied the mount, and then keeps the file system as it was in memory: the node goes on with a copy of its disk.

    Raises:
        LabError: it cannot be unmounted.
    """
    _remove_mounts(places.root_dir)
    identity = _identity(places.image_file)

    def is_released() -> bool:
        _release_loops([places.image_file])
        return all(loop.identity != identity for loop in loops())

    if not wait_until(is_released, _RELEASE_PATIENCE_S):
        copy = places.image_file.with_suffix(".copy")
        run(["cp", "--reflink=auto", "--sparse=always", "--preserve=mode", places.image_file, copy])
        copy.replace(places.image_file)


def remove_lab(lab: str) -> None:
    """Take a whole lab away, with or without records."""
    places = LabPlaces(lab=lab)
    record = read_lab(lab)
    own = f"{PREFIX}{lab}-"
    keys = {
        path.name for path in (*_children(NETNS_DIR), *_top_control_groups()) if path.name.startswith(own)
    }
    names = {node.name for node in read_nodes(lab)} | {key.removeprefix(own) for key in keys}
    names |= {path.name for path in _children(places.run_dir) if path.is_dir()}
    for name in sorted(names):
        remove_node(lab, name)
    if record is not None and record.boot_id == boot_id():
        end_process(record.nameserver)
    _remove_mounts(places.run_dir)
    _release_loops(_children(places.images_dir))
    shutil.rmtree(places.images_dir, ignore_errors=True)
    shutil.rmtree(places.run_dir, ignore_errors=True)
    if not _children(NETNS_DIR):
        # 'ip netns add' mounts it (two at the same time: twice) and leaves it; others do so again.
        for _ in [mount for mount in mounts() if mount.target == str(NETNS_DIR)]:
            run(["umount", NETNS_DIR], check=False)
    for directory in (RUN_DIR, lab_dir("nodes")):
        with contextlib.suppress(OSError):
            directory.rmdir()


def remove_netns(name: str) -> None:
    """Remove a network namespace, what still runs in it first; nothing happens if there is none."""
    file = NETNS_DIR / name
    if not file.exists():
        return
    for pid in run(["ip", "netns", "pids", name], check=False).stdout.split():
        if process := process_of(int(pid)):
            end_process(process)
    run(["ip", "netns", "delete", name], check=False)
    file.unlink(missing_ok=True)  # a namespace whose making was interrupted is a plain file


def make_control_groups(key: str) -> tuple[Path, ...]:
    """Make one control group per hierarchy (v1: per controller) and return them.

    A cpuset group must have processors and memory before anything can join it (v1; inherited in v2).
    """
    groups = []
    for parent, kind in control_group_roots().items():
        group = parent / key
        group.mkdir(exist_ok=True)
        if kind == "cgroup":
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (parent / name).exists():
                    (group / name).write_text((parent / name).read_text())
        groups.append(group)
    return tuple(groups)


def remove_control_groups(key: str) -> None:
    """Remove the control groups of a node, deepest first, waiting for the last member to be gone.

    Raises:
        LabError: a group stays, because something is in it.
    """
    for parent in control_group_roots():
        top = parent / key
        if not wait_until(partial(_rmdir_tree, top), _PATIENCE_S):
            raise LabError(
                f"the control group {top} cannot be removed",
                details=f"members: {', '.join(map(str, _members(top))) or 'none that can be seen'}",
                resolution="end them, then run '.venv/bin/python -m lab clean'",
            )


def control_group_roots() -> Mapping[Path, str]:
    """Return where control groups are mounted, with the kind of each: ``cgroup`` (v1) or ``cgroup2``."""
    return {
        Path(mount.target): mount.kind
        for mount in mounts()
        if mount.kind in ("cgroup", "cgroup2") and mount.root == "/"
    }


# --- looking ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo: what part of a file system is seen where."""

    root: str
    target: str
    kind: str
    source: str


def mounts(text: str | None = None) -> tuple[Mount, ...]:
    r"""Return all mounts of this namespace, in the order in which they were made.

    >>> mounts("36 35 98:0 /mnt1 /a\\040b rw master:1 - ext3 /dev/root rw")
    (Mount(root='/mnt1', target='/a b', kind='ext3', source='/dev/root'),)

    Source: proc_pid_mountinfo(5).
    """
    found = []
    for line in (text if text is not None else Path("/proc/self/mountinfo").read_text()).splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        found.append(
            Mount(
                root=_unescaped(left[3]),
                target=_unescaped(left[4]),
                kind=right[0],
                source=_unescaped(right[1]),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One loop device in use. ``file``: its backing file, for the kernel; ``identity``: device and inode."""

    device: Path
    file: str
    identity: tuple[int, int]


def loops() -> tuple[Loop, ...]:
    """Return the loop devices in use, whichever mount namespace set them up.

    Source: linux/loop.h, LOOP_GET_STATUS64 and struct loop_info64 (device, inode, ...).
    """
    found = []
    for state in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        device = Path("/dev") / state.parent.parent.name
        try:
            file = state.read_text().rstrip("\n")
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64_BYTES))
        except OSError:
            continue
        finally:
            os.close(descriptor)
        backing_device, inode = struct.unpack_from("QQ", info)
        found.append(Loop(device=device, file=file, identity=(backing_device, inode)))
    return tuple(found)


def loops_of(lab: str | None = None) -> tuple[Loop, ...]:
    """Return the loop devices on disks and ISO files of a lab (default: of all labs), whoever set them up.

    A node sees its ISO file under another name, and so does the kernel for a loop device that was made there: a file
    is known by what it is.
    """
    directory = lab_dir("nodes") / lab if lab else lab_dir("nodes")
    own = set(filter(None, map(_identity, directory.rglob("*"))))
    return tuple(
        loop
        for loop in loops()
        if loop.identity in own or Path(loop.file.removesuffix(" (deleted)")).is_relative_to(directory)
    )


def leftovers(lab: str | None = None) -> list[str]:
    """Name everything of a lab (default: of all labs) that is on the machine now; empty: nothing is left."""
    found: list[str] = []
    own = f"{PREFIX}{lab}-" if lab else PREFIX
    run_dir = RUN_DIR / lab if lab else RUN_DIR
    images_dir = lab_dir("nodes") / lab if lab else lab_dir("nodes")
    pids: set[int] = set()
    for file in (path for path in _children(NETNS_DIR) if path.name.startswith(own)):
        found.append(f"network namespace {file.name}")
        pids |= {int(pid) for pid in run(["ip", "netns", "pids", file.name], check=False).stdout.split()}
    for group in (path for path in _top_control_groups() if path.name.startswith(own)):
        found.append(f"control group {group}")
        pids |= _members(group)
    found += [f"process {pid} ({_command_of(pid)})" for pid in sorted(pids)]
    found += [f"mount {mount.target}" for mount in mounts() if Path(mount.target).is_relative_to(run_dir)]
    found += [f"loop device {loop.device} on {loop.file}" for loop in loops_of(lab)]
    found += [f"directory {directory}" for directory in (run_dir, images_dir) if directory.exists()]
    return found


# --- the small parts -------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _process(fields: dict[str, int] | None) -> Process | None:
    return Process(**fields) if fields else None


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _may_end(lab: str) -> bool:
    """Tell whether a kept lab has no living owner any more, so that somebody else may stop it."""
    record = read_lab(lab)
    return record is not None and record.kept and not is_alive(record.owner)


def _top_control_groups() -> list[Path]:
    return [
        path for root in control_group_roots() for path in _children(root) if path.name.startswith(PREFIX)
    ]


def _members(group: Path) -> set[int]:
    pids: set[int] = set()
    for directory, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            pids |= {int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()}
    return pids


def _end_members(key: str) -> None:
    """End what is inside the control groups of a node; whatever is in there was started by us or the node."""

    def is_empty() -> bool:
        pids = {pid for root in control_group_roots() for pid in _members(root / key)} - {0, os.getpid()}
        for process in filter(None, map(process_of, pids)):
            end_process(process)
        return not pids

    wait_until(is_empty, _PATIENCE_S)


def _rmdir_tree(top: Path) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not top.exists()


def _is_unmounted(target: Path) -> bool:
    return run(["umount", target], check=False).returncode == 0


def _remove_mounts(directory: Path) -> None:
    """Unmount all that is mounted on or under a directory, the newest first.

    Raises:
        LabError: one stays in use.
    """
    for mount in reversed(mounts()):
        target = Path(mount.target)
        if not target.is_relative_to(directory):
            continue
        if not wait_until(partial(_is_unmounted, target), 10.0, poll_s=0.2):
            raise LabError(
                f"{target} cannot be unmounted",
                details=run(["umount", target], check=False).stderr.strip(),
                resolution="end what uses it (fuser -vm shows it), then run '.venv/bin/python -m lab clean'",
            )


def _release_loops(files: Iterable[Path]) -> None:
    """Detach loop devices from files of ours; the kernel does it later for one that is mounted somewhere."""
    identities = set(filter(None, map(_identity, files)))
    for loop in loops() if identities else ():
        if loop.identity in identities:
            run(["losetup", "--detach", loop.device], check=False)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
