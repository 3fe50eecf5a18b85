# SPDX-License-Identifier: Apache-2.0
"""The two lines of /etc/hosts: whose names they hold, and that all else stays as it is, to the byte."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.cli import main
from installer.config import bootstrap as config
from installer.config import hosts
from installer.operations import cluster
from tests.unit.installer.helpers import CONFIG_TEXT, make_context


@pytest.mark.parametrize(
    ("host_name", "canonical", "names"),
    [
        ("node1", [("localhost", "127.0.0.1")], ["node1"]),
        ("localhost.localdomain", [("localhost", "127.0.0.1")], []),
        ("localhost", [("localhost4.localdomain4", "127.0.0.1")], []),
        ("node1", [("loghost", "127.0.0.1")], ["node1"]),
        ("node1", [("node1.example", "127.0.1.1")], ["node1", "node1.example"]),
        ("node1", [("web.example", "10.77.1.11")], ["node1", "web.example"]),
    ],
)
def test_only_the_host_s_own_names(
    host_name: str, canonical: list[tuple[str, str]], names: list[str]
) -> None:
    assert hosts.choose_names(host_name, canonical) == names


def test_without_a_name_there_is_one_line() -> None:
    assert hosts.with_lines("127.0.0.1 localhost\n", "10.0.0.1", "api.x.internal", []) == (
        "127.0.0.1 localhost\n10.0.0.1 api.x.internal # caisson\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"127.0.0.1 localhost\n# B\xfcro S\xfcd\n10.77.1.11 node1\n",
        b"127.0.0.1 localhost\r\n10.77.1.11 node1\r\n",
        "127.0.0.1 localhost\n# one\u2028line\n".encode(),
        b"",
    ],
)
def test_all_else_stays_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(hosts, "own_names", lambda: ["node1"])
    context = make_context(tmp_path)
    file = tmp_path / "etc/hosts"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    own = b"10.77.1.11 api.lab.internal # caisson\n::ffff:10.77.1.11 node1 # caisson\n"
    assert cluster._answer_names(context) is True
    assert file.read_bytes() == content + own
    assert cluster._answer_names(context) is False


def test_the_name_leads_to_the_virtual_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept so, too, when something writes the file again; and back to the node when the site gives the address up."""
    monkeypatch.setattr(hosts, "own_names", lambda: ["node1"])
    text = CONFIG_TEXT.replace("10.77.1.0/24]", "10.77.1.0/24], vip: 10.77.1.100", 1)
    context = make_context(tmp_path, config=config.parse(text))
    file = tmp_path / "etc/hosts"
    file.parent.mkdir(exist_ok=True)
    assert cluster._answer_names(context) is True
    expected = "10.77.1.100 api.lab.internal # caisson\n::ffff:10.77.1.11 node1 # caisson\n"
    assert file.read_text() == expected
    assert cluster._answer_names(context) is False
    file.write_text("")
    assert hosts.keep(context.paths) is True
    assert file.read_text() == expected
    assert cluster._answer_names(make_context(tmp_path)) is True
    assert file.read_text() == "10.77.1.11 api.lab.internal # caisson\n::ffff:10.77.1.11 node1 # caisson\n"


OWN = "10.77.1.11 api.lab.internal # caisson\n::ffff:10.77.1.11 node1 # caisson\n"
CLOUD = (
    "# manage_etc_hosts\n127.0.0.1 node1.novalocal node1\n127.0.0.1 localhost\n::1 node1.novalocal node1\n"
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Return a host called node1 whose two lines were written."""
    monkeypatch.setattr(socket, "gethostname", lambda: "node1")
    paths = Paths(tmp_path)
    paths.hosts_file.parent.mkdir()
    paths.hosts_file.write_text("127.0.0.1 localhost\n")
    assert hosts.apply(paths, "10.77.1.11", "api.lab.internal", ["node1"])
    assert not hosts.apply(paths, "10.77.1.11", "api.lab.internal", ["node1"])
    assert paths.hosts_file.read_text() == "127.0.0.1 localhost\n" + OWN
    return paths


def test_nothing_is_put_back_where_nothing_is_missing(paths: Paths) -> None:
    assert not hosts.keep(paths)


@pytest.mark.parametrize("text", ["", "127.0.0.1 localhost\n", "10.0.0.9 api.lab.internal # caisson\n"])
def test_what_was_taken_is_put_back(paths: Paths, text: str) -> None:
    paths.hosts_file.write_text(text)
    assert hosts.keep(paths)
    kept = text if "# caisson" not in text else ""
    assert paths.hosts_file.read_text() == kept + OWN
    assert not hosts.keep(paths)


def test_a_file_that_is_gone_is_made(paths: Paths) -> None:
    paths.hosts_file.unlink()
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == OWN
    assert paths.hosts_file.stat().st_mode & 0o7777 == 0o644


def test_a_name_that_cloud_init_gives_is_added_without_asking_anybody(paths: Paths) -> None:
    """Salt asks for the canonical name's IPv6 address at its start: a nameserver would be asked."""
    paths.hosts_file.write_text(CLOUD)
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == CLOUD + OWN.replace("11 node1 #", "11 node1 node1.novalocal #")
    assert not hosts.keep(paths)


ELSEWHERE = {"api.lab.internal": ["10.77.1.11", "10.77.1.13"], "media.lab.internal": ["10.77.1.11"]}
OF_A_NODE = (
    "10.77.1.11 api.lab.internal # caisson\n10.77.1.13 api.lab.internal # caisson\n"
    "10.77.1.11 media.lab.internal # caisson\n"
    "::ffff:10.77.1.12 node2 # caisson\n"
)


def test_another_node_finds_the_cluster_elsewhere_and_itself_here(paths: Paths) -> None:
    """At each boot too: what was noted is put back with all of its lines."""
    paths.hosts_file.write_text("127.0.0.1 localhost\n")
    assert hosts.apply(paths, "10.77.1.12", "", ["node2"], ELSEWHERE)
    assert paths.hosts_file.read_text() == "127.0.0.1 localhost\n" + OF_A_NODE
    assert not hosts.apply(paths, "10.77.1.12", "", ["node2"], ELSEWHERE)
    assert hosts.is_applied(paths, "10.77.1.12", "", ["node2"], ELSEWHERE)
    assert not hosts.is_applied(paths, "10.77.1.12", "", ["node2"], {})
    paths.hosts_file.write_text("127.0.0.1 localhost\n10.9.9.9 api.lab.internal # caisson\n")
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == "127.0.0.1 localhost\n" + OF_A_NODE
    assert not hosts.keep(paths)
    paths.hosts_file.write_text("")
    assert not hosts.is_applied(paths, "10.77.1.12", "", ["node2"], ELSEWHERE)


@pytest.mark.parametrize("places", ["10.77.1.11", [7], {}])
def test_a_note_of_another_shape_is_said(paths: Paths, places: object) -> None:
    noted = {"address": "10.77.1.12", "endpoint": "", "names": [], "elsewhere": {"api.lab.internal": places}}
    paths.names_file.parent.mkdir(parents=True, exist_ok=True)
    paths.names_file.write_text(json.dumps(noted))
    with pytest.raises(HostError, match="does not say what belongs"):
        hosts.keep(paths)


@pytest.mark.parametrize("static", [None, "", "# set by hand\n\nnode1\n"])
def test_a_name_that_a_dhcp_server_gave_is_not_added(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, static: str | None
) -> None:
    """Without a static name the kernel's is what the server said, which could be another host's, or a site's."""
    if static is not None:
        paths.at("/etc/hostname").write_text(static)
    monkeypatch.setattr(socket, "gethostname", lambda: "vault.example")
    paths.hosts_file.write_text("127.0.1.1 bank.example vault.example\n")
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == "127.0.1.1 bank.example vault.example\n" + OWN


def test_a_new_static_name_is_added(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.at("/etc/hostname").write_text("# by hand\nrenamed\n")
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == "127.0.0.1 localhost\n" + OWN.replace(
        "11 node1 #", "11 node1 renamed #"
    )


FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.9.9.9
        /32 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.88.0.7
        /32 host LOCAL
     |-- 10.88.0.255
        /32 link BROADCAST
"""


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("10.9.9.9 bank.example node1", ""),
        ("10.88.0.255 bank.example node1", ""),
        ("10.77.1.11 node1.plant node1", " node1.plant"),
        ("10.88.0.7 node1.plant node1", " node1.plant"),
        ("127.0.1.1 node1.plant node1", " node1.plant"),
    ],
)
def test_a_canonical_name_is_taken_from_a_line_of_this_host_only(paths: Paths, line: str, added: str) -> None:
    table = paths.at("/proc/net/fib_trie")
    table.parent.mkdir(parents=True)
    table.write_text(FIB_TRIE)
    paths.hosts_file.write_text(line + "\n")
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text() == f"{line}\n" + OWN.replace("11 node1 #", f"11 node1{added} #")


def test_lines_as_cloud_init_writes_them_again_are_found(paths: Paths) -> None:
    """``manage_etc_hosts: localhost`` reads every line and writes it with tabs, its comment at the last word."""
    paths.hosts_file.write_text("127.0.1.1\tnode1.novalocal\tnode1\n10.77.1.11\tapi.lab.internal# caisson\n")
    assert hosts.keep(paths)
    assert paths.hosts_file.read_text().count("api.lab.internal") == 1


@pytest.mark.parametrize(
    "noted",
    [
        None,
        "",
        "{}",
        '{"address": "10.0.0.1", "endpoint": "api", "names": 3}',
        '{"address": "a", "endpoint": "b", "names": [], "elsewhere": 3}',
    ],
)
def test_without_a_note_it_says_what_to_do(paths: Paths, noted: str | None) -> None:
    if noted is None:
        paths.names_file.unlink()
    else:
        paths.names_file.write_text(noted)
    with pytest.raises(HostError, match=r"hosts\.json does not say"):
        hosts.keep(paths)


def test_the_command_puts_them_back(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    paths.hosts_file.write_text("127.0.0.1 localhost\n")
    assert main.main(["hosts"], paths=paths) == 0
    assert "are again" in capsys.readouterr().out
    assert paths.hosts_file.read_text() == "127.0.0.1 localhost\n" + OWN
    assert main.main(["hosts"], paths=paths) == 0
    assert capsys.readouterr().out == ""
