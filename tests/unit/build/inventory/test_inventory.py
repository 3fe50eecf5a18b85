# SPDX-License-Identifier: Apache-2.0
"""Inventory and profiles: production's is whole, and every fault of a file is reported with its line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from build.base.document import shown_path
from build.base.errors import InventoryError, ProfileError
from build.inventory.inventory import inventory_digest, inventory_files, read_inventory
from build.inventory.model import Endpoint, ImageRole, MetadataTrust, Profile, PythonArtifact
from build.inventory.profile import profile_file, read_profile
from lab import upstream
from tests.conftest import GoldenCheck

VERSIONS = "format: 1\nversions: {kubernetes: 1.36.5, pause: 3.10.2}\n"
IMAGES = """format: 1
images:
  - {id: pause, reference: "registry.k8s.io/pause:{pause}", purpose: sandbox}
  - {id: base, reference: "registry.k8s.io/base:1", purpose: base, role: base}
composed:
  - id: master
    reference: "caisson.internal/master:1"
    base: base
    packages: [kubelet]
    purpose: master
    users: [{name: salt, uid: 450, gid: 450}]
"""
PACKAGES = """format: 1
baselines: [{id: el9, release: "9.8", repository: baseos, group: core}]
packages:
  - {name: kubelet, version: "{kubernetes}", repository: kubernetes, purpose: runs pods}
  - {name: tar, repository: [baseos, kubernetes], purpose: archives}
python: [{name: PyYAML, version: 6.0.2, artifact: sdist, purpose: reads YAML}]
"""
POLICY = "format: 1\nregistries: [registry.k8s.io]\nlicences: [MIT]\n"
PROFILE = """name: test
lab: true
lock_file: test.lock
repositories:
  baseos: {base_url: "http://127.0.0.1/baseos/", metadata: signed, keys: [{file: a.asc, fingerprint: FPR}]}
  kubernetes: {base_url: "https://x/k/", metadata: tls, keys: [{file: a.asc, fingerprint: FPR}]}
registries: {registry.k8s.io: "http://127.0.0.1:5000/registry.k8s.io"}
manifests: {"https://raw.githubusercontent.com/": "http://127.0.0.1/raw/"}
""".replace("FPR", "A" * 40)


@dataclasses.dataclass(frozen=True)
class Sources:
    """The files of an inventory in a directory of their own."""

    root_dir: Path

    def write(self, **texts: str) -> None:
        ours = {"versions": VERSIONS, "images": IMAGES, "packages": PACKAGES, "policy": POLICY}
        files = ours | {"profile": PROFILE} | texts
        for name, text in files.items():
            (self.root_dir / f"{name}.yaml").write_text(text, encoding="utf-8")

    def profile(self) -> Profile:
        return read_profile(self.root_dir / "profile.yaml")

    def faults(self, **texts: str) -> list[str]:
        self.write(**texts)
        with pytest.raises(InventoryError) as caught:
            read_inventory(self.root_dir, self.profile())
        shown = shown_path(self.root_dir / "x")[:-1]
        return caught.value.details.replace(shown, "").splitlines()


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    made = Sources(tmp_path)
    made.write()
    return made


def test_production_is_whole(repository_dir: Path) -> None:
    profile = read_profile(profile_file("production", repository_dir))
    inventory = read_inventory(repository_dir, profile)
    assert not profile.is_lab
    assert profile.lock_file == repository_dir / "caisson.lock"
    assert inventory.versions["kubernetes"] == "1.36.5"
    references = {image.id: str(image.reference) for image in inventory.images}
    assert references["kube-apiserver"] == "registry.k8s.io/kube-apiserver:v1.36.5"
    assert references["nginx"] == "docker.io/library/nginx:1.30.5-alpine-slim"
    assert inventory.image("base-os").role is ImageRole.BASE
    preloaded = {image.id for image in inventory.images if image.preload}
    preloaded |= {image.id for image in inventory.composed if image.preload}
    assert preloaded == {"pause", "nginx", "registry", "salt-master"}
    for repository in profile.repositories.values():
        assert all(base_url.startswith("https://") for base_url in repository.base_urls)
        for key in repository.keys:
            assert key.file.is_file()


def test_every_entry_says_what_it_is_for(repository_dir: Path) -> None:
    profile = read_profile(profile_file("production", repository_dir))
    inventory = read_inventory(repository_dir, profile)
    purposes = [item.purpose for item in inventory.images]
    purposes += [item.purpose for item in inventory.composed]
    purposes += [item.purpose for item in inventory.manifests]
    purposes += [item.purpose for item in inventory.packages]
    purposes += [item.purpose for item in inventory.python]
    assert all(len(purpose.split()) > 1 for purpose in purposes)


def test_placeholders_and_overrides(sources: Sources) -> None:
    sources.write(profile=PROFILE + "versions: {kubernetes: 1.36.4}\n")
    inventory = read_inventory(sources.root_dir, sources.profile())
    assert inventory.packages[0].version == "1.36.4"
    assert inventory.packages[1].repositories == ("baseos", "kubernetes")
    assert inventory.python[0].artifact is PythonArtifact.SDIST
    assert str(inventory.images[0].reference) == "registry.k8s.io/pause:3.10.2"
    assert inventory.composed[0].users[0].home == "/"


def test_the_digest_follows_the_intent_alone(sources: Sources) -> None:
    def digest() -> str:
        profile = sources.profile()
        return str(inventory_digest(read_inventory(sources.root_dir, profile), profile))

    before = digest()
    sources.write(images="# a comment\n" + IMAGES.replace("sandbox", "other words"))
    assert digest() == before
    sources.write(profile=PROFILE.replace("127.0.0.1:5000", "127.0.0.1:5001"))
    assert digest() == before
    sources.write(profile=PROFILE + "versions: {pause: '3.11'}\n")
    assert digest() != before


def test_all_faults_of_all_files_at_once(sources: Sources) -> None:
    faults = sources.faults(
        images="""format: 1
images:
  - {id: pause, reference: "registry.k8s.io/pause:{puase}", purpose: sandbox}
  - {id: pause, reference: "example.com/other:1", purpose: other, prelaod: true}
  - {id: Bad Id, reference: "registry.k8s.io/untagged", purpose: other}
composed:
  - {id: c, reference: "caisson.internal/c:1", base: nothing, packages: [nobody], purpose: c}
""",
        packages=PACKAGES.replace("repository: baseos, group", "repository: basos, group").replace(
            "purpose: archives", "porpose: archives"
        ),
    )
    assert faults == [
        "images.yaml:3: '{puase}' is not in versions.yaml; did you mean '{pause}'?",
        "images.yaml:4: image id 'pause' is given twice (first at images.yaml:3)",
        "images.yaml:4: registry 'example.com' is not in profile 'test' (known: registry.k8s.io)",
        "images.yaml:4: unknown key 'prelaod'; did you mean 'preload'?",
        "images.yaml:5: id 'Bad Id' must be lower-case words joined by hyphens",
        "images.yaml:5: image reference 'registry.k8s.io/untagged' has no tag",
        "images.yaml:7: base 'nothing' is no image of the inventory",
        "images.yaml:7: package 'nobody' is not in packages.yaml",
        "packages.yaml:2: repository 'basos' is not in profile 'test' (known: baseos, kubernetes)",
        "packages.yaml:5: key 'purpose' is missing",
        "packages.yaml:5: unknown key 'porpose'; did you mean 'purpose'?",
    ]


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("images", "format: 1\nimages: [", "not YAML"),
        ("images", "- a\n", "the file must be a mapping"),
        ("images", "format: 9\nimages: []\n", "format 9 is not known here (known: 1)"),
        ("images", "format: 1\nimages: {}\n", "'images' must be a list, not a mapping"),
        ("images", "format: 1\nimages: [pause]\n", "'images' must be a list of mappings, not of text"),
        ("images", "format: 1\n", "key 'images' is missing"),
        ("images", "format: 1\nformat: 1\nimages: []\n", "key 'format' is given twice (first in line 1)"),
        ("versions", "format: 1\nversions: {kubernetes: 1.36, pause: '1'}\n", "put it in quotes"),
        ("packages", PACKAGES.replace("sdist", "egg"), "'artifact' must be one of: wheel, sdist; not 'egg'"),
        ("packages", PACKAGES.replace("name: tar", "name: kubelet"), "package 'kubelet' is given twice"),
        ("packages", PACKAGES.replace("[baseos, kubernetes]", "[]"), "'repository' is empty"),
    ],
)
def test_faults_have_file_and_line(sources: Sources, file: str, text: str, fault: str) -> None:
    faults = sources.faults(**{file: text})
    assert any(fault in line for line in faults)
    assert all(re.match(r"[a-z]+\.yaml:\d+: ", line) for line in faults)


def test_a_digest_does_not_belong_into_the_inventory(sources: Sources) -> None:
    reference = "registry.k8s.io/pause@sha256:" + "0" * 64
    faults = sources.faults(images=IMAGES.replace("registry.k8s.io/pause:{pause}", reference))
    assert any("write a tag" in line for line in faults)


def test_a_missing_file_is_named(sources: Sources) -> None:
    for file in inventory_files(sources.root_dir):
        sources.write()
        file.unlink()
        with pytest.raises(InventoryError, match=file.name):
            read_inventory(sources.root_dir, sources.profile())


def test_a_profile_has_absolute_paths_and_rewrites(sources: Sources) -> None:
    profile = sources.profile()
    assert profile.lock_file == sources.root_dir / "test.lock"
    assert profile.repositories["baseos"].keys[0].file == sources.root_dir / "a.asc"
    assert profile.repositories["kubernetes"].metadata is MetadataTrust.TLS
    registry = profile.registries["registry.k8s.io"]
    assert registry.endpoints == (Endpoint(url="http://127.0.0.1:5000", prefix="registry.k8s.io"),)
    assert profile.manifest_url("https://raw.githubusercontent.com/a/b") == "http://127.0.0.1/raw/a/b"
    assert profile.manifest_url("https://example.com/a") == "https://example.com/a"


def test_a_client_certificate_is_for_the_addresses_of_its_repository(sources: Sources) -> None:
    fields = "metadata: tls, client_certificate: c.pem"
    sources.write(profile=PROFILE.replace("metadata: tls", fields))
    profile = sources.profile()
    file = profile.file.parent.resolve() / "c.pem"
    assert profile.client_certificates == {"https://x/k/": (file, file)}
    sources.write(profile=PROFILE.replace("metadata: tls", f"{fields}, client_key: k.pem"))
    assert sources.profile().client_certificates == {"https://x/k/": (file, file.with_name("k.pem"))}


def test_a_connection_that_does_not_leave_the_machine_is_trusted_as_tls_is(sources: Sources) -> None:
    sources.write(profile=PROFILE.replace('"https://x/k/"', '"http://127.0.0.1:8080/k/"'))
    assert sources.profile().repositories["kubernetes"].base_urls == ("http://127.0.0.1:8080/k/",)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("metadata: tls", "metadata: none", "'metadata' must be one of: signed, tls; not 'none'"),
        ('base_url: "https://x/k/"', 'base_url: "http://x/k/"', "base_url must be https://"),
        (
            'base_url: "https://x/k/"',
            'base_url: "http://127.0.0.1.example.com/k/"',
            "base_url must be https://",
        ),
        ('base_url: "https://x/k/"', 'base_url: "https://x/k"', "end with a slash"),
        ("metadata: tls,", "metadata: tls, mirrorlist: x,", "names a mirrorlist, which is not supported"),
        ('base_url: "https://x/k/"', "metalink: x", "give addresses of mirrors as base_url"),
        ("metadata: tls,", "metadata: tls, client_key: x,", "belongs to a 'client_certificate'"),
        ("metadata: signed,", "metadata: signed, client_certificate: x,", "'client_certificate' needs TLS"),
        (
            'base_url: "https://x/k/"',
            'base_url: "https://me:pw@x/k/"',
            "keep that out of the profile (~/.netrc)",
        ),
        ("A" * 40, "A" * 39, "must be 40 hexadecimal digits"),
        ("name: test", "name: Te st", "must be lower-case letters"),
        ("lab: true", "lab: maybe", "'lab' must be true or false"),
        ("lock_file: test.lock\n", "", "key 'lock_file' is missing"),
        ("lock_file", "lockfile", "unknown key 'lockfile'; did you mean 'lock_file'?"),
        ("http://127.0.0.1:5000/registry.k8s.io", "127.0.0.1:5000", "must be http(s)://HOST"),
        (
            "http://127.0.0.1:5000/",
            "http://me:pw@127.0.0.1:5000/",
            "(podman login, docker login or skopeo login)",
        ),
        ("lab: true", "lab: true\npython_index: https://x/simple", "end with a slash"),
        ("lab: true", "lab: true\npython_index: []", "'python_index' is empty"),
        ("lab: true", "lab: true\nconnect_timeout_s: 0", "must be from 1 to 600"),
        ("lab: true", "lab: true\nconnect_timeout_s: 601", "must be from 1 to 600"),
        ("lab: true", "lab: true\nconnect_timeout_s: long", "'connect_timeout_s' must be a whole number"),
        ("{registry.k8s.io:", "{'evil; x':", "has a bad registry host"),
    ],
)
def test_faults_of_a_profile(sources: Sources, old: str, new: str, fault: str) -> None:
    sources.write(profile=PROFILE.replace(old, new))
    with pytest.raises(ProfileError) as caught:
        sources.profile()
    assert fault in caught.value.details
    assert ":pw@" not in caught.value.render()


def test_what_a_profile_may_say_besides(sources: Sources) -> None:
    profile = sources.profile()
    assert (profile.python_indexes, profile.connect_timeout_s, profile.signature_policy) == ((), 10.0, None)
    more = (
        "python_index: ['https://a/', 'https://b/c/']\nconnect_timeout_s: 60\nsignature_policy: policy.json\n"
    )
    sources.write(profile=PROFILE + more)
    profile = sources.profile()
    assert profile.python_indexes == ("https://a/", "https://b/c/")
    assert profile.connect_timeout_s == 60
    assert profile.signature_policy == profile.file.parent.resolve() / "policy.json"


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        ("[]", "'registry.k8s.io' is empty"),
        (
            '["http://127.0.0.1:5000", "127.0.0.1:5001"]',
            "registry address '127.0.0.1:5001' must be http(s)://HOST",
        ),
        ('["http://127.0.0.1:5000", 7]', "'registry.k8s.io' must be a list of text"),
    ],
)
def test_faults_of_mirrors_of_a_registry(sources: Sources, addresses: str, fault: str) -> None:
    sources.write(profile=PROFILE.replace('"http://127.0.0.1:5000/registry.k8s.io"', addresses))
    with pytest.raises(ProfileError) as caught:
        sources.profile()
    assert fault in caught.value.details


def test_a_registry_may_have_mirrors(sources: Sources) -> None:
    mirrors = '["https://one.example/k8s/", "https://registry.k8s.io"]'
    sources.write(profile=PROFILE.replace('"http://127.0.0.1:5000/registry.k8s.io"', mirrors))
    assert sources.profile().registries["registry.k8s.io"].endpoints == (
        Endpoint(url="https://one.example", prefix="k8s"),
        Endpoint(url="https://registry.k8s.io"),
    )


def test_an_override_that_overrides_nothing_is_a_fault(sources: Sources) -> None:
    sources.write(profile=PROFILE + "versions: {kubernets: 1.36.4}\n")
    with pytest.raises(InventoryError, match="1 fault"):
        read_inventory(sources.root_dir, sources.profile())


def test_a_repository_without_key_is_a_fault(sources: Sources) -> None:
    sources.write(profile=re.sub(r"keys: \[.*?\]", "keys: []", PROFILE, count=1))
    with pytest.raises(ProfileError) as caught:
        sources.profile()
    assert "could not be verified" in caught.value.details


def test_the_lab_differs_from_production_in_data_only(repository_dir: Path, tmp_path: Path) -> None:
    production = read_profile(profile_file("production", repository_dir))
    keys = dict.fromkeys(production.repositories, "A" * 40)
    (tmp_path / "upstream.yaml").write_text(upstream.render_profile(keys, []), encoding="utf-8")
    lab = read_profile(tmp_path / "upstream.yaml")
    assert lab.is_lab
    assert lab.repositories.keys() == production.repositories.keys()
    unsigned = {id_ for id_, item in lab.repositories.items() if item.metadata is not MetadataTrust.SIGNED}
    assert unsigned == {"salt"}, "as upstream's"
    mirror = dataclasses.replace(lab, registries=production.registries)
    ours, theirs = read_inventory(repository_dir, production), read_inventory(repository_dir, mirror)
    assert [item.id for item in ours.images] == [item.id for item in theirs.images]
    assert [item.name for item in ours.packages] == [item.name for item in theirs.packages]
    assert ours.python == theirs.python


def test_profiles_by_name(tmp_path: Path) -> None:
    assert profile_file("production", tmp_path) == tmp_path / "profiles" / "production.yaml"
    assert profile_file("lab", tmp_path) == tmp_path / "_out" / "lab" / "upstream.yaml"
    assert profile_file("/site/mirror.yaml", tmp_path) == Path("/site/mirror.yaml")


def test_a_whole_error_reads_well(sources: Sources, golden: GoldenCheck) -> None:
    sources.write(images=IMAGES.replace("purpose: base", "perpose: base").replace("{pause}", "{puase}"))
    with pytest.raises(InventoryError) as caught:
        read_inventory(sources.root_dir, sources.profile())
    golden(
        "inventory-error.txt",
        caught.value.render().replace(shown_path(sources.root_dir / "x")[:-1], "") + "\n",
    )
