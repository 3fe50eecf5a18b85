# SPDX-License-Identifier: Apache-2.0
"""The build of one profile from end to end: reads lock and inventory, asks every planner for its steps.

    lock -> fetch -> rpms ----------+
                     images --------+-> iso:sbom, iso:product, iso:closed-world -> iso:image -> verify
                     installer -----+
            salt -------------------+

Nothing is read before a product is asked for, so that naming the tasks costs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from build.base.errors import BuildError, LockError
from build.base.files import sweep
from build.base.plan import Step, Workspace
from build.bundle import compose, consoletree, installertree, iso, oci, rpmrepo, salttree, sign
from build.bundle import product as product_files
from build.bundle.product import Product
from build.evidence import closedworld, sbom, verify
from build.inventory.inventory import inventory_digest
from build.inventory.model import Digest, Inventory, Lock, Profile
from build.inventory.profile import profile_file
from build.inventory.sources import Sources
from build.lock.keys import run_lock_keys, warn_of_keys, with_key_files
from build.lock.lockfile import dump_lock, read_lock
from build.lock.why import run_why
from build.store.digests import DigestCache
from build.store.objects import Store, default_cache_dir
from build.upstream.route import has_route

#: What a command line may say of a project, as NAME=VALUE.
VARIABLES = ("upstream", "sign", "extra", "policy", "name", "keys")


@dataclasses.dataclass(frozen=True)
class Project:
    """One checkout, built for one upstream: ``production``, ``lab``, or the path of a profile.

    ``signed_by`` is the fingerprint of the OpenPGP key that signs the bundle, empty for a bundle without.
    ``extra`` are the paths of vendors' inventory files, joined by commas; ``policy`` is the path of a policy
    in the place of policy.yaml; ``name`` is what a question is about.
    """

    variables: ClassVar[tuple[str, ...]] = VARIABLES

    root_dir: Path
    upstream: str
    signed_by: str = dataclasses.field(default="", kw_only=True)
    extra: str = ""
    policy: str = ""
    name: str = ""
    keys: str = ""

    @classmethod
    def asked_for(cls, root_dir: Path, variable: Callable[[str, str], str]) -> Project:
        """Return the project of a command line; ``variable`` gives the value of a name, or a default."""
        return cls(
            root_dir,
            variable("upstream", "production"),
            signed_by=variable("sign", ""),
            extra=variable("extra", ""),
            policy=variable("policy", ""),
            name=variable("name", ""),
            keys=variable("keys", ""),
        )

    @property
    def out_dir(self) -> Path:
        """Return where all products go."""
        return self.root_dir / "_out"

    @property
    def profile_file(self) -> Path:
        """Return the file of the profile; a generated one need not be there yet."""
        return profile_file(self.upstream, self.root_dir)

    @property
    def is_generated(self) -> bool:
        """Say whether profile and lock are products themselves (the lab's), not files of the sources."""
        return self.profile_file.is_relative_to(self.out_dir)

    @property
    def state_name(self) -> str:
        """Return the name under which the state of this build is kept."""
        return re.sub(r"[^a-z0-9]+", "-", "-".join([self.upstream, *self._extra_names]).lower()).strip("-")

    @property
    def sources(self) -> Sources:
        """Return the files that people write what they want into."""
        extra_files = tuple(Path(path).absolute() for path in self.extra.split(",") if path)
        return Sources(self.root_dir, extra_files, Path(self.policy).absolute() if self.policy else None)

    @property
    def _extra_names(self) -> tuple[str, ...]:
        """Return what builds with vendors' files are called by, so that they have places of their own."""
        return tuple(file.stem for file in self.sources.extra_files)

    @property
    def store(self) -> Store:
        """Return the store that all profiles share, as it is now."""
        return Store.default()

    @functools.cached_property
    def digests(self) -> DigestCache:
        """Return the digests of all products."""
        return DigestCache(self.out_dir / ".digests.json", self.store)

    @functools.cached_property
    def profile(self) -> Profile:
        """Read the profile. Raises: ProfileError."""
        return self.sources.profile(self.profile_file)

    @property
    def lock_file(self) -> Path:
        """Return the lock's file; with vendors' files it is one of its own, beside the first of them.

        Raises: ProfileError when the profile that names it cannot be read.
        """
        extra_files = self.sources.extra_files
        if self.is_generated:
            return self.profile_file.with_name(f"{'-'.join(['caisson', *self._extra_names])}.lock")
        return extra_files[0].with_suffix(".lock") if extra_files else self.profile.lock_file

    @property
    def needs_lock(self) -> bool:
        """Say whether a build makes the lock too: a generated one always, a committed one when it is not there.

        The first lock is nobody's reviewed lock yet; every later one is only made when it is asked for.
        """
        try:
            return self.is_generated or not self.lock_file.exists()
        except BuildError:
            return False  # it is reported when something is asked for

    @property
    def inventory_files(self) -> tuple[Path, ...]:
        """Return the files that people write what they want into."""
        return self.sources.files

    @functools.cached_property
    def inventory(self) -> Inventory:
        """Read the inventory as the profile sees it. Raises: InventoryError, ProfileError."""
        return self.sources.inventory(self.profile)

    @functools.cached_property
    def lock(self) -> Lock:
        """Read the lock. Raises: LockError, also when the inventory has changed since; ProfileError."""
        lock = with_key_files(read_lock(self.lock_file), self.profile)
        if lock.inventory_digest != inventory_digest(self.inventory, self.profile):
            raise LockError(
                f"the lock '{self.lock_file.name}' is older than what it locks",
                details=f"one of {', '.join(file.name for file in self.inventory_files)} "
                f"or profile '{self.profile.name}' asks for something else now",
                resolution=f"run './doit.sh lock {self._words}' where the upstream can be reached; to build from the "
                "lock of another profile, give this one its name",
            )
        return lock

    @property
    def _words(self) -> str:
        """Return the variables that name this build on a command line."""
        given = {"upstream": self.upstream, "extra": self.extra, "policy": self.policy}
        return " ".join(f"{name}={value}" for name, value in given.items() if value)

    @functools.cached_property
    def workspace(self) -> Workspace:
        """Return the directories of this profile's build."""
        return Workspace(self.out_dir, "-".join([self.profile.name, *self._extra_names]))

    @functools.cached_property
    def product(self) -> Product:
        """Return what the bundle is made of.

        It is named after its lock as it is written by us, with the key files that the profile has now: a comment
        or other line ends in the file make no other bundle.
        """
        digest = Digest.of_bytes(dump_lock(self.lock).encode())
        return Product(lock=self.lock, inventory=self.inventory, lock_digest=digest)

    @property
    def iso_file(self) -> Path:
        """Return the bundle."""
        return self.out_dir / self.product.bundle_name

    def demo_command(self) -> list[str]:
        """Return the words that install the lab's bundle, which has to be built by then, on a node."""
        return ["lab", "demo", "--iso", str(Project(self.root_dir, "lab").iso_file)]

    def node_bench(self) -> list[str]:
        """Return the words that measure the lab's bundle, which has to be built by then, on nodes."""
        return ["lab", "bench", "--iso", str(Project(self.root_dir, "lab").iso_file)]

    # ------------------------------------------------------------ questions

    def plan_lock_check(self) -> Iterator[Step]:
        """Plan the question whether upstream has moved."""
        run = functools.partial(_run_lock_check, self.profile_file, self.lock_file, self.sources)
        yield Step(name="", doc=f"has upstream {self.upstream} moved since it was locked?", run=run)

    def plan_upstream(self) -> Iterator[Step]:
        """Plan the question whether everything that is wanted is there."""
        run = functools.partial(_run_survey, self.profile_file, self.sources)
        yield Step(name="", doc=f"does upstream {self.upstream} have everything that is wanted?", run=run)

    def plan_fetch_plan(self) -> Iterator[Step]:
        """Plan the question what a fetch would bring."""
        run = functools.partial(
            _run_fetch_plan, self.profile_file, self.lock_file, self.store.root, self.sources
        )
        yield Step(name="", doc="what would be fetched, and what would the whole fit on?", run=run)

    def plan_why(self) -> Iterator[Step]:
        """Plan the question why something is in the bundle."""
        run = functools.partial(run_why, self.name, self.profile_file, self.lock_file, self.sources)
        yield Step(name="", doc="why is name=NAME in the bundle?", run=run)

    # ------------------------------------------------------------ the products

    def plan_lock(self) -> Iterator[Step]:
        """Plan the lock. A committed one is written only when it is asked for, and then always made anew.

        With a ``name`` only that is renewed. When the keys are asked for (``keys=only``) their files are taken in,
        and nothing is resolved.

        Raises: KeyFileError when what the bundle is to be signed by is no fingerprint: before anything is asked.
        """
        self._signing_key()
        if self.keys:
            run = functools.partial(run_lock_keys, self.profile_file, self.lock_file, self.sources)
            yield Step(name="", doc=f"the keys in the lock of upstream {self.upstream}", run=run)
            return
        yield Step(
            name="",
            doc=f"the lock of upstream {self.upstream}",
            run=functools.partial(_run_lock, self.profile_file, self.lock_file, self.sources, self.name),
            inputs=(*self.inventory_files, self.profile_file),
            outputs=(self.lock_file,) if self.needs_lock and not self.name else (),
        )

    def plan_fetch(self) -> Iterator[Step]:
        """Plan the transfer of everything that the lock names into the store.

        Raises: NetworkError when something is missing and there is no network at all: at once, before servers
        are started to no use.
        """
        self._check_route()
        objects = frozenset(self.store.path(blob.digest) for blob in self.lock.blobs())
        policy = self.profile.signature_policy
        yield Step(
            name="",
            doc=f"{len(objects)} objects of the lock",
            run=functools.partial(
                _run_fetch, self.profile_file, self.lock_file, self.store.root, self.sources
            ),
            inputs=(self.lock_file, self.profile_file, *((policy,) if policy and policy.is_file() else ())),
            outputs=tuple(sorted(objects)),
            kept=objects,
        )

    def plan_rpms(self) -> Iterator[Step]:
        """Plan the yum repository."""
        yield rpmrepo.plan_rpms(self.lock, self.store, self.workspace)

    def plan_images(self) -> Iterator[Step]:
        """Plan each image and the layout of all."""
        yield from oci.plan_images(self.lock, self.inventory, self.store, self.workspace)
        yield from compose.plan_composed(self.lock, self.inventory, self.store, self.workspace)
        yield oci.plan_layout(self.lock, self.inventory, self.workspace, self.product.full_version)

    def plan_salt(self) -> Iterator[Step]:
        """Plan the Salt tree."""
        yield salttree.plan_salt(self.root_dir / salttree.SALT_DIR, self.workspace)

    def plan_installer(self) -> Iterator[Step]:
        """Plan the installer and what it vendors, and the console beside it."""
        source_dir = self.root_dir / installertree.INSTALLER_DIR
        yield installertree.plan_installer(source_dir, self.lock, self.store, self.workspace)
        yield consoletree.plan_console(self.root_dir / consoletree.CONSOLE_DIR, self.workspace)

    def plan_iso(self) -> Iterator[Step]:
        """Plan the checks and files of the whole, and the assembly."""
        workspace, lock, store = self.workspace, self.lock, self.store
        parts = self.parts()
        sums_file = product_files.sums_file(workspace)
        signing_key = self._signing_key()
        yield closedworld.plan_closed_world(lock, self.inventory, store, workspace)
        yield sbom.plan_sbom(self.product, store, workspace)
        yield product_files.plan_product(self.product, parts, store, workspace)
        if signing_key:
            yield sign.plan_signature(sums_file, signing_key, workspace)
        signature = (sign.part_file(workspace),) if signing_key else ()
        assembly = iso.plan_iso(
            parts=(*parts, product_files.part_file(workspace), *signature),
            sums_file=sums_file,
            proofs=(closedworld.report_file(workspace),),
            iso_file=self.iso_file,
            volume=self.product.volume_id,
            source_date_epoch=lock.source_date_epoch,
            store=store,
            store_files=tuple(store.path(blob.digest) for blob in lock.blobs()),
            workspace=workspace,
            signing_key=signing_key,
        )
        run = functools.partial(_run_and_warn_of_keys, assembly.run, self.profile, lock)
        yield dataclasses.replace(assembly, run=run)

    def _signing_key(self) -> str:
        """Return the fingerprint of the key that signs, or the empty text. Raises: KeyFileError when it is none."""
        return sign.fingerprint(self.signed_by) if self.signed_by else ""

    def plan_sbom_counts(self) -> Iterator[Step]:
        """Plan the question how many of what the bundle holds."""
        yield sbom.plan_counts(self.workspace)

    def plan_verify(self) -> Iterator[Step]:
        """Plan the check of the bundle."""
        yield verify.plan_verify(self.iso_file)

    def _check_route(self) -> None:
        profile, store = self.profile, self.store
        addresses = [url for repository in profile.repositories.values() for url in repository.base_urls]
        registries = profile.registries.values()
        addresses += [endpoint.url for registry in registries for endpoint in registry.endpoints]
        if all(has_route(url) for url in addresses):
            return
        if any(not store.has(blob.digest, blob.size_bytes) for blob in self.lock.blobs()):
            _run_route_check(self.profile_file, self.lock_file, store.root, self.sources)

    def parts(self) -> tuple[Path, ...]:
        """Return the tables of everything but the product's own files."""
        workspace, lock = self.workspace, self.lock
        return (
            rpmrepo.part_file(workspace),
            *(oci.part_file(workspace, image_id) for image_id in oci.ids_on_iso(lock, self.inventory)),
            oci.part_file(workspace, oci.LAYOUT_STEP),
            salttree.part_file(workspace),
            sbom.part_file(workspace),
            installertree.part_file(workspace),
            consoletree.part_file(workspace),
        )


def _run_and_warn_of_keys(
    run: Callable[[], Mapping[Path, str] | None], profile: Profile, lock: Lock
) -> Mapping[Path, str] | None:
    """Run the assembly, and say last what its user has to do something about."""
    made = run()
    warn_of_keys(profile, lock)
    return made


def _run_lock(profile_file: Path, lock_file: Path, sources: Sources, name: str) -> None:
    for part in ("metadata", "objects", "python"):
        sweep(default_cache_dir() / part)
    from build.lock.resolve import run_lock  # noqa: PLC0415 - the solver and the network only when they are needed

    run_lock(profile_file, lock_file, default_cache_dir(), sources=sources, name=name)


def _run_lock_check(profile_file: Path, lock_file: Path, sources: Sources) -> None:
    from build.lock.resolve import run_check  # noqa: PLC0415 - the solver and the network only when they are needed

    run_check(profile_file, lock_file, default_cache_dir(), sources=sources)


def _run_survey(profile_file: Path, sources: Sources) -> None:
    from build.lock.survey import run_survey  # noqa: PLC0415 - the solver and the network only when they are needed

    run_survey(profile_file, default_cache_dir(), sources=sources)


def _run_fetch_plan(profile_file: Path, lock_file: Path, store_dir: Path, sources: Sources) -> None:
    from build.fetch.plan import run_fetch_plan  # noqa: PLC0415 - the network only when it is needed

    run_fetch_plan(profile_file, lock_file, store_dir, sources)


def _run_route_check(profile_file: Path, lock_file: Path, store_dir: Path, sources: Sources) -> None:
    from build.fetch.transfer import run_route_check  # noqa: PLC0415 - the network only when it is needed

    run_route_check(profile_file, lock_file, store_dir, sources)


def _run_fetch(profile_file: Path, lock_file: Path, store_dir: Path, sources: Sources) -> None:
    from build.fetch.transfer import run_fetch  # noqa: PLC0415 - the network only when it is needed
    from build.lock.packages import LockCache  # noqa: PLC0415

    objects_dir = LockCache.below(default_cache_dir()).objects_dir
    run_fetch(profile_file, lock_file, store_dir, sources=sources, objects_dir=objects_dir)
