"""Divide keys among several processes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import mmh3

from coinstream.errors import SettingsError

# Differs from the seed 0 of the producer pool, which may use the same hash: otherwise all keys of one of five
# shards would use one of five producers.
_SEED: Final = 0x5A4D
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
            raise SettingsError(f"there is no shard {self}; of {self.count} they are numbered from 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a shard written as `2/4`.

        Raises:
            SettingsError: the text is not a valid shard.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise SettingsError(f"{text!r} is no shard; write the second of four as 2/4")
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
        return mmh3.hash(key, _SEED, signed=False) % self.count == self.number - 1

    def among(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Return the keys that belong to this shard, in their order."""
        return tuple(filter(self.owns, keys))
