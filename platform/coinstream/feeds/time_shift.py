"""Shift the times of messages, so that a recording is replayed with current times."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TypeVar

import msgspec

from coinstream.messages import Message, Ohlcv
from coinstream.serialization import is_time

M = TypeVar("M", bound=Message)


def rebased(message: M, shift_us: int) -> M:
    """Return the message with all times shifted by a number of microseconds.

    A candle is shifted by a multiple of its timeframe, so that its window stays aligned.
    """
    shift = timedelta(microseconds=shift_us)
    moved = {name: getattr(message, name) + shift for name in _times(type(message))}
    if isinstance(message, Ohlcv):
        window = message.close_time - message.open_time
        whole = (shift // window) * window if window else shift
        moved["open_time"] = message.open_time + whole
        moved["close_time"] = message.close_time + whole
    return msgspec.structs.replace(message, **moved)


@cache
def _times(cls: type[Message]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(cls) if is_time(field.encode_name))
