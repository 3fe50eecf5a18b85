# SPDX-License-Identifier: Apache-2.0
"""``caisson node check`` on a bootstrap node: a fit host, one with every fault, and what is left on them: nothing.

node2 is logged in to with a password and becomes root by sudo with that; node3 by a key. node1 boots from a kept disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node
from lab.run import run
from tests.node.installing import lab_iso, shell

pytestmark = pytest.mark.lab

PASSWORD = "correct horse' 1"
PYTHON = "/usr/libexec/platform-python"
ADMIN = ("password of admin", PASSWORD)
WRONG_KEY = "SHA256:" + "A" * 43
FILTER = """
table inet bad {
    chain input { type filter hook input priority -300; tcp dport 10250 drop; udp dport 4789 drop; }
}
"""
#: A clock that is two seconds ahead, for every program: a container has that of its machine.
AHEAD = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += 2;
    return (int)failed;
}
"""
#: Somebody at a terminal: starts a command on one, and types each answer when its question is there.
TYPIST = """
import json, os, pty, sys, time
request = json.loads(sys.stdin.read())
child, terminal = pty.fork()
if child == 0:
    os.execvp("sh", ["sh", "-c", request["command"]])
shown = b""
for question, answer in request["answers"]:
    while question.encode() not in shown:
        shown += os.read(terminal, 4096)
    shown = b""
    time.sleep(0.3)  # getpass throws away what is typed before it asks
    os.write(terminal, answer.encode() + b"\\n")
try:
    while os.read(terminal, 4096):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
#: All that a host holds: of files when they were changed; what is told to firewalld; what runs out of memory.
#: Left out is what sshd, sudo and the journal note of a login, and what rpm's database touches when it is read.
LISTING = (
    "find / -xdev -not -path '/var/log/*' -not -path '/var/lib/sudo/*' -not -path '/var/lib/systemd/*' "
    "-not -path '/var/*/systemd-private-*' -not -name .sudo_as_admin_successful -not -path '*/rpmdb.sqlite-*' "
    "\\( -type d -printf '%p %m %U:%G\\n' -o "
    "-printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' \\) | sort; find /run /dev/shm -name '*caisson*'; "
    "firewall-cmd --list-all-zones; firewall-cmd --list-all-policies; pgrep -fa 'm[e]mfd' || true"
)


@dataclass(frozen=True)
class Site:
    """A cluster of one node, and two hosts that are to join it; ``keys``: their fingerprints."""

    lab: Lab
    driver: Node
    fit: Node
    unfit: Node
    keys: dict[str, str]

    def entry(self, node: Node, **more: str) -> dict[str, Any]:
        """Return how a list of hosts names a node."""
        login = {"user": "admin"} if node is self.fit else {"identity": "/root/id"}
        given = {"address": node.control_plane_address, "name": node.name, "hostKey": self.keys[node.name]}
        return {**given, **login, **more}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a lab of this module's own; at its end nothing of it is left."""
    with Lab() as lab:
        driver = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        driver.write_file("/root/typist.py", TYPIST)
        public = driver.read_file("/root/id.pub")
        fit, unfit = lab.start_node("node2"), lab.start_node("node3")
        keys = {
            "node2": fit.authorize(public, user="admin", password=PASSWORD, sudoers="ALL=(ALL) ALL"),
            "node3": unfit.authorize(public),
        }
        fit.authorize(public)
        _spoil(lab, unfit, machine_id=fit.read_file("/etc/machine-id"), scratch=tmp_path_factory.mktemp("c"))
        lab.switch.reset()
        yield Site(lab, driver, fit, unfit, keys)
    assert cleanup.leftovers(lab.name) == []


def _spoil(lab: Lab, node: Node, *, machine_id: str, scratch: Path) -> None:
    """Give a node the machine-id of another, a filter that nobody told of, a narrow way, and a wrong clock."""
    node.write_file("/etc/machine-id", machine_id)
    node.run(["nft", "-f", "-"], input_text=FILTER, timeout_s=60)
    run(["ip", "-n", lab.switch.places.switch_netns, "link", "set", f"work{node.number}", "mtu", "1400"])
    (scratch / "ahead.c").write_text(AHEAD)
    run(["gcc", "-shared", "-fPIC", "-O2", "-o", scratch / "ahead.so", scratch / "ahead.c"])
    node.copy_in(scratch / "ahead.so", "/usr/lib/ahead.so", 0o755)
    node.write_file("/etc/ld.so.preload", "/usr/lib/ahead.so\n")


def check(
    site: Site, *entries: dict[str, Any], answers: Sequence[tuple[str, str]] = ()
) -> tuple[int, str, dict[str, Any]]:
    """Check a list of hosts, as text and then as JSON; return the exit code, the text and the data."""
    text = json.dumps({"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": entries})  # JSON is YAML
    site.driver.write_file("/root/nodes.yaml", text)
    command = "caisson node check --file /root/nodes.yaml"
    script = f"{command} >/root/text.out; {command} --json >/root/json.out"
    request = {"command": script, "answers": answers}
    code = site.driver.run(
        [PYTHON, "/root/typist.py"], input_text=json.dumps(request), timeout_s=400, check=False
    ).returncode
    shown, data = site.driver.read_file("/root/text.out"), json.loads(site.driver.read_file("/root/json.out"))
    print(shown)
    return code, shown, data


def failed(data: dict[str, Any], name: str) -> dict[str, list[str]]:
    """Return code -> what was found, of what stops a host."""
    codes: dict[str, list[str]] = {}
    for host in data["hosts"]:
        for finding in host["findings"] if host["host"].startswith(name) else ():
            if finding["status"] == "failed":
                codes.setdefault(finding["id"], []).append(finding["evidence"])
    return codes


def test_one_is_fit_the_other_has_every_fault_and_nothing_is_left(site: Site) -> None:
    before = {node.name: set(shell(node, LISTING).splitlines()) for node in (site.fit, site.unfit)}
    code, shown, data = check(site, site.entry(site.fit), site.entry(site.unfit), answers=[ADMIN, ADMIN])
    assert [host["fit"] for host in data["hosts"]] == [True, False], shown
    assert (code, data["exit_code"]) == (4, 4)
    assert failed(data, "node2") == {}
    faults = failed(data, "node3")
    assert sorted(faults) == ["CSN612", "CSN615", "CSN616", "CSN617"]
    assert "is that of node2" in faults["CSN612"][0]
    said = re.match(r"the clock is ([\d.]+) s (before|after) this host's", faults["CSN615"][0])
    assert said, faults["CSN615"]
    assert abs(float(said[1]) - 2) < 0.5, faults["CSN615"]
    assert any(":10250 (kubelet)" in text for text in faults["CSN616"])
    # A bridge lets a VLAN's four bytes pass, too.
    assert any("packets up to 1404 bytes pass" in text for text in faults["CSN617"])
    lines = shown.splitlines()
    assert sum(line.startswith("HOST ") for line in lines) == 1
    assert "not fit: node3 (10.77.1.13); nothing was changed there" in lines[-1]
    for node in (site.fit, site.unfit):
        assert sorted(set(shell(node, LISTING).splitlines()) ^ before[node.name]) == []
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert PASSWORD not in shell(site.driver, "cat /var/log/caisson/*; ls -R /run/caisson-ssh")


def test_one_host_by_options_is_confirmed_on_the_terminal(site: Site) -> None:
    shell(site.driver, "rm -f /var/lib/caisson/known_hosts")
    options = "--name node2 --user admin --role control-plane"
    script = f"caisson node check {site.fit.control_plane_address} {options} >/root/text.out"
    answers = [("same (yes, no", site.keys["node2"]), ADMIN]
    request = json.dumps({"command": script, "answers": answers})
    code = site.driver.run(
        [PYTHON, "/root/typist.py"], input_text=request, timeout_s=200, check=False
    ).returncode
    shown = site.driver.read_file("/root/text.out")
    assert code == 0, shown
    assert "1 host in" in shown
    assert "fit to become a node" in shown


def test_with_another_key_nothing_is_sent_and_the_others_are_seen(site: Site) -> None:
    before = logins(site.unfit)
    wrong = site.entry(site.unfit, hostKey=WRONG_KEY)
    code, _, data = check(site, site.entry(site.fit), wrong, answers=[ADMIN, ADMIN])
    assert (code, data["exit_code"]) == (15, 15)
    faults = failed(data, "node3")
    assert list(faults) == ["CSN602"]
    assert WRONG_KEY in faults["CSN602"][0]
    assert site.keys["node3"] in faults["CSN602"][0]
    assert data["hosts"][0]["fit"]
    assert logins(site.unfit) == before


def logins(node: Node) -> list[str]:
    """Return what sshd says of logins, those that worked and those that did not."""
    said = node.run(["journalctl", "-u", "ssh.service", "-o", "cat"], timeout_s=60).stdout
    return [line for line in said.splitlines() if line.startswith(("Accepted", "Failed", "Invalid"))]


def test_one_host_that_is_named_twice(site: Site) -> None:
    """Under another address, and with the name of a node that the cluster has."""
    once = site.entry(site.fit, user="root", identity="/root/id")
    twice = {"address": site.fit.workload_plane_address, "name": "node1", "identity": "/root/id"}
    code, _, data = check(site, once, twice, answers=[("same (yes, no", site.keys["node2"])])
    assert code == 4
    assert data["hosts"][0]["fit"]
    assert {"CSN611", "CSN612", "CSN614"} <= set(failed(data, "node1"))


def test_a_user_who_is_not_let_in_and_a_host_that_is_off_are_a_row_each(site: Site) -> None:
    site.unfit.stop()
    stranger = {**site.entry(site.fit), "user": "nobody", "identity": "/root/id"}
    code, _, data = check(site, stranger, site.entry(site.unfit))
    assert list(failed(data, "node2")) == ["CSN603"]
    assert list(failed(data, "node3")) == ["CSN601"]
    assert (code, data["exit_code"]) == (16, 16)
