# SPDX-License-Identifier: Apache-2.0
"""Take what must stay on a host out of a text: private keys, tokens, passwords, as they stand in logs and files."""

from __future__ import annotations

import re

REMOVED = "[REMOVED]"
#: Names of what is secret, as the key of a YAML, JSON, TOML or shell line, or as an option.
_NAMES = (
    r"(?:[\w.-]*(?:password|passwd|passphrase|secret|credential)[\w.-]*|[\w.-]*token|client-key-data|"
    r"(?:certificate|encryption|private|secret|api|access)[-_ ]?key(?:data)?|identitytoken|auth|secretbox)"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A key in PEM; one that was cut off at its end or its beginning, too.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REMOVED,
    ),
    (re.compile(r"\A(?:[A-Za-z0-9+/=|\s]|\\n){0,8000}?-----END [A-Z0-9 ]*PRIVATE KEY-----"), REMOVED),
    # The same in base64, as in a kubeconfig or a Secret: it begins as "-----BEGIN" does.
    (re.compile(r"LS0tLS1CRUdJTi(?!BDRVJU)[A-Za-z0-9+/=]{20,}"), REMOVED),
    # JSON Web Tokens: service accounts, OpenID.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), REMOVED),
    # kubeadm's bootstrap tokens. Source: kubernetes, cluster-bootstrap/token/api, BootstrapTokenPattern.
    (re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b"), REMOVED),
    (
        re.compile(r"(?i)\b(authorization|proxy-authorization|x-auth-token)(['\"]?\s*[:=]\s*['\"]?).+"),
        rf"\1\2{REMOVED}",
    ),
    (re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9+/=._~-]{6,}"), rf"\1 {REMOVED}"),
    # USER:PASSWORD in an address.
    (re.compile(r"(\w+://)[^/\s@'\"]+:[^/\s@'\"]+@"), rf"\1{REMOVED}@"),
    # A block of YAML below such a name, then a value on its line, then an option with a value.
    (
        re.compile(
            rf"(?im)^([ \t|-]*['\"]?{_NAMES}['\"]?[ \t]*:[ \t]*[|>][+-]?\d*[ \t]*)\n(?:(?:[ \t]+\S.*)?\n)+"
        ),
        rf"\1 {REMOVED}\n",
    ),
    (
        re.compile(
            rf"(?i)(?<![\w.-])(['\"]?{_NAMES}['\"]?[ \t]*[:=][ \t]*)"
            r"(?!\s*(?:true|false|null|\d{1,6}|\[REMOVED\])?\s*,?\s*$)"
            r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}]+(?: (?![\w-]+[:=])[^\s,;}]+)*)",
            re.MULTILINE,
        ),
        rf"\1{REMOVED}",
    ),
    (re.compile(rf"(?i)(--{_NAMES})[ =](?!-)\S+"), rf"\1 {REMOVED}"),
    # crypt(3), as in shadow and htpasswd.
    (re.compile(r"\$(?:1|2[aby]?|5|6|y|apr1)\$[./A-Za-z0-9$=,]{8,}"), REMOVED),
)


def without_secrets(text: str) -> str:
    r"""Return a text without what :data:`_PATTERNS` find.

    >>> without_secrets("password: hunter2 \nuser: jo")
    'password: [REMOVED]\nuser: jo'
    >>> without_secrets("kubeadm join --token abcdef.0123456789abcdef --certificate-key 00ff")
    'kubeadm join --token [REMOVED] --certificate-key [REMOVED]'
    >>> without_secrets("https://jo:hunter2@registry.example.com/v2/")
    'https://[REMOVED]@registry.example.com/v2/'
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
