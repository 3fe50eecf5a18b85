# SPDX-License-Identifier: Apache-2.0
"""The module streams of the lab: two of one module, one of them the default; one that nobody follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import modules, rpms


def test_each_stream_names_its_packages_and_one_is_the_default() -> None:
    documents = list(yaml.safe_load_all(modules.render(modules.STREAMS)))
    streams = {
        (document["data"]["name"], document["data"]["stream"]): document["data"]["artifacts"]["rpms"]
        for document in documents
        if document["document"] == "modulemd"
    }
    defaults = {
        document["data"]["module"]: document["data"]["stream"]
        for document in documents
        if document["document"] == "modulemd-defaults"
    }
    assert streams == {
        ("redis", "6"): ["redis-0:6.2.18-1.module_el9.x86_64"],
        ("redis", "7"): ["redis-0:7.2.7-1.module_el9.x86_64"],
        ("socat", "next"): ["socat-0:9.0.0-1.module_el9.x86_64"],
    }
    assert defaults == {"redis": "6"}


@pytest.mark.subprocess
def test_the_repository_has_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the real rpmbuild, rpmsign, createrepo_c, modifyrepo_c and gpg."""
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path))
    repository = next(known for known in rpms.REPOSITORIES if known.id == "appstream")
    monkeypatch.setattr(rpms, "REPOSITORIES", (repository,))
    monkeypatch.setattr(rpms, "all_sources", lambda: {"appstream": modules.SOURCES[:2]})
    (directory,) = rpms.build_repositories().values()
    (modules_file,) = (directory / "repodata").glob("*-modules.yaml.*")
    assert modules_file.name in (directory / "repodata" / "repomd.xml").read_text()
    assert not (directory / "modules.yaml").exists()
    names = sorted(file.name for file in directory.rglob("*.rpm"))
    assert names == ["redis-6.2.18-1.module_el9.x86_64.rpm", "redis-7.2.7-1.module_el9.x86_64.rpm"]
