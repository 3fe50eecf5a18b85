# SPDX-License-Identifier: Apache-2.0
"""Wrappers agree with the table; the cache key holds all inputs; failures say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import golang
from lab.errors import LabError
from lab.golang import COMPONENTS, Component

WRAPPED = [known for known in COMPONENTS if known.name != "pause"]

# Stands for the compiler: says its version, else writes a program after each package and counts its calls.
FAKE_GO = """\
#!/bin/sh
set -eu
if [ "$1" = env ]; then echo go1.26.0; exit 0; fi
echo "$PWD CGO_ENABLED=$CGO_ENABLED GOFLAGS=$GOFLAGS GOTOOLCHAIN=$GOTOOLCHAIN $*" >>"$HOME/calls"
if [ -e "$HOME/fail" ]; then echo "compiler: no" >&2; exit 1; fi
shift
while [ $# -gt 0 ]; do
  case "$1" in
    -o) out=$2; shift 2 ;;
    example.org/*) echo "program $1" >"$out/${1##*/}"; shift ;;
    *) shift ;;
  esac
done
"""


def ids(known: Component) -> str:
    return known.name


@pytest.mark.parametrize("known", WRAPPED, ids=ids)
def test_a_wrapper_requires_the_version_of_the_table(known: Component) -> None:
    versions = golang.required_versions(known)
    assert versions[known.module] == (known.module_version or known.version)


@pytest.mark.parametrize("known", WRAPPED, ids=ids)
def test_a_wrapper_knows_the_hash_of_its_module(known: Component) -> None:
    version = known.module_version or known.version
    lines = (known.module_dir / "go.sum").read_text().splitlines()
    pattern = re.compile(rf"{re.escape(known.module)} {re.escape(version)} h1:[A-Za-z0-9+/]{{43}}=")
    assert sum(1 for line in lines if pattern.fullmatch(line)) == 1


@pytest.mark.parametrize("known", WRAPPED, ids=ids)
def test_tools_name_main_packages_of_required_modules(known: Component) -> None:
    packages = golang.main_packages(known)
    assert packages
    required = golang.required_versions(known)
    assert all(
        any(package == module or package.startswith(f"{module}/") for module in required)
        for package in packages
    )


@pytest.mark.parametrize("known", COMPONENTS, ids=ids)
def test_a_linked_version_is_the_version(known: Component) -> None:
    stamped = [
        value for name, value in known.variables.items() if name.lower().endswith(("version", "gitversion"))
    ]
    assert all(value in (known.version, known.version.removeprefix("v")) for value in stamped)


def test_every_wrapper_has_a_component() -> None:
    wrappers = {path.parent.name for path in golang.COMPONENTS_DIR.glob("*/go.mod")}
    assert wrappers == {known.name for known in COMPONENTS}


def test_kubernetes_says_its_version_in_all_places() -> None:
    flags = golang.build_flags(golang.component("kubernetes"))
    assert "-trimpath" in flags
    linked = flags[flags.index("-ldflags") + 1]
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.4" in linked
    assert "-X k8s.io/component-base/version.gitMajor=1" in linked
    assert "-X k8s.io/component-base/version.gitMinor=36" in linked


def test_only_runc_needs_c() -> None:
    assert [known.name for known in COMPONENTS if known.cgo] == ["runc"]
    assert golang.component("runc").tags == ("seccomp",)


def test_an_unknown_component_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match="no component 'kubelet'") as caught:
        golang.component("kubelet")
    assert "kubernetes" in caught.value.details


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Component]:
    """Return a component of two programs, with its wrapper, a cache and a compiler of the test's own.

    What is remembered of that compiler is forgotten afterwards: later tests of the same run ask the real one.
    """
    wrapper_dir = tmp_path / "components" / "tool"
    wrapper_dir.mkdir(parents=True)
    (wrapper_dir / "go.mod").write_text("module wrapper\n\nrequire example.org/tool v1.0.0\n")
    (wrapper_dir / "go.sum").write_text("")
    (wrapper_dir / "tools.go").write_text(
        'import (\n\t_ "example.org/tool/one"\n\t_ "example.org/tool/two"\n)\n'
    )
    known = Component(name="tool", module="example.org/tool", version="v1.0.0", programs={"two": "second"})
    programs_dir = tmp_path / "bin"
    programs_dir.mkdir()
    (programs_dir / "go").write_text(FAKE_GO)
    (programs_dir / "go").chmod(0o755)
    monkeypatch.setattr(golang, "COMPONENTS_DIR", tmp_path / "components")
    monkeypatch.setattr(golang, "COMPONENTS", (known,))
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs_dir}:/usr/bin:/bin")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("GOTOOLCHAIN", "go9.9")
    golang._go_version.cache_clear()
    yield known
    golang._go_version.cache_clear()


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "calls"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.subprocess
def test_a_component_is_compiled_once_and_kept(tool: Component, tmp_path: Path) -> None:
    """Starts the fake compiler above."""
    directory = golang.build("tool")
    assert golang.build("tool") == directory
    assert sorted(file.name for file in directory.iterdir()) == ["one", "second"]
    assert golang.build_all() == {"tool": directory}
    (call,) = calls(tmp_path)
    assert "CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local build -trimpath" in call
    assert call.startswith(str(tool.module_dir))


@pytest.mark.subprocess
def test_a_changed_program_is_compiled_again(tool: Component, tmp_path: Path) -> None:
    """Starts the fake compiler above."""
    (golang.build(tool.name) / "one").write_text("changed behind our back")
    assert (golang.build(tool.name) / "one").read_text() == "program example.org/tool/one\n"
    assert len(calls(tmp_path)) == 2


@pytest.mark.subprocess
def test_a_changed_input_is_another_result(tool: Component) -> None:
    """Starts the fake compiler above, for its version."""
    seen = {golang.output_dir(tool)}
    for name in ("go.mod", "go.sum", "tools.go"):
        file = tool.module_dir / name
        file.write_text(file.read_text() + "\n// changed\n")
        seen.add(golang.output_dir(tool))
    for changed in (
        replace(tool, variables={"main.version": "2"}),
        replace(tool, tags=("other",)),
        replace(tool, cgo=True),
        replace(tool, programs={}),
    ):
        seen.add(golang.output_dir(changed))
    assert len(seen) == 8


@pytest.mark.subprocess
def test_a_failed_compilation_says_why_and_keeps_nothing(tool: Component, tmp_path: Path) -> None:
    """Starts the fake compiler above."""
    (tmp_path / "fail").touch()
    with pytest.raises(LabError) as caught:
        golang.build(tool.name)
    assert "compiler: no" in caught.value.details
    assert not golang.output_dir(tool).exists()
    (tmp_path / "fail").unlink()
    assert golang.build(tool.name).is_dir()


@pytest.mark.subprocess
def test_without_go_the_error_says_what_to_install(tool: Component, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to start a compiler that is not there."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match="'go' does not run") as caught:
        golang.build(tool.name)
    assert "install Go" in caught.value.resolution


@pytest.mark.subprocess
def test_without_a_c_library_the_error_names_its_package(tool: Component) -> None:
    """Starts pkg-config, or finds that it is not there."""
    wanted = replace(tool, libraries=("libcaisson-is-no-library",))
    with pytest.raises(LabError, match="libcaisson-is-no-library") as caught:
        golang.output_dir(wanted)
    assert "libcaisson-is-no-library-dev" in caught.value.resolution
