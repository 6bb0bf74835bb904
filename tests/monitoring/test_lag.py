"""Lag of groups on a real broker: whatever the log and the group went through, the figure is right."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from coinstream.errors import BrokerError
from coinstream.local_broker import LocalBroker
from coinstream.monitoring.cluster import GroupNotFoundError
from coinstream.monitoring.evaluation import PartitionStatus
from coinstream.monitoring.group_lag import PartitionLag, TimeLagSource
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings, LagSettings
from tests.conftest import TopicFactory
from tests.support import unique, wait_until

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def admin(broker: LocalBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


@pytest.fixture
def monitor(broker_settings: BrokerSettings) -> LagMonitor:
    return LagMonitor(broker_settings, LagSettings(silence_s=60, read_budget_s=10))


@pytest.fixture
def producer(broker: LocalBroker) -> Iterator[Producer]:
    made = Producer({"bootstrap.servers": broker.bootstrap})
    yield made
    assert made.flush(30) == 0


def fill(producer: Producer, topic: str, count: int, partition: int = 0, at_ms: int = 0) -> None:
    for number in range(count):
        producer.produce(topic, f"{number}".encode(), partition=partition, timestamp=at_ms)
    assert producer.flush(30) == 0


def commit(broker: LocalBroker, group: str, offsets: dict[tuple[str, int], int]) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    parts = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    consumer.commit(offsets=parts, asynchronous=False)
    consumer.close()


def only(monitor: LagMonitor, group: str) -> PartitionLag:
    (part,) = monitor.measure(group).partitions
    return part


def test_messages_and_age(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(), unique("group")
    now_ms = int(time.time() * 1000)
    fill(producer, name, 5, at_ms=now_ms - 2 * HOUR_MS)
    fill(producer, name, 7, at_ms=now_ms - HOUR_MS)
    commit(broker, group, {(name, 0): 5})
    part = only(monitor, group)
    assert (part.messages, part.committed, part.low, part.high) == (7, 5, 0, 12)
    assert part.seconds_from is TimeLagSource.RECORD
    assert part.seconds == pytest.approx(3600, abs=60)
    assert part.status is PartitionStatus.STOP, "a message has waited for an hour"
    commit(broker, group, {(name, 0): 12})
    part = only(monitor, group)
    assert (part.messages, part.seconds, part.seconds_from) == (0, 0, TimeLagSource.NONE)
    assert part.status is PartitionStatus.OK


def test_a_partition_without_a_commit_counts_from_the_log_start(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(partitions=3), unique("group")
    fill(producer, name, 4, partition=0)
    fill(producer, name, 6, partition=1)
    commit(broker, group, {(name, 0): 4})
    lag = monitor.measure(group)
    assert [part.messages for part in lag.partitions] == [0, 6, 0]
    assert lag.partitions[1].committed is None
    assert "never committed" in lag.partitions[1].remark
    assert (lag.messages, lag.topics) == (6, [name])


def test_a_group_that_does_not_exist_is_an_error(monitor: LagMonitor, broker: LocalBroker) -> None:
    with pytest.raises(GroupNotFoundError, match=r"no consumer group nobody-7 at 127"):
        monitor.measure("nobody-7")


def test_topics_can_be_named_for_a_group_that_is_yet_to_come(
    topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name = topic()
    fill(producer, name, 3)
    assert monitor.measure(unique("group"), [name]).messages == 3


def test_a_truncated_log_counts_what_is_still_there_and_says_what_was_lost(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor, admin: AdminClient
) -> None:
    name, group = topic(), unique("group")
    fill(producer, name, 10)
    commit(broker, group, {(name, 0): 2})
    for future in admin.delete_records([TopicPartition(name, 0, 6)]).values():
        future.result(30)
    part = only(monitor, group)
    assert (part.messages, part.low, part.lost) == (4, 6, 4)
    assert "4 message(s) were deleted" in part.remark
    assert part.seconds_from is TimeLagSource.RECORD


def test_a_deleted_topic_counts_nothing(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor, admin: AdminClient
) -> None:
    gone, stays, group = topic("gone"), topic("stays"), unique("group")
    fill(producer, gone, 3)
    fill(producer, stays, 2)
    commit(broker, group, {(gone, 0): 0, (stays, 0): 0})
    admin.delete_topics([gone])[gone].result(30)
    wait_until(lambda: gone not in admin.list_topics(timeout=10).topics, what="the topic is deleted")
    lag = monitor.measure(group)
    assert lag.topics == [stays]
    assert (lag.messages, lag.deleted) == (2, ())
    assert monitor.measure(group, [gone, stays]).deleted == (gone,)


def test_a_topic_made_anew_is_no_negative_lag(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(), unique("group")
    fill(producer, name, 3)
    commit(broker, group, {(name, 0): 900})
    part = only(monitor, group)
    assert part.messages == 0
    assert "beyond the log end 3" in part.remark


def test_an_empty_partition_has_no_lag(broker: LocalBroker, topic: TopicFactory, monitor: LagMonitor) -> None:
    name, group = topic(), unique("group")
    commit(broker, group, {(name, 0): 0})
    part = only(monitor, group)
    assert (part.messages, part.seconds, part.status) == (0, 0, PartitionStatus.OK)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_transaction_markers_are_no_lag(
    broker: LocalBroker, topic: TopicFactory, monitor: LagMonitor, end: str
) -> None:
    name, group = topic(), unique("group")
    sender = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": unique("tx")})
    sender.init_transactions(30)
    sender.begin_transaction()
    for number in range(3):
        sender.produce(name, f"{number}".encode(), partition=0)
    sender.flush(30)
    commit(broker, group, {(name, 0): 0})
    assert only(monitor, group).messages == 3, "an open transaction waits to be handled"
    if end == "commit":
        sender.commit_transaction(30)
        wait_until(lambda: only(monitor, group).seconds_from is TimeLagSource.RECORD, what="the marker is in")
        commit(broker, group, {(name, 0): 3})
    else:
        sender.abort_transaction(30)

    def measured() -> PartitionLag:
        return only(monitor, group)

    wait_until(lambda: measured().high == 4, what="the marker is in the log")
    part = wait_until(lambda: measured() if measured().messages == 0 else None, what="no lag is left")
    assert (part.high, part.seconds, part.status) == (4, 0, PartitionStatus.OK)


def test_a_living_group_has_owners(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(partitions=2), unique("group")
    fill(producer, name, 5)
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([name])
    wait_until(lambda: consumer.poll(0.1), what="a message arrives")
    lag = monitor.measure(group)
    consumer.close()
    assert (lag.state, lag.members) == ("STABLE", 1)
    assert all(part.owned for part in lag.partitions)
    assert lag.messages == 5


def test_lag_is_never_negative_while_a_group_keeps_up(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(), unique("group")
    for end in range(5, 55, 5):
        fill(producer, name, 5)
        commit(broker, group, {(name, 0): end})
        assert only(monitor, group).messages == 0


@pytest.mark.system
def test_a_thousand_partitions_in_one_measurement(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, group = topic(partitions=1000), unique("group")
    for number in range(1000):
        producer.produce(name, b"x", partition=number)
        producer.poll(0)
    producer.flush(60)
    commit(broker, group, {(name, number): 0 for number in range(1000)})
    lag = monitor.measure(group)
    assert (lag.messages, len(lag.partitions)) == (1000, 1000)
    assert {part.seconds_from for part in lag.partitions} == {TimeLagSource.RECORD}


def test_all_groups(
    broker: LocalBroker, topic: TopicFactory, producer: Producer, monitor: LagMonitor
) -> None:
    name, groups = topic(), [unique("a"), unique("b")]
    fill(producer, name, 3)
    for number, group in enumerate(groups):
        commit(broker, group, {(name, 0): number})
    found = {lag.group: lag.messages for lag in monitor.measure_all()}
    assert [found[group] for group in groups] == [3, 2]


def test_a_dead_broker_is_one_clear_error() -> None:
    dead = BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=500)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        LagMonitor(dead).measure("g")
