"""Quotes of the simulated exchange into the broker over a websocket, beside a loop that parses and produces.

The exchange runs in a process of its own, as a real one does; parser, routing, encoding and producing run in
one process: this one. The bare loop has no socket, no feed and no platform: it decodes the same frames with
msgspec, writes the same JSON and hands it to a `confluent_kafka.Producer` of the same settings.

A rate over a socket says little where the exchange cannot offer more, so each turn also measures what of a
core the feed and the exchange took: whichever had none left is the limit. What a message costs in processor
time is compared too, which neither the exchange nor other load disturbs.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Producer

from benchmarks.common import bench_broker, bench_topic, compare, interleaved, machine
from coinstream.client import RedpandaClient
from coinstream.feeds.exchanges.discovery import adapters
from coinstream.feeds.live import CcxtFeed, DirectFeed
from coinstream.feeds.runner import FeedReport, run_feed
from coinstream.feeds.simulated.binance import book_ticker
from coinstream.feeds.simulated.clients import ccxt_options
from coinstream.feeds.simulated.market import Market, RandomWalk
from coinstream.messages import LEVEL1
from coinstream.producer.config import producer_config, profile_chooser
from coinstream.settings import BrokerSettings, ProducerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "ADA/USDT", "DOGE/USDT")
EXCHANGE = "binance"
FRAMES = 50_000
BUSY = 0.9
"""Share of a core from which a process is the limit."""


@dataclass
class Turn:
    """One run of the feed. Processor time is of all threads; shares are of one core."""

    report: FeedReport
    cpu_us_per_message: float
    feed_cpu_share: float
    exchange_cpu_share: float

    @property
    def limit(self) -> str:
        """What kept the rate from being higher."""
        busy = {"feed": self.feed_cpu_share, "exchange": self.exchange_cpu_share}
        return (
            " and ".join(name for name, share in busy.items() if share >= BUSY) or "the machine or the offer"
        )


class BookTicker(msgspec.Struct):
    u: int
    s: str
    b: float
    B: float
    a: float
    A: float


def run(
    seconds: float = 8.0,
    rate: float = 100_000.0,
    repetitions: int = 3,
    partitions: int = 24,
    ccxt_rate_offered: float = 2_000.0,
) -> dict[str, Any]:
    """Rates of both in the same run, in turns.

    Args:
        seconds: that each feed run lasts.
        rate: quotes per second that the exchange offers; it waits for a slower reader, so nothing is lost.
        repetitions: turns that count.
        partitions: of the topic.
        ccxt_rate_offered: quotes per second offered to ccxt. Flooded, it reads without ever handing out.
    """
    settings = ProducerSettings(throughput_topics=("*",))
    turns: list[Turn] = []
    bare_cpu: list[float] = []
    with bench_broker() as brokers, bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic:
        exchange = topic.removeprefix(f"{LEVEL1.topic}-")
        frames = [book_ticker(tick) for tick in _ticks(FRAMES)]
        with simulator(rate) as (address, simulated):

            def ours() -> float:
                before, started = _busy_s(simulated), time.process_time()
                report = feed_rate(brokers, settings, address, exchange, seconds)
                spent = time.process_time() - started
                share = (_busy_s(simulated) - before) / report.seconds
                turns.append(Turn(report, spent / report.messages * 1e6, spent / report.seconds, share))
                return report.rate

            def raw() -> float:
                started = time.process_time()
                found = bare_rate(brokers, settings, topic, exchange, frames)
                bare_cpu.append((time.process_time() - started) / (2 * len(frames)) * 1e6)
                return found

            figures = interleaved(repetitions, {"ours": ours, "raw": raw})
        with simulator(ccxt_rate_offered) as (address, _):
            by_ccxt = ccxt_rate(brokers, settings, address, seconds)
    measured = turns[1:]  # the first was not
    receipt = [turn.report.receipt_to_produce for turn in measured if turn.report.receipt_to_produce]
    cost, bare = (
        statistics.median(turn.cpu_us_per_message for turn in measured),
        statistics.median(bare_cpu[1:]),
    )
    return compare(figures["ours"], figures["raw"]) | {
        "cpu_us_per_message": round(cost, 2),
        "raw_cpu_us_per_message": round(bare, 2),
        "cpu_ratio": round(bare / cost, 3),
        "feed_cpu_share": round(statistics.median(turn.feed_cpu_share for turn in measured), 2),
        "exchange_cpu_share": round(statistics.median(turn.exchange_cpu_share for turn in measured), 2),
        "limit": [turn.limit for turn in measured],
        "messages": sum(turn.report.messages for turn in measured),
        "ccxt_messages_per_second": round(by_ccxt),
        "ccxt_offered_per_second": ccxt_rate_offered,
        "offered_per_second": rate,
        "receipt_to_produce_p50_ms": round(statistics.median(found.p50_ms for found in receipt), 2),
        "receipt_to_produce_p99_ms": round(statistics.median(found.p99_ms for found in receipt), 2),
        "machine": machine(),
    }


@contextmanager
def simulator(rate: float, symbols: Sequence[str] = SYMBOLS) -> Iterator[tuple[str, psutil.Process]]:
    """Yield a simulated exchange in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "coinstream", "simulate", "--port", "0", "--rate", str(rate), "--json"]
    for symbol in symbols:
        command += ["--symbol", symbol]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    try:
        told = msgspec.json.decode(process.stdout.readline())
        yield str(told["control"]).removesuffix("/faults"), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _busy_s(process: psutil.Process) -> float:
    """Processor time of a process so far, in seconds."""
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def feed_rate(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    address: str,
    exchange: str,
    seconds: float | None = None,
    symbols: Sequence[str] = SYMBOLS,
    limit: int | None = None,
) -> FeedReport:
    """Run the direct feed; every received quote must have been acknowledged."""
    base = f"{address}/{EXCHANGE}"
    adapter = adapters()[EXCHANGE](base.replace("http", "ws", 1), base)
    # The bench's topic is that of an exchange of this name.
    adapter.exchange = exchange  # type: ignore[misc]
    feed = DirectFeed(adapter, symbols, "bench", ("level1",))
    with RedpandaClient(brokers, settings) as client:
        report = run_feed(feed, client, duration_s=seconds, limit=limit)
        delivered = sum(client.delivered.values())
    if delivered != report.messages:
        raise AssertionError(f"{delivered} of {report.messages} messages were acknowledged")
    return report


def ccxt_rate(brokers: BrokerSettings, settings: ProducerSettings, address: str, seconds: float) -> float:
    """Return the rate of ccxt's client on the same stream, published to the general topics."""
    base = f"{address}/{EXCHANGE}"
    options = ccxt_options(EXCHANGE, base, base.replace("http", "ws", 1))
    feed = CcxtFeed(EXCHANGE, SYMBOLS, ("level1",), options=options)
    provisioner = Provisioner(brokers)
    provisioner.apply(provisioner.plan(catalogue([])))
    with RedpandaClient(brokers, settings) as client:
        return run_feed(feed, client, duration_s=seconds).rate


def bare_rate(
    brokers: BrokerSettings, settings: ProducerSettings, topic: str, exchange: str, frames: Sequence[bytes]
) -> float:
    """Messages per second of a hand-written loop, to the last acknowledgement."""
    profile = profile_chooser(settings)(topic)
    config = producer_config(brokers, settings, profile, "bare") | {
        "enable.idempotence": True,
        "statistics.interval.ms": 0,
    }
    producer = Producer(config)
    decode, encode = msgspec.json.Decoder(BookTicker, strict=False).decode, msgspec.json.Encoder().encode
    started = time.perf_counter()
    for number, frame in enumerate(itertools.chain(frames, frames)):
        quote = decode(frame)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        value = encode(
            {
                **{"exchangeId": exchange, "symbol": quote.s, "bestBid": quote.b, "bestAsk": quote.a},
                **{"bidSize": quote.B, "askSize": quote.A, "timestamp": now, "lastUpdated": now},
            }
        )
        while True:
            try:
                producer.produce(topic, value, quote.s.encode())
                break
            except BufferError:
                producer.poll(0.01)
        if number % 500 == 0:
            producer.poll(0)
    if left := producer.flush(120):
        raise AssertionError(f"{left} messages of the bare client were not acknowledged")
    return 2 * len(frames) / (time.perf_counter() - started)


def _ticks(count: int) -> list[Any]:
    market = Market(RandomWalk(SYMBOLS))
    return [market.next(1_700_000_000_000) for _ in range(count)]
