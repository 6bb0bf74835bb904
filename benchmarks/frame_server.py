"""Serve prepared websocket frames of one exchange, and its list of instruments, in a process of its own.

`python -m benchmarks.frame_server VENUE FRAMES RATE` prints its port. A RATE of 0 sends as fast as the client
reads. The simulated exchange costs more per quote than the feed that is measured; this server costs next to
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.venue_frames import VENUES, Venue, frames_of

ROOT: Final = Path(__file__).resolve().parents[1]
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STEP_S: Final = 0.005
_AT_ONCE: Final = 500


@contextmanager
def frame_server(venue: str, frames: int, rate: float = 0.0) -> Iterator[str]:
    """Yield the address (`127.0.0.1:port`) of a server in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.frame_server", venue, str(frames), str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait(10)


def _websocket_frame(payload: bytes) -> bytes:
    size = len(payload)
    return (bytes([0x81, size]) if size < 126 else b"\x81\x7e" + struct.pack("!H", size)) + payload


def _serve(client: socket.socket, venue: Venue, frames: list[bytes], rate: float) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        received = client.recv(65_536)
        if not received:
            return
        head += received
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    key = headers.get(b"sec-websocket-key")
    if key is None:
        with client:
            client.sendall(_rest_reply(venue, head.split(b" ", 2)[1].decode()))
        return
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    threading.Thread(target=_drain, args=(client,), daemon=True).start()
    # The subscription comes first, as with a real exchange.
    time.sleep(0.3)
    sent, due, last = 0, 0.0, time.monotonic()
    while sent < len(frames):
        count = _AT_ONCE
        if rate:
            time.sleep(_STEP_S)
            now = time.monotonic()
            due, last = due + min(now - last, 0.5) * rate, now
            count = int(due)
            due -= count
        if count:
            client.sendall(b"".join(frames[sent : sent + count]))
            sent += count


def _rest_reply(venue: Venue, path: str) -> bytes:
    body = venue.reply(path)
    status = b"404 Not Found" if body is None else b"200 OK"
    body = body or b""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)


def _drain(client: socket.socket) -> None:
    try:
        while client.recv(65_536):
            pass
    except OSError:
        return  # the client is gone


def _accept(client: socket.socket, venue: Venue, frames: list[bytes], rate: float) -> None:
    try:
        _serve(client, venue, frames, rate)
    except OSError:
        return  # the client is gone


def main(name: str, count: str, rate: str) -> None:
    """Serve until the process is ended."""
    venue = VENUES[name]
    frames = [_websocket_frame(frame) for frame in frames_of(venue, int(count))]
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_accept, args=(client, venue, frames, float(rate)), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
