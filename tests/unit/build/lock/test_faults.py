# SPDX-License-Identifier: Apache-2.0
"""All that is wrong with a lock is told in one run, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import BuildError, NetworkError, NotFoundError, SolverError
from build.lock.faults import Faults
from build.lock.resolve import run_lock
from tests.unit.build.factory import tiny_rpm
from tests.unit.build.fakerepo import Rpm, comps_xml
from tests.unit.build.fakesite import Site
from tests.unit.build.signers import signer


def lock(site: Site) -> None:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources)


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def want(site: Site, *lines: str) -> None:
    rewrite(
        site.root_dir / "packages.yaml", "packages: [", f"packages: [{''.join(f'{line}, ' for line in lines)}"
    )


@pytest.mark.loopback
@pytest.mark.subprocess
def test_eight_faults_are_eight_findings_of_one_run(site: Site, tmp_path: Path) -> None:
    """Two packages that are not there, one unsigned, one by another key, a licence, two images, a manifest."""
    with signer(tmp_path, "foreign") as foreign:
        rpms = [
            site.rpm("tool", requires=("library", "bash")),
            site.rpm("library"),
            site.rpm("odd", by=foreign),
        ]
        site.put_repository("tools", [*rpms, Rpm(name="bare", data=tiny_rpm("bare"))])
    want(
        site,
        "{name: tool2, repository: tools, purpose: x}",
        "{name: library, version: 2.3.7, repository: tools, purpose: x}",
        "{name: odd, repository: tools, purpose: x}",
        "{name: bare, repository: tools, purpose: x}",
    )
    rewrite(site.root_dir / "policy.yaml", "licences: [MIT]", "licences: [GPL]")
    del site.upstream.content["/v2/k8s/old/manifests/1"]
    del site.upstream.content["/raw/net.yaml"]
    path = "/v2/k8s/pause/manifests/3.10"
    data = site.upstream.content[path].replace(b'"amd64"', b'"riscv"')
    site.upstream.put_image("k8s/pause", "3.10", {"top": (data, site.upstream.types[path])})
    with pytest.raises(BuildError) as caught:
        lock(site)
    error = caught.value
    assert [fault.exit_code for fault in error.faults] == [14, 14, 16, 16, 16, 19, 19, 30]
    assert error.message == "the lock has 8 faults"
    assert error.exit_code == 10
    assert all(fault.message and fault.details and fault.resolution for fault in error.faults)
    text = str(error)
    assert [f"    {number}. " in text or f"details: {number}. " in text for number in range(1, 9)] == [
        True
    ] * 8
    for words in (
        "1. the wanted package library 2.3.7 cannot be found",
        "library 2.3.7 is not in repository 'tools'; it has 1.0-1.el9",
        "2. the wanted package tool2 cannot be found",
        "manifest 'net'",
        "image registry.k8s.io/old:1",
        "linux/riscv",
        "package bare-1.0-1.el9.noarch is not signed",
        "the signature of package odd-1.0-1.el9.noarch is not good",
        "the policy does not allow",
    ):
        assert words in text, words
    assert not site.lock_file.exists()


@pytest.mark.loopback
@pytest.mark.subprocess
def test_faults_of_one_class_have_its_code(site: Site) -> None:
    want(site, "{name: one, repository: tools, purpose: x}", "{name: two, repository: tools, purpose: x}")
    with pytest.raises(SolverError, match="the lock has 2 faults"):
        lock(site)


@pytest.mark.loopback
@pytest.mark.subprocess
def test_a_repository_that_cannot_be_read_hides_no_other_fault(site: Site) -> None:
    del site.upstream.content["/tools/repodata/repomd.xml"]
    site.put_repository("baseos", [Rpm(name="bash")], comps=comps_xml("core", ["bash"]))
    want(site, "{name: nobody, repository: baseos, purpose: x}")
    del site.upstream.content["/raw/net.yaml"]
    with pytest.raises(BuildError) as caught:
        lock(site)
    assert [fault.exit_code for fault in caught.value.faults] == [14, 16, 16]
    assert "nobody is not in repository 'baseos'" in str(caught.value)


def test_what_can_be_had_is_returned_in_order() -> None:
    faults = Faults()

    def work(number: int) -> int:
        if number % 2:
            raise NotFoundError(f"no {number}")
        return number

    assert faults.each(work, range(5)) == [0, 2, 4]
    assert faults.attempt(lambda: work(1)) is None
    with pytest.raises(NetworkError) as caught:
        faults.stop("it")
    assert len(caught.value.faults) == 2


def test_no_fault_stops_nothing() -> None:
    Faults().stop("it")


def test_what_nobody_foresaw_names_its_item_and_hides_no_other_fault() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise NotFoundError("no 2")
        return 1 // number

    faults = Faults()
    assert faults.each(work, [1, 0, 2]) == [1]
    assert faults.attempt(lambda: work(0)) is None
    with pytest.raises(BuildError) as caught:
        faults.stop("it")
    texts = sorted(fault.message for fault in caught.value.faults)
    assert texts[0].startswith("0: an error that was not foreseen")
    assert "no 2" in texts
    assert "ZeroDivisionError" in str(caught.value)


@pytest.mark.loopback
@pytest.mark.subprocess
def test_nothing_unsigned_is_locked_over_a_connection_that_others_can_change(site: Site) -> None:
    """Each such address is told, and nothing is asked."""
    url = site.upstream.url
    rewrite(site.profile_file, f'"{url}/k8s"', '"http://registry.example.com/k8s"')
    with pytest.raises(BuildError) as caught:
        lock(site)
    assert "asked without TLS, and nothing signs what it answers" in caught.value.render()
    assert "http://registry.example.com" in caught.value.render()
    assert site.upstream.seen == []
    assert not site.lock_file.exists()
