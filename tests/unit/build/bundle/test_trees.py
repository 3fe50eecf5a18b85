# SPDX-License-Identifier: Apache-2.0
"""The installer's tree and the Salt tree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from build.base.errors import BuildError, IntegrityError
from build.base.plan import Workspace
from build.bundle import consoletree, installertree, salttree
from build.inventory.model import LockedPython
from build.store import filelist
from build.store.objects import Store
from tests.unit.build.factory import Pot, make_world, write_sources


@pytest.fixture
def pot(tmp_path: Path) -> Pot:
    return Pot(Store(tmp_path / "store"))


def unpack(pot: Pot, package: LockedPython) -> set[str]:
    return set(installertree.unpack_python(package, pot.store.path(package.digest).read_bytes()))


def test_the_installer_stands_beside_what_it_vendors(tmp_path: Path) -> None:
    world, checkout = make_world(tmp_path / "world"), write_sources(tmp_path / "checkout")
    workspace = Workspace(tmp_path / "out", "test")
    step = installertree.plan_installer(checkout / "installer", world.lock, world.store, workspace)
    step.run()
    entries = {entry.path: entry for entry in filelist.read_part(installertree.part_file(workspace))}
    assert sorted(entries) == [
        "bootstrap.sh",
        "installer/cli/main.py",
        "installer/vendor/PyYAML-6.0.2.LICENSE",
        "installer/vendor/attrs-25.4.0.dist-info/METADATA",
        "installer/vendor/attrs/__init__.py",
        "installer/vendor/yaml/__init__.py",
    ]
    assert [path for path, entry in entries.items() if entry.is_executable] == ["bootstrap.sh"]
    assert entries["installer/vendor/yaml/__init__.py"].owners == ("Python package PyYAML 6.0.2",)
    assert all(entry.source.read_bytes() is not None for entry in entries.values())
    assert {str(path.relative_to(workspace.tree_dir)) for path in step.outputs[:2]} == {
        "installer",
        "bootstrap.sh",
    }


def test_an_installer_without_bootstrap_is_refused(tmp_path: Path) -> None:
    world, checkout = make_world(tmp_path / "world"), write_sources(tmp_path / "checkout")
    (checkout / "installer/bootstrap.sh").unlink()
    workspace = Workspace(tmp_path / "out", "test")
    step = installertree.plan_installer(checkout / "installer", world.lock, world.store, workspace)
    with pytest.raises(BuildError, match=r"has no bootstrap\.sh"):
        step.run()


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ({"lib/yaml/__init__.py": b"", "lib/yaml/_c.so": b"", "tests/test_a.py": b""}, {"yaml/__init__.py"}),
        ({"src/pkg/__init__.py": b"", "src/pkg/py.typed": b""}, {"pkg/__init__.py", "pkg/py.typed"}),
        ({"pkg/__init__.py": b"", "docs/conf.py": b"", "setup.py": b""}, {"pkg/__init__.py"}),
    ],
)
def test_of_an_sdist_only_python_is_taken(pot: Pot, files: dict[str, bytes], taken: set[str]) -> None:
    assert unpack(pot, pot.sdist("pkg", "1.0", files)) == taken


def test_a_compiled_wheel_is_refused(pot: Pot) -> None:
    package = dataclasses.replace(
        pot.wheel("rpds", "1.0"), file="rpds-1.0-cp39-cp39-manylinux_2_17_x86_64.whl"
    )
    with pytest.raises(BuildError, match="not pure Python"):
        unpack(pot, package)


def test_an_archive_without_a_package_is_refused(pot: Pot) -> None:
    with pytest.raises(BuildError, match="no importable package"):
        unpack(pot, pot.sdist("pkg", "1.0", {"README": b""}))


def test_a_broken_archive_is_refused(pot: Pot) -> None:
    blob = pot.put(b"PK broken")
    package = LockedPython(
        name="a", version="1", file="a-1-py3-none-any.whl", digest=blob.digest, size_bytes=blob.size_bytes
    )
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        unpack(pot, package)


def test_an_archive_that_leads_out_is_refused(pot: Pot) -> None:
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        unpack(pot, pot.sdist("pkg", "1.0", {"../../etc/cron.d/x": b"", "pkg/__init__.py": b""}))


def test_two_packages_with_one_file_are_refused(tmp_path: Path) -> None:
    world, checkout = make_world(tmp_path / "world"), write_sources(tmp_path / "checkout")
    twice = (world.pot.sdist("one", "1", {"yaml/__init__.py": b""}), *world.lock.python)
    lock = dataclasses.replace(world.lock, python=twice)
    step = installertree.plan_installer(
        checkout / "installer", lock, world.store, Workspace(tmp_path / "out", "test")
    )
    with pytest.raises(BuildError, match="there already"):
        step.run()


def test_the_salt_tree_is_taken_as_it_is(tmp_path: Path) -> None:
    checkout, workspace = write_sources(tmp_path / "checkout"), Workspace(tmp_path / "out", "test")
    step = salttree.plan_salt(checkout / "salt", workspace)
    assert step.config == {"files": ["calico/init.sls", "top.sls"]}
    step.run()
    (checkout / "salt/calico/init.sls").unlink()
    salttree.plan_salt(checkout / "salt", workspace).run()
    assert filelist.list_files(workspace.tree_dir / "salt") == ("top.sls",)
    (entry,) = filelist.read_part(salttree.part_file(workspace))
    assert (entry.path, entry.source.read_text()) == ("salt/top.sls", "base: {}\n")


def test_the_console_is_taken_as_it_is_with_the_installer(tmp_path: Path) -> None:
    checkout, workspace = write_sources(tmp_path / "checkout"), Workspace(tmp_path / "out", "test")
    step = consoletree.plan_console(checkout / "console", workspace)
    assert (step.name, step.config) == ("console", {"files": ["__init__.py", "static/app.js"]})
    step.run()
    entries = filelist.read_part(consoletree.part_file(workspace))
    assert [entry.path for entry in entries] == ["console/__init__.py", "console/static/app.js"]
    assert {entry.owners for entry in entries} == {("console",)}
