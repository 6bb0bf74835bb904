"""Answers to frames, and instrument lists, hold against truncated, binary, nested or wrongly typed data."""

from __future__ import annotations

import gzip
import random
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Frame
from coinstream.feeds.recordings import read_lines
from tests.feeds.exchanges.recorded import EXCERPTS, RECEIVED_NS

BARE: Final = (
    *(b"", b"null", b"5", b"true", b'"x"', b"[]", b"{}", b"[1]", b"[[]]", b"[1,2,3]", b"\x00\xff", b"pong"),
    *(b'{"type":5}', b'{"event":{}}', b'{"channel":[],"data":{}}', b'{"e":"depthUpdate"}', b'{"data":null}'),
    *(b'{"topic":7,"data":[{}]}', b'{"method":"subscribe","params":[]}', gzip.compress(b"{}")[:9]),
)
JUNK: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1e300, 2**63, 10**30, "", "x", "NaN", "1e309", "-0", "9" * 400, [], {}, [[]]),
    *({"a": 1}, ["x"] * 3, "2021-13-40T00:00:00Z", "\x00", "99999999999999999999"),
)


@cache
def seeds(exchange: str) -> tuple[bytes, ...]:
    """Return frames of the exchange from its excerpts, and what any exchange might get."""
    frames = list(BARE)
    for path in sorted(EXCERPTS.glob(f"{exchange}.*gz")):
        lines = [line.frame.payload for line in read_lines(path) if line.reason is None]
        frames += [payload[:4000] for payload in lines[:: max(1, len(lines) // 40)]]
        frames += [line.frame.payload for line in read_lines(path) if line.frame.url and line.reason is None][
            :5
        ]
    return tuple(frames)


def mutated(value: Any, chance: random.Random) -> Any:
    """Return JSON data with some values replaced, fields removed and lists cut."""
    if chance.random() < 0.1:
        return chance.choice(JUNK)
    if isinstance(value, dict):
        found = {key: mutated(item, chance) for key, item in value.items()}
        if found and chance.random() < 0.1:
            found.pop(chance.choice(list(found)))
        return found
    if isinstance(value, list):
        rows = [mutated(item, chance) for item in value[:6]]
        return rows[: chance.randrange(len(rows) + 1)] if chance.random() < 0.1 else rows
    return value


def payload(exchange: str, chance: random.Random) -> bytes:
    """Return a damaged frame of the exchange."""
    seed = chance.choice(seeds(exchange))
    match chance.randrange(6):
        case 0:
            return seed[: chance.randrange(len(seed) + 1)]
        case 1:
            return bytes(byte if chance.random() > 0.02 else chance.randrange(256) for byte in seed)
        case 2:
            return b"[" * chance.choice((400, 100_000)) + seed
    try:
        value = msgspec.json.decode(seed)
    except msgspec.DecodeError:
        return seed
    return msgspec.json.encode(mutated(value, chance))


@pytest.mark.parametrize("exchange", sorted(adapters()))
@settings(max_examples=40, deadline=None, derandomize=True)
@given(start=st.integers(0, 2**32))
def test_a_damaged_reply_is_an_error_of_the_feed(exchange: str, start: int) -> None:
    chance = random.Random(start)
    adapter = adapters()[exchange]()
    for _ in range(5):
        body = payload(exchange, chance)
        answer = adapter.answer(Frame(RECEIVED_NS, body))
        assert answer is None or isinstance(answer, bytes)
        with suppress(FeedError):
            found = adapter.parse_instruments(chance.choice(adapter.instruments_urls or ("",)), body)
            assert all(isinstance(instrument, Instrument) for instrument in found)
