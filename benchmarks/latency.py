"""Milliseconds from produce to handler at a steady rate, beside bare clients at the same rate.

Producer and consumer are processes of their own, for the platform as for the bare clients. Each message
carries the time at which it was due, not that at which it was sent, so that a producer that falls behind
shows. The platform's processes run with their metrics endpoint up.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer

from benchmarks.common import bench_broker, bench_topic, machine
from benchmarks.produce import wait_and_produce
from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.kafka.partition_reader import reader_config
from coinstream.messages import LEVEL1, Level1, Message
from coinstream.monitoring.exporter import exporter
from coinstream.producer.config import latency_profile, producer_config
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

TICK_S = 0.002
PARTITIONS = 24
"""Of an exchange's level1 topic, by the specification."""
SYMBOLS = 200
_ROOT = Path(__file__).resolve().parents[1]


def run(
    rate: int = 50_000,
    seconds: float = 8.0,
    warmup: float = 3.0,
    repetitions: int = 3,
    broker_warmup: float = 10.0,
) -> dict[str, Any]:
    """Return the median over the turns of the p50 and p99 of each client.

    Args:
        rate: messages per second.
        seconds: measured time of each turn.
        warmup: time before that in each turn, not measured.
        repetitions: turns of each client.
        broker_warmup: seconds of bare clients before the first turn: a broker that just started is slow.
    """
    found: dict[str, list[dict[str, float]]] = {"ours": [], "raw": []}
    with bench_broker() as brokers:
        _turn(brokers, "raw", rate, broker_warmup, 0.0)
        for turn in range(repetitions):
            for who in list(found) if turn % 2 else reversed(found):
                gc.collect()
                before = _children_cpu_s()
                figures = _turn(brokers, who, rate, seconds, warmup)
                figures["cpu_us"] = (_children_cpu_s() - before) / (rate * (seconds + warmup)) * 1e6
                found[who].append(figures)
                print(
                    f"latency, turn {turn + 1} of {repetitions}, {who}: p50 {figures['p50']:.1f} ms, "
                    f"p99 {figures['p99']:.1f} ms",
                    file=sys.stderr,
                )
    ours, raw = found["ours"], found["raw"]
    ratios = [mine["p99"] / bare["p99"] for mine, bare in zip(ours, raw, strict=True)]
    return {
        "messages_per_second": round(_median(ours, "rate")),
        "raw_messages_per_second": round(_median(raw, "rate")),
        "p50_ms": round(_median(ours, "p50"), 2),
        "p99_ms": round(_median(ours, "p99"), 2),
        "raw_p50_ms": round(_median(raw, "p50"), 2),
        "raw_p99_ms": round(_median(raw, "p99"), 2),
        "cpu_us_per_message": round(_median(ours, "cpu_us"), 2),
        "raw_cpu_us_per_message": round(_median(raw, "cpu_us"), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "rate": rate,
        "machine": machine(),
    }


def _children_cpu_s() -> float:
    """Return the processor time of all children that have ended, in seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _median(turns: Sequence[dict[str, float]], figure: str) -> float:
    return statistics.median(turn[figure] for turn in turns)


def _turn(brokers: BrokerSettings, who: str, rate: int, seconds: float, warmup: float) -> dict[str, float]:
    count, skipped = int(rate * (seconds + warmup)), int(rate * warmup)
    with bench_topic(brokers, f"{LEVEL1.topic}-latency", PARTITIONS) as topic:
        arguments = [brokers.brokers, topic, str(rate), str(count), str(skipped)]
        with _child(f"{who}-consume", arguments) as reader:
            assert reader.stdout is not None
            _probe(brokers, topic)
            if reader.stdout.readline().strip() != b"ready":
                raise RuntimeError("the consumer did not start")
            with _child(f"{who}-produce", arguments) as writer:
                if writer.wait(count / rate * 3 + 60):
                    raise RuntimeError("the producer failed")
            output, _ = reader.communicate(timeout=60)
    result: dict[str, float] = json.loads(output)
    return result


@contextmanager
def _child(role: str, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.latency", role, *arguments]
    child = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        # After a failure no process must remain that waits for messages.
        child.kill()
        child.wait()


def _probe(brokers: BrokerSettings, topic: str) -> None:
    # One message to every partition; its number says that it is none of the measured ones.
    producer = Producer({"bootstrap.servers": brokers.brokers})
    for partition in range(PARTITIONS):
        producer.produce(topic, _bare_value(0.0, -1), b"probe", partition)
    producer.flush(30)


def _bare_value(due: float, number: int) -> bytes:
    # A valid quote, so that both kinds of consumer read the same.
    return (
        b'{"exchangeId":"bench","symbol":"COIN/USDT","bestBid":60000.25,"bestAsk":60000.5,"bidSize":%.6f,'
        b'"askSize":%d.0,"timestamp":"2026-01-01T00:00:00.000Z","lastUpdated":"2026-01-01T00:00:00.000Z"}'
        % (due, abs(number) if number >= 0 else 10**9)
    )


class Samples:
    """Latencies of the measured messages; complete when the last number has come."""

    def __init__(self, count: int, skipped: int) -> None:
        self.complete = False
        self.is_ready = False
        # Counting with `+=` would lose some: several threads handle messages.
        self._seen = itertools.count(1)
        self._count, self._skipped = count, skipped
        self._latencies: list[float] = []
        self._first = self._last = 0.0

    def add(self, due: float, number: float) -> None:
        if number >= 10**9:
            if not self.is_ready:
                self.is_ready = True
                print("ready", flush=True)
            return
        if next(self._seen) >= self._count:
            self.complete = True
        if number >= self._skipped:
            now = time.time()
            self._latencies.append(now - due)
            self._first = self._first or now
            self._last = now

    def report(self) -> str:
        ordered = sorted(self._latencies)
        return json.dumps(
            {
                "p50": ordered[len(ordered) // 2] * 1000,
                "p99": ordered[len(ordered) * 99 // 100] * 1000,
                "rate": len(ordered) / (self._last - self._first),
            }
        )


def _ticks(rate: int, count: int) -> Iterator[tuple[float, range]]:
    """When each handful of messages is due, and their numbers; waits until then."""
    each = max(int(rate * TICK_S), 1)
    start = time.time() + 0.1
    for first in range(0, count, each):
        due = start + first / rate
        if (left := due - time.time()) > 0:
            time.sleep(left)
        yield due, range(first, min(first + each, count))


def ours_produce(brokers: BrokerSettings, topic: str, rate: int, count: int) -> None:
    exchange = topic.removeprefix(f"{LEVEL1.topic}-")
    symbols = [f"COIN{number}/USDT" for number in range(SYMBOLS)]
    with exporter(), RedpandaClient(brokers) as client:
        for due, numbers in _ticks(rate, count):
            at = datetime.now(UTC)
            tick: list[Message] = [
                Level1(exchange, symbols[n % SYMBOLS], 60_000.25, 60_000.5, due, float(n), at, at)
                for n in numbers
            ]
            client.publish(tick)


def raw_produce(brokers: BrokerSettings, topic: str, rate: int, count: int) -> None:
    settings = ProducerSettings()
    config = producer_config(brokers, settings, latency_profile(settings), "bare")
    producer = Producer(config | {"enable.idempotence": True, "statistics.interval.ms": 0})
    keys = [b"COIN%d/USDT" % number for number in range(SYMBOLS)]
    for due, numbers in _ticks(rate, count):
        for n in numbers:
            wait_and_produce(producer, topic, _bare_value(due, n), keys[n % SYMBOLS])
        producer.poll(0)
    producer.flush(60)


def ours_consume(brokers: BrokerSettings, topic: str, samples: Samples) -> None:
    def handle(received: ConsumedMessage) -> None:
        message = received.message
        assert isinstance(message, Level1)
        samples.add(message.bid_size, message.ask_size)

    name, settings = f"bench-{uuid.uuid4().hex[:8]}", ConsumerSettings(offset_reset="earliest")
    with (
        exporter(),
        RedpandaClient(brokers, consumer=settings) as client,
        client.create_consumer_group(name, [topic], handle, GroupOptions()) as group,
    ):
        while not samples.complete and not group.wait(0.2):
            pass


def raw_consume(brokers: BrokerSettings, topic: str, samples: Samples) -> None:
    settings = ConsumerSettings(offset_reset="earliest")
    consumer = Consumer(reader_config(brokers, settings, f"bare-{uuid.uuid4().hex[:8]}"))
    consumer.subscribe([topic])
    while not samples.complete:
        for record in consumer.consume(500, 0.004):
            value = record.value() or b""
            at = value.index(b'"bidSize":') + 10
            end = value.index(b",", at)
            number = value[end + 11 : value.index(b",", end + 1)]
            samples.add(float(value[at:end]), float(number))
    consumer.close()


def main(role: str, bootstrap: str, topic: str, rate: str, count: str, skipped: str) -> None:
    brokers = BrokerSettings(brokers=bootstrap)
    if role.endswith("produce"):
        (ours_produce if role.startswith("ours") else raw_produce)(brokers, topic, int(rate), int(count))
        return
    samples = Samples(int(count), int(skipped))
    (ours_consume if role.startswith("ours") else raw_consume)(brokers, topic, samples)
    print(samples.report())


if __name__ == "__main__":
    main(*sys.argv[1:])
