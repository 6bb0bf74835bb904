"""A typed handler with manual commit, beside a bare `consume` loop that decodes nothing, and beside peers.

All read the same topic of lz4-compressed book tops from its beginning. The clock runs from the first
message to the last, so that joining a group is not counted. The bare client has the same settings and
commits nothing. The peers do the same typed work (msgspec into the same definition, commits) in an
environment of their own.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from confluent_kafka import Consumer

from benchmarks.common import RAW, Cost, bench_broker, bench_topic, compare, interleaved, machine, quotes
from benchmarks.peers.clients import PEERS, Peer, environment
from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.kafka import CONSUME_BATCH
from coinstream.kafka.partition_reader import reader_config
from coinstream.messages import LEVEL1, Level1
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

PREPARED = 50_000
SETTINGS = ConsumerSettings(offset_reset="earliest")


def run(
    messages: int = 1_000_000,
    repetitions: int = 3,
    partitions: int = 48,
    peers: bool = True,
    batch_size: int = 1000,
) -> dict[str, Any]:
    """Rates in the same run, in turns.

    Args:
        messages: read by each in each turn. Many, as each has read ahead when its clock starts.
        repetitions: turns that count.
        partitions: of the topic; 48 as `crypto-level1` has.
        peers: also run quix-streams, faststream and aiokafka. Their environment is made on first use.
        batch_size: most messages that the batch handler gets at once.
    """
    python = environment() if peers else None
    with bench_broker() as brokers, bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic:
        fill(brokers, topic, messages)
        batches = GroupOptions(batch=True, batch_size=batch_size)
        candidates: dict[str, Callable[[], Cost]] = {
            "ours": lambda: ours(brokers, topic, messages, GroupOptions()),
            "batches": lambda: ours(brokers, topic, messages, batches),
            RAW: lambda: raw(brokers, topic, messages, 10_000),
            "tuned": lambda: raw(brokers, topic, messages, CONSUME_BATCH),
        }
        running = {name: Peer(name, python) for name in PEERS} if python else {}
        for name, peer in running.items():
            candidates[name] = _measured(peer, brokers, topic, messages)
        costs = interleaved(repetitions, candidates)
    figures = {name: [cost.rate for cost in found] for name, found in costs.items()}
    result = compare(figures["ours"], figures[RAW])
    for name, prefix in (("ours", ""), (RAW, "raw_")):
        result[f"{prefix}cpu_us_per_message"] = round(median(cost.cpu_us for cost in costs[name]), 2)
    result["against_small_calls"] = compare(figures["ours"], figures["tuned"])
    in_batches = compare(figures["batches"], figures[RAW])
    result["batch_handler"] = {name: in_batches[name] for name in ("messages_per_second", "ratio", "ratios")}
    result["batch_handler"]["cpu_us_per_message"] = round(median(c.cpu_us for c in costs["batches"]), 2)
    if running:
        result["peers"] = {
            name: {"messages_per_second": round(median(figures[name])), "version": peer.version}
            for name, peer in running.items()
        }
        fastest = max(running, key=lambda name: median(figures[name]))
        result["fastest_peer"] = fastest
        result["times_the_fastest_peer"] = round(
            median(mine / theirs for mine, theirs in zip(figures["ours"], figures[fastest], strict=True)), 2
        )
    return result | {"messages": messages, "machine": machine()}


def _measured(peer: Peer, brokers: BrokerSettings, topic: str, messages: int) -> Callable[[], Cost]:
    # Processor time of another process is not measured here.
    return lambda: Cost(messages, 0.0, messages / peer.rate("consume", brokers, topic, messages))


def fill(brokers: BrokerSettings, topic: str, messages: int) -> None:
    """Book tops of the topic's exchange, in large lz4 batches."""
    prepared = quotes(topic.removeprefix(f"{LEVEL1.topic}-"), min(PREPARED, messages))
    with RedpandaClient(brokers, ProducerSettings(throughput_topics=("*",))) as client:
        client.publish(itertools.islice(itertools.cycle(prepared), messages))


class Tally:
    """A typed handler: looks at the message, counts, and keeps the time of the first and the last."""

    def __init__(self, messages: int) -> None:
        self._left = itertools.count(messages - 1, -1)
        self._lock = threading.Lock()
        self._messages = messages
        self._seen = 0
        self.done = threading.Event()
        self.started = self.cpu_started = 0.0
        self.crossed = 0
        self.cost = Cost(messages, 0.0, 0.0)

    def one(self, received: ConsumedMessage) -> None:
        message = received.message
        if message.best_bid > message.best_ask:  # type: ignore[attr-defined]
            self.crossed += 1
        # A counter of the itertools kind is safe among threads without a lock.
        left = next(self._left)
        if not self.started:
            self.start()
        if not left:
            self.end()

    def many(self, batch: list[ConsumedMessage]) -> None:
        if not self.started:
            self.start()
        for received in batch:
            message = received.message
            assert isinstance(message, Level1)
            if message.best_bid > message.best_ask:
                self.crossed += 1
        with self._lock:
            self._seen += len(batch)
            if self._seen == self._messages:
                self.end()

    def start(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def end(self) -> None:
        cpu_s, seconds = time.process_time() - self.cpu_started, time.perf_counter() - self.started
        self.cost = Cost(self._messages, cpu_s, seconds)
        self.done.set()


def ours(brokers: BrokerSettings, topic: str, messages: int, options: GroupOptions) -> Cost:
    """Measure a consumer group with a typed handler, from the first message to the last."""
    tally = Tally(messages)
    handler = tally.many if options.batch else tally.one
    with RedpandaClient(brokers, consumer=SETTINGS) as client:
        group = f"bench-{time.time_ns()}"
        with client.create_consumer_group(group, [topic], handler, options) as manager:
            while not tally.done.wait(1):
                manager.raise_error()
    return tally.cost


def raw(brokers: BrokerSettings, topic: str, messages: int, at_once: int) -> Cost:
    """Measure a bare consumer that does nothing with its messages, `at_once` messages per call."""
    consumer = Consumer(reader_config(brokers, SETTINGS, f"bench-{time.time_ns()}"))
    consumer.subscribe([topic])
    try:
        seen, started, cpu = 0, 0.0, 0.0
        while seen < messages:
            batch = consumer.consume(at_once, 0.1)
            if batch and not started:
                started, cpu = time.perf_counter(), time.process_time()
            seen += len(batch)
        return Cost(messages, time.process_time() - cpu, time.perf_counter() - started)
    finally:
        consumer.close()
