# SPDX-License-Identifier: Apache-2.0
"""doit.sh, run for real with programs of our own on PATH in place of those that change the machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

REQUIRED_PROGRAMS = ("bash", "cat", "dirname", "grep", "head", "sha256sum", "env")
# Doit speaks of itself by the name that people typed.
DOIT = '-c import sys; sys.argv[0] = "./doit.sh"; from doit.__main__ import main; main()'
LOCKS = ("requirements.txt", "requirements-test.txt", "requirements-sdist.txt", "requirements-lab.txt")
FAKED_PROGRAMS = ("apt-get", "dnf", "sudo", "install", "rm", "update-rc.d", "go")


@dataclass(frozen=True)
class Checkout:
    """A directory with doit.sh, an environment that is up to date and a doit that says its arguments."""

    root: Path
    fakes_dir: Path

    def fake(self, name: str, body: str = "") -> None:
        """Put a program on PATH that notes its arguments in ``calls``."""
        program = self.fakes_dir / name
        program.unlink(missing_ok=True)  # it may be a link to the real one, which must not be written to
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>{self.root}/calls\n{body}\n')
        program.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run doit.sh with nothing but the fakes and a handful of real programs to be found."""
        return subprocess.run(
            [str(self.root / "doit.sh"), *arguments], cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False, env={"PATH": str(self.fakes_dir), "HOME": str(self.root)},
        )  # fmt: skip

    def calls(self) -> list[str]:
        """Return what the fakes were called with, in order."""
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []


def mark(lock_file: Path) -> str:
    """Return the line that says that .venv has what this lock names, as sha256sum writes it."""
    return f"{hashlib.sha256(lock_file.read_bytes()).hexdigest()}  {lock_file}\n"


@pytest.fixture
def checkout(repository_dir: Path, tmp_path: Path) -> Checkout:
    """Make a checkout that misses no system package."""
    root, fakes_dir = tmp_path / "checkout", tmp_path / "fakes"
    (root / ".venv" / "bin").mkdir(parents=True)
    fakes_dir.mkdir()
    (root / "tools").mkdir()
    for name in ("doit.sh", "tools/install-packages.sh"):
        text = (repository_dir / name).read_text()
        # The machine's own directories stay out of reach: they are appended to PATH, and hold the real apt-get.
        text = "\n".join(line for line in text.splitlines() if "PATH=$PATH:" not in line) + "\n"
        (root / name).write_text(text.replace("policy=/usr/sbin/", f"policy={root}/"))
        (root / name).chmod(0o755)
    assert f"policy={root}/" in (root / "tools" / "install-packages.sh").read_text()
    for name in LOCKS:
        (root / name).write_text(f"{name}\n")
    (root / ".venv" / "lock.sha256").write_text("".join(mark(root / name) for name in LOCKS))
    (root / "system-packages.txt").write_text("# nothing\n")
    for name in REQUIRED_PROGRAMS:
        (fakes_dir / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name} here"))
    made = Checkout(root, fakes_dir)
    made.fake("python3")
    python = root / ".venv" / "bin" / "python"
    python.write_text('#!/bin/bash\necho "ran: $*"\n')
    python.chmod(0o755)
    return made


def test_runs_doit_in_its_own_directory(checkout: Checkout) -> None:
    done = checkout.run("iso", "upstream=site")
    assert (done.returncode, done.stdout) == (0, f"ran: {DOIT} iso upstream=site\n"), done.stderr


def test_installs_what_is_missing_and_says_so_first(checkout: Checkout) -> None:
    """Without a terminal it asks nothing; what is there already, or only the lab needs, is left alone."""
    checkout.fake("apt-get")
    checkout.fake("present")
    checkout.fake("install", "exec cat >/dev/null")
    (checkout.root / "system-packages.txt").write_text(
        "# comment\nbuild absent debian-name fedora-name\nbuild present b b\nbuild /etc c c\nlab gone d d\n"
    )
    for name in ("rm", "sudo", "update-rc.d"):
        checkout.fake(name, 'exec "$@"' if name == "sudo" else "")
    done = checkout.run("iso")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "doit.sh: installing with apt: debian-name"
    calls = [call for call in checkout.calls() if call.startswith("apt-get")]
    assert calls == ["apt-get update -q", "apt-get install -q -y --no-install-recommends debian-name"]


def test_uses_dnf_where_there_is_no_apt(checkout: Checkout) -> None:
    checkout.fake("dnf")
    checkout.fake("sudo", 'exec "$@"')
    (checkout.root / "system-packages.txt").write_text("build absent debian-name fedora-name\n")
    assert checkout.run().returncode == 0
    assert "dnf install -y fedora-name" in checkout.calls()


def test_no_package_manager_is_an_error_in_three_parts(checkout: Checkout) -> None:
    (checkout.root / "system-packages.txt").write_text("build absent debian-name fedora-name\n")
    done = checkout.run()
    assert done.returncode == 3
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == [
        "doit.sh",
        "details",
        "resolution",
    ]


def test_services_do_not_start_when_debian_installs_them(checkout: Checkout) -> None:
    """A policy stands while apt-get works and is removed after it, also when apt-get fails."""
    checkout.fake("apt-get", "[[ $1 == update ]] || exit 100")
    checkout.fake("install", "exec cat >/dev/null")
    checkout.fake("sudo", 'exec "$@"')
    checkout.fake("rm")
    (checkout.root / "system-packages.txt").write_text("lab absent nginx-light nginx\n")
    checkout.fake("go", "echo go1.26.8")
    assert checkout.run("demo").returncode == 100
    calls = [call.split()[0] for call in checkout.calls() if not call.startswith(("python3", "go", "sudo"))]
    assert calls == ["install", "apt-get", "apt-get", "rm"]


@pytest.mark.parametrize("arguments", [["demo"], ["test"], ["iso", "upstream=lab"]])
def test_the_lab_asks_for_a_recent_go_before_all_else(checkout: Checkout, arguments: list[str]) -> None:
    checkout.fake("go", "echo go1.25.1")
    checkout.fake("apt-get")
    (checkout.root / "system-packages.txt").write_text("build absent debian-name fedora-name\n")
    done = checkout.run(*arguments)
    assert done.returncode == 3
    assert "Go 1.26" in done.stderr
    assert not [call for call in checkout.calls() if call.startswith("apt-get")]


def test_the_product_needs_no_go(checkout: Checkout) -> None:
    assert checkout.run("iso").returncode == 0
    assert not [call for call in checkout.calls() if call.startswith("go")]


def installed(checkout: Checkout) -> list[str]:
    """Return the locks that pip was asked to install, in order, and forget them."""
    calls = [call for call in checkout.calls() if call.startswith("pip ")]
    flags = "pip install --quiet --no-build-isolation --require-hashes --requirement "
    assert all(call.startswith(flags) for call in calls), calls
    (checkout.root / "calls").unlink(missing_ok=True)
    return [call.removeprefix(flags) for call in calls]


def test_an_environment_that_is_up_to_date_is_left_alone(checkout: Checkout) -> None:
    checkout.fake("go", "echo go1.26.8")
    for task in ("list", "lint", "test", "list"):
        assert checkout.run(task).returncode == 0
    assert installed(checkout) == []


def test_a_changed_lock_has_the_environment_made_from_the_start(checkout: Checkout) -> None:
    """Also when it is that of a group: what it no longer names must go. By hash, and then not once more."""
    fake_environment(checkout)
    for name in ("requirements.txt", "requirements-lab.txt"):
        (checkout.root / name).write_text("another\n")
        done = checkout.run("list")
        assert done.returncode == 0, done.stderr
        assert installed(checkout) == ["requirements.txt"]
        assert checkout.run("list").returncode == 0
        assert installed(checkout) == []
        (checkout.root / ".venv" / "lock.sha256").write_text(
            "".join(mark(checkout.root / lock) for lock in LOCKS)
        )


@pytest.mark.parametrize("words", [[""], ["demo", "--nodes", ""], ["lock", "", "upstream=lab"]])
def test_an_empty_word_is_refused_before_all_else(checkout: Checkout, words: list[str]) -> None:
    """It is what a variable of the shell leaves that was not set; doit ends with a traceback."""
    done = checkout.run(*words)
    assert done.returncode == 3
    said = [line.split(":")[0].strip() for line in done.stderr.splitlines()]
    assert said == ["doit.sh", "details", "resolution"]
    assert checkout.calls() == []


def test_the_environment_grows_with_what_is_asked(checkout: Checkout) -> None:
    """A production build has the builder's packages alone; lab and tests come on top, each once."""
    fake_environment(checkout)
    checkout.fake("go", "echo go1.26.8")
    (checkout.root / ".venv" / "lock.sha256").unlink()
    assert checkout.run("iso", "upstream=site").returncode == 0
    assert installed(checkout) == ["requirements.txt"]
    assert checkout.run("lint").returncode == 0
    assert installed(checkout) == ["requirements-test.txt"]
    assert checkout.run("iso", "upstream=lab").returncode == 0
    assert installed(checkout) == ["requirements-sdist.txt", "requirements-lab.txt"]
    assert checkout.run("help", "test").returncode == 0
    assert installed(checkout) == []


def test_a_group_that_cannot_be_installed_leaves_the_rest(checkout: Checkout) -> None:
    fake_environment(checkout, "[[ $* != *-lab.txt ]]")
    checkout.fake("go", "echo go1.26.8")
    (checkout.root / ".venv" / "lock.sha256").unlink()
    done = checkout.run("demo")
    assert done.returncode == 3
    assert done.stderr.startswith("doit.sh: requirements-lab.txt could not be installed\n")
    installed(checkout)
    assert checkout.run("list").returncode == 0
    assert installed(checkout) == []


def test_only_the_lab_asks_for_a_python_with_headers(checkout: Checkout) -> None:
    """Two of its packages are compiled; no Python at all is an error in three parts."""
    fake_environment(checkout)
    checkout.fake("go", "echo go1.26.8")
    for candidate in ("python3", "python3.11", "python3.12", "python3.13"):
        checkout.fake(candidate, '[[ "$*" != *" headers" && $1 != -m ]]')
    text = (checkout.root / "doit.sh").read_text().replace(" /usr/bin/python3 ", " ")
    (checkout.root / "doit.sh").write_text(text)
    python = checkout.root / ".venv" / "bin" / "python"
    python.write_text('#!/bin/bash\n[[ "$*" != *" headers" ]] && echo ran\n')
    assert checkout.run("iso").returncode == 0
    done = checkout.run("demo")
    assert done.returncode == 3
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == [
        "doit.sh",
        "details",
        "resolution",
    ]


def test_an_environment_that_was_moved_is_made_anew(checkout: Checkout) -> None:
    """The scripts in it hold the path where it was made."""
    fake_environment(checkout)
    marks = checkout.root / ".venv" / "lock.sha256"
    marks.write_text(marks.read_text().replace(str(checkout.root), "/elsewhere"))
    assert checkout.run("list").returncode == 0
    assert installed(checkout) == ["requirements.txt"]


def test_an_environment_that_cannot_be_made_leaves_the_old_one(checkout: Checkout) -> None:
    fake_environment(checkout, "exit 1")
    lock_file = checkout.root / ".venv" / "lock.sha256"
    before = lock_file.read_text()
    (checkout.root / "requirements.txt").write_text("another\n")
    for _ in range(2):  # a second failure does not take it either
        done = checkout.run("list")
        assert done.returncode == 3
        assert done.stderr.startswith("doit.sh: requirements.txt could not be installed\n")
        assert lock_file.read_text() == before
        assert not (checkout.root / ".venv.old").exists()


def fake_environment(checkout: Checkout, pip: str = "") -> None:
    """Let ``python3 -m venv`` make an environment whose pip notes its arguments and then does ``pip``."""
    made, root = checkout.root / "made", checkout.root
    (made / "bin").mkdir(parents=True)
    checkout.fake("pip", pip)
    (checkout.fakes_dir / "pip").rename(made / "bin" / "pip")
    shutil.copy(root / ".venv" / "bin" / "python", made / "bin")
    checkout.fake("python3", f"[[ $2 != venv ]] || {{ rm -rf {root}/.venv && cp -r {made} {root}/.venv; }}")
    for name in ("cp", "mv", "rm"):
        (checkout.fakes_dir / name).symlink_to(f"/bin/{name}")
