# SPDX-License-Identifier: Apache-2.0
"""Define the errors of the installer and the exit code of each class: the one table of both.

Every error has three parts: what is wrong, the facts that show it, what to do now. A failing command exits
with the code of its class, so that a script can tell a bad configuration from a damaged ISO, and prints it
first: exit code 3 is CSE003, which ``caisson explain CSE003`` explains.

====  =====================  =======================================================================
code  class                  meaning
====  =====================  =======================================================================
0     (none)                 done; for ``status``: everything is up
1     InternalError          a fault of the installer itself; ``--debug`` shows where
2     UsageError             the command line is wrong
3     ConfigError            the configuration file has faults (all are listed)
4     PreflightError         the host is not fit, or a running check failed
5     LockedError            another caisson is at work on this host
6     MediaError             the media is damaged, incomplete, or cannot be mounted
7     LabBundleError         a lab bundle, and ``--accept-lab-bundle`` was not given
8     PackageError           dnf or rpm refused a package
9     CommandError           a command failed or took too long
10    SaltError              a Salt state failed, or Salt did not answer
11    ClusterError           a part of the cluster did not become ready in time
12    HostError              the host itself: not root, no usable Python, a needed tool is missing
13    OtherBundleError       the host is installed from another ISO than this one
14    ReachError             another host cannot be reached by SSH, or the connection to it was lost
15    HostKeyError           another host showed a key that nobody has confirmed; nothing was sent to it
16    LoginError             another host refused the login, or to let the user become root
17    AccessError            the console's user is not known, or may not do what was asked for
20    DegradedError          ``status``: the media or a copy is missing, or will be after a reboot; the cluster is up
21    UnhealthyError         ``status``: a service, node or pod is not as it should be
22    InterruptedJobError    ``job``: its process ended without a result (a kill, a reboot); start it again to resume
130   StoppedError           stopped by the user or by a signal; run it again to resume
====  =====================  =======================================================================
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


class InstallerError(Exception):
    """The root of all errors that a user may see.

    ``message`` says what is wrong, in one line; ``details`` are the facts, any number of lines;
    ``resolution`` is what to do. Both may be empty only where nothing can be said.
    """

    exit_code: ClassVar[int] = 1

    @classmethod
    def code(cls) -> str:
        """Return the stable code of this class: its exit code, written so that ``caisson explain`` knows it.

        >>> ConfigError.code(), StoppedError.code()
        ('CSE003', 'CSE130')
        """
        return f"CSE{cls.exit_code:03}"

    def __init__(self, message: str, *, details: str = "", resolution: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.resolution = resolution

    def __str__(self) -> str:
        """Return all three parts, one below the other.

        >>> print(InstallerError("the lamp is out", details="bulb 3", resolution="replace it"))
        the lamp is out
          bulb 3
          -> replace it
        """
        lines = [self.message]
        lines += [f"  {line}".rstrip() for line in self.details.splitlines()]
        lines += [f"  -> {line}".rstrip() for line in self.resolution.splitlines()]
        return "\n".join(lines)


class InternalError(InstallerError):
    """A fault of the installer itself."""

    exit_code = 1


class UsageError(InstallerError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(InstallerError):
    """The configuration has faults; ``details`` lists every one of them."""

    exit_code = 3


class PreflightError(InstallerError):
    """The host is not fit; ``details`` lists every failed check."""

    exit_code = 4


class LockedError(InstallerError):
    """Another caisson is at work on this host."""

    exit_code = 5


class MediaError(InstallerError):
    """The media is damaged, incomplete, or cannot be mounted."""

    exit_code = 6


class LabBundleError(InstallerError):
    """A lab bundle is refused unless the user accepts it by name."""

    exit_code = 7


class PackageError(InstallerError):
    """A package was refused by dnf or rpm."""

    exit_code = 8


class CommandError(InstallerError):
    """A command failed or took too long."""

    exit_code = 9


class SaltError(InstallerError):
    """A Salt state failed, or Salt did not answer."""

    exit_code = 10


class ClusterError(InstallerError):
    """A part of the cluster did not become ready in time."""

    exit_code = 11


class HostError(InstallerError):
    """The host cannot run the installer at all."""

    exit_code = 12


class OtherBundleError(InstallerError):
    """The host is installed from another version or build than this media's."""

    exit_code = 13


class ReachError(InstallerError):
    """Another host cannot be reached by SSH, or the connection to it was lost."""

    exit_code = 14


class HostKeyError(InstallerError):
    """Another host showed a key that nobody has confirmed; nothing was sent to it."""

    exit_code = 15


class LoginError(InstallerError):
    """Another host refused the login, or to let the user become root."""

    exit_code = 16


class AccessError(InstallerError):
    """The console's user is not known to the cluster, or may not do what was asked for."""

    exit_code = 17


class DegradedError(InstallerError):
    """The media or a copy of it is missing, or will be after a reboot; the cluster is up."""

    exit_code = 20


class UnhealthyError(InstallerError):
    """A service, node or pod is not as it should be."""

    exit_code = 21


class InterruptedJobError(InstallerError):
    """A job has no result, and nothing of it runs any more."""

    exit_code = 22


class StoppedError(InstallerError):
    """Stopped by the user or by a signal."""

    exit_code = 130


def from_exception(exc: BaseException) -> InstallerError:
    """Return any exception as an error that a user may see; one of ours is returned as it is."""
    if isinstance(exc, InstallerError):
        return exc
    if isinstance(exc, KeyboardInterrupt):
        error: InstallerError = StoppedError("stopped", resolution="run the same command again to resume")
    else:
        place = traceback.extract_tb(exc.__traceback__)[-1] if exc.__traceback__ else None
        where = f"{Path(place.filename).name}:{place.lineno}" if place is not None else "unknown place"
        error = InternalError(
            "a fault of the installer itself",
            details=f"{type(exc).__name__}: {exc} ({where})",
            resolution="start it again with --debug and report what it shows",
        )
    error.__cause__ = exc
    return error


def to_json(error: InstallerError) -> dict[str, Any]:
    """Return an error as JSON data."""
    return {
        "code": error.code(),
        "class": type(error).__name__,
        "message": error.message,
        "details": error.details.splitlines(),
        "resolution": error.resolution.splitlines(),
        "exit_code": error.exit_code,
    }


def from_json(data: Mapping[str, Any]) -> InstallerError:
    r"""Return the error that :func:`to_json` wrote down; one of a class that is not known here is an InternalError.

    >>> str(from_json({"exit_code": 11, "message": "etcd is red", "details": [], "resolution": ["wait"]}))
    'etcd is red\n  -> wait'

    Raises:
        KeyError, TypeError: it has another shape.
    """
    known = {error.exit_code: error for error in InstallerError.__subclasses__()}
    kind = known.get(data["exit_code"], InternalError)
    return kind(
        str(data["message"]), details="\n".join(data["details"]), resolution="\n".join(data["resolution"])
    )


def elsewhere(error: InstallerError, where: str) -> InstallerError:
    r"""Return an error of another host, whose words come from there: what to do is to be done there, too.

    >>> str(elsewhere(ClusterError("etcd is red", resolution="wait\nlook"), "node2"))
    'etcd is red on node2\n  -> on node2: wait\n  -> on node2: look'
    """
    lines = [f"on {where}: {line}" for line in error.resolution.splitlines() if line]
    return type(error)(f"{error.message} on {where}", details=error.details, resolution="\n".join(lines))
