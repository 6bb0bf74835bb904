"""Produce typed messages: route, encode, send, acknowledged; compare with bare producers in the same run.

Every client has the same settings: profile, acks, compression, idempotence, partitioner. The bare producers
do what a loop written by hand does: a poll every 500 messages, one flush. They differ in what they send:

- `raw`: payloads that were encoded before the clock started, without delivery reports. This is the limit.
- `typed_by_hand`: typed messages that the loop encodes with msgspec. A callback records each failed delivery.
- `same_wire`: the same with the platform's wire contract: checked values, rounded prices, milliseconds.
- `typed_untracked`: as `typed_by_hand`, without delivery reports. Lost messages go unnoticed.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage

from benchmarks.common import (
    RAW,
    Cost,
    bench_broker,
    bench_topic,
    compare_costs,
    interleaved,
    machine,
    measure,
    quotes,
)
from coinstream.backoff import produce_when_room
from coinstream.client import RedpandaClient
from coinstream.messages import LEVEL1, Level1
from coinstream.producer.config import Profile, producer_config, profile_chooser
from coinstream.routing import MessageRouter, record_time_ms
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, KafkaConfig, ProducerSettings

PREPARED = 50_000
WARM_UP = 1000
POLL_EVERY = 500
Record = tuple[str, bytes, bytes, int]


def run(
    messages: int = 500_000, repetitions: int = 5, partitions: int = 48, profile: str = "throughput"
) -> dict[str, Any]:
    """Measure all clients in the same run, in turns.

    Args:
        messages: sent by each client in each turn.
        repetitions: turns that count.
        partitions: of the topic; 48 as `crypto-level1` has.
        profile: `throughput` (batches of 1 MiB) or `latency` (16 KiB).
    """
    patterns = ("*",) if profile == "throughput" else ()
    settings = ProducerSettings(throughput_topics=patterns)
    with bench_broker() as brokers, bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic:
        prepared = quotes(topic.removeprefix(f"{LEVEL1.topic}-"), min(PREPARED, messages))
        chosen = profile_chooser(settings)(topic)
        figures = interleaved(
            repetitions,
            {
                "ours": lambda: ours(brokers, settings, prepared, messages),
                RAW: lambda: raw(brokers, settings, chosen, encode_all([topic], prepared), messages),
                "typed_by_hand": lambda: typed_by_hand(brokers, settings, chosen, topic, prepared, messages),
                "same_wire": lambda: same_wire(brokers, settings, chosen, topic, prepared, messages),
                "typed_untracked": lambda: typed_untracked(
                    brokers, settings, chosen, topic, prepared, messages
                ),
            },
        )
    mine = figures.pop("ours")
    result: dict[str, Any] = {
        "messages_per_second": round(statistics.median(cost.rate for cost in mine)),
        "cpu_us_per_message": round(statistics.median(cost.cpu_us for cost in mine), 2),
    }
    for name, costs in figures.items():
        result |= compare_costs(mine, costs, name)
    return result | {"messages": messages, "profile": profile, "machine": machine()}


def ours(
    brokers: BrokerSettings, settings: ProducerSettings, prepared: Sequence[Level1], messages: int
) -> Cost:
    """Measure `RedpandaClient.publish`, from the first call to the last acknowledgement."""
    with RedpandaClient(brokers, settings) as client:
        client.publish(prepared[:WARM_UP])
        client.flush()

        def work() -> None:
            client.publish(itertools.islice(itertools.cycle(prepared), messages))
            client.flush()

        cost = measure(messages, work)
        delivered = sum(client.delivered.values())
    if delivered != messages + len(prepared[:WARM_UP]):
        raise AssertionError(f"{delivered} of {messages} messages were acknowledged")
    return cost


def encode_all(topics: Iterable[str], prepared: Sequence[Level1]) -> list[Record]:
    """Return the records that the platform would send."""
    encoder, router = MessageSerializer(), MessageRouter(topics)
    return [
        (
            router.route(message).topic,
            encoder.encode(message)[0],
            router.route(message).key,
            record_time_ms(message),
        )
        for message in prepared
    ]


def raw(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    profile: Profile,
    records: Sequence[Record],
    messages: int,
) -> Cost:
    """Measure a bare producer with payloads that are encoded already."""
    producer = bare_producer(brokers, settings, profile)
    return _bare(producer, records, messages, lambda some: send(producer, some))


def typed_by_hand(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    profile: Profile,
    topic: str,
    prepared: Sequence[Level1],
    messages: int,
) -> Cost:
    """Measure a bare producer with typed messages that the loop encodes with msgspec."""
    encode = msgspec.json.Encoder().encode
    return _tracked(bare_producer(brokers, settings, profile), topic, prepared, messages, encode)


def same_wire(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    profile: Profile,
    topic: str,
    prepared: Sequence[Level1],
    messages: int,
) -> Cost:
    """Measure a bare producer with typed messages that the loop encodes as the platform does."""
    encode = MessageSerializer().writer(Level1)
    return _tracked(bare_producer(brokers, settings, profile), topic, prepared, messages, encode)


def typed_untracked(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    profile: Profile,
    topic: str,
    prepared: Sequence[Level1],
    messages: int,
) -> Cost:
    """Measure `typed_by_hand` without delivery reports."""
    producer = bare_producer(brokers, settings, profile)
    topics, encode = {prepared[0].exchange_id: topic}, msgspec.json.Encoder().encode
    return _bare(producer, prepared, messages, lambda some: send_typed(producer, topics, some, encode))


def bare_producer(brokers: BrokerSettings, settings: ProducerSettings, profile: Profile) -> Producer:
    """Return a producer as one would configure it by hand. Its callbacks are called for failures only."""
    config: KafkaConfig = producer_config(brokers, settings, profile, "bare")
    by_hand: KafkaConfig = {
        **{"enable.idempotence": True, "statistics.interval.ms": 0, "delivery.report.only.error": True}
    }
    return Producer(config | by_hand)


class FailedDeliveries:
    """Delivery callback of a loop written by hand: counts failures."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: KafkaError | None, _: KafkaMessage) -> None:
        """Count a failed delivery."""
        self.count += error is not None


def _tracked(
    producer: Producer,
    topic: str,
    prepared: Sequence[Level1],
    messages: int,
    encode: Callable[[Level1], bytes],
) -> Cost:
    failed = FailedDeliveries()
    topics = {prepared[0].exchange_id: topic}
    cost = _bare(
        producer, prepared, messages, lambda some: send_typed(producer, topics, some, encode, failed)
    )
    if failed.count:
        raise AssertionError(f"{failed.count} messages of the bare client were not delivered")
    return cost


def _bare(
    producer: Producer, items: Sequence[Any], messages: int, send_all: Callable[[Iterable[Any]], None]
) -> Cost:
    send_all(items[:WARM_UP])
    producer.flush()

    def work() -> None:
        send_all(itertools.islice(itertools.cycle(items), messages))
        if left := producer.flush(120):
            raise AssertionError(f"{left} messages of the bare client were not acknowledged")

    return measure(messages, work)


def send(producer: Producer, records: Iterable[Record]) -> None:
    """Send encoded records as a loop written by hand does."""
    produce, poll = producer.produce, producer.poll
    for number, (topic, value, key, at_ms) in enumerate(records):
        try:
            produce(topic, value, key, -1, None, None, at_ms)
        except BufferError:
            wait_and_produce(producer, topic, value, key, at_ms)
        if not number % POLL_EVERY:
            poll(0)


def send_typed(
    producer: Producer,
    topics: dict[str, str],
    messages: Iterable[Level1],
    encode: Callable[[Level1], bytes],
    on_delivery: FailedDeliveries | None = None,
) -> None:
    """Send typed messages as a loop written by hand does."""
    produce, poll = producer.produce, producer.poll
    for number, message in enumerate(messages):
        topic, key = topics[message.exchange_id], message.symbol.encode()
        at_ms = int(message.last_updated.timestamp() * 1000)
        value = encode(message)
        try:
            produce(topic, value, key, -1, on_delivery, None, at_ms)
        except BufferError:
            wait_and_produce(producer, topic, value, key, at_ms, on_delivery)
        if not number % POLL_EVERY:
            poll(0)


def wait_and_produce(
    producer: Producer,
    topic: str,
    value: bytes,
    key: bytes | None,
    at_ms: int = 0,
    on_delivery: FailedDeliveries | None = None,
) -> None:
    """Produce one record as soon as the buffer has room."""
    produce_when_room(
        lambda: producer.produce(topic, value, key, timestamp=at_ms, on_delivery=on_delivery), producer.poll
    )
