# SPDX-License-Identifier: Apache-2.0
"""dnf or rpm is killed while a package's script runs: the next run carries the script out again, as for the first time.

Real dnf and rpm in a node, real packages signed by a key of the media; only the packages are small.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import keys, rpmspec
from lab.node import Lab, Node
from lab.rpmspec import Rpm, Source, Text
from lab.run import run
from tests.node.installing import shell

pytestmark = pytest.mark.lab

ROOT_DIR = Path(__file__).parents[2]
MEDIA_DIR = "/srv/media"
LOG = "/var/log/cut.log"
#: While /wait is there, the script of the package waits, for a minute at the most.
SCRIPT = """echo "begun $1" >> /var/log/cut.log
count=0
while [ -e /wait ] && [ "$count" -lt 600 ]; do sleep 0.1; count=$((count + 1)); done
echo "done $1" >> /var/log/cut.log"""
DRIVER = """
import sys
sys.path.insert(0, "/srv/caisson-source")
from pathlib import Path
from installer.base.errors import InstallerError
from installer.base.paths import Paths
from installer.media import dnf, product
media_dir = Path("/srv/media")
try:
    has_changed = dnf.install(
        sys.argv[1:], paths=Paths(), media_dir=media_dir, product=product.load(media_dir), progress=print, detail=print
    )
except InstallerError as error:
    sys.exit(f"{error.message}\\n{error.details}")
print("changed" if has_changed else "unchanged")
"""
REPAIR = """
import sys
sys.path.insert(0, "/srv/caisson-source")
from pathlib import Path
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.media import product, repair
media_dir = Path("/srv/media")
ui = Ui(sys.stdout, is_terminal=False)
print(repair.repair(paths=Paths(), media_dir=media_dir, product=product.load(media_dir), ui=ui))
"""


def make_cut(version: str, release: str = "1") -> Rpm:
    """Return the package that a script makes slow."""
    return Rpm(
        name="cut",
        version=version,
        release=release,
        summary="slow",
        noarch=True,
        contents=(
            Text(path=f"/usr/share/cut/only-{version}", text=version),
            Text(path="/etc/cut.conf", text="# of the package", config=True),
        ),
        scripts=(("post", SCRIPT),),
    )


def make_media(directory: Path, version: str) -> None:
    """Make a media with the package ``cut``, which a script makes slow, and ``beside-VERSION``, which needs it."""
    beside = Rpm(
        name=f"beside-{version}",
        version="1",
        release="1",
        summary="quick",
        noarch=True,
        requires=(f"cut = {version}",),
        contents=(Text(path=f"/usr/share/beside/{version}", text="x"),),
    )
    packages_dir = directory / "repo/el9/Packages"
    packages_dir.mkdir(parents=True)
    source = Source(name=f"cut-{version}", signer=keys.FOREIGN, packages=(make_cut(version), beside))
    for file in rpmspec.build(source).glob("*.rpm"):
        (packages_dir / file.name).write_bytes(file.read_bytes())
    run(["createrepo_c", "--quiet", "--no-database", packages_dir.parent])
    (directory / "keys").mkdir()
    (directory / "keys/media.asc").write_bytes(keys.key(keys.FOREIGN).public_file.read_bytes())
    product = {
        "format": 1,
        "name": "caisson",
        "version": version,
        "profile": {"name": "lab", "lab": True},
        "packages": {"cut": f"{version}-1", f"beside-{version}": "1-1"},
        "rpm_keys": ["keys/media.asc"],
    }
    (directory / "product.json").write_text(json.dumps(product))


def copy_tree(node: Node, source: Path, target: str, work_dir: Path) -> None:
    """Copy a directory into the node, in the place of what is there."""
    archive = work_dir / "tree.tar"
    run(["tar", "--create", "--exclude=__pycache__", "--file", archive, "--directory", source, "."])
    node.copy_in(archive, "/srv/tree.tar")
    shell(node, f"rm -rf {target}; python3 -m tarfile --extract /srv/tree.tar {target}")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Yield a node with the installer's sources, and nothing installed from any media."""
    with Lab() as lab:
        node = lab.start_node("node1")
        copy_tree(
            node, ROOT_DIR / "installer", "/srv/caisson-source/installer", tmp_path_factory.mktemp("tree")
        )
        node.write_file("/srv/driver.py", DRIVER)
        node.write_file("/srv/repair.py", REPAIR)
        yield node


@pytest.fixture(autouse=True)
def media(node: Node, tmp_path: Path) -> None:
    """Put a media with version 1 into the node, on which nothing of it is installed."""
    shell(
        node,
        f"for p in beside-1 beside-2 cut; do rpm --erase --nodeps $p; done; rm -rf {LOG} /wait /var/lib/caisson",
        check=False,
    )
    put(node, tmp_path, "1")


def put(node: Node, tmp_path: Path, version: str) -> None:
    make_media(tmp_path / version, version)
    copy_tree(node, tmp_path / version, MEDIA_DIR, tmp_path)
    shell(node, "rm -rf /var/cache/caisson")


def install(node: Node, version: str = "1") -> str:
    """Install as the installer does; return what it said."""
    return shell(node, f"python3 /srv/driver.py beside-{version} 2>&1", check=False, timeout_s=120)


def log(node: Node) -> list[str]:
    return shell(node, f"cat {LOG} 2>/dev/null", check=False).splitlines()


def cut(node: Node, victim: str, version: str = "1") -> None:
    """Begin to install, kill ``victim`` by SIGKILL once the script runs, and let everything else end by itself."""
    shell(
        node,
        f"touch /wait; rm -f {LOG}; (setsid python3 /srv/driver.py beside-{version} >/run/cut.out 2>&1 &)",
    )
    ends_at = time.monotonic() + 60
    while not log(node):
        assert time.monotonic() < ends_at, shell(node, "cat /run/cut.out", check=False)
        time.sleep(0.2)
    script = "pgrep --full '^/bin/sh /var/tmp/[r]pm-tmp'"
    kills = {
        "the script": f"kill -KILL $({script})",
        "dnf": f"kill -KILL $(pgrep --full '[d]nf --config') $({script})",
        "all": f"kill -KILL $(pgrep --full '[d]river.py') $(pgrep --full '[d]nf --config') $({script})",
    }
    shell(node, kills[victim])
    ends_at = time.monotonic() + 60
    while shell(node, "pgrep --full '[d]river.py|[d]nf --config'", check=False):
        assert time.monotonic() < ends_at
        time.sleep(0.2)
    shell(node, "rm -f /wait")
    assert shell(node, "rpm -q cut").strip().startswith("cut-")


@pytest.mark.parametrize("victim", ["the script", "dnf", "all"])
def test_a_first_installation(node: Node, victim: str) -> None:
    cut(node, victim)
    assert log(node) == ["begun 1"]
    said = install(node)
    assert said.splitlines()[-1] == "changed", said
    # As on a host that never had it: scripts tell a first installation by this number.
    assert log(node) == ["begun 1", "begun 1", "done 1"]
    assert shell(node, "rpm -q cut beside-1").split() == ["cut-1-1.noarch", "beside-1-1-1.noarch"]
    assert shell(node, "rpm --verify --nodeps cut beside-1") == ""
    assert install(node).splitlines()[-1] == "unchanged"


@pytest.mark.parametrize("victim", ["dnf", "all"])
def test_another_version(node: Node, tmp_path: Path, victim: str) -> None:
    assert install(node).splitlines()[-1] == "changed"
    put(node, tmp_path, "2")
    # Only a package that needs it brings the other version.
    shell(node, "rpm --erase --nodeps beside-1")
    cut(node, victim, "2")
    said = install(node, "2")
    assert said.splitlines()[-1] == "changed", said
    # Two versions were in the database and a third instance came: scripts tell one from more than one.
    assert log(node)[-2:] == ["begun 3", "done 3"]
    assert shell(node, "rpm -qa cut 'beside*' | sort").split() == ["beside-2-1-1.noarch", "cut-2-1.noarch"]
    assert shell(node, "ls /usr/share/cut").split() == ["only-2"]
    assert install(node, "2").splitlines()[-1] == "unchanged"


def update_from_the_site(node: Node) -> None:
    """Install a build that the media lacks, as ``dnf update`` does from a site's own mirror."""
    source = Source(name="cut-of-site", signer=keys.FOREIGN, packages=(make_cut("1", "2"),))
    node.copy_in(next(rpmspec.build(source).glob("*.rpm")), "/srv/of-site.rpm")
    shell(node, "rpm -U /srv/of-site.rpm")


def test_what_the_site_has_updated_since_is_let_be(node: Node) -> None:
    cut(node, "all")
    update_from_the_site(node)
    assert log(node) == ["begun 1", "begun 2", "done 2"]
    said = install(node)
    assert said.splitlines()[-1] == "changed", said
    assert log(node) == ["begun 1", "begun 2", "done 2"]
    assert shell(node, "rpm -q cut beside-1").split() == ["cut-1-2.noarch", "beside-1-1-1.noarch"]
    assert install(node).splitlines()[-1] == "unchanged"


def test_files_without_a_byte_are_brought_back_by_the_media_s_own_build_only(node: Node) -> None:
    emptied = "truncate --size=0 /etc/cut.conf /usr/share/cut/only-1"
    assert install(node).splitlines()[-1] == "changed"
    said = shell(node, f"{emptied}; python3 /srv/repair.py 2>&1", check=False)
    assert said.splitlines()[-1] == "True", said
    assert "installed again: cut-1-1.noarch" in said
    assert shell(node, "cat /etc/cut.conf /usr/share/cut/only-1") == "# of the package1"
    assert shell(node, "ls -A /etc /usr/share/cut | grep caisson-empty", check=False) == ""
    said = shell(node, "rm /etc/cut.conf; python3 /srv/repair.py 2>&1", check=False)
    assert "not there, and left so (configuration that a site may remove): /etc/cut.conf" in said
    assert said.splitlines()[-1] == "False", said
    update_from_the_site(node)
    said = shell(node, f"{emptied}; python3 /srv/repair.py 2>&1", check=False)
    assert "damaged, and left so (the media has another build): /etc/cut.conf /usr/share/cut/only-1" in said
    assert said.splitlines()[-1] == "False", said
    assert shell(node, "stat --format=%s /etc/cut.conf").strip() == "0"


def test_no_key_of_the_media_is_in_the_host_s_database(node: Node) -> None:
    assert install(node).splitlines()[-1] == "changed"
    assert "not installed" in shell(node, "rpm -q gpg-pubkey", check=False)


def test_a_package_that_no_key_of_the_media_signed_is_refused(node: Node, tmp_path: Path) -> None:
    node.copy_in(keys.key("salt").public_file, f"{MEDIA_DIR}/keys/media.asc")
    said = install(node)
    assert "does not have a good signature by a key of the media" in said
    assert "not installed" in shell(node, "rpm -q cut", check=False)
    assert "not installed" in shell(node, "rpm -q gpg-pubkey", check=False)
