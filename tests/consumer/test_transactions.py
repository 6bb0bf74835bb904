"""Test exactly-once processing from topic to topic with errors and a killed process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage
from coinstream.consumer.replay import replay
from coinstream.consumer.transactions import Output, TransactionalProcessor
from coinstream.errors import BrokerError
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.support import unique, wait_until

ROOT = Path(__file__).parents[2]
COUNT = 3000


def forward(to: str, received: list[ConsumedMessage]) -> Iterable[Output]:
    return [Output(to, each.key, each.message) for each in received]


def read_all(brokers: BrokerSettings, topic: str) -> Memory:
    memory = Memory()
    replay(brokers, topic, memory.many)
    return memory


def test_errors_in_the_middle_leave_neither_gaps_nor_duplicates(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    source, target = topic("crypto-level1", partitions=4), topic("crypto-level1", partitions=3)
    fill(client, source, COUNT)
    client.send(source, "K", b"not a message")
    client.flush()
    rounds = 0

    def transform(received: list[ConsumedMessage]) -> Iterable[Output]:
        nonlocal rounds
        rounds += 1
        for number, output in enumerate(forward(target, received)):
            if rounds % 3 == 0 and number == len(received) // 2:
                raise ValueError("every third round fails")
            yield output

    settings = ConsumerSettings(offset_reset="earliest", retry_backoff_ms=1)
    processor = TransactionalProcessor(
        unique("group"), [source], transform, unique("tx"), broker_settings, settings, max_messages=200
    )
    report = processor.run(until_end=True)
    assert (report.consumed, report.produced, report.dead_letters) == (COUNT, COUNT, 1)
    assert report.aborted > 0
    memory = read_all(broker_settings, target)
    assert memory.numbers == dict.fromkeys(range(COUNT), 1)
    assert memory.in_order()


@pytest.mark.system
def test_a_process_killed_in_the_middle_of_a_transaction_leaves_no_trace(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    source, target, group, name = topic("crypto-level1"), topic("crypto-level1"), unique("g"), unique("tx")
    fill(client, source, COUNT)
    words = [broker_settings.brokers, source, target, group, name, str(tmp_path / "sent")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.consumer.transaction_process", *words], env=environment, cwd=ROOT
    )
    try:
        # Its third round has sent messages, and does not commit them.
        wait_until((tmp_path / "sent").exists, 300)
    finally:
        process.kill()
        process.wait()
    settings = ConsumerSettings(offset_reset="earliest")
    processor = TransactionalProcessor(
        group, [source], lambda received: forward(target, received), name, broker_settings, settings
    )
    report = processor.run(until_end=True)
    assert 0 < report.consumed < COUNT
    memory = read_all(broker_settings, target)
    assert memory.numbers == dict.fromkeys(range(COUNT), 1)
    assert memory.in_order()


def test_an_error_that_stays_stops_the_processor_and_commits_nothing(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    source, target = topic("crypto-level1"), topic("crypto-level1")
    fill(client, source, 10)

    def fails(received: list[ConsumedMessage]) -> Iterable[Output]:
        yield from forward(target, received[:5])
        raise ValueError("always")

    settings = ConsumerSettings(offset_reset="earliest", retries=2, retry_backoff_ms=1)
    processor = TransactionalProcessor(unique("g"), [source], fails, unique("tx"), broker_settings, settings)
    with pytest.raises(ValueError, match="always"):
        processor.run()
    assert read_all(broker_settings, target).total == 0


def test_an_unreachable_broker_is_one_clear_error() -> None:
    brokers = BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=300)
    processor = TransactionalProcessor("g", ["t"], lambda _: [], "tx", brokers)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        processor.run()
