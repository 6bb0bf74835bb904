"""Serve REST replies over HTTP: those of a recording, or any others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit


class RestServer:
    """HTTP server that answers GET and POST requests with JSON.

    Args:
        reply: returns the body for a path with query, or None for status 404.
        host: address to listen on; the port is a free one.
    """

    def __init__(self, reply: Callable[[str], bytes | None], host: str = "127.0.0.1") -> None:
        class Handler(BaseHTTPRequestHandler):
            """Handler that answers with the replies of this server."""

            def do_GET(self) -> None:
                """Answer a request."""
                found = reply(self.path)
                body = b"{}" if found is None else found
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 (the base class's name)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
                """Suppress the request log."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start the server."""
        threading.Thread(target=self._server.serve_forever, name="rest-server", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class RecordedReplies:
    """REST replies of a recording by path and query."""

    def __init__(self) -> None:
        self._replies: dict[str, list[tuple[dict[str, str], bytes]]] = {}

    def add(self, url: str, body: bytes) -> None:
        """Add the reply of a URL."""
        told = urlsplit(url)
        self._replies.setdefault(told.path, []).append((dict(parse_qsl(told.query)), body))

    def find(self, target: str) -> bytes | None:
        """Return the newest reply to a request, or None.

        Parameters such as a market must be equal; numbers such as a limit may differ.
        """
        asked = urlsplit(target)
        wanted = dict(parse_qsl(asked.query))
        for query, body in reversed(self._replies.get(asked.path, [])):
            if all(_is_alike(query.get(name, value), value) for name, value in wanted.items()):
                return body
        return None


def _is_alike(recorded: str, wanted: str) -> bool:
    return recorded.lower() == wanted.lower() or (recorded.isdigit() and wanted.isdigit())
