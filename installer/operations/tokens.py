# SPDX-License-Identifier: Apache-2.0
"""Make the token by which one node joins, and take it back: it lives minutes, and lies nowhere but in memory.

Whoever holds it can ask for the certificate of any node. It is neither an argument nor in a log: kubeadm prints it, and
it goes on over SSH. Its id, the part before the dot, is no secret: the token is taken back by it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.base.run import run

TTL = "15m"
TIMEOUT_S = 60.0
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
PREFIX = "bootstrap-token-"
TYPE = "bootstrap.kubernetes.io/token"
COLUMNS = r'{range .items[*]}{.metadata.name}{" "}{.data.description}{"\n"}{end}'


def description(node_name: str) -> str:
    """Return the words by which the tokens of a node are known."""
    return f"caisson node add {node_name}"


def create(paths: Paths, node_name: str) -> str:
    """Return a new token for one node.

    Raises:
        ClusterError: kubeadm made none.
    """
    words = ["kubeadm", "token", "create", "--kubeconfig", str(paths.admin_kubeconfig_file), "--ttl", TTL]
    words += ["--usages", "authentication", "--description", description(node_name)]
    said = run(words, timeout_s=TIMEOUT_S, check=False, is_secret=True)
    found = TOKEN.findall(said.stdout)
    if said.returncode != 0 or len(found) != 1:
        raise ClusterError(
            "kubeadm made no token for the node to join with",
            details=f"exit code {said.returncode}: {said.stderr.strip()[-500:]}" if not found else "",
            resolution="check that the API answers: caisson status",
        )
    return str(found[0])


def take_back(paths: Paths, node_name: str) -> int:
    """Delete every token that was made for a node, also by runs that were killed; return how many there were.

    Raises:
        CommandError: the API does not answer. A token that stays ends by itself after its quarter of an hour.
    """
    kubectl = ["kubectl", "--kubeconfig", str(paths.admin_kubeconfig_file), "--namespace", "kube-system"]
    # Of the secrets their names and descriptions only: no token is read.
    words = [*kubectl, "get", "secrets", f"--field-selector=type={TYPE}", f"--output=jsonpath={COLUMNS}"]
    said = run(words, timeout_s=TIMEOUT_S).stdout
    names = owned(said, description(node_name))
    if names:
        run([*kubectl, "delete", "secrets", "--ignore-not-found", *names], timeout_s=TIMEOUT_S)
    return len(names)


def owned(said: str, wanted: str) -> list[str]:
    r"""Return the names of the secrets whose description is the one wanted. Pure.

    >>> owned("bootstrap-token-abcdef Y2Fpc3Nvbg==\nbootstrap-token-ghijkl \nbootstrap-token-x !\n", "caisson")
    ['bootstrap-token-abcdef']
    """
    found = []
    for line in said.splitlines():
        name, _, encoded = line.partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if name.startswith(PREFIX) and text == wanted:
            found.append(name)
    return found


def discovery(endpoint: str, authority: bytes, token: str) -> str:
    """Return the discovery file: where the cluster is, its authority, and the token as its user's. Pure.

    The kubelet of a worker keeps the server in its kubelet.conf: so it is the endpoint's name, no node's address.
    Source: kubeadm 1.36, discovery/file, discovery.For; JSON is YAML.
    """
    server = f"https://{endpoint}:6443"
    encoded = base64.b64encode(authority).decode("ascii")
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "caisson", "cluster": {"server": server, "certificate-authority-data": encoded}}
        ],
        "users": [{"name": "join", "user": {"token": token}}],
        "contexts": [{"name": "join", "context": {"cluster": "caisson", "user": "join"}}],
        "current-context": "join",
    }
    return json.dumps(said)
