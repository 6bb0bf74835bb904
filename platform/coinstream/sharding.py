"""One part of a whole that several processes share by key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import mmh3

from coinstream.errors import SettingsError

# Not the seed 0 of the producer pool, which may spread keys by the same hash: with it, all keys of one of
# five shards would go through one of five producers.
_SEED: Final = 0x5A4D
_WRITTEN: Final = re.compile(r"(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count`; the first is 1. A key belongs to one shard, on every machine the same.

    The hash is mmh3 (MurmurHash3, 32 bits). Another `count` deals most keys anew.

    Raises:
        SettingsError: there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SettingsError(f"there is no shard {self}; of {self.count} they are numbered from 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """As people write it: `2/4`.

        Raises:
            SettingsError: the text is no shard.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise SettingsError(f"{text!r} is no shard; write the second of four as 2/4")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def all(cls, count: int) -> list[Self]:
        """Every shard of a whole."""
        return [cls(number, count) for number in range(1, count + 1)]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def name(self, whole: str) -> str:
        """Return the name of this shard of something named, for example `binance-live-2-of-4`."""
        return f"{whole}-{self.number}-of-{self.count}"

    def owns(self, key: str | bytes) -> bool:
        """Whether a key belongs to this shard."""
        return mmh3.hash(key, _SEED, signed=False) % self.count == self.number - 1

    def among(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Those of the keys that belong to this shard, in their order."""
        return tuple(filter(self.owns, keys))
