# SPDX-License-Identifier: Apache-2.0
"""Tell when each certificate of this host ends: a cluster whose certificates have ended does not start again."""

from __future__ import annotations

import base64
import re
import shlex
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from installer.base.paths import Paths
from installer.config import leaf, x509
from installer.operations import containers
from installer.operations.asking import Fault

DAY_S = 86_400
WARNING_DAYS = 60
#: The kubelet renews its own certificate when 10 to 30 % of its life are left, 36 to 109 days of a year.
#: Source: client-go, util/certificate, jitteryDuration.
SELF_RENEWING_WARNING_DAYS = 14
CERTIFICATE_GLOBS = (
    "etc/kubernetes/pki/*.crt",
    "etc/kubernetes/pki/etcd/*.crt",
    "etc/caisson/pki/*.crt",
    "etc/caisson/tls/*.crt",
    "etc/caisson/console/tls.crt",
)
#: Those that kubeadm makes: a file of the site is the site's. The kubelet's names its own certificate, read below.
KUBECONFIG_FILES = tuple(
    f"etc/kubernetes/{name}.conf" for name in ("admin", "super-admin", "controller-manager", "scheduler")
)
KUBELET_CLIENT_FILE = "var/lib/kubelet/pki/kubelet-client-current.pem"
#: Whose certificates kubeadm renews: the kubelet starts them again.
READERS = "(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)"
KUBEADM_FIX = (
    "run 'kubeadm certs renew all --config /etc/caisson/kubeadm/init.yaml' (without --config it makes them for one "
    "year when the API does not answer), then end what has read the old ones, which the kubelet starts again: "
    f"crictl stop --timeout 30 $(crictl ps -q {shlex.join(containers.selection(READERS))})"
)
KUBELET_FIX = "see 'journalctl -u kubelet -n 50': the kubelet renews it, as soon as it reaches the API"
OWN_FIX = (
    "run 'caisson certificates renew' on the bootstrap node, which says why it was not: a timer does it in the last 90 "
    "days; of a further control plane that serves, 'caisson media replicate' there gives a new one, too"
)
SITE_FIX = "put a newer one of the site into the files that media.certificate names, then: caisson certificates renew"
CONSOLE_FILE = "/etc/caisson/console/tls.crt"
CONSOLE_FIX = "run 'caisson bootstrap' again: it renews the certificate of the console in the last 90 days"
AUTHORITY_FIX = (
    "an authority has no renewal: install the cluster again before it ends, or ask the site that issued it"
)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class CertificateState:
    """A certificate of this host; ``fault`` says what is wrong with it, empty when nothing is.

    ``ends`` is a date (UTC), empty when the file could not be read; ``days_left`` is negative past it.
    """

    file: str
    ends: str
    days_left: int
    fault: str


def find_certificates(paths: Paths, *, now: float | None = None) -> tuple[CertificateState, ...]:
    """Return the certificates of Kubernetes, etcd, the kubelet and Caisson on this host, those that end first first."""
    moment = time.time() if now is None else now
    root = paths.at("/")
    files = [file for pattern in CERTIFICATE_GLOBS for file in root.glob(pattern)]
    files += [root / name for name in KUBECONFIG_FILES if (root / name).exists()]
    kubelet_file = root / KUBELET_CLIENT_FILE
    states = [_state(file, root, moment, WARNING_DAYS) for file in files]
    if kubelet_file.exists():
        states.append(_state(kubelet_file, root, moment, SELF_RENEWING_WARNING_DAYS))
    return tuple(sorted(filter(None, states), key=lambda state: (state.days_left, state.file)))


def certificate_rows(states: tuple[CertificateState, ...]) -> list[tuple[str, ...]]:
    """Return the table of certificates."""
    return [
        ("CERTIFICATE", "ENDS", "DAYS LEFT"),
        *((state.file, state.ends, str(state.days_left)) for state in states),
    ]


def certificate_fault(state: CertificateState) -> Fault:
    """Return what is wrong with a certificate, and what to do about it: that depends on who makes it."""
    if "/ca." in state.file or "-ca." in state.file:
        return Fault(state.fault, AUTHORITY_FIX)
    if state.file == leaf.INSTALLED_FILE:
        return Fault(state.fault, SITE_FIX)
    if state.file == CONSOLE_FILE:
        return Fault(state.fault, CONSOLE_FIX)
    if state.file.startswith("/etc/caisson/"):
        return Fault(state.fault, OWN_FIX)
    return Fault(state.fault, KUBELET_FIX if state.file == f"/{KUBELET_CLIENT_FILE}" else KUBEADM_FIX)


def _state(file: Path, root: Path, now: float, warning_days: int) -> CertificateState | None:
    shown = "/" + str(file.relative_to(root))
    try:
        ends_at = [x509.parse(der).not_after for der in _certificates(file)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as exc:
        return CertificateState(shown, "", 0, f"certificate {shown} cannot be read: {exc}")
    if not ends_at:
        return None
    not_after = min(ends_at)
    days_left = int((not_after - now) // DAY_S)
    ends = time.strftime("%Y-%m-%d", time.gmtime(not_after))
    fault = ""
    if days_left < 0:
        fault = f"certificate {shown} ended on {ends}"
    elif days_left < warning_days:
        fault = f"certificate {shown} ends in {days_left} days, on {ends}"
    return CertificateState(shown, ends, days_left, fault)


def _certificates(file: Path) -> Iterator[bytes]:
    """Yield the certificates of a PEM file or of a kubeconfig's users, in DER; none where they use tokens, say.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError: there is none to be read.
    """
    content = file.read_bytes()
    if file.suffix == ".conf":
        users = yaml.safe_load(content)["users"]
        given = (user["user"].get("client-certificate-data", "") for user in users)
        content = b"\n".join(base64.b64decode(text) for text in given)
        if users and not content.strip():
            return
    found = _PEM.findall(content)
    if not found:
        raise ValueError("it holds no certificate")
    for pem in found:
        yield ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
