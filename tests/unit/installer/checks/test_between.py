# SPDX-License-Identifier: Apache-2.0
"""Every check between hosts: hosts on which it is silent, and those of which it says exactly this."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from installer.base.errors import (
    CommandError,
    HostError,
    HostKeyError,
    InstallerError,
    LoginError,
    ReachError,
)
from installer.checks import CHECKS
from installer.checks.between import FLEET_CHECKS, Clock, Fleet, FleetCheck, Path, Seen, Tried
from installer.checks.preflight import Severity
from installer.config.ports import Port

KUBELET = Port("kubelet", 10250, "tcp", "control_plane", "kubelet", source="control_plane")


def seen(number: int, **changes: Any) -> Seen:
    identity = {
        "name": f"node{number}",
        "machine_id": f"{number:032x}",
        "product_uuid": f"4c4c4544-0042-3510-8052-{number:012d}",
        "addresses": [f"10.0.0.{number}", f"10.1.0.{number}"],
        "hardware_addresses": [f"52:54:00:00:00:0{number}"],
    }
    known = {key: changes.pop(key) for key in list(changes) if key in identity}
    host = Seen(
        f"host{number}",
        "worker",
        identity={**identity, **known},
        clock=Clock(0.01, 0.02),
        is_member=number == 1,
    )
    return replace(host, **changes)


def said(code: str, fleet: Fleet) -> list[tuple[str, str]]:
    check = next(check for check in FLEET_CHECKS if check.id == code)
    return [(title, finding.evidence) for title, finding in check.run(fleet)]


def fixes(code: str, fleet: Fleet) -> list[str]:
    check = next(check for check in FLEET_CHECKS if check.id == code)
    return [finding.fix or check.fix for _, finding in check.run(fleet)]


@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.id)
def test_silent_where_all_is_well(check: FleetCheck) -> None:
    tried = (Tried("host1", "host2", KUBELET, "10.0.0.2", "open"),)
    paths = (Path("host1", "host2", 1500, 1500),)
    members = {"node1": f"{1:032x}", "node2": f"{2:032x}", "node8": "", "node9": "ab"}
    fleet = Fleet((seen(1), seen(2), seen(3)), tried, paths, members)
    assert list(check.run(fleet)) == []
    assert check.fix
    assert check.why


def test_codes_are_unique_in_order_and_have_a_scenario() -> None:
    codes = [check.id for check in FLEET_CHECKS]
    assert codes == sorted(set(codes))
    assert not {check.id for check in CHECKS} & set(codes)
    text = FilePath(__file__).read_text(encoding="utf-8")
    assert [code for code in codes if f"def test_{code.lower()}_" not in text] == []


def errors(error: InstallerError) -> Fleet:
    return Fleet((seen(1), replace(seen(2), error=error, identity={}, clock=None)))


def test_csn601_reach() -> None:
    error = ReachError("nobody listens on 10.0.0.2 port 22", details="it refused", resolution="start sshd")
    assert said("CSN601", errors(error)) == [("host2", "nobody listens on 10.0.0.2 port 22; it refused")]
    assert all(said(code, errors(error)) == [] for code in ("CSN602", "CSN603", "CSN604"))


def test_csn602_host_key() -> None:
    assert said("CSN602", errors(HostKeyError("another key"))) == [("host2", "another key")]


def test_csn603_login() -> None:
    error = LoginError("refuses", details="| Permission denied")
    assert said("CSN603", errors(error)) == [("host2", "refuses; Permission denied")]


@pytest.mark.parametrize("error", [HostError("no Python"), CommandError("no Python")])
def test_csn604_python(error: InstallerError) -> None:
    assert said("CSN604", errors(error)) == [("host2", "no Python")]
    assert all(said(code, errors(error)) == [] for code in ("CSN601", "CSN602", "CSN603"))


def test_csn605_configuration() -> None:
    fleet = Fleet((seen(1), seen(2, faults=("no address in 10.9.0.0/24",))))
    assert said("CSN605", fleet) == [("host2", "no address in 10.9.0.0/24")]


def test_csn611_names() -> None:
    hosts = (seen(1), seen(2, name="node1"), seen(3, name="node9"), seen(4, name="node8"), seen(5))
    members = {"node1": f"{1:032x}", "node9": "ab", "node8": "", "node5": f"{5:032x}"}
    assert said("CSN611", Fleet(hosts, members=members)) == [
        ("host2", "'node1' is the name of host1, too"),
        ("host3", "the cluster has a node 'node9' already, which is another host"),
        ("host4", "the cluster has a node 'node8' already, which is another host"),
    ]


def test_csn611_a_node_whose_host_was_installed_again() -> None:
    """By its name it is another host; who only needs another name is not told to remove a node."""
    fleet = Fleet((seen(1), seen(2, name="worker1"), seen(3, name="node1")), members={"worker1": "ab"})
    host3, host2 = fixes("CSN611", fleet)
    assert "caisson node remove worker1 --dead, then this command; else another --name" in host2
    assert "remove" not in host3


def test_csn612_a_node_whose_host_name_is_another_now() -> None:
    """It is at the address that it was told: it carries pods, and another machine id would break it."""
    members, told = {"node1": f"{1:032x}", "worker1": f"{2:032x}"}, {"worker1": "10.0.0.2"}
    at_it = replace(seen(2, name="new"), address="10.0.0.2")
    fleet = Fleet((seen(1), at_it), members=members, told=told)
    assert said("CSN612", fleet) == [("host2", "this is worker1, whose host name is now new")]
    assert fixes("CSN612", fleet) == ["give --name worker1"]
    # That it has the address says the host itself: that is not taken for sure, and its id is left alone.
    fleet = replace(fleet, hosts=(seen(1), replace(at_it, address="192.0.2.9")))
    assert said("CSN612", fleet) == [("host2", f"{2:032x} is that of the node 'worker1', too")]
    assert fixes("CSN612", fleet) == ["if it is worker1 under another host name: give --name worker1"]
    # A copy of its disk is at another address.
    fleet = replace(fleet, told={"worker1": "10.0.0.8"})
    assert "of a copy of its disk, there: rm /etc/machine-id" in fixes("CSN612", fleet)[0]
    assert "give --name worker1" in fixes("CSN612", fleet)[0]


def test_csn612_no_node_at_work_gets_another_id() -> None:
    """Of two hosts with one id the node is not the one to be changed, wherever it stands in the list."""
    copy, node = seen(2), seen(3, machine_id=f"{2:032x}", name="worker1")
    for hosts in ((seen(1), copy, node), (seen(1), node, copy)):
        fleet = Fleet(hosts, told={"worker1": "10.0.0.3"})
        assert said("CSN612", fleet) == [("host2", f"{2:032x} is that of host3, too")]
        assert fixes("CSN612", fleet) == ["there: rm /etc/machine-id; systemd-machine-id-setup; reboot"]
    both = Fleet((seen(1), copy, node), told={"worker1": "10.0.0.3", "worker2": "10.0.0.2"})
    assert [title for title, _ in said("CSN612", both)] == ["host3"]
    with_this = Fleet((seen(1), seen(2, machine_id=f"{1:032x}")), told={"worker2": "10.0.0.2"})
    assert [title for title, _ in said("CSN612", with_this)] == ["host2"]
    for fleet in (both, with_this):
        assert "rm /etc/machine-id" not in fixes("CSN612", fleet)[0]
        assert "caisson node remove" in fixes("CSN612", fleet)[0]


def test_csn612_machine_id() -> None:
    fleet = Fleet((seen(1), seen(2), seen(3, machine_id=f"{2:032x}")))
    assert said("CSN612", fleet) == [("host3", f"{2:032x} is that of host2, too")]
    # The clone of a node that nobody looks at; and a node that is added once more.
    fleet = Fleet(
        (seen(1), seen(2), seen(3)), members={"node8": f"{2:032x}", "node3": f"{3:032x}", "node7": ""}
    )
    assert said("CSN612", fleet) == [("host2", f"{2:032x} is that of the node 'node8', too")]


def test_csn613_product_uuid() -> None:
    uuid = "4c4c4544-0042-3510-8052-b4c04f4d3732"
    fleet = Fleet((seen(1, product_uuid=uuid), seen(2, product_uuid=uuid)))
    assert said("CSN613", fleet) == [("host2", f"{uuid} is that of host1, too")]
    for bogus in (
        "",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    ):
        assert said("CSN613", Fleet((seen(1, product_uuid=bogus), seen(2, product_uuid=bogus)))) == []


def test_csn614_addresses() -> None:
    fleet = Fleet(
        (
            seen(1),
            seen(2, addresses=["10.0.0.2", "10.1.0.1"]),
            seen(3, hardware_addresses=["52:54:00:00:00:01"]),
        )
    )
    assert said("CSN614", fleet) == [
        ("host2", "10.1.0.1 is an address of host1, too"),
        ("host3", "52:54:00:00:00:01 is an address of host1, too"),
    ]


@pytest.mark.parametrize(
    ("clock", "expected", "severity"),
    [
        (Clock(0.4, 0.05), [], None),
        (Clock(-0.5, 0.0), [], None),
        (Clock(2.0, 0.1), ["the clock is 2.00 s before this host's (give or take 0.10 s)"], None),
        (Clock(-60.0, 0.1), ["the clock is 60.00 s behind this host's (give or take 0.10 s)"], None),
        (
            Clock(0.45, 0.2),
            ["the clock seems 0.45 s before this host's, but the way there takes 0.40 s: it cannot be told"],
            Severity.WARNING,
        ),
    ],
)
def test_csn615_clocks(clock: Clock, expected: list[str], severity: Severity | None) -> None:
    fleet = Fleet((seen(1), seen(2, clock=clock)))
    assert said("CSN615", fleet) == [("host2", text) for text in expected]
    check = next(check for check in FLEET_CHECKS if check.id == "CSN615")
    assert all(finding.severity is severity for _, finding in check.run(fleet))


def test_csn616_ports() -> None:
    hosts = (seen(1), seen(2), seen(3))
    tried = (
        Tried("host1", "host2", KUBELET, "10.0.0.2", "silent"),
        Tried("host2", "host1", KUBELET, "10.0.0.1", "refused"),
        Tried("host2", "host3", KUBELET, "10.0.0.3", "no way"),
    )
    found = said("CSN616", Fleet(hosts, tried))
    # Of two newcomers it is the one with which more is wrong; with as much it is the target.
    assert [title for title, _ in found] == ["host2", "host2", "host2"]
    assert [title for title, _ in said("CSN616", Fleet(hosts, tried[2:]))] == ["host3"]
    blocked = [Tried(source, "host3", KUBELET, "10.0.0.3", "silent") for source in ("host1", "host2")]
    assert [title for title, _ in said("CSN616", Fleet(hosts, tuple(blocked)))] == ["host3", "host3"]
    assert found[0][1] == (
        "tcp 10.0.0.2:10250 (kubelet) of host2 is not reached from host1: nothing comes back: a packet filter drops it"
    )


def test_csn617_mtu() -> None:
    hosts = (seen(1), seen(2), seen(3))
    paths = (
        Path("host1", "host2", 1500, 1450),
        Path("host2", "host1", 9000, 1500),
        Path("host2", "host3", 1500, 0),
    )
    assert said("CSN617", Fleet(hosts, paths=paths)) == [
        ("host2", "packets up to 1450 bytes pass from host1, the interface's MTU is 1500"),
        ("host2", "packets up to 1500 bytes pass to host1, the interface's MTU is 9000"),
        ("host2", "the way to host3 cannot be measured: no echo comes back (ICMP)"),
    ]
