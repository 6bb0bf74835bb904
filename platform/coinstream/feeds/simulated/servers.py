"""Run websocket servers in a thread, and serve REST replies over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server

from coinstream.errors import FeedError

_START_TIMEOUT_S: Final = 10.0


class WebsocketServer:
    """Websocket server that runs in a thread for the duration of a `with` block.

    Args:
        name: name of the thread and in errors.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        self._name, self._host, self._port = name, host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def port(self) -> int:
        """Return the port."""
        return self._port

    def __enter__(self) -> Self:
        """Start the server.

        Raises:
            FeedError: the port is taken.
        """
        self._thread.start()
        self._ready.wait(_START_TIMEOUT_S)
        if self._error is not None:
            raise FeedError(
                f"the {self._name} cannot listen on {self._host}:{self._port}: {self._error}"
            ) from self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_TIMEOUT_S)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await self._serve(self._stop)

        try:
            asyncio.run(serve())
        except OSError as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; call `_listening` first."""
        raise NotImplementedError

    def _listening(self, server: Server) -> None:
        self._port = int(next(iter(server.sockets)).getsockname()[1])
        self._ready.set()


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
