# SPDX-License-Identifier: Apache-2.0
"""The closing report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from installer.base import files
from installer.base.errors import ClusterError
from installer.base.ui import Ui
from installer.engine import saltcall
from installer.engine.journal import Journal
from installer.operations import cluster_state, console, report
from tests.authorities import make_authority
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


def test_the_report_ends_with_where_the_console_is(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    del host
    stream = io.StringIO()
    context = make_context(tmp_path, ui=Ui(stream, is_terminal=False), source_dir=repository_dir)
    report.run_report(context)
    assert "UI ready" not in stream.getvalue()
    saltcall.write_configuration(context)
    certificate, _ = make_authority(tmp_path / "pki")
    files.write_file(context.paths.at(console.CERTIFICATE_FILE), certificate.read_bytes())
    report.run_report(context)
    lines = [line for line in stream.getvalue().splitlines() if line]
    assert lines[-3] == "UI ready at https://10.77.1.11:9443"
    assert lines[-2] == f"its certificate, SHA-256: {console.fingerprint(context.paths)}"
    assert lines[-1] == "a log-in code: sudo caisson console login"


def test_the_api_must_answer_the_report(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    host.has_api = False
    with pytest.raises(ClusterError):
        report.run_report(make_context(tmp_path, source_dir=repository_dir))
