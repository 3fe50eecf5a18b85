# SPDX-License-Identifier: Apache-2.0
r"""Make text of others fit to be looked at: times, ages, sizes, and characters that hide something.

>>> visible("a\x1b[31mred\u202e")
'a␛[31mred⟨U+202E⟩'
>>> age(754)
'12 min'
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata

LONGEST_LINE = 4000
HIDING = {"Cf", "Cc", "Zl", "Zp", "Cs", "Co"}
KEPT_CONTROLS = "\t\n"
SGR = re.compile(r"\x1b\[[0-9;]*m")
FOR_ROOT = ("caisson", "crictl", "df", "journalctl", "kubeadm", "systemctl")
FOR_ALL = ("chronyc", "curl", "kubectl", "ssh", "ssh-keygen", "sudo")
FRACTION = re.compile(r"\.\d+")


def visible(value: object) -> str:
    """Return text in which each control character, also those that turn the direction of text, is to be seen."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in KEPT_CONTROLS or unicodedata.category(character) not in HIDING:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def log_line(value: object) -> str:
    """Return a line of a log: colours of terminals go, what else is not to be seen is shown, its length is bound."""
    text = SGR.sub("", str(value).rstrip("\r\n"))
    if len(text) > LONGEST_LINE:
        more = len(text) - LONGEST_LINE
        return f"{visible(text[:LONGEST_LINE])} ... {more} more characters"
    return visible(text)


def one_line(value: object, longest: int = 300) -> str:
    """Return text in one line, cut when it is long."""
    text = " ".join(str(value).split())
    return visible(text if len(text) <= longest else text[: longest - 1] + "\u2026")


def moment(stamp: object) -> float | None:
    """Return the seconds since 1970 of a time as Kubernetes and Caisson write it, or of a date; None if it is none.

    >>> moment("1970-01-01T00:01:00Z"), moment("1970-01-02"), moment("soon")
    (60.0, 86400.0, None)
    """
    if not isinstance(stamp, str) or not stamp:
        return None
    try:
        found = dt.datetime.fromisoformat(FRACTION.sub("", stamp))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()


def clock(moment_s: float | None) -> str:
    """Return the time of day in UTC; the day, too, is for ``stamp``."""
    return "unknown" if moment_s is None else _utc(moment_s).strftime("%H:%M:%S")


def stamp(moment_s: float | None) -> str:
    """Return day and time in UTC."""
    return "unknown" if moment_s is None else _utc(moment_s).strftime("%Y-%m-%d %H:%M:%S")


def day(moment_s: float | None) -> str:
    """Return the day in UTC."""
    return "unknown" if moment_s is None else _utc(moment_s).strftime("%Y-%m-%d")


def machine_stamp(moment_s: float | None) -> str:
    """Return a time as an attribute of HTML has it; empty where it is not known."""
    return "" if moment_s is None else _utc(moment_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(moment_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(min(max(moment_s, 0.0), 253402300799.0), dt.UTC)


def age(seconds: float | None) -> str:
    """Return how long ago something was, in one unit.

    >>> age(3.2), age(119), age(7300), age(400000), age(None)
    ('3 s', '119 s', '2 h', '4 d', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = max(0, int(seconds))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if whole < limit:
            return f"{whole // size} {unit}"
    return f"{whole // 86400} d"


def took(seconds: float | None) -> str:
    """Return how long something took.

    >>> took(0.24), took(61), took(3700), took(None)
    ('0.2 s', '1 min 01 s', '1 h 01 min', '-')
    """
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: object) -> str:
    """Return a size with its unit.

    >>> size(5 * 2**30), size(900), size(None)
    ('5.0 GiB', '900 B', 'unknown')
    """
    if not isinstance(count, int | float) or isinstance(count, bool):
        return "unknown"
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def person(name: str) -> str:
    """Return how a user is called among people: an account of the console by its own name.

    >>> person("system:serviceaccount:caisson-users:olga"), person("system:serviceaccount:a:b"), person("kim")
    ('olga', 'a/b', 'kim')
    """
    parts = name.split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        return name
    return parts[3] if parts[2] == "caisson-users" else f"{parts[2]}/{parts[3]}"


def command_in(advice: str) -> str:
    """Return the command that stands quoted in a sentence, or what is a command as a whole; empty where none is.

    >>> command_in("type 'caisson status'"), command_in("kubectl get nodes"), command_in("look at it")
    ('sudo caisson status', 'kubectl get nodes', '')
    """
    quoted = advice.split("'")[1::2]
    for words in (*quoted, advice):
        first = words.partition(" ")[0]
        if first in FOR_ROOT:
            return f"sudo {words}"
        if first in FOR_ALL and " " in words:
            return words
    return ""


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "node"), count(3, "pod"), count(2, "entry", "entries")
    ('1 node', '3 pods', '2 entries')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
