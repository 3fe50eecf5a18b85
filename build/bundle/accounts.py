# SPDX-License-Identifier: Apache-2.0
"""Add users and their groups to the account files of a base image. Source: passwd(5), group(5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from build.base.errors import BuildError
from build.inventory.model import User


def numbers_of(table: str) -> dict[str, int]:
    """Return names and numbers of an /etc/passwd or /etc/group."""
    rows = (line.split(":") for line in table.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}


def merge_passwd(base: str, users: Sequence[User], label: str) -> str:
    r"""Return /etc/passwd with the users added.

    Raises: BuildError when the base gives a name or a number to somebody else.

    >>> user = User(name="salt", uid=450, gid=450, home="/opt/salt", shell="/sbin/nologin")
    >>> merge_passwd("root:x:0:0:root:/root:/bin/sh\n", [user], "image x").splitlines()[1]
    'salt:x:450:450:salt:/opt/salt:/sbin/nologin'
    """
    rows = {
        user.name: f"{user.name}:x:{user.uid}:{user.gid}:{user.name}:{user.home}:{user.shell}"
        for user in users
    }
    return _merge(base, {user.name: user.uid for user in users}, rows, f"{label}: user")


def merge_group(base: str, users: Sequence[User], label: str) -> str:
    """Return /etc/group with the group of each user added. Raises: BuildError, as :func:`merge_passwd`."""
    rows = {user.name: f"{user.name}:x:{user.gid}:" for user in users}
    return _merge(base, {user.name: user.gid for user in users}, rows, f"{label}: group")


def _merge(base: str, numbers: Mapping[str, int], rows: Mapping[str, str], what: str) -> str:
    known = numbers_of(base)
    names = {number: name for name, number in known.items()}
    lines = base.splitlines()
    for name, number in numbers.items():
        if known.get(name) == number:
            continue
        if name in known or number in names:
            raise BuildError(
                f"{what} '{name}' ({number}) collides with the base image",
                details=f"the base has '{names.get(number, name)}' with number {known.get(name, number)}",
                resolution="give it the base's number, or another name or number, in images.yaml",
            )
        lines.append(rows[name])
    return "\n".join(lines) + "\n"
