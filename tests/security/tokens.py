"""A token endpoint: OAuth 2 client credentials over real HTTP, giving unsecured JSON web tokens."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

CLIENT_ID = "feeds"
CLIENT_SECRET = "oauth-Secret-never-shown"


@contextmanager
def token_endpoint(requests: list[dict[str, list[str]]] | None = None) -> Iterator[str]:
    """Serve tokens to clients that know the secret, and yield the address.

    Args:
        requests: receives the form of each request.
    """
    forms = [] if requests is None else requests
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, forms))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, forms: list[dict[str, list[str]]], *rest: Any) -> None:
        self._forms = forms
        super().__init__(*rest)

    def do_POST(self) -> None:
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._forms.append(parse_qs(body.decode()))
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(401, {"error": "invalid_client"})
            return
        self._answer(200, {"access_token": _token(), "token_type": "bearer", "expires_in": 300})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def _token() -> str:
    now = int(time.time())
    claims = {"sub": CLIENT_ID, "iat": now, "exp": now + 300, "scope": "market-data"}
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _part(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
