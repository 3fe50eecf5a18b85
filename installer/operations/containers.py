# SPDX-License-Identifier: Apache-2.0
"""Name containers of Caisson and kubeadm for crictl: the site may have others that are called alike."""

from __future__ import annotations

import shlex

NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
"""What the kubelet writes on each container. Source: Kubernetes, pkg/kubelet/types/labels.go."""
OWN_NAMESPACE = "kube-system"


def selection(name: str, *, namespace: str = OWN_NAMESPACE) -> tuple[str, ...]:
    """Return the options of crictl for the containers of one static pod, and of no other.

    The containers of a site's own pod are called as it likes: there the namespace alone is asked for, if it is known.
    """
    label = ("--label", f"{NAMESPACE_LABEL}={namespace}") if namespace else ()
    return (*label, "--name", f"^{name}$") if namespace == OWN_NAMESPACE else label


def listing(name: str, *, namespace: str = OWN_NAMESPACE) -> str:
    """Return the command that shows them, ready to paste.

    >>> listing("etcd")
    "crictl ps -a --label io.kubernetes.pod.namespace=kube-system --name '^etcd$'"
    """
    return shlex.join(["crictl", "ps", "-a", *selection(name, namespace=namespace)])


def log(name: str) -> str:
    """Return the command that shows the log of the newest of them, ready to paste.

    >>> log("etcd")
    "crictl logs $(crictl ps -aq --label io.kubernetes.pod.namespace=kube-system --name '^etcd$' | head -1)"
    """
    return f"crictl logs $(crictl ps -aq {shlex.join(selection(name))} | head -1)"
