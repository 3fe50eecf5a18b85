# SPDX-License-Identifier: Apache-2.0
"""dnf: its own configuration, and errors that name the package. What dnf says is copied from dnf 4.14."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from installer.base.errors import PackageError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.engine.context import Context
from installer.media import dnf, rpmdb, transaction
from installer.media.rpmdb import Package
from tests.conftest import GoldenCheck
from tests.unit.installer.helpers import make_context, make_product, write_repository


def test_of_several_servers_one_that_is_gone_costs_three_seconds(tmp_path: Path) -> None:
    urls = "https://10.0.0.2:8443/repo/el9 https://media.lab.internal:8443/repo/el9"
    for url, timeout_s in ((urls, 3), (urls.split(maxsplit=1)[0], 10)):
        served = dnf.Served(url, "/etc/caisson/ca.crt")
        text = dnf.render_repository(tmp_path, make_product(), served)
        assert f"baseurl={url}\n" in text
        assert f"timeout={timeout_s}\n" in text


def test_dnf_is_told_again_when_another_serves(tmp_path: Path) -> None:
    paths, product = Paths(tmp_path), make_product(rpm_keys=[])
    one, two = (dnf.Served(f"https://{name}/repo/el9", "/etc/caisson/ca.crt") for name in "ab")
    assert dnf.knows(paths, tmp_path, product, one), "dnf was never used here"
    dnf.write_files(paths, tmp_path, product, one)
    assert dnf.knows(paths, tmp_path, product, one)
    assert not dnf.knows(paths, tmp_path, product, two)


def test_the_configuration(golden: GoldenCheck) -> None:
    golden("dnf.conf", dnf.render_main(Paths()))
    golden("caisson.repo", dnf.render_repository(Path("/srv/caisson/0.1.0"), make_product()))
    served = dnf.Served("https://media.lab.internal:8443/repo/el9", "/etc/caisson/ca.crt")
    golden("served.repo", dnf.render_repository(Path("/opt/caisson/0.1.0"), make_product(), served))


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
    """dnf and rpm over a small database: name -> version-release; ``provided``: name -> the package that does."""

    def __init__(self, installed: dict[str, str], offered: dict[str, str]) -> None:
        self.installed = installed
        self.offered = offered
        self.provided: dict[str, str] = {}
        self.answer = Completed(0, "Complete!\n", "")
        self.dnf_calls: list[list[str]] = []
        self.calls = 0
        self.damaged = ""

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout_s: float,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        del timeout_s, check
        self.calls += 1
        if args[0] == "dnf":
            assert env is not None
            assert (Path(env["HOME"]) / ".rpmmacros").is_file()
            self.dnf_calls.append(list(args))
            if "reinstall" in args and not {f"{p.name}-{p.version}.{p.arch}" for p in OFFERED} >= set(
                args[7:]
            ):
                return Completed(1, "", "Error: No packages marked for reinstall.\n")
            if self.answer.returncode == 0:
                self.installed.update(self.offered)
            return self.answer
        if "-qa" in args:
            return Completed(0, "".join(f"{n} {v} x86_64\n" for n, v in self.installed.items()), "")
        if "--erase" in args:
            for name in list(self.installed):
                if f"{name}-{self.installed[name]}.x86_64" in args:
                    del self.installed[name]
            return Completed(0, "", "")
        if "--verify" in args:
            return Completed(0, self.damaged, "")
        lines = []
        for name in args[5:]:
            by = self.provided.get(name, name)
            lines.append(
                f"{by} {self.installed[by]} {name}" if by in self.installed else f"no package provides {name}"
            )
        return Completed(0, "\n".join(lines) + "\n", "")


def use(monkeypatch: pytest.MonkeyPatch, rpm: Rpm) -> None:
    monkeypatch.setattr(dnf, "run", rpm)
    monkeypatch.setattr(rpmdb, "run", rpm)


def install(context: Context, names: Sequence[str]) -> bool:
    """Install from a media with one key file, which holds two keys."""
    key_file = context.media_dir / context.product.rpm_keys[0]
    key_file.parent.mkdir(parents=True, exist_ok=True)
    key_file.write_text(f"Keys\n{KEY}\n{KEY}\n")
    write_repository(context.media_dir, OFFERED)
    return dnf.install(
        names,
        paths=context.paths,
        media_dir=context.media_dir,
        product=dataclasses.replace(context.product, rpm_keys=context.product.rpm_keys[:1]),
        progress=context.ui.progress,
        detail=context.ui.detail,
    )


OFFERED = (Package("kubelet", "1.36.4-150500.1.1", "x86_64"), Package("nftables", "1.0.9-4", "x86_64"))
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nabc\n-----END PGP PUBLIC KEY BLOCK-----"


def test_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rpm = Rpm({"bash": "5-1"}, {"kubelet": "1.36.4-150500.1.1", "socat": "1-1"})
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    assert install(context, ["kubelet"])
    calls = rpm.calls
    assert not install(context, ["kubelet"])
    assert rpm.calls == calls + 1
    assert len(rpm.dnf_calls) == 1


def test_the_keys_are_in_a_keyring_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key a file: rpm reads no second one in a keyring of files."""
    use(monkeypatch, Rpm({}, {"kubelet": "1.36.4-150500.1.1"}))
    context = make_context(tmp_path)
    keys_dir = context.paths.dnf_dir / "keys"
    keys_dir.mkdir(parents=True)
    (keys_dir / "of-another-media.key").write_text("x")
    install(context, ["kubelet"])
    assert [file.read_text() for file in sorted(keys_dir.iterdir())] == [KEY + "\n", KEY + "\n"]
    macros = (context.paths.dnf_dir / ".rpmmacros").read_text()
    assert macros == f"%_keyring fs\n%_keyringpath {keys_dir}\n"


def test_another_version_than_the_medias_is_brought_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({"kubelet": "1.35.0-1"}, {"kubelet": "1.36.4-150500.1.1"})
    use(monkeypatch, rpm)
    assert install(make_context(tmp_path), ["kubelet"])
    assert len(rpm.dnf_calls) == 1


def test_a_newer_one_of_the_host_is_let_be_and_dnf_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({"kubelet": "1.37.0-1"}, {})
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    install(context, ["kubelet"])
    assert not install(context, ["kubelet"])
    assert len(rpm.dnf_calls) == 1
    rpm.installed["kubelet"] = "1.35.0-1"
    rpm.offered = {"kubelet": "1.36.4-150500.1.1"}
    assert install(context, ["kubelet"])
    assert len(rpm.dnf_calls) == 2


def test_what_another_package_provides_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ebtables is by iptables-nft."""
    rpm = Rpm({"iptables-nft": "1-1", "kubelet": "1.36.4-150500.1.1"}, {})
    rpm.provided["ebtables"] = "iptables-nft"
    use(monkeypatch, rpm)
    install(make_context(tmp_path), ["kubelet", "ebtables"])
    assert rpm.dnf_calls == []


def test_dnf_that_ends_well_and_has_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Rpm({}, {}))
    with pytest.raises(PackageError, match="dnf ended well, but kubelet is not installed"):
        install(make_context(tmp_path), ["kubelet"])


def test_a_transaction_that_was_cut_is_carried_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database holds the package, nobody knows how far its script had come; a site's own package is none."""
    rpm = Rpm({"bash": "5-1"}, {"kubelet": "1.36.4-150500.1.1"})
    rpm.answer = Completed(-9, "", "")
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    monkeypatch.setattr(rpm, "installed", {**rpm.installed})
    before = rpmdb.packages()
    rpm.installed |= {"kubelet": "1.36.4-150500.1.1", "htop": "3-1"}
    transaction.begin(context.paths, before)
    assert dnf.unsettled(["kubelet"], paths=context.paths, product=context.product) == ["kubelet"]
    with pytest.raises(PackageError, match="ended by SIGKILL"):
        install(context, ["kubelet"])
    assert transaction.read(context.paths).is_open
    assert "kubelet" not in rpm.installed
    rpm.answer = Completed(0, "Complete!\n", "")
    rpm.damaged = "S.5....T.    /usr/bin/kubelet\n"
    rpm.installed |= rpm.offered
    with pytest.raises(PackageError, match="1 files of packages"):
        install(context, ["kubelet"])
    rpm.damaged = "S.5....T.  c /etc/kubernetes/x\n"
    assert install(context, ["kubelet"])
    assert len(rpm.dnf_calls) == 3
    assert not install(context, ["kubelet"])
    assert rpm.installed["htop"] == "3-1"


@pytest.mark.parametrize("before", [{}, {"nftables": "1.0.6-1"}], ids=["a new one", "another one"])
def test_what_the_site_has_installed_since_a_cut_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, str]
) -> None:
    """Its own mirror has newer builds: the media cannot install them again, and they are not taken out."""
    rpm = Rpm(dict(before), {"kubelet": "1.36.4-150500.1.1"})
    use(monkeypatch, rpm)
    context = make_context(tmp_path, product=make_product(packages={p.name: p.version for p in OFFERED}))
    transaction.begin(context.paths, rpmdb.packages())
    rpm.installed["nftables"] = "1.0.9-5"
    assert install(context, ["kubelet", "nftables"])
    assert rpm.installed == {"kubelet": "1.36.4-150500.1.1", "nftables": "1.0.9-5"}
    assert rpm.dnf_calls == [dnf.dnf_arguments(context.paths, "install", "kubelet", "nftables")]
    assert not transaction.read(context.paths).is_open
    assert not install(context, ["kubelet", "nftables"])


def test_what_was_brought_is_noted_and_what_was_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset removes the first alone, whatever version it has by then."""
    rpm = Rpm({"tar": "1.34-1", "site": "1-1"}, {"kubelet": "1.36.4-150500.1.1", "tar": "1.34-2"})
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    install(context, ["kubelet"])
    assert transaction.read(context.paths).brought == frozenset({"kubelet.x86_64"})
    rpm.offered = {"socat": "1-1"}
    install(context, ["socat"])
    assert transaction.read(context.paths).brought == frozenset({"kubelet.x86_64", "socat.x86_64"})
    rpm.answer = Completed(1, "", "Error: x\n")
    with pytest.raises(PackageError):
        install(context, ["conntrack-tools"])
    assert transaction.read(context.paths).brought == frozenset({"kubelet.x86_64", "socat.x86_64"})


def test_a_host_of_a_version_that_did_not_note_it_stays_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Rpm({"kubelet": "1-1"}, {"socat": "1-1"}))
    context = make_context(tmp_path)
    context.paths.transaction_file.parent.mkdir(parents=True)
    context.paths.transaction_file.write_text('{"settled": {}}', encoding="utf-8")
    install(context, ["socat"])
    assert transaction.read(context.paths).brought is None


def test_an_error_over_what_was_cut_says_how_to_close_the_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({}, {})
    rpm.answer = Completed(1, "", "Error: disk I/O error\n")
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    with pytest.raises(PackageError) as caught:
        install(context, ["kubelet"])
    assert "packages.json" not in str(caught.value)
    transaction.begin(context.paths, [])
    rpm.installed["htop"] = "3-1"
    with pytest.raises(PackageError) as caught:
        install(context, ["kubelet"])
    assert str(context.paths.transaction_file) in caught.value.resolution
    assert caught.value.message == "dnf could not install kubelet: exit code 1"
    context.paths.transaction_file.unlink()
    rpm.answer, rpm.offered = Completed(0, "Complete!\n", ""), {"kubelet": "1.36.4-150500.1.1"}
    assert install(context, ["kubelet"])


def test_the_note_is_read_once_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Rpm({}, {"kubelet": "1.36.4-150500.1.1"}))
    context = make_context(tmp_path)
    read, calls = transaction.read, []

    def counted(paths: Paths) -> transaction.Note:
        calls.append(paths)
        return read(paths)

    monkeypatch.setattr(transaction, "read", counted)
    install(context, ["kubelet"])
    assert len(calls) == 1


def test_a_script_that_was_killed_is_an_error_and_its_package_is_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({}, {"kubelet": "1.36.4-150500.1.1"})
    rpm.answer = Completed(
        0, "  warning: %post(kubelet-1.36.4-1.x86_64) scriptlet failed, signal 9\nComplete!\n", ""
    )
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    with pytest.raises(
        PackageError, match=r"the script post of the package kubelet-1.36.4-1.x86_64 was ended by signal 9"
    ):
        install(context, ["kubelet"])
    rpm.answer = Completed(0, "Complete!\n", "")
    assert install(context, ["kubelet"])
    assert len(rpm.dnf_calls) == 2


def test_a_dnf_that_refused_and_changed_nothing_leaves_nothing_to_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = Rpm({}, {})
    rpm.answer = Completed(1, "", "Error: GPG check FAILED\n")
    use(monkeypatch, rpm)
    context = make_context(tmp_path)
    with pytest.raises(PackageError):
        install(context, ["kubelet"])
    assert not transaction.read(context.paths).is_open


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
    "a media server without an address": (
        (
            "Error: Failed to download metadata for repo 'caisson': Cannot download repomd.xml: Curl error (6): "
            "Couldn't resolve host name for https://media.lab.internal:8443/repo/el9/repodata/repomd.xml [Could not "
            "resolve host: media.lab.internal]\n"
        ),
        "the media server media.lab.internal has no address here",
    ),
    "a media server that is away": (
        (
            "Error: Failed to download metadata for repo 'caisson': Cannot download repomd.xml: Curl error (7): "
            "Couldn't connect to server for https://media.lab.internal:8443/repo/el9/repodata/repomd.xml [Failed to "
            "connect to media.lab.internal port 8443: Connection refused]\n"
        ),
        "the media server media.lab.internal does not answer",
    ),
    "another's certificate": (
        (
            "Error: Failed to download metadata for repo 'caisson': Cannot download repomd.xml: Curl error (60): SSL "
            "peer certificate or SSH remote key was not OK for https://media.lab.internal:8443/repo/el9/repodata/"
            "repomd.xml [SSL certificate problem: self-signed certificate]\n"
        ),
        "the certificate of the media server media.lab.internal is refused",
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
