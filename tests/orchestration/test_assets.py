"""Each asset materialized on the real broker, and its topics counted there."""

import dagster as dg
from confluent_kafka import Consumer, TopicPartition

from assets.topics import FEEDS_KEY, SPECS, topic_key
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from tests.orchestration.conftest import Execute


def counted(brokers: str, topic: str) -> int:
    """How many records a topic holds, by its watermarks."""
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "count"})
    try:
        parts = reader.list_topics(topic, timeout=10).topics[topic].partitions
        marks = [reader.get_watermark_offsets(TopicPartition(topic, part), timeout=10) for part in parts]
        return sum(high - low for low, high in marks)
    finally:
        reader.close()


def test_materializing_topics_creates_them_as_specified(
    execute: Execute, broker_settings: BrokerSettings
) -> None:
    result = execute(*map(topic_key, SPECS))
    assert result.success
    actual = {topic.name: topic for topic in Provisioner(broker_settings).actual()}
    assert {name: actual[name].partitions for name in SPECS} == {
        name: spec.partitions for name, spec in SPECS.items()
    }
    again = execute(topic_key("crypto-level1"))
    (event,) = again.asset_materializations_for_node("provision")
    assert event.metadata["action"].value == "no change"
    assert "lowered to 1" in str(event.metadata["warnings"].value)


def test_a_feed_run_publishes_what_it_reports(execute: Execute, broker_settings: BrokerSettings) -> None:
    execute(*map(topic_key, SPECS))
    before = {name: counted(broker_settings.brokers, name) for name in SPECS}
    result = execute(
        FEEDS_KEY,
        partition_key="binance",
        run_config={"ops": {"feeds__market_data": {"config": {"speed": 0, "limit": 5000}}}},
    )
    assert result.success
    (event,) = result.asset_materializations_for_node("feeds__market_data")
    assert event.partition == "binance"
    assert event.metadata["messages"].value == 5000
    grown = {name: counted(broker_settings.brokers, name) - before[name] for name in SPECS}
    assert sum(grown.values()) == 5000
    offsets = event.metadata["offsets"]
    assert isinstance(offsets, dg.TableMetadataValue)
    for name, messages in grown.items():
        rows = [row.data for row in offsets.records if row.data["topic"] == name]
        assert sum(int(str(row["messages"])) for row in rows) == messages
