# SPDX-License-Identifier: Apache-2.0
"""The profile is what is served; what was made is trusted while unchanged; processes of others live on."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lab import cleanup, golang, images, upstream
from lab.cache import produce
from lab.errors import LabError

REFERENCES = ("registry.k8s.io/pause:3.10.2", "docker.io/library/nginx:1", "quay.io/calico/node:v3")
KEYS = {"salt": "B" * 40, "kubernetes": "A" * 40}


def made_images() -> list[images.MadeImage]:
    """Return images that have nothing but a name."""
    return [images.MadeImage(id=name, reference=name, manifests=(), blobs=()) for name in REFERENCES]


def test_profile(golden: Callable[[str, str], None]) -> None:
    golden("upstream.yaml", upstream.render_profile(KEYS, made_images()))


def test_the_profile_names_the_versions_that_are_compiled() -> None:
    versions = yaml.safe_load(upstream.render_profile(KEYS, made_images()))["versions"]
    assert f"v{versions['kubernetes']}" == golang.component("kubernetes").version
    assert versions["calico"] == golang.component("calico").version
    assert isinstance(versions["salt"], str)


def test_nginx_configuration(golden: Callable[[str, str], None]) -> None:
    golden("nginx.conf", upstream.render_nginx(Path("/out/upstream"), "0123abcd"))


def test_the_mark_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(upstream.render_nginx(tmp_path, "0123abcd"))
    assert upstream.own_mark(tmp_path) == "0123abcd"


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return an output directory whose record says that everything was made just now."""
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))

    def fill(work_dir: Path) -> None:
        (work_dir / "blob").write_text("bytes")

    kept_dir = produce(tmp_path / "cache" / "lab" / "registry" / "storage" / "abc", fill)
    out_dir = tmp_path / "out"
    for name in ("upstream.yaml", "keys/salt.asc", "upstream/nginx.conf", "upstream/registry.yml"):
        (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (out_dir / name).write_text(name)
    record_file = out_dir / "upstream" / "prepared.json"
    upstream.write_record(record_file, "inputs", out_dir, [kept_dir])
    return SimpleNamespace(record_file=record_file, out_dir=out_dir, kept_dir=kept_dir)


def test_nothing_changed(prepared: SimpleNamespace) -> None:
    assert upstream.is_prepared(prepared.record_file, "inputs")


@pytest.mark.parametrize(
    "change",
    [
        lambda prepared: (prepared.out_dir / "upstream.yaml").write_text("other text"),
        lambda prepared: os.utime(prepared.out_dir / "upstream" / "nginx.conf", (1, 1)),
        lambda prepared: (prepared.out_dir / "keys" / "salt.asc").unlink(),
        lambda prepared: (prepared.kept_dir / "blob").write_text("bitten"),
        lambda prepared: (prepared.kept_dir / "blob").unlink(),
        lambda prepared: prepared.kept_dir.rename(prepared.kept_dir.with_name("gone")),
        lambda prepared: prepared.record_file.write_text("{"),
        lambda prepared: prepared.record_file.unlink(),
    ],
    ids=[
        "profile",
        "time",
        "key gone",
        "blob changed",
        "blob gone",
        "storage gone",
        "record torn",
        "no record",
    ],
)
def test_something_changed(prepared: SimpleNamespace, change: Callable[[SimpleNamespace], object]) -> None:
    change(prepared)
    assert not upstream.is_prepared(prepared.record_file, "inputs")


def test_other_inputs(prepared: SimpleNamespace) -> None:
    assert not upstream.is_prepared(prepared.record_file, "other inputs")


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    upstream.replace_changed(file, "text")
    os.utime(file, (1, 1))
    upstream.replace_changed(file, "text")
    assert file.stat().st_mtime == 1
    upstream.replace_changed(file, "other")
    assert file.read_text() == "other"


def write_state(run_dir: Path, process: cleanup.Process) -> Path:
    """Say that a process is the holder and both servers."""
    run_dir.mkdir(parents=True)
    named = dataclasses.asdict(process)
    state = {"holder": named, "owner": None, "mark": "", "servers": {"nginx": named, "registry": named}}
    (run_dir / "state.json").write_text(json.dumps(state))
    return run_dir / "state.json"


def test_stop_leaves_a_process_alone_that_got_the_number_of_one_of_ours(tmp_path: Path) -> None:
    own = cleanup.process_of(os.getpid())
    assert own is not None
    state_file = write_state(tmp_path / "upstream", cleanup.Process(pid=own.pid, started=own.started - 1))
    upstream.stop(tmp_path)
    assert not state_file.exists()
    assert cleanup.is_alive(own)


def test_stop_without_a_start_is_fine(tmp_path: Path) -> None:
    upstream.stop(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_status_of_nothing(tmp_path: Path) -> None:
    assert upstream.status(tmp_path) == ["the lab's upstream does not run"]


def test_status_names_process_and_end(tmp_path: Path) -> None:
    own = cleanup.process_of(os.getpid())
    assert own is not None
    write_state(tmp_path / "upstream", own)
    lines = upstream.status(tmp_path)
    assert [line.split()[0] for line in lines] == ["nginx", "registry"]
    assert all(line.endswith(f"process {own.pid}  until 'down'") for line in lines)


def test_start_wants_a_prepared_directory(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is not prepared"):
        upstream.start(tmp_path)


def test_the_command_reports_an_error_by_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upstream.main(["status", "--out", str(tmp_path)]) == 0
    assert "does not run" in capsys.readouterr().out
    (tmp_path / "upstream").mkdir()
    (tmp_path / "upstream" / "state.json").write_text("torn")
    assert upstream.main(["down", "--out", str(tmp_path)]) == 0
