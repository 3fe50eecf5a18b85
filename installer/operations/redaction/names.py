# SPDX-License-Identifier: Apache-2.0
"""Tell by its name what is secret: the key of a line, an option, a variable of an environment."""

from __future__ import annotations

import re

#: Anywhere in a name.
_PARTS = ("password", "passwd", "passphrase", "secret", "credential", "dockerconfigjson", "dockercfg")
#: A whole word of a name: DB_PASS, dbPwd, X-Auth-Token.
_WORDS = frozenset({"pass", "pwd", "pw", "psk"})
#: The last words of a name.
_LAST_WORDS = frozenset({"auth", "token", "tokens"})
_ENDS = tuple(
    f"{kind}key"
    for kind in (
        *("api", "access", "auth", "certificate", "encryption", "master", "private", "shared"),
        *("session", "storage", "account"),
    )
)
#: Headers of HTTP: all that follows on the line is of them.
HEADERS = frozenset({"authorization", "proxy-authorization", "x-auth-token", "cookie", "set-cookie"})
#: Where a name is secret, its line holds one of these: a quick look before a thorough one.
HINT = re.compile(
    r"(?i)pass|pwd|pw\b|psk|secret|credential|dockerc|auth|token|cookie|"
    r"(?:api|access|certificate|encryption|master|private|shared|session|storage|account)[-_. ]?key|key-?data"
)
_SPLIT = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NO_LETTERS = re.compile(r"[^a-z]")
NAME_LIMIT = 100


def is_secret(name: str) -> bool:
    """Say whether what has this name is secret.

    >>> [is_secret(name) for name in ("dbPassword", "VAULT_TOKEN", "--token", "pwd", "MY_API_KEY", "auth")]
    [True, True, True, True, True, True]
    >>> [is_secret(name) for name in ("keyFile", "signingKey", "token-ttl", "compass", "PWD", "authors")]
    [False, False, False, False, False, False]
    """
    if len(name) > NAME_LIMIT:
        return is_secret(name[:NAME_LIMIT]) or is_secret(name[-NAME_LIMIT:])
    plain = _NO_LETTERS.sub("", name.lower())
    if any(part in plain for part in _PARTS) or plain.endswith(_ENDS):
        return True
    if plain.endswith("keydata") or name in ("PWD", "OLDPWD"):  # where a shell stands
        return plain.endswith("keydata")
    words = [word.lower() for word in _SPLIT.findall(name)]
    return bool(words) and (
        words[-1] in _LAST_WORDS or plain.endswith("token") or not _WORDS.isdisjoint(words)
    )


def may_be_number(name: str) -> bool:
    """Say whether a short number below this secret name counts something, as in ``tokens: 5``."""
    return "pass" not in name.lower() and "secret" not in name.lower() and not _is_short(name)


def _is_short(name: str) -> bool:
    return not _WORDS.isdisjoint(word.lower() for word in _SPLIT.findall(name))


def is_harmless(name: str, value: str) -> bool:
    """Say whether a value tells nothing, though its name is secret: a switch, nothing, a count.

    >>> is_harmless("automountServiceAccountToken", "false"), is_harmless("password", "482913")
    (True, False)
    """
    bare = value.strip(" \t\r,;}])\"'\\").lower()
    if bare in ("true", "false", "null", "~", "[removed") or not bare.strip("[{"):
        return True
    return bare.isdigit() and len(bare) <= 6 and may_be_number(name)
