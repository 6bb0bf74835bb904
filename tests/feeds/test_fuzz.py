"""No frame makes a parser raise: truncated, nested, binary and wrongly typed ones, for every exchange."""

from __future__ import annotations

import copy
import gzip
import random
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.parser import Frame, Parsed, account_for
from coinstream.feeds.recordings import exchange_of, exchanges_with_parser, new_parser, read_lines
from coinstream.messages import Level1, Price
from coinstream.serialization import MessageSerializer

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
RECEIVED_NS = 1_723_161_254_087_891_268
URLS = (
    "",
    "reply:///api/v3/coins/markets?vs_currency=usd",
    "https://api.binance.com/api/v3/depth?symbol=BTCUSDT",
)
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e400, -1e-300, 2**70, "", "x", "NaN", "-0", [], [[]], {}, {"a": []}, "1" * 400),
    *("9999999999999999", "2021-13-45T99:99:99Z", 1e18, -5, float("1e308")),
)
DEEP = (b"[" * 100_000, b'{"a":' * 100_000, b'[{"data":' * 50_000, b'{"data":' + b"[" * 100_000)
BINARY = (
    b"",
    b"\xff\xfe\x00",
    b"\x1f\x8b",
    gzip.compress(b'{"ping":1}')[:-6],
    gzip.compress(b"[" * 100_000),
    zlib.compress(b'{"a":1}')[:-3],
    zlib.compress(b'{"a":1}')[2:-4],
    b"\x00" * 200,
    b'"\xed\xa0\x80"',
)


@cache
def samples() -> dict[str, list[bytes]]:
    """Return frames of recorded sessions by exchange, of each shape a few."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(FOLDER.glob("*.gz")):
        exchange = None
        shapes: dict[bytes, int] = {}
        for line in read_lines(path):
            exchange = exchange or (exchange_of(line.frame.url) if line.frame.url else None)
            shape = line.frame.payload[:24]
            shapes[shape] = shapes.get(shape, 0) + 1
            if exchange and line.reason is None and shapes[shape] <= 2:
                found.setdefault(exchange, []).append(line.frame.payload)
    return {exchange: frames[:60] for exchange, frames in found.items()}


def harmless(exchange: str, payload: bytes, url: str | None = None) -> Parsed:
    """Parse a frame with a new parser; its outcome is counted, and its messages can be written."""
    parser, stats, frame = new_parser(exchange), FeedStats(), Frame(RECEIVED_NS, payload, url)
    parsed = parser.parse(frame)
    account_for(parsed, frame, exchange, stats)
    assert stats.is_balanced
    for message in parsed.messages:
        if isinstance(message, Level1 | Price):
            MessageSerializer(strict=False).encode(message)
    return parsed


@pytest.mark.parametrize("exchange", exchanges_with_parser())
def test_deeply_nested_and_binary_frames_are_counted(exchange: str) -> None:
    for payload in (*DEEP, *BINARY):
        assert not harmless(exchange, payload).messages
        harmless(exchange, payload, URLS[2])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=80), json_values.map(msgspec.json.encode)), st.sampled_from(URLS))
def test_no_bytes_and_no_json_make_a_parser_raise(payload: bytes, url: str) -> None:
    for exchange in exchanges_with_parser():
        harmless(exchange, payload, url or None)


def mutations(payload: bytes, dice: random.Random) -> Iterator[bytes]:
    """Yield a frame cut in two places, and with each of some values replaced by an odd one."""
    yield payload[: len(payload) // 2]
    yield payload[: dice.randrange(len(payload) + 1)]
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    places = list(_places(value, ()))
    for _ in range(12):
        changed = copy.deepcopy(value)
        holder, at = changed, dice.choice(places or [()])
        if not at:
            continue
        for key in at[:-1]:
            holder = holder[key]
        if dice.random() < 0.3 and isinstance(holder, dict):
            del holder[at[-1]]
        else:
            holder[at[-1]] = dice.choice(ODD)
        try:
            yield msgspec.json.encode(changed)
        except (OverflowError, ValueError):
            continue


def _places(value: Any, at: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*at, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value[:20]):
            yield from _places(inner, (*at, key))


@pytest.mark.parametrize("exchange", sorted(samples()))
def test_no_change_of_a_recorded_frame_makes_its_parser_raise(exchange: str) -> None:
    dice = random.Random(exchange)
    parser, stats = new_parser(exchange), FeedStats()
    serializer = MessageSerializer()
    for payload in samples()[exchange]:
        for changed in (payload, *mutations(payload, dice)):
            frame = Frame(RECEIVED_NS, changed)
            parsed = parser.parse(frame)
            account_for(parsed, frame, exchange, stats)
            for message in parsed.messages:
                serializer.encode(message)
    assert stats.is_balanced
    assert stats.frames > 10
