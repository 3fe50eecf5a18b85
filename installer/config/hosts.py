# SPDX-License-Identifier: Apache-2.0
"""Make the cluster's endpoint, and the host's own name for both address families, known in /etc/hosts.

Salt asks for the IPv6 address of the host's own name at every start (grain ``fqdn_ip6``), and no setting of Salt
turns that off. A name with an IPv4 line only is then asked of the site's nameserver: a query that leaves the host, and
many seconds of waiting where nobody answers. An IPv4-mapped line (RFC 4291, 2.5.5.2) answers it at home and still means
the same IPv4 address. Goes when Salt's grain can be turned off.

The file is not Caisson's: cloud-init (``manage_etc_hosts``) and others write it again at each boot. So what belongs
into it is noted beside (``Paths.names_file``), and ``caisson-hosts.service`` puts it back: before the kubelet starts,
and whenever the file changes.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from installer.base import files
from installer.base.errors import HostError
from installer.base.paths import Paths

MARK = "# caisson"
NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})
LOOPBACK_NAME = re.compile(r"(?:.*\.)?localhost[46]?(?:\.localdomain[46]?)?\Z")
"""As EL writes them, and what RFC 6761 keeps for loopback."""
LOCAL_ADDRESS = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
"""An address of this host in the kernel's table of routes. Source: fib_trie_seq_show, net/ipv4/fib_trie.c."""


def with_lines(
    text: str, address: str, endpoint: str, names: list[str], elsewhere: Mapping[str, Sequence[str]] = NOTHING
) -> str:
    r"""Return the text of /etc/hosts with Caisson's lines at its end. Pure.

    The first resolves the cluster's endpoint where that is this host, the last maps ``names`` to ``address`` for IPv6
    questions; between them are names of the cluster that other hosts answer to (``elsewhere``: name -> addresses, in
    the order in which they are tried). Lines of an earlier run are replaced, everything else is kept as it is.

    >>> print(with_lines("10.0.0.1 a\n", "10.0.0.1", "api.x.internal", ["a", "a.example"]), end="")
    10.0.0.1 a
    10.0.0.1 api.x.internal # caisson
    ::ffff:10.0.0.1 a a.example # caisson
    >>> print(with_lines("", "10.0.0.2", "", ["b"], {"api.x.internal": ["10.0.0.1", "10.0.0.3"]}), end="")
    10.0.0.1 api.x.internal # caisson
    10.0.0.3 api.x.internal # caisson
    ::ffff:10.0.0.2 b # caisson
    """
    # By line feeds only: str.splitlines() would also cut a comment at other characters.
    kept = [line for line in text.split("\n") if not line.endswith(MARK)]
    while kept and not kept[-1]:
        kept.pop()
    own = [f"{address} {endpoint} {MARK}"] if endpoint else []
    own += [f"{place} {name} {MARK}" for name, places in elsewhere.items() for place in places]
    if names:
        own.append(f"::ffff:{address} {' '.join(names)} {MARK}")
    return "\n".join([*kept, *own]) + "\n"


def own_names() -> list[str]:
    """Return the host's name and its canonical form in /etc/hosts, each once; asks for IPv4 addresses only."""
    name = socket.gethostname()
    kind, flags = socket.SOCK_STREAM, socket.AI_CANONNAME
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, kind, 0, flags)
    except OSError:
        found = []  # a name that resolves nowhere is a finding of the preflights
    canonical = [(entry[3], str(entry[4][0])) for entry in found]
    return choose_names(name, [entry for entry in canonical if is_own_address(entry[1])])


def is_own_address(address: str, *, root: Path = Path("/")) -> bool:
    """Say whether an IPv4 address is loopback's or one of this host's: a name of any other is another's name."""
    if address.startswith("127."):
        return True
    try:
        table = (root / "proc/net/fib_trie").read_text(encoding="utf-8")
    except OSError:
        return False
    return address in LOCAL_ADDRESS.findall(table)


def choose_names(host_name: str, canonical: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names that may be given this host's address, of its own and (canonical name, address). Pure.

    ``localhost`` is loopback's alone (RFC 6761, 6.3). Another's name on the line of a loopback address is not the
    host's either, as on a line ``127.0.0.1 localhost NAME``.

    >>> choose_names("node1", [("localhost", "127.0.0.1")]), choose_names("localhost.localdomain", [])
    (['node1'], [])
    >>> choose_names("node1", [("node1.example", "127.0.1.1"), ("web.example", "10.0.0.1"), ("", "10.0.0.1")])
    ['node1', 'node1.example', 'web.example']
    """
    label = host_name.partition(".")[0]
    names = [host_name]
    names += [
        name
        for name, address in canonical
        if not address.startswith("127.") or name.partition(".")[0] == label
    ]
    return [name for name in dict.fromkeys(names) if name and not LOOPBACK_NAME.match(name.lower())]


def apply(
    paths: Paths,
    address: str,
    endpoint: str,
    names: Sequence[str],
    elsewhere: Mapping[str, Sequence[str]] = NOTHING,
) -> bool:
    """Note what belongs into /etc/hosts, and put it there; return whether either was otherwise.

    ``endpoint`` is empty on a host that is not the cluster's endpoint: its address is then ``elsewhere``.

    Raises:
        HostError: the host does not let its file be written.
    """
    changed = files.write_file(paths.names_file, _note(address, endpoint, names, elsewhere))
    return _write(paths, address, endpoint, list(names), elsewhere) or changed


def is_applied(
    paths: Paths, address: str, endpoint: str, names: Sequence[str], elsewhere: Mapping[str, Sequence[str]]
) -> bool:
    """Tell whether :func:`apply` would change nothing."""
    try:
        noted = paths.names_file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    text = _read(paths)
    is_there = text == with_lines(text, address, endpoint, list(names), elsewhere)
    return is_there and noted == _note(address, endpoint, names, elsewhere)


def _note(address: str, endpoint: str, names: Sequence[str], elsewhere: Mapping[str, Sequence[str]]) -> str:
    said: dict[str, object] = {"address": address, "endpoint": endpoint, "names": list(names)}
    if elsewhere:
        said["elsewhere"] = {name: list(places) for name, places in elsewhere.items()}
    return json.dumps(said, indent=1) + "\n"


def keep(paths: Paths) -> bool:
    """Put back what was noted, where something took it out of /etc/hosts; return whether it had to.

    No nameserver is asked: at boot there may be none yet. The host's name, and the canonical name that the new text
    gives to this host's address, are added, for Salt asks for that one. A name that was not noted and is not the static
    one (hostname(5)) is a DHCP server's, which could name any host so, and is not added.

    Raises:
        HostError: nothing was noted, or the host does not let its file be written.
    """
    try:
        noted = json.loads(paths.names_file.read_text(encoding="utf-8"))
        address, endpoint, names = str(noted["address"]), str(noted["endpoint"]), list(noted["names"])
        elsewhere = {str(name): _strings(places) for name, places in noted.get("elsewhere", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise HostError(
            f"{paths.names_file} does not say what belongs into /etc/hosts",
            details=f"{type(exc).__name__}: {exc}",
            resolution="run the bootstrap again, or 'caisson node add' for another node: it writes both files",
        ) from exc
    more = _more_names(paths, address, names)
    return _write(paths, address, endpoint, list(dict.fromkeys([*names, *more])), elsewhere)


def _strings(values: object) -> list[str]:
    """Return a list of strings as it is. Raises TypeError for anything else."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of addresses")
    return values


def _more_names(paths: Paths, address: str, noted: Sequence[str]) -> list[str]:
    """Return the names that the host has by now, by its own files."""
    name = socket.gethostname()
    if name not in noted and name != _static_name(paths):
        return []
    canonical = [
        (found, place)
        for found, place in canonical_names(_read(paths), name)
        if place == address or is_own_address(place, root=paths.root)
    ]
    return choose_names(name, canonical)


def _static_name(paths: Paths) -> str:
    """Return the name in /etc/hostname; empty when none is set there. Source: hostname(5)."""
    try:
        text = paths.at("/etc/hostname").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def canonical_names(text: str, host_name: str) -> list[tuple[str, str]]:
    r"""Return canonical name and address of the first IPv4 line of a text of /etc/hosts that has the name. Pure.

    >>> canonical_names("::1 n1 node1\n127.0.0.1 node1.example node1\n10.0.0.1 other node1\n", "node1")
    [('node1.example', '127.0.0.1')]
    """
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        if host_name in words[1:] and ":" not in words[0]:
            return [(words[1], words[0])]
    return []


def _read(paths: Paths) -> str:
    """Return the text of /etc/hosts; a byte in another encoding comes out of :func:`_write` as it went in."""
    try:
        return paths.hosts_file.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _write(
    paths: Paths, address: str, endpoint: str, names: list[str], elsewhere: Mapping[str, Sequence[str]]
) -> bool:
    wanted = with_lines(_read(paths), address, endpoint, names, elsewhere)
    return files.edit_host_file(paths.hosts_file, wanted.encode("utf-8", errors="surrogateescape"))
