"""Make standard output safe: any encoding, and the conventional exit code on a broken pipe."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, Final, NoReturn

BROKEN_PIPE_CODE: Final = 141
"""128 and the number of SIGPIPE, as shells report a command whose reader has gone."""


class PipeOutput(io.TextIOWrapper):
    """Standard output that ends the command, with its cleanup, when its reader has gone."""

    def write(self, text: str, /) -> int:
        """Write text.

        Raises:
            SystemExit: the reader has gone.
        """
        try:
            return super().write(text)
        except BrokenPipeError:
            _end()

    def flush(self) -> None:
        """Flush what was written.

        Raises:
            SystemExit: the reader has gone.
        """
        try:
            super().flush()
        except BrokenPipeError:
            _end()


def protect_output() -> None:
    """Replace standard output, and let characters that its encoding lacks be escaped instead of refused."""
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
    # What is buffered goes nowhere, also when the interpreter flushes at its exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    raise SystemExit(BROKEN_PIPE_CODE)
