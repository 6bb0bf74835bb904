"""What all benches share: a broker, topics of their own, interleaved repetitions, medians, machine facts."""

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
from typing import Any, Literal

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream import __version__
from coinstream.kafka import admin_client
from coinstream.local_broker import LocalBroker
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings

Repetition = Callable[[], float]
"""Does the work once and gives a figure, e.g. messages per second."""


@contextmanager
def bench_broker(nodes: Literal[1, 3] = 1) -> Iterator[BrokerSettings]:
    """The cluster of REDPANDA_BROKERS, else a local broker with a throw-away folder for the block."""
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
    """A topic of the bench's own, deleted at the end."""
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


def interleaved(repetitions: int, candidates: Mapping[str, Repetition]) -> dict[str, list[float]]:
    """Run the candidates in turns, so that a change of the machine's load meets all of them.

    The order alternates, and one unmeasured round comes first.
    """
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(repetitions + 1):
        for name in names if turn % 2 else reversed(names):
            gc.collect()
            figure = candidates[name]()
            if turn:
                figures[name].append(figure)
    return figures


def compare(ours: Sequence[float], raw: Sequence[float]) -> dict[str, Any]:
    """Medians, and the median of the ratios turn by turn (which load that lasts does not disturb)."""
    ratios = [mine / bare for mine, bare in zip(ours, raw, strict=True)]
    return {
        "messages_per_second": round(statistics.median(ours)),
        "raw_messages_per_second": round(statistics.median(raw)),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "coinstream": __version__,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def quotes(exchange: str, count: int, symbols: int = 200, seed: int = 7) -> list[Level1]:
    """Book tops as an exchange gives them: prices of two to eight decimals, times a millisecond apart."""
    dice = random.Random(seed)
    markets = [(f"COIN{n}/USDT", 10 ** dice.uniform(-4, 5), dice.choice((2, 4, 8))) for n in range(symbols)]
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(milliseconds=count)
    return [
        _quote(exchange, dice, market, start + timedelta(milliseconds=n))
        for n, market in zip(range(count), itertools.cycle(markets), strict=False)
    ]


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
