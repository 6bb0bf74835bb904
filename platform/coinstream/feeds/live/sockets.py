"""Open websockets with picows, or with websockets if frames are compressed.

Both deliver the frames of one socket read together. picows takes 0.2 us of processor time per frame and
websockets 3.8 us, but only websockets supports permessage-deflate.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import picows
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

OPEN_TIMEOUT_S: Final = 10.0
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
RECEIVE_BUFFER_BYTES: Final = 256 * 1024
"""Receive buffer of a socket over picows. It bounds the frames of one read, which all wait until they are
published: a buffer that grows to megabytes would delay them by hundreds of milliseconds. At a round trip
of 200 ms it still lets some 10,000 quotes per second through."""
_TEXT: Final = picows.WSMsgType.TEXT
_QUEUE: Final = (2048, 512)

OnFrames = Callable[[Sequence[bytes]], None]
"""Callback that receives the text and binary frames of one socket read."""


class SocketError(Exception):
    """A websocket could not be opened, or broke.

    Attributes:
        status: HTTP status of a refused handshake, else None.
        retry_after: value of the `Retry-After` header of a refused handshake, if any.
    """

    def __init__(self, text: str, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class Socket(Protocol):
    """An open websocket."""

    async def send(self, payload: bytes) -> None:
        """Send a text frame.

        Raises:
            SocketError: the connection is closed.
        """
        ...

    def pause(self) -> None:
        """Stop reading."""
        ...

    def resume(self) -> None:
        """Resume reading."""
        ...

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. Errors of `OnFrames` are raised here."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


async def open_socket(
    url: str, headers: Mapping[str, str], on_frames: OnFrames, *, compressed: bool
) -> Socket:
    """Connect to an address.

    Args:
        compressed: whether the exchange compresses frames with permessage-deflate.

    Raises:
        SocketError: the exchange cannot be reached, or refuses the connection.
    """
    opened: Socket
    if compressed:
        opened = await WebsocketsSocket.open(url, headers, on_frames)
    else:
        opened = await PicowsSocket.open(url, headers, on_frames)
    return opened


class _Listener(picows.WSListener):
    """Collects the frames of one socket read, and replies to pings."""

    def __init__(self, on_frames: OnFrames) -> None:
        self._on_frames = on_frames
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        self.error: BaseException | None = None

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Collect a frame, and deliver all frames of the socket read after its last one."""
        # Hot path: almost every frame is a whole text frame.
        if frame.msg_type == _TEXT and frame.fin and not self._parts:
            self._frames.append(frame.get_payload_as_bytes())
        else:
            self._on_other_frame(transport, frame)
        if frame.last_in_buffer and self._frames:
            frames, self._frames = self._frames, []
            try:
                self._on_frames(frames)
            except BaseException as error:  # noqa: BLE001 (raised again by wait_closed)
                self.error = error
                transport.disconnect()

    def _on_other_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                self._frames.append(b"".join(self._parts))
                self._parts = []
        elif kind == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == picows.WSMsgType.CLOSE:
            transport.disconnect()


class PicowsSocket:
    """A websocket over picows."""

    def __init__(self, transport: picows.WSTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str], on_frames: OnFrames) -> PicowsSocket:
        """Connect.

        Raises:
            SocketError: see `open_socket`.
        """
        listener = _Listener(on_frames)
        try:
            transport, _ = await picows.ws_connect(
                lambda: listener,
                url,
                websocket_handshake_timeout=OPEN_TIMEOUT_S,
                enable_auto_pong=False,
                max_frame_size=MAX_FRAME_BYTES,
                extra_headers=dict(headers) or None,
            )
        except picows.WSInvalidStatusError as refused:
            reply = refused.response
            status = int(reply.status) if reply is not None else 0
            retry_after = reply.headers.get("Retry-After") if reply is not None else None
            raise SocketError(f"HTTP {status}", status, retry_after) from refused
        except (picows.WSError, OSError, TimeoutError, ValueError) as error:
            raise SocketError(str(error) or type(error).__name__) from error
        connected = transport.underlying_transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        return cls(transport, listener)

    async def send(self, payload: bytes) -> None:
        """See `Socket.send`."""
        if self._transport.is_disconnected:
            raise SocketError("the connection is closed")
        self._transport.send(picows.WSMsgType.TEXT, payload)

    def pause(self) -> None:
        """See `Socket.pause`."""
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """See `Socket.resume`."""
        if not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()

    async def wait_closed(self) -> None:
        """See `Socket.wait_closed`."""
        try:
            await self._transport.wait_disconnected()
        except picows.WSError as error:
            raise SocketError(str(error) or type(error).__name__) from error
        if self._listener.error is not None:
            raise self._listener.error

    async def close(self) -> None:
        """See `Socket.close`."""
        self._transport.disconnect()


class WebsocketsSocket:
    """A websocket over websockets, which supports compression."""

    def __init__(self, connection: ClientConnection, on_frames: OnFrames) -> None:
        self._connection = connection
        self._on_frames = on_frames
        self._reads = asyncio.Event()
        self._reads.set()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str], on_frames: OnFrames) -> WebsocketsSocket:
        """Connect.

        Raises:
            SocketError: see `open_socket`.
        """
        try:
            connection = await connect(
                url,
                additional_headers=dict(headers),
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1.0,
                max_queue=_QUEUE,
                max_size=MAX_FRAME_BYTES,
            )
        except InvalidStatus as refused:
            reply = refused.response
            raise SocketError(
                f"HTTP {reply.status_code}", reply.status_code, reply.headers.get("Retry-After")
            ) from refused
        except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as error:
            raise SocketError(str(error) or type(error).__name__) from error
        return cls(connection, on_frames)

    async def send(self, payload: bytes) -> None:
        """See `Socket.send`."""
        try:
            await self._connection.send(payload, text=True)
        except ConnectionClosed as error:
            raise SocketError(str(error)) from error

    def pause(self) -> None:
        """See `Socket.pause`."""
        self._reads.clear()

    def resume(self) -> None:
        """See `Socket.resume`."""
        self._reads.set()

    async def wait_closed(self) -> None:
        """See `Socket.wait_closed`."""
        await self._task

    async def close(self) -> None:
        """See `Socket.close`."""
        self._task.cancel()
        await self._connection.close()

    async def _read(self) -> None:
        while True:
            await self._reads.wait()
            try:
                payload = await self._connection.recv(decode=False)
            except ConnectionClosed:
                return
            self._on_frames((payload,))
