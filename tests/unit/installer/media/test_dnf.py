# SPDX-License-Identifier: Apache-2.0
"""dnf: its own configuration, and errors that name the package. What dnf says is copied from dnf 4.14."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.errors import PackageError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.engine.context import Context
from installer.media import dnf
from tests.conftest import GoldenCheck
from tests.unit.installer.helpers import make_context, make_product


def test_the_configuration(golden: GoldenCheck) -> None:
    golden("dnf.conf", dnf.render_main(Paths()))
    golden("caisson.repo", dnf.render_repository(Path("/srv/caisson/0.1.0"), make_product()))


def test_the_command_line() -> None:
    assert dnf.dnf_arguments(Paths(), "install", "x") == [
        "dnf",
        "--config",
        "/etc/caisson/dnf/dnf.conf",
        "--noplugins",
        "--releasever=9",
        "-y",
        "install",
        "x",
    ]


class Rpm:
    """dnf and rpm over a small database: name -> version-release."""

    def __init__(self, installed: dict[str, str], offered: dict[str, str]) -> None:
        self.installed = installed
        self.offered = offered
        self.answer = Completed(0, "Complete!\n", "")
        self.dnf_calls: list[list[str]] = []

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        if args[0] == "dnf":
            self.dnf_calls.append(list(args))
            if self.answer.returncode == 0:
                self.installed.update(self.offered)
            return self.answer
        if args[1] == "-qa":
            return Completed(0, "".join(f"{n}-{v}.x86_64\n" for n, v in self.installed.items()), "")
        lines = [
            f"{name} {self.installed[name]}" if name in self.installed else f"package {name} is not installed"
            for name in args[4:]
        ]
        return Completed(0, "\n".join(lines) + "\n", "")


def use(monkeypatch: pytest.MonkeyPatch, rpm: Rpm) -> None:
    monkeypatch.setattr(dnf, "run", rpm)


def install(context: Context, names: Sequence[str]) -> bool:
    return dnf.install(
        names, paths=context.paths, media_dir=context.media_dir, product=context.product, ui=context.ui
    )


def test_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rpm = Rpm({"bash": "5-1"}, {"kubelet": "1.36.4-150500.1.1", "socat": "1-1"})
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    assert install(context, ["kubelet"])
    assert not install(context, ["kubelet"])
    assert len(rpm.dnf_calls) == 1


def test_another_version_than_the_medias_is_brought_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({"kubelet": "1.35.0-1"}, {"kubelet": "1.36.4-150500.1.1"})
    use(monkeypatch, rpm)
    assert install(make_context(tmp_path), ["kubelet"])
    assert len(rpm.dnf_calls) == 1


def test_dnf_that_ends_well_and_has_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Rpm({}, {}))
    with pytest.raises(PackageError, match="dnf ended well, but kubelet is not installed"):
        install(make_context(tmp_path), ["kubelet"])


SAID = {
    "bad signature": (
        (
            "Package kubelet-1.36.4-150500.1.1.x86_64.rpm is not signed by a known key\n"
            "Public key for kubelet-1.36.4-150500.1.1.x86_64.rpm is not installed. Failing package is: "
            "kubelet-1.36.4-150500.1.1.x86_64\n GPG Keys are configured as: file:///srv/caisson/0.1.0/keys/k.asc\n"
            "Error: GPG check FAILED\n"
        ),
        "package kubelet-1.36.4-150500.1.1.x86_64 does not have a good signature by a key of the media",
    ),
    "unsigned": (
        "Package socat-1-1.x86_64.rpm is not signed\nError: GPG check FAILED\n",
        "package socat-1-1.x86_64.rpm is not signed",
    ),
    "not there": (
        "No match for argument: nonesuch\nError: Unable to find a match: nonesuch\n",
        "the media has no package nonesuch",
    ),
    "disk full": (
        (
            "Error: Transaction test error:\n"
            "  installing package kubelet-1-1.x86_64 needs 40MB more space on the / filesystem\n\n"
            "Error Summary\n"
            "-------------\nDisk Requirements:\n   At least 40MB more space needed on the / filesystem.\n"
        ),
        "there is not enough space: 40MB more space needed on the / filesystem",
    ),
    "a base package is missing": (
        (
            "Error: \n Problem: conflicting requests\n"
            "  - nothing provides libfoo.so.1()(64bit) needed by kubelet-1-1.x86_64 from caisson\n"
        ),
        "package kubelet-1-1.x86_64 needs libfoo.so.1()(64bit), which neither the media nor this host has",
    ),
    "a file of two packages": (
        (
            "Error: Transaction test error:\n  file /usr/bin/runc from install of "
            "containerd.io-2.3.7-1.el9.x86_64 "
            "conflicts with file from package runc-1.1-1.x86_64\n"
        ),
        "packages conflict over the file /usr/bin/runc",
    ),
    "a conflict": (
        (
            "Error: \n Problem: problem with installed package runc-4:1.2-1.el9.x86_64\n"
            "  - package containerd.io-2.3.7-1.el9.x86_64 from caisson conflicts with runc provided by "
            "runc-4:1.2-1.el9.x86_64 from @System\n"
        ),
        "package containerd.io-2.3.7-1.el9.x86_64 conflicts with runc-4:1.2-1.el9.x86_64 of this host",
    ),
    "anything else": ("Error: disk I/O error\n", "dnf could not install kubelet: exit code 1"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_dnf_says_and_what_it_means(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, message = SAID[name]
    rpm = Rpm({}, {})
    rpm.answer = Completed(1, "", said)
    use(monkeypatch, rpm)
    with pytest.raises(PackageError) as caught:
        install(make_context(tmp_path), ["kubelet"])
    assert caught.value.message == message
    assert said.strip().splitlines()[-1] in caught.value.details
    assert caught.value.resolution
