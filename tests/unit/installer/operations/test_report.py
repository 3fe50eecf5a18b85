# SPDX-License-Identifier: Apache-2.0
"""The closing report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from installer.base.errors import ClusterError
from installer.base.ui import Ui
from installer.engine.journal import Journal
from installer.operations import cluster_state, report
from tests.unit.installer.helpers import make_context
from tests.unit.installer.hosts import Host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host()
    monkeypatch.setattr(cluster_state, "run", fake)
    return fake


def test_the_closing_report(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    stream = io.StringIO()
    context = make_context(tmp_path, ui=Ui(stream, is_terminal=False), source_dir=repository_dir)
    Journal(context.paths.journal_file, run_id="earlier").done("old", changed=True, seconds=99)
    context.journal.start("one")
    context.journal.done("one", changed=True, seconds=61.5)
    context.journal.start("two")
    context.journal.done("two", changed=False, seconds=2)
    assert report.run_report(context) is False
    text = stream.getvalue()
    for line in (
        "node1  Ready  control-plane  v1.36.4  10.77.1.11",
        "kube-system  etcd-node1  Running    yes    2",
        "one    1 min 1 s  yes",
        "two    2.0 s      no",
        "all    1 min 3 s",
        "Kubernetes API    https://api.lab.internal:6443 (10.77.1.11)",
        "packages, images  https://10.77.1.11:8443",
    ):
        assert line in text.splitlines()


def test_the_api_must_answer_the_report(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    host.has_api = False
    with pytest.raises(ClusterError):
        report.run_report(make_context(tmp_path, source_dir=repository_dir))
