# SPDX-License-Identifier: Apache-2.0
"""Files, packages and Caisson itself: a real rpm database of its own; a reset may be cut after each action."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from installer.base import deleting
from installer.base.errors import HostError, UsageError
from installer.base.paths import Paths
from installer.engine import traces
from installer.operations import reset, reset_ending, reset_files, reset_plan
from tests.unit.installer.operations.resetting import ARCHIVE, make_reset

ROOT_DIR = Path(__file__).parents[4]
SPEC = """
Name: {name}
Version: 1
Release: 1
Summary: x
License: x
BuildArch: noarch
AutoReqProv: no
{more}
%description
x
%files
"""
#: own: brought by Caisson; needed: brought, and what the site installed since needs it; site: the site's.
PACKAGES = {
    "own": "Requires: lib",
    "lib": "",
    "needed": "Provides: libneeded.so.1()(64bit)",
    "site": "Requires: libneeded.so.1()(64bit)",
}
SCENE = """
export HOME={0}/home; mkdir -p $HOME {0}/specs; cd {0}
for name in own lib needed site; do rpmbuild --quiet -bb --define "_topdir {0}/build" specs/$name.spec; done 2>/dev/null
mkdir db; printf '%%_dbpath %s\\n%%_dbpath_rebuild %s\\n' {0}/db {0}/db > $HOME/.rpmmacros
rpm --initdb; rpm --install --nodeps --ignoreos --ignorearch build/RPMS/noarch/*.rpm
"""


def _write(root: Path, name: str, text: str = "x") -> Path:
    file = root / name.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def _do(root: Path, *plans: reset_plan.Plan, cut_after: int = 1000, kept: tuple[str, ...] = ()) -> int:
    """Carry out plans; stop as a kill would after so many actions; return how many there were."""
    count = 0
    for plan in plans:
        for action in plan(make_reset(root, kept)):
            if count == cut_after:
                return count
            action.do()
            count += 1
    return count


PLANS = (reset_files.plan, reset_files.plan_remains, reset_ending.plan_self)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a host with what a node leaves, and beside it what is the site's."""
    monkeypatch.setattr(reset_files, "_reload", lambda: None)
    for name in (*traces.FILES, *traces.PROGRAM_FILES):
        _write(tmp_path, name)
    for tree in (*traces.TREES, *(tree for trees in traces.TREES_OF_PACKAGES.values() for tree in trees)):
        _write(tmp_path, f"{tree}/below/file")
    for name in traces.FILES_OF_PACKAGES["salt-minion"]:
        _write(tmp_path, name, "of the minion")
    brought = ["containerd.io.x86_64", "salt-minion.x86_64"]
    _write(tmp_path, "/var/lib/caisson/packages.json", json.dumps({"settled": {}, "brought": brought}))
    for name in ("bootstrap.yaml", "pki/ca.key", "salt/pki/master/master.pem"):
        _write(tmp_path, f"/etc/caisson/{name}", f"text of {name}")
    for name in (
        "journal.jsonl",
        "jobs/1/result.json",
        "registry/docker/blob",
        "installed.json",
        "reset.json",
    ):
        _write(tmp_path, f"/var/lib/caisson/{name}", "{}")
    for name in (
        "/etc/cni/net.d/87-podman.conflist",
        "/opt/cni/bin/of-site",
        "/etc/salt/grains",
        "/opt/other/x",
    ):
        _write(tmp_path, name, "of site")
    _write(tmp_path, "/etc/kubernetes/manifests/of-site.yaml", "of site")
    _write(tmp_path, "/etc/kubernetes/pki/ca.key")
    _write(tmp_path, "/opt/caisson/0.1.0/installer/x.py")
    _write(tmp_path, "/usr/bin/caisson")
    _write(tmp_path, "/var/lib/kubelet/of-site/data", "of site")
    return tmp_path


KEPT = ("/var/lib/caisson/registry", "/var/lib/kubelet/of-site")


def _files(root: Path) -> list[str]:
    return sorted(f"/{file.relative_to(root)}" for file in root.rglob("*") if file.is_file())


LEFT = [
    "/etc/cni/net.d/87-podman.conflist",
    "/etc/salt/grains",
    "/opt/cni/bin/of-site",
    "/opt/other/x",
    "/var/lib/caisson/registry/docker/blob",
    "/var/lib/kubelet/of-site/data",
    f"{ARCHIVE}/etc/caisson/bootstrap.yaml",
    f"{ARCHIVE}/etc/kubernetes/manifests/of-site.yaml",
    f"{ARCHIVE}/var/lib/caisson/installed.json",
    f"{ARCHIVE}/var/lib/caisson/jobs/1/result.json",
    f"{ARCHIVE}/var/lib/caisson/journal.jsonl",
    f"{ARCHIVE}/var/lib/caisson/packages.json",
]


@pytest.mark.subprocess
def test_what_is_the_site_s_is_left_and_what_was_is_saved(host: Path) -> None:
    _do(host, *PLANS, kept=KEPT)
    assert _files(host) == LEFT
    assert _do(host, *PLANS, kept=KEPT) == 0
    assert (host / ARCHIVE.lstrip("/")).stat().st_mode & 0o777 == 0o700


@pytest.mark.subprocess
def test_a_minion_and_a_containerd_that_were_there_before_keep_what_they_had(host: Path) -> None:
    """Its key is the minion's name to another master; its images are of other namespaces, too."""
    _write(host, "/var/lib/caisson/packages.json", json.dumps({"settled": {}, "brought": ["kubelet.x86_64"]}))
    _do(host, *PLANS, kept=KEPT)
    more = [
        *traces.FILES_OF_PACKAGES["salt-minion"],
        "/var/lib/containerd/below/file",
        "/var/cache/salt/minion/below/file",
    ]
    assert _files(host) == sorted([*LEFT, *more])
    assert not (host / "etc/salt/minion.d/90-caisson.conf").exists()


@pytest.mark.subprocess
@pytest.mark.parametrize("cut_after", range(0, 30, 3))
def test_cut_anywhere_it_ends_in_the_same_place(host: Path, cut_after: int) -> None:
    _do(host, *PLANS, kept=KEPT, cut_after=cut_after)
    _do(host, *PLANS, kept=KEPT)
    assert _files(host) == LEFT


@pytest.mark.subprocess
def test_even_the_last_step_that_was_cut_is_ended_by_the_same_command(host: Path) -> None:
    """The command that is typed again is the rest of the reset by then."""
    paths = make_reset(host).paths
    paths.command_file.write_text(reset_ending.last_step(paths), encoding="utf-8")
    (host / "opt/caisson/0.1.0/installer/x.py").unlink()
    subprocess.run(["bash", paths.command_file, "reset", "--yes"], check=True, timeout=30)
    assert not (host / "opt/caisson").exists()
    assert not paths.command_file.exists()
    assert (host / "opt/other/x").exists()


def test_an_entry_that_cannot_go_is_named(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = f"{host}/var/lib/etcd/below/file"
    left = deleting.Deleted(0, {stuck: "Operation not permitted"})
    monkeypatch.setattr(deleting, "delete_tree", lambda *_, **__: left)
    with pytest.raises(HostError, match=r"1 entries of .*/var/lib/etcd could not be deleted") as caught:
        reset_files.delete(make_reset(host), "/var/lib/etcd")
    assert caught.value.details == f"{stuck}: Operation not permitted"
    assert "lsattr" in caught.value.resolution


@pytest.mark.subprocess
def test_packages_go_but_those_that_others_need(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    for name, more in PACKAGES.items():
        (tmp_path / f"specs/{name}.spec").write_text(SPEC.format(name=name, more=more), encoding="utf-8")
    program = tmp_path / "act.py"
    program.write_text(
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from installer.media import rpmdb\n"
        "from functools import partial\n"
        "rpmdb.run = partial(rpmdb.run, env={'HOME': sys.argv[2]})\n"
        "going, needed = rpmdb.removable([p for p in sorted(rpmdb.packages()) if p.name != 'site'])\n"
        "print(json.dumps([[p.name for p in going], needed]))\n",
        encoding="utf-8",
    )
    script = f"{SCENE.format(tmp_path)}\n{sys.executable} {program} {ROOT_DIR} {tmp_path}/home"
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    going, needed = json.loads(done.stdout.splitlines()[-1])
    assert going == ["lib", "own"]
    assert list(needed) == ["needed"]
    assert needed["needed"].startswith("stays: site-1-1.noarch needs it")


def test_every_phase_says_what_it_is() -> None:
    assert all(phase.explanation and phase.explanation != phase.title for phase in reset.PHASES)
    assert all(phase.code.startswith("CSP6") for phase in reset.PHASES)


def test_a_host_that_is_half_reset_becomes_no_node(tmp_path: Path) -> None:
    paths = make_reset(tmp_path).paths
    reset_plan.refuse_begun(paths)
    reset_plan.write(paths, make_reset(tmp_path).noted)
    with pytest.raises(HostError, match="was begun and has not ended") as caught:
        reset_plan.refuse_begun(paths)
    assert "caisson reset --yes" in caught.value.resolution


def test_what_somebody_names_is_kept_and_nothing_that_is_the_cluster_s(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.at("/var/lib/kubelet/db").mkdir(parents=True)
    noted = reset_plan.Noted("/x", {"/srv/a": "a volume"})
    kept = reset_plan.with_kept(noted, ["/var/lib/kubelet/db", "/srv/gone"], paths).kept
    assert kept == {"/var/lib/kubelet/db": "named with --keep", "/srv/a": "a volume"}
    for place in ("/var/lib/etcd", "db", "/var/lib/kubelet/../etcd", "/etc"):
        with pytest.raises(UsageError, match="cannot be kept"):
            reset_plan.with_kept(noted, [place], paths)
