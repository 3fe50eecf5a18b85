# SPDX-License-Identifier: Apache-2.0
"""Every sls compiles with every pillar; every file that a state names exists, renders and parses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sls.compiler import GRAINS, Chunk, Compiler

TREE_DIR = Path(__file__).parents[2] / "salt"


def _sls_names() -> list[str]:
    """Return the dotted name of every sls; the top file is no sls."""
    files = sorted(TREE_DIR.rglob("*.sls"))
    names = [".".join(file.relative_to(TREE_DIR).with_suffix("").parts) for file in files]
    return [name.removesuffix(".init") for name in names if name != "top"]


ROLES = [name for name in _sls_names() if name.startswith("roles.")]
# What a user wrote may hold braces; what the tree wrote may not come out with them.
UNRENDERED = re.compile(r"\{%|%\}")


@pytest.mark.parametrize("sls", _sls_names())
def test_sls_compiles(compiler: Compiler, pillar: dict[str, Any], sls: str) -> None:
    compiled = compiler.compile(sls, pillar)
    assert list(compiled.faults) == []
    assert compiled.chunks


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_each_thing_once(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """Two states on one file would overwrite each other, and the second run would never be quiet."""
    files = [
        chunk["name"]
        for chunk in compiler.compile(role, pillar).chunks
        if (chunk["state"], chunk["fun"]) == ("file", "managed")
    ]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("role", ROLES)
def test_ids_are_sentences(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """They are what a person sees while the installer waits."""
    ids = {chunk["__id__"] for chunk in compiler.compile(role, pillar).chunks}
    assert not [ident for ident in ids if not re.match(r"[A-Z][a-z]+ \S", ident)]


@pytest.mark.parametrize("role", ROLES)
def test_files_of_the_tree_exist_render_and_parse(
    compiler: Compiler, pillar: dict[str, Any], role: str
) -> None:
    seen = 0
    for chunk in compiler.compile(role, pillar).chunks:
        source = chunk.get("source")
        if not isinstance(source, str) or not source.startswith("salt://"):
            continue
        seen += 1
        assert (TREE_DIR / source.removeprefix("salt://")).is_file(), (
            f"{chunk['__id__']}: {source} is not there"
        )
        _parse(source, _text_of(compiler, chunk, pillar))
    assert seen


def _text_of(compiler: Compiler, chunk: Chunk, pillar: dict[str, Any]) -> str:
    source: str = chunk["source"]
    if chunk.get("template") == "jinja" or source.endswith(".j2"):
        text = compiler.render(source, chunk.get("context", {}), pillar)
        assert not UNRENDERED.search(text)
        return text
    return (TREE_DIR / source.removeprefix("salt://")).read_text(encoding="utf-8")


def _parse(source: str, text: str) -> None:
    """Parse a rendered file by what its name says that it is."""
    name = Path(source.removesuffix(".j2")).name
    if name.endswith((".yaml", ".yml")):
        assert yaml.safe_load(text)
    elif name.endswith(".toml"):
        assert tomllib.loads(text)
    elif name.endswith(".conf"):
        assert text.count("{") == text.count("}")


@pytest.mark.parametrize("role", ROLES)
def test_contents_that_are_toml_or_yaml_parse(compiler: Compiler, pillar: dict[str, Any], role: str) -> None:
    """What states write from the pillar, as text in the sls itself."""
    for chunk in compiler.compile(role, pillar).chunks:
        contents, name = chunk.get("contents"), chunk["name"]
        if not isinstance(contents, str):
            continue
        if name.endswith(".toml"):
            tomllib.loads(contents)
        elif name.endswith((".yaml", ".yml")):
            assert [document for document in yaml.safe_load_all(contents) if document is not None]


def test_braces_of_a_user_reach_the_file(compiler: Compiler, pillar: dict[str, Any]) -> None:
    """A value from bootstrap.yaml is data: it is never read as a template."""
    patches: dict[str, str] = pillar["caisson"]["overrides"]["kubeadm_patches"]
    written = {
        chunk["name"]: chunk.get("contents") for chunk in compiler.compile("control_plane", pillar).chunks
    }
    for name, text in patches.items():
        assert written[f"/etc/kubernetes/patches/{name}"] == text


def test_rendering_asks_no_live_question() -> None:
    """What an sls renders to depends on grains, pillar and the tree alone, never on when it is rendered."""
    calls = re.compile(
        r"salt\[\s*['\"](?!caisson_)|salt\.(?!caisson_)\w+\.\w+\(|(?<!_)caisson_wait\.|\bmine\.get"
    )
    found = [
        f"{file.relative_to(TREE_DIR)}: {match.group()}"
        for file in TREE_DIR.rglob("*.sls")
        for match in re.finditer(r"\{[{%].*?[%}]\}", file.read_text(encoding="utf-8"), re.DOTALL)
        if calls.search(match.group())
    ]
    assert not found


def test_the_compiler_finds_faults(tmp_path: Path) -> None:
    """Each kind of fault that it is there for."""
    tree_dir = tmp_path / "tree"
    tree_dir.mkdir()
    (tree_dir / "bad.sls").write_text(
        "A wrong argument:\n  file.managed: [name: /a, contentz: x]\n"
        "A missing argument:\n  file.copy: [name: /b]\n"
        "A missing function:\n  file.manage: [name: /c]\n"
        "A lost requisite:\n  file.managed: [name: /d, require: [{file: Nowhere}]]\n"
    )
    compiler = Compiler(tree_dir, tmp_path / "minion", GRAINS)
    faults = "\n".join(compiler.compile("bad", {}).faults)
    for part in (
        "no argument 'contentz'",
        "needs the argument 'source'",
        "file.manage",
        "'Nowhere' matches no state",
    ):
        assert part in faults
