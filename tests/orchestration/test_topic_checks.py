"""Test the checks of topics on real messages."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from confluent_kafka import OFFSET_END, Producer, TopicPartition

from assets.topic_checks import CHECKED
from assets.topics import SPECS, topic_key
from coinstream.client import RedpandaClient
from coinstream.consumer.tail_reader import TopicRecord
from coinstream.expectations.topic_schema import check_sample
from coinstream.kafka import admin_client
from coinstream.messages import Analytics
from coinstream.settings import BrokerSettings
from tests.orchestration.conftest import Execute

TOPIC = "crypto-analytics"


@pytest.fixture
def provisioned(execute: Execute, broker_settings: BrokerSettings) -> Execute:
    """Create the topics and empty the checked one, whatever other tests left in it."""
    execute(*map(topic_key, SPECS))
    everything = [TopicPartition(TOPIC, part, OFFSET_END) for part in range(SPECS[TOPIC].partitions)]
    admin = admin_client(broker_settings)
    for done in admin.delete_records(everything).values():
        done.result(30)
    return execute


def check(execute: Execute) -> dg.AssetCheckEvaluation:
    result = execute(topic_key(TOPIC), raise_on_error=False)
    (found,) = (each for each in result.get_asset_check_evaluations() if each.check_name == "schema")
    return found


def test_good_messages_pass_and_one_bad_record_fails(
    provisioned: Execute, broker_settings: BrokerSettings
) -> None:
    now = datetime.now(UTC)
    message = Analytics(
        exchange_id="coingecko",
        total_market_cap=2e12,
        total_volume=9e10,
        btc_dominance=54.5,
        last_updated=now,
    )
    with RedpandaClient(broker_settings) as client:
        client.publish([message] * 20)
    good = check(provisioned)
    assert good.passed
    assert good.metadata["messages"].value == 20

    bad = Producer({"bootstrap.servers": broker_settings.brokers})
    bad.produce(TOPIC, b'{"exchangeId": "coingecko", "totalMarketCap": "a lot"}')
    assert bad.flush(30) == 0
    failed = check(provisioned)
    assert not failed.passed
    assert "1 of 21 messages are not valid analytics messages" in str(failed.description)
    assert "bad analytics message" in str(failed.description)


def test_each_bad_record_is_told_once() -> None:
    good = (
        b'{"exchangeId":"a","totalMarketCap":1,"totalVolume":1,"btcDominance":50,'
        b'"lastUpdated":"2026-01-05T10:00:00Z"}'
    )
    bad = [b"not JSON", b"\xff", b"[]", b'{"exchangeId":"a","totalMarketCap":"a lot"}']
    records = [TopicRecord(0, place, None, value, []) for place, value in enumerate([good, *bad])]
    readable, *fields = check_sample(CHECKED[TOPIC], records)
    assert (readable.met, readable.unexpected) == (False, 4)
    # Only the record that is an object of the type can lack fields.
    assert {found.expectation: found.unexpected for found in fields if not found.met} == {
        "totalVolume is there": 1,
        "btcDominance is there": 1,
        "lastUpdated is there": 1,
    }
