"""Measure the processor time of a message against partitions, exchanges, symbols, members and shards.

Processor time (user and system, of all threads of the process) is what sizing needs. It adds up over
processes and machines, and it depends on the load of the machine far less than a rate does. Each figure
stands beside that of bare clients in the same run, and rates are given too.

1. Producing: partitions, exchanges (each with its own topic) and symbols, one varied at a time. The bare
   producers send encoded payloads (`raw`) and typed messages (`typed_by_hand`). All sizes of a dimension
   take turns, so that `topics_growth` and `typed_by_hand_topics_growth` compare costs of the same turn.
2. Consuming: members of one group, each in its own process.
3. Sharing by symbol: feeds as one shard and as two, each in its own process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import Producer

from benchmarks.ccxt_feed import simulator
from benchmarks.common import (
    RAW,
    Cost,
    bench_broker,
    bench_topic,
    interleaved,
    machine,
    measure,
    quote_stream,
)
from benchmarks.produce import FailedDeliveries, bare_producer, encode_all, send, send_typed
from benchmarks.scale_consume import (
    PARTITIONS,
    SETTINGS,
    WAIT_S,
    bare_reading,
    beside,
    broker_cpu_s,
    fill,
    sharing_partitions,
)
from benchmarks.scale_feeds import MARKETS, feeding
from coinstream.client import RedpandaClient
from coinstream.messages import LEVEL1, Level1
from coinstream.monitoring.broker_requests import topic_sizes
from coinstream.producer.config import profile_chooser
from coinstream.settings import BrokerSettings

GROWTH_TURNS: Final = 5
"""Least number of turns in which one topic and many are compared."""


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
        shards: into how many the feeds are split.
        offered: quotes per second that the simulated exchange offers to all of them together.
    """
    with bench_broker() as brokers:
        by_partitions = {n: Layout(n, 1, 1000) for n in _many(partitions)}
        by_exchanges = {n: Layout(6, n, 100 * n) for n in _many(exchanges)}
        by_symbols = {n: Layout(48, 1, n) for n in _many(symbols)}
        topics = producing(brokers, messages, max(repetitions, GROWTH_TURNS), by_exchanges)
        found: dict[str, Any] = {
            "partitions": figures(producing(brokers, messages, repetitions, by_partitions)),
            "exchanges": figures(topics),
            "symbols": figures(producing(brokers, messages, repetitions, by_symbols)),
            "topics_growth": growth(topics, "ours"),
            "typed_by_hand_topics_growth": growth(topics, "typed_by_hand"),
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
        with simulator(offered, MARKETS) as (address, _):
            found["feed_shards"] = {n: feeding(brokers, address, n, messages) for n in _many(shards)}
    return found | {"messages": messages, "machine": machine()}


def _many(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


class Layout(NamedTuple):
    """Partitions of each topic, exchanges with a topic each, and symbols of all exchanges together."""

    partitions: int
    exchanges: int
    symbols: int


Costs = dict[int, dict[str, list[Cost]]]
"""Costs of each client in each turn, by the size of the dimension."""


def growth(costs: Costs, client: str) -> float:
    """Return how many times the messages of the most topics cost those of the fewest.

    Returns:
        The median over the turns, which compares costs of the same turn.
    """
    fewest, most = costs[min(costs)][client], costs[max(costs)][client]
    return round(median(many.cpu_us / few.cpu_us for many, few in zip(most, fewest, strict=True)), 2)


def figures(costs: Costs) -> dict[int, dict[str, float]]:
    """Return the median costs of each size."""
    return {size: _figures(found) for size, found in costs.items()}


def _figures(costs: Mapping[str, Sequence[Cost]]) -> dict[str, float]:
    by_hand, mine = (median(cost.cpu_us for cost in costs[name]) for name in ("typed_by_hand", "ours"))
    return beside(costs["ours"], costs[RAW]) | {
        "typed_by_hand_cpu_us_per_message": round(by_hand, 2),
        "typed_by_hand_cpu_ratio": round(by_hand / mine, 3),
    }


def producing(
    brokers: BrokerSettings, messages: int, repetitions: int, layouts: Mapping[int, Layout]
) -> Costs:
    """Measure routing, encoding and sending, beside bare producers; all clients of all sizes in turns."""
    with ExitStack() as stack:
        candidates = {
            (size, name): client
            for size, layout in layouts.items()
            for name, client in stack.enter_context(_clients(brokers, messages, layout)).items()
        }
        costs = interleaved(repetitions, candidates)
    return {size: {name: costs[of, name] for of, name in costs if of == size} for size in layouts}


@contextmanager
def _clients(
    brokers: BrokerSettings, messages: int, layout: Layout
) -> Iterator[dict[str, Callable[[], Cost]]]:
    with _topics(brokers, layout.exchanges, layout.partitions) as topics:
        names = [topic.removeprefix(f"{LEVEL1.topic}-") for topic in topics]
        mixed = _prepared(names, layout.symbols, min(messages, 50_000))
        records = encode_all(topics, mixed)
        by_exchange = dict(zip(names, topics, strict=True))
        yield {
            "ours": lambda: _ours(brokers, mixed, messages),
            RAW: lambda: _bare(brokers, topics[0], records, messages, send),
            "typed_by_hand": lambda: _by_hand(brokers, by_exchange, mixed, messages),
        }


def _by_hand(
    brokers: BrokerSettings, by_exchange: dict[str, str], prepared: Sequence[Level1], messages: int
) -> Cost:
    encode, failed = msgspec.json.Encoder().encode, FailedDeliveries()
    some_topic = next(iter(by_exchange.values()))

    def send_all(producer: Producer, some: Any) -> None:
        send_typed(producer, by_exchange, some, encode, failed)

    cost = _bare(brokers, some_topic, prepared, messages, send_all)
    if failed.count:
        raise AssertionError(f"{failed.count} messages of the bare client were not delivered")
    return cost


def _prepared(exchanges: Sequence[str], symbols: int, messages: int) -> list[Level1]:
    """Return quotes of all exchanges in turns, as they arrive.

    They are made in this order: with any other order in memory, the processor waits for memory more often.
    """
    each = max(symbols // len(exchanges), 1)
    count = max(each, messages // len(exchanges))
    streams = [quote_stream(exchange, count, symbols=each) for exchange in exchanges]
    return list(itertools.chain.from_iterable(zip(*streams, strict=True)))


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

        def work() -> None:
            client.publish(itertools.islice(itertools.cycle(prepared), messages))
            client.flush()

        return measure(messages, work)


def _bare(
    brokers: BrokerSettings,
    topic: str,
    items: Sequence[Any],
    messages: int,
    send_all: Callable[[Producer, Any], None],
) -> Cost:
    producer = bare_producer(brokers, SETTINGS, profile_chooser(SETTINGS)(topic))
    send_all(producer, items)
    producer.flush()

    def work() -> None:
        send_all(producer, itertools.islice(itertools.cycle(items), messages))
        if left := producer.flush(WAIT_S):
            raise AssertionError(f"{left} messages of the bare client were not acknowledged")

    return measure(messages, work)
