# SPDX-License-Identifier: Apache-2.0
"""The solver against a baseline: what must be on the ISO, why, and what is said when it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from build.base.errors import SolverError
from build.inventory.model import Baseline, LockedPackage, WantedPackage
from build.lock.packages import merged
from build.lock.solver import RepositoryFiles, Universe, composed_closure
from tests.conftest import GoldenCheck
from tests.unit.build.fakerepo import Rpm, filelists_xml, primary_xml

BASEOS = (
    Rpm(name="setup"),
    Rpm(name="glibc", evr="2.34-1.el9", requires=("setup",), provides=("libc.so.6",), arch="x86_64"),
    Rpm(name="bash", requires=("libc.so.6",), provides=("/bin/sh",), recommends=("sugar",)),
    Rpm(name="sugar"),
    Rpm(name="selinux-policy", evr="38-1.el9"),
    Rpm(name="perl", files=("/usr/bin/perl", "/opt/odd/file")),
    Rpm(name="tar", evr="2:1.34-1.el9", requires=("libc.so.6",)),
)
EXTRA = (
    Rpm(name="kubelet", evr="1.36.5-1", requires=("iptables >= 1.4", "libc.so.6", "kubernetes-cni")),
    Rpm(name="kubelet", evr="1.36.4-1", requires=("iptables",)),
    Rpm(name="kubernetes-cni", requires=("/opt/odd/file",)),
    Rpm(name="iptables-nft", evr="1.8-1", provides=("iptables = 1.8",), requires=("(perl if sugar)",)),
    Rpm(name="wrong-arch", arch="i686", provides=("only-32-bit",)),
    Rpm(name="wants-32-bit", requires=("only-32-bit",)),
    Rpm(name="wants-nothing-there", requires=("not-there",)),
    Rpm(name="newer-policy", requires=("selinux-policy >= 40",)),
    Rpm(name="no-setup", conflicts=("setup",)),
    Rpm(name="old-sum", checksum_type="sha1"),
)
BASELINE = Baseline(id="el9", release="9.8", repositories=("baseos",), group="core", source="packages.yaml:3")


def make_universe(directory: Path, repositories: Mapping[str, Sequence[Rpm]]) -> Universe:
    found = []
    for name, rpms in repositories.items():
        primary, filelists = directory / f"{name}-primary.xml", directory / f"{name}-filelists.xml"
        primary.write_bytes(primary_xml(rpms))
        filelists.write_bytes(filelists_xml(rpms))
        found.append(
            RepositoryFiles(
                id=name,
                primary=primary,
                filelists=filelists,
                solv_file=directory / f"{name}.solv",
                base_urls=(f"https://{name}.example/el9/",),
            )
        )
    return Universe(found)


@pytest.fixture
def universe(tmp_path: Path) -> Universe:
    return make_universe(tmp_path, {"baseos": BASEOS, "extra": EXTRA})


def wanted(name: str, *repositories: str, version: str | None = None) -> WantedPackage:
    return WantedPackage(
        name=name,
        repositories=repositories or ("extra",),
        purpose=f"purpose of {name}",
        version=version,
        source="packages.yaml:7",
    )


def close(universe: Universe, *packages: WantedPackage) -> dict[str, LockedPackage]:
    baseline = universe.baseline(BASELINE, ["bash", "selinux-policy"])
    return {package.name: package for package in universe.close(packages, baseline)}


def test_a_baseline_is_the_closure_of_its_group(universe: Universe) -> None:
    ids = universe.baseline(BASELINE, ["bash", "selinux-policy"])
    assert len(ids) == 4


def test_only_what_the_baseline_lacks_is_brought(universe: Universe) -> None:
    found = close(universe, wanted("kubelet"))
    assert sorted(found) == ["iptables-nft", "kubelet", "kubernetes-cni", "perl"]
    assert found["kubelet"].version == "1.36.5"
    assert found["kubelet"].requested
    assert found["iptables-nft"].required_by == ("kubelet",)
    assert found["perl"].required_by == ("kubernetes-cni",)
    assert not found["perl"].requested
    assert found["perl"].repository == "baseos"


def test_the_solution_is_the_same_from_the_cache(tmp_path: Path) -> None:
    repositories = {"baseos": BASEOS, "extra": EXTRA}
    first = close(make_universe(tmp_path, repositories), wanted("kubelet"), wanted("tar", "baseos"))
    kept = [
        RepositoryFiles(id=name, primary=None, filelists=None, solv_file=tmp_path / f"{name}.solv")
        for name in repositories
    ]
    assert close(Universe(kept), wanted("kubelet"), wanted("tar", "baseos")) == first


def test_a_version_is_pinned(universe: Universe) -> None:
    found = close(universe, wanted("kubelet", version="1.36.4"))
    assert found["kubelet"].nevra == "kubelet-1.36.4-1.noarch"
    assert "kubernetes-cni" not in found


def test_what_is_wanted_comes_even_when_the_baseline_has_it(universe: Universe) -> None:
    found = close(universe, wanted("bash", "baseos"))
    assert list(found) == ["bash"]
    assert found["bash"].requested


def test_fields_of_a_package(universe: Universe) -> None:
    tar = close(universe, wanted("tar", "extra", "baseos"))["tar"]
    rpm = BASEOS[-1]
    assert (tar.epoch, tar.version, tar.release, tar.arch) == (2, "1.34", "1.el9", "noarch")
    assert tar.location == rpm.location
    assert tar.size_bytes == len(rpm.content)
    assert tar.nevra == "tar-2:1.34-1.el9.noarch"
    assert tar.file_name == "tar-1.34-1.el9.noarch.rpm"
    assert universe.build_time(tar) == rpm.build_time


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (wanted("nobody"), "packages.yaml:7: nobody is not in repository 'extra'"),
        (wanted("kubelet", version="2.0"), "it has 1.36.4-1, 1.36.5-1"),
        (wanted("perl"), "perl is not in repository 'extra'; it is in baseos"),
        (wanted("wants-nothing-there"), "nothing provides not-there needed by wants-nothing-there"),
        (wanted("wants-32-bit"), "nothing provides only-32-bit"),
        (wanted("newer-policy"), "nothing provides selinux-policy >= 40 needed by newer-policy"),
        (wanted("no-setup"), "conflicts with setup"),
    ],
)
def test_what_cannot_be_had_is_said_in_words(universe: Universe, package: WantedPackage, words: str) -> None:
    with pytest.raises(SolverError) as caught:
        close(universe, package)
    assert words in caught.value.details


def test_a_problem_names_the_line_that_wants_it(universe: Universe, golden: GoldenCheck) -> None:
    with pytest.raises(SolverError) as caught:
        close(universe, wanted("kubelet"), wanted("newer-policy"))
    golden("solver-error.txt", caught.value.render() + "\n")


def test_a_group_that_names_what_is_not_there(universe: Universe) -> None:
    with pytest.raises(SolverError) as caught:
        universe.baseline(BASELINE, ["bash", "nobody", "noone"])
    assert "nobody, noone" in caught.value.details


def test_a_baseline_does_not_look_into_other_repositories(universe: Universe) -> None:
    with pytest.raises(SolverError):
        universe.baseline(BASELINE, ["kubelet"])
    assert "kubelet" in close(universe, wanted("kubelet"))


def test_composed_images_hold_what_their_packages_require(universe: Universe) -> None:
    packages = list(close(universe, wanted("kubelet"), wanted("tar", "baseos")).values())
    assert composed_closure(["kubelet"], packages) == ("iptables-nft", "kubelet", "kubernetes-cni", "perl")
    assert composed_closure(["tar"], packages) == ("tar",)


def test_reasons_of_several_baselines_are_joined(universe: Universe) -> None:
    package = close(universe, wanted("kubelet"))["perl"]
    other = LockedPackage(**{**vars(package), "required_by": ("another",), "requested": True})
    both = merged(package, other)
    assert both.required_by == ("another", "kubernetes-cni")
    assert both.requested


def test_damaged_metadata_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "primary.xml").write_text("<metadata><package></metadata>", encoding="utf-8")
    files = RepositoryFiles(
        id="x", primary=tmp_path / "primary.xml", filelists=None, solv_file=tmp_path / "x.solv"
    )
    with pytest.raises(SolverError, match="'x' cannot be read"):
        Universe([files])
