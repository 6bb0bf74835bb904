"""Record times: kept over repeated sending, held within the broker's bounds, counted."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from confluent_kafka import Message as KafkaMessage
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from coinstream.client import RedpandaClient
from coinstream.errors import MessageTooLargeError, ProduceError
from coinstream.messages import Level1
from coinstream.monitoring.metrics import Metrics
from coinstream.producer.topic_cache import DEFAULT_BOUNDS, UNBOUNDED_MS, RecordTimes, TimeBounds
from coinstream.routing import record_time_ms
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.producer.records import quote, quotes, read

HOUR_MS = 3_600_000


def moved(message: Level1, by: timedelta) -> Level1:
    at = datetime.now(UTC) + by
    return msgspec.structs.replace(message, timestamp=at, last_updated=at)


def record_times(records: list[KafkaMessage]) -> dict[int, tuple[int, int]]:
    """Kind and value of the record timestamp, by the number of the quote."""
    return {int(msgspec.json.decode(r.value() or b"")["bidSize"]): r.timestamp() for r in records}


def test_messages_of_a_refused_batch_keep_their_record_times(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("refused", config={"max.message.bytes": "3000"})
    sent = quotes(60)
    with RedpandaClient(broker_settings, ProducerSettings(pool_size=1)) as client:
        before = int(time.time() * 1000)
        plain = client.send(name, b"plain", b'{"bidSize": 1000}')
        client.produce(name, sent[:30])
        too_large = client.send(name, b"k", os.urandom(5000))
        client.produce(name, sent[30:])
        client.flush()
        with pytest.raises(MessageTooLargeError):
            too_large.result(0)
        assert before <= plain.result(0).timestamp_ms <= int(time.time() * 1000)
    found = record_times(read(broker_settings.brokers, name, 61))
    del found[1000]
    assert found == {number: (1, record_time_ms(message)) for number, message in enumerate(sent)}


def test_a_clock_hours_ahead_ends_no_feed(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("ahead")
    good = [moved(quote("A/B", n), timedelta(minutes=n)) for n in range(3)]
    ahead = [moved(quote("A/B", n), timedelta(hours=2 * n)) for n in range(3, 6)]
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [*good, *ahead])
        where = client.send(name, None, moved(quote("A/B", 6), timedelta(days=300))).result(30)
        client.flush()
        assert sum(client.delivered.values()) == 7
        assert client.held_record_times == {name: 4}
    records = read(broker_settings.brokers, name, 7)
    found = record_times(records)
    latest = time.time() * 1000 + HOUR_MS
    assert [found[n][1] for n in range(3)] == [record_time_ms(message) for message in good]
    assert all(time.time() * 1000 < found[n][1] <= latest for n in range(3, 7))
    assert where.timestamp_ms == found[6][1]
    decoded = [MessageDeserializer().decode(record.value()).message for record in records]
    assert [record_time_ms(m) for m in decoded[:6]] == [record_time_ms(m) for m in [*good, *ahead]]


def test_transactions_hold_record_times_too(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("ahead-in-transaction")
    with RedpandaClient(broker_settings) as client:
        with client.transaction(name) as transaction:
            transaction.publish([moved(quote("A/B", 1), timedelta(hours=5))], name)
        assert client.held_record_times == {name: 1}
    assert len(read(broker_settings.brokers, name, 1)) == 1


@pytest.mark.parametrize("retries", [0, 1])
def test_a_refused_message_is_sent_again_only_if_the_setting_of_retries_allows_it(
    broker_settings: BrokerSettings, topic: TopicFactory, retries: int
) -> None:
    name = topic("retries", config={"message.timestamp.after.max.ms": "60000"})
    client = RedpandaClient(broker_settings, ProducerSettings(retries=retries))
    sent = client.send(name, "k", moved(quote("A/B", 1), timedelta(minutes=30)))
    if retries:
        assert sent.result(60).topic == name
    else:
        with pytest.raises(ProduceError, match=name):
            sent.result(60)
    client.close()


@pytest.mark.parametrize(
    ("config", "by"),
    [
        ({"message.timestamp.after.max.ms": "60000"}, timedelta(minutes=30)),
        ({"message.timestamp.before.max.ms": "60000"}, timedelta(days=-900)),
    ],
)
def test_bounds_of_a_topic_are_learned_when_it_refuses(
    broker_settings: BrokerSettings, topic: TopicFactory, config: dict[str, str], by: timedelta
) -> None:
    name = topic("narrow", config=config)
    good, bad = moved(quote("A/B", 1), timedelta()), moved(quote("A/B", 2), by)
    with RedpandaClient(broker_settings) as client:
        for _ in range(3):
            client.produce(name, [good, bad, good])
            client.flush()
        assert sum(client.delivered.values()) == 9
        assert client.held_record_times == {name: 3}
    records = read(broker_settings.brokers, name, 9)
    assert [int(msgspec.json.decode(r.value() or b"")["bidSize"]) for r in records] == [1, 2, 1] * 3
    assert {r.timestamp()[1] for r in records if b'"bidSize":1.' in (r.value() or b"")} == {
        record_time_ms(good)
    }


def test_bounds_that_cannot_be_read_make_the_record_time_that_of_sending() -> None:
    metrics = Metrics(CollectorRegistry())
    times = RecordTimes(lambda _: None, metrics)
    times.tighten("t")
    before = int(time.time() * 1000)
    assert before <= times.hold("t", 5) <= int(time.time() * 1000)
    assert times.hold("other", 5) == 5
    assert times.held == {"t": 1}
    assert metrics.registry.get_sample_value("coinstream_record_times_held_total", {"topic": "t"}) == 1
    earliest, latest = times.safe_limits()
    assert latest - earliest == 0


bounds = st.builds(TimeBounds, st.integers(0, UNBOUNDED_MS), st.integers(0, UNBOUNDED_MS))


@given(bounds, st.integers(0, 2**45))
def test_limits_enclose_now_within_the_bounds(found: TimeBounds, now_ms: int) -> None:
    earliest, latest = found.limits(now_ms)
    assert now_ms - found.before_ms <= earliest <= now_ms <= latest <= now_ms + found.ahead_ms


@given(st.lists(st.integers(0, 2**45), max_size=20))
def test_holding_keeps_the_order_of_record_times(at: list[int]) -> None:
    times = RecordTimes(lambda _: TimeBounds(1_000, 1_000), Metrics(CollectorRegistry()))
    times.tighten("t")
    held = [times.hold("t", each) for each in sorted(at)]
    assert held == sorted(held)
    assert DEFAULT_BOUNDS.ahead_ms == HOUR_MS
