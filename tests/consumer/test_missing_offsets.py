"""Groups whose offsets are gone: deleted by retention, added partitions, recreated topics, fenced members."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.consumer.start_offsets import CommitMetadata
from coinstream.consumer.transactions import Output, TransactionalProcessor
from coinstream.errors import CoinstreamError
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill, quote
from tests.support import unique, wait_until

Committed = Callable[[str, str, int], dict[int, int]]
LATEST = GroupOptions(offset_reset="latest")


@pytest.fixture
def admin(broker_settings: BrokerSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker_settings.brokers})


def commit(brokers: BrokerSettings, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": brokers.brokers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def delete_records(admin: AdminClient, topic: str, below: int) -> None:
    for future in admin.delete_records([TopicPartition(topic, 0, below)]).values():
        future.result(30)


def test_a_group_goes_on_at_the_earliest_offset_left_and_reports_what_was_deleted(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, admin: AdminClient
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 20)
    commit(broker_settings, group, name, 5)
    delete_records(admin, name, 12)
    memory = Memory()
    with client.create_consumer_group(group, [name], memory.one, LATEST) as manager:
        wait_until(lambda: memory.total >= 8)
    assert memory.numbers == dict.fromkeys(range(12, 20), 1)
    [gap] = manager.report().gaps
    assert (gap.topic, gap.partition, gap.first, gap.last) == (name, 0, 5, 11)
    assert "retention" in gap.reason


def test_with_reset_error_a_deleted_offset_stops_the_group(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, admin: AdminClient
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 20)
    commit(broker_settings, group, name, 5)
    delete_records(admin, name, 12)
    with pytest.raises(CoinstreamError, match=name):
        client.consume([name], lambda _: None, group=group, options=GroupOptions(offset_reset="error"))


def test_a_processor_goes_on_at_the_earliest_offset_left(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, admin: AdminClient
) -> None:
    name, to, group = topic("crypto-level1"), topic("crypto-level1"), unique("group")
    fill(client, name, 20)
    commit(broker_settings, group, name, 5)
    delete_records(admin, name, 12)

    def forward(messages: list[ConsumedMessage]) -> list[Output]:
        return [Output(to, each.key, each.message) for each in messages]

    processor = TransactionalProcessor(
        group, [name], forward, unique("id"), broker_settings, ConsumerSettings(offset_reset="latest")
    )
    assert processor.run(until_end=True).consumed == 8
    assert [(gap.first, gap.last) for gap in processor.gaps] == [(5, 11)]


def test_an_added_partition_is_read_from_its_start(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, admin: AdminClient
) -> None:
    name, group, memory = topic("crypto-level1", partitions=2), unique("group"), Memory()
    with client.create_consumer_group(group, [name], memory.one, LATEST) as manager:
        manager.wait_joined()
        admin.create_partitions([NewPartitions(name, 6)])[name].result(30)
        # Most likely the messages are there before the group knows the partitions.
        with RedpandaClient(broker_settings) as another:
            fill(another, name, 600)
            used = {partition for (topic_name, partition), count in another.delivered.items() if count}
        assert used & {2, 3, 4, 5}
        wait_until(lambda: memory.total >= 600, timeout=300)
        assert manager.report().partitions == 6
    assert memory.numbers == dict.fromkeys(range(600), 1)


def test_a_group_that_begins_at_the_end_skips_nothing_when_it_comes_back(
    client: RedpandaClient, topic: TopicFactory, committed: Committed
) -> None:
    name, group, memory = topic("crypto-level1", partitions=3), unique("group"), Memory()
    fill(client, name, 300)
    with client.create_consumer_group(group, [name], memory.one, LATEST):
        wait_until(lambda: sum(committed(group, name, 3).values()) == 300, what="the ends are committed")
    assert memory.total == 0
    client.produce(name, [quote(1000 + number, f"S{number % 20}/USDT") for number in range(30)])
    client.flush()
    with client.create_consumer_group(group, [name], memory.one, LATEST):
        wait_until(lambda: memory.total >= 30)
    assert memory.numbers == dict.fromkeys(range(1000, 1030), 1)


def test_a_topic_created_again_is_read_from_its_start(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, admin: AdminClient
) -> None:
    name, group, memory = topic("crypto-level1"), unique("group"), Memory()
    fill(client, name, 10)
    first = threading.Event()

    def handle(message: ConsumedMessage) -> None:
        memory.one(message)
        if memory.total == 10:
            first.set()

    options = GroupOptions(offset_reset="earliest")
    with client.create_consumer_group(group, [name], handle, options) as manager:
        assert first.wait(120)
        admin.delete_topics([name])[name].result(30)
        wait_until(lambda: name not in admin.list_topics(timeout=10).topics, what="the topic is gone")
        admin.create_topics([NewTopic(name, 1, config={"retention.ms": "-1"})])[name].result(30)
        wait_until(lambda: name in admin.list_topics(timeout=10).topics, what="the topic is there")
        with RedpandaClient(broker_settings) as another:
            # As many as before: the old position is a legal one in the new topic.
            another.produce(name, [quote(100 + number, f"S{number % 20}/USDT") for number in range(15)])
            another.flush()
        wait_until(lambda: memory.total >= 25, timeout=300, what="all of the new topic is handled")
        wait_until(lambda: manager.report().gaps, what="the report names the topic")
    # Those behind the old position may have been handled before the group noticed the new topic.
    twice = {number for number, count in memory.numbers.items() if count == 2}
    assert twice <= set(range(110, 115))
    assert memory.numbers == dict.fromkeys([*range(10), *range(100, 115)], 1) | dict.fromkeys(twice, 2)


def test_a_fenced_static_member_ends_with_an_error(client: RedpandaClient, topic: TopicFactory) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 10)
    options = GroupOptions(instance_id="the-same")
    first = client.create_consumer_group(group, [name], lambda _: None, options).start()
    first.wait_joined()
    with client.create_consumer_group(group, [name], lambda _: None, options) as second:
        second.wait_joined()
        wait_until(lambda: not first.is_running, timeout=300, what="the fenced member ends")
        with pytest.raises(CoinstreamError, match="fenced"):
            first.raise_error()
        assert second.is_running


@pytest.mark.parametrize("metadata", [CommitMetadata(), CommitMetadata("abc", 12), CommitMetadata("", 3)])
def test_commit_metadata_is_read_as_it_was_written(metadata: CommitMetadata) -> None:
    assert CommitMetadata.decode(metadata.encode()) == metadata


@pytest.mark.parametrize("text", [None, "", "something else", "coinstream/1 id", "coinstream/1 id x"])
def test_metadata_of_other_clients_says_nothing(text: str | None) -> None:
    assert CommitMetadata.decode(text) == CommitMetadata()
