"""Measure which share of the offered quotes a feed over ccxt's client publishes, and its longest silence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil

from coinstream.client import RedpandaClient
from coinstream.feeds.live import CcxtFeed
from coinstream.feeds.runner import run_feed
from coinstream.feeds.simulated.clients import ccxt_options
from coinstream.messages import Message
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
    """One run: the published share of the offered quotes, and the longest time without one."""

    ratio: float
    longest_silence_s: float

    @property
    def is_complete(self) -> bool:
        """Whether nearly all quotes were published, without a freeze."""
        return self.ratio >= LEAST_RATIO and self.longest_silence_s < LONGEST_SILENCE_S


class _TimedClient(RedpandaClient):
    """A client that notes when messages are published."""

    first: float | None = None
    last = 0.0
    longest_silence_s = 0.0

    def publish(self, messages: Iterable[Message]) -> int:
        """See `RedpandaClient.publish`."""
        now = time.perf_counter()
        if self.first is None:
            self.first = now
        else:
            self.longest_silence_s = max(self.longest_silence_s, now - self.last)
        self.last = now
        return super().publish(messages)


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
        return CcxtRun(0.0, seconds)
    ratio = report.messages / ((client.last - client.first) * rate or 1.0)
    silence = max(client.longest_silence_s, ended - client.last)
    return CcxtRun(round(min(ratio, 1.0), 3), round(silence, 2))


@contextmanager
def simulator(rate: float, symbols: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
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
