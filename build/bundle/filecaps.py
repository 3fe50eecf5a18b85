# SPDX-License-Identifier: Apache-2.0
"""Write the file capabilities of an RPM as the attribute that the kernel keeps them in.

    %caps(cap_net_raw=ep) -> RPMTAG_FILECAPS -> text of cap_from_text(3) -> struct vfs_cap_data -> security.capability

rpm2archive leaves them out, so they are taken from the header of the package.
Source: libcap, cap_from_text(3); Linux 6.x, include/uapi/linux/capability.h, VFS_CAP_REVISION_2.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from build.store.layers import plain_path, printable
from build.upstream import rpmtags
from build.upstream.rpmheader import read_header
from build.upstream.rpmtags import Tags

#: How image layers carry the attribute, as every runtime unpacks it. Source: pax headers of GNU tar and star.
PAX_NAME = "SCHILY.xattr.security.capability"
_NAMES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
_REVISION_2, _EFFECTIVE = 0x02000000, 0x000001
_CLAUSE = re.compile(r"(?P<names>[a-z0-9_,]*)(?P<changes>(?:[=+-][eip]*)+)")
_CHANGE = re.compile(r"([=+-])([eip]*)")
_MAGIC_BYTES = 8


def read_file_capabilities(rpm_file: Path, what: str) -> dict[str, str]:
    """Return the text of the capabilities of an RPM's files by their plain path.

    Raises: IntegrityError when it is no RPM.
    """
    tags = Tags.of_blob(read_header(rpm_file, what).signed[_MAGIC_BYTES:])
    texts = tags.texts(rpmtags.FILE_CAPABILITIES)
    return {plain_path(path): text for path, text in zip(tags.files, texts, strict=False) if text}


def encode(text: str) -> bytes:
    """Return the value of the attribute; the empty value when the text takes all capabilities away.

    Raises: ValueError, saying what in the text is no capability or cannot be kept with a file.

    >>> encode("cap_net_bind_service=ep").hex()
    '0100000200040000000000000000000000000000'
    """
    sets: dict[str, int] = dict.fromkeys("eip", 0)
    for clause in text.lower().split():
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise ValueError(f"{printable(clause)!r} is no clause of capabilities")
        _change(sets, _mask(found["names"]), found["changes"])
    if sets["e"] not in (0, sets["p"] | sets["i"]):
        raise ValueError(f"{printable(text)!r} makes some capabilities effective and others not")
    if not any(sets.values()):
        return b""
    low, high = ({name: mask >> shift & 0xFFFFFFFF for name, mask in sets.items()} for shift in (0, 32))
    magic = _REVISION_2 | (_EFFECTIVE if sets["e"] else 0)
    return struct.pack("<5I", magic, low["p"], low["i"], high["p"], high["i"])


def _change(sets: dict[str, int], mask: int, changes: str) -> None:
    """Do what a clause says to the sets: ``=`` clears and raises, ``+`` raises, ``-`` lowers."""
    for operator, flags in _CHANGE.findall(changes):
        for flag in sets:
            if operator == "=" or (operator == "-" and flag in flags):
                sets[flag] &= ~mask
            if operator != "-" and flag in flags:
                sets[flag] |= mask


def _mask(names: str) -> int:
    if names in ("", "all"):
        return (1 << len(_NAMES)) - 1
    mask = 0
    for name in names.split(","):
        plain = name.removeprefix("cap_")
        if plain not in _NAMES:
            raise ValueError(f"{name!r} is no capability")
        mask |= 1 << _NAMES.index(plain)
    return mask


def pax_value(value: bytes) -> str:
    """Return the value as tarfile takes it: bytes that are no UTF-8 as surrogates."""
    return value.decode(errors="surrogateescape")
