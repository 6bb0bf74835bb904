"""Keep ccxt's websocket client from losing updates.

Three things lose updates in the tested versions:

- Before each read the client takes all frames but one from aiohttp's queue without returning their byte
  count, so that aiohttp stops reading for good after about 4,096 of them. Buffered frames are taken by
  aiohttp's own `receive` instead.
- An update that arrives while no caller waits for its name is dropped. Updates of tickers go straight to the
  stream that asked for them; for all other names the next frame is read once the stream asks again.
- A call for many symbols waits for one future per symbol, which costs more than reading the frame. A stream
  of tickers asks once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

log = logging.getLogger(__name__)

TESTED: Final = (4, 5)
"""Major and minor version of ccxt whose client is patched."""
_TURNS: Final = 50
"""Turns of the event loop within which a stream requests its next update, unless it waits for room."""
_WAIT_S: Final = 0.002
_FRAMES_AT_ONCE: Final = 100
_MAX_WAITS: Final = 2_500


@dataclass(eq=False)
class UpdateStream:
    """One stream of updates of a client.

    Attributes:
        take: takes an update as soon as it is parsed and returns whether it is one; None leaves updates to
            the caller that waits.
        is_full: returns whether nothing more may be read.
    """

    take: Callable[[Any], bool] | None
    is_full: Callable[[], bool]


@dataclass
class _State:
    """State of a patched client: streams by name, and names whose streams must subscribe again."""

    streams: dict[str, list[UpdateStream]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    unasked: set[str] = field(default_factory=set)
    is_full: Callable[[], bool] = bool
    turns: int = 0

    @property
    def must_wait(self) -> bool:
        return self.is_full() or (bool(self.unasked) and self.turns < _TURNS + _MAX_WAITS)


_current: ContextVar[UpdateStream | None] = ContextVar("current", default=None)


@contextmanager
def stream_context(stream: UpdateStream) -> Iterator[None]:
    """Assign the requests to a client in this block to a stream."""
    token = _current.set(stream)
    try:
        yield
    finally:
        _current.reset(token)


@cache
def patch() -> bool:
    """Patch ccxt's websocket client for the whole process.

    Returns:
        Whether it is patched: ccxt is of the tested version and its client has what is patched.
    """
    import ccxt.pro
    from ccxt.async_support.base.ws.client import Client

    version = tuple(int(part) for part in ccxt.pro.__version__.split(".")[:2])
    parts = ("buffer", "future", "resolve", "receive_loop")
    if version != TESTED or not all(hasattr(Client, part) for part in parts):
        log.warning(
            "ccxt %s is not a version whose frame loss is known to be avoided (%s); quotes may be lost",
            *(ccxt.pro.__version__, ".".join(map(str, TESTED))),
        )
        return False
    buffer = Client.buffer.fget
    Client.buffer = property(_no_buffer)
    Client.future = _future(Client.future)
    Client.resolve = _resolve(Client.resolve)
    Client.receive_loop = _receive_loop(Client.receive_loop, buffer)
    return True


def _no_buffer(client: Any) -> None:
    """Return no buffer, so that there is nothing to drain."""


def _buffered_frame(client: Any, buffer: Callable[[Any], Any]) -> Any:
    """Return the next frame that is received already; None where there is none, or a control frame."""
    from aiohttp import WSMsgType

    waiting = buffer(client)
    if not waiting or waiting[0][0].type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        return None
    receiving = client.receive()
    try:
        receiving.send(None)
    except StopIteration as received:
        return received.value
    receiving.close()
    raise RuntimeError("aiohttp does not return a frame that is in its buffer")


def _state(client: Any) -> _State:
    found = getattr(client, "_coinstream", None)
    if found is None:
        found = client._coinstream = _State()
    return found


def _future(original: Callable[..., Any]) -> Callable[..., Any]:
    def future(client: Any, message_hash: str) -> Any:
        """Note which stream waits for a name."""
        stream = _current.get()
        if stream is not None:
            state = _state(client)
            state.is_full = stream.is_full
            streams = state.streams.setdefault(message_hash, [])
            if stream not in streams:
                streams.append(stream)
            state.asked[message_hash] = state.asked.get(message_hash, 0) + 1
            state.unasked.discard(message_hash)
        return original(client, message_hash)

    return future


def _resolve(original: Callable[..., Any]) -> Callable[..., Any]:
    def resolve(client: Any, result: Any, message_hash: str | None = None) -> Any:
        """Hand an update to its streams."""
        state = _state(client)
        streams = state.streams.get(message_hash or "", ())
        is_taken = [stream.take is not None and stream.take(result) for stream in streams]
        if is_taken and all(is_taken):
            return result
        # A name that is requested once (a login, a subscription) is not awaited again.
        if message_hash in client.futures and state.asked.get(message_hash or "", 0) > len(streams):
            state.unasked.add(message_hash or "")
        return original(client, result, message_hash)

    return resolve


def _receive_loop(original: Callable[..., Any], buffer: Callable[[Any], Any]) -> Callable[..., Any]:
    def receive_loop(client: Any) -> None:
        """Read the next frame when every stream has requested its next update and there is room."""
        state = _state(client)
        for _ in range(_FRAMES_AT_ONCE):
            if client.closed():
                break
            if state.must_wait:
                state.turns += 1
                if state.turns < _TURNS:
                    client.asyncio_loop.call_soon(client.receive_loop)
                else:
                    client.asyncio_loop.call_later(_WAIT_S, client.receive_loop)
                return
            state.turns = 0
            state.unasked.clear()
            frame = _buffered_frame(client, buffer)
            if frame is None:
                break
            client.handle_message(frame)
        original(client)

    return receive_loop
