# SPDX-License-Identifier: Apache-2.0
"""Who has an address is asked in a network of the test's own: by ARP, and answered by its kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from installer.checks import neighbours

pytestmark = pytest.mark.subprocess
APART = ("unshare", "--user", "--map-root-user", "--net", "--")
SCENE = """
set -eu
ip link add one type veth peer name two
ip link set one up
unshare --net sleep 20 &
sleep 0.5
ip link set two netns $!
nsenter --net --target $! -- sh -c 'ip address add 10.0.0.9/24 dev two; ip link set two up'
sleep 0.5
exec {python} -c 'from installer.checks import neighbours
print(neighbours.find_owner("10.0.0.9", "one") != "", neighbours.find_owner("10.0.0.8", "one") == "")'
"""


def test_only_an_address_that_somebody_has_is_answered() -> None:
    script = SCENE.replace("{python}", sys.executable)
    done = subprocess.run(
        [*APART, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("True True", 0), done.stderr


@pytest.mark.parametrize("frame", [b"", b"\x00" * 41, b"\xff" * 100])
def test_another_frame_says_nothing(frame: bytes) -> None:
    assert neighbours.owner(frame, "10.0.0.9") == ""


def test_a_question_is_no_answer() -> None:
    assert neighbours.owner(neighbours.request(b"\x02abcde", "10.0.0.9"), "10.0.0.9") == ""


def test_an_answer_is_read() -> None:
    answer = (
        bytes(12) + b"\x08\x06" + bytes.fromhex("00010800060400020261626364650a0000090000000000000a00000b")
    )
    assert neighbours.owner(answer, "10.0.0.9") == "02:61:62:63:64:65"
    assert neighbours.owner(answer, "10.0.0.8") == ""
