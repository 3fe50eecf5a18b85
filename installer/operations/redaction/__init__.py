# SPDX-License-Identifier: Apache-2.0
"""Take what must stay on a host out of a text: private keys, tokens, passwords, as they stand in logs and files.

What has a form is read by it (documents.py); all else is looked at line by line (keys.py, lines.py), each once: 2 MiB
of any text take less than two seconds. In doubt something is taken out.
"""

from __future__ import annotations

import re

from installer.operations.redaction.keys import REMOVED, without_keys
from installer.operations.redaction.lines import without_values

LINE_LIMIT = 4096
"""Of each line the first so many characters are kept."""
CUT = "[CUT]"
_PORT = re.compile(r"[\w.-]+:\d{1,5}/")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # JSON in base64: JSON Web Tokens of service accounts and OpenID, log-ins of registries.
    (re.compile(r"\beyJ[\w+/=-]{8,}(?:\.[\w-]*){0,4}"), REMOVED),
    # kubeadm's bootstrap tokens. Source: kubernetes, cluster-bootstrap/token/api, BootstrapTokenPattern.
    (re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"), REMOVED),
    # Tokens that say by their beginning what they are: GitHub, GitLab, Vault, Slack, AWS.
    (re.compile(r"\b(?:gh[opsur]_|github_pat_|glpat-|hv[sb]\.|xox[abeprs]-|AKIA)[\w.-]{10,}"), REMOVED),
    (re.compile(r"(?i)\b(bearer|basic) {1,9}[A-Za-z0-9+/=._~-]{6,}"), rf"\1 {REMOVED}"),
    (re.compile(r"(?<!\S)(-u|--user|--proxy-user)([ =])[^\s:]{1,100}:\S+"), rf"\1\2{REMOVED}"),
    # crypt(3), as in shadow and htpasswd.
    (re.compile(r"\$(?:1|2[aby]?|5|6|7|y|gy|apr1)\$[./A-Za-z0-9$=,]{8,}"), REMOVED),
)
_ADDRESS = re.compile(r"://([^\s\"<>]+)")


def without_secrets(text: str) -> str:
    r"""Return a text without what is secret in it, its lines cut at :data:`LINE_LIMIT`.

    >>> without_secrets("password: hunter2 \nuser: jo")
    'password: [REMOVED]\nuser: jo'
    >>> without_secrets("kubeadm join --token abcdef.0123456789abcdef --certificate-key 00ff")
    'kubeadm join --token [REMOVED] --certificate-key [REMOVED]'
    >>> without_secrets("https://jo:hunter2@registry.example.com/v2/")
    'https://[REMOVED]@registry.example.com/v2/'
    """
    text = "\n".join(
        line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT] + CUT for line in text.split("\n")
    )
    text = without_values(without_keys(text))
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _ADDRESS.sub(_without_user, text)


def _without_user(found: re.Match[str]) -> str:
    """Return an address without USER:PASSWORD@ or TOKEN@; a password may hold ``@`` and ``/`` itself."""
    rest = found.group(1)
    colon, slash = rest.find(":"), rest.find("/")
    is_path_first = slash >= 0 and (colon < 0 or slash < colon)
    end = rest.rfind("@", 0, slash) if is_path_first or _PORT.match(rest) else rest.rfind("@")
    return f"://{REMOVED}{rest[end:]}" if end >= 0 else found.group()
