"""Measure the processor time of consumed messages against members of a group."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from statistics import median
from typing import Any

import psutil
from confluent_kafka import Consumer

from benchmarks.common import Cost, quotes
from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.kafka import CONSUME_BATCH
from coinstream.kafka.partition_reader import reader_config
from coinstream.messages import LEVEL1
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

SETTINGS = ProducerSettings(throughput_topics=("*",))
READING = ConsumerSettings(offset_reset="earliest")
PARTITIONS = 48
WAIT_S = 120.0


def beside(ours: Sequence[Cost], bare: Sequence[Cost]) -> dict[str, float]:
    """Return the median costs of ours and of the bare client."""
    mine, theirs = median(cost.cpu_us for cost in ours), median(cost.cpu_us for cost in bare)
    return {
        "cpu_us_per_message": round(mine, 2),
        "messages_per_second": round(median(cost.rate for cost in ours)),
        "raw_cpu_us_per_message": round(theirs, 2),
        "raw_messages_per_second": round(median(cost.rate for cost in bare)),
        "cpu_ratio": round(theirs / mine, 3),
    }


def broker_cpu_s() -> float:
    """Processor time so far of the local broker that this bench has started; 0 on another cluster."""
    children = psutil.Process().children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in children if child.name() == "java")


def fill(brokers: BrokerSettings, topic: str, messages: int) -> None:
    """Quotes of 1,000 symbols."""
    prepared = quotes(topic.removeprefix(f"{LEVEL1.topic}-"), min(50_000, messages), symbols=1000)
    with RedpandaClient(brokers, SETTINGS) as client:
        client.publish(itertools.islice(itertools.cycle(prepared), messages))


@dataclass
class Shared:
    """State shared by the processes of one measurement."""

    start: Any
    total: Any
    stop: Any
    answers: Any


def sharing_partitions(
    brokers: BrokerSettings, topic: str, messages: int, members: int, repetitions: int, bare: Sequence[Cost]
) -> dict[str, float]:
    """Members of one group, which begin when each has its share of the partitions.

    No rate: what was fetched while they waited would flatter it.
    """
    costs = []
    for _ in range(repetitions):
        group = f"bench-{time.time_ns()}"
        share = PARTITIONS // members
        costs.append(_together([(brokers, topic, group, share)] * members, messages))
    figures = beside(costs, bare)
    return {name: figures[name] for name in figures if name.startswith(("cpu", "raw_cpu"))}


Job = tuple[BrokerSettings, str, str, int]


def _member(shared: Shared, brokers: BrokerSettings, topic: str, group: str, share: int) -> None:
    """Run a typed batch handler with commits, in a process of its own."""
    begin, first, last = threading.Event(), 0.0, 0.0

    def handle(batch: list[ConsumedMessage]) -> None:
        nonlocal first, last
        begin.wait(WAIT_S)
        first = first or time.time()
        with shared.total.get_lock():
            shared.total.value += len(batch)
        last = time.time()

    # One partition at a time: the clocks need no lock then.
    options = GroupOptions(batch=True, concurrent_partitions=1)
    with RedpandaClient(brokers, consumer=READING) as client:
        cpu = time.process_time()
        with client.create_consumer_group(group, [topic], handle, options) as manager:
            while manager.report().partitions != share:
                manager.raise_error()
                time.sleep(0.02)
            shared.start.wait(WAIT_S)
            begin.set()
            while not shared.stop.wait(0.2):
                manager.raise_error()
            cpu = time.process_time() - cpu
    shared.answers.put((first, last, cpu))


def bare_reading(brokers: BrokerSettings, topic: str, messages: int) -> Cost:
    """Return the cost of a bare consumer that discards its messages."""
    cpu, clock = time.process_time(), 0.0
    consumer = Consumer(reader_config(brokers, READING, f"bench-{time.time_ns()}"))
    consumer.subscribe([topic])
    try:
        seen = 0
        while seen < messages:
            batch = consumer.consume(CONSUME_BATCH, 0.1)
            if batch and not clock:
                clock = time.perf_counter()
            seen += len(batch)
        return Cost(messages, time.process_time() - cpu, time.perf_counter() - clock)
    finally:
        consumer.close()


def _together(jobs: Sequence[Job], messages: int) -> Cost:
    """Run members until they have handled all messages between them."""
    spawn = multiprocessing.get_context("spawn")
    shared = Shared(spawn.Barrier(len(jobs)), spawn.Value("q", 0), spawn.Event(), spawn.SimpleQueue())
    processes = [spawn.Process(target=_member, args=(shared, *job)) for job in jobs]
    with running(processes):
        deadline = time.monotonic() + WAIT_S
        while shared.total.value < messages:
            if time.monotonic() > deadline or any(process.exitcode for process in processes):
                raise AssertionError(f"{shared.total.value} of {messages} messages were handled")
            time.sleep(0.02)
        shared.stop.set()
        answers = [shared.answers.get() for _ in processes]
    handled = int(shared.total.value)
    worked = [answer for answer in answers if answer[0]]
    seconds = max(last for _, last, _ in worked) - min(first for first, _, _ in worked)
    return Cost(handled, sum(cpu for _, _, cpu in answers), seconds)


@contextmanager
def running(processes: Sequence[BaseProcess]) -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    except BaseException:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            process.join()
