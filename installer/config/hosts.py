# SPDX-License-Identifier: Apache-2.0
"""Make the cluster's endpoint, and the host's own name for both address families, known in /etc/hosts.

Salt asks for the IPv6 address of the host's own name at every start (grain ``fqdn_ip6``), and no setting of Salt
turns that off. A name with an IPv4 line only is then asked of the site's nameserver: a query that leaves the host, and
many seconds of waiting where nobody answers. An IPv4-mapped line (RFC 4291, 2.5.5.2) answers it at home and still means
the same IPv4 address. Goes when Salt's grain can be turned off.
"""

from __future__ import annotations

import socket

MARK = "# caisson"


def with_lines(text: str, address: str, endpoint: str, names: list[str]) -> str:
    r"""Return the text of /etc/hosts with Caisson's two lines at its end. Pure.

    The first resolves the cluster's endpoint, the second maps ``names`` to ``address`` for IPv6 questions. Lines of
    an earlier run are replaced, everything else is kept as it is.

    >>> print(with_lines("10.0.0.1 a\n", "10.0.0.1", "api.x.internal", ["a", "a.example"]), end="")
    10.0.0.1 a
    10.0.0.1 api.x.internal # caisson
    ::ffff:10.0.0.1 a a.example # caisson
    """
    kept = [line for line in text.splitlines() if not line.endswith(MARK)]
    own = [f"{address} {endpoint} {MARK}", f"::ffff:{address} {' '.join(names)} {MARK}"]
    return "\n".join([*kept, *own]) + "\n"


def own_names() -> list[str]:
    """Return the host's name and its canonical form in /etc/hosts, each once; asks for IPv4 addresses only."""
    names = [socket.gethostname()]
    try:
        kind, flags = socket.SOCK_STREAM, socket.AI_CANONNAME
        names += [entry[3] for entry in socket.getaddrinfo(names[0], None, socket.AF_INET, kind, 0, flags)]
    except OSError:
        pass  # a name that resolves nowhere is a finding of the preflights
    return [name for name in dict.fromkeys(names) if name]
