# SPDX-License-Identifier: Apache-2.0
"""The tables are consistent; a real rpmbuild makes signed packages; repositories are as upstream's."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab import core, debs, el9, golang, keys, onedir, packages, rpms, rpmspec
from lab.errors import LabError
from lab.rpmspec import Directory, Link, Programs, Rpm, Source, Text
from lab.run import run

GoldenCheck = Callable[[str, str], None]

HELLO = Source(
    name="hello",
    signer="salt",
    packages=(
        Rpm(
            name="hello",
            version="1.0",
            release="2",
            epoch=3,
            summary="Say hello, 100%",
            requires=("/bin/sh", "hello-data = 3:1.0-2"),
            scripts=(("post", "echo 100% || :\n"),),
            contents=(
                Text(path="/usr/bin/hello", text="#!/bin/sh\n", mode=0o755),
                Link(path="/usr/bin/hallo", target="hello"),
            ),
        ),
        Rpm(
            name="hello-data",
            version="1.0",
            release="2",
            epoch=3,
            noarch=True,
            summary="Words of hello",
            conflicts=("hullo",),
            obsoletes=("hullo < 1",),
            contents=(
                Text(path="/etc/hello/hello.conf", text="hello\n", config=True),
                Directory(path="/var/lib/hello", mode=0o750, owner="daemon", group="daemon"),
            ),
        ),
    ),
)


@pytest.fixture
def fixed_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables be read without a mirror and without a compiler."""
    monkeypatch.setattr(debs, "versions", lambda names, **_: dict.fromkeys(names, "1:1.0-1"))
    monkeypatch.setattr(golang, "output_dir", lambda wanted: Path("bin") / wanted.name / "digest")


@pytest.fixture
def all_packages(fixed_versions: None) -> dict[str, Rpm]:
    sources = [
        source
        for name, group in rpms.all_sources().items()
        for source in group
        if not name.endswith((f"-{el9.OLD_RELEASE}", "-ga"))
    ]
    found = [package for source in sources for package in rpmspec.with_versions(source).packages]
    assert len({package.file_name for package in found}) == len(found)
    return {package.name: package for package in found}


def test_every_requirement_is_met_by_a_package(all_packages: dict[str, Rpm]) -> None:
    capabilities = {
        capability.split()[0]
        for package in all_packages.values()
        for capability in (package.name, *package.provides)
    }
    missing = {
        (package.name, requirement)
        for package in all_packages.values()
        for requirement in package.requires
        if requirement.lstrip("(").split()[0] not in capabilities
    }
    assert not missing


WITH_FILES = {
    *("ethtool", "firewalld", "iproute-tc", "iptables-libs", "iptables-nft", "libnetfilter_conntrack"),
    *("libnfnetlink", "nftables", "openssl", "python3-firewall", "which", "xz"),
}
"""What a minimal host has, and what has files all the same: for hosts that came without it."""


def test_the_baseline_is_exactly_the_closure_of_the_group(all_packages: dict[str, Rpm]) -> None:
    known = [*core.BASELINE, *el9.BASEOS_EXTRAS]
    closure = {package.name for package in rpms.baseline_closure(known, core.CORE_GROUP)}
    assert closure == {package.name for package in core.BASELINE} | WITH_FILES
    assert len(core.CORE_GROUP) == 46
    assert 255 <= len(closure) <= 265, "EL 9's own has 260"


def test_the_group_names_packages_that_no_repository_has(all_packages: dict[str, Rpm]) -> None:
    assert core.ABSENT_NAMES
    assert not set(core.ABSENT_NAMES) & all_packages.keys()


def test_the_dracut_of_a_host_wants_xz() -> None:
    """So no host is without it: the first production lock met that."""
    known = [*core.BASELINE, *el9.BASEOS_EXTRAS]
    closure = {package.name for package in rpms.baseline_closure(known, ["kexec-tools"])}
    assert {"dracut", "dracut-network", "xz", "ethtool", "systemd-udev"} <= closure


def test_the_old_release_differs_in_its_selinux_policy(fixed_versions: None) -> None:
    """Today's container-selinux cannot be installed there, an older one can."""
    new, old = ({rpm.name: rpm for rpm in table} for table in (core.BASELINE, el9.OLD_BASELINE))
    assert new.keys() == old.keys()
    differing = {name for name in new if new[name] != old[name]}
    assert {name for name in differing if not name.startswith("almalinux-")} == {
        "selinux-policy",
        "selinux-policy-targeted",
    }
    known = [*el9.OLD_BASELINE, *el9.BASEOS_EXTRAS]
    assert len(rpms.baseline_closure(known, core.CORE_GROUP)) == len(el9.OLD_BASELINE) + len(WITH_FILES)


@pytest.mark.parametrize(
    ("first", "today"),
    [(el9.FIRST_BASELINE, core.BASELINE), (el9.OLD_FIRST_BASELINE, el9.OLD_BASELINE)],
    ids=["newest", "old"],
)
def test_the_first_day_of_a_release_had_older_builds(first: tuple[Rpm, ...], today: tuple[Rpm, ...]) -> None:
    assert [package.name for package in first] == [package.name for package in today]
    differing = {new.name: (old, new) for old, new in zip(first, today, strict=True) if old != new}
    assert {"curl", "libcurl", "systemd"} <= differing.keys()
    for old, new in differing.values():
        assert (old.requires, old.epoch) == (new.requires, new.epoch)
        assert (old.version, old.release) != (new.version, new.release)


def test_the_baseline_holds_no_file() -> None:
    assert not [package.name for package in core.BASELINE if package.contents or package.scripts]


def test_tables_are_in_order() -> None:
    for table in (core.BASELINE, el9.BASEOS_EXTRAS, el9.APPSTREAM_EXTRAS):
        names = [package.name for package in table]
        assert names == sorted(names)
    assert list(core.CORE_GROUP) == sorted(core.CORE_GROUP)


def test_what_the_iso_must_bring_is_not_in_the_baseline() -> None:
    baseline = {package.name for package in core.BASELINE} | WITH_FILES
    assert baseline.isdisjoint(
        {
            "container-selinux",
            "socat",
            "conntrack-tools",
            "tar",
        }
    )


def test_an_unmet_requirement_of_the_baseline_names_who_wants_it() -> None:
    lonely = Rpm(name="lonely", version="1", summary="x", requires=("friend",))
    with pytest.raises(LabError, match="friend") as caught:
        rpms.baseline_closure([lonely], ["lonely"])
    assert "lonely" in caught.value.details


def test_packages_have_upstreams_versions(all_packages: dict[str, Rpm]) -> None:
    files = {package.file_name for package in all_packages.values()}
    assert {
        "kubelet-1.36.4-150500.1.1.x86_64.rpm",
        "kubeadm-1.36.4-150500.1.1.x86_64.rpm",
        "kubectl-1.36.4-150500.1.1.x86_64.rpm",
        "cri-tools-1.36.0-150500.1.1.x86_64.rpm",
        "kubernetes-cni-1.9.1-150500.1.1.x86_64.rpm",
        "containerd.io-2.3.7-1.el9.x86_64.rpm",
        "salt-3008.3-0.x86_64.rpm",
        "salt-minion-3008.3-0.x86_64.rpm",
        "salt-master-3008.3-0.x86_64.rpm",
    } <= files


def test_package_versions_are_those_of_the_components(all_packages: dict[str, Rpm]) -> None:
    for name, component in (
        ("kubelet", "kubernetes"),
        ("cri-tools", "critools"),
        ("kubernetes-cni", "cni"),
        ("containerd.io", "containerd"),
    ):
        assert "v" + all_packages[name].version == golang.component(component).version


def test_programs_of_packages_are_programs_of_components(all_packages: dict[str, Rpm]) -> None:
    for package in all_packages.values():
        for content in package.contents:
            if isinstance(content, Programs):
                known = golang.component(content.component)
                made = {path.rpartition("/")[2] for path in golang.main_packages(known)}
                assert set(content.names) <= made


def test_kubelet_drop_in(golden: GoldenCheck, all_packages: dict[str, Rpm]) -> None:
    (drop_in,) = (content for content in all_packages["kubeadm"].contents if isinstance(content, Text))
    assert drop_in.path == "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
    golden("10-kubeadm.conf", drop_in.text)


def test_salt_requirements_are_locked_by_hash() -> None:
    for name in ("requirements.txt", "requirements-build.txt"):
        lines = (onedir.REQUIREMENTS_DIR / name).read_text().splitlines()
        wanted = [line for line in lines if not line.startswith("#")]
        assert wanted
        assert all("==" in line and " --hash=sha256:" in line for line in wanted)
    text = (onedir.REQUIREMENTS_DIR / "requirements.txt").read_text()
    assert f"\nsalt=={onedir.VERSION} --hash" in text


def test_salt_subpackages_want_the_same_salt(all_packages: dict[str, Rpm]) -> None:
    for name in ("salt-master", "salt-minion", "salt-ssh"):
        assert "salt = 3008.3-0" in all_packages[name].requires
    linked = {
        Path(content.target).name
        for package in packages.salt().packages
        for content in package.contents
        if isinstance(content, Link)
    }
    assert linked == set(onedir.ENTRY_POINTS)


def test_spec(golden: GoldenCheck) -> None:
    files = {"hello": ("/usr/bin/hello",), "hello-data": ("%dir %attr(0750, daemon, daemon) /var/lib/hello",)}
    golden("hello.spec", rpmspec.render_spec(HELLO, files))


def test_comps(golden: GoldenCheck) -> None:
    text = rpms.render_comps(["bash", "a&b"])
    ET.fromstring(text)  # noqa: S314
    golden("comps.xml", text)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    return tmp_path


def query(rpm_file: Path, database_dir: Path, *words: str) -> str:
    return run(["rpm", "--dbpath", database_dir, "--query", "--package", *words, rpm_file]).stdout


@pytest.mark.subprocess
def test_real_packages_are_signed_and_as_described(own_cache: Path) -> None:
    """Starts the real rpmbuild, rpmsign, rpm and gpg."""
    directory = rpmspec.build(HELLO)
    assert rpmspec.build(HELLO) == directory
    assert sorted(file.name for file in directory.iterdir()) == [
        "hello-1.0-2.x86_64.rpm",
        "hello-data-1.0-2.noarch.rpm",
    ]
    database_dir = own_cache / "rpmdb"
    run(["rpm", "--dbpath", database_dir, "--import", keys.key("salt").public_file])
    hello = directory / "hello-1.0-2.x86_64.rpm"
    checked = run(["rpm", "--dbpath", database_dir, "--checksig", "--verbose", hello]).stdout
    assert "RSA/SHA256 Signature" in checked
    assert "NOKEY" not in checked
    assert "Header SHA256 digest: OK" in checked
    assert "Payload SHA256 digest: OK" in checked
    tags = "%{EPOCH} %{SUMMARY} %{BUILDTIME} %{BUILDHOST} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}"
    assert query(hello, database_dir, "--queryformat", tags) == (
        f"3 Say hello, 100% {rpmspec.BUILD_TIME} lab.caisson.internal zstd 8"
    )
    assert "echo 100% || :" in query(hello, database_dir, "--scripts")
    assert "hello-data = 3:1.0-2" in query(hello, database_dir, "--requires")
    data = directory / "hello-data-1.0-2.noarch.rpm"
    assert query(data, database_dir, "--configfiles") == "/etc/hello/hello.conf\n"
    assert "drwxr-x---" in query(data, database_dir, "--list", "--verbose")
    assert "daemon" in query(data, database_dir, "--list", "--verbose")


@pytest.mark.subprocess
def test_a_changed_text_is_another_package(own_cache: Path) -> None:
    """Starts the real rpmbuild, rpmsign and gpg."""
    first = rpmspec.build(HELLO)
    hello, data = HELLO.packages
    changed = replace(hello, contents=(Text(path="/usr/bin/hello", text="#!/bin/bash\n", mode=0o755),))
    assert rpmspec.build(replace(HELLO, packages=(changed, data))) != first


@pytest.mark.subprocess
def test_two_packages_cannot_hold_one_file(own_cache: Path) -> None:
    """Starts the real gpg."""
    hello, data = HELLO.packages
    twice = replace(data, contents=(Text(path="/usr/bin/hello", text="other"),))
    with pytest.raises(LabError, match="hello and hello-data both hold"):
        rpmspec.build(replace(HELLO, packages=(hello, twice)))


@pytest.mark.subprocess
def test_a_foreign_rpm_has_the_name_of_the_real_one_and_another_key(
    own_cache: Path, fixed_versions: None
) -> None:
    """Starts the real rpmbuild, rpmsign, rpm and gpg."""
    rpm_file = rpms.build_foreign_rpm("kubelet")
    assert rpm_file.name == "kubelet-1.36.4-150500.1.1.x86_64.rpm"
    database_dir = own_cache / "rpmdb"
    run(["rpm", "--dbpath", database_dir, "--import", keys.key("kubernetes").public_file])
    checked = run(["rpm", "--dbpath", database_dir, "--checksig", "--verbose", rpm_file], check=False)
    assert checked.returncode != 0
    assert "NOKEY" in checked.stdout
    with pytest.raises(LabError, match="no package 'nothing'"):
        rpms.build_foreign_rpm("nothing")


@pytest.mark.subprocess
def test_a_repository_is_composed_signed_and_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, fixed_versions: None
) -> None:
    """Starts the real rpmbuild, rpmsign, createrepo_c and gpg."""
    repository = next(known for known in rpms.REPOSITORIES if known.groups)
    monkeypatch.setattr(rpms, "REPOSITORIES", (repository,))
    monkeypatch.setattr(rpms, "all_sources", lambda: {"baseos": (replace(HELLO, signer="baseos"),)})
    (directory,) = rpms.build_repositories().values()
    assert directory == own_cache / "cache" / "lab" / "yum" / "baseos"
    assert (directory / "Packages" / "h" / "hello-1.0-2.x86_64.rpm").is_file()
    repomd_file = directory / "repodata" / "repomd.xml"
    text = repomd_file.read_text()
    assert f"<revision>{rpmspec.BUILD_TIME}</revision>" in text
    assert 'type="group"' in text
    assert "primary.xml.xz" in text
    assert (directory / "repodata" / "repomd.xml.asc").read_text().startswith("-----BEGIN PGP SIGNATURE-----")
    assert not (directory / "comps.xml").exists()
    inode = repomd_file.stat().st_ino

    def refuse(*args: object, **_: object) -> None:
        raise AssertionError(args)

    monkeypatch.setattr(subprocess, "Popen", refuse)
    rpms.build_repositories()
    assert repomd_file.stat().st_ino == inode


@pytest.mark.subprocess
def test_a_half_synchronised_mirror_has_the_signature_of_the_day_before(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, fixed_versions: None
) -> None:
    """Starts the real rpmbuild, rpmsign, createrepo_c and gpg."""
    repository = next(known for known in rpms.REPOSITORIES if known.id == "kubernetes")
    monkeypatch.setattr(rpms, "REPOSITORIES", (repository,))
    monkeypatch.setattr(rpms, "all_sources", lambda: {"kubernetes": (replace(HELLO, signer="kubernetes"),)})
    (directory,) = rpms.build_repositories().values()
    half_dir = rpms.half_mirror("kubernetes", directory)
    assert sorted(path.name for path in half_dir.iterdir()) == ["repodata"]
    text = (directory / "repodata" / "repomd.xml").read_bytes()
    assert (half_dir / "repodata" / "repomd.xml").read_bytes() == text
    keyring = own_cache / "keyring.gpg"
    run(["gpg", "--batch", "--dearmor", "--output", keyring, keys.key("kubernetes").public_file])
    for mirror_dir, is_good in ((directory, True), (half_dir, False)):
        files = [mirror_dir / "repodata" / name for name in ("repomd.xml.asc", "repomd.xml")]
        verified = run(["gpgv", "--keyring", keyring, *files], check=False)
        assert (verified.returncode == 0) == is_good


@pytest.mark.subprocess
def test_salts_repository_is_as_weak_as_upstreams(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, fixed_versions: None
) -> None:
    """Starts the real rpmbuild, rpmsign and createrepo_c."""
    repository = next(known for known in rpms.REPOSITORIES if known.id == "salt")
    monkeypatch.setattr(rpms, "REPOSITORIES", (repository,))
    monkeypatch.setattr(rpms, "all_sources", lambda: {"salt": (HELLO,)})
    (directory,) = rpms.build_repositories().values()
    names = {path.name.rpartition("-")[2] for path in (directory / "repodata").iterdir()}
    assert names == {"other.xml.gz", "primary.xml.gz", "repomd.xml"}
    text = (directory / "repodata" / "repomd.xml").read_text()
    assert 'type="sha"' in text
    assert "filelists" not in text
    primary = gzip.decompress(next((directory / "repodata").glob("*-primary.xml.gz")).read_bytes()).decode()
    assert '<checksum type="sha" pkgid="YES">' in primary
    hello = (directory / "hello-1.0-2.x86_64.rpm").read_bytes()
    assert f">{hashlib.sha1(hello, usedforsecurity=False).hexdigest()}</checksum>" in primary
