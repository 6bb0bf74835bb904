"""Route messages: topic, key, partition, and the shard of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import mmh3

from coinstream.errors import SettingsError
from coinstream.messages import Message, classify, type_named, type_of

# Differs from the seed 0 of the producer pool, which may use the same hash: otherwise all keys of one of five
# shards would use one of five producers.
_SHARD_SEED: Final = 0x5A4D
_WRITTEN: Final = re.compile(r"(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`, counted from 1. A key belongs to the same shard on every machine.

    The hash is mmh3 (MurmurHash3, 32 bits). A change of `count` moves most keys to other shards.

    Raises:
        SettingsError: `number` is not between 1 and `count`.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SettingsError(f"invalid shard {self}: the number must be from 1 to {self.count}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a shard written as `2/4`.

        Raises:
            SettingsError: the text is not a valid shard.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise SettingsError(f"invalid shard {text!r}; expected NUMBER/COUNT, for example 2/4")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def all(cls, count: int) -> list[Self]:
        """Return all shards of a count."""
        return [cls(number, count) for number in range(1, count + 1)]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def name(self, whole: str) -> str:
        """Return the name of this shard of a feed or group, for example `binance-live-2-of-4`."""
        return f"{whole}-{self.number}-of-{self.count}"

    def owns(self, key: str | bytes) -> bool:
        """Return whether a key belongs to this shard."""
        return mmh3.hash(key, _SHARD_SEED, signed=False) % self.count == self.number - 1

    def among(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Return the keys that belong to this shard, in their order."""
        return tuple(filter(self.owns, keys))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF

MAX_CACHED_ROUTES: Final = 100_000
"""Maximum cached routes, one per market. Further routes are computed each time."""


class Route(NamedTuple):
    """Topic and key of a message."""

    topic: str
    key: bytes


class MessageRouter:
    """Chooses topic and key from the set of existing topics, without a request per message.

    `set_topics` replaces the set of existing topics. Thread-safe.
    """

    def __init__(self, existing: Iterable[str] = ()) -> None:
        self._existing = frozenset(existing)
        self._routes: dict[tuple[type[Message], str, str | None], Route] = {}

    def set_topics(self, existing: Iterable[str]) -> None:
        """Replace the set of existing topics."""
        fresh = frozenset(existing)
        if fresh != self._existing:
            self._existing = fresh
            self._routes = {}

    def route(self, message: Message) -> Route:
        """Return the topic and key of a message.

        Raises:
            UnroutableError: the message type is not registered.
        """
        # Read before the topics: a route computed from old topics is then stored in the old cache.
        cache = self._routes
        route_key = (type(message), message.exchange_id, getattr(message, "symbol", None))
        found = cache.get(route_key)
        if found is not None:
            return found
        _, exchange, symbol = route_key
        topic, own = self._topic(type_of(message).topic, exchange)
        route = Route(topic, key_for(exchange, symbol, own_topic=own))
        if len(cache) < MAX_CACHED_ROUTES:
            cache[route_key] = route
        return route

    def topic_of(self, data: Message | Mapping[str, Any], data_type: str | None = None) -> str:
        """Return the topic of a message or of wire fields, by `data_type` if it is given.

        Raises:
            UnroutableError: the type is unknown, or the fields match none; the message lists the fields.
        """
        if isinstance(data, Message):
            return self.route(data).topic
        kind = type_named(data_type) if data_type else classify(data)
        return self._topic(kind.topic, str(data.get("exchangeId", "")))[0]

    def _topic(self, general: str, exchange: str) -> tuple[str, bool]:
        own = f"{general}-{exchange}"
        return (own, True) if own in self._existing else (general, False)


def key_for(exchange: str, symbol: str | None, *, own_topic: bool) -> bytes:
    """Return the record key.

    Returns:
        The symbol in the topic of an exchange, `{exchange}-{symbol}` in other topics, and the source for
        messages without a symbol.
    """
    if symbol is None:
        return exchange.encode()
    return symbol.encode() if own_topic else f"{exchange}-{symbol}".encode()


def message_key(message: Message, topic: str) -> bytes:
    """Return the record key of a message in a given topic.

    Raises:
        UnroutableError: the message type is not registered.
    """
    own = topic == f"{type_of(message).topic}-{message.exchange_id}"
    return key_for(message.exchange_id, getattr(message, "symbol", None), own_topic=own)


def record_time_ms(message: Message) -> int:
    """Return the record's timestamp: `last_updated` in Unix milliseconds, truncated.

    Raises:
        TypeError: the time is naive.
    """
    # Integer arithmetic: `timestamp() * 1000` is sometimes off by a millisecond.
    return (message.last_updated - _EPOCH) // _MILLISECOND


def murmur2(key: bytes) -> int:
    """Return Kafka's 32-bit murmur2 hash as an unsigned number, as `Utils.murmur2` of the Java client."""
    length = len(key)
    h = (_SEED ^ length) & _MASK
    whole = length - length % 4
    for at in range(0, whole, 4):
        k = (int.from_bytes(key[at : at + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if rest := key[whole:]:
        h = ((h ^ int.from_bytes(rest, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=MAX_CACHED_ROUTES)
def partition_of_key(key: bytes, partitions: int) -> int:
    """Return the partition that Java, librdkafka's `murmur2_random` and kafkajs choose for a key.

    librdkafka partitions produced messages itself. Use this function to find the partition of a key.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions
