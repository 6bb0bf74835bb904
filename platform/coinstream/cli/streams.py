"""Protect standard output, and convert Ctrl-C and SIGTERM to a graceful stop."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

BROKEN_PIPE_CODE: Final = 141
"""128 plus the number of SIGPIPE, the usual exit code after a broken pipe."""


class PipeOutput(io.TextIOWrapper):
    """Standard output that exits the command, with cleanup, when its reader has closed the pipe."""

    def write(self, text: str, /) -> int:
        """Write text.

        Raises:
            SystemExit: the reader has closed the pipe.
        """
        try:
            return super().write(text)
        except BrokenPipeError:
            _end()

    def flush(self) -> None:
        """Flush written text.

        Raises:
            SystemExit: the reader has closed the pipe.
        """
        try:
            super().flush()
        except BrokenPipeError:
            _end()


def protect_output() -> None:
    """Replace standard output, and escape characters that its encoding does not support."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        old = sys.stdout
        options: dict[str, Any] = {
            "encoding": old.encoding,
            "errors": "backslashreplace",
            "line_buffering": old.line_buffering,
            "write_through": old.write_through,
        }
        sys.stdout = PipeOutput(old.detach(), **options)


def _end() -> NoReturn:
    # Discard buffered output, also when the interpreter flushes at exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    raise SystemExit(BROKEN_PIPE_CODE)


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at the first Ctrl-C or SIGTERM; let the second one interrupt."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, kept[signal.Signals(number)])

    for number in kept:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
