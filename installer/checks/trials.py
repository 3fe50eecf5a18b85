# SPDX-License-Identifier: Apache-2.0
"""Try on the host what cannot be known by looking, and leave nothing behind.

Packages are unpacked in memory, in a mount namespace; containers and packets get namespaces that end with
their trial; files that must be on a disk have no name, or are removed at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base import namespaces
from installer.base.errors import InstallerError
from installer.base.paths import Paths
from installer.base.run import Completed, run
from installer.config.facts import TRIAL_INTERFACES
from installer.media import dnf, rpmkeys
from installer.media.product import Product

SYNC_BYTES = 2300
SYNC_COUNT = 200
SYNC_LIMIT_S = 2.0
COMMAND_TIMEOUT_S = 120.0
"""Longer than any of them takes: a host that is busy with something else is no reason to refuse it."""
OVERLAY_PREFIX = ".caisson-trial-"
PACKET_TIMEOUT_S = 2.0
PACKET_PORT = 4789
PACKET_TRIES = 3
TURN_TIMEOUT_S = 120.0
TURNS_DIR = Path("/")
"""Locked while a trial uses what a host has once (interfaces, the addresses of the trial); no file is made for it."""
# What is unpacked and started: package -> programs in it, each with words that make it say its version.
PROGRAMS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "containerd.io": (("/usr/bin/containerd", "--version"), ("/usr/bin/runc", "--version")),
    "cri-tools": (("/usr/bin/crictl", "--version"),),
    "kubelet": (("/usr/bin/kubelet", "--version"),),
    "kubeadm": (("/usr/bin/kubeadm", "version", "--output=short"),),
    "kubectl": (("/usr/bin/kubectl", "version", "--client"),),
    "salt": (("/opt/saltstack/salt/bin/python3", "-I", "-c", "import ctypes, sqlite3, ssl, zlib"),),
}
RUNTIME_PACKAGES = ("containerd.io", "cri-tools")
LIBRARY_DIR = re.compile(r"^.*?/(?:site|dist)-packages(?=/)")
"""Python's modules of others: thousands of files in Salt's package, of which no trial starts any."""
RPM_WORDS = (
    "--install",
    "--nodeps",
    "--noscripts",
    "--notriggers",
    "--nosignature",
    "--excludedocs",
    # Plugins would write to the host's journal and audit log, or ask its systemd not to shut down.
    "--noplugins",
)


@dataclass(frozen=True)
class Media:
    """Where the packages are, and which."""

    media_dir: Path
    product: Product

    def package_file(self, name: str) -> Path:
        """Return the file of a package.

        Raises:
            FileNotFoundError: the media does not have it.
        """
        version = self.product.packages[name].split(":")[-1]
        found = sorted((self.media_dir / "repo/el9/Packages").glob(f"{name}-{version}.*.rpm"))
        if not found:
            raise FileNotFoundError(f"{name}-{version} is not on the media")
        return found[0]


@dataclass(frozen=True)
class _Runtime:
    """What came of the container runtime: program -> what it said, and what the container said."""

    programs: Mapping[str, Completed]
    container: Completed


class BusyError(Exception):
    """Another check on this host is at the same trial, and does not end: this says nothing about the host."""


class Trials:
    """The trials; checks reach them through the host that they look at, so that a test can replace them."""

    def __init__(self) -> None:
        """Begin with nothing tried."""
        self._runtime_turn = threading.Lock()
        self._runtimes: dict[Path, _Runtime] = {}

    def time_syncs(self, directory: Path) -> Sequence[float]:
        """Append to a nameless file and sync it, time after time; return the seconds of each.

        Nothing is returned where the file system has no nameless files (O_TMPFILE).
        """
        try:
            descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
        except OSError:
            return ()
        times_s: list[float] = []
        try:
            ends_at = time.monotonic() + SYNC_LIMIT_S
            while len(times_s) < SYNC_COUNT and time.monotonic() < ends_at:
                os.write(descriptor, bytes(SYNC_BYTES))
                started = time.monotonic()
                os.fdatasync(descriptor)
                times_s.append(time.monotonic() - started)
        finally:
            os.close(descriptor)
        return times_s

    def mount_overlay(self, directory: Path) -> str:
        """Mount an overlay whose layers are below ``directory``, write through it; return what went wrong.

        Raises:
            BusyError: another check is at it.
        """
        with _turn():
            return self._mount_overlay(directory)

    def _mount_overlay(self, directory: Path) -> str:
        for left in directory.glob(f"{OVERLAY_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        status = directory.stat()
        layers = Path(tempfile.mkdtemp(prefix=OVERLAY_PREFIX, dir=directory))
        try:
            for name in ("lower", "upper", "work"):
                (layers / name).mkdir()
            namespaces.with_scratch_dir(lambda scratch: _write_through(layers, scratch), needed=[directory])
        except OSError as exc:
            return str(exc)
        finally:
            shutil.rmtree(layers, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))
        return ""

    def run_programs(self, media: Media) -> Mapping[str, Completed]:
        """Unpack the packages of the media in memory, start what is in them; return program -> what it said."""
        others = [package for package in PROGRAMS if package not in RUNTIME_PACKAGES]

        def unpack_and_run(scratch: Path) -> dict[str, Completed]:
            return _say_versions(_unpack(media, others, scratch), others)

        said = namespaces.with_scratch_dir(unpack_and_run, needed=[media.media_dir])
        said.update(self._try_runtime(media).programs)
        return {name: said[name] for name in sorted(said)}

    def run_container(self, media: Media) -> Completed:
        """Start a container: the media's runc, and one static program of the media as all that is in it."""
        return self._try_runtime(media).container

    def _try_runtime(self, media: Media) -> _Runtime:
        """Unpack the runtime once for both trials, whichever comes first; the other unpacks the rest meanwhile."""

        def unpack_and_run(scratch: Path) -> _Runtime:
            tree = _unpack(media, RUNTIME_PACKAGES, scratch)
            return _Runtime(_say_versions(tree, RUNTIME_PACKAGES), _start_container(tree, scratch))

        with self._runtime_turn:
            if media.media_dir not in self._runtimes:
                found = namespaces.with_scratch_dir(unpack_and_run, needed=[media.media_dir])
                self._runtimes[media.media_dir] = found
            return self._runtimes[media.media_dir]

    def try_packages(self, media: Media, names: Sequence[str]) -> Completed:
        """Let dnf resolve and test the installation from the media; rpm's database is only read.

        Signatures are left out: checking them would put keys into rpm's database.
        """

        def configure_and_test(scratch: Path) -> Completed:
            paths = Paths(scratch)
            dnf.write_files(paths, media.media_dir, media.product)
            options = (
                "--setopt=tsflags=test",
                f"--setopt=persistdir={scratch}/persist",
                "--setopt=protected_packages=",
                "--nogpgcheck",
            )
            return _run([*dnf.dnf_arguments(paths, "install"), *options, *names])

        return namespaces.with_scratch_dir(configure_and_test, needed=[media.media_dir])

    def send_packets(self, network: ipaddress.IPv4Network, *, has_firewalld: bool) -> str:
        """Send a datagram between two network namespaces through this host, and its answer back.

        This is the way of a packet from pod to pod. ``network`` lends the addresses, its last eight. firewalld is
        told to trust the two interfaces, at run time only, as the bootstrap tells it for those of pods: what stops
        the packets then is something else. It is told again when they do not arrive, for a reload beside, and
        NetworkManager with a zone of its own for what it sees appear, take that back. Returns what went wrong, nothing
        when all is well.

        Raises:
            BusyError: another check is at it.
        """
        with _turn():
            return self._send_packets(network, has_firewalld=has_firewalld)

    def _send_packets(self, network: ipaddress.IPv4Network, *, has_firewalld: bool) -> str:
        first = int(network.broadcast_address) - 7
        addresses = [str(ipaddress.IPv4Address(first + offset)) for offset in (1, 2, 5, 6)]
        zone = TRIAL_INTERFACES if has_firewalld else ()
        _take_away(zone)  # what a killed run left
        ends = [namespaces.Network(), namespaces.Network()]
        try:
            for index, end in enumerate(ends):
                _connect(TRIAL_INTERFACES[index], end, addresses[2 * index], addresses[2 * index + 1])
            return _try_again(lambda: _ask_and_answer(ends[0], ends[1], addresses[1], addresses[3]), zone)
        except OSError as exc:
            return str(exc)
        finally:
            _take_away(zone)
            for end in ends:
                end.close()


FIREWALLD = (
    "busctl",
    "call",
    "org.fedoraproject.FirewallD1",
    "/org/fedoraproject/FirewallD1",
    "org.fedoraproject.FirewallD1.zone",
)
"""firewalld by D-Bus: ten milliseconds, where firewall-cmd takes a third of a second. Source: firewalld.dbus(5)."""
CONTAINER = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/program", "--version"],
        "env": ["PATH=/", "HOME=/"],
        "cwd": "/",
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "trial",
    "linux": {"namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts", "network")]},
}
CONTAINER_SAYS = "crictl version"
"""The configuration of the trial's container, and how its program's answer begins.
Source: OCI runtime specification 1.0.2, "Configuration".
"""


@contextlib.contextmanager
def _turn(timeout_s: float = TURN_TIMEOUT_S) -> Iterator[None]:
    """Wait until no other check on this host is at a trial that two cannot do at once.

    Raises:
        BusyError: one was at it all the time.
    """
    descriptor = os.open(TURNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ends_at = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends_at:
                    raise BusyError("another check on this host is at the same trial") from None
                time.sleep(0.1)
        yield
    finally:
        # Let go by word, not by closing: a program that is being started beside holds the descriptor until its exec.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try_again(ask: Callable[[], str], zone: Sequence[str]) -> str:
    """Ask up to three times, firewalld told of the zone before each; return what went wrong the last time."""
    fault = ""
    for _ in range(PACKET_TRIES):
        for name in zone:
            _must([*FIREWALLD, "changeZoneOfInterface", "ss", "trusted", name])
        fault = ask()
        if not fault:
            break
    return fault


def _take_away(zone: Sequence[str]) -> None:
    """Take the trial's interfaces off this host and out of firewalld; whether it could is no finding."""
    for name in zone:
        _tidy([*FIREWALLD, "removeInterface", "ss", "trusted", name])
    for name in TRIAL_INTERFACES:
        _tidy(["ip", "link", "delete", name])


def _run(words: Sequence[str]) -> Completed:
    return run(words, timeout_s=COMMAND_TIMEOUT_S, check=False)


def _tidy(words: Sequence[str]) -> None:
    """Run a command that cleans up: whether it could is no finding about the host."""
    with contextlib.suppress(InstallerError):
        _run(words)


def _must(words: Sequence[str]) -> Completed:
    completed = _run(words)
    if completed.returncode != 0:
        said = (completed.stderr or completed.stdout).strip().splitlines()
        raise OSError(f"'{' '.join(words)}' failed: {said[-1] if said else completed.returncode}")
    return completed


def _unpack(media: Media, packages: Sequence[str], scratch: Path) -> Path:
    """Unpack packages into one tree and return it; it goes with the scratch directory."""
    tree = scratch / "tree"
    tree.mkdir()
    files = [media.package_file(name) for name in packages]
    # Nothing of a package is started before its signature was found good.
    rpmkeys.check_signatures([media.media_dir / name for name in media.product.rpm_keys], files)
    listed = _must(["rpm", "--query", "--package", "--nosignature", "--list", *map(str, files)]).stdout
    libraries = [f"--excludepath={path}" for path in library_dirs(listed)]
    _must(["rpm", "--root", str(tree), "--dbpath", "/.rpmdb", *RPM_WORDS, *libraries, *map(str, files)])
    return tree


def library_dirs(listed: str) -> list[str]:
    r"""Return the directories of Python's modules in a list of files.

    >>> library_dirs("/opt/a/lib/python3.13/site-packages/x.py\n/opt/a/lib/python3.13/ssl.py\n")
    ['/opt/a/lib/python3.13/site-packages']
    """
    found = (LIBRARY_DIR.match(line) for line in listed.splitlines())
    return sorted({match.group(0) for match in found if match})


def _say_versions(tree: Path, packages: Sequence[str]) -> dict[str, Completed]:
    """Start the programs of packages that are unpacked in ``tree``; return program -> what it said."""
    return {
        f"{package}: {program}": _run([str(tree / program.lstrip("/")), *words])
        for package in packages
        for program, *words in PROGRAMS[package]
    }


def _start_container(tree: Path, scratch: Path) -> Completed:
    bundle = scratch / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    # A link, no copy: a program that a check beside this one is starting holds every descriptor until its
    # exec, and the kernel runs no file that somebody may still write to (ETXTBSY).
    os.link(tree / "usr/bin/crictl", bundle / "rootfs/program")
    (bundle / "config.json").write_text(json.dumps(CONTAINER), encoding="utf-8")
    name = f"caisson-trial-{os.getpid()}"
    return _run(
        [str(tree / "usr/bin/runc"), "--root", str(scratch / "runc"), "run", "--bundle", str(bundle), name]
    )


def _write_through(layers: Path, scratch: Path) -> None:
    merged = scratch / "merged"
    merged.mkdir()
    options = ",".join(
        f"{key}={layers / name}"
        for key, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work"))
    )
    namespaces.mount("overlay", merged, "overlay", options)
    try:
        (merged / "written").write_text("x", encoding="utf-8")
        if not (layers / "upper/written").is_file():
            raise OSError("what is written through the overlay does not arrive in its upper layer")
    finally:
        # The namespace's end would do it too, but the layers are removed before.
        with contextlib.suppress(OSError):
            namespaces.detach(merged)


def _connect(name: str, end: namespaces.Network, gateway: str, address: str) -> None:
    """Cable a namespace to this host: one pair of interfaces, one /30, this host as the gateway."""
    inside = f"{name}p"
    _must(["ip", "link", "add", name, "type", "veth", "peer", "name", inside])
    _must(["ip", "link", "set", inside, "netns", end.path])
    _must(["ip", "address", "add", f"{gateway}/30", "dev", name])
    _must(["ip", "link", "set", name, "up"])
    # The switch of one interface: that of the host stays as it is.
    Path(f"/proc/sys/net/ipv4/conf/{name}/forwarding").write_text("1", encoding="ascii")
    end.call(lambda: _must(["ip", "address", "add", f"{address}/30", "dev", inside]))
    end.call(lambda: _must(["ip", "link", "set", inside, "up"]))
    end.call(lambda: _must(["ip", "route", "add", "default", "via", gateway]))


def _ask_and_answer(
    asking: namespaces.Network, answering: namespaces.Network, source: str, target: str
) -> str:
    asker, answerer = (
        end.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for end in (asking, answering)
    )
    with asker, answerer:
        asker.settimeout(PACKET_TIMEOUT_S)
        answerer.settimeout(PACKET_TIMEOUT_S)
        asker.bind((source, 0))
        answerer.bind((target, PACKET_PORT))
        asker.sendto(b"caisson", (target, PACKET_PORT))
        try:
            _, sender = answerer.recvfrom(64)
        except OSError:
            return f"a datagram from {source} to {target} did not arrive"
        answerer.sendto(b"caisson", sender)
        try:
            asker.recvfrom(64)
        except OSError:
            return f"the answer from {target} to {source} did not arrive"
    return ""
