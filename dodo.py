# SPDX-License-Identifier: Apache-2.0
"""The products and chores of this repository: ``doit list`` names them, ``doit`` alone builds the ISO.

Variables: upstream=NAME (lab, production, a profile's path), sign=KEY, extra=FILE,.. policy=FILE, name=NAME, keys=only.
"""

import functools
from pathlib import Path

from build import project, steps

PROJECT = project.Project.asked_for(Path(__file__).resolve().parent, steps.variable_of(project.VARIABLES))
DOIT_CONFIG = steps.configuration(PROJECT.out_dir, PROJECT.state_name, PROJECT.digests, default_task="iso")
BUILT, LAB_ISO = ("rpms", "images", "salt", "installer"), ["doit", "iso", "upstream=lab"]
LAB_DIR, IS_LAB, PREPARED = PROJECT.out_dir / "lab", PROJECT.upstream == "lab", "upstream/prepared.json"
product = functools.partial(steps.product, digests=PROJECT.digests)
asking = functools.partial(product, first=["_lab_upstream"][:IS_LAB], under=["_lab_servers"][:IS_LAB])
NODES = steps.Option("nodes", "2: a worker; 3: control planes; 4, 5: workers, too", "lab.hosts:checked_count")
planned = steps.after("lock", is_needed=PROJECT.needs_lock)


def task_lock() -> steps.Tasks:
    """Resolve every name to a digest."""
    yield from asking("lock", "pin every name", PROJECT.plan_lock, needs=[LAB_DIR / PREPARED][:IS_LAB])


task_fetch = planned(lambda: asking("fetch", "fetch what is locked", PROJECT.plan_fetch))
task_rpms = planned(lambda: product("rpms", "make the yum repository", PROJECT.plan_rpms, first=["fetch"]))
task_images = planned(lambda: product("images", "make the OCI layout", PROJECT.plan_images, first=["fetch"]))
task_salt = planned(lambda: product("salt", "take the Salt tree", PROJECT.plan_salt))
task_installer = planned(lambda: product("installer", "take it", PROJECT.plan_installer, first=["fetch"]))
task_iso = planned(lambda: product("iso", "check the whole and assemble it", PROJECT.plan_iso, first=BUILT))
task_sbom = planned(lambda: product("sbom", "count what it holds", PROJECT.plan_sbom_counts, first=["iso"]))
task_verify = planned(lambda: product("verify", "check every byte", PROJECT.plan_verify, first=["iso"]))


def task_questions() -> steps.Tasks:
    """Answer questions; nothing is changed."""
    yield from asking("upstream", "has upstream what is wanted?", PROJECT.plan_upstream)
    yield from asking("lockcheck", "has upstream moved?", PROJECT.plan_lock_check)
    yield from product("fetchplan", "what would be fetched?", PROJECT.plan_fetch_plan)
    yield from product("why", "why is name=NAME in the bundle?", PROJECT.plan_why)


def task_chores() -> steps.Tasks:
    """Look after the sources and the lab."""
    yield steps.chore("lint", "check style, types and directions of imports", ["pytest", "tests/static"])
    yield steps.chore("test", "run all tests", LAB_ISO, ["pytest", "-n2"])
    yield steps.chore("bench", "measure all", LAB_ISO, ["build.bench"], PROJECT.node_bench, flags=["page"])
    yield steps.chore("gc", "list what is unused; --yes removes it", ["build.fetch.unused"], flags=["yes"])
    yield steps.chore("lab", "make the lab's miniature upstream", ["lab", "upstream", "prepare"])
    yield steps.chore("soak", "run the tests that take most of an hour", LAB_ISO, ["pytest", "tests/soak"])
    yield steps.chore("demo", "show it on lab nodes", LAB_ISO, PROJECT.demo_command, flags=["keep", NODES])


def task_services() -> steps.Tasks:
    """Have the lab's upstream there when it is asked."""
    lab = {verb: steps.call(f"lab.upstream:{verb}", LAB_DIR) for verb in ("prepare", "start", "stop")}
    yield steps.service("_lab_upstream", "the lab's packages, images and profile", start=lab["prepare"])
    yield steps.service("_lab_servers", "its registry and web server", start=lab["start"], stop=lab["stop"])
