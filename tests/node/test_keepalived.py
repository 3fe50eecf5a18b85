# SPDX-License-Identifier: Apache-2.0
"""The image of keepalived with the files of the tree, in three network namespaces: who has the address, when it moves.

What runs is what a control plane runs: the composed image with the pod's capabilities, its script, its check and its
configuration. Only the API servers are played, and there is no node: so the moves of the address are looked at alone,
in seconds. What it does among real API servers is in test_vip.py and test_vip_moves.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pytest

from build.inventory.model import Digest
from build.store.objects import Store
from tests.authorities import make_authority, make_leaf
from tests.node.installing import ROOT_DIR
from tests.unit.salt.test_modules import load

pytestmark = pytest.mark.lab

IMAGE_DIR = ROOT_DIR / "_out/lab/work/composed/keepalived"
FILES_DIR = ROOT_DIR / "salt/keepalived/files"
VIP, PORT = "10.66.0.100", 6443
ADDRESSES = {"one": "10.66.0.11", "two": "10.66.0.12", "three": "10.66.0.13"}
ASKER = "10.66.0.50"
SETTLED_S = 30.0
#: Twice the goals: two processors have more to do than this.
PLANNED_S, SERVER_S, KILLED_S, GONE_S = 2.0, 6.0, 8.0, 7.0
SERVER = """
import http.server, os, ssl, sys
certificate, key, state = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if open(state).read() == "ready" else 500)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 6443), Handler)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""
ASK = """
import http.client, ssl, sys, time
host, authority, file = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with open(file, "w", buffering=1) as answers:
    while True:
        asked_at = time.time()
        try:
            connection = http.client.HTTPSConnection(host, 6443, timeout=0.5, context=context)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                print(time.time(), file=answers)
            connection.close()
        except OSError:
            pass
        time.sleep(max(0.0, asked_at + 0.1 - time.time()))
"""
#: As the pod has it: a root that nobody writes to, the files and directories that it mounts, three capabilities.
CONTAINER = """
set -euo pipefail
mount --bind "$1" "$1"
mount --bind "$2/configuration" "$1/etc/keepalived"
mount --bind "$2/ca" "$1/etc/caisson-ca"
mount --bind "$2/away" "$1/run/caisson-vip"
mount -t tmpfs tmpfs "$1/run/keepalived"
mount -t tmpfs tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount -o remount,bind,ro "$1"
exec "$3" -c "$4" "$1"
"""
#: What a process of root's has after exec is what its bounding set has left. Source: capabilities(7), prctl(2).
CONFINED = """
import ctypes, os, sys
os.chroot(sys.argv[1])
os.chdir("/")
kernel, kept = ctypes.CDLL(None, use_errno=True), {6: "SETGID", 12: "NET_ADMIN", 13: "NET_RAW"}
for capability in range(41):
    if capability not in kept and kernel.prctl(24, capability, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"capability {capability}")
if kernel.prctl(38, 1, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "no new privileges")
os.execv("/bin/bash", ["/bin/bash", "/etc/keepalived/run.sh"])
"""


def command(*words: str | Path, check: bool = True) -> str:
    """Run a command; return what it printed."""
    return subprocess.run([*map(str, words)], check=check, capture_output=True, text=True, timeout=60).stdout


@dataclass
class Plane:
    """One control plane: a network namespace with the real keepalived and an API server that is played."""

    name: str
    netns: str
    root: Path
    place: Path
    container: subprocess.Popen[bytes] | None = None
    server: subprocess.Popen[bytes] | None = None

    def in_network(self, *words: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.netns, *map(str, words)]

    def say(self, state: str) -> None:
        """Let the API server answer: ready, or not."""
        (self.place / "state").write_text(state)

    def start_server(self) -> None:
        files = (self.place / "leaf.crt", self.place / "leaf.key", self.place / "state")
        self.server = subprocess.Popen(self.in_network(sys.executable, "-c", SERVER, *files))

    def start(self) -> None:
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", CONTAINER, "run")
        words = self.in_network(*apart, self.root, self.place, sys.executable, CONFINED)
        with (self.place / "log").open("ab") as log:
            self.container = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def stop_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def processes(self) -> list[int]:
        """Return the processes of keepalived here, by their network."""
        own = Path(f"/run/netns/{self.netns}").stat().st_ino
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_it = (directory / "comm").read_text().strip() == "keepalived"
                if is_it and (directory / "ns/net").stat().st_ino == own:
                    found.append(int(directory.name))
        return found

    def kill_keepalived(self) -> None:
        for number in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def has_address(self) -> bool:
        return bool(command("ip", "-n", self.netns, "-oneline", "address", "show", "to", VIP).strip())

    def end(self) -> None:
        """Let the container end as the kubelet does."""
        if self.container is not None and self.container.poll() is None:
            for number in self._runners():
                os.kill(number, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.container.wait(timeout=10)
            self.container.kill()
            self.container.wait()
        self.container = None

    def _runners(self) -> list[int]:
        """Return the script that runs keepalived: the first process of its container."""
        assert self.container is not None
        children = Path(f"/proc/{self.container.pid}/task/{self.container.pid}/children").read_text()
        return [int(number) for number in children.split()]


@dataclass
class Network:
    """All of them, and who asks at the address all the time."""

    planes: dict[str, Plane] = field(default_factory=dict)
    answers: Path = Path()

    def holders(self) -> list[str]:
        return [name for name, plane in self.planes.items() if plane.has_address()]

    def settle(self) -> Plane:
        """Wait until one has the address and all are well; return which."""
        ends_at, seen = time.monotonic() + SETTLED_S, 0
        while time.monotonic() < ends_at:
            found = self.holders()
            seen = seen + 1 if len(found) == 1 else 0
            if seen >= 10:
                return self.planes[found[0]]
            time.sleep(0.2)
        raise AssertionError(
            {name: (plane.place / "log").read_text()[-3000:] for name, plane in self.planes.items()}
        )

    def gap(self, happens: Callable[[], object], *, watch_s: float = 10.0) -> tuple[float, int]:
        """Return the longest time between two answers while something happens, and how often two had the address."""
        time.sleep(0.5)
        began, twice = time.time(), 0
        happens()
        while time.time() < began + watch_s:
            twice += len(self.holders()) > 1
            time.sleep(0.2)
        moments = [float(line) for line in self.answers.read_text().splitlines()]
        moments = [moment for moment in moments if moment > began - 1]
        assert moments, "no answer at all"
        assert moments[-1] > time.time() - 1, "no answer at the end"
        return max(after - before for before, after in itertools.pairwise(moments)), twice


def facts(name: str) -> dict[str, Any]:
    """Return what a control plane's files are rendered with."""
    known: dict[str, Any] = load("caisson_vip").facts(
        {
            "node": {
                "name": name,
                "role": "control-plane",
                "control_plane_address": ADDRESSES[name],
                "control_plane_interface": "eth0",
            },
            "networks": {"vip": VIP},
            "control_planes": [{"name": one, "address": address} for one, address in ADDRESSES.items()],
        },
        PORT,
    )
    return known


def unpack(root: Path) -> Path:
    """Unpack the image that was composed for the bundle; add the places that a pod's mounts need."""
    root.mkdir()
    manifest = json.loads((IMAGE_DIR / "manifest.json").read_text())
    for layer in manifest["layers"]:
        file = Store.default().path(Digest(layer["digest"].removeprefix("sha256:")))
        file = file if file.is_file() else IMAGE_DIR / "layer.tar.gz"
        command("tar", "--extract", "--gzip", "--file", file, "--directory", root)
    for name in (
        "etc/keepalived",
        "etc/caisson-ca",
        "run/caisson-vip",
        "run/keepalived",
        "tmp",
        "proc",
        "dev",
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    return root


def prepare(plane: Plane, authority: tuple[Path, Path]) -> None:
    """Write what the states write on a control plane, and what kubeadm does."""
    for name in ("configuration", "ca", "away"):
        (plane.place / name).mkdir(parents=True)
    environment = jinja2.Environment(  # noqa: S701  no HTML
        loader=jinja2.FileSystemLoader(FILES_DIR), keep_trailing_newline=True
    )
    for name, mode in (("keepalived.conf", 0o644), ("check.sh", 0o755)):
        file = plane.place / "configuration" / name
        file.write_text(environment.get_template(f"{name}.j2").render(**facts(plane.name)))
        file.chmod(mode)
    (plane.place / "configuration/run.sh").write_text((FILES_DIR / "run.sh").read_text())
    (plane.place / "ca/ca.crt").write_bytes(authority[0].read_bytes())
    make_leaf(plane.place, authority, names=[ADDRESSES[plane.name], VIP])
    plane.say("ready")


@contextlib.contextmanager
def cabled(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the network namespaces of these names, on one bridge that nothing else is on."""
    prefix = f"kv{os.getpid()}"
    switch, found = f"{prefix}-switch", {name: f"{prefix}-{name}" for name in names}
    try:
        command("ip", "netns", "add", switch)
        command("ip", "-n", switch, "link", "add", "plane", "type", "bridge")
        command("ip", "-n", switch, "link", "set", "plane", "up")
        for name, netns in found.items():
            command("ip", "netns", "add", netns)
            command(
                "ip",
                "-n",
                switch,
                "link",
                "add",
                name,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                netns,
            )
            command("ip", "-n", switch, "link", "set", name, "master", "plane", "up")
            address = ADDRESSES.get(name, ASKER)
            command("ip", "-n", netns, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                command("ip", "-n", netns, "link", "set", link, "up")
        yield found
    finally:
        for netns in (*found.values(), switch):
            command("ip", "netns", "delete", netns, check=False)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Yield three control planes that share the address, with one who asks at it."""
    directory = tmp_path_factory.mktemp("keepalived")
    root = unpack(directory / "root")
    authority = make_authority(directory / "authority")
    with cabled([*ADDRESSES, "asker"]) as netns, contextlib.ExitStack() as started:
        found = Network(answers=directory / "answers")
        for name in ADDRESSES:
            plane = found.planes[name] = Plane(name, netns[name], root, directory / name)
            prepare(plane, authority)
            plane.start_server()
            started.callback(plane.stop_server)
            plane.start()
            started.callback(plane.end)
        words = ["ip", "netns", "exec", netns["asker"], sys.executable, "-c", ASK]
        asker = subprocess.Popen([*words, VIP, str(authority[0]), str(found.answers)])
        started.callback(asker.wait)
        started.callback(asker.kill)
        yield found


def test_one_of_them_has_it_and_says_nothing_strange(network: Network) -> None:
    holder = network.settle()
    for name, plane in network.planes.items():
        said = (plane.place / "log").read_text()
        assert ("Entering MASTER STATE" in said) is (name == holder.name), said
        for word in ("denied", "not permitted", "rror", "Unable", "nknown keyword", "ignoring", "SECURITY"):
            assert word not in said, said


def test_planned_work(network: Network) -> None:
    """The file that 'caisson vip away' writes; afterwards the address stays where it is."""
    holder = network.settle()
    gap, twice = network.gap(lambda: (holder.place / "away/away").write_text("1\n"), watch_s=5)
    taker = network.settle()
    print(f"| planned | {gap:.2f} | {twice} |")
    assert taker is not holder
    assert gap <= PLANNED_S
    gap, _ = network.gap(lambda: (holder.place / "away/away").write_text("0\n"), watch_s=5)
    assert network.settle() is taker
    assert gap <= PLANNED_S


def test_an_api_server_that_is_not_ready(network: Network) -> None:
    holder = network.settle()
    gap, twice = network.gap(lambda: holder.say("not ready"))
    taker = network.settle()
    print(f"| API server not ready | {gap:.2f} | {twice} |")
    holder.say("ready")
    assert taker is not holder
    assert gap <= SERVER_S
    gap, _ = network.gap(lambda: None, watch_s=5)
    assert network.settle() is taker
    assert gap <= PLANNED_S


def test_an_api_server_that_is_gone(network: Network) -> None:
    holder = network.settle()
    gap, twice = network.gap(holder.stop_server)
    taker = network.settle()
    print(f"| API server gone | {gap:.2f} | {twice} |")
    holder.start_server()
    assert taker is not holder
    assert gap <= SERVER_S


def test_an_api_server_that_hangs(network: Network) -> None:
    holder = network.settle()
    assert holder.server is not None
    number = holder.server.pid
    gap, twice = network.gap(lambda: os.kill(number, signal.SIGSTOP))
    taker = network.settle()
    os.kill(number, signal.SIGCONT)
    print(f"| API server hangs | {gap:.2f} | {twice} |")
    assert taker is not holder
    assert gap <= SERVER_S


def test_a_keepalived_that_is_killed(network: Network) -> None:
    """It leaves the address on the interface; what runs it starts another one, which takes it off."""
    holder = network.settle()
    gap, twice = network.gap(holder.kill_keepalived)
    network.settle()
    print(f"| keepalived killed | {gap:.2f} | {twice} |")
    assert gap <= KILLED_S
    assert holder.container is not None
    assert holder.container.poll() is None


def test_a_host_that_is_gone(network: Network) -> None:
    """Its cable is cut: as when the power goes, nothing says goodbye. With it again, one of them has the address."""
    holder = network.settle()
    link = ("ip", "-n", holder.netns, "link", "set", "eth0")
    gap, _ = network.gap(lambda: command(*link, "down"))
    others = [name for name in network.holders() if name != holder.name]
    print(f"| gone | {gap:.2f} | |")
    command(*link, "up")
    assert len(others) == 1
    assert gap <= GONE_S
    network.settle()


def test_one_that_ends_says_goodbye(network: Network) -> None:
    """As when its node is removed or reset: the address is nowhere on it afterwards."""
    holder = network.settle()
    gap, _ = network.gap(holder.end, watch_s=5)
    print(f"| ended | {gap:.2f} | |")
    assert not holder.has_address()
    assert network.settle() is not holder
    assert gap <= PLANNED_S
    holder.start()
    network.settle()


def test_another_one_s_loss_is_not_noticed(network: Network) -> None:
    holder = network.settle()
    other = next(plane for plane in network.planes.values() if plane is not holder)

    def lose() -> None:
        other.stop_server()
        other.kill_keepalived()

    gap, twice = network.gap(lose)
    print(f"| another one lost | {gap:.2f} | {twice} |")
    other.start_server()
    assert network.settle() is holder
    assert gap <= PLANNED_S


def test_it_stays_where_no_other_one_is_better(network: Network) -> None:
    """As without a quorum, or when all of them start: nobody is ready."""
    holder = network.settle()
    for plane in network.planes.values():
        plane.say("not ready")
    for _ in range(10):
        time.sleep(1)
        assert network.holders() == [holder.name]
    for plane in network.planes.values():
        plane.say("ready")
    assert network.settle() is holder


def test_a_changed_configuration_is_read_and_moves_nothing(network: Network) -> None:
    """One more control plane joins: each is told of it, and who has the address keeps it."""
    holder = network.settle()

    def tell() -> None:
        for plane in network.planes.values():
            file = plane.place / "configuration/keepalived.conf"
            text = file.read_text().replace("unicast_peer {", "unicast_peer {\n    10.66.0.14")
            beside = file.with_suffix(".tmp")
            beside.write_text(text)
            beside.replace(file)

    gap, twice = network.gap(tell, watch_s=8)
    print(f"| told of another one | {gap:.2f} | {twice} |")
    assert network.settle() is holder
    assert gap <= PLANNED_S
    assert "Reloading" in (holder.place / "log").read_text()
