# SPDX-License-Identifier: Apache-2.0
"""Read the licence of a package as an SPDX expression, where it is one beyond doubt."""

from __future__ import annotations

import re

#: Fedora's former names that mean one SPDX licence each; "BSD" or "LGPLv2" may mean several, so they are not here.
#: Source: Fedora, "Licensing:Main" (the list before SPDX) and its conversion table.
_FORMER_NAMES = {
    "ASL 1.1": "Apache-1.1", "ASL 2.0": "Apache-2.0", "Boost": "BSL-1.0", "CC0": "CC0-1.0",
    "GPLv2": "GPL-2.0-only", "GPLv2+": "GPL-2.0-or-later", "GPLv3": "GPL-3.0-only",
    "GPLv3+": "GPL-3.0-or-later", "LGPLv3": "LGPL-3.0-only", "LGPLv3+": "LGPL-3.0-or-later",
    "MPLv1.1": "MPL-1.1", "MPLv2.0": "MPL-2.0", "zlib": "Zlib",
}  # fmt: skip
_IDS = frozenset(
    {
        "0BSD", "AFL-2.1", "Apache-1.1", "Apache-2.0", "Artistic-2.0", "BSD-1-Clause", "BSD-2-Clause",
        "BSD-2-Clause-Views", "BSD-3-Clause", "BSD-4-Clause", "BSD-4-Clause-UC", "BSL-1.0", "CC-BY-3.0",
        "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "EPL-1.0", "EPL-2.0", "FSFAP", "FSFUL", "FSFULLR",
        "GFDL-1.3-or-later", "GPL-1.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only",
        "GPL-3.0-or-later", "HPND", "ISC", "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only",
        "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-0", "MPL-1.1", "MPL-2.0",
        "OFL-1.1", "OpenSSL", "PSF-2.0", "Python-2.0", "Sleepycat", "TCL", "Unicode-DFS-2016", "Unlicense",
        "Vim", "W3C", "X11", "Zlib", "blessing", "bzip2-1.0.6", "curl", "libtiff",
    }
)  # fmt: skip
_EXCEPTIONS = frozenset(
    {"Autoconf-exception-3.0", "Bison-exception-2.2", "Classpath-exception-2.0", "GCC-exception-3.1",
     "GCC-exception-2.0", "LLVM-exception", "Linux-syscall-note", "Libtool-exception"}
)  # fmt: skip
_WORDS = re.compile(r"\s*(\(|\)|\b(?:and|or|with|AND|OR|WITH)\b(?!\S))\s*")


def spdx_expression(text: str) -> str | None:
    """Return a licence in SPDX's form, or None when it is not known beyond doubt which one is meant.

    >>> spdx_expression("GPLv2+ and (MIT or ASL 2.0)"), spdx_expression("GPL-2.0-or-later WITH LLVM-exception")
    ('GPL-2.0-or-later AND (MIT OR Apache-2.0)', 'GPL-2.0-or-later WITH LLVM-exception')
    >>> spdx_expression("BSD and MIT"), spdx_expression("") is None
    (None, True)
    """
    words = [word for word in _WORDS.split(text) if word.strip()]
    done: list[str] = []
    for word in words:
        if word in "()":
            done.append(word)
        elif word.upper() in ("AND", "OR", "WITH"):
            done.append(f" {word.upper()} ")
        elif done and done[-1] == " WITH ":
            if word not in _EXCEPTIONS:
                return None
            done.append(word)
        else:
            known = _FORMER_NAMES.get(word, word)
            if known not in _IDS:
                return None
            done.append(known)
    expression = "".join(done)
    return expression if _is_whole(expression) else None


def _is_whole(expression: str) -> bool:
    """Say whether operators stand between operands and brackets match."""
    plain = re.sub(r"[^\s()]+ WITH [^\s()]+", "x", expression)
    plain = re.sub(r"(?<![^\s()])(?!(?:AND|OR)\b)[^\s()]+", "x", plain)
    while (shorter := re.sub(r"\(x\)|x (?:AND|OR) x", "x", plain)) != plain:
        plain = shorter
    return plain == "x"
