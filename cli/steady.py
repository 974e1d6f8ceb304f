"""Output that may go nowhere: a closed terminal, cron, a full disk, `| head` must not cost the work.

What is written to stdout or stderr after the first failure is dropped; `cli.main.run` says so at the end.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class SteadyStream:
    """A text stream whose failures are remembered instead of raised.

    Args:
        stream: what is written to; None where the process was started without it.

    Attributes:
        failure: the first error, None while all went well. A reader that went away (`| head`) counts as one.
        is_missing: something was written though the process was started without the stream (``>&-``).
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        self.is_missing = False

    @property
    def is_lost(self) -> bool:
        """Whether something that was written is not where it should be: not a reader that had enough."""
        return self.failure is not None and self.failure.errno not in (errno.EPIPE, errno.EBADF)

    def write(self, text: str) -> int:
        """Write, or drop the text after a failure."""
        if not isinstance(text, str):  # click asks in this way whether a stream takes bytes
            msg = f"write() takes str, not {type(text).__name__}"
            raise TypeError(msg)
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether a person is watching."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self.failure is None and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            if name == "encoding":
                return "utf-8"
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _try(self, name: str, *arguments: str) -> None:
        if self._stream is None:
            self.is_missing = self.is_missing or any(arguments)
        if self._stream is None or self.failure is not None:
            return
        try:
            getattr(self._stream, name)(*arguments)
        except (OSError, ValueError) as exc:  # ValueError: closed by somebody else
            self.failure = exc if isinstance(exc, OSError) else OSError(errno.EBADF, str(exc))
            self._give_up()

    def _give_up(self) -> None:
        """What the stream still holds goes to the null device, or the interpreter would fail on it at its end."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, cast(TextIO, self._stream).fileno())
            os.close(null)


def steady_output() -> tuple[SteadyStream, SteadyStream]:
    """Put steady streams in the place of stdout and stderr."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed: the next file that is opened would get this number, and what C libraries print would go into it.
            os.open(os.devnull, os.O_RDWR)
    out, err = SteadyStream(sys.stdout), SteadyStream(sys.stderr)
    # File names may hold bytes that are no text; showing them must not fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    return out, err
