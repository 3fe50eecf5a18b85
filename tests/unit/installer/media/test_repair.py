# SPDX-License-Identifier: Apache-2.0
"""What a power cut took of a package is installed again. What rpm says is copied from rpm 4.16."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from installer.base.errors import PackageError
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.media import dnf, repair, rpmdb
from installer.media.rpmdb import Package
from tests.unit.installer.helpers import make_context, write_repository


class Host:
    """rpm and dnf over the files of one package; ``reinstall`` writes them again, as dnf does."""

    def __init__(self, files: dict[Path, str], kinds: dict[Path, str]) -> None:
        self.files, self.kinds = files, kinds
        self.reinstalled: list[str] = []
        self.answer = Completed(0, "Complete!\n", "")
        self.keeps_bytes = True
        self.version = "1-1"
        self.entry, self.installs = 1, True
        for file, text in files.items():
            file.write_text(text)

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout_s: float,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        del timeout_s, check
        if args[0] == "dnf":
            assert env is not None
            assert (Path(env["HOME"]) / ".rpmmacros").is_file()
            self.reinstalled += list(args)[list(args).index("reinstall") + 1 :]
            if self.answer.returncode == 0 and self.installs:
                self.entry += 1
            if self.answer.returncode == 0 and self.keeps_bytes:
                for file, text in self.files.items():
                    if not (self.kinds.get(file) and file.exists()):
                        file.write_text(text)
            return self.answer
        if "--verify" in args:
            lines = [self._verified(file, text) for file, text in self.files.items()]
            return Completed(1, "".join(lines), "")
        if "FILENAMES" in args[3]:
            return Completed(0, "".join(f"kubelet-{self.version}.x86_64 {file}\n" for file in self.files), "")
        if "DBINSTANCE" in args[3]:
            return Completed(0, f"kubelet-{self.version}.x86_64 {self.entry}\n", "")
        return Completed(0, f"bash 5-1 x86_64\nkubelet {self.version} x86_64\n", "")

    def _verified(self, file: Path, text: str) -> str:
        kind = self.kinds.get(file, " ")
        if not file.exists():
            return f"missing   {kind} {file}\n"
        return "" if file.read_text() == text else f"S.5......  {kind} {file}\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    program, configuration = tmp_path / "kubelet", tmp_path / "kubelet.conf"
    found = Host({program: "ELF", configuration: "# none"}, {configuration: "c"})
    for module in (dnf, rpmdb):
        monkeypatch.setattr(module, "run", found)
    return found


def run_repair(tmp_path: Path, said: io.StringIO | None = None) -> bool:
    context = make_context(tmp_path, ui=Ui(said or io.StringIO(), is_terminal=False, interval_s=3600))
    write_repository(
        context.media_dir, [Package("kubelet", "1-1", "x86_64"), Package("kubelet", "0-9", "x86_64")]
    )
    return repair.repair(
        paths=context.paths, media_dir=context.media_dir, product=context.product, ui=context.ui
    )


def test_whole_packages_are_left_alone(host: Host, tmp_path: Path) -> None:
    assert run_repair(tmp_path) is False
    assert host.reinstalled == []


@pytest.mark.parametrize(("name", "text"), [("kubelet", ""), ("kubelet", None), ("kubelet.conf", "")])
@pytest.mark.parametrize("version", ["1-1", "0-9"])
def test_what_is_empty_or_gone_is_installed_again(
    host: Host, tmp_path: Path, name: str, text: str | None, version: str
) -> None:
    """Of either build that the media has."""
    host.version = version
    file = tmp_path / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert run_repair(tmp_path) is True
    assert host.reinstalled == [f"kubelet-{version}.x86_64"]
    assert {file: file.read_text() for file in host.files} == host.files
    assert not list(tmp_path.glob(".kubelet*"))


def test_another_content_is_the_sites_own(host: Host, tmp_path: Path) -> None:
    """Calico puts plugins of its own in the place of those of kubernetes-cni."""
    for name in ("kubelet", "kubelet.conf"):
        (tmp_path / name).write_text("another")
    assert run_repair(tmp_path) is False
    assert host.reinstalled == []


def test_configuration_that_the_site_removed_stays_away(host: Host, tmp_path: Path) -> None:
    """A power cut takes bytes, hardly a name; what is missed is told with the command that brings it."""
    (tmp_path / "kubelet.conf").unlink()
    said = io.StringIO()
    assert run_repair(tmp_path, said) is False
    assert host.reinstalled == []
    assert (
        f"not there, and left so (configuration that a site may remove): {tmp_path}/kubelet.conf"
        in said.getvalue()
    )
    assert "reinstall kubelet-1-1.x86_64" in said.getvalue()
    (tmp_path / "kubelet").write_text("")
    assert run_repair(tmp_path) is True


def test_configuration_that_a_killed_repair_has_moved_comes_back(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet.conf").unlink()
    (tmp_path / ".kubelet.conf.caisson-empty").write_text("")
    assert run_repair(tmp_path) is True
    assert (tmp_path / "kubelet.conf").read_text() == "# none"
    assert not (tmp_path / ".kubelet.conf.caisson-empty").exists()


def test_a_build_that_the_media_lacks_is_told_and_left_as_it_is(host: Host, tmp_path: Path) -> None:
    """It could not be installed again from there; the site's own repositories can."""
    host.version = "2-1"
    for name in ("kubelet", "kubelet.conf"):
        (tmp_path / name).write_text("")
    said = io.StringIO()
    assert run_repair(tmp_path, said) is False
    assert host.reinstalled == []
    assert (tmp_path / "kubelet.conf").exists()
    assert (
        f"left so (the media has another build): {tmp_path}/kubelet {tmp_path}/kubelet.conf"
        in said.getvalue()
    )
    assert "dnf reinstall kubelet-2-1.x86_64" in said.getvalue()


def test_dnf_that_fails_is_told_in_words_and_an_emptied_file_put_back(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet.conf").write_text("")
    (tmp_path / "kubelet.conf").chmod(0o640)
    host.answer = Completed(1, "", "Error: No packages marked for reinstall.\n")
    with pytest.raises(PackageError, match="dnf could not install kubelet-1-1"):
        run_repair(tmp_path)
    assert (tmp_path / "kubelet.conf").stat().st_mode & 0o777 == 0o640
    assert [file.name for file in sorted(tmp_path.glob("*kubelet*"))] == ["kubelet", "kubelet.conf"]


def test_a_disk_that_keeps_no_byte_is_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet").write_text("")
    host.keeps_bytes = False
    with pytest.raises(PackageError, match=r"files of kubelet-1-1\.x86_64 are still damaged") as caught:
        run_repair(tmp_path)
    assert "check the disk" in caught.value.resolution


def test_the_disk_is_not_blamed_for_what_dnf_has_passed_over(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet.conf").write_text("")
    host.keeps_bytes = host.installs = False
    said = io.StringIO()
    assert run_repair(tmp_path, said) is False
    assert (tmp_path / "kubelet.conf").read_text() == ""
    assert "damaged, and left so (dnf did not install it again)" in said.getvalue()


def test_what_rpm_says() -> None:
    text = (
        "S.5....T.  c /etc/crontab\n....L....    /usr/bin/which\n.M.......  g /run/x\nmissing     /usr/a b\n"
        "missing   d /usr/share/doc/x\n"
        ".......T.    /only/time\nS.5......  g /var/log/ghost\nUnsatisfied dependencies for x\n"
    )
    assert repair.changed(rpmdb.changes_of(text)) == ["/etc/crontab", "/usr/a b"]
