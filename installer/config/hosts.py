# SPDX-License-Identifier: Apache-2.0
"""Make the cluster's endpoint, and the host's own name for both address families, known in /etc/hosts.

Salt asks for the IPv6 address of the host's own name at every start (grain ``fqdn_ip6``), and no setting of Salt
turns that off. A name with an IPv4 line only is then asked of the site's nameserver: a query that leaves the host, and
many seconds of waiting where nobody answers. An IPv4-mapped line (RFC 4291, 2.5.5.2) answers it at home and still means
the same IPv4 address. Goes when Salt's grain can be turned off.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

MARK = "# caisson"
LOOPBACK_NAME = re.compile(r"(?:.*\.)?localhost[46]?(?:\.localdomain[46]?)?\Z")
"""As EL writes them, and what RFC 6761 keeps for loopback."""


def with_lines(text: str, address: str, endpoint: str, names: list[str]) -> str:
    r"""Return the text of /etc/hosts with Caisson's two lines at its end. Pure.

    The first resolves the cluster's endpoint, the second maps ``names`` to ``address`` for IPv6 questions. Lines of
    an earlier run are replaced, everything else is kept as it is.

    >>> print(with_lines("10.0.0.1 a\n", "10.0.0.1", "api.x.internal", ["a", "a.example"]), end="")
    10.0.0.1 a
    10.0.0.1 api.x.internal # caisson
    ::ffff:10.0.0.1 a a.example # caisson
    """
    # By line feeds only: str.splitlines() would also cut a comment at other characters.
    kept = [line for line in text.split("\n") if not line.endswith(MARK)]
    while kept and not kept[-1]:
        kept.pop()
    own = [f"{address} {endpoint} {MARK}"]
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
    return choose_names(name, [(entry[3], str(entry[4][0])) for entry in found])


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
