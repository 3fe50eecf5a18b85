# SPDX-License-Identifier: Apache-2.0
"""Several baselines: minor releases that differ, install profiles, the package list of a host."""

from __future__ import annotations

import dataclasses

import pytest

from build.base.errors import InventoryError, SolverError
from build.inventory.model import Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from tests.unit.build.fakerepo import Rpm, comps_xml
from tests.unit.build.fakesite import PACKAGES, PROFILE, Site

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]

OLD, NEW = "38.1.53-5.el9", "38.1.65-1.el9"
BASELINES = """format: 1
baselines:
  - {id: el9.8, release: "9.8", repository: [baseos, appstream], group: core}
  - {id: el9.6, release: "9.6", repository: [baseos-9.6, appstream-9.6], group: core}
packages:
  - {name: container-selinux, repository: [baseos, appstream], purpose: policy of containers}
"""
OURS = '  - {id: el9.6, release: "9.6", repository: [baseos-9.6, appstream-9.6], group: core}\n'
REPOSITORY = """  {name}:
    base_url: "{url}/{name}/"
    metadata: signed
    keys: [{{file: main.asc, fingerprint: {key}}}]
"""
ADDED = ("appstream", "baseos-9.6", "appstream-9.6")


@pytest.fixture
def site(site: Site) -> Site:
    """Make a site with two minor releases, as the lab has them: they differ in selinux-policy."""
    url, key = site.upstream.url, site.key.fingerprint
    more = "".join(REPOSITORY.format(name=name, url=url, key=key) for name in ADDED)
    profile = PROFILE.format(url=url, key=key).replace("registries:", f"{more}registries:")
    site.profile_file.write_text(profile, encoding="utf-8")
    (site.root_dir / "images.yaml").write_text("format: 1\nimages: []\n", encoding="utf-8")
    write(site, BASELINES)
    comps = comps_xml("core", ["bash", "selinux-policy", "firewalld"])
    for name, evr in (("baseos", NEW), ("baseos-9.6", OLD)):
        site.put_repository(name, [*base(site, evr), Rpm(name="tar")], comps=comps)
    site.put_repository("appstream", [container_selinux(site, "2.245-1", "38.1.63")])
    site.put_repository("appstream-9.6", [container_selinux(site, "2.235-1", "38.1.53")])
    return site


def base(site: Site, policy: str) -> list[Rpm]:
    return [
        Rpm(name="bash"),
        Rpm(name="selinux-policy", evr=policy),
        site.rpm("nftables"),
        site.rpm("firewalld", requires=("nftables",)),
    ]


def container_selinux(site: Site, evr: str, policy: str) -> Rpm:
    return site.rpm("container-selinux", evr=evr, requires=(f"selinux-policy >= {policy}",))


def write(site: Site, packages: str) -> None:
    (site.root_dir / "packages.yaml").write_text(packages, encoding="utf-8")


def lock(site: Site) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)
    return read_lock(site.lock_file)


def test_each_release_gets_the_build_that_fits_it(site: Site) -> None:
    made = lock(site)
    assert {(package.nevra, package.repository, package.baselines) for package in made.packages} == {
        ("container-selinux-2.245-1.noarch", "appstream", ("el9.8",)),
        ("container-selinux-2.235-1.noarch", "appstream-9.6", ("el9.6",)),
    }
    assert made.package("container-selinux").version == "2.245"
    assert [(item.id, item.release, item.package_count) for item in made.baselines] == [
        ("el9.6", "9.6", 4),
        ("el9.8", "9.8", 4),
    ]
    assert made.baselines[0].digest != made.baselines[1].digest


def test_one_build_is_enough_where_it_fits_all(site: Site) -> None:
    site.put_repository("appstream", [container_selinux(site, "2.245-1", "38.1.50")])
    (package,) = lock(site).packages
    assert (package.version, package.baselines) == ("2.245", ("el9.6", "el9.8"))


@pytest.mark.parametrize(("is_old_first", "repository"), [(False, "appstream"), (True, "appstream-9.6")])
def test_the_same_build_is_taken_from_the_first_baseline(
    site: Site, *, is_old_first: bool, repository: str
) -> None:
    same = [container_selinux(site, "2.235-1", "38.1.53")]
    for name in ("appstream", "appstream-9.6"):
        site.put_repository(name, same)
    if is_old_first:
        write(site, BASELINES.replace(OURS, "").replace("baselines:\n", "baselines:\n" + OURS))
    (package,) = lock(site).packages
    assert (package.repository, package.baselines) == (repository, ("el9.6", "el9.8"))


def test_a_forced_upgrade_names_release_package_and_line(site: Site) -> None:
    site.put_repository("appstream-9.6", [])
    with pytest.raises(SolverError) as caught:
        lock(site)
    assert caught.value.message == (
        "the wanted packages on EL 9.6 (baseline 'el9.6') cannot be had without upgrading the host"
    )
    assert (
        "packages.yaml:6: container-selinux 2.245-1 would force the host's selinux-policy "
        f"from {OLD} to {NEW}" in caught.value.details
    )
    assert "older build" in caught.value.resolution
    assert not site.lock_file.exists()


def test_an_install_profile_is_without_some_packages(site: Site) -> None:
    cloud = OURS.replace("el9.6,", "cloud,").replace("core", "core, without: [firewalld, tar]")
    write(site, BASELINES.replace(OURS, cloud).replace("packages:\n", "packages:\n" + FIREWALLD))
    made = lock(site)
    assert {item.id: item.package_count for item in made.baselines} == {"cloud": 2, "el9.8": 4}
    nftables = made.package("nftables")
    assert (nftables.required_by, nftables.baselines) == (("firewalld",), ("cloud",))
    assert made.package("firewalld").baselines == ("cloud", "el9.8")


FIREWALLD = "  - {name: firewalld, repository: [baseos, appstream], purpose: firewall}\n"


def test_what_the_rest_requires_stays_with_a_note(site: Site) -> None:
    write(site, BASELINES.replace("group: core}\npackages", "group: core, without: [nftables]}\npackages"))
    made = lock(site)
    assert made.baselines[0].package_count == 4
    assert made.baselines[0].notes == ("not without nftables: the rest of group 'core' requires it",)
    assert made.baselines[1].notes == ()
    assert read_lock(site.lock_file) == made


def test_a_host_gives_its_own_list(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    installed = ["bash-1.0-1.el9.noarch", f"selinux-policy-{OLD}.noarch", "agent-3-1.x86_64"]
    text = "\n".join(["# plant 7", *installed, "gpg-pubkey-8483c65d-5ccc5b19", ""])
    (site.root_dir / "plant7.txt").write_text(text, encoding="utf-8")
    listed = OURS.replace("group: core", "package_list: plant7.txt")
    write(site, BASELINES.replace(OURS, listed))
    made = lock(site)
    assert made.baselines[0].group == ""
    assert made.baselines[0].package_count == 3
    assert {package.version for package in made.packages} == {"2.235", "2.245"}
    (note,) = made.baselines[0].notes
    assert note.startswith("1 of 3 installed packages are in none of its repositories")
    assert note in capsys.readouterr().err
    assert read_lock(site.lock_file) == made


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        ("package_list: nowhere.txt", "package list 'nowhere.txt' cannot be read"),
        ("package_list: bad.txt", "'bad.txt' has a line that rpm -qa does not print: 'bash'"),
        ("package_list: empty.txt", "package list 'empty.txt' is empty"),
        ("package_list: bad.txt, group: core", "'group' and 'package_list' exclude each other"),
    ],
)
def test_lists_that_cannot_be_meant(site: Site, new: str, fault: str) -> None:
    (site.root_dir / "bad.txt").write_text("bash\n", encoding="utf-8")
    (site.root_dir / "empty.txt").write_text("\n", encoding="utf-8")
    write(site, BASELINES.replace(OURS, OURS.replace("group: core", new)))
    with pytest.raises(InventoryError) as caught:
        lock(site)
    assert f"packages.yaml:4: {fault}" in caught.value.details


def test_a_baseline_is_part_of_the_intent(site: Site) -> None:
    before = lock(site).inventory_digest
    write(site, BASELINES.replace(OURS, OURS.replace("core}", "core, without: [firewalld]}")))
    assert lock(site).inventory_digest != before


def test_the_old_form_is_still_one_baseline(site: Site) -> None:
    write(site, PACKAGES)
    (baseline,) = lock(site).baselines
    assert dataclasses.asdict(baseline)["repositories"] == ("baseos",)
