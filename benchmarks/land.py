"""Topic -> checked on every message -> Iceberg table with its offsets, beside a bare loop to Parquet.

The bare loop consumes, reads the JSON into Arrow with inferred types and writes Parquet files of one codec
and about the same size: no offsets, no catalogue, no decimals, no checks, nothing that survives a kill.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.common import Cost, bench_broker, bench_topic, compare, interleaved, machine, measure, quotes
from benchmarks.produce import wait_and_produce
from coinstream.errors import CoinstreamError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.kafka import CONSUME_BATCH
from coinstream.lake.landing import TableReport, land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import topic_reader_config
from coinstream.messages import Level1
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, HomeSettings, LakeSettings

PREPARED = 50_000
WIDEST = 1e-3
"""Spread against price, from which a market's ticks would be jumps."""
SPEC = spec_named("level1")


def run(
    messages: int = 2_000_000,
    repetitions: int = 3,
    partitions: int = 48,
    memory_mb: int = 512,
    engine: str = "embedded",
    workers: int = 2,
    many_slices: int = 141,
) -> dict[str, Any]:
    """Measure both in turns in the same run, and the memory that landing takes; on Ray what slices cost.

    Args:
        messages: in the topic; each turn lands or reads all of them.
        repetitions: turns that count.
        partitions: of the topic; 48 as `crypto-level1` has.
        memory_mb: the landing's memory setting, in MiB.
        engine: `embedded`, or `ray` (the extra `coinstream[ray]`).
        workers: of a Ray cluster that the bench starts; RAY_ADDRESS names another one.
        many_slices: slices of the landing on Ray that measures the cost of a slice.
    """
    if engine not in {"embedded", "ray"}:
        raise CoinstreamError(f"there is no engine {engine!r}: choose `embedded` or `ray`")
    chosen = {"engine": "ray", "workers": workers} if engine == "ray" else {}
    settings = LakeSettings.model_validate({"memory_bytes": memory_mb * 1_048_576, **chosen})
    if engine == "ray":
        from benchmarks.land_ray import run_on_ray

        with bench_broker() as brokers, bench_topic(brokers, "bench-land", partitions) as topic:
            fill(brokers, topic, messages)

            def bare(folder: Path) -> float:
                return raw(brokers, settings, topic, messages, folder).rate

            return run_on_ray(
                brokers, topic, messages, repetitions, many_slices, settings, bare, folder_of_its_own
            )
    with bench_broker() as brokers, bench_topic(brokers, "bench-land", partitions) as topic:
        fill(brokers, topic, messages)
        with bench_topic(brokers, "bench-land-few", 1) as few, folder_of_its_own() as folder:
            # So that libraries are loaded before memory is measured.
            fill(brokers, few, 1_000)
            ours(brokers, settings, few, 1_000, folder)
        # First of all: afterwards the process keeps what the bare loop took.
        with folder_of_its_own() as folder:
            memory = peak_memory(lambda: ours(brokers, settings, topic, messages, folder))
        costs = interleaved(
            repetitions,
            {
                name: partial(in_own_folder, work, brokers, settings, topic, messages)
                for name, work in {"ours": ours, "raw": raw}.items()
            },
        )
    figures = {name: [cost.rate for cost in found] for name, found in costs.items()}
    return compare(figures["ours"], figures["raw"]) | {
        "cpu_us_per_row": round(statistics.median(cost.cpu_us for cost in costs["ours"]), 2),
        "raw_cpu_us_per_row": round(statistics.median(cost.cpu_us for cost in costs["raw"]), 2),
        "messages": messages,
        "memory_setting_mb": memory_mb,
        **memory,
        "machine": machine(),
    }


def steady_quotes(count: int) -> list[Level1]:
    """Return quotes of markets whose tick is small against the price: larger steps would be jumps."""
    return [
        quote
        for quote in quotes("binance", count)
        if quote.best_ask - quote.best_bid < quote.best_bid * WIDEST
        and min(quote.bid_size, quote.ask_size) > 0
    ]


def fill(brokers: BrokerSettings, topic: str, messages: int) -> None:
    """Put quotes of the past into the topic, of markets whose tick is small against the price.

    Quotes with times ahead of the clock would be flagged.
    """
    prepared = steady_quotes(PREPARED)
    rounds = messages // len(prepared) + 1
    encoder = MessageSerializer()
    # Idempotent, so that no retry puts quotes out of order, which would be offenders.
    producer = Producer(
        {
            **brokers.kafka_config(),
            "enable.idempotence": True,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
        }
    )
    for number, quote in zip(range(messages), itertools.cycle(prepared), strict=False):
        later = timedelta(milliseconds=PREPARED * (number // len(prepared) - rounds))
        moved = msgspec.structs.replace(
            quote, timestamp=quote.timestamp + later, last_updated=quote.last_updated + later
        )
        value, key = encoder.encode(moved)[0], quote.symbol.encode()
        wait_and_produce(producer, topic, value, key)
    producer.flush()


def ours(brokers: BrokerSettings, settings: LakeSettings, topic: str, messages: int, folder: Path) -> Cost:
    """Land the quotes of `fill` as `landed` does, and make sure that they are clean.

    Raises:
        AssertionError: more than 1 % of the rows are flagged.
    """
    cost, report = landed(brokers, settings, topic, messages, folder)
    if report.flagged > messages / 100:
        raise AssertionError(f"{report.flagged} of {messages} rows were flagged: the data is not clean")
    return cost


def landed(
    brokers: BrokerSettings, settings: LakeSettings, topic: str, messages: int, folder: Path
) -> tuple[Cost, TableReport]:
    """Land the topic in an empty lake; the tables and the suite of expectations are made before.

    Raises:
        AssertionError: a message is missing.
    """
    lake = Lake(settings, HomeSettings(home=folder))
    lake.table(SPEC)
    validator = ExpectationValidator(SPEC, settings)
    reports: list[TableReport] = []
    cost = measure(messages, lambda: reports.append(land(lake, brokers, SPEC, validator, topic=topic)))
    report, count = reports[0], lake.table(SPEC).scan().count()
    if report.messages != messages or count + report.refused != messages:
        raise AssertionError(f"{messages} messages, but {report.messages} read, {count} rows")
    return cost, report


def raw(brokers: BrokerSettings, settings: LakeSettings, topic: str, messages: int, folder: Path) -> Cost:
    """Consume the topic to Parquet files with a minimal loop."""
    # The same sizes of fetching and taking; no ends to watch.
    consumer = Consumer({**topic_reader_config(brokers, settings), "enable.partition.eof": False})

    def work() -> None:
        parts = consumer.list_topics(topic).topics[topic].partitions
        consumer.assign([TopicPartition(topic, part, 0) for part in parts])
        read, gathered, files = 0, [], itertools.count()
        while read < messages:
            values = [message.value() or b"" for message in consumer.consume(CONSUME_BATCH, 0.1)]
            read += len(values)
            gathered += values
            if len(gathered) >= settings.batch_rows or read >= messages:
                table = pj.read_json(pa.BufferReader(b"\n".join(gathered)))
                pq.write_table(table, folder / f"{next(files)}.parquet", compression="zstd")
                gathered = []

    cost = measure(messages, work)
    consumer.close()
    return cost


def in_own_folder(
    work: Callable[[BrokerSettings, LakeSettings, str, int, Path], Cost],
    brokers: BrokerSettings,
    settings: LakeSettings,
    topic: str,
    messages: int,
) -> Cost:
    """Run the work in a folder of its own."""
    with folder_of_its_own() as folder:
        return work(brokers, settings, topic, messages, folder)


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """Yield an empty folder, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="coinstream-bench-lake-") as folder:
        yield Path(folder)


def peak_memory(work: Callable[[], object]) -> dict[str, float]:
    """Resident memory before the work, and its peak during it."""
    process = psutil.Process()
    before = process.memory_info().rss
    with _watching(process) as peak:
        work()
    return {
        "rss_before_mb": round(before / 1_048_576, 1),
        "rss_peak_mb": round(peak[0] / 1_048_576, 1),
        "landing_took_mb": round((peak[0] - before) / 1_048_576, 1),
    }


@contextmanager
def _watching(process: psutil.Process) -> Iterator[list[int]]:
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
