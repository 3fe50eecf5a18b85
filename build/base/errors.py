# SPDX-License-Identifier: Apache-2.0
"""The errors of the builder: one root, three parts, an exit code for each class.

Every error says what is wrong (``message``), what is known about it (``details``) and what to do
(``resolution``). The exit codes are public: scripts rely on them, so a code is never given to another class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from typing_extensions import override


class BuildError(Exception):
    """Anything else that the user can be told about in three parts; the root of all errors of the builder."""

    exit_code = 10

    def __init__(
        self, message: str, *, details: str = "", resolution: str = "", parts: Sequence[BuildError] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.resolution = resolution
        self._parts = tuple(parts)

    @property
    def faults(self) -> tuple[BuildError, ...]:
        """Return the faults that this error tells of: itself, or those it was joined of."""
        return self._parts or (self,)

    @override
    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """Return the text for people: one line each for the message, the details and the resolution.

        Details of several lines keep their line breaks, indented.
        """
        lines = [f"error: {self.message}"]
        if self.details:
            lines += _indented("details", self.details)
        if self.resolution:
            lines += _indented("resolution", self.resolution)
        return "\n".join(lines)


def _indented(title: str, text: str) -> list[str]:
    first, *rest = text.splitlines()
    return [f"  {title}: {first}", *(f"    {line}" for line in rest)]


class InventoryError(BuildError):
    """The inventory, the policy or a vendor's file says something that cannot be meant."""

    exit_code = 11


class ProfileError(BuildError):
    """An upstream profile is missing or wrong."""

    exit_code = 12


class LockError(BuildError):
    """The lock is missing, unreadable, newer than this builder or older than the inventory."""

    exit_code = 13


class SolverError(BuildError):
    """The wanted packages cannot be had together from the repositories of the profile."""

    exit_code = 14


class NetworkError(BuildError):
    """A host cannot be reached, or answers in a way that more tries did not mend."""

    exit_code = 15


class NotFoundError(NetworkError):
    """Upstream says that it does not have the thing asked for."""

    exit_code = 16


class CredentialsError(NetworkError):
    """Upstream asks for credentials that it was not given, or refuses the given ones."""

    exit_code = 17


class IntegrityError(BuildError):
    """Bytes are not the ones that their digest or size names."""

    exit_code = 18


class SignatureError(BuildError):
    """A signature is missing, bad, or made by a key that is not named for it."""

    exit_code = 19


class KeyFileError(BuildError):
    """A key file is missing, unreadable, revoked, or is not the pinned key."""

    exit_code = 20


class StoreError(BuildError):
    """The store cannot be used: locked by another build, read-only, or the disk is full."""

    exit_code = 21


class CommandError(BuildError):
    """A command of the system failed, ran out of time or is not installed."""

    exit_code = 22


class MissingError(BuildError):
    """The build needs an object that the store does not have: it was not fetched."""

    exit_code = 23


class ClosedWorldError(BuildError):
    """Something in the bundle needs something that is not in the bundle."""

    exit_code = 24


class VerifyError(BuildError):
    """A finished bundle is not what it says it is."""

    exit_code = 25


class WorkspaceError(BuildError):
    """The directory of products cannot be used: another build is at work there, or its disk is too full."""

    exit_code = 26


class PolicyError(BuildError):
    """Something was resolved that the policy does not allow."""

    exit_code = 30


class MovedError(BuildError):
    """Upstream has something else by now than the lock names."""

    exit_code = 31


def joined_faults(faults: Iterable[str]) -> str:
    """Join faults, one a line, for ``details``: all are reported at once."""
    return "\n".join(faults)


def joined(errors: Sequence[BuildError], what: str) -> BuildError:
    """Return one error for several: each fault once, sorted and numbered, with where it is and how to fix it.

    Its class is the one that all of them share, which gives the exit code; the root class where they share
    none. A single fault is returned as it is. ``what`` has the faults: ``the lock``.

    >>> print(joined([NotFoundError("b is gone", resolution="look"), NetworkError("a is far")], "the lock"))
    error: the lock has 2 faults
      details: 1. a is far
        2. b is gone
           fix: look
      resolution: fix them all, then run it again: nothing was written
    """
    faults = _distinct(fault for error in errors for fault in error.faults)
    if len(faults) == 1:
        return faults[0]
    shared = next(kind for kind in type(faults[0]).__mro__ if all(isinstance(item, kind) for item in faults))
    kind = shared if issubclass(shared, BuildError) else BuildError
    return kind(
        f"{what} has {len(faults)} faults",
        details="\n".join(_numbered(number, fault) for number, fault in enumerate(faults, start=1)),
        resolution="fix them all, then run it again: nothing was written",
        parts=faults,
    )


def _distinct(faults: Iterable[BuildError]) -> list[BuildError]:
    """Return faults in the order of code and words; those that differ in their details alone become one."""
    found: dict[tuple[int, str, str], tuple[BuildError, dict[str, None]]] = {}
    for fault in faults:
        key = (fault.exit_code, fault.message, fault.resolution)
        found.setdefault(key, (fault, {}))[1].update(dict.fromkeys(fault.details.splitlines()))
    return [
        fault
        if len(lines) <= len(fault.details.splitlines())
        else type(fault)(fault.message, details="\n".join(sorted(lines)), resolution=fault.resolution)
        for _, (fault, lines) in sorted(found.items(), key=lambda item: item[0])
    ]


def _numbered(number: int, fault: BuildError) -> str:
    margin = " " * len(f"{number}. ")
    lines = [f"{margin}{line}" for line in fault.details.splitlines()]
    if fault.resolution:
        lines.append(f"{margin}fix: {fault.resolution}")
    return "\n".join([f"{number}. {fault.message}", *lines])


#: What to do when bytes are not those that were locked: locking them anew would accept whatever changed them.
FIND_OUT_WHY = (
    "what was released does not change: find out why (a damaged mirror, a proxy, an upstream that was tampered "
    "with); only when the change is meant, run './doit.sh lock' and review the difference"
)
