# SPDX-License-Identifier: Apache-2.0
"""The solver against a baseline: what must be on the ISO, why, and what is said when it cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from build.base.errors import SolverError
from build.inventory.model import Baseline, LockedPackage, WantedPackage
from build.lock.baselines import Installed
from build.lock.dependencies import composed_closure, open_requirements
from build.lock.packages import merged
from build.lock.solver import Solution, Universe
from build.lock.solvfiles import RepositoryFiles
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


def make_universe(
    directory: Path, repositories: Mapping[str, Sequence[Rpm]], bases: Sequence[str] = ("baseos",)
) -> Universe:
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
    return Universe(found, bases)


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
    return {package.name: package for package in universe.close(packages, baseline).packages}


def test_a_baseline_is_the_closure_of_its_group(universe: Universe) -> None:
    ids = universe.baseline(BASELINE, ["bash", "selinux-policy"])
    assert len(ids.ids) == 4


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
    assert close(Universe(kept, ["baseos"]), wanted("kubelet"), wanted("tar", "baseos")) == first


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
        Universe([files], [])


# ---------------------------------------------------------------- where dependencies come from

MNL = Rpm(name="libmnl", evr="1.0-1", provides=("libmnl.so.0",))
NEWER_MNL = Rpm(name="libmnl", evr="99-1", provides=("libmnl.so.0",))
SYSTEM = (Rpm(name="bash"), Rpm(name="selinux-policy"), MNL)


def strangers(directory: Path, *more: Rpm, base: Sequence[Rpm] = SYSTEM) -> Universe:
    return make_universe(
        directory,
        {
            "baseos": base,
            "extra": (Rpm(name="kubelet", requires=("libmnl.so.0",)),),
            "third": (NEWER_MNL, *more),
        },
    )


def test_a_third_party_does_not_replace_a_dependency(tmp_path: Path) -> None:
    found = close(strangers(tmp_path), wanted("kubelet"))
    assert (found["libmnl"].repository, found["libmnl"].version) == ("baseos", "1.0")
    assert found["libmnl"].crosses == ()


def test_not_even_for_its_own_packages_where_a_base_repository_has_it(tmp_path: Path) -> None:
    universe = strangers(tmp_path, Rpm(name="agent", requires=("libmnl",)))
    found = close(universe, wanted("agent", "third"), wanted("kubelet"))
    assert found["libmnl"].repository == "baseos"


def test_its_own_packages_take_from_it_what_nobody_else_has(tmp_path: Path) -> None:
    found = close(strangers(tmp_path, Rpm(name="agent", requires=("libmnl >= 9",))), wanted("agent", "third"))
    assert (found["libmnl"].repository, found["libmnl"].required_by) == ("third", ("agent",))
    assert found["libmnl"].crosses == ()


@pytest.mark.parametrize("name", ["libmnl", "mnl-by-another-name"])
def test_what_only_a_stranger_offers_is_refused(tmp_path: Path, name: str) -> None:
    offer = Rpm(name=name, evr="99-1", provides=("only.so.1",))
    universe = make_universe(
        tmp_path,
        {
            "baseos": SYSTEM,
            "extra": (Rpm(name="kubelet", requires=("only.so.1",)),),
            "third": (offer, Rpm(name=name, evr="98-1", provides=("only.so.1",))),
        },
    )
    with pytest.raises(SolverError) as caught:
        close(universe, wanted("kubelet"))
    assert "require what only a stranger's repository has" in caught.value.message
    refusal = f"requires only.so.1: {name}-99-1.noarch of 'third' is not taken for it"
    assert f"kubelet-1.0-1.el9.noarch of 'extra' {refusal}" in caught.value.details
    assert "name the package in packages.yaml with its repository" in caught.value.resolution


def test_what_a_strangers_own_package_needs_is_there_for_all_and_the_lock_says_so(tmp_path: Path) -> None:
    universe = strangers(tmp_path, Rpm(name="agent", requires=("libmnl >= 9",)))
    found = close(universe, wanted("agent", "third"), wanted("kubelet"))
    assert (found["libmnl"].repository, found["libmnl"].version) == ("third", "99")
    assert (found["libmnl"].required_by, found["libmnl"].crosses) == (("agent", "kubelet"), ("kubelet",))


def test_strangers_do_not_let_each_other_in(tmp_path: Path) -> None:
    universe = make_universe(
        tmp_path,
        {
            "baseos": SYSTEM,
            "extra": (Rpm(name="kubelet", requires=("one",)),),
            "third": (Rpm(name="one", requires=("two",)), Rpm(name="two", requires=("one",))),
        },
    )
    with pytest.raises(SolverError) as caught:
        close(universe, wanted("kubelet"))
    assert "requires one: one-1.0-1.el9.noarch of 'third' is not taken for it" in caught.value.details


def test_the_inventory_may_say_otherwise_and_the_lock_says_so(tmp_path: Path) -> None:
    found = close(strangers(tmp_path), wanted("kubelet"), wanted("libmnl", "third"))
    assert (found["libmnl"].repository, found["libmnl"].version) == ("third", "99")
    assert (found["libmnl"].required_by, found["libmnl"].crosses) == (("kubelet",), ("kubelet",))


def test_a_base_package_does_not_take_from_strangers_either(tmp_path: Path) -> None:
    universe = strangers(tmp_path, base=(*SYSTEM, Rpm(name="nft", requires=("libmnl >= 9",))))
    with pytest.raises(SolverError) as caught:
        close(universe, wanted("nft", "baseos"))
    assert "nft-1.0-1.el9.noarch of 'baseos' requires libmnl >= 9" in caught.value.details


# ---------------------------------------------------------------- requirements of scriptlets

SCRIPTED = (
    Rpm(name="policy", requires=("core-policy",), pre=("sed", "/usr/libexec/semodule")),
    Rpm(name="core-policy"),
    Rpm(name="tools", files=("/usr/libexec/semodule",)),
    Rpm(name="sed"),
)


def scripted(directory: Path) -> Universe:
    base = (Rpm(name="bash"), Rpm(name="selinux-policy"), *SCRIPTED)
    return make_universe(directory, {"baseos": base})


def test_requirements_of_scriptlets_are_reasons(tmp_path: Path) -> None:
    found = close(scripted(tmp_path), wanted("policy", "baseos"))
    assert {name: package.required_by for name, package in found.items() if name != "policy"} == {
        "core-policy": ("policy",),
        "sed": ("policy",),
        "tools": ("policy",),
    }
    assert composed_closure(["policy"], list(found.values())) == ("core-policy", "policy", "sed", "tools")


def test_requirements_of_scriptlets_that_the_host_gives(tmp_path: Path) -> None:
    universe = scripted(tmp_path)
    host = universe.baseline(BASELINE, ["bash", "sed", "tools"])
    solution = universe.close([wanted("policy", "baseos")], host)
    assert universe.given_by(solution) == ("/usr/libexec/semodule", "sed")


def test_requirements_of_scriptlets_are_open_in_a_closed_world(tmp_path: Path) -> None:
    primary, filelists = tmp_path / "primary.xml", tmp_path / "filelists.xml"
    primary.write_bytes(primary_xml(SCRIPTED[:2]))
    filelists.write_bytes(filelists_xml(SCRIPTED[:2]))
    names = [rpm.location.rsplit("/", 1)[-1] for rpm in SCRIPTED]
    policy = "policy-1.0-1.el9.noarch"
    assert open_requirements(primary, filelists, names, ["sed"]) == [(policy, "/usr/libexec/semodule")]


# ---------------------------------------------------------------- hosts by their group


def test_a_few_names_that_the_repository_lacks_are_a_note(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(10)]
    universe = make_universe(tmp_path, {"baseos": [Rpm(name=name) for name in names[1:]]})
    host = universe.baseline(BASELINE, names)
    assert len(host.ids) == 9
    assert host.notes == ("not in repository: p0 (mandatory in group 'core')",)
    with pytest.raises(SolverError, match="names packages that its repositories do not have"):
        universe.baseline(BASELINE, [*names, "noone"])


def test_both_builds_of_a_release_are_locked_where_only_one_fits(tmp_path: Path) -> None:
    def release(version: str) -> tuple[Rpm, ...]:
        return (
            Rpm(name="bash"),
            Rpm(name="libnf", evr=version),
            Rpm(name="conntrack", evr=version, requires=(f"libnf >= {version}",)),
        )

    universe = make_universe(
        tmp_path, {"baseos": release("2-1"), "baseos-ga": release("1-1")}, ("baseos", "baseos-ga")
    )
    found = {}
    for name in ("baseos", "baseos-ga"):
        baseline = dataclasses.replace(BASELINE, id=name, repositories=(name,))
        host = universe.baseline(baseline, ["bash", "libnf"])
        (package,) = universe.close([wanted("conntrack", "baseos")], host).packages
        found[name] = (package.version, package.repository)
    assert found == {"baseos": ("2", "baseos"), "baseos-ga": ("1", "baseos-ga")}


OLD_HOST = (Rpm(name="bash"), Rpm(name="selinux-policy", evr="38-1"))
NEW_BASE = (
    Rpm(name="selinux-policy", evr="40-1"),
    Rpm(name="selinux-policy", evr="41-1"),
    Rpm(name="container-selinux", requires=("selinux-policy >= 40",)),
    Rpm(name="conntrack"),
)


def upgraded(directory: Path, *names: str, may_upgrade: tuple[str, ...]) -> Solution:
    universe = make_universe(directory, {"old": OLD_HOST, "baseos": NEW_BASE}, ("old", "baseos"))
    baseline = dataclasses.replace(BASELINE, repositories=("old",), may_upgrade=may_upgrade)
    host = universe.baseline(baseline, ["bash", "selinux-policy"])
    return universe.close([wanted(name, "baseos") for name in names], host)


def test_what_may_be_upgraded_is_only_where_it_must_be(tmp_path: Path) -> None:
    calm = upgraded(tmp_path, "conntrack", may_upgrade=("selinux-policy*",))
    assert [package.name for package in calm.packages] == ["conntrack"]
    forced = upgraded(tmp_path, "container-selinux", may_upgrade=("selinux-policy*",))
    assert [package.name for package in forced.packages] == ["container-selinux", "selinux-policy"]
    assert forced.packages[1].required_by == ("container-selinux",)
    assert forced.notes == ("upgraded: selinux-policy-38-1.noarch (in 'may_upgrade')",)


def test_what_may_not_be_upgraded_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SolverError) as caught:
        upgraded(tmp_path, "container-selinux", may_upgrade=("bash",))
    assert "would force the host's selinux-policy from 38-1 to 41-1" in caught.value.details
    assert "may_upgrade" in caught.value.resolution


# ---------------------------------------------------------------- hosts by their list

LIBRARY = Rpm(
    name="lib",
    evr="1:2-1",
    arch="x86_64",
    provides=("lib.so.2", "lib-api = 1:2-1"),
    files=("/usr/libexec/libtool",),
)
USER = Rpm(name="manager", requires=("lib.so.2", "lib = 1:2-1", "/usr/libexec/libtool"), arch="x86_64")
KERNELS = tuple(Rpm(name="kernel-core", evr=f"5.14-{n}", arch="x86_64") for n in (1, 2, 3))


def host_of(directory: Path, *lines: str) -> tuple[Universe, Installed]:
    base = (Rpm(name="bash"), Rpm(name="tar", evr="2-1"), LIBRARY, USER, *KERNELS)
    tools = (
        Rpm(name="kubelet", requires=("lib.so.2", "bash")),
        Rpm(name="needs-new-lib", requires=("lib-api >= 1:3",)),
    )
    universe = make_universe(directory, {"baseos": base, "extra": tools})
    return universe, universe.listed(dataclasses.replace(BASELINE, group="", packages=lines))


def test_a_host_may_have_several_kernels(tmp_path: Path) -> None:
    lines = ("bash-1.0-1.el9.noarch", "kernel-core-5.14-1.x86_64", "kernel-core-5.14-3.x86_64")
    universe, host = host_of(tmp_path, *lines)
    assert universe.nevras(host.ids) == lines
    (tar,) = universe.close([wanted("tar", "baseos")], host).packages
    assert tar.name == "tar"


def test_a_build_that_no_repository_has_stands_for_its_nearest(tmp_path: Path) -> None:
    lines = ("bash-1.0-1.el9.noarch", "lib-2-1.hotfix.x86_64", "manager-1.0-1.el9.x86_64", "agent-7-7.x86_64")
    universe, host = host_of(tmp_path, *lines)
    assert universe.nevras(host.ids) == (
        "agent-7-7.x86_64", "bash-1.0-1.el9.noarch", "lib-1:2-1.hotfix.x86_64", "manager-1.0-1.el9.x86_64"
    )  # fmt: skip
    (note,) = host.notes
    assert note.startswith("2 of 4 installed packages are in none of its repositories")
    assert "agent-7-7.x86_64" in note
    solution = universe.close([wanted("kubelet")], host)
    assert [package.name for package in solution.packages] == ["kubelet"]
    assert universe.given_by(solution) == ("bash", "lib.so.2")


def test_only_who_asks_for_too_much_is_blamed(tmp_path: Path) -> None:
    universe, host = host_of(tmp_path, "bash-1.0-1.el9.noarch", "lib-2-1.hotfix.x86_64")
    with pytest.raises(SolverError) as caught:
        universe.close([wanted("kubelet"), wanted("needs-new-lib")], host)
    assert "kubelet" not in caught.value.details
    assert "nothing provides lib-api >= 1:3 needed by needs-new-lib" in caught.value.details


def test_a_host_has_what_is_wanted(tmp_path: Path) -> None:
    universe, host = host_of(tmp_path, "bash-1.0-1.el9.noarch", "tar-3-1.site.noarch")
    solution = universe.close([wanted("bash", "baseos"), wanted("tar", "baseos")], host)
    assert [(package.name, package.requested) for package in solution.packages] == [("bash", True)]
    assert solution.notes == ("tar-3-1.site.noarch stays: the host has it, and no repository does",)


def test_a_wanted_version_is_not_that_of_the_host(tmp_path: Path) -> None:
    universe, host = host_of(tmp_path, "bash-1.0-1.el9.noarch", "tar-3-1.site.noarch")
    with pytest.raises(SolverError, match="without upgrading the host") as caught:
        universe.close([wanted("tar", "baseos", version="2")], host)
    assert "tar 2-1 would force the host's tar from 3-1.site to 2-1" in caught.value.details


def test_packages_for_other_machines_do_not_count(tmp_path: Path) -> None:
    _universe, host = host_of(tmp_path, "bash-1.0-1.el9.noarch", "lib-2-1.i686")
    assert len(host.ids) == 1
    assert host.notes == ("1 packages for other machines do not count: lib-2-1.i686",)


def test_hosts_do_not_see_each_other(tmp_path: Path) -> None:
    universe, host = host_of(tmp_path, "bash-1.0-1.el9.noarch", "lib-2-1.hotfix.x86_64")
    other = universe.listed(dataclasses.replace(BASELINE, id="other", packages=("bash-1.0-1.el9.noarch",)))
    assert {p.name for p in universe.close([wanted("kubelet")], other).packages} == {"kubelet", "lib"}
    assert {p.name for p in universe.close([wanted("kubelet")], host).packages} == {"kubelet"}
