# SPDX-License-Identifier: Apache-2.0
"""Write to a reader that may go away: what a command found does not depend on who still listens."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TextIO

GONE = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF, errno.ECONNRESET})
"""Nobody reads: the end of a pipe (``| head``), a terminal that has hung up, a descriptor that was closed."""


class Output:
    """Standard output or error, or nothing (None: it was closed before the start).

    A reader that is gone is no fault: what is said then is dropped. Any other fault (a full disk) is kept in
    ``fault``. Characters that the stream cannot hold are escaped: a file's name may have any bytes.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.fault = ""

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return (self._stream.encoding if self._stream is not None else "") or "utf-8"

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write, or drop it when nobody reads any more."""
        if self._stream is not None:
            shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            try:
                self._stream.write(shown)
            except OSError as exc:
                self._drop(exc)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as exc:
                self._drop(exc)

    def _drop(self, exc: OSError) -> None:
        """Write no more, and let what still lies in the buffer go nowhere at the end of the process."""
        if exc.errno not in GONE:
            self.fault = exc.strerror or str(exc)
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, stream.fileno() if stream is not None else nowhere)
            os.close(nowhere)


def open_standard_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr /dev/null for each that lacks.

    The next file that it opens would else get that number, and whatever is said to it.
    """
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
        os.set_inheritable(number, True)  # noqa: FBT003  the signature of os
