# SPDX-License-Identifier: Apache-2.0
"""ISOs side by side: added whole or not at all, listed, verified, removed; what is in use is never touched."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError, HostError, InstallerError, MediaError, UsageError
from installer.media import rpmkeys
from installer.media.product import Product
from installer.operations import images, media, media_adding, media_maps, media_using
from tests.unit.installer.helpers import make_context, make_tree, write_sums
from tests.unit.installer.media.test_state import iso_bytes
from tests.unit.installer.operations.isos import OWN_BUILD, PAUSE, IsoHost

APP = "quay.io/vendor/app:1"
OWN = f"0.1.0-{OWN_BUILD}"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IsoHost:
    return IsoHost(tmp_path, monkeypatch)


@pytest.fixture
def second(host: IsoHost) -> Path:
    return host.iso("20261102.bb", {APP: b"app"})


# ---- add -----------------------------------------------------------------------------------------------------


def test_one_is_added_and_served_beside_the_one_in_use(host: IsoHost, second: Path) -> None:
    before = host.traces()
    added = host.add(second)
    assert added == media_adding.Added(
        "0.1.0-20261102.bb", str(second), changed=True, in_use=False, clashes=()
    )
    assert before.items() <= host.traces().items(), "nothing of what is in use was changed"
    assert list(host.served) == [APP]
    assert "crictl exec" in host.commands
    unit = next(file for file in host.paths.units_dir.iterdir() if "20261102" in file.name)
    assert f"What={second}" in unit.read_text()
    rows = media.rows(host.paths, host.own)
    assert [(row.name, row.in_use, row.mounted, row.problem) for row in rows] == [
        (OWN, True, True, ""),
        ("0.1.0-20261102.bb", False, True, ""),
    ]
    assert [mount.mount_point for mount in host.mounts] == [row.mount_point for row in rows]


def test_twice_changes_nothing(host: IsoHost, second: Path) -> None:
    host.add(second)
    before = host.traces()
    host.commands.clear()
    again = host.add(second)
    assert not again.changed
    assert host.traces() == before
    assert "crictl exec" not in host.commands
    copy = second.with_name("copy.iso")
    copy.write_bytes(second.read_bytes())
    second.with_suffix(".tree").rename(copy.with_suffix(".tree"))
    assert (host.add(copy).changed, host.add(copy).made_from) == (False, str(second)), (
        "where it is from stays"
    )


def test_nginx_is_told_again_when_a_kill_came_in_between(host: IsoHost, second: Path) -> None:
    host.add(second)
    host.served.clear()
    assert host.add(second).changed
    assert list(host.served) == [APP]


def test_it_is_told_also_of_one_without_a_new_name(host: IsoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blobs and packages are new: that no name is asked for in vain says nothing."""
    same = host.iso("20261102.bb", {PAUSE: b"in use"})
    with monkeypatch.context() as patch:

        def die(*_: object) -> str:
            raise KeyboardInterrupt

        patch.setattr(IsoHost, "_crictl", lambda _, words: "id" if words[0] == "ps" else die())
        patch.setattr(media_adding, "_take_back", lambda *_: None)  # a kill, which takes nothing back
        with pytest.raises(KeyboardInterrupt):
            host.add(same)
    host.commands.clear()
    assert host.add(same).changed
    assert "crictl exec" in host.commands
    assert not host.add(same).changed


def test_one_that_would_hide_an_image_of_the_site_is_refused(host: IsoHost, second: Path) -> None:
    host.pushed[APP] = f"sha256:{'1' * 64}"
    before = host.traces()
    with pytest.raises(MediaError, match="has 1 image of a name that the site has pushed") as caught:
        host.add(second)
    assert APP in caught.value.details
    assert f"caisson images remove {APP}" in caught.value.resolution
    assert host.traces() == before
    digest = next(image.digest for image in host.product(second).images.values())
    host.pushed[APP] = digest
    assert host.add(second).changed, "the same image hides nothing"


def test_what_is_hidden_already_is_no_reason(host: IsoHost, second: Path) -> None:
    host.add(second)
    host.pushed[APP] = f"sha256:{'1' * 64}"
    host.add(host.iso("20261103.cc", {APP: b"newer"}))


def test_of_two_images_of_one_name_the_one_in_use_is_served_and_it_says_so(host: IsoHost) -> None:
    other = host.iso("20261102.bb", {PAUSE: b"another", APP: b"app"})
    added = host.add(other)
    assert [(c.name, c.served_from, c.hidden_from) for c in added.clashes] == [(PAUSE, OWN, added.name)]
    assert [row.hidden for row in media.rows(host.paths, host.own)] == [(), (PAUSE,)]


def test_of_two_added_the_newer_is_served(host: IsoHost) -> None:
    newer = host.iso("20261103.cc", {APP: b"newer"})
    host.add(newer)
    digest = host.served[APP]
    added = host.add(host.iso("20261102.bb", {APP: b"older"}))
    assert host.served[APP] == digest
    assert [(c.served_from, c.hidden_from) for c in added.clashes] == [("0.1.0-20261103.cc", added.name)]


SPOILED: dict[str, Callable[[IsoHost, Path], object]] = {
    "damaged": lambda _, file: tree_of(file, {"oci/oci-layout": "x"}, sums=False),
    "profile": lambda host, _: host.iso("20261102.bb", {APP: b"a"}, profile={"name": "other", "lab": True}),
    "no lab": lambda host, _: host.iso("20261102.bb", {APP: b"a"}, profile={"name": "lab"}),
    "architecture": lambda _, file: tree_of(
        file, {"repo/el9/a-1-1.s390x.rpm": "", "repo/b-1-1.noarch.rpm": ""}
    ),
    "images": lambda _, file: tree_of(file, {"oci/index.json": "{"}),
    "no ISO": lambda _, file: file.write_bytes(b"text" * 20_000),
    "not Caisson's": lambda _, file: (file.with_suffix(".tree") / "product.json").unlink(),
    "anybody's": lambda _, file: file.chmod(0o666),
    "no mount": lambda host, _: host.failing.add("mount iso9660"),
    "no start": lambda host, _: host.failing.add("systemctl start"),
    "no reload": lambda host, _: host.failing.add("crictl exec"),
    "no nginx": lambda host, _: setattr(host, "has_nginx", False),
    "another digest": lambda host, _: setattr(host, "is_stubborn", True),
    "missing": lambda _, file: file.unlink(),
}


def tree_of(file: Path, files: dict[str, str], *, sums: bool = True) -> None:
    """Change the tree of an ISO, and its sums or not."""
    sums_file = file.with_suffix(".tree") / "SHA256SUMS"
    before = sums_file.read_bytes()
    make_tree(sums_file.parent, files)
    if not sums:
        sums_file.write_bytes(before)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        ("damaged", MediaError, "is damaged: 1 files"),
        ("profile", MediaError, "is of another profile"),
        ("no lab", MediaError, "is of another profile"),
        ("architecture", MediaError, "is for another architecture: s390x"),
        ("images", MediaError, "cannot be read"),
        ("no ISO", MediaError, "is no ISO"),
        ("not Caisson's", MediaError, "product.json cannot be read"),
        ("anybody's", MediaError, "can be changed by another user"),
        ("no mount", MediaError, "cannot be mounted"),
        ("no start", MediaError, "cannot be mounted at"),
        ("no reload", CommandError, "failed"),
        ("no nginx", HostError, "nginx does not run"),
        ("another digest", HostError, "nginx does not serve quay.io/vendor/app:1 as its maps say"),
        ("missing", UsageError, "cannot be read: No such file"),
    ],
)
def test_of_one_that_is_refused_nothing_stays(
    host: IsoHost, second: Path, spoil: str, kind: type[InstallerError], message: str
) -> None:
    before = host.traces()
    SPOILED[spoil](host, second)
    with pytest.raises(kind, match=message) as caught:
        host.add(second)
    assert caught.value.resolution or kind is CommandError
    assert host.traces() == before
    assert not (host.root / "run/caisson-media").exists()


def test_one_that_is_not_signed_as_demanded_is_refused(host: IsoHost, second: Path) -> None:
    before = host.traces()
    with pytest.raises(MediaError, match="is not signed") as caught:
        host.add(second, pinned="AB" * 20)
    assert "media.signingKey" in caught.value.details
    assert host.traces() == before


@pytest.mark.parametrize(("given", "what"), [("/", "a directory"), ("/dev/null", "neither a file nor")])
def test_what_is_no_file_and_no_drive_is_refused(host: IsoHost, given: str, what: str) -> None:
    with pytest.raises(UsageError, match=f"{given} is {what}"):
        host.add(given)


def test_packages_signatures_are_checked(
    host: IsoHost, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"a-1-1.{platform.machine()}.rpm"
    make_tree(second.with_suffix(".tree"), {f"repo/el9/Packages/{name}": ""})
    asked: list[Path] = []
    monkeypatch.setattr(rpmkeys, "check_signatures", lambda keys, files, **_: asked.extend([*keys, *files]))
    host.add(second)
    assert [file.name for file in asked] == ["baseos.asc", "kubernetes.asc", name]


def test_another_iso_of_the_same_name_is_refused(host: IsoHost, second: Path) -> None:
    host.add(second)
    before = host.traces()
    make_tree(second.with_suffix(".tree"), {"more": "x"})
    with pytest.raises(MediaError, match=r"another ISO that is called 0\.1\.0-20261102\.bb"):
        host.add(second)
    with pytest.raises(MediaError, match=f"another ISO that is called {OWN}"):
        host.add(host.iso(OWN_BUILD, {APP: b"app"}, name="forged"))
    assert host.traces() == before


def test_no_more_than_nginx_looks_into(host: IsoHost) -> None:
    for number in range(media_maps.SLOTS):
        host.add(host.iso(f"2026110{number}.xx", {f"quay.io/a:{number}": b"a"}))
    before = host.traces()
    one_more = host.iso("20261109.xx", {APP: b"app"})
    with pytest.raises(MediaError, match="4 ISOs beside"):
        host.add(one_more)
    assert host.traces() == before
    host.remove("20261100.xx")
    assert host.add(one_more).changed


def test_one_in_use_comes_back_from_another_file(host: IsoHost) -> None:
    host.mounts.clear()
    copy = host.own_iso.with_name("copy.iso")
    host.own_iso.rename(copy)
    host.own_iso.with_suffix(".tree").rename(copy.with_suffix(".tree"))
    assert media.rows(host.paths, host.own)[0].problem != ""
    added = host.add(copy)
    assert (added.changed, added.in_use, added.made_from) == (True, True, str(copy))
    assert media.rows(host.paths, host.own)[0].problem == ""
    assert "crictl exec" not in host.commands


def test_one_in_use_comes_back_whatever_is_beside_it_and_without_nginx(host: IsoHost) -> None:
    for number in range(media_maps.SLOTS):
        host.add(host.iso(f"2026110{number}.xx", {f"quay.io/a:{number}": b"a"}))
    place = str(host.paths.media_dir(OWN))
    host.mounts = [mount for mount in host.mounts if mount.mount_point != place]
    host.has_nginx = False
    assert host.add(host.own_iso).changed
    assert not host.add(host.own_iso).changed
    assert all(row.mounted for row in media.rows(host.paths, host.own))


def test_nothing_is_added_to_a_host_that_is_installed_from_nothing(host: IsoHost, second: Path) -> None:
    host.paths.installed_file.unlink()
    with pytest.raises(HostError, match="installed from no ISO yet"):
        host.add(second)


# ---- remove --------------------------------------------------------------------------------------------------


def test_one_is_removed_with_all_but_its_file(host: IsoHost, second: Path) -> None:
    before = host.traces()
    host.add(second)
    assert host.remove("20261102.bb") == media_adding.Removed("0.1.0-20261102.bb", str(second))
    assert host.traces() == before
    assert second.exists()
    with pytest.raises(UsageError, match="there is no ISO") as caught:
        host.remove("20261102.bb")
    assert caught.value.details == OWN


def test_the_one_in_use_is_not_removed(host: IsoHost) -> None:
    before = host.traces()
    with pytest.raises(HostError, match="is in use") as caught:
        host.remove(OWN)
    assert "caisson media add FILE" in caught.value.resolution
    assert host.traces() == before


def test_one_that_something_reads_from_stays_as_it_was(host: IsoHost, second: Path) -> None:
    place = str(host.paths.media_dir(host.add(second).name))
    before = host.traces()
    host.busy.add(place)
    with pytest.raises(MediaError, match="is busy"):
        host.remove("20261102.bb")
    assert host.traces() == before
    host.busy.clear()
    host.remove("20261102.bb")
    assert place not in host.traces()


def test_what_lies_in_its_place_does_not_keep_it(host: IsoHost, second: Path) -> None:
    place = host.paths.media_dir(host.add(second).name)
    host.mounts = [mount for mount in host.mounts if mount.source != str(second)]
    host.remove("20261102.bb")
    assert (place / "product.json").exists()
    assert host.said[-1].startswith(f"{place} stays: Directory not empty")
    assert [one.full_version for one in media.known(host.paths)] == [OWN]


def test_more_than_nginx_looks_into_is_told(host: IsoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_adding, "_refuse_many", lambda *_: None)
    for number in range(media_maps.SLOTS + 1):
        host.add(host.iso(f"2026110{number}.xx", {f"quay.io/a:{number}": b"a"}))
    oldest = "0.1.0-20261100.xx"
    assert [row.name for row in media.rows(host.paths, host.own) if row.problem] == [oldest]
    assert [one.name for one in media.beside(host.paths) if one.missing] == [oldest]
    assert f"{oldest} is left out: nginx looks into 4 ISOs" in "\n".join(host.said)


def test_one_that_is_gone_is_removed_too(host: IsoHost, second: Path) -> None:
    host.add(second)
    second.unlink()
    host.mounts = [mount for mount in host.mounts if mount.source != str(second)]
    for child in sorted(host.paths.media_dir("0.1.0-20261102.bb").rglob("*"), reverse=True):
        child.rmdir() if child.is_dir() else child.unlink()
    assert "is not there" in media.rows(host.paths, host.own)[1].problem
    host.remove("20261102.bb")
    assert len(media.known(host.paths)) == 1


# ---- use -----------------------------------------------------------------------------------------------------


def use(host: IsoHost, name: str) -> Product:
    return media_using.choose(media.find(name, host.paths), host.paths)


def test_another_of_the_same_versions_is_used_and_the_first_is_beside_it_then(host: IsoHost) -> None:
    other = host.iso("20261102.bb", {PAUSE: b"in use", APP: b"app"})
    host.add(other)
    assert use(host, "20261102.bb") == host.product(other)
    rows = media.rows(host.paths, host.product(other))
    assert [(row.name, row.in_use) for row in rows] == [("0.1.0-20261102.bb", True), (OWN, False)]
    assert use(host, "20261102.bb") == host.product(other), "twice is once"
    assert use(host, OWN) == host.own, "and back"
    with pytest.raises(HostError, match="is in use"):
        host.remove(OWN)
    use(host, "20261102.bb")
    host.own = host.product(other)
    host.remove(OWN)
    assert [one.full_version for one in media.known(host.paths)] == ["0.1.0-20261102.bb"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"versions": {"kubernetes": "1.37.0"}}, "kubernetes: 1.36.4, there 1.37.0"),
        ({"versions": {}}, "kubernetes: 1.36.4, there none"),
        ({"packages": {"kubelet": "1.36.5-1"}}, "package kubelet: 1.36.4-150500.1.1, there 1.36.5-1"),
        ({"manifests": {}}, "manifest calico: cc, there none"),
        (
            {"images": {"i0": {"reference": "registry.k8s.io/pause:4", "digest": "sha256:aa"}}},
            f"image i0: {PAUSE}, there registry.k8s.io/pause:4",
        ),
    ],
)
def test_one_of_other_versions_is_an_upgrade_and_refused(
    host: IsoHost, changes: dict[str, Any], line: str
) -> None:
    host.add(host.iso("20261102.bb", {PAUSE: b"in use"}, **changes))
    before = host.paths.installed_file.read_bytes()
    with pytest.raises(HostError, match="is an upgrade from") as caught:
        use(host, "20261102.bb")
    assert caught.value.details == line
    assert host.paths.installed_file.read_bytes() == before


def test_caisson_s_own_version_may_differ(host: IsoHost) -> None:
    versions = {"kubernetes": "1.36.4", "caisson": "0.1.1"}
    host.add(host.iso("20261102.bb", {PAUSE: b"in use"}, version="0.1.1", versions=versions))
    assert use(host, "20261102.bb").full_version == "0.1.1-20261102.bb"


@pytest.mark.parametrize("spoil", ["not mounted", "not noted", "other file"])
def test_one_that_is_not_as_it_was_verified_is_not_used(host: IsoHost, spoil: str) -> None:
    other = host.iso("20261102.bb", {PAUSE: b"in use"})
    name = host.add(other).name
    if spoil == "not mounted":
        host.mounts = [mount for mount in host.mounts if mount.source != str(other)]
    elif spoil == "not noted":
        (host.paths.media_notes_dir / f"{name}.json").unlink()
    else:
        other.write_bytes(iso_bytes(b"another"))
    with pytest.raises(MediaError):
        use(host, name)
    with pytest.raises(UsageError, match="there is no ISO"):
        use(host, "20270101.zz")


def test_while_the_one_in_use_is_away_the_installer_s_copy_is_compared_with(host: IsoHost) -> None:
    host.add(host.iso("20261102.bb", {PAUSE: b"in use"}))
    place = host.paths.media_dir(OWN)
    copy = host.paths.self_dir(OWN)
    copy.mkdir(parents=True)
    (place / "product.json").rename(copy / "product.json")
    assert use(host, "20261102.bb").build == "20261102.bb"
    host.paths.media_dir("0.1.0-20261102.bb").joinpath("product.json").rename(place / "product.json")


def test_a_bootstrap_lets_nginx_serve_what_is_beside_the_one_in_use(
    host: IsoHost, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.add(second)
    shutil.rmtree(host.paths.media_maps_dir)
    host.served.clear()
    monkeypatch.setattr(images, "site_at", lambda *_: host.site)
    context = make_context(host.root, product=host.own)
    media_using.serve_added(context)
    assert list(host.served) == [APP]
    host.is_stubborn = True
    host.served.clear()
    media_using.serve_added(context)


# ---- list and verify -----------------------------------------------------------------------------------------


def test_one_that_nobody_noted_is_listed_by_its_unit(host: IsoHost, second: Path) -> None:
    host.add(second)
    for file in host.paths.media_notes_dir.iterdir():
        file.unlink()
    rows = media.rows(host.paths, host.own)
    assert [(row.name, row.version, row.build, row.signed_by) for row in rows] == [
        (OWN, "0.1.0", OWN_BUILD, None),
        ("0.1.0-20261102.bb", "0.1.0", "20261102.bb", None),
    ]
    assert rows[1].size_bytes == second.stat().st_size
    host.mounts.clear()
    for place in host.root.glob("srv/caisson/*/product.json"):
        place.unlink()
    assert [row.build for row in media.rows(host.paths, host.own)] == [OWN_BUILD, "20261102.bb"]


def verify(host: IsoHost, name: str, *, pinned: str = "") -> media.Verified:
    return media.verify(media.find(name, host.paths), host.paths, pinned=pinned, say=host.said.append)


def test_a_whole_one_is_verified(host: IsoHost) -> None:
    found = verify(host, OWN)
    assert (found.files, found.faults, found.notes) == (5, (), ())
    assert host.said[-1].startswith(f"{OWN}: reading the media: 100 %")


def test_each_damaged_file_is_named(host: IsoHost) -> None:
    media_dir = host.paths.media_dir(OWN)
    blob = next(file for file in (media_dir / "oci/blobs/sha256").iterdir() if file.read_bytes() == b"in use")
    blob.write_bytes(b"in usf")
    (media_dir / "oci/index.json").unlink()
    found = verify(host, OWN)
    assert [str(fault).partition(" (")[0] for fault in found.faults] == [
        "missing: oci/index.json",
        f"differs: {blob.relative_to(media_dir)}",
    ]


def test_sums_that_were_written_anew_over_a_changed_file_are_no_proof(host: IsoHost) -> None:
    media_dir = host.paths.media_dir(OWN)
    make_tree(media_dir, {"bootstrap.sh": "evil"})
    found = verify(host, OWN)
    assert [(fault.what, fault.path) for fault in found.faults] == [("differs", "SHA256SUMS")]


def test_a_pinned_signature_that_is_not_there(host: IsoHost) -> None:
    found = verify(host, OWN, pinned="AB" * 20)
    assert [(fault.what, fault.path) for fault in found.faults] == [("missing", "SHA256SUMS.asc")]


def test_sums_that_cannot_be_read(host: IsoHost) -> None:
    (host.paths.media_dir(OWN) / "SHA256SUMS").unlink()
    assert {fault.path for fault in verify(host, OWN).faults} >= {"SHA256SUMS"}


def test_without_a_note_it_says_what_is_not_known(host: IsoHost) -> None:
    for file in host.paths.media_notes_dir.iterdir():
        file.unlink()
    assert "nobody noted" in verify(host, OWN).notes[0]
    write_sums(host.paths.media_dir(OWN))
    assert verify(host, OWN).faults == ()


def test_one_that_is_not_mounted_cannot_be_verified(host: IsoHost) -> None:
    host.mounts.clear()
    with pytest.raises(MediaError, match="nothing is mounted") as caught:
        verify(host, OWN)
    assert caught.value.resolution.startswith("systemctl start")


def test_a_note_that_cannot_be_read_is_told(host: IsoHost) -> None:
    (host.paths.media_notes_dir / f"{OWN}.json").write_text(json.dumps({"title": 1}))
    with pytest.raises(HostError, match="cannot be read"):
        media.known(host.paths)
