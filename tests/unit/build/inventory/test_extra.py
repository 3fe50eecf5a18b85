# SPDX-License-Identifier: Apache-2.0
"""A vendor's file adds to the inventory; the policy holds for it too; questions about the lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.base.errors import InventoryError, LockError, MovedError, PolicyError
from build.bundle.product import Product
from build.fetch.plan import fetch_report, run_fetch_plan
from build.fetch.transfer import read_work, run_fetch
from build.inventory.model import Lock, Policy
from build.inventory.policy import is_licence_allowed
from build.inventory.sources import Sources
from build.lock.lockfile import read_lock
from build.lock.resolve import run_check, run_lock
from build.lock.why import explain, run_why
from build.store.objects import Store
from tests.unit.build.fakesite import PACKAGES, POLICY, Site, fake_site
from tests.unit.build.signers import Signer, signer

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]

EXTRA = """format: 1
product: {{name: scada, version: "4.2.0", purpose: watches the plant}}
versions: {{scada: "1.0"}}
repositories:
  acme: {{base_url: "{url}/acme/", metadata: signed, keys: [{{file: acme.asc, fingerprint: {key}}}]}}
images:
  - {{id: scada, reference: "registry.k8s.io/old:{{scada_image}}", purpose: the server}}
manifests:
  - {{id: scada, url: "https://raw.example.com/scada.yaml", path: scada.yaml, purpose: its deployment}}
packages:
  - {{name: agent, version: "{{scada}}", repository: acme, purpose: reads the sensors}}
"""


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Signer]]:
    directory = tmp_path_factory.mktemp("keys")
    with signer(directory, "main") as main, signer(directory, "acme") as acme:
        yield main, acme


@pytest.fixture
def site(tmp_path: Path, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no-auth.json"))
    main, acme = signers
    with fake_site(tmp_path / "site", main) as made:
        images = (made.root_dir / "images.yaml").read_text(encoding="utf-8")
        ours = "\n".join(line for line in images.splitlines() if "id: old" not in line)
        (made.root_dir / "images.yaml").write_text(ours, encoding="utf-8")
        made.put_repository("acme", [made.rpm("agent", requires=("library",), by=acme)], by=acme)
        made.upstream.put("/raw/scada.yaml", b"apiVersion: apps/v1\nkind: Deployment\n")
        text = EXTRA.format(url=made.upstream.url, key=acme.fingerprint).replace("{scada_image}", "1")
        extra_file(made).parent.mkdir()
        extra_file(made).write_text(text, encoding="utf-8")
        (extra_file(made).parent / "acme.asc").write_bytes(acme.key_file.read_bytes())
        yield made


def extra_file(site: Site) -> Path:
    return site.root_dir / "vendor" / "extra.yaml"


def sources(site: Site) -> Sources:
    return Sources(site.root_dir, (extra_file(site),))


def lock(site: Site, given: Sources | None = None) -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=given or sources(site))
    return read_lock(site.lock_file)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_vendor_s_payload_is_locked_and_fetched(site: Site) -> None:
    before = lock(site, site.sources)
    made = lock(site)
    assert [(extra.name, extra.version) for extra in made.extras] == [("scada", "4.2.0")]
    assert {package.name for package in made.packages} - {package.name for package in before.packages} == {
        "agent"
    }
    assert made.package("library").required_by == ("agent", "tool")
    assert {image.id for image in made.images} - {image.id for image in before.images} == {"scada"}
    assert {manifest.path for manifest in made.manifests} == {"net.yaml", "scada.yaml"}
    assert {key.repository for key in made.keys} == {"acme", "tools"}
    assert made.inventory_digest != before.inventory_digest
    run_fetch(site.profile_file, None, site.root_dir / "store", sources=sources(site))
    store = Store(site.root_dir / "store")
    assert all(store.has(blob.digest, blob.size_bytes) for blob in made.blobs())


def test_the_bundle_names_it(site: Site) -> None:
    made = lock(site)
    versions = {**made.versions, "caisson": "0.1.0"}
    product = Product(
        lock=dataclasses.replace(made, versions=versions),
        inventory=sources(site).read(site.profile_file)[1],
        lock_digest=made.inventory_digest,
    )
    assert product.bundle_name == f"caisson-0.1.0-{product.build}-scada-4.2.0-lab.iso"


def test_a_mirror_s_address_comes_before_the_vendor_s(site: Site) -> None:
    url = site.upstream.url
    line = f'  acme: {{base_url: "{url}/mirror/", metadata: signed, keys: [{{file: vendor/acme.asc, fingerprint: '
    key = sources(site).profile(site.profile_file).repositories["acme"].keys[0].fingerprint
    change(site.profile_file, "registries:", f"{line}{key}}}]}}\nregistries:")
    assert sources(site).profile(site.profile_file).repositories["acme"].base_urls == (f"{url}/mirror/",)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'versions: {scada: "1.0"}',
            'versions: {scada: "1.0", tool: "2"}',
            "1: version 'tool' is given already",
        ),
        ("id: scada, reference", "id: pause, reference", "7: image id 'pause' is given twice"),
        ("name: agent,", "name: tool,", "11: package 'tool' is given twice"),
        ("product:", "prodcut:", "2: unknown key 'prodcut'; did you mean 'product'?"),
        ("name: scada,", "name: Scada 1,", "2: id 'Scada 1' must be lower-case words"),
        ("packages:\n", "baselines: []\npackages:\n", "10: unknown key 'baselines'"),
    ],
)
def test_a_vendor_changes_nothing_of_ours(site: Site, old: str, new: str, fault: str) -> None:
    change(extra_file(site), old, new)
    with pytest.raises(InventoryError) as caught:
        lock(site)
    assert f"extra.yaml:{fault}" in caught.value.details


def test_a_registry_that_the_policy_does_not_allow(site: Site) -> None:
    given = dataclasses.replace(sources(site), policy_file=site.root_dir / "mine.yaml")
    (site.root_dir / "mine.yaml").write_text(POLICY.replace("registry.k8s.io", "quay.io"), encoding="utf-8")
    with pytest.raises(InventoryError) as caught:
        lock(site, given)
    assert "images.yaml:3: policy.yaml does not allow registry 'registry.k8s.io'" in caught.value.details
    assert lock(site).packages


def test_a_licence_and_a_key_that_the_policy_does_not_allow(site: Site) -> None:
    (site.root_dir / "policy.yaml").write_text(
        POLICY.replace("MIT", "BSD*") + f"keys: [{site.key.fingerprint}]\n", encoding="utf-8"
    )
    with pytest.raises(PolicyError) as caught:
        lock(site)
    details = caught.value.details
    assert "package agent-1.0-1.el9.noarch has licence 'MIT'; wanted by " in details
    assert "package library-1.0-1.el9.noarch has licence 'MIT'; required by agent, tool" in details
    assert "repository 'acme' is signed by key" in details
    assert "repository 'tools' is signed" not in details
    assert not site.lock_file.exists()


@pytest.mark.parametrize(
    ("tag", "is_allowed"),
    [
        ("GPLv2+", True),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", True),
        ("(MIT or Proprietary) and Public Domain", True),
        ("MIT, BSD", False),
        ("MIT and Proprietary or GPLv2", True),
        ("Proprietary", False),
        ("MIT and", False),
        ("(MIT", True),
    ],
)
def test_licence_tags(tag: str, is_allowed: bool) -> None:
    policy = Policy(licences=("MIT", "GPL*", "Public Domain"))
    assert is_licence_allowed(tag, policy) is is_allowed


# ---------------------------------------------------------------- questions


def test_a_check_says_that_nothing_moved(site: Site) -> None:
    lock(site)
    before = site.lock_file.stat().st_mtime_ns
    run_check(site.profile_file, None, site.root_dir / "cache", sources=sources(site))
    assert site.lock_file.stat().st_mtime_ns == before


def test_a_check_names_what_moved_and_writes_nothing(site: Site) -> None:
    made = lock(site)
    text = site.lock_file.read_bytes()
    site.put_image("pause", is_indexed=False)
    site.upstream.put("/raw/net.yaml", b"apiVersion: v1\nkind: Other\n")
    with pytest.raises(MovedError) as caught:
        run_check(site.profile_file, None, site.root_dir / "cache", sources=sources(site))
    assert caught.value.message.startswith("2 things of upstream moved")
    assert (
        f"image registry.k8s.io/pause:3.10: {made.image('pause').digest} -> sha256:" in caught.value.details
    )
    assert "manifest net: sha256:" in caught.value.details
    assert site.lock_file.read_bytes() == text


def test_why(site: Site) -> None:
    made = lock(site)
    inventory = sources(site).read(site.profile_file)[1]
    library = explain("library", made, inventory)
    assert library[0].startswith("library-1.0-1.el9.noarch  ")
    assert library[0].endswith("MIT, tools")
    assert library[1] == "  needed on: el9"
    assert library[2] == "  library: required by"
    assert library[3].startswith("    agent: wanted by ")
    assert library[3].endswith("extra.yaml:11 (reads the sensors)")
    assert library[4:] == ("  required by too: tool", "  in the composed images: made")
    assert "base of the composed images: made" in explain("pause", made, inventory)[2]
    assert "(is composed)" in explain("made", made, inventory)[1]
    assert "(its deployment)" in "\n".join(explain("scada", made, inventory))
    with pytest.raises(LockError) as caught:
        run_why("libary", site.profile_file, site.lock_file, sources(site))
    assert caught.value.details == "near it: library"


def test_a_fetch_plan_changes_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    lock(site)
    store_dir = site.root_dir / "store"
    run_fetch_plan(site.profile_file, site.lock_file, store_dir, sources(site))
    said = capsys.readouterr().err
    assert not store_dir.exists()
    assert "package: package tool-1.0-1.el9.noarch  " in said
    assert f"  {site.upstream.url}/tools/Packages/tool-1.0-1.el9.noarch.rpm" in said
    assert "missing: 3 x package" in said
    assert "fits CD, DVD" in said
    work = read_work(site.profile_file, site.lock_file, store_dir, sources(site))
    assert fetch_report(work, 1000)[-1].endswith("1.0 kB are free: it DOES NOT fit")
    run_fetch(site.profile_file, None, store_dir, sources=sources(site))
    run_fetch_plan(site.profile_file, site.lock_file, store_dir, sources(site))
    assert "nothing is missing" in capsys.readouterr().err


def test_the_site_without_a_vendor_is_as_it_was(site: Site) -> None:
    assert PACKAGES in (site.root_dir / "packages.yaml").read_text(encoding="utf-8")
    assert lock(site, site.sources).extras == ()
