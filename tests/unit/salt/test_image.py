# SPDX-License-Identifier: Apache-2.0
"""Images: what is there is known by its digest, and no program that hangs or talks can hold a state up."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

pytestmark = pytest.mark.subprocess
REFERENCE = "registry.example/etcd:3.6"
OLD, NEW, INDEX = ("sha256:" + digit * 64 for digit in "123")
# ctr and crictl over one file of lines "REFERENCE DIGEST LABELS"; a pull takes what the media server has.
CTR = """#!/bin/sh
store="$(dirname "$0")/store"
case "$4" in
  list) echo "REF TYPE DIGEST SIZE PLATFORMS LABELS"
        while read -r reference digest labels; do
          echo "$reference application/vnd.oci $digest 1.5 MiB linux/amd64 $labels"
        done < "$store" ;;
  label) sed -i "s|^$5 \\(sha256:[0-9]*\\) .*|$5 \\1 a=b,$6|" "$store" ;;
esac
"""
CRICTL = """#!/bin/sh
here="$(dirname "$0")"
echo "$4" >> "$here/pulled"
sed -i "\\|^$4 |d" "$here/store"
echo "$4 $(cat "$here/served") -" >> "$here/store"
"""


def program(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is searched first for programs."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, str]:
    """Return an OCI layout with one image whose layer is larger than any pipe, and the digest of its manifest."""
    blobs_dir = tmp_path / "oci" / "blobs" / "sha256"
    blobs_dir.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, str]:
        (blobs_dir / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}

    manifest = {"config": blob(b"{}"), "layers": [blob(bytes(4_000_000))]}
    return tmp_path / "oci", blob(json.dumps(manifest).encode())["digest"]


@pytest.fixture
def state(programs: Path) -> Any:
    """Return the states over a containerd that has the reference, pinned, with an old digest."""
    program(programs, "ctr", CTR)
    program(programs, "crictl", CRICTL)
    (programs / "store").write_text(f"{REFERENCE} {OLD} a=b,io.cri-containerd.pinned=pinned\n")
    (programs / "served").write_text(NEW)
    (programs / "pulled").write_text("")
    module, state = load("caisson_image"), load("caisson_image", STATES_DIR)
    functions = {f"caisson_image.{name}": getattr(module, name) for name in ("present", "pull", "pin")}
    functions["caisson_result.ensure"] = load("caisson_result").ensure
    state.__dict__.update(__salt__=functions, __opts__={"test": False})
    return state


def test_an_image_of_another_iso_of_the_same_version_is_pulled_again(state: Any, programs: Path) -> None:
    said = state.pulled("x", {REFERENCE: [INDEX, NEW]})
    assert said["result"] is True, said
    assert said["changes"] == {REFERENCE: {"old": OLD, "new": INDEX}}
    assert (programs / "store").read_text() == f"{REFERENCE} {NEW} a=b,io.cri-containerd.pinned=pinned\n"
    assert state.pulled("x", {REFERENCE: [INDEX, NEW]})["changes"] == {}
    assert (programs / "pulled").read_text().split() == [REFERENCE]


def test_an_image_that_is_there_is_only_looked_at(state: Any, programs: Path) -> None:
    assert state.pulled("x", {REFERENCE: [OLD]}) == {
        "name": "x",
        "result": True,
        "changes": {},
        "comment": f"{REFERENCE}: pulled and pinned",
    }
    assert (programs / "pulled").read_text() == ""


def test_an_image_that_lost_its_pin_is_pinned_and_not_pulled(state: Any, programs: Path) -> None:
    (programs / "store").write_text(f"{REFERENCE} {NEW} -\n")
    assert state.pulled("x", {REFERENCE: [NEW]})["changes"] == {
        REFERENCE: {"old": "not pinned", "new": "pinned"}
    }
    assert (programs / "pulled").read_text() == ""
    assert state.pulled("x", {REFERENCE: [NEW]})["changes"] == {}


def test_a_media_server_that_gives_another_image_is_told(state: Any, programs: Path) -> None:
    (programs / "served").write_text(OLD)
    said = state.pulled("x", {REFERENCE: [INDEX, NEW]})
    assert said["result"] is False
    assert said["comment"] == f"{REFERENCE} was pulled, and it is {OLD}; the media has {INDEX} or {NEW}"


def test_a_ctr_that_says_more_than_a_pipe_holds(programs: Path, layout: tuple[Path, str]) -> None:
    """It says it while the archive is written into it: whoever reads neither waits for ever."""
    program(
        programs,
        "ctr",
        "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x >&2\ncat >/dev/null\necho no >&2\nexit 1\n",
    )
    with pytest.raises(RuntimeError, match=r"ctr could not import a:1: x+no$"):
        load("caisson_image").import_from_layout("a:1", layout[1], str(layout[0]))


@pytest.mark.parametrize("then", ["exec sleep 60", "cat >/dev/null; exec sleep 60"])
def test_a_ctr_that_hangs(programs: Path, layout: tuple[Path, str], then: str) -> None:
    program(programs, "ctr", f"#!/bin/sh\necho about to >&2\n{then}\n")
    module: Any = load("caisson_image")
    module.IMPORT_TIMEOUT_S = 0.5
    with pytest.raises(RuntimeError, match=r"ctr could not import a:1: no end after 0.5 s; last: about to"):
        module.import_from_layout("a:1", layout[1], str(layout[0]))


def test_a_blob_that_is_not_there(programs: Path, layout: tuple[Path, str]) -> None:
    program(programs, "ctr", "#!/bin/sh\ncat >/dev/null\n")
    next(file for file in (layout[0] / "blobs/sha256").iterdir() if file.stat().st_size > 1e6).unlink()
    with pytest.raises(FileNotFoundError):
        load("caisson_image").import_from_layout("a:1", layout[1], str(layout[0]))


def test_programs_that_are_not_there_hang_or_fail(
    programs: Path, layout: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = load("caisson_image")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(RuntimeError, match="ctr cannot be started"):
        module.present()
    with pytest.raises(RuntimeError, match="ctr cannot be started"):
        module.import_from_layout("a:1", layout[1], str(layout[0]))
    with pytest.raises(RuntimeError, match="a:1: setpriv cannot be started"):
        module.pull(["a:1"])
    (programs / "setpriv").symlink_to("/usr/bin/setpriv")
    with pytest.raises(
        RuntimeError, match=r"a:1: crictl .* pull a:1 failed: setpriv: .*crictl: No such file"
    ):
        module.pull(["a:1"])
    program(programs, "crictl", "#!/bin/sh\nexec /bin/sleep 60\n")
    module.PULL_TIMEOUT_S = -9.5
    with pytest.raises(RuntimeError, match=r"a:1: crictl .* no answer after 0.5 s"):
        module.pull(["a:1"])
    program(programs, "crictl", '#!/bin/sh\necho "$4: not there" >&2\nexit 1\n')
    with pytest.raises(RuntimeError, match=r"(?s)a:1: .*a:1: not there.*\nb:2: .*b:2: not there"):
        module.pull(["b:2", "a:1"])


@pytest.mark.parametrize(("gives_up_s", "tried"), [(0.2, 1), (60.0, 3)])
def test_a_pull_that_hangs_keeps_those_behind_it_from_waiting_as_long(
    programs: Path, gives_up_s: float, tried: int
) -> None:
    """Six images, each of which would hang for its whole time, three by three: the run would say nothing for long."""
    program(programs, "crictl", f'#!/bin/sh\necho "$4" >> {programs}/tried\nexec /bin/sleep 60\n')
    module: Any = load("caisson_image")
    module.PULL_TIMEOUT_S, module.GIVE_UP_S = -9.5, gives_up_s
    with pytest.raises(RuntimeError) as caught:
        module.pull(["a:1", "b:2", "c:3"], parallel=1)
    lines = str(caught.value).splitlines()
    assert (programs / "tried").read_text().split() == ["a:1", "b:2", "c:3"][:tried]
    assert lines[0] == "a:1: crictl --timeout -9.5s pull a:1: no answer after 0.5 s"
    assert [line for line in lines if line.endswith("not tried, as the pull of another hung")] == lines[
        tried:
    ]
