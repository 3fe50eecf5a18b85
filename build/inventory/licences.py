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
        "0BSD", "AFL-2.1", "AGPL-3.0-only", "AGPL-3.0-or-later", "AMD-newlib", "ANTLR-PD",
        "APSL-2.0", "Afmparse", "Apache-1.0", "Apache-1.1", "Apache-2.0", "Artistic-2.0",
        "BSD-1-Clause", "BSD-2-Clause", "BSD-2-Clause-Patent", "BSD-2-Clause-Views",
        "BSD-3-Clause", "BSD-3-Clause-Clear", "BSD-4-Clause", "BSD-4-Clause-UC",
        "BSD-Source-Code", "BSL-1.0", "Bitstream-Vera", "BlueOak-1.0.0", "CC-BY-2.5",
        "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-PDDC", "CC0-1.0",
        "CDDL-1.0", "CMU-Mach", "CNRI-Python", "CPL-1.0", "EPL-1.0", "EPL-2.0", "Eurosym",
        "FDK-AAC", "FSFAP", "FSFUL", "FSFULLR", "FTL", "GFDL-1.2-or-later", "GFDL-1.3-or-later",
        "GPL-1.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only",
        "GPL-3.0-or-later", "HP-1986", "HPND", "HPND-Intel", "HPND-Markus-Kuhn",
        "HPND-merchantability-variant", "ICU", "IJG", "ISC", "Inner-Net-2.0", "Kazlib",
        "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later",
        "LGPL-3.0-only", "LGPL-3.0-or-later", "Leptonica", "Linux-OpenIB",
        "Linux-man-pages-copyleft", "Linux-man-pages-copyleft-2-para", "MIT", "MIT-0", "MIT-Wu",
        "MPL-1.1", "MPL-2.0", "MS-PL", "MS-RL", "MakeIndex", "Martin-Birgmeier", "MirOS",
        "NCSA", "NIST-PD", "NTP", "OAR", "OFL-1.1", "OFL-1.1-RFN", "OLDAP-2.8", "OML",
        "OpenSSL", "PHP-3.01", "PSF-2.0", "Plexus", "PostgreSQL", "Python-2.0", "Python-2.0.1",
        "Qhull", "Ruby", "Ruby-pty", "SGI-B-2.0", "SISSL", "SMLNJ", "SWL", "Sendmail",
        "Sleepycat", "Spencer-86", "SunPro", "TCL", "TTWL", "UCAR", "Unicode-3.0",
        "Unicode-DFS-2015", "Unicode-DFS-2016", "Unlicense", "Vim", "W3C", "W3C-19980720",
        "WTFPL", "X11", "Xdebug-1.03", "ZPL-2.1", "Zend-2.0", "Zlib", "blessing", "bzip2-1.0.6",
        "curl", "dtoa", "libtiff", "metamail", "psfrag", "xlock", "xpp",
    }
)  # fmt: skip
_EXCEPTIONS = frozenset(
    {
        "Autoconf-exception-3.0", "Autoconf-exception-generic-3.0", "Bison-exception-2.2",
        "Classpath-exception-2.0", "GCC-exception-2.0", "GCC-exception-3.1",
        "GNU-compiler-exception", "GPL-3.0-389-ds-base-exception", "LLVM-exception",
        "Libtool-exception", "Linux-syscall-note", "Qwt-exception-1.0", "Texinfo-exception",
    }
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
