"""Processes that share the keys of topics instead of their partitions."""

from __future__ import annotations

from collections.abc import Callable

from coinstream.client import RedpandaClient
from coinstream.consumer import GroupOptions
from coinstream.routing import Shard
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.support import unique, wait_until

Committed = Callable[[str, str, int], dict[int, int]]
COUNT, SYMBOLS = 3000, 20


def test_shards_handle_every_message_once_between_them(
    client: RedpandaClient, topic: TopicFactory, committed: Committed
) -> None:
    # Of different partition counts, so that a key lies in different partitions.
    topics = [topic("crypto-level1", partitions=6), topic("crypto-level1", partitions=4)]
    for name in topics:
        fill(client, name, COUNT, SYMBOLS)
    client.send(topics[0], None, b"no message and no key").result()
    group, shards = unique("shards"), Shard.all(2)
    memories = [Memory() for _ in shards]
    for shard, memory in zip(shards, memories, strict=True):
        options = GroupOptions(shard=shard, batch=True, retries=0)
        with client.create_consumer_group(group, topics, memory.many, options) as manager:
            assert manager.group == shard.name(group)
            # Passed over or handled: every message is committed.
            wait_until(
                lambda manager=manager: (
                    sum(  # type: ignore[misc]
                        max(offset, 0)
                        for name, parts in zip(topics, (6, 4), strict=True)
                        for offset in committed(manager.group, name, parts).values()
                    )
                    == 2 * COUNT + 1
                ),
                what="every offset is committed",
            )
            dead = manager.report().dead_letters
        assert dead == (1 if shard.owns(b"") else 0)
    first, second = memories
    assert not first.by_symbol.keys() & second.by_symbol.keys()
    assert len(first.by_symbol) + len(second.by_symbol) == SYMBOLS
    assert first.numbers + second.numbers == dict.fromkeys(range(COUNT), 2)
    for shard, memory in zip(shards, memories, strict=True):
        assert memory.total
        assert all(shard.owns(f"binance-{symbol}") for symbol in memory.by_symbol)
