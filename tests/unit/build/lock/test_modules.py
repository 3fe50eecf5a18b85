# SPDX-License-Identifier: Apache-2.0
"""Streams of modules never mix: what is neither the default nor asked for is no candidate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from build.base.errors import IntegrityError, InventoryError, SolverError
from build.inventory.model import Baseline, LockedPackage, WantedPackage
from build.lock.modules import Modules, StreamFilter, parse_modules, read_modules, stream_filter
from build.lock.solver import Universe
from build.lock.solvfiles import RepositoryFiles
from tests.unit.build.fakerepo import Rpm, filelists_xml, primary_xml

MODULES = b"""\
---
document: modulemd-defaults
version: 1
data: {module: perl, stream: 5.30, profiles: {5.30: [common]}}
---
document: modulemd-defaults
version: 1
data: {module: web, profiles: {1.10: [common]}}
---
document: modulemd
version: 2
data: {name: perl, stream: 5.30, artifacts: {rpms: ["perl-4:5.30-1.x86_64", "perl-4:5.30-1.src"]}}
---
document: modulemd
version: 2
data: {name: perl, stream: "5.40", artifacts: {rpms: ["perl-4:5.40-1.x86_64"]}}
---
document: modulemd
version: 2
data:
  name: web
  stream: 1.10
  dependencies: [{requires: {platform: [el9], helper: [a]}}]
  artifacts: {rpms: ["web-0:1.10-1.x86_64"]}
---
document: modulemd
version: 2
data:
  name: web
  stream: "1.20"
  dependencies: [{requires: {platform: [el9], helper: [b]}}]
  artifacts: {rpms: ["web-0:1.20-1.x86_64", "web-core-0:1.20-1.x86_64"]}
---
document: modulemd
version: 2
data: {name: helper, stream: a, artifacts: {rpms: ["helper-0:1-1.x86_64"]}}
---
document: modulemd
version: 2
data: {name: helper, stream: b, artifacts: {rpms: ["helper-0:2-1.x86_64"]}}
---
document: modulemd-obsoletes
version: 1
data: {module: web, stream: "1.10", message: it ends}
"""
RPMS = (
    Rpm(name="bash", arch="x86_64"),
    Rpm(name="perl", evr="4:5.30-1", arch="x86_64"),
    Rpm(name="perl", evr="4:5.40-1", arch="x86_64"),
    Rpm(name="web", evr="1.10-1", arch="x86_64", requires=("helper",)),
    Rpm(name="web", evr="1.20-1", arch="x86_64", requires=("helper", "web-core")),
    Rpm(name="web", evr="9-1", arch="x86_64"),
    Rpm(name="other-web", evr="1-1", arch="x86_64", provides=("web-core",)),
    Rpm(name="web-core", evr="1.20-1", arch="x86_64"),
    Rpm(name="helper", evr="1-1", arch="x86_64"),
    Rpm(name="helper", evr="2-1", arch="x86_64"),
    Rpm(name="plugin", arch="x86_64", requires=("web = 1.20",)),
)
BASELINE = Baseline(id="el9", release="9.8", repositories=("r",), group="core", source="packages.yaml:3")


def wanted(name: str, stream: str | None = None, version: str | None = None) -> WantedPackage:
    return WantedPackage(
        name=name, repositories=("r",), purpose="x", stream=stream, version=version, source="packages.yaml:9"
    )


def close(directory: Path, *packages: WantedPackage, rpms: Sequence[Rpm] = RPMS) -> dict[str, LockedPackage]:
    primary, filelists = directory / "primary.xml", directory / "filelists.xml"
    primary.write_bytes(primary_xml(rpms))
    filelists.write_bytes(filelists_xml(rpms))
    files = RepositoryFiles(
        id="r",
        primary=primary,
        filelists=filelists,
        solv_file=directory / "r.solv",
        base_urls=("https://x/",),
    )
    rules = stream_filter(parse_modules(MODULES, "r"), packages)
    universe = Universe([files], {"r"}, rules)
    solution = universe.close(packages, universe.baseline(BASELINE, ["bash"]))
    return {package.name: package for package in solution.packages}


def test_streams_and_defaults_are_texts() -> None:
    modules = parse_modules(MODULES, "r")
    assert modules.defaults == {"perl": "5.30"}
    assert [item.id for item in modules.streams] == [
        "perl:5.30", "perl:5.40", "web:1.10", "web:1.20", "helper:a", "helper:b",
    ]  # fmt: skip
    assert modules.streams[0].builds == {"perl-4:5.30-1.x86_64"}
    assert modules.streams[2].builds == {"web-1.10-1.x86_64"}


def test_the_default_stream_is_taken_and_not_the_newest(tmp_path: Path) -> None:
    found = close(tmp_path, wanted("perl"))
    assert found["perl"].version == "5.30"
    assert found["perl"].stream == "perl:5.30"


def test_the_stream_asked_for_is_taken_with_those_it_needs(tmp_path: Path) -> None:
    """Not the newer build outside of modules, nor what provides the name of a package of the stream."""
    found = close(tmp_path, wanted("web", "web:1.20"))
    assert {name: package.version for name, package in found.items()} == {
        "web": "1.20", "web-core": "1.20", "helper": "2",
    }  # fmt: skip
    assert found["helper"].stream == "helper:b"
    assert close(tmp_path, wanted("web", "web:1.10"))["helper"].version == "1"


def test_without_a_stream_the_build_outside_of_modules_is_taken(tmp_path: Path) -> None:
    found = close(tmp_path, wanted("web"))
    assert (found["web"].version, found["web"].stream) == ("9", "")


def test_a_build_of_another_stream_is_named(tmp_path: Path) -> None:
    with pytest.raises(SolverError) as caught:
        close(tmp_path, wanted("web", version="1.20"))
    assert "web-1.20-1.x86_64 is of module stream web:1.20, which is not asked for" in caught.value.details
    assert "'stream' in packages.yaml" in caught.value.details


def test_a_requirement_that_only_another_stream_meets_is_named(tmp_path: Path) -> None:
    with pytest.raises(SolverError) as caught:
        close(tmp_path, wanted("plugin"))
    assert "web-1.20-1.x86_64 would provide web: it is of module stream web:1.20" in caught.value.details


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ((wanted("web", "web:2"),), "there are: web:1.10, web:1.20"),
        ((wanted("web", "nothing:2"),), "none of this module"),
        (
            (wanted("web", "web:1.10"), wanted("web-core", "web:1.20")),
            "web of web:1.10; packages.yaml:9: web-core of web:1.20",
        ),
    ],
)
def test_streams_that_cannot_be_had(packages: tuple[WantedPackage, ...], words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        stream_filter(parse_modules(MODULES, "r"), packages)
    assert words in caught.value.details


def test_two_repositories_with_other_defaults_have_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(MODULES)
    (tmp_path / "b").write_bytes(MODULES.replace(b"stream: 5.30, profiles", b'stream: "5.40", profiles'))
    modules = read_modules({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert modules.defaults == {}
    assert len(modules.streams) == 12


@pytest.mark.parametrize("text", [b"a: [", b"\x00", b"\xff\xfe\xff"])
def test_what_is_no_yaml(text: bytes) -> None:
    with pytest.raises(IntegrityError, match="the modules of repository 'r' cannot be read"):
        parse_modules(text, "r")


@pytest.mark.parametrize(
    "text",
    [b"", b"- a", b"document: modulemd", b"document: modulemd\ndata: {name: a, stream: 1, artifacts: [x]}",
     b"document: modulemd\ndata: {name: a, stream: 1, artifacts: {rpms: [nonsense, {a: b}]}, dependencies: x}"],
)  # fmt: skip
def test_what_says_nothing_hides_nothing(text: bytes) -> None:
    rules = stream_filter(parse_modules(text, "r"), [])
    assert rules == StreamFilter()
    assert stream_filter(Modules(), [wanted("bash")]) == StreamFilter()


def test_aliases_of_aliases_take_no_time() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    started = time.monotonic()
    parse_modules("\n".join(["document: modulemd", *lines]).encode(), "r")
    assert time.monotonic() - started < 5


def rules(*documents: str, asked: Sequence[str] = ("web:1",)) -> StreamFilter:
    """Return what is hidden with streams ``MODULE:STREAM [requires]`` and defaults ``MODULE=STREAM``."""
    text = ""
    for document in documents:
        name, _, needs = document.partition(" ")
        module, kind, stream = name.partition(":") if ":" in name else name.partition("=")
        if kind == ":":
            text += f"---\ndocument: modulemd\nversion: 2\ndata: {{name: {module}, stream: '{stream}', "
            text += f"dependencies: [{needs}], artifacts: {{rpms: ['{module}-0:{stream}-1.noarch']}}}}\n"
        else:
            text += f"---\ndocument: modulemd-defaults\nversion: 1\ndata: {{module: {module}, stream: '{stream}'}}\n"
    packages = [wanted(stream.partition(":")[0], stream) for stream in asked]
    return stream_filter(parse_modules(text.encode(), "r"), packages)


PERLS = ("perl:5.30", "perl:5.32", "perl:5.34", "perl=5.30")


@pytest.mark.parametrize(
    ("needs", "active"),
    [
        ("{requires: {perl: ['5.32']}}", "perl:5.32"),
        ("{requires: {middle: ['1']}}", "perl:5.32"),
        ("{requires: {perl: ['-5.32', '-5.34']}}", "perl:5.30"),
        ("{requires: {perl: ['-5.30', '-5.34']}}", "perl:5.32"),
        ("{requires: {perl: ['5.32', '5.30']}}", "perl:5.30"),
        ("{requires: {perl: []}}", "perl:5.30"),
        ("{requires: {perl: ['5.34']}}, {requires: {perl: ['5.30']}}", "perl:5.30"),
    ],
)
def test_what_an_asked_stream_needs_goes_before_defaults(needs: str, active: str) -> None:
    found = rules(f"web:1 {needs}", "middle:1 {requires: {perl: ['5.32']}}", "middle:2", "middle=2", *PERLS)
    assert found.names["perl"] == active


def test_a_default_that_an_asked_stream_cannot_go_with_is_not_taken() -> None:
    found = rules("web:1 {requires: {perl: ['-5.30']}}", *PERLS)
    assert found.inactive["perl-5.30-1.noarch"] == "perl:5.30"
    assert "perl" not in found.names


@pytest.mark.parametrize(
    ("documents", "asked"),
    [
        (("web:1 {requires: {perl: ['5.32']}}", *PERLS), ("web:1", "perl:5.30")),
        (("web:1 {requires: {perl: ['-5.30']}}", *PERLS), ("perl:5.30", "web:1")),
        (
            ("web:1 {requires: {m: ['1']}}", "m:1 {requires: {perl: ['5.32']}}", *PERLS),
            ("web:1", "perl:5.30"),
        ),
        (
            (
                "web:1 {requires: {perl: ['5.32']}}",
                "m:1 {requires: {perl: ['5.34']}}",
                *PERLS,
            ),
            ("web:1", "m:1"),
        ),
    ],
)
def test_asked_streams_that_cannot_go_together_are_named(
    documents: Sequence[str], asked: Sequence[str]
) -> None:
    with pytest.raises(InventoryError) as raised:
        rules(*documents, asked=asked)
    assert all(f"asks for {stream}" in raised.value.details for stream in asked)
    assert "cannot be had with" in raised.value.message
