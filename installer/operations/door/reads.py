# SPDX-License-Identifier: Apache-2.0
"""Answer what the console only wants to see: the objects of the commands' own ``--json``, and what belongs to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import UsageError, to_json
from installer.base.paths import Paths
from installer.base.session import only_looking
from installer.config import changes
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import jobs, journal
from installer.engine.jobs import Job
from installer.media import product
from installer.operations import (
    certificates,
    following_images,
    images,
    job_report,
    media,
    own_state,
    probing,
    reporting,
    status,
)
from installer.operations.asking import LIMIT_S, Question
from installer.operations.certificates import CertificateState
from installer.operations.door import audit, host, phases
from installer.operations.door.wire import NOT_FOUND, RefusalError

HOST_LIMIT_S = LIMIT_S + 1.0
JOURNAL_ENTRIES = 200
CHUNK_BYTES = 256 * 1024
RENEWED_BY = {
    certificates.KUBEADM_FIX: "kubeadm certs renew",
    certificates.KUBELET_FIX: "the kubelet",
    certificates.OWN_FIX: "caisson bootstrap",
    certificates.CONSOLE_FIX: "caisson bootstrap, or caisson node add",
    certificates.AUTHORITY_FIX: "nobody",
}
USERS: Mapping[str, str] = {
    "/etc/kubernetes/pki/apiserver.crt": "kube-apiserver, to its clients",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt": "kube-apiserver, to kubelets",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt": "kube-apiserver, to etcd",
    "/etc/kubernetes/pki/front-proxy-client.crt": "kube-apiserver, to extension servers",
    "/etc/kubernetes/pki/ca.crt": "the cluster's authority",
    "/etc/kubernetes/pki/front-proxy-ca.crt": "the authority of extension servers' clients",
    "/etc/kubernetes/pki/etcd/ca.crt": "etcd's authority",
    "/etc/kubernetes/pki/etcd/server.crt": "etcd, to its clients",
    "/etc/kubernetes/pki/etcd/peer.crt": "etcd, to its members",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt": "whoever asks etcd how it is",
    "/etc/kubernetes/admin.conf": "root's kubectl",
    "/etc/kubernetes/super-admin.conf": "root's kubectl, past RBAC",
    "/etc/kubernetes/controller-manager.conf": "kube-controller-manager",
    "/etc/kubernetes/scheduler.conf": "kube-scheduler",
    "/var/lib/kubelet/pki/kubelet-client-current.pem": "the kubelet, to the API",
    "/etc/caisson/pki/ca.crt": "the authority of Caisson's own services",
    "/etc/caisson/pki/media.crt": "nginx: images and packages",
    "/etc/caisson/console/tls.crt": "the console",
}


@dataclass(frozen=True)
class Asked:
    """What a verb is answered from."""

    arguments: Mapping[str, Any]
    paths: Paths
    tree_dir: Path


Read = Callable[[Asked], Mapping[str, Any]]


def read_status(asked: Asked) -> Mapping[str, Any]:
    """Return the object of ``caisson status --json``, and what only this host knows of itself."""
    paths, found = asked.paths, product.load(asked.tree_dir)
    known = changes.recorded(paths) or {}
    address = str(known["node"]["control_plane_address"]) if known else ""
    ports = {port.name: port.port for port in read_ports(asked.tree_dir / PORTS_FILE)}
    with only_looking():
        look = partial(host.gather, paths, address=address, api_port=ports["kube-apiserver"])
        own: Question[dict[str, Any] | None] = Question("this host", look, limit_s=HOST_LIMIT_S)
        state: status.State | own_state.OwnState
        if own_state.is_further_node(paths):
            state = own_state.gather(paths, tree_dir=asked.tree_dir)
        else:
            state = status.gather_state(found, paths, tree_dir=asked.tree_dir)
        seen = own.answer(None, [])
    return {
        **state.to_json(found),
        "role": str(known["node"]["role"]) if known else "",
        "cluster": str(known["cluster"]["name"]) if known else "",
        "host": seen,
    }


def read_certificates(asked: Asked) -> Mapping[str, Any]:
    """Return each certificate of this host, those that end first first."""
    found = certificates.find_certificates(asked.paths)
    return {"certificates": [_certificate(state) for state in found]}


def _certificate(state: CertificateState) -> dict[str, Any]:
    fix = certificates.certificate_fault(state).fix
    return {
        "name": Path(state.file).stem,
        "file": state.file,
        "user": USERS.get(state.file, ""),
        "ends": state.ends,
        "days": state.days_left,
        "renewed_by": RENEWED_BY.get(fix, ""),
        "authority": fix == certificates.AUTHORITY_FIX,
        "fault": state.fault,
        "fix": fix if state.fault else "",
    }


def read_media(asked: Asked) -> Mapping[str, Any]:
    """Return the object of ``caisson media list --json``."""
    own_state.refuse_here(asked.paths, "ISOs are listed")
    found = media.rows(asked.paths, product.load(asked.tree_dir))
    followed = [one.to_json() for one in following_images.known(asked.paths)]
    return {"format": 1, "media": [asdict(row) for row in found], "followed": followed}


def read_images(asked: Asked) -> Mapping[str, Any]:
    """Return the object of ``caisson images list --json``."""
    own_state.refuse_here(asked.paths, "images are listed")
    site = images.find_site(asked.paths, asked.tree_dir)
    with only_looking():
        found = images.list_images(site, product.load(asked.tree_dir))
    listed = [{**asdict(one), "nodes": None if one.nodes is None else list(one.nodes)} for one in found]
    return {"format": 1, "images": listed}


def read_journal(asked: Asked) -> Mapping[str, Any]:
    """Return the last entries of the host's journal, and of who did what through the console."""
    limit = int(asked.arguments.get("limit", JOURNAL_ENTRIES))
    entries = journal.read(asked.paths.journal_file)[-limit:]
    return {
        "journal": [json.loads(entry.to_line()) for entry in entries],
        "console": audit.last(asked.paths, limit),
    }


# ---- jobs ----------------------------------------------------------------------------------------------------


def read_jobs(asked: Asked) -> Mapping[str, Any]:
    """Return the object of ``caisson jobs --json``."""
    with only_looking():
        found, faults = jobs.read_all(asked.paths)
        looks = [job_report.look(job) for job in found]
    return {
        "format": 1,
        "jobs": [one.to_json() for one in looks],
        "unreadable": [to_json(fault) for fault in faults],
    }


def read_job(asked: Asked) -> Mapping[str, Any]:
    """Return one job with all of its phases, also those to come, what it waits for, its last lines, what it found."""
    job = find(asked.paths, str(asked.arguments["id"]))
    with only_looking():
        look = job_report.look(job)
    lines = host.tail(job.output_file)
    return {
        "format": 1,
        "job": look.to_json(),
        "phases": phases.of(look, lines),
        "lines": list(host.shown(lines)),
        "files": {
            name: _size(file) for name, file in (("journal", job.journal_file), ("log", job.output_file))
        },
        "found": _found(job),
        "archive": reporting.archive_of(job),
    }


def find(paths: Paths, job_id: str) -> Job:
    """Return the job of this ID.

    Raises:
        RefusalError: there is none.
        HostError: it cannot be read.
    """
    directory = paths.jobs_dir / job_id
    if not directory.is_dir():
        raise RefusalError(
            NOT_FOUND,
            UsageError(f"there is no job {job_id}", resolution="'caisson jobs' shows all of them"),
        )
    return jobs.read(directory)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _found(job: Job) -> Any:
    """Return what a probe has found; None where it has not yet, or the job is none."""
    try:
        return json.loads((job.directory / probing.FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_archive(asked: Asked) -> Mapping[str, Any]:
    """Return a piece of the archive that a job ``report`` has made.

    Raises:
        RefusalError: there is none, or none any more.
    """
    job = find(asked.paths, str(asked.arguments["id"]))
    offset = int(asked.arguments.get("offset", 0))
    about = reporting.archive_of(job)
    if about is None:
        error = UsageError(f"job {job.id} has no archive", resolution="start a report, and wait for its end")
        raise RefusalError(NOT_FOUND, error)
    with reporting.file_of(job).open("rb") as source:
        source.seek(offset)
        data = source.read(CHUNK_BYTES)
    return {**about, "offset": offset, "data": base64.b64encode(data).decode("ascii")}


READS: Mapping[str, Read] = {
    "status": read_status,
    "certificates": read_certificates,
    "media": read_media,
    "images": read_images,
    "journal": read_journal,
    "jobs": read_jobs,
    "job": read_job,
    "archive": read_archive,
}
