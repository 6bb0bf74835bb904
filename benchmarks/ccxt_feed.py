"""Measure which share of the offered quotes a feed over ccxt's client publishes, and its longest silence.

`python -m benchmarks.ccxt_feed RATE SYMBOL...` serves the exchange. It numbers the quotes of each symbol in
the size of the bid, so that the share is exact also where the machine is too busy to offer the whole rate.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from coinstream.client import RedpandaClient
from coinstream.feeds.live import CcxtFeed
from coinstream.feeds.runner import run_feed
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.feeds.simulated.feed import ccxt_options
from coinstream.messages import Level1, Message
from coinstream.settings import BrokerSettings, ProducerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue

ROOT: Final = Path(__file__).resolve().parents[1]
EXCHANGE: Final = "binance"
LEAST_RATIO: Final = 0.99
"""Smallest share of the offered quotes that must be published."""
LONGEST_SILENCE_S: Final = 5.0
"""A feed that publishes nothing for longer has frozen."""


class CcxtRun(NamedTuple):
    """One run.

    Attributes:
        ratio: published share of the quotes that the exchange offered meanwhile.
        offered_per_second: quotes that the exchange offered.
        longest_silence_s: longest time without a published quote.
    """

    ratio: float
    offered_per_second: float
    longest_silence_s: float

    @property
    def is_complete(self) -> bool:
        """Return whether nearly all quotes were published, without a freeze."""
        return self.ratio >= LEAST_RATIO and self.longest_silence_s < LONGEST_SILENCE_S


class _TimedClient(RedpandaClient):
    """A client that notes when which quotes are published."""

    first: float | None = None
    last = 0.0
    longest_silence_s = 0.0

    def __init__(self, brokers: BrokerSettings, settings: ProducerSettings) -> None:
        super().__init__(brokers, settings)
        self.numbers: dict[str, tuple[int, int]] = {}

    def publish(self, messages: Iterable[Message]) -> int:
        """See `RedpandaClient.publish`."""
        messages, now = list(messages), time.perf_counter()
        if self.first is None:
            self.first = now
        else:
            self.longest_silence_s = max(self.longest_silence_s, now - self.last)
        self.last = now
        for message in messages:
            if isinstance(message, Level1):
                number = int(message.bid_size)
                self.numbers[message.symbol] = (self.numbers.get(message.symbol, (number,))[0], number)
        return super().publish(messages)

    @property
    def offered(self) -> int:
        """Quotes that the exchange sent from the first to the last one published."""
        return sum(last - first + 1 for first, last in self.numbers.values())


def ccxt_run(
    brokers: BrokerSettings, settings: ProducerSettings, rate: float, seconds: float, symbols: int
) -> CcxtRun:
    """Run a feed over ccxt for `seconds` against a simulated exchange that quotes `rate` times a second."""
    names = [f"C{number:02}/USDT" for number in range(symbols)]
    with simulator(rate, names) as (address, _):
        base = f"{address}/{EXCHANGE}"
        options = ccxt_options(EXCHANGE, base, base.replace("http", "ws", 1))
        feed = CcxtFeed(EXCHANGE, names, ("level1",), options=options)
        provisioner = Provisioner(brokers)
        provisioner.apply(provisioner.plan(catalogue([])))
        with _TimedClient(brokers, settings) as client:
            report = run_feed(feed, client, duration_s=seconds)
            ended = time.perf_counter()
    if client.first is None:
        return CcxtRun(0.0, 0.0, seconds)
    silence = max(client.longest_silence_s, ended - client.last)
    offered = client.offered / max(client.last - client.first, 0.001)
    return CcxtRun(round(report.messages / client.offered, 3), round(offered, 1), round(silence, 2))


@contextmanager
def simulator(rate: float, symbols: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Yield a simulated exchange in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "benchmarks.ccxt_feed", str(rate), *symbols]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def main(rate: str, *symbols: str) -> None:
    """Serve until the process is ended."""
    with SimulatedExchange(symbols, float(rate), number_in_size=True) as exchange:
        print(exchange.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
