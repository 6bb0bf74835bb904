"""Test a consumer group on a real broker: handling, order, commits and leaving."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions, StuckPartition
from coinstream.errors import BrokerError, ConsumeError
from coinstream.messages import Level1
from coinstream.monitoring.metrics import METRICS
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.support import unique, wait_until

Committed = Callable[[str, str, int], dict[int, int]]
COUNT = 5000


@pytest.mark.parametrize("kind", ["one", "many", "one_async", "many_async"])
def test_every_kind_of_handler_gets_every_message_once_and_in_order(
    client: RedpandaClient, topic: TopicFactory, committed: Committed, kind: str
) -> None:
    name = topic("crypto-level1", partitions=6)
    fill(client, name, COUNT)
    memory, group = Memory(), unique("group")
    options = GroupOptions(batch=kind.startswith("many"), batch_size=100)
    with client.create_consumer_group(group, [name], getattr(memory, kind), options) as manager:
        wait_until(lambda: memory.total >= COUNT, what="all messages are handled")
    assert memory.numbers == dict.fromkeys(range(COUNT), 1)
    assert memory.in_order()
    assert manager.report().handled == COUNT
    assert all(size <= 100 for size in memory.batches)
    # Stopping commits what was handled.
    offsets = committed(group, name, 6)
    assert sum(offset for offset in offsets.values() if offset > 0) == COUNT
    labels = {"topic": name, "consumer_group": group}
    consumed = [
        sample.value
        for metric in METRICS.messages_consumed.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
    ]
    assert sum(consumed) == COUNT


def test_a_handler_sees_where_the_message_lies(client: RedpandaClient, topic: TopicFactory) -> None:
    name = topic("crypto-level1")
    seen: list[ConsumedMessage] = []
    client.send(
        name,
        "binance-BTC",
        b'{"exchangeId":"binance","symbol":"BTC","bestBid":1,"bestAsk":2,"bidSize":3,"askSize":4,'
        b'"timestamp":"2026-11-01T00:00:00.000Z","lastUpdated":"2026-11-01T00:00:00.001Z",'
        b'"venue":"x","closeTime":"2026-11-01T00:00:00.000Z"}',
        {"trace": "7"},
    )
    client.flush()
    with client.create_consumer_group(unique("group"), [name], seen.append):
        wait_until(lambda: seen)
    [received] = seen
    assert isinstance(received.message, Level1)
    assert (received.topic, received.partition, received.offset) == (name, 0, 0)
    assert (received.key, received.headers) == (b"binance-BTC", [("trace", b"7")])
    assert received.timestamp_ms > 0
    assert received.unknown["venue"] == "x"
    assert received.unknown["closeTime"].year == 2026


def test_partitions_run_at_the_same_time_and_a_full_backlog_loses_nothing(
    client: RedpandaClient, topic: TopicFactory
) -> None:
    name = topic("crypto-level1", partitions=4)
    fill(client, name, 2000)
    memory = Memory()
    at_once, most, lock = 0, 0, threading.Lock()

    async def slow(batch: list[ConsumedMessage]) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        await asyncio.sleep(0.02)
        memory.many(batch)
        with lock:
            at_once -= 1

    # Far less room than there are messages: fetching must pause and resume.
    options = GroupOptions(batch=True, batch_size=50, backlog_bytes=20_000, partition_backlog_bytes=10_000)
    with client.create_consumer_group(unique("group"), [name], slow, options):
        wait_until(lambda: memory.total >= 2000, timeout=300)
    assert memory.numbers == dict.fromkeys(range(2000), 1)
    assert memory.in_order()
    assert 2 <= most <= 4


def test_the_second_member_takes_over_where_the_first_stopped(
    client: RedpandaClient, topic: TopicFactory
) -> None:
    name, group = topic("crypto-level1", partitions=8), unique("group")
    fill(client, name, 4000)
    first, second = Memory(), Memory()
    with client.create_consumer_group(group, [name], first.one):
        wait_until(lambda: first.total > 100)
    with client.create_consumer_group(group, [name], second.one):
        wait_until(lambda: first.total + second.total >= 4000)
    # Both left in good order: nothing twice.
    assert first.numbers + second.numbers == dict.fromkeys(range(4000), 1)


def test_members_share_and_hand_over_without_loss(client: RedpandaClient, topic: TopicFactory) -> None:
    name, group = topic("crypto-level1", partitions=12), unique("group")
    memories = [Memory() for _ in range(3)]
    with client.create_consumer_group(group, [name], memories[0].one) as first:
        first.wait_joined()
        with client.create_consumer_group(group, [name], memories[1].one) as second:
            second.wait_joined()
            wait_until(lambda: first.report().partitions == second.report().partitions == 6)
            fill(client, name, 3000)
            with client.create_consumer_group(group, [name], memories[2].one) as third:
                wait_until(lambda: third.report().partitions == 4)
                fill(client, name, 3000)
                wait_until(lambda: sum(memory.total for memory in memories) >= 6000)
    total = sum((memory.numbers for memory in memories), memories[0].numbers.__class__())
    assert total == dict.fromkeys(range(3000), 2)
    assert all(memory.total for memory in memories)


def test_a_slow_handler_is_not_kicked_out_and_is_reported_as_stuck(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("crypto-level1", partitions=2)
    settings = ConsumerSettings(
        offset_reset="earliest",
        session_timeout_ms=6000,
        max_poll_interval_ms=6000,
        heartbeat_interval_ms=1000,
    )
    reports: list[StuckPartition] = []
    memory, go_on = Memory(), threading.Event()

    def slow(received: ConsumedMessage) -> None:
        if received.offset == 0 and received.partition == 0:
            go_on.wait(120)
        memory.one(received)

    with RedpandaClient(broker_settings, consumer=settings) as client:
        fill(client, name, 1000)
        options = GroupOptions(stuck_after_s=0.5, on_stuck=reports.append)
        with client.create_consumer_group(unique("group"), [name], slow, options) as manager:
            started = time.monotonic()
            wait_until(lambda: reports, what="the stuck partition is reported")
            # The longest time between polls passes while the handler is busy.
            wait_until(lambda: time.monotonic() - started > 8)
            assert (reports[0].topic, reports[0].partition, reports[0].offset) == (name, 0, 0)
            assert manager.report().stuck
            assert manager.report().lost == 0
            go_on.set()
            wait_until(lambda: memory.total >= 1000)
            wait_until(lambda: not manager.report().stuck)
            assert manager.report().lost == 0
    assert len(reports) == 1
    assert memory.numbers == dict.fromkeys(range(1000), 1)


def test_a_handler_that_outlives_the_drain_is_handled_again_by_the_next_owner(
    client: RedpandaClient, topic: TopicFactory
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 10)
    entered, go_on, second = threading.Event(), threading.Event(), Memory()

    def hangs(received: ConsumedMessage) -> None:
        entered.set()
        go_on.wait(120)

    options = GroupOptions(stop_timeout_s=0.2)
    manager = client.create_consumer_group(group, [name], hangs, options).start()
    assert entered.wait(120)
    manager.stop()
    with client.create_consumer_group(group, [name], second.one):
        wait_until(lambda: second.total >= 10)
    go_on.set()
    assert second.numbers == dict.fromkeys(range(10), 1)


def test_consume_blocks_until_it_is_told_to_stop(client: RedpandaClient, topic: TopicFactory) -> None:
    name = topic("crypto-level1")
    fill(client, name, 100)
    memory, stop = Memory(), threading.Event()

    def until_all(received: ConsumedMessage) -> None:
        memory.one(received)
        if memory.total == 100:
            stop.set()

    report = client.consume([name], until_all, group=unique("group"), stop=stop)
    assert report.handled == 100


def test_without_dead_letters_the_group_stops_at_what_it_cannot_handle(
    client: RedpandaClient, topic: TopicFactory, committed: Committed
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 10)

    def fails_at_five(received: ConsumedMessage) -> None:
        if received.offset == 5:
            raise ValueError("five")

    options = GroupOptions(dead_letters=False, retries=1, retry_backoff_ms=1)
    with pytest.raises(ConsumeError, match=rf"{name}\[0\] offset 5.*five"):
        client.consume([name], fails_at_five, group=group, options=options)
    assert committed(group, name, 1) == {0: 5}


def test_a_missing_offset_with_reset_error_is_one_clear_error(
    client: RedpandaClient, topic: TopicFactory
) -> None:
    name = topic("crypto-level1")
    fill(client, name, 10)
    options = GroupOptions(offset_reset="error")
    with pytest.raises(BrokerError, match=name):
        client.consume([name], lambda _: None, group=unique("group"), options=options)
