"""Measure candles of landed quotes: one minute, five minutes and one hour, beside Polars by hand.

The table is landed once and holds quotes over some hours. Each turn drops the candles and builds them again.
The loop by hand reads the same table and aggregates with Polars' own windows. It keeps nothing, and it
knows neither late rows nor candles that are still open.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import polars as pl
from confluent_kafka import Producer

from benchmarks.common import Cost, bench_broker, bench_topic, interleaved, machine, measure
from benchmarks.land import PREPARED, SPEC, steady_quotes
from benchmarks.produce import wait_and_produce
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.candles import TABLE, build_candles
from coinstream.lake.landing import land
from coinstream.lake.store import Lake
from coinstream.lake.warehouse import as_dataset
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, HomeSettings, LakeSettings

WINDOWS = ("1m", "5m", "1h")


def run(
    rows: int = 2_000_000, repetitions: int = 3, hours: float = 6.0, partitions: int = 12
) -> dict[str, Any]:
    """Measure building all candles and the loop by hand in turns, in the same run.

    Args:
        rows: quotes in the table.
        repetitions: turns that count.
        hours: time that the quotes cover.
        partitions: of the topic that is landed.
    """
    with (
        bench_broker() as brokers,
        bench_topic(brokers, "bench-candles", partitions) as topic,
        tempfile.TemporaryDirectory(prefix="coinstream-bench-candles-") as folder,
    ):
        fill(brokers, topic, rows, hours)
        lake = Lake(LakeSettings(), HomeSettings(home=Path(folder)))
        lake.table(SPEC)
        land(lake, brokers, SPEC, ExpectationValidator(SPEC, lake.settings), topic=topic)
        count = lake.table(SPEC).scan().count()
        costs = interleaved(
            repetitions, {"ours": lambda: ours(lake, count), "raw": lambda: by_hand(lake, count)}
        )
        candles = lake.find(TABLE)
        built = candles.scan().count() if candles is not None else 0
    return {
        "rows_per_second": round(statistics.median(cost.rate for cost in costs["ours"])),
        "cpu_us_per_row": round(statistics.median(cost.cpu_us for cost in costs["ours"]), 3),
        "raw_rows_per_second": round(statistics.median(cost.rate for cost in costs["raw"])),
        "raw_cpu_us_per_row": round(statistics.median(cost.cpu_us for cost in costs["raw"]), 3),
        "rows": count,
        "candles": built,
        "hours": hours,
        "machine": machine(),
    }


def fill(brokers: BrokerSettings, topic: str, rows: int, hours: float) -> None:
    """Put quotes into the topic whose times are evenly spread over the hours before now."""
    prepared = steady_quotes(min(PREPARED, rows))
    encoder = MessageSerializer()
    producer = Producer(
        {**brokers.kafka_config(), "enable.idempotence": True, "linger.ms": 50, "compression.type": "lz4"}
    )
    start, step = datetime.now(UTC) - timedelta(hours=hours), timedelta(hours=hours) / rows
    for number, quote in zip(range(rows), itertools.cycle(prepared), strict=False):
        at = start + number * step
        moved = msgspec.structs.replace(quote, timestamp=at, last_updated=at)
        wait_and_produce(producer, topic, encoder.encode(moved)[0], quote.symbol.encode())
    producer.flush()


def ours(lake: Lake, rows: int) -> Cost:
    """Measure building every candle of the table."""
    before = lake.find(TABLE)
    if before is not None:
        lake.catalog.drop_table(lake.identifier(TABLE))
        # A folder without an entry in the catalog would be refused as an orphan.
        shutil.rmtree(unquote(urlsplit(before.location()).path))
    found: list[int] = []
    cost = measure(rows, lambda: found.append(build_candles(lake).windows))
    if not found[0]:
        raise AssertionError("no candle was built")
    return cost


def by_hand(lake: Lake, rows: int) -> Cost:
    """Measure reading the quotes and aggregating them with Polars."""

    def work() -> None:
        columns = ["exchange_id", "symbol", "timestamp", "best_bid", "best_ask"]
        table = as_dataset(lake.table(SPEC)).to_table(columns)
        quotes = pl.DataFrame(pl.from_arrow(table)).with_columns(
            mid=(pl.col("best_bid").cast(pl.Float64) + pl.col("best_ask").cast(pl.Float64)) / 2
        )
        ordered = quotes.sort("timestamp")
        for window in WINDOWS:
            ordered.group_by_dynamic("timestamp", every=window, group_by=["exchange_id", "symbol"]).agg(
                open=pl.col("mid").first(),
                high=pl.col("mid").max(),
                low=pl.col("mid").min(),
                close=pl.col("mid").last(),
            )

    return measure(rows, work)
