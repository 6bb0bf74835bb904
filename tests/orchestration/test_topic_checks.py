"""The checks of topics judge what really lies in them."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from confluent_kafka import OFFSET_END, Producer, TopicPartition

from assets.topics import SPECS, topic_key
from coinstream.client import RedpandaClient
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
    assert "every record is a valid analytics message (1 of 21 messages)" in str(failed.description)
    assert "btcDominance is there" in str(failed.description)
