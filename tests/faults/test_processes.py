"""Processes are killed with SIGKILL; nothing acknowledged is lost, and nothing unhandled is passed over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from coinstream.local_broker import LocalBroker
from coinstream.topics.catalogue import CORE_TOPICS, FEED_DEAD_LETTERS
from tests.conftest import TopicFactory
from tests.faults.delivery_check import Sent, check_delivery, read_all
from tests.faults.load import KEPT, Load
from tests.support import unique, wait_until

pytestmark = pytest.mark.system

PARTITIONS = 4

READER = """
import sys
from coinstream.client import RedpandaClient
from coinstream.consumer import GroupOptions
from coinstream.settings import BrokerSettings, ConsumerSettings
bootstrap, topic, group, path = sys.argv[1:]
brokers = BrokerSettings(brokers=bootstrap)
# Short, so that the group soon notices the killed member.
consumer = ConsumerSettings(session_timeout_ms=2000, heartbeat_interval_ms=500)
with open(path, "a", buffering=1) as handled, RedpandaClient(brokers, consumer=consumer) as client:
    options = GroupOptions(offset_reset="earliest", commit_interval_ms=50)
    client.consume(
        [topic], lambda got: handled.write(f"{got.partition} {got.offset}\\n"), group=group, options=options
    )
"""


def process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "HOME": "/nonexistent"},
    )


def test_killed_producer(broker: LocalBroker, topic: TopicFactory) -> None:
    name = topic("killed-producer", partitions=PARTITIONS, config=KEPT)
    producer = process("-m", "tests.faults.load", broker.bootstrap, name)
    assert producer.stdout is not None
    told = [producer.stdout.readline() for _ in range(500)]
    producer.kill()
    # What it said before it died, whole lines only: the last may be cut.
    told += [line for line in producer.stdout if line.endswith("\n")]
    producer.wait()
    acknowledged = [Sent(symbol, int(number)) for symbol, number in map(str.split, told)]
    faults = check_delivery(acknowledged, read_all(broker.bootstrap, name))
    assert faults.is_clean, str(faults)


def test_killed_consumer(broker: LocalBroker, topic: TopicFactory, tmp_path: Path) -> None:
    name, group, handled = (
        topic("killed-consumer", PARTITIONS, config=KEPT),
        unique("group"),
        tmp_path / "handled",
    )
    handled.touch()
    with Load(broker.bootstrap, name) as load:
        for _ in range(3):
            reader = process("-c", READER, broker.bootstrap, name, group, str(handled))
            goal = len(lines(handled)) + 200
            wait_until(lambda goal=goal: len(lines(handled)) >= goal, 300, "messages are handled")  # type: ignore[misc]
            reader.kill()
            reader.wait()
            assert_nothing_passed_over(handled, committed(broker.bootstrap, group, name))
        load.finish()
    stored = {(record.partition, record.offset) for record in read_all(broker.bootstrap, name)}
    reader = process("-c", READER, broker.bootstrap, name, group, str(handled))
    try:
        wait_until(lambda: stored <= set(lines(handled)), 300, "every message is handled")
    finally:
        reader.kill()
        reader.wait()
    assert_nothing_passed_over(handled, committed(broker.bootstrap, group, name))


def lines(handled: Path) -> list[tuple[int, int]]:
    """Partition and offset of what was handled, in order; a line that the kill has cut does not count."""
    whole = handled.read_text().rpartition("\n")[0].splitlines()
    return [(int(partition), int(offset)) for partition, offset in map(str.split, whole)]


def assert_nothing_passed_over(handled: Path, committed: dict[int, int]) -> None:
    """No offset is handled before its predecessor, and none is committed that was not handled."""
    reached: defaultdict[int, int] = defaultdict(int)
    for partition, offset in lines(handled):
        assert offset <= reached[partition], f"{reached[partition]} of partition {partition} was passed over"
        reached[partition] = max(reached[partition], offset + 1)
    for partition, offset in committed.items():
        assert offset <= reached[partition], f"offset {offset} of partition {partition} was not handled"


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        found = consumer.committed(
            [TopicPartition(topic, number) for number in range(PARTITIONS)], timeout=20
        )
    finally:
        consumer.close()
    return {part.partition: part.offset for part in found if part.offset >= 0}


def test_killed_feed_run(broker: LocalBroker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    coinstream("topics", "apply").communicate(timeout=300)
    before = stored_messages(broker.bootstrap)
    first = coinstream("feed", "run", "binance", "--loop", "--speed", "100")
    wait_until(lambda: stored_messages(broker.bootstrap) > before + 500, 300, "the feed publishes")
    first.kill()
    first.wait()
    # The dead run no longer holds the lease, and the statistics of the next run are right.
    before = stored_messages(broker.bootstrap)
    second = coinstream("feed", "run", "binance", "--speed", "max", "--limit", "1000", "--json")
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    report = json.loads(output)
    assert stored_messages(broker.bootstrap) - before == report["messages"] + report["dead_letters"]


def coinstream(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "coinstream", *arguments], stdout=subprocess.PIPE, text=True
    )


def stored_messages(bootstrap: str) -> int:
    """How many records lie in the topics of the platform."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "count"})
    try:
        return sum(
            high - low
            for name, topic in consumer.list_topics(timeout=20).topics.items()
            if name in {*(spec.name for spec in CORE_TOPICS), FEED_DEAD_LETTERS.name}
            for low, high in (
                consumer.get_watermark_offsets(TopicPartition(name, number), timeout=20)
                for number in topic.partitions
            )
        )
    finally:
        consumer.close()
