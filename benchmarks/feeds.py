"""Measure a live feed: from a websocket into the broker, beside a loop that parses and produces by hand.

The exchange runs in a process of its own, as a real one does. Receiving, parsing, routing, encoding and
producing run in one process: this one. The bare loop has no socket, no feed and no platform: it decodes the
same frames with msgspec, encodes the same fields and produces them with the same settings.

The figures compare processor time per message, which neither the exchange nor other load changes much:

- `cpu_ratio` at full rate, `paced_cpu_ratio` at a steady rate, both for Binance;
- `venues`: the same at full rate for each exchange;
- `ccxt_handed_out_ratio`: the smallest share of the offered quotes that a feed over ccxt's client publishes;
- `ccxt_complete`: whether that is at least 0.99, and no run was silent for 5 s.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.ccxt_feed import ccxt_run
from benchmarks.common import Cost, bench_broker, bench_topic, compare, interleaved, machine, measure
from benchmarks.frame_server import frame_server
from benchmarks.produce import POLL_EVERY, bare_producer, wait_and_produce
from benchmarks.venue_frames import VENUES, Venue, frames_of
from coinstream.client import RedpandaClient
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.live import DirectFeed
from coinstream.feeds.runner import FeedReport, run_feed
from coinstream.messages import LEVEL1, Message
from coinstream.producer.config import profile_chooser
from coinstream.settings import BrokerSettings, ProducerSettings

ROOT = Path(__file__).resolve().parents[1]
EXCHANGE = "binance"
LONGEST_S = 120.0
SETTINGS = ProducerSettings(throughput_topics=("*",))


class Run(NamedTuple):
    """One run of a feed: its cost from the first message to the last acknowledgement, and its report."""

    cost: Cost
    report: FeedReport


class TimedClient(RedpandaClient):
    """A client that notes when the first messages are published, and may send all to one topic."""

    started: tuple[float, float] | None = None
    topic: str | None = None

    def publish(self, messages: Iterable[Message]) -> int:
        """See `RedpandaClient.publish`."""
        if self.started is None:
            self.started = time.process_time(), time.perf_counter()
        return self._publisher.publish(messages, self.topic)

    def cost(self, messages: int) -> Cost:
        """Return the cost of the messages since then."""
        cpu, clock = self.started or (0.0, 0.0)
        return Cost(messages, time.process_time() - cpu, time.perf_counter() - clock)


def run(
    messages: int = 150_000,
    repetitions: int = 3,
    partitions: int = 24,
    paced_rate: float = 20_000.0,
    venues: str = ",".join(VENUES),
    ccxt_rates: str = "500,2000",
    ccxt_seconds: float = 120.0,
    ccxt_symbols: int = 50,
) -> dict[str, Any]:
    """Measure the feed and the bare loop in turns, in the same run.

    Args:
        messages: of each run at full rate.
        repetitions: turns that count.
        partitions: of the topics.
        paced_rate: quotes per second of the runs at a steady rate.
        venues: exchanges to measure at full rate; Binance is always among them.
        ccxt_rates: quotes per second offered to ccxt, one run each; empty: ccxt is not measured.
        ccxt_seconds: length of each run with ccxt.
        ccxt_symbols: symbols of each run with ccxt.
    """
    names = list(dict.fromkeys([EXCHANGE, *(name for name in venues.split(",") if name)]))
    with bench_broker() as brokers:
        found = {name: _venue(brokers, name, messages, repetitions, partitions) for name in names}
        paced = _venue(brokers, EXCHANGE, messages, repetitions, partitions, paced_rate)
        by_ccxt = {
            rate: ccxt_run(brokers, SETTINGS, float(rate), ccxt_seconds, ccxt_symbols)
            for rate in ccxt_rates.split(",")
            if rate
        }
    figures = ("cpu_us_per_message", "raw_cpu_us_per_message", "cpu_ratio", "messages_per_second")
    return found[EXCHANGE] | {
        "paced_cpu_ratio": paced["cpu_ratio"],
        "paced_cpu_us_per_message": paced["cpu_us_per_message"],
        "paced_messages_per_second": paced["messages_per_second"],
        "paced_receipt_to_produce_p99_ms": paced["receipt_to_produce_p99_ms"],
        "ccxt_handed_out_ratio": min((found.ratio for found in by_ccxt.values()), default=None),
        "ccxt_handed_out": {rate: found.ratio for rate, found in by_ccxt.items()},
        "ccxt_offered_per_second": {rate: found.offered_per_second for rate, found in by_ccxt.items()},
        "ccxt_longest_silence_s": max((found.longest_silence_s for found in by_ccxt.values()), default=None),
        "ccxt_complete": all(found.is_complete for found in by_ccxt.values()),
        "venues": {name: {figure: found[name][figure] for figure in figures} for name in names},
        "messages": messages,
        "machine": machine(),
    }


def _venue(
    brokers: BrokerSettings, name: str, messages: int, repetitions: int, partitions: int, rate: float = 0.0
) -> dict[str, Any]:
    """Measure the feed of one exchange and the bare loop over the same frames."""
    frames = frames_of(VENUES[name], messages)
    runs: list[Run] = []
    with (
        bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic,
        frame_server(name, messages + messages // 10, rate) as address,
    ):

        def ours() -> Cost:
            runs.append(feed_run(brokers, name, address, topic, messages))
            return runs[-1].cost

        def raw() -> Cost:
            return bare(brokers, VENUES[name], topic, frames)

        costs = interleaved(repetitions, {"ours": ours, "raw": raw})
    rates = {who: [cost.rate for cost in of] for who, of in costs.items()}
    pairs = zip(costs["ours"], costs["raw"], strict=True)
    receipt = [of.report.receipt_to_produce for of in runs[1:] if of.report.receipt_to_produce]
    return compare(rates["ours"], rates["raw"]) | {
        "cpu_us_per_message": round(statistics.median(cost.cpu_us for cost in costs["ours"]), 2),
        "raw_cpu_us_per_message": round(statistics.median(cost.cpu_us for cost in costs["raw"]), 2),
        "cpu_ratio": round(statistics.median(theirs.cpu_us / mine.cpu_us for mine, theirs in pairs), 3),
        "receipt_to_produce_p50_ms": round(statistics.median(found.p50_ms for found in receipt), 2),
        "receipt_to_produce_p99_ms": round(statistics.median(found.p99_ms for found in receipt), 2),
    }


def feed_run(brokers: BrokerSettings, name: str, address: str, topic: str, messages: int) -> Run:
    """Run the direct feed of an exchange against the frame server; every quote must be acknowledged."""
    adapter = adapters()[name](f"ws://{address}", f"http://{address}")
    feed = DirectFeed(adapter, VENUES[name].symbols, "bench", ("level1",))
    gc.collect()
    with TimedClient(brokers, SETTINGS) as client:
        client.topic = topic
        report = run_feed(feed, client, limit=messages, duration_s=LONGEST_S)
        cost = client.cost(report.messages)
        delivered = sum(client.delivered.values())
    if not delivered == report.messages == messages:
        raise AssertionError(f"{name}: {delivered} of {messages} messages were acknowledged: {report}")
    return Run(cost, report)


def bare(brokers: BrokerSettings, venue: Venue, topic: str, frames: Sequence[bytes]) -> Cost:
    """Measure a loop written by hand: parse, encode, produce, acknowledged."""
    producer = bare_producer(brokers, SETTINGS, profile_chooser(SETTINGS)(topic))
    exchange, encode, produce = (
        topic.removeprefix(f"{LEVEL1.topic}-"),
        msgspec.json.Encoder().encode,
        producer.produce,
    )

    def work() -> None:
        for number, frame in enumerate(frames):
            symbol, bid, ask, bid_size, ask_size = venue.parse(frame)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            value = encode(
                {
                    **{"exchangeId": exchange, "symbol": symbol, "bestBid": bid, "bestAsk": ask},
                    **{"bidSize": bid_size, "askSize": ask_size, "timestamp": now, "lastUpdated": now},
                }
            )
            try:
                produce(topic, value, symbol.encode())
            except BufferError:
                wait_and_produce(producer, topic, value, symbol.encode())
            if not number % POLL_EVERY:
                producer.poll(0)
        if left := producer.flush(120):
            raise AssertionError(f"{left} messages of the bare client were not acknowledged")

    return measure(len(frames), work)


def feed_rate(
    brokers: BrokerSettings,
    settings: ProducerSettings,
    address: str,
    topic: str,
    symbols: Sequence[str],
    limit: int,
) -> FeedReport:
    """Run the direct feed against the simulated exchange; every quote must be acknowledged."""
    base = f"{address}/{EXCHANGE}"
    adapter = adapters()[EXCHANGE](base.replace("http", "ws", 1), base)
    feed = DirectFeed(adapter, symbols, "bench", ("level1",))
    with TimedClient(brokers, settings) as client:
        client.topic = topic
        report = run_feed(feed, client, limit=limit)
        delivered = sum(client.delivered.values())
    if delivered != report.messages:
        raise AssertionError(f"{delivered} of {report.messages} messages were acknowledged")
    return report
