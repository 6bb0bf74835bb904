"""Test that each key belongs to exactly one shard, evenly and on every machine."""

from __future__ import annotations

from collections import Counter

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import SettingsError
from coinstream.routing import Shard
from coinstream.settings import ProducerSettings

HOMES = [1, 1, 1, 1, 2, 4, 3, 3, 1, 4, 3, 1]
"""In which of four shards the first of the markets have been since the first release."""
MARKETS = [f"COIN{number}/USDT" for number in range(2000)]


@given(key=st.text(), count=st.integers(1, 64))
def test_every_key_belongs_to_exactly_one_shard(key: str, count: int) -> None:
    assert [shard.owns(key) for shard in Shard.all(count)].count(True) == 1


def test_text_and_bytes_belong_alike() -> None:
    for shard in Shard.all(7):
        assert shard.among(MARKETS) == tuple(key for key in MARKETS if shard.owns(key.encode()))


def test_keys_stay_where_they_are_over_releases() -> None:
    """Another hash would send a market to another process while an older one still has it."""
    homes = [next(shard.number for shard in Shard.all(4) if shard.owns(key)) for key in MARKETS[:12]]
    assert homes == HOMES


def test_shards_are_of_about_the_same_size() -> None:
    for count in (2, 3, 5, 8):
        sizes = [len(shard.among(MARKETS)) for shard in Shard.all(count)]
        assert sum(sizes) == len(MARKETS)
        assert max(sizes) < 1.3 * len(MARKETS) / count


def test_a_shard_uses_the_whole_producer_pool() -> None:
    producers = ProducerSettings().pool_size
    for shard in Shard.all(producers):
        used = Counter(mmh3.hash(key, signed=False) % producers for key in shard.among(MARKETS))
        assert len(used) == producers


def test_is_written_as_people_write_it() -> None:
    assert Shard.parse("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
    assert Shard(2, 4).name("binance-live") == "binance-live-2-of-4"


@pytest.mark.parametrize("text", ["", "2", "2/", "0/4", "5/4", "-1/4", "2/4/8", "a/b", "1/0"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="shard"):
        Shard.parse(text)
