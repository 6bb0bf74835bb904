"""Serve Data Docs over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from coinstream.errors import LakeError

_TITLE: Final = b"<!doctype html><title>Data Docs</title>"
_NOTHING_YET: Final = _TITLE + b"<p>Nothing was landed yet: run <code>coinstream lake land</code>."


class _Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Suppress the request log."""

    def list_directory(self, path: Any) -> None:
        """Refuse folder listings; without an index there are no pages yet."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_NOTHING_YET)))
        self.end_headers()
        self.wfile.write(_NOTHING_YET)


@contextmanager
def serve(folder: Path, host: str, port: int) -> Iterator[ThreadingHTTPServer]:
    """Return a server of the folder's files, bound and not yet serving.

    Raises:
        LakeError: the address is in use or invalid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        server = ThreadingHTTPServer((host, port), partial(_Pages, directory=str(folder)))
    except OSError as error:
        raise LakeError(
            f"Data Docs cannot be served at {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    with server:
        yield server
