"""Typed messages -> route -> write -> acknowledged, beside a bare Producer that sends bytes made beforehand.

The bare client has the same settings (profile, acks, compression, idempotence) and does what a hand-written
loop does: no callback, a poll every 500 messages, one flush.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from benchmarks.common import bench_broker, bench_topic, compare, interleaved, machine, quotes
from coinstream.client import RedpandaClient
from coinstream.messages import LEVEL1, Level1
from coinstream.producer.config import Profile, producer_config, profile_chooser
from coinstream.routing import Router, record_time_ms
from coinstream.serialization import Encoder
from coinstream.settings import BrokerSettings, ProducerSettings

PREPARED = 50_000
Record = tuple[str, bytes, bytes, int]


def run(
    messages: int = 500_000, repetitions: int = 5, partitions: int = 48, profile: str = "throughput"
) -> dict[str, Any]:
    """Rates of both clients in the same run, in turns.

    Args:
        messages: sent by each client in each turn.
        repetitions: turns that count.
        partitions: of the topic; 48 as `crypto-level1` has.
        profile: `throughput` (batches of 1 MiB) or `latency` (16 KiB).
    """
    patterns = ("*",) if profile == "throughput" else ()
    settings = ProducerSettings(throughput_topics=patterns)
    with bench_broker() as brokers, bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic:
        exchange = topic.removeprefix(f"{LEVEL1.topic}-")
        prepared = quotes(exchange, min(PREPARED, messages))
        chosen = profile_chooser(settings)(topic)
        figures = interleaved(
            repetitions,
            {
                "ours": lambda: ours(brokers, settings, prepared, messages),
                "raw": lambda: raw(brokers, settings, chosen, encode_all(topic, prepared), messages),
            },
        )
    return compare(figures["ours"], figures["raw"]) | {
        "messages": messages,
        "profile": profile,
        "machine": machine(),
    }


def ours(
    brokers: BrokerSettings, settings: ProducerSettings, prepared: Sequence[Level1], messages: int
) -> float:
    """Messages per second from the first `publish` to the last acknowledgement, through the platform."""
    with RedpandaClient(brokers, settings) as client:
        client.publish(prepared[:1000])
        client.flush()
        started = time.perf_counter()
        client.publish(itertools.islice(itertools.cycle(prepared), messages))
        client.flush()
        seconds = time.perf_counter() - started
        delivered = sum(client.delivered.values())
    if delivered != messages + len(prepared[:1000]):
        raise AssertionError(f"{delivered} of {messages} messages were acknowledged")
    return messages / seconds


def encode_all(topic: str, prepared: Sequence[Level1]) -> list[Record]:
    """The records that the platform would send."""
    encoder, router = Encoder(), Router([topic])
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
) -> float:
    """The same with a bare client."""
    config = producer_config(brokers, settings, profile, "bare") | {
        "enable.idempotence": True,
        "statistics.interval.ms": 0,
    }
    producer = Producer(config)
    send(producer, records[:1000])
    producer.flush()
    started = time.perf_counter()
    send(producer, itertools.islice(itertools.cycle(records), messages))
    if left := producer.flush(120):
        raise AssertionError(f"{left} messages of the bare client were not acknowledged")
    return messages / (time.perf_counter() - started)


def send(producer: Producer, records: Any) -> None:
    """What a hand-written loop does."""
    produce, poll = producer.produce, producer.poll
    for number, (topic, value, key, at_ms) in enumerate(records):
        while True:
            try:
                produce(topic, value, key, -1, None, None, at_ms)
                break
            except BufferError:
                poll(0.01)
        if not number % 500:
            poll(0)
