# SPDX-License-Identifier: Apache-2.0
"""What a power cut took of a package is installed again. What rpm says is copied from rpm 4.16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from installer.base.errors import PackageError
from installer.base.run import Completed
from installer.media import dnf, repair, rpmdb
from tests.unit.installer.helpers import make_context


class Host:
    """rpm and dnf over the files of one package; ``reinstall`` writes them again, as dnf does."""

    def __init__(self, files: dict[Path, str], kinds: dict[Path, str]) -> None:
        self.files, self.kinds = files, kinds
        self.reinstalled: list[str] = []
        self.answer = Completed(0, "Complete!\n", "")
        self.keeps_bytes = True
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
            if self.answer.returncode == 0 and self.keeps_bytes:
                for file, text in self.files.items():
                    if not (self.kinds.get(file) and file.exists()):
                        file.write_text(text)
            return self.answer
        if "--verify" in args:
            lines = [self._verified(file, text) for file, text in self.files.items()]
            return Completed(1, "".join(lines), "")
        if "[%{=NAME} %{FILENAMES}\\n]" in args:
            return Completed(0, "".join(f"kubelet {file}\n" for file in self.files), "")
        return Completed(0, "bash 5-1 x86_64\nkubelet 1-1 x86_64\n", "")

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


def run_repair(tmp_path: Path) -> bool:
    context = make_context(tmp_path)
    return repair.repair(
        paths=context.paths, media_dir=context.media_dir, product=context.product, ui=context.ui
    )


def test_whole_packages_are_left_alone(host: Host, tmp_path: Path) -> None:
    assert run_repair(tmp_path) is False
    assert host.reinstalled == []


@pytest.mark.parametrize("name", ["kubelet", "kubelet.conf"])
@pytest.mark.parametrize("text", ["", None])
def test_what_is_empty_or_gone_is_installed_again(
    host: Host, tmp_path: Path, name: str, text: str | None
) -> None:
    file = tmp_path / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert run_repair(tmp_path) is True
    assert host.reinstalled == ["kubelet"]
    assert {file: file.read_text() for file in host.files} == host.files


def test_another_content_is_the_sites_own(host: Host, tmp_path: Path) -> None:
    """Calico puts plugins of its own in the place of those of kubernetes-cni."""
    for name in ("kubelet", "kubelet.conf"):
        (tmp_path / name).write_text("another")
    assert run_repair(tmp_path) is False
    assert host.reinstalled == []


def test_dnf_that_fails_is_told_in_words(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet").write_text("")
    host.answer = Completed(1, "", "Error: Unable to find a match: kubelet\n")
    with pytest.raises(PackageError, match="the media has no package kubelet"):
        run_repair(tmp_path)


def test_a_disk_that_keeps_no_byte_is_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kubelet").write_text("")
    host.keeps_bytes = False
    with pytest.raises(PackageError, match="files of kubelet are still damaged"):
        run_repair(tmp_path)


def test_what_rpm_says() -> None:
    text = (
        "S.5....T.  c /etc/crontab\n....L....    /usr/bin/which\n.M.......  g /run/x\nmissing     /usr/a b\n"
        "missing   d /usr/share/doc/x\n"
        ".......T.    /only/time\nS.5......  g /var/log/ghost\nUnsatisfied dependencies for x\n"
    )
    assert repair.changed(rpmdb.changes_of(text)) == ["/etc/crontab", "/usr/a b"]
