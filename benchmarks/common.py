"""Share between benches: a broker, topics, repetitions in turns, medians, facts of the machine."""

from __future__ import annotations

import gc
import itertools
import os
import platform
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream import __version__
from coinstream.kafka import admin_client
from coinstream.local_broker import LocalBroker
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings

K = TypeVar("K")
T = TypeVar("T")

Repetition = Callable[[], float]
"""Does the work once and returns a figure, for example messages per second."""

RAW: Final = "raw"
"""The bare client in the names of figures; ratios without a name compare with it."""


@contextmanager
def bench_broker(nodes: Literal[1, 3] = 1) -> Iterator[BrokerSettings]:
    """Use the cluster of REDPANDA_BROKERS, else a local broker with a temporary folder."""
    configured = BrokerSettings()
    if configured.brokers:
        yield configured
        return
    with (
        tempfile.TemporaryDirectory(prefix="coinstream-bench-") as folder,
        LocalBroker(Path(folder), nodes=nodes, port=0) as local,
    ):
        yield configured.model_copy(update={"brokers": local.bootstrap})


@contextmanager
def bench_topic(brokers: BrokerSettings, prefix: str, partitions: int, **config: str) -> Iterator[str]:
    """Create a topic for the block and delete it at the end."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    admin = admin_client(brokers)
    admin.create_topics([NewTopic(name, partitions, -1, config=config)])[name].result(30)
    _wait_for_leaders(admin, name, partitions)
    try:
        yield name
    finally:
        admin.delete_topics([name])[name].result(30)


def _wait_for_leaders(admin: AdminClient, topic: str, partitions: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = admin.list_topics(topic, timeout=10).topics[topic].partitions
        if len(found) == partitions and all(part.leader >= 0 for part in found.values()):
            return
        time.sleep(0.02)
    raise TimeoutError(f"topic {topic} has no leaders")


class Cost(NamedTuple):
    """The cost of some messages: processor time of the process, and time on the clock."""

    messages: int
    cpu_s: float
    seconds: float

    @property
    def cpu_us(self) -> float:
        """Processor time per message, in microseconds."""
        return self.cpu_s / self.messages * 1e6

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds


def measure(messages: int, work: Callable[[], object]) -> Cost:
    """Run the work and return its cost; processor time is that of all threads of this process."""
    gc.collect()
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return Cost(messages, time.process_time() - cpu, time.perf_counter() - clock)


def interleaved(repetitions: int, candidates: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """Run the candidates in turns, so that a change of the machine's load affects all of them.

    The order alternates, and the first round is not measured.
    """
    figures: dict[K, list[T]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(repetitions + 1):
        for name in names if turn % 2 else reversed(names):
            gc.collect()
            figure = candidates[name]()
            if turn:
                figures[name].append(figure)
    return figures


def compare(ours: Sequence[float], raw: Sequence[float]) -> dict[str, Any]:
    """Return the medians of rates, and the median of the ratios of each turn."""
    ratios = [mine / bare for mine, bare in zip(ours, raw, strict=True)]
    return {
        "messages_per_second": round(statistics.median(ours)),
        "raw_messages_per_second": round(statistics.median(raw)),
        "ratio": round(statistics.median(ratios), 5),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def compare_costs(ours: Sequence[Cost], other: Sequence[Cost], name: str) -> dict[str, Any]:
    """Return rate and processor time of another client, and the ratios of ours to it.

    Args:
        ours: costs of coinstream, one per turn.
        other: the costs of the other client in the same turns.
        name: a prefix for the figures of the other client.
    """
    pairs = list(zip(ours, other, strict=True))
    short = "" if name == RAW else f"{name}_"
    return {
        f"{name}_messages_per_second": round(statistics.median(cost.rate for cost in other)),
        f"{name}_cpu_us_per_message": round(statistics.median(cost.cpu_us for cost in other), 2),
        f"{short}ratio": round(statistics.median(mine.rate / cost.rate for mine, cost in pairs), 5),
        f"{short}cpu_ratio": round(statistics.median(cost.cpu_us / mine.cpu_us for mine, cost in pairs), 5),
    }


def machine() -> dict[str, Any]:
    """Return facts of the machine on which a figure was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "coinstream": __version__,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def quotes(exchange: str, count: int, symbols: int = 200, seed: int = 7) -> list[Level1]:
    """Return book tops like an exchange's: prices of two to eight decimals, times a millisecond apart."""
    return list(quote_stream(exchange, count, symbols, seed))


def quote_stream(exchange: str, count: int, symbols: int = 200, seed: int = 7) -> Iterator[Level1]:
    """Yield the quotes of `quotes`, each when it is taken."""
    dice = random.Random(seed)
    markets = [(f"COIN{n}/USDT", 10 ** dice.uniform(-4, 5), dice.choice((2, 4, 8))) for n in range(symbols)]
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(milliseconds=count)
    for n, market in zip(range(count), itertools.cycle(markets), strict=False):
        yield _quote(exchange, dice, market, start + timedelta(milliseconds=n))


def _quote(exchange: str, dice: random.Random, market: tuple[str, float, int], at: datetime) -> Level1:
    symbol, price, decimals = market
    bid = round(price * dice.uniform(0.99, 1.01), decimals)
    return Level1(
        exchange_id=exchange,
        symbol=symbol,
        best_bid=bid,
        best_ask=round(bid + 10**-decimals, decimals),
        bid_size=round(dice.expovariate(0.3), 5),
        ask_size=round(dice.expovariate(0.3), 5),
        timestamp=at,
        last_updated=at + timedelta(microseconds=dice.randrange(0, 900_000)),
    )
