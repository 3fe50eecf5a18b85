# SPDX-License-Identifier: Apache-2.0
"""Make and rotate the passwords of the site's registry: one for whoever pushes, one with which nginx reads for all.

    /etc/caisson/registry-login/password     what 'caisson images' and people push with
    /etc/caisson/nginx/registry-login.conf   what nginx shows the registry for anonymous pulls
    /etc/caisson/registry/htpasswd           the hashes of both; lines of other users are the site's, and stay

All are 0600 and root's. They are made here and not by a state, so that no password is ever a value of Salt's. The
registry reads a changed htpasswd at the next request; nginx' own password lasts as long as its file.
Source: distribution 3.1, registry/auth/htpasswd: bcrypt alone; without a file it makes a user and logs the password.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import string
from collections.abc import Mapping
from pathlib import Path

from installer.base import bcrypt
from installer.base.errors import HostError
from installer.base.files import write_file
from installer.base.paths import Paths

PUSH_USER = "caisson"
READ_USER = "nginx"
ALPHABET = string.ascii_letters + string.digits
LENGTH = 32
"""Of 62 letters: 190 bits."""
COST = 5
"""Neither can be guessed, however fast; each request of a push and of a pull pays for it, on a control plane."""
_PASSWORD = re.compile(f"[A-Za-z0-9]{{{LENGTH}}}")
_LINE = re.compile('proxy_set_header Authorization "Basic ([A-Za-z0-9+/=]+)";')


def ensure(paths: Paths) -> bool:
    """Make what is missing or damaged; return whether anything was.

    The passwords are written before the hashes: a run that was cut off is put right by the next.
    """
    push = _read(paths.push_password_file) or _new()
    read = _read_login(paths.read_login_file) or _new()
    changed = write_file(paths.push_password_file, push + "\n", mode=0o600, dir_mode=0o700)
    changed = write_file(paths.read_login_file, _login_line(read), mode=0o600) or changed
    return _write_hashes(paths, {PUSH_USER: push, READ_USER: read}) or changed


def rotate(paths: Paths) -> None:
    """Give whoever pushes a new password; the one of before is refused from the registry's next request on.

    Raises:
        HostError: there is no registry on this host.
    """
    get(paths)
    write_file(paths.push_password_file, _new() + "\n", mode=0o600, dir_mode=0o700)
    ensure(paths)


def let_push_again(paths: Paths) -> bool:
    """End a pause of pushes that a killed removal has left; return whether there was one."""
    is_paused = paths.pushes_paused_file.exists()
    if is_paused:
        paths.pushes_paused_file.unlink()
    return is_paused


def get(paths: Paths) -> str:
    """Return the password of whoever pushes.

    Raises:
        HostError: there is none.
    """
    password = _read(paths.push_password_file)
    if not password:
        raise HostError(
            "there is no password for pushes on this host",
            details=f"{paths.push_password_file} is not there, or damaged",
            resolution="run 'caisson bootstrap' on the bootstrap node: it makes what is missing",
        )
    return password


def get_reading(paths: Paths) -> str:
    """Return the password with which nginx reads, which is on each node that serves.

    Raises:
        HostError: there is none.
    """
    password = _read_login(paths.read_login_file)
    if not password:
        raise HostError(
            "there is no password for the registry on this host",
            details=f"{paths.read_login_file} is not there, or damaged",
            resolution="run 'caisson bootstrap' on the bootstrap node; for a further node there, then: caisson media "
            "replicate",
        )
    return password


def check(paths: Paths) -> None:
    """Look whether the passwords are there and the hashes are theirs.

    Raises:
        HostError: one is not.
    """
    read = _read_login(paths.read_login_file)
    wanted = {PUSH_USER: get(paths), READ_USER: read}
    if not read or not _are_hashed(wanted, _lines(paths.htpasswd_file)):
        raise HostError(
            "the passwords of the registry are not those that it knows",
            details=f"{paths.read_login_file}, {paths.htpasswd_file}",
            resolution="run 'caisson bootstrap' on the bootstrap node: its phase salt-master makes them",
        )


def _write_hashes(paths: Paths, passwords: Mapping[str, str]) -> bool:
    lines = _lines(paths.htpasswd_file)
    if _are_hashed(passwords, lines):
        return write_file(paths.htpasswd_file, _text(lines), mode=0o600)
    for user, password in passwords.items():
        lines[user] = bcrypt.hash_password(password, cost=COST)
    return write_file(paths.htpasswd_file, _text(lines), mode=0o600)


def _are_hashed(passwords: Mapping[str, str], lines: Mapping[str, str]) -> bool:
    return all(bcrypt.is_password(password, lines.get(user, "")) for user, password in passwords.items())


def _lines(htpasswd_file: Path) -> dict[str, str]:
    """Return user -> hash of an htpasswd file; what is no such line is left out, and so goes."""
    try:
        text = htpasswd_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    pairs = [line.strip().partition(":") for line in text.splitlines() if ":" in line]
    return {user: hashed for user, _, hashed in pairs if hashed.startswith("$2")}


def _text(lines: Mapping[str, str]) -> str:
    return "".join(f"{user}:{hashed}\n" for user, hashed in lines.items())


def _new() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def _read(file: Path) -> str:
    """Return the password in a file; "" where there is none, as after a power cut."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return text if _PASSWORD.fullmatch(text) else ""


def _login_line(password: str) -> str:
    pair = base64.b64encode(f"{READ_USER}:{password}".encode()).decode()
    return f'proxy_set_header Authorization "Basic {pair}";\n'


def _read_login(file: Path) -> str:
    try:
        found = _LINE.fullmatch(file.read_text(encoding="ascii").strip())
        user, _, password = base64.b64decode(found.group(1) if found else "").decode("ascii").partition(":")
    except (FileNotFoundError, UnicodeDecodeError, binascii.Error):
        return ""
    return password if user == READ_USER and _PASSWORD.fullmatch(password) else ""
