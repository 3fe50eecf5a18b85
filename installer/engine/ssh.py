# SPDX-License-Identifier: Apache-2.0
"""Run commands on another host: the one door to SSH, by OpenSSH's own client.

One connection a host and run, shared by all that goes over it (ControlMaster), so that a password is asked for once
and a command costs no handshake. Nothing of the user's own configuration, agent or environment takes part. The host's
key must have been confirmed (hostkeys.py); with another one OpenSSH sends nothing. What a command is told goes
through stdin, out of memory: no secret is ever an argument, an environment variable, or on a disk.

A command is framed by two lines of its shell, so that what a login shell prints by itself is told from the answer,
and an exit code 255 of the command from one of ssh (sshfaults.py).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from installer.base import processes
from installer.base.errors import CommandError, HostError, HostKeyError, InstallerError, LoginError
from installer.base.paths import Paths
from installer.base.run import Completed, Conversation, describe_code, run
from installer.base.terminal import Terminal
from installer.config.nodes import NodeEntry
from installer.engine import hostkeys, sshfaults

CONNECT_TIMEOUT_S = 10
ALIVE_INTERVAL_S, ALIVE_COUNT = 5, 3
OPEN_TIMEOUT_S = 60.0
"""For connecting and logging in: PAM may ask a directory first, sshd a nameserver."""
IDLE_S = 120
"""The connection of an installer that was killed ends by itself after this time."""
ASKPASS = '#!/bin/sh\nexec cat "$CAISSON_PASSWORD_FILE"\n'
CONFIG_FILES = (Path("/etc/crypto-policies/back-ends/openssh.config"), Path("/dev/null"))
"""The first that is there is all that OpenSSH reads: the site's ciphers, nothing else. Source: crypto-policies(7)."""
OPTIONS: Mapping[str, str] = {
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "VerifyHostKeyDNS": "no",
    "CheckHostIP": "no",
    "CanonicalizeHostname": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "ProxyCommand": "none",
    "RequestTTY": "no",
    "EscapeChar": "none",
    "IdentityAgent": "none",
    "AddKeysToAgent": "no",
    "IdentitiesOnly": "yes",
    "GSSAPIAuthentication": "no",
    "HostbasedAuthentication": "no",
    "NumberOfPasswordPrompts": "1",
    "ConnectionAttempts": "1",
    "ConnectTimeout": str(CONNECT_TIMEOUT_S),
    "ServerAliveInterval": str(ALIVE_INTERVAL_S),
    "ServerAliveCountMax": str(ALIVE_COUNT),
    "LogLevel": "ERROR",
}
"""The same for every connection. Source: ssh_config(5)."""


def config_file() -> str:
    """Return the configuration that OpenSSH reads in place of the user's and the host's."""
    return str(next(file for file in CONFIG_FILES if file.exists()))


def options(entry: NodeEntry, known_hosts_file: Path, *, asks: bool = False) -> list[str]:
    """Return the words with which every ssh to a host begins, also that of salt-ssh. Pure.

    With an identity only that key is tried; without one only passwords. ``asks``: a secret is needed and can be had.
    """
    chosen = {
        **OPTIONS,
        "UserKnownHostsFile": str(known_hosts_file),
        "Port": str(entry.port),
        "User": entry.user,
    }
    if entry.identity is not None:
        chosen |= {
            "IdentityFile": _escaped(entry.identity),
            "PreferredAuthentications": "publickey",
        }
    else:
        chosen |= {
            "PubkeyAuthentication": "no",
            "PreferredAuthentications": "password,keyboard-interactive",
        }
    chosen["BatchMode"] = "no" if asks else "yes"
    return [word for key, value in chosen.items() for word in ("-o", f"{key}={value}")]


def _escaped(file: Path) -> str:
    """Return a path as a value of ssh_config: in quotes, and a per cent sign is none of its tokens."""
    return '"' + str(file).replace("%", "%%") + '"'


class Connection:
    """One host, logged in and root; made by entering it, ended by leaving it.

        with Connection(entry, paths=paths, terminal=Terminal()) as host:
            host.run(["rpm", "-q", "salt-minion"], timeout_s=30)

    Safe to use from several threads once it is open.
    """

    def __init__(
        self,
        entry: NodeEntry,
        *,
        paths: Paths,
        terminal: Terminal,
        needs_root: bool = True,
    ) -> None:
        self.entry = entry
        self._paths = paths
        self._terminal = terminal
        self._needs_root = needs_root
        self._password = ""
        self._sudo_password: str | None = None
        self._uses_sudo = False
        self._dir: Path | None = None

    def __enter__(self) -> Connection:  # noqa: PYI034  typing.Self is newer than Python 3.9
        """Connect, log in, become root.

        Raises:
            ReachError: the host cannot be reached.
            HostKeyError: nobody has confirmed the key that it shows. Nothing was sent to it.
            LoginError: it refuses the login, or to let the user become root.
        """
        try:
            hostkeys.confirm(self._paths.known_hosts_file, self.entry, self._terminal)
            self._open()
            if self._needs_root:
                self._become_root()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and forget the password; may be called again."""
        directory, self._dir = self._dir, None
        self._password, self._sudo_password = "", None
        if directory is None:
            return
        words = [
            "ssh",
            "-F",
            "/dev/null",
            "-o",
            f"ControlPath={directory}/m",
            "-O",
            "exit",
            self.entry.address,
        ]
        with contextlib.suppress(InstallerError):
            run(words, timeout_s=10, check=False)
        shutil.rmtree(directory, ignore_errors=True)

    # --- using it

    def run(
        self,
        words: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        check: bool = True,
        as_root: bool = True,
        is_secret: bool = False,
    ) -> Completed:
        """Run one command there, as root unless told otherwise, and return what it left.

        When it does not end in time the command there may still run.

        Raises:
            CommandError: it took longer than ``timeout_s``, or (``check``) exited with another code than 0.
            ReachError: the connection was lost; whether the command has ended there is not known.
        """
        mark = secrets.token_hex(8)
        script, told = self._frame(words, mark, as_root=as_root)
        said = self._ssh(script, timeout_s=timeout_s, stdin=told + stdin, is_secret=is_secret)
        completed = unframe(said, mark)
        if completed is None:
            raise self.explain(_marks_only(said, mark) if is_secret else said, mark)
        if check and completed.returncode != 0:
            last = "" if is_secret else (completed.stderr.strip() or completed.stdout.strip())
            raise CommandError(
                f"'{words[0]}' failed on {self.entry.title}: {describe_code(completed.returncode)}",
                details="\n".join(
                    [
                        f"command there: {shlex.join(words)}",
                        *(f"| {line}" for line in last.splitlines()[-20:]),
                    ]
                ),
                resolution="run the command above on that host to see more",
            )
        return completed

    def converse(self, words: Sequence[str], *, mark: str) -> Conversation:
        """Start a command there that answers line by line, as root; its lines begin after one that is ``mark``."""
        script, told = self._frame(words, mark, as_root=True)
        words = [*self._words(), script]
        talk = Conversation(words, env=self._environment(), running_dir=self._paths.running_dir)
        talk.tell(told)
        return talk

    @property
    def needs_sudo_password(self) -> bool:
        """Tell whether commands become root's only when sudo is told a password."""
        return self._sudo_password is not None

    @property
    def scratch_dir(self) -> Path:
        """A directory in memory, root's alone, that ends with this connection."""
        return self._control_file.parent

    def own_options(self) -> list[str]:
        """Return the options that make an ssh of others (salt-ssh) go over this connection, or nowhere."""
        return [
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            f"UserKnownHostsFile={self._paths.known_hosts_file}",
            "ControlMaster=no",
            f"ControlPath={self._control_file}",
            "ProxyCommand=none",
            "PubkeyAuthentication=no",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ]

    def framed(self, words: Sequence[str], mark: str) -> str:
        """Return the script that the login shell is given for a command without a stdin, as root."""
        return self._frame(words, mark, as_root=True)[0]

    # --- how

    @property
    def _login_password(self) -> str:
        """The password that logged in; that of a key is none."""
        return self._password if self.entry.identity is None else ""

    @property
    def _control_file(self) -> Path:
        if self._dir is None:
            raise HostError(
                f"there is no connection to {self.entry.title}",
                resolution="start again; report it if it stays so",
            )
        return self._dir / "m"

    def _options(self) -> list[str]:
        return options(self.entry, self._paths.known_hosts_file, asks=bool(self._password))

    def _words(self) -> list[str]:
        """Return the beginning of every ssh but the first."""
        more = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._control_file}"]
        return [
            "ssh",
            "-F",
            "/dev/null",
            *options(self.entry, self._paths.known_hosts_file),
            *more,
            self.entry.address,
        ]

    def _ssh(self, script: str, *, timeout_s: float, stdin: bytes, is_secret: bool = False) -> Completed:
        return run(
            [*self._words(), script],
            timeout_s=timeout_s,
            check=False,
            env=self._environment(),
            stdin=stdin,
            is_secret=is_secret,
        )

    def _open(self) -> None:
        """Log in and leave a master of the connection behind."""
        self._paths.ssh_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(self._paths.ssh_dir)
        self._dir = Path(tempfile.mkdtemp(prefix=_mark_of(os.getpid()), dir=self._paths.ssh_dir))
        self._ask_secret()
        more = [
            "-o",
            "ControlMaster=yes",
            "-o",
            f"ControlPath={self._dir}/m",
            "-o",
            f"ControlPersist={IDLE_S}",
        ]
        words = ["ssh", "-F", config_file(), *self._options(), *more, "-N", "-f", self.entry.address]
        said = run(words, timeout_s=OPEN_TIMEOUT_S, check=False, env=self._environment())
        if said.returncode != 0:
            raise self._explain(said)

    def _ask_secret(self) -> None:
        """Ask for what opens the login, and put it where only ssh's question is answered from: in memory, root's.

        Raises:
            LoginError: no terminal is there to ask.
        """
        identity = self.entry.identity
        if identity is not None and not _has_passphrase(identity):
            return
        what = f"the password of {self.entry.user} on {self.entry.title}"
        if identity is not None:
            what = f"the passphrase of {identity}"
        self._password = self._password or self._terminal.ask_secret(f"{what}: ")
        if not self._password:
            raise LoginError(
                f"nobody can be asked for {what}",
                details="no terminal is there, or nothing was typed",
                resolution="give a private key without a passphrase with --identity FILE, or start it on a terminal",
            )
        if self._dir is not None:
            _write_private(self._dir / "password", self._password + "\n", 0o600)
            _write_private(self._askpass_file(), ASKPASS, 0o700)

    def _askpass_file(self) -> Path:
        """Return where ssh finds the program that answers its question: /run may be mounted noexec.

        Raises:
            HostError: the other place is, too.
        """
        for directory in (self._control_file.parent, self._paths.state_dir):
            if not os.statvfs(directory).f_flag & os.ST_NOEXEC:
                return directory / "askpass"
        raise HostError(
            f"no password can be given to ssh: {self._paths.ssh_dir} and {self._paths.state_dir} are mounted noexec",
            details="ssh asks a program for it, which must be in one of them",
            resolution="log in with a key (--identity FILE), or: mount -o remount,exec /run",
        )

    def _environment(self) -> Mapping[str, str]:
        """Return what makes ssh ask our program and no terminal; the secret is in a file that it reads."""
        if self._dir is None or not self._password:
            return {}
        return {
            "SSH_ASKPASS": str(self._askpass_file()),
            "SSH_ASKPASS_REQUIRE": "force",
            "CAISSON_PASSWORD_FILE": str(self._dir / "password"),
        }

    def _explain(self, said: Completed) -> InstallerError:
        """Return the error of an ssh that ran nothing; a wrong key is shown beside the one that was expected."""
        error = sshfaults.explain(self.entry, said)
        there = hostkeys.known(self._paths.known_hosts_file, self.entry)
        if isinstance(error, HostKeyError) and there is not None:
            with contextlib.suppress(InstallerError):
                return hostkeys.wrong_key(self.entry, there.title, hostkeys.scan(self.entry))
        return error

    def explain(self, said: Completed, mark: str) -> InstallerError:
        """Return the error of a command that was not run, or whose end is not known; sudo may have stopped it."""
        _, has_ended, code = said.stdout.rpartition(f"\n{mark}> ")
        if has_ended and f"{mark}<\n" not in said.stdout and self._uses_sudo:
            stopped = Completed(int(code) if code.strip().isdigit() else 1, "", said.stderr)
            return sshfaults.explain_sudo(self.entry, stopped, has_password=self._sudo_password is not None)
        return self._explain(said)

    # --- becoming root

    def _become_root(self) -> None:
        """Find out how commands become root's: by themselves, by sudo, by sudo with a password.

        A password is tried with nothing behind it: a wrong one would take the next lines for the next tries.
        """
        who = self.run(["id", "-u"], timeout_s=OPEN_TIMEOUT_S, as_root=False).stdout.strip()
        if who == "0":
            return
        said = self._try_sudo("-n", b"")
        if said.returncode != 0 and sshfaults.needs_sudo_password(said):
            said = self._try_sudo_passwords(said)
        if said.returncode != 0:
            raise sshfaults.explain_sudo(self.entry, said, has_password=self._sudo_password is not None)
        self._uses_sudo = True

    def _try_sudo_passwords(self, said: Completed) -> Completed:
        question = f"password of {self.entry.user} for sudo on {self.entry.title}: "
        for is_known in (True, False):
            password = self._login_password if is_known else self._terminal.ask_secret(question)
            if not password:
                continue
            self._sudo_password = password
            said = self._try_sudo("-S", f"{password}\n".encode())
            if said.returncode == 0 or sshfaults.SUDO_FORBIDS.search(said.stderr):
                break
        return said

    def _try_sudo(self, option: str, told: bytes) -> Completed:
        words = [
            "env",
            "LC_ALL=C",
            "sudo",
            option,
            "-p",
            "",
            *(["-k"] if option == "-S" else []),
            "--",
            "true",
        ]
        mark = secrets.token_hex(8)
        said = self._ssh(frame(words, mark), timeout_s=OPEN_TIMEOUT_S, stdin=told)
        completed = unframe(said, mark)
        if completed is None:
            raise self._explain(said)
        return completed

    def _frame(self, words: Sequence[str], mark: str, *, as_root: bool) -> tuple[str, bytes]:
        """Return the script for the login shell, and what it is to be told before anything else."""
        if not (as_root and self._uses_sudo):
            return frame(words, mark), b""
        if self._sudo_password is None:
            return frame(words, mark, become=("env", "LC_ALL=C", "sudo", "-n", "--")), b""
        # -k: sudo asks in any case, so the password is never left for the command; should it not (NOPASSWD for this
        # command alone), the shell reads up to the mark and drops what is left.
        become = ("env", "LC_ALL=C", "sudo", "-S", "-k", "-p", "", "--")
        return frame(
            words, mark, become=become, skips_to_mark=True
        ), f"{self._sudo_password}\n{mark}\n".encode()


def frame(words: Sequence[str], mark: str, *, become: Sequence[str] = (), skips_to_mark: bool = False) -> str:
    """Return a script, for any login shell, that runs the words between two lines with ``mark``. Pure."""
    skip = 'while IFS= read -r line && [ "$line" != "$0" ]; do :; done; ' if skips_to_mark else ""
    inner = f'{skip}printf "%s<\\n" "$0"; exec "$@"'
    command = shlex.join([*become, "/bin/sh", "-c", inner, mark, *words])
    script = f'{command}; printf "\\n{mark}> %d\\n" "$?"'
    return f"exec /bin/sh -c {shlex.quote(script)}"


def unframe(said: Completed, mark: str) -> Completed | None:
    r"""Return what the command itself left, None when it was not run or the connection was lost. Pure.

    >>> unframe(Completed(0, "motd\nm<\nout\n\nm> 3\n", ""), "m")
    Completed(returncode=3, stdout='out\n', stderr='')
    """
    _, begin, rest = said.stdout.partition(f"{mark}<\n")
    body, end, tail = rest.rpartition(f"\n{mark}> ")
    code = tail.split("\n")[0]
    return Completed(int(code), body, said.stderr) if begin and end and code.isdigit() else None


def _marks_only(said: Completed, mark: str) -> Completed:
    r"""Return what a command left without what it said itself, which is a secret. Pure.

    What was said before it was run is that of ssh and sudo.

    >>> _marks_only(Completed(255, "motd\nm<\nkey\n", "key"), "m")
    Completed(returncode=255, stdout='\nm<\n', stderr='')
    >>> _marks_only(Completed(0, "\nm> 1\n", "sudo: no"), "m")
    Completed(returncode=0, stdout='\nm> 1\n', stderr='sudo: no')
    """
    lines = [
        line for line in said.stdout.splitlines(keepends=True) if line.startswith((f"{mark}<", f"{mark}>"))
    ]
    was_run = any(line.startswith(f"{mark}<") for line in lines)
    return Completed(said.returncode, "\n" + "".join(lines), "" if was_run else said.stderr)


def sweep(ssh_dir: Path) -> None:
    """Remove what installers that were killed have left: a password may be in it."""
    for directory in ssh_dir.iterdir():
        number = directory.name.partition(".")[0]
        if number.isdigit() and not directory.name.startswith(_mark_of(int(number))):
            shutil.rmtree(directory, ignore_errors=True)


def _mark_of(process_id: int) -> str:
    """Return how the directories of a process begin: no other one has its number and its start."""
    process = processes.find(process_id)
    return f"{process_id}.{process.started if process is not None else 'ended'}."


def _has_passphrase(identity: Path) -> bool:
    """Say whether a private key cannot be read without one. Source: OpenSSH, SSH_ERR_KEY_WRONG_PASSPHRASE."""
    said = run(["ssh-keygen", "-y", "-P", "", "-f", identity], timeout_s=10, check=False)
    return said.returncode != 0 and "incorrect passphrase" in said.stderr


def _write_private(file: Path, text: str, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(text)
