"""Retries and dead letters on the real broker."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import lz4.frame
import pytest

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.dlq.entry import DeadLetter, decode_dead_letter
from coinstream.errors import NonRetryableError
from coinstream.kafka.partition_reader import PartitionReader
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import START, Memory, fill, quote
from tests.support import unique, wait_until

Committed = Callable[[str, str, int], dict[int, int]]
FAST: dict[str, Any] = {"retries": 2, "retry_backoff_ms": 5}


def letters_of(brokers: BrokerSettings, topic: str) -> list[DeadLetter]:
    with PartitionReader(brokers, ConsumerSettings(), f"{topic}.dlq") as reader:
        return [decode_dead_letter(record) for batch in reader for record in batch]


@pytest.mark.parametrize("batch", [False, True])
def test_a_message_that_fails_for_good_becomes_a_dead_letter_and_the_rest_goes_on(
    client: RedpandaClient,
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    committed: Committed,
    batch: bool,
) -> None:
    name, group = topic("crypto-level1", partitions=3), unique("group")
    fill(client, name, 300)
    memory, attempts, lock = Memory(), 0, threading.Lock()

    def fails(received: ConsumedMessage) -> None:
        nonlocal attempts
        if received.message == quote(42, "S2/USDT"):
            with lock:
                attempts += 1
            raise ValueError("forty-two")
        memory.one(received)

    def fails_in_batch(received: list[ConsumedMessage]) -> None:
        if any(each.message == quote(42, "S2/USDT") for each in received):
            fails(next(each for each in received if each.message == quote(42, "S2/USDT")))
        memory.many(received)

    handler = fails_in_batch if batch else fails
    options = GroupOptions(batch=batch, **FAST)
    with client.create_consumer_group(group, [name], handler, options) as manager:
        wait_until(lambda: memory.total >= 299 and manager.report().dead_letters == 1)
    assert memory.numbers == dict.fromkeys(set(range(300)) - {42}, 1)
    assert memory.in_order()
    [dead_letter] = letters_of(broker_settings, name)
    assert (dead_letter.topic, dead_letter.error_type, dead_letter.error) == (
        name,
        "ValueError",
        "ValueError: forty-two",
    )
    assert dead_letter.attempts == attempts
    assert attempts == (4 if batch else 3)
    assert dead_letter.key == b"binance-S2/USDT"
    assert dead_letter.value == MessageSerializer().encode(quote(42, "S2/USDT"))[0]
    assert dead_letter.timestamp_ms == int(START.timestamp() * 1000) + 42
    assert dead_letter.group == group
    offsets = committed(group, name, 3)
    assert sum(max(offset, 0) for offset in offsets.values()) == 300


def test_a_handler_can_reject_at_once(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("crypto-level1")
    fill(client, name, 3)

    def reject(received: ConsumedMessage) -> None:
        raise NonRetryableError(f"no use for {received.offset}")

    with client.create_consumer_group(unique("group"), [name], reject) as manager:
        wait_until(lambda: manager.report().dead_letters == 3)
    letters = letters_of(broker_settings, name)
    assert sorted((dead_letter.offset, dead_letter.attempts) for dead_letter in letters) == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]


def test_a_partition_that_retries_does_not_hold_up_the_others(
    client: RedpandaClient, topic: TopicFactory
) -> None:
    name = topic("crypto-level1", partitions=8)
    fill(client, name, 800)
    memory, go_on = Memory(), threading.Event()

    def fails(received: ConsumedMessage) -> None:
        if received.offset == 0 and not go_on.is_set():
            raise ValueError("not yet")
        memory.one(received)

    # Every partition but one waits for its next attempt, on a single worker.
    def fails_but_on_one(received: ConsumedMessage) -> None:
        memory.one(received) if received.partition == good else fails(received)

    good = next(iter(partitions_used(client, name)))
    options = GroupOptions(concurrent_partitions=1, retries=50, retry_backoff_ms=20)
    with client.create_consumer_group(unique("group"), [name], fails_but_on_one, options):
        wait_until(lambda: memory.total > 0)
        go_on.set()
        wait_until(lambda: memory.total >= 800)
    assert memory.numbers == dict.fromkeys(range(800), 1)


def partitions_used(client: RedpandaClient, topic: str) -> set[int]:
    return {partition for (name, partition), count in client.delivered.items() if name == topic and count}


def test_random_and_truncated_payloads_all_end_as_dead_letters_and_the_group_goes_on(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, committed: Committed
) -> None:
    name, group = topic("crypto-level1", partitions=4), unique("group")
    dice = random.Random(20261101)
    whole = MessageSerializer().encode(quote(1, "BTC/USDT"))[0]
    squeezed = lz4.frame.compress(whole * 20)
    bad: list[tuple[bytes | None, dict[str, str]]] = []
    while len(bad) < 10_000:
        kind = dice.randrange(5)
        if kind == 0:
            bad.append((dice.randbytes(dice.randrange(0, 300)), {}))
        elif kind == 1:
            bad.append((whole[: dice.randrange(len(whole))], {}))
        elif kind == 2:
            bad.append((squeezed[: dice.randrange(len(squeezed))], {"compressed": "true"}))
        elif kind == 3:
            bad.append((b"[" * dice.randrange(1, 5000), {}))
        else:
            bad.append((whole.replace(b'"bestBid":', dice.choice([b'"bestBid":-', b'"bid":', b'"x":'])), {}))
    for number, (value, headers) in enumerate(bad):
        client.send(name, f"K{number % 40}", value, {**headers, "number": str(number)})
        if number % 20 == 0:
            client.produce(name, [quote(number, f"S{number % 7}/USDT")])
    client.flush()
    memory = Memory()
    with client.create_consumer_group(group, [name], memory.one) as manager:
        wait_until(lambda: manager.report().dead_letters >= 10_000 and memory.total >= 500, timeout=300)
    assert memory.numbers == dict.fromkeys(range(0, 10_000, 20), 1)
    letters = letters_of(broker_settings, name)
    by_number = {int(dict(dead_letter.headers)["number"]): dead_letter for dead_letter in letters}
    assert len(letters) == 10_000
    assert by_number.keys() == set(range(10_000))
    for number, (value, _) in enumerate(bad):
        assert (by_number[number].value or b"") == (value or b"")
        assert by_number[number].attempts == 0
        assert by_number[number].error_type == "DecodeError"
    offsets = committed(group, name, 4)
    assert sum(offset for offset in offsets.values() if offset > 0) == 10_500
