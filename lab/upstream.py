# SPDX-License-Identifier: Apache-2.0
"""The miniature upstream: its making, the servers in front of it, the profile that names it.

    components, Debian --> RPM repositories, images, manifest --prepare--> upstream.yaml, keys/, www/
                                                              --start----> registry :17500, its gate :17501,
                                                                           nginx :17080

``prepare`` makes everything and is quick when nothing changed. ``start`` has a holder process run all
servers: the kernel ends them when the holder ends, and the holder ends when its owner does, so that a killed
build leaves nothing. ``up`` starts them without an owner; they stay until ``down``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import selectors
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import yaml

from lab import gate, golang, images, onedir, registry, rpms, servers
from lab.cache import cache_dir, digest_of, is_intact, lab_dir, locked, replace_text
from lab.cleanup import Process, is_alive, process_of, wait_until
from lab.errors import LabError
from lab.progress import step
from lab.run import spawn

if TYPE_CHECKING:
    from subprocess import Popen

PORT = 17080
URL = f"http://{servers.LOOPBACK}:{PORT}"
DEFAULT_OUT_DIR = Path("_out/lab")
PROFILE_NAME = "lab"
RAW_HOST = "raw.githubusercontent.com"
PROFILE_HEAD = """# SPDX-License-Identifier: Apache-2.0
# Made by lab/upstream.py: what the miniature upstream serves.
"""
#: The repositories that have a mirror which is half synchronised.
HALF_MIRRORED = ("kubernetes",)
MARK_PATH = "/caisson-lab"  # nginx answers the digest of what it serves
HOLD_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0

#: Programs whose change has everything looked at again.
TOOLS = ("createrepo_c", "dpkg-deb", "go", "gpg", "mmdebstrap", "nginx", "rpmbuild", "rpmsign")

#: The holders that this process started, by directory: whoever starts a process has to wait for it.
_STARTED: dict[Path, Popen[bytes]] = {}
_LAB_SOURCES = Path(__file__).resolve().parent
_TOOL_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


@dataclass(frozen=True, kw_only=True)
class State:
    """Who runs the servers of an output directory; ``owner`` is None when they stay until ``down``."""

    holder: Process
    owner: Process | None
    servers: Mapping[str, Process]
    mark: str


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(out_dir: Path, *, force: bool = False) -> Path:
    """Make the whole upstream and its profile, and return the profile's path.

    Nothing is done when no source, tool or result changed since the last time (``force``: look all the same).
    Takes minutes the first time, mostly to compile; a second checkout on the same machine shares the results.
    """
    out_dir = out_dir.resolve()
    profile_file = out_dir / "upstream.yaml"
    record_file = out_dir / "upstream" / "prepared.json"
    inputs = _inputs_digest()
    if not force and is_prepared(record_file, inputs):
        return profile_file
    with locked(lab_dir("upstream") / "prepare.lock"), step("upstream"):
        repositories = {name: directory.resolve() for name, directory in rpms.build_repositories().items()}
        made = images.make_images()
        storage_dir = registry.fill_storage(made)
        half = {name: rpms.half_mirror(name, repositories[name]) for name in HALF_MIRRORED}
        _write_www(out_dir, {"yum": repositories, "yum-half": half})
        registry.write_config(out_dir / "upstream", storage_dir)
        replace_changed(profile_file, render_profile(_write_keys(out_dir), made))
        kept = [*repositories.values(), *half.values(), storage_dir]
        mark = digest_of({str(path): "" for path in [*kept, golang.calico_module_dir()]})
        replace_changed(out_dir / "upstream" / "nginx.conf", render_nginx(out_dir / "upstream", mark))
        write_record(record_file, inputs, out_dir, kept)
    return profile_file


def render_profile(repository_keys: Mapping[str, str], made: Iterable[images.MadeImage]) -> str:
    """Return the text of the upstream profile; ``repository_keys`` has fingerprints by repository id.

    Only versions that differ from the product's own list are named: one that the list moves ahead of the lab
    is then missed when it is locked, not silently replaced.
    """
    hosts = sorted({image.reference.partition("/")[0] for image in made})
    document = {
        "name": PROFILE_NAME,
        "lab": True,
        "lock_file": "caisson.lock",
        "versions": {
            "base_os": images.BASE_OS_TAG,
            "calico": golang.component("calico").version,
            "kubernetes": golang.component("kubernetes").version.removeprefix("v"),
            "nginx": images.NGINX_TAG,
            "salt": onedir.VERSION,
        },
        "repositories": {
            name: {
                "base_url": _addresses(name),
                "metadata": "tls" if name in rpms.weak_repositories() else "signed",
                "keys": [{"file": f"keys/{name}.asc", "fingerprint": fingerprint}],
            }
            for name, fingerprint in sorted(repository_keys.items())
        },
        "registries": {host: f"{gate.URL}/{host}" for host in hosts},
        "manifests": {f"https://{RAW_HOST}/": f"{URL}/{RAW_HOST}/"},
    }
    return PROFILE_HEAD + yaml.safe_dump(document, sort_keys=False)


def _addresses(repository_id: str) -> str | list[str]:
    """Return where a repository is: a mirror that is half synchronised comes first, where there is one."""
    whole = f"{URL}/yum/{repository_id}/"
    return [f"{URL}/yum-half/{repository_id}/", whole] if repository_id in HALF_MIRRORED else whole


def render_nginx(run_dir: Path, mark: str) -> str:
    """Return nginx's configuration: one process, everything below ``run_dir``, files with ETag and Range."""
    temporary = "".join(
        f"    {kind}_temp_path temporary/{kind};\n"
        for kind in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
    )
    return f"""daemon off;
master_process off;
pid nginx.pid;
error_log nginx-error.log warn;
events {{
    worker_connections 256;
}}
http {{
{temporary}    access_log nginx-access.log;
    default_type application/octet-stream;
    types {{
        application/xml xml;
        text/plain asc yaml;
    }}
    sendfile on;
    server {{
        listen {servers.LOOPBACK}:{PORT};
        root "{run_dir}/www";
        location = {MARK_PATH} {{
            default_type text/plain;
            return 200 "{mark}";
        }}
        location / {{
            autoindex on;
        }}
    }}
}}
"""


def replace_changed(path: Path, text: str) -> None:
    """Write a file unless it already says exactly this."""
    with suppress(OSError):
        if path.read_text() == text:
            return
    replace_text(path, text)


def _write_www(out_dir: Path, folders: Mapping[str, Mapping[str, Path]]) -> None:
    calico = golang.component("calico").version
    manifest = golang.calico_module_dir() / "manifests" / "calico-vxlan.yaml"
    www_dir = out_dir / "upstream" / "www"
    for folder, directories in folders.items():
        _link_all(www_dir / folder, directories)
    place = www_dir / RAW_HOST / "projectcalico" / "calico" / calico / "manifests" / manifest.name
    replace_changed(place, manifest.read_text())
    (out_dir / "upstream" / "temporary").mkdir(exist_ok=True)


def _link_all(folder_dir: Path, directories: Mapping[str, Path]) -> None:
    """Have a folder hold one link for each directory, and nothing else."""
    folder_dir.mkdir(parents=True, exist_ok=True)
    for stray in {path.name for path in folder_dir.iterdir()} - directories.keys():
        (folder_dir / stray).unlink()
    for name, directory in directories.items():
        link = folder_dir / name
        if not link.is_symlink() or link.readlink() != directory:
            link.unlink(missing_ok=True)
            link.symlink_to(directory)


def _write_keys(out_dir: Path) -> dict[str, str]:
    keys = rpms.repository_keys()
    for name, key in keys.items():
        replace_changed(out_dir / "keys" / f"{name}.asc", key.public_file.read_text())
    return {name: key.fingerprint for name, key in keys.items()}


# ---- is everything as it was?


def _inputs_digest() -> str:
    parts: dict[str, str | bytes] = {"cache": str(cache_dir())}
    for file in sorted(_LAB_SOURCES.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            parts[f"source {file.relative_to(_LAB_SOURCES)}"] = file.read_bytes()
    for tool in TOOLS:
        found = shutil.which(tool, path=_TOOL_PATH)
        parts[f"tool {tool}"] = f"{found} {_stamp(Path(found))}" if found else "absent"
    return digest_of(parts)


def is_prepared(record_file: Path, inputs: str) -> bool:
    """Tell whether the record is of these inputs, and files and kept directories are as it says."""
    try:
        record = json.loads(record_file.read_text())
        files, kept = dict(record["files"]), [Path(path) for path in record["kept"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return (
        record["inputs"] == inputs
        and all(_stamp(Path(path)) == stamp for path, stamp in files.items())
        and all(path.is_dir() and _is_kept(path) for path in kept)
    )


def _is_kept(directory: Path) -> bool:
    """Tell whether a kept directory, or the one of which it is a part, is as its manifest says."""
    kept_dirs = [path for path in (directory, *directory.parents) if path.is_relative_to(cache_dir() / "lab")]
    return any(path.with_name(f"{path.name}.json").is_file() and is_intact(path) for path in kept_dirs)


def write_record(record_file: Path, inputs: str, out_dir: Path, kept: Iterable[Path]) -> None:
    """Write down what was made, from which inputs, and how each file looks (size and time)."""
    run_dir = out_dir / "upstream"
    files = [out_dir / "upstream.yaml", run_dir / "nginx.conf", run_dir / "registry.yml"]
    files += sorted((out_dir / "keys").glob("*.asc"))
    files += [
        path for path in sorted((run_dir / "www").rglob("*")) if path.is_file() and not path.is_symlink()
    ]
    document = {
        "inputs": inputs,
        "files": {str(path): _stamp(path) for path in files},
        "kept": [str(path) for path in kept],
    }
    replace_text(record_file, json.dumps(document, indent=1, sort_keys=True) + "\n")


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


# -------------------------------------------------------------------------------------------- the servers


def start(out_dir: Path, *, is_bound: bool = True) -> None:
    """Have registry, gate and nginx serve what ``prepare`` made; return when all answer.

    Bound servers end with this process, however it ends (with its parent, when this is a worker of
    multiprocessing). Servers that already serve the very same are used as they are.

    Raises:
        LabError: a port is held by somebody else (named), a server does not start, or servers that should
            stay run for a process that will end.
    """
    out_dir = out_dir.resolve()
    run_dir = out_dir / "upstream"
    _require_prepared(out_dir)
    servers.require_loopback()
    with locked(run_dir / "start.lock"):
        mark = own_mark(run_dir)
        owner = _owner_of(run_dir)
        if (owner is None or is_alive(owner)) and is_serving(mark):
            if owner and not is_bound:
                raise LabError(
                    f"the lab's upstream runs already, for process {owner.pid}, and will end with it",
                    resolution="wait until that process has ended, then run again",
                )
            return
        _end_holder(run_dir)
        for server in _servers(run_dir):
            if holder := servers.port_holder(server.port):
                raise servers.port_taken(server, holder)
        owner = _owner() if is_bound else None
        arguments: list[str | Path] = [sys.executable, "-P", "-m", "lab.upstream", "hold", "--out", out_dir]
        if owner:
            arguments += ["--owner", f"{owner.pid}:{owner.started}"]
        log_file = run_dir / "holder.log"
        log_file.write_bytes(b"")
        process = _STARTED[run_dir] = spawn(
            arguments, output_file=log_file, env={"PYTHONPATH": str(_LAB_SOURCES.parent)}
        )
        wait_until(lambda: process.poll() is not None or _is_up(run_dir, mark), HOLD_TIMEOUT_S)
        if process.poll() is not None or not _is_up(run_dir, mark):
            servers.stop(_STARTED.pop(run_dir))
            raise LabError(
                "the lab's upstream did not start",
                details=log_file.read_text(errors="replace"),
                resolution=f"see the logs in {run_dir}",
            )


def stop(out_dir: Path) -> None:
    """End the servers that this output directory's state names, and wait until they are gone.

    Only the very processes that were recorded (number and start time) are touched; nothing to do is fine.
    """
    run_dir = out_dir.resolve() / "upstream"
    if run_dir.is_dir():
        with locked(run_dir / "start.lock"):
            _end_holder(run_dir)
            if process := _STARTED.pop(run_dir, None):
                wait_until(lambda: process.poll() is not None, STOP_TIMEOUT_S)


def is_serving(mark: str) -> bool:
    """Tell whether the ports serve exactly what the mark stands for."""
    return (
        servers.fetch_text(f"{URL}{MARK_PATH}") == mark
        and servers.fetch_text(f"{registry.URL}/v2/") is not None
        and servers.fetch_text(f"{gate.URL}{gate.STATE_PATH}") is not None
    )


def status(out_dir: Path) -> list[str]:
    """Return one line for each server: where it is, who runs it, for how long it stays."""
    state = _read_state(out_dir.resolve() / "upstream")
    if state is None or not is_alive(state.holder):
        return ["the lab's upstream does not run"]
    until = f"until process {state.owner.pid} ends" if state.owner else "until 'down'"
    addresses = {"gate": gate.URL, "nginx": URL, "registry": registry.URL}
    return [
        f"{name:<9} {addresses[name]}  process {process.pid}  {until}"
        for name, process in sorted(state.servers.items())
        if is_alive(process)
    ]


def _is_up(run_dir: Path, mark: str) -> bool:
    return _state_file(run_dir).exists() and is_serving(mark)


def _servers(run_dir: Path) -> tuple[servers.Server, ...]:
    nginx = servers.Server(
        name="nginx",
        args=("nginx", "-p", run_dir, "-c", run_dir / "nginx.conf", "-e", run_dir / "nginx-error.log"),
        port=PORT,
        path=MARK_PATH,
        log_file=run_dir / "nginx.log",
    )
    return registry.server(run_dir), gate.server(run_dir), nginx


def _owner() -> Process | None:
    # A worker of multiprocessing may end long before the run that it works for.
    parent = multiprocessing.parent_process()
    return process_of(parent.pid if parent and parent.pid else os.getpid())


def _owner_of(run_dir: Path) -> Process | None:
    state = _read_state(run_dir)
    return state.owner if state else None


def own_mark(run_dir: Path) -> str:
    """Return the mark in the nginx configuration of an output directory."""
    _, _, rest = (run_dir / "nginx.conf").read_text().partition('return 200 "')
    return rest.partition('"')[0]


def _require_prepared(out_dir: Path) -> None:
    if not (out_dir / "upstream" / "prepared.json").is_file():
        raise LabError(
            f"the lab's upstream is not prepared in {out_dir}",
            resolution="run '.venv/bin/python -m lab upstream up', which prepares it",
        )


# ---- the state file


def _state_file(run_dir: Path) -> Path:
    return run_dir / "state.json"


def _read_state(run_dir: Path) -> State | None:
    try:
        document = json.loads(_state_file(run_dir).read_text())
        return State(
            holder=Process(**document["holder"]),
            owner=Process(**document["owner"]) if document["owner"] else None,
            servers={name: Process(**process) for name, process in document["servers"].items()},
            mark=document["mark"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _end_holder(run_dir: Path) -> None:
    state = _read_state(run_dir)
    if state is not None:
        _signal(state.holder, signal.SIGTERM)
        everybody = (state.holder, *state.servers.values())
        if not wait_until(lambda: not any(map(is_alive, everybody)), STOP_TIMEOUT_S):
            for process in everybody:
                _signal(process, signal.SIGKILL)
            if not wait_until(lambda: not any(map(is_alive, everybody)), STOP_TIMEOUT_S):
                raise LabError("the lab's upstream does not end", details=str(state))
    _state_file(run_dir).unlink(missing_ok=True)


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to this very process, if it is still there."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if is_alive(process):  # asked with the descriptor held: it is this process or nobody
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


# ---- the holder: a process of its own


def hold(out_dir: Path, owner: Process | None) -> None:
    """Run all servers until SIGTERM, until the owner is gone, or until one of them ends."""
    run_dir = out_dir / "upstream"
    _exit_on_sigterm()
    running: dict[str, Popen[bytes]] = {}
    try:
        for server in _servers(run_dir):
            running[server.name] = servers.start(server)
        state = State(
            holder=_present(process_of(os.getpid())),
            owner=owner,
            servers={name: _present(process_of(child.pid)) for name, child in running.items()},
            mark=own_mark(run_dir),
        )
        replace_text(_state_file(run_dir), json.dumps(asdict(state), indent=1, sort_keys=True) + "\n")
        with _descriptors([*([owner] if owner else []), *state.servers.values()]) as descriptors:
            if owner is None or is_alive(owner):
                _wait_for_any(descriptors)
    finally:
        _state_file(run_dir).unlink(missing_ok=True)
        for child in running.values():
            servers.stop(child)


def _exit_on_sigterm() -> None:
    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _present(process: Process | None) -> Process:
    if process is None:
        raise LabError("a server of the lab's upstream ended at once")
    return process


@contextmanager
def _descriptors(processes: Iterable[Process]) -> Iterator[list[int]]:
    descriptors: list[int] = []
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                descriptors.append(os.pidfd_open(process.pid))
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _wait_for_any(descriptors: Iterable[int]) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        selector.select()


# ------------------------------------------------------------------------------------------------- command


def main(argv: Sequence[str]) -> int:
    """Do ``up``, ``down``, ``prepare`` or ``status``; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lab upstream", description="the lab's miniature upstream"
    )
    parser.add_argument("verb", choices=("prepare", "up", "down", "status", "hold"))
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT_DIR, help="default: %(default)s")
    parser.add_argument("--force", action="store_true", help="prepare: look at everything again")
    parser.add_argument("--owner", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        _do(options)
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def _do(options: argparse.Namespace) -> None:
    out_dir: Path = options.out
    if options.verb in ("prepare", "up"):
        began = time.monotonic()
        profile_file = prepare(out_dir, force=options.force)
        print(f"prepared {profile_file} in {time.monotonic() - began:.1f} s")
    if options.verb == "up":
        start(out_dir, is_bound=False)
    elif options.verb == "down":
        stop(out_dir)
    elif options.verb == "hold":
        pid, _, started = options.owner.partition(":")
        hold(out_dir, Process(pid=int(pid), started=int(started)) if pid else None)
    if options.verb in ("up", "status"):
        print("\n".join(status(out_dir)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
