# SPDX-License-Identifier: Apache-2.0
"""Tell apart why OpenSSH, a login shell or sudo did not do what was asked, by what they say.

OpenSSH has one exit code, 255, for everything; its words are those of the C locale. Source: OpenSSH 8.7 (EL9) to 9.9,
ssh.c, sshconnect.c, sshconnect2.c, clientloop.c; sudo 1.9.5 to 1.9.15, plugins/sudoers.
"""

from __future__ import annotations

import re

from installer.base.errors import HostKeyError, InstallerError, LoginError, ReachError
from installer.base.run import Completed, describe_code
from installer.config.nodes import NodeEntry

WRONG_KEY = re.compile(
    r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No \S+ host key is known|"
    r"no matching host key type found|host key algorithm",
    re.IGNORECASE,
)
REFUSED_LOGIN = re.compile(
    r"Permission denied|Too many authentication failures|no such identity|incorrect passphrase|"
    r"error in libcrypto|invalid format|UNPROTECTED PRIVATE KEY|Your password has expired|"
    r"no mutual signature|not allowed because|account .{0,40}(?:locked|expired)",
    re.IGNORECASE,
)
REFUSED = re.compile(r"Connection refused")
NO_WAY = re.compile(r"No route to host|Network is unreachable|Host is down")
TIMED_OUT = re.compile(r"timed out|Operation timed out|not responding", re.IGNORECASE)
SUDO_ASKS = re.compile(
    r"password is required|terminal is required|no tty present|must have a tty|no password was provided"
)
SUDO_WRONG = re.compile(
    r"incorrect password|Sorry, try again|Authentication failure|account (?:is )?locked", re.IGNORECASE
)
SUDO_FORBIDS = re.compile(
    r"not in the sudoers file|may not run sudo|not allowed to execute|not allowed to run sudo"
)
NO_SUDO = re.compile(r"sudo: (?:command )?not found|sudo: No such file")


def explain(entry: NodeEntry, said: Completed) -> InstallerError:
    """Return the error of an ssh that ended by itself (exit code 255), or of a shell that ran nothing."""
    text = said.stderr
    if WRONG_KEY.search(text):
        return HostKeyError(
            f"{entry.title} shows another key than it should: nothing was sent to it",
            details=_lines(said),
            resolution="on that host's own console run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' and give "
            "what it shows with --host-key, if the host was installed again; if not, another machine answers",
        )
    if REFUSED_LOGIN.search(text):
        how = f"the key {entry.identity}" if entry.identity else "the password"
        return LoginError(
            f"{entry.title} refuses {how} of {entry.user}",
            details=_lines(said),
            resolution=_login_fix(entry),
        )
    for pattern, message in (
        (REFUSED, "nobody listens on {} port {}"),
        (NO_WAY, "no way leads to {} port {}"),
        (TIMED_OUT, "{} port {} does not answer any more"),
    ):
        if pattern.search(text):
            return ReachError(
                message.format(entry.address, entry.port),
                details=_lines(said),
                resolution="check that the host is on, that sshd runs there, and the packet filters on the way",
            )
    if said.returncode == 255:
        return ReachError(
            f"the connection to {entry.title} was lost",
            details=_lines(said),
            resolution="see 'journalctl -u sshd' on that host, then start again: what is done is not done twice",
        )
    return _ran_nothing(entry, said)


def _login_fix(entry: NodeEntry) -> str:
    if entry.identity is not None:
        return (
            f"put {entry.identity}.pub into ~{entry.user}/.ssh/authorized_keys there (ssh-copy-id), see that "
            "'journalctl -u sshd' there does not complain about modes or the user, or give another --user or --identity"
        )
    return (
        "check user and password; sshd must allow it (PasswordAuthentication, for root PermitRootLogin); after some "
        f"wrong ones an account may be locked (there: faillock --user {entry.user}); else give a key with --identity"
    )


def _ran_nothing(entry: NodeEntry, said: Completed) -> LoginError:
    """Return the error of a login that works and runs no command: a forced command, a shell like nologin."""
    return LoginError(
        f"{entry.title} lets {entry.user} in and does not run the command",
        details=_lines(said),
        resolution="log in as a user with a usual shell (--user); images of clouds let root in only to say so",
    )


def needs_sudo_password(said: Completed) -> bool:
    """Say whether sudo would do it for a password."""
    return bool(SUDO_ASKS.search(said.stderr))


def explain_sudo(entry: NodeEntry, said: Completed, *, has_password: bool) -> LoginError:
    """Return the error of a user who cannot become root."""
    text = said.stderr
    resolution = f"see what 'sudo -l' says there for {entry.user}"
    if SUDO_FORBIDS.search(text):
        why = f"{entry.user} may not"
        resolution = f"allow it there (usermod -aG wheel {entry.user}), or log in as another user (--user)"
    elif NO_SUDO.search(text) or said.returncode == 127:
        why = "there is no sudo"
        resolution = "log in as root (--user root), or install sudo there"
    elif has_password and (SUDO_WRONG.search(text) or SUDO_ASKS.search(text)):
        why = "the password is wrong"
        resolution = "start again and type the password of the user, not that of root"
    elif SUDO_ASKS.search(text):
        why = "sudo wants a password, and no terminal is there to ask for it"
        resolution = f"start it on a terminal, or allow '{entry.user} ALL=(ALL) NOPASSWD: ALL' there (visudo)"
    else:
        why = describe_code(said.returncode)
    return LoginError(
        f"{entry.user} does not become root on {entry.title}: {why}",
        details=_lines(said),
        resolution=resolution,
    )


def _lines(said: Completed) -> str:
    """Return the last words of both outputs, without OpenSSH's frame of at signs."""
    lines = [line.strip() for line in (said.stdout + "\n" + said.stderr).splitlines()]
    kept = [line for line in lines if line.strip("@ ")]
    return "\n".join(f"| {line}" for line in kept[-12:]) or describe_code(said.returncode)
