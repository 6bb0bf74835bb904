"""What a message costs in processor time, against partitions, exchanges, symbols, group members and shards.

Processor time (user and system, of all threads of the process) is what sizing needs: it adds up over
processes and machines, and depends on the load of this machine far less than a rate does. Each figure stands
beside that of a bare client in the same run, and rates are given too.

1. Producing: partitions, exchanges (each with a topic of its own) and symbols, one varied at a time.
2. Consuming: members of one group, each a process of its own.
3. Sharing by key: consumers and feeds as one shard and as two, each a process of its own.
"""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from statistics import median
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Consumer, Producer

from benchmarks.common import bench_broker, bench_topic, machine, quotes
from benchmarks.feeds import feed_rate, simulator
from benchmarks.produce import Record, encode_all, send
from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.consumer.config import reader_config
from coinstream.messages import LEVEL1, Level1
from coinstream.monitoring.log_dirs import topic_sizes
from coinstream.producer.config import producer_config, profile_chooser
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings
from coinstream.sharding import Shard

SETTINGS = ProducerSettings(throughput_topics=("*",))
READING = ConsumerSettings(offset_reset="earliest")
MARKETS = tuple(f"COIN{number}/USDT" for number in range(40))
PARTITIONS = 48
WAIT_S = 120.0


class Cost(NamedTuple):
    """Of some messages: processor time of the process, and time on the clock."""

    messages: int
    cpu_s: float
    seconds: float

    def figures(self) -> dict[str, float]:
        """Per message and per second."""
        return {
            "cpu_us_per_message": round(self.cpu_s / self.messages * 1e6, 2),
            "messages_per_second": round(self.messages / self.seconds),
        }


def run(
    messages: int = 200_000,
    repetitions: int = 3,
    partitions: str = "1,12,48,192",
    exchanges: str = "1,8,64",
    symbols: str = "10,1000,50000",
    members: str = "1,2,4",
    shards: str = "1,2",
    offered: float = 60_000.0,
) -> dict[str, Any]:
    """Costs of each, and the bytes that a message takes.

    Args:
        messages: of each measurement.
        repetitions: measurements of each, in turns; the median counts.
        partitions: how many, of one topic with 1,000 symbols.
        exchanges: how many, each with a topic of 6 partitions and 100 symbols.
        symbols: how many, on one topic of 48 partitions.
        members: processes of one consumer group on 48 partitions.
        shards: into how many the consumers and the feeds are split.
        offered: quotes per second that the simulated exchange offers to all of them together.
    """
    with bench_broker() as brokers:
        found: dict[str, Any] = {
            "partitions": {
                n: producing(brokers, messages, repetitions, n, 1, 1000) for n in _many(partitions)
            },
            "exchanges": {
                n: producing(brokers, messages, repetitions, 6, n, 100 * n) for n in _many(exchanges)
            },
            "symbols": {n: producing(brokers, messages, repetitions, 48, 1, n) for n in _many(symbols)},
        }
        with bench_topic(brokers, f"{LEVEL1.topic}-bench", PARTITIONS) as topic:
            before = broker_cpu_s()
            fill(brokers, topic, messages)
            written = broker_cpu_s()
            found["stored_bytes_per_message"] = round(topic_sizes(brokers)[topic] / messages, 1)
            read = broker_cpu_s()
            bare = [bare_reading(brokers, topic, messages) for _ in range(repetitions)]
            if before:
                found["broker_cpu_us_per_message"] = {
                    "written": round((written - before) / messages * 1e6, 2),
                    "read": round((broker_cpu_s() - read) / messages / repetitions * 1e6, 2),
                }
            found["members"] = {
                n: sharing_partitions(brokers, topic, messages, n, repetitions, bare) for n in _many(members)
            }
            found["consumer_shards"] = {
                n: sharing_keys(brokers, topic, messages, n, repetitions, bare) for n in _many(shards)
            }
        with simulator(offered, MARKETS) as (address, _):
            found["feed_shards"] = {n: feeding(brokers, address, n, messages) for n in _many(shards)}
    return found | {"messages": messages, "machine": machine()}


def _many(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


# Producing


def producing(
    brokers: BrokerSettings, messages: int, repetitions: int, partitions: int, exchanges: int, symbols: int
) -> dict[str, float]:
    """The cost of routing, writing and sending a message, beside sending bytes made beforehand."""
    with _topics(brokers, exchanges, partitions) as topics:
        names = [topic.removeprefix(f"{LEVEL1.topic}-") for topic in topics]
        prepared = _prepared(names, symbols, min(messages, 50_000))
        # Exchanges take turns, as their messages come in.
        mixed = list(itertools.chain.from_iterable(zip(*prepared, strict=True)))
        written = [encode_all(topic, of) for topic, of in zip(topics, prepared, strict=True)]
        records = list(itertools.chain.from_iterable(zip(*written, strict=True)))
        ours, bare = [], []
        for _ in range(repetitions):
            ours.append(_ours(brokers, mixed, messages))
            bare.append(_bare(brokers, topics[0], records, messages))
    return _beside(ours, bare)


def _prepared(exchanges: Sequence[str], symbols: int, messages: int) -> list[list[Level1]]:
    each = max(symbols // len(exchanges), 1)
    count = max(each, messages // len(exchanges))
    return [quotes(exchange, count, symbols=each) for exchange in exchanges]


@contextmanager
def _topics(brokers: BrokerSettings, count: int, partitions: int) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions))
            for _ in range(count)
        ]


def _ours(brokers: BrokerSettings, prepared: Sequence[Level1], messages: int) -> Cost:
    with RedpandaClient(brokers, SETTINGS) as client:
        client.publish(prepared)
        client.flush()
        return _cost(
            messages,
            lambda: client.publish(itertools.islice(itertools.cycle(prepared), messages)),
            client.flush,
        )


def _bare(brokers: BrokerSettings, topic: str, records: Sequence[Record], messages: int) -> Cost:
    config = producer_config(brokers, SETTINGS, profile_chooser(SETTINGS)(topic), "bare")
    producer = Producer(config | {"enable.idempotence": True, "statistics.interval.ms": 0})
    send(producer, records)
    producer.flush()
    return _cost(
        messages,
        lambda: send(producer, itertools.islice(itertools.cycle(records), messages)),
        lambda: producer.flush(WAIT_S),
    )


def _cost(messages: int, work: Callable[[], object], finish: Callable[[], object]) -> Cost:
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    finish()
    return Cost(messages, time.process_time() - cpu, time.perf_counter() - clock)


def _beside(ours: Sequence[Cost], bare: Sequence[Cost]) -> dict[str, float]:
    mine, theirs = _median(ours), _median(bare)
    return mine.figures() | {
        "raw_cpu_us_per_message": theirs.figures()["cpu_us_per_message"],
        "raw_messages_per_second": theirs.figures()["messages_per_second"],
        "cpu_ratio": round(mine.cpu_s / theirs.cpu_s * theirs.messages / mine.messages, 2),
    }


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        round(median(cost.messages for cost in costs)),
        median(cost.cpu_s for cost in costs),
        median(cost.seconds for cost in costs),
    )


# Consuming


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
    """What the processes of one measurement share."""

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
        costs.append(_together([(brokers, topic, group, None, share)] * members, messages))
    figures = _beside(costs, bare)
    return {name: figures[name] for name in figures if name.startswith(("cpu", "raw_cpu"))}


def sharing_keys(
    brokers: BrokerSettings, topic: str, messages: int, shards: int, repetitions: int, bare: Sequence[Cost]
) -> dict[str, float]:
    """Processes that read all partitions and handle the messages of their keys."""
    costs = []
    for _ in range(repetitions):
        group = f"bench-{time.time_ns()}"
        jobs = [(brokers, topic, group, shard, None) for shard in Shard.all(shards)]
        costs.append(_together(jobs, messages))
    return _beside(costs, bare)


Job = tuple[BrokerSettings, str, str, Shard | None, int | None]


def _member(
    shared: Shared, brokers: BrokerSettings, topic: str, group: str, shard: Shard | None, share: int | None
) -> None:
    """A typed batch handler with commits, in a process of its own."""
    begin, first, last = threading.Event(), 0.0, 0.0

    def handle(batch: list[ConsumedMessage]) -> None:
        nonlocal first, last
        begin.wait(WAIT_S)
        first = first or time.time()
        with shared.total.get_lock():
            shared.total.value += len(batch)
        last = time.time()

    # One partition at a time: the clocks need no lock then.
    options = GroupOptions(batch=True, shard=shard, concurrent_partitions=1)
    with RedpandaClient(brokers, consumer=READING) as client:
        if share is None:
            begin.set()
            shared.start.wait(WAIT_S)
        cpu = time.process_time()
        with client.create_consumer_group(group, [topic], handle, options) as manager:
            if share is not None:
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
    """A bare consumer that does nothing with what comes."""
    cpu, clock = time.process_time(), 0.0
    consumer = Consumer(reader_config(brokers, READING, f"bench-{time.time_ns()}"))
    consumer.subscribe([topic])
    try:
        seen = 0
        while seen < messages:
            batch = consumer.consume(10_000, 0.1)
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
    with _running(processes):
        deadline = time.monotonic() + WAIT_S
        while shared.total.value < messages:
            if time.monotonic() > deadline or any(process.exitcode for process in processes):
                raise AssertionError(f"{shared.total.value} of {messages} messages were handled")
            time.sleep(0.02)
        shared.stop.set()
        answers = [shared.answers.get() for _ in processes]
    handled = int(shared.total.value)
    # Partitions that move while members join may bring a few messages twice; shards move nothing.
    if jobs[0][3] is not None and handled != messages:
        raise AssertionError(f"{handled} messages were handled, and {messages} are there")
    worked = [answer for answer in answers if answer[0]]
    seconds = max(last for _, last, _ in worked) - min(first for first, _, _ in worked)
    return Cost(handled, sum(cpu for _, _, cpu in answers), seconds)


@contextmanager
def _running(processes: Sequence[BaseProcess]) -> Iterator[None]:
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


# Feeds


def feeding(brokers: BrokerSettings, address: str, shards: int, messages: int) -> dict[str, Any]:
    """A direct feed of the symbols of one exchange, in so many shards: from the websocket to acknowledged."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(shards), spawn.SimpleQueue()
    with bench_topic(brokers, f"{LEVEL1.topic}-bench", PARTITIONS) as topic:
        exchange = topic.removeprefix(f"{LEVEL1.topic}-")
        processes = [
            spawn.Process(target=_feed, args=(start, answers, brokers, address, exchange, shard, messages))
            for shard in Shard.all(shards)
        ]
        with _running(processes):
            told = [answers.get() for _ in processes]
    sent = sum(count for count, _, _ in told)
    return {
        "cpu_us_per_message": round(sum(cpu for _, cpu, _ in told) / sent * 1e6, 2),
        "messages_per_second": round(sum(rate for _, _, rate in told)),
        "symbols": [len(shard.among(MARKETS)) for shard in Shard.all(shards)],
    }


def _feed(
    start: Any,
    answers: Any,
    brokers: BrokerSettings,
    address: str,
    exchange: str,
    shard: Shard,
    messages: int,
) -> None:
    mine = shard.among(MARKETS)
    start.wait(WAIT_S)
    cpu = time.process_time()
    report = feed_rate(
        brokers, SETTINGS, address, exchange, symbols=mine, limit=messages * len(mine) // len(MARKETS)
    )
    answers.put((report.messages, time.process_time() - cpu, report.rate))
