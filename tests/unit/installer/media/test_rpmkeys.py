# SPDX-License-Identifier: Apache-2.0
"""The signatures of the media's packages, as rpmkeys tells them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from installer.base.errors import PackageError
from installer.base.run import Completed
from installer.media import rpmkeys

GOOD = "/m/good-1-1.x86_64.rpm: digests signatures OK\n"
FOREIGN = "/m/kubelet-1.36.4-1.x86_64.rpm: digests SIGNATURES NOT OK\n"
UNSIGNED = "/m/tar-1.35-1.x86_64.rpm: digests OK\n"


def answer(monkeypatch: pytest.MonkeyPatch, text: str, returncode: int) -> list[list[str]]:
    """Let rpmkeys answer ``text``; return the list in which its calls are recorded."""
    calls: list[list[str]] = []

    def record(words: list[str], **_options: object) -> Completed:
        calls.append([str(word) for word in words])
        return Completed(returncode, text, "")

    monkeypatch.setattr(rpmkeys, "run", record)
    return calls


def test_good_packages_pass_and_the_keys_are_those_of_the_media(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, GOOD, 0)
    rpmkeys.check_signatures([Path("/m/keys/a.asc")], [Path("/m/good-1-1.x86_64.rpm")])
    assert calls[0][3:] == ["--import", "/m/keys/a.asc"]
    assert calls[1][3:] == ["--define", "_pkgverify_level all", "--checksig", "/m/good-1-1.x86_64.rpm"]
    assert not Path(calls[1][2]).exists()


@pytest.mark.parametrize(
    ("text", "package"), [(GOOD + FOREIGN, "kubelet-1.36.4-1.x86_64"), (UNSIGNED, "tar-1.35-1.x86_64")]
)
def test_a_bad_package_is_named(monkeypatch: pytest.MonkeyPatch, text: str, package: str) -> None:
    answer(monkeypatch, text, 1)
    with pytest.raises(PackageError) as caught:
        rpmkeys.check_signatures([], [Path("/m/a-1.rpm")])
    assert str(caught.value).startswith(
        f"package {package} does not have a good signature by a key of the media"
    )
    assert "do not install from it" in caught.value.resolution


def test_rpmkeys_that_fails_without_a_word_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "", 2)
    with pytest.raises(PackageError):
        rpmkeys.check_signatures([], [Path("/m/a-1.rpm")])


def test_packages_are_dealt_out_by_size_and_none_is_left_out(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 10, "c": 20, "d": 60, "e": 0}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    dealt = rpmkeys.parts([tmp_path / name for name in (*sizes, "missing")])
    assert sorted(file.name for part in dealt for file in part) == [*sizes, "missing"]
    assert [sum(sizes.get(file.name, 0) for file in part) for part in dealt] == [100, 90]
    assert rpmkeys.parts([]) == []


def test_a_fault_of_any_part_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def say(words: list[str], **_options: object) -> Completed:
        is_bad = any(str(word).endswith("b.rpm") for word in words)
        return Completed(1, FOREIGN, "") if is_bad else Completed(0, GOOD, "")

    monkeypatch.setattr(rpmkeys, "run", say)
    for names in (("a.rpm", "b.rpm"), ("b.rpm", "a.rpm")):
        with pytest.raises(PackageError, match=r"kubelet-1\.36\.4"):
            rpmkeys.check_signatures([], [tmp_path / name for name in names])


def test_who_waits_hears_how_long_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[str] = []
    is_heard = threading.Event()

    def tell(text: str) -> None:
        heard.append(text)
        if len(heard) > 2:
            is_heard.set()

    def wait(_: list[str], **_options: object) -> Completed:
        assert is_heard.wait(10)
        return Completed(0, GOOD, "")

    monkeypatch.setattr(rpmkeys, "run", wait)
    rpmkeys.check_signatures([], [tmp_path / "a.rpm"], progress=tell, interval_s=0.01)
    assert heard[:2] == ["the signatures of 1 packages", "the signatures of 1 packages, 0 s"]
