"""Make fuzzed records and frames from a seed: payloads, header names, keys and timestamps."""

from __future__ import annotations

import random
from collections.abc import Callable

import lz4.frame
import msgspec

from tests.lake.support import level1
from tests.raw_records import RawRecord

HUGE_TIMES = (None, 0, 1, 1_764_000_000_123_456, 1_764_000_000_123_456_789, 2**53, 2**62)
NAMES = (b"trace", b"compressed", b"dlq-topic", b"dlq-replayed", b"\xff", b"\x1b]0;x\x07", "é".encode(), b"")
VALUES = (b"true", b"0:0", b"", b"\xff\xfe", b"x" * 300)


def records(seed: int, count: int) -> list[RawRecord]:
    """Return fuzzed records; about a fifth are valid quotes without odd headers."""
    rng = random.Random(seed)
    return [_record(rng, number) for number in range(count)]


def frames(seed: int, count: int, lines: list[bytes]) -> list[bytes]:
    """Return lines of a recording, of which about half are damaged. None holds a line feed."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        line = lines[number % len(lines)]
        if rng.random() < 0.5:
            head, separator, payload = line.partition(b" ")
            line = head + separator + _damaged(rng, payload)
        found.append(line.replace(b"\n", b"").replace(b"\r", b""))
    return found


def _record(rng: random.Random, number: int) -> RawRecord:
    good = msgspec.json.encode(level1(number))
    if rng.random() < 0.2:
        return RawRecord(good, b"binance-BTC/USDT")
    value = rng.choice(_KINDS)(rng, good)
    key = rng.choice([None, b"", rng.randbytes(rng.randrange(40)), b"binance-BTC/USDT"])
    if value is None and key is None:
        key = b"tombstone"
    headers = [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(3))]
    return RawRecord(value, key, headers, rng.choice(HUGE_TIMES))


def _damaged(rng: random.Random, content: bytes) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content) + 1)]
    if kind == 1:
        at = rng.randrange(len(content) or 1)
        return content[:at] + rng.randbytes(rng.randrange(1, 4)) + content[at + 1 :]
    if kind == 2:
        return b"[" * rng.randrange(1, 4000)
    words = (b"null", b"-1", b"1e999", b"NaN", b'"\xff"', b"[]", b"{}", b"9" * 400)
    return content.replace(rng.choice([b'"', b":", b",", b"1"]), rng.choice(words), 1)


_KINDS: tuple[Callable[[random.Random, bytes], bytes | None], ...] = (
    lambda rng, good: None,
    lambda rng, good: rng.randbytes(rng.randrange(400)),
    _damaged,
    _damaged,
    lambda rng, good: lz4.frame.compress(good)[: rng.randrange(1, 60)],
    lambda rng, good: lz4.frame.compress(good) * rng.randrange(1, 3),
    lambda rng, good: b'{"a":' * rng.randrange(1, 3000),
    lambda rng, good: b'{"exchangeId":"' + rng.randbytes(8) + b'"}',
)
