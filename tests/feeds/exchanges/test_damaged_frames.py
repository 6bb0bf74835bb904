"""Every adapter's parser under damaged frames: it gives valid messages or reasons, and never raises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.values import inflated
from coinstream.feeds.parser import Frame, Parser
from coinstream.feeds.recordings import new_parser, read_lines
from coinstream.feeds.registry import sample_path
from coinstream.messages import Message
from tests.feeds.exchanges.recorded import EXCERPTS
from tests.feeds.test_documented_frames import FRAMES

RECEIVED_NS = 1_700_000_000_000_000_000
KEPT = 40
URLS = (None, None, None, "https://example.com/orderbook?symbol=BTC-USDT&contract=BTC_USDT&limit=5")
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1e300, "", "x", "NaN", "inf", "1e999", -0.0, 10**30, "9" * 400),
    *([], {}, [[]], [None], {"a": 1}, "2021-13-45T00:00:00Z", "-", "BTC-USDT", ["1", "2"]),
)
SHALLOW: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"[",
    b'{"',
    b"null",
    b"7",
    b'"x"',
    b"\x1f\x8b\x08\x00",
    b"\xff\xfe",
)
DEEP: tuple[bytes, ...] = (b"[" * 100_000, b'{"a":' * 20_000, b'{"data":' + b"[" * 50_000)


@cache
def corpus(exchange: str) -> list[Any]:
    """Return decoded frames of the exchange's documentation and excerpts, one for each beginning."""
    found: dict[str, Any] = {str(case.frame)[:60]: case.frame for case in FRAMES if case.exchange == exchange}
    samples = sorted(sample_path("").glob(f"{exchange}-*.gz"))
    for path in [*samples, *sorted(EXCERPTS.glob(f"{exchange}*.gz"))]:
        if "instruments" in path.name:
            continue
        for line in read_lines(path):
            if line.reason is None and line.frame.url is None:
                try:
                    value = msgspec.json.decode(inflated(line.frame.payload))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                found.setdefault(str(value)[:60], value)
        if len(found) > KEPT:
            break
    return list(found.values())[:KEPT] or [{"channel": "x", "data": [{}]}]


def damaged(value: Any, random: Random) -> Any:
    """Return a copy of a decoded frame with some values replaced and some fields left out."""
    if random.random() < 0.12:
        return random.choice(JUNK)
    if isinstance(value, dict):
        kept = {key: damaged(item, random) if random.random() < 0.5 else item for key, item in value.items()}
        if kept and random.random() < 0.2:
            kept.pop(random.choice(list(kept)))
        return kept
    if isinstance(value, list):
        return [damaged(item, random) if random.random() < 0.3 else item for item in value[:6]]
    return value


def numbers(value: Any) -> Iterator[float]:
    """Yield every number in a decoded message."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float | int):
        yield value


def check(parser: Parser, payload: bytes, url: str | None = None) -> None:
    """Assert that a frame gives valid messages or a reason."""
    parsed = parser.parse(Frame(RECEIVED_NS, payload, url))
    assert parsed.messages or parsed.rejected, payload[:300]
    for message in parsed.messages:
        assert isinstance(message, Message)
        told = msgspec.to_builtins(message)
        msgspec.convert(told, type(message))
        assert all(math.isfinite(number) for number in numbers(told)), (payload[:300], message)


@pytest.mark.parametrize("exchange", sorted(adapters()))
class TestEveryAdapter:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(random=st.randoms(use_true_random=False))
    def test_damaged_frames_give_valid_messages_or_reasons(self, exchange: str, random: Random) -> None:
        parser, frames = new_parser(exchange), corpus(exchange)
        for _ in range(10):
            payload = msgspec.json.encode(damaged(random.choice(frames), random))
            if random.random() < 0.1:
                payload = payload[: random.randrange(len(payload) + 1)]
            check(parser, payload, random.choice(URLS))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(payload=st.binary(max_size=80))
    def test_binary_frames_give_reasons(self, exchange: str, payload: bytes) -> None:
        check(new_parser(exchange), payload)

    @pytest.mark.parametrize("payload", [*SHALLOW, *DEEP], ids=lambda payload: repr(payload[:8]))
    def test_broken_and_deeply_nested_frames_give_reasons(self, exchange: str, payload: bytes) -> None:
        check(new_parser(exchange), payload)
