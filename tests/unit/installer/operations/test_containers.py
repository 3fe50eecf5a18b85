# SPDX-License-Identifier: Apache-2.0
"""Commands for containers hit those of Caisson and kubeadm only."""

from __future__ import annotations

from installer.operations import containers, endpoints, etcd_state, salt_state

SELECTED = "--label io.kubernetes.pod.namespace=kube-system --name '^{}$'"


def test_a_selection() -> None:
    own = ("--label", "io.kubernetes.pod.namespace=kube-system", "--name", "^nginx$")
    assert containers.selection("nginx") == own
    assert containers.selection("x", namespace="edge") == ("--label", "io.kubernetes.pod.namespace=edge")
    assert containers.listing("x.yaml", namespace="") == "crictl ps -a"


def test_what_is_advised_names_no_container_of_the_site() -> None:
    asked = endpoints.Endpoint("images", "https://h/", (200,), "nginx")
    fault = endpoints.failed(asked, "no answer").fault
    assert fault is not None
    for name, fix in (("nginx", fault.fix), ("etcd", etcd_state.LOG_FIX), ("salt-master", salt_state.FIX)):
        assert fix.count("crictl ps") == fix.count(SELECTED.format(name)) > 0
