# SPDX-License-Identifier: Apache-2.0
"""The products and chores of this repository: ``doit list`` names them, ``doit`` alone builds the ISO.

``upstream=NAME`` says where the bytes come from: lab, production (default), or the path of a profile.
"""

import functools
from pathlib import Path

from build import steps
from build.project import Project

PROJECT = Project(Path(__file__).resolve().parent, steps.variable("upstream", "production"))
DOIT_CONFIG = steps.configuration(PROJECT.out_dir, PROJECT.state_name, PROJECT.digests, default_task="iso")
BUILT = ("rpms", "images", "salt", "installer")
LAB_DIR, IS_LAB = PROJECT.out_dir / "lab", PROJECT.upstream == "lab"
LAB_ISO = ["doit", "iso", "upstream=lab"]
SERVERS = ("_lab_servers",) if IS_LAB else ()
product = functools.partial(steps.product, digests=PROJECT.digests)
planned = steps.after("lock", is_needed=PROJECT.is_generated)


def task_lock() -> steps.Tasks:
    """Resolve every name to a digest."""
    prepared = [LAB_DIR / "upstream" / "prepared.json"] if IS_LAB else []
    first = ["_lab_upstream"] if IS_LAB else []
    doc = "resolve every name to a digest; the only one that asks upstream what there is"
    yield from product("lock", doc, PROJECT.plan_lock, needs=prepared, first=first, under=SERVERS)


task_fetch = planned(lambda: product("fetch", "fetch what is locked", PROJECT.plan_fetch, under=SERVERS))
task_rpms = planned(lambda: product("rpms", "make the yum repository", PROJECT.plan_rpms, first=["fetch"]))
task_images = planned(lambda: product("images", "make the OCI layout", PROJECT.plan_images, first=["fetch"]))
task_salt = planned(lambda: product("salt", "take the Salt tree", PROJECT.plan_salt))
task_installer = planned(
    lambda: product("installer", "take the installer", PROJECT.plan_installer, first=["fetch"])
)
task_iso = planned(lambda: product("iso", "check the whole and assemble it", PROJECT.plan_iso, first=BUILT))
task_verify = planned(lambda: product("verify", "check every byte", PROJECT.plan_verify, first=["iso"]))


def task_chores() -> steps.Tasks:
    """Look after the sources and the lab."""
    yield steps.chore("lint", "check style, types and directions of imports", ["pytest", "tests/static"])
    yield steps.chore("test", "run all tests, those of the lab's ISO too", LAB_ISO, ["pytest"])
    yield steps.chore("lab", "make the lab's miniature upstream", ["lab", "upstream", "prepare"])
    yield steps.chore(
        "demo", "install the lab's ISO on an air-gapped node", LAB_ISO, PROJECT.demo_command, flags=["keep"]
    )


def task_services() -> steps.Tasks:
    """Have the lab's upstream there when it is asked."""
    prepare, start, stop = (
        steps.call(f"lab.upstream:{name}", LAB_DIR) for name in ("prepare", "start", "stop")
    )
    yield steps.service("_lab_upstream", "the lab's packages, images and profile", start=prepare)
    yield steps.service("_lab_servers", "the lab's registry and web server", start=start, stop=stop)
