"""Test that one run of a feed publishes at a time, and that a handover leaves no gap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds.handover import after, checkpoint_of
from coinstream.feeds.lease import FeedLease, LeaseError
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.messages import Level1, Message
from coinstream.serialization import decode_any
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue
from tests.support import wait_until

SYMBOLS = ("BTC/USDT", "ETH/USDT")
ROOT = Path(__file__).parents[2]
NOW = datetime(2024, 1, 1, tzinfo=UTC)


class TestLease:
    def test_a_second_run_is_refused(self, tmp_path: Path) -> None:
        with (
            FeedLease(tmp_path, "a"),
            pytest.raises(LeaseError, match=rf"feed a is being run by process {os.getpid()}"),
        ):
            FeedLease(tmp_path, "a").open()

    def test_feeds_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        with FeedLease(tmp_path, "a"), FeedLease(tmp_path, "b") as other:
            assert other.is_held

    def test_each_holder_has_a_higher_token(self, tmp_path: Path) -> None:
        tokens = []
        for _ in range(3):
            with FeedLease(tmp_path, "a") as lease:
                tokens.append(lease.token)
        assert tokens == [1, 2, 3]

    def test_there_is_one_successor_and_it_is_heard_when_ready(self, tmp_path: Path) -> None:
        with FeedLease(tmp_path, "a") as holder, FeedLease(tmp_path, "a", take_over=True) as successor:
            assert not successor.is_held
            with pytest.raises(LeaseError, match="another run waits"):
                FeedLease(tmp_path, "a", take_over=True).open()
            assert not successor.try_acquire()
            successor.signal_ready()
            wait_until(lambda: holder.has_successor, what="the holder hears its successor")
            holder.release({"market": "last"})
            assert successor.try_acquire()
            assert successor.read_checkpoint() == {"market": "last"}
            assert successor.read_checkpoint() is None
            assert successor.token == holder.token + 1

    def test_a_lease_taken_in_one_thread_is_released_in_another(self, tmp_path: Path) -> None:
        lease = FeedLease(tmp_path, "a")
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lease.open).result()
        lease.release()
        with FeedLease(tmp_path, "a") as other:
            assert other.is_held

    def test_a_successor_that_died_is_not_waited_for(self, tmp_path: Path) -> None:
        with FeedLease(tmp_path, "a") as holder:
            successor = FeedLease(tmp_path, "a", take_over=True)
            successor.open()
            successor.signal_ready()
            successor.release()
            wait_until(lambda: not holder.has_successor and not (tmp_path / "a.ready").exists())
            assert holder.is_held


def quote(symbol: str, number: int, received: int) -> Message:
    at = NOW + timedelta(milliseconds=received)
    return Level1("x", symbol, 1.0, 2.0, float(number), 1.0, at, at)


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=30),
    st.data(),
)
def test_nothing_is_missing_or_twice_after_a_handover(order: list[str], data: st.DataObject) -> None:
    counts: dict[str, int] = defaultdict(int)
    market: list[tuple[str, int]] = []
    for symbol in order:
        counts[symbol] += 1
        market.append((symbol, counts[symbol]))
    begin = data.draw(st.integers(0, len(market)))
    end = data.draw(st.integers(begin, len(market)))
    published = [quote(symbol, number, 0) for symbol, number in market[:end]]
    kept = [quote(symbol, number, 5) for symbol, number in market[begin:]]
    last = {message.symbol: message for message in published}  # type: ignore[attr-defined]
    rest = after(kept, checkpoint_of(last.values()))
    got = [(m.symbol, m.bid_size) for m in [*published, *rest]]  # type: ignore[attr-defined]
    for symbol in counts:
        numbers = [number for name, number in got if name == symbol]
        assert sorted(set(numbers)) == list(range(1, counts[symbol] + 1))
        # Published twice at most what the successor could not tell to have been published.
        noted_is_kept = any(
            m.symbol == symbol and m.bid_size == last[symbol].bid_size  # type: ignore[attr-defined]
            for m in kept
            if symbol in last
        )
        if noted_is_kept or symbol not in last:
            assert numbers == list(range(1, counts[symbol] + 1))


@pytest.fixture(scope="module")
def brokers(broker_settings: BrokerSettings) -> BrokerSettings:
    """Return a broker with all topics."""
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan(catalogue([])))
    return broker_settings


class Runs:
    """Processes that run the feed `handover` against a simulated exchange."""

    def __init__(self, folder: Path, settings: BrokerSettings, exchange: SimulatedExchange) -> None:
        config = folder / "feeds.yaml"
        config.write_text(
            "feeds:\n  handover:\n    source: simulated\n    exchange: binance\n"
            f"    symbols: [{', '.join(SYMBOLS)}]\n    types: [level1]\n    url: {exchange.url}\n"
        )
        self.folder, self._started = folder, 0
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
            "COINSTREAM_HOME": str(folder / "home"),
            "COINSTREAM_FEEDS": str(config),
            "REDPANDA_BROKERS": settings.brokers,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        self._started += 1
        with (self.folder / f"run{self._started}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "coinstream", "feed", "run", "handover", "--json", *options],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(120)


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(SYMBOLS, rate=300, number_in_size=True) as simulated:
        yield simulated


@pytest.fixture
def runs(tmp_path: Path, brokers: BrokerSettings, exchange: SimulatedExchange) -> Iterator[Runs]:
    started = Runs(tmp_path, brokers, exchange)
    yield started
    started.end()


class Reader:
    """The numbers that have come to the topic since it was made, in the order of their offsets."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._consumer = Consumer(
            {**settings.kafka_config(), "group.id": "none", "enable.auto.commit": False}
        )
        partitions = (
            self._consumer.list_topics("crypto-level1", timeout=10).topics["crypto-level1"].partitions
        )
        ends = [
            TopicPartition(
                "crypto-level1",
                number,
                self._consumer.get_watermark_offsets(TopicPartition("crypto-level1", number))[1],
            )
            for number in partitions
        ]
        self._consumer.assign(ends)
        self._begin = {place.partition: place.offset for place in ends}
        self.numbers: dict[str, list[int]] = defaultdict(list)

    def read(self) -> int:
        for record in self._consumer.consume(1000, 0.2):
            assert record.error() is None
            message = decode_any(record.value() or b"").message
            assert isinstance(message, Level1)
            self.numbers[message.symbol].append(int(message.bid_size))
        return sum(map(len, self.numbers.values()))

    def read_more(self, count: int) -> None:
        before = self.read()
        wait_until(lambda: self.read() >= before + count, what=f"{count} more messages in the topic")

    def read_rest(self) -> None:
        """Read all that is in the topic now, which may grow meanwhile."""
        ends = {
            place.partition: self._consumer.get_watermark_offsets(place)[1]
            for place in self._consumer.assignment()
        }
        wait_until(lambda: self._has_read(ends), what="what is in the topic is read")

    def _has_read(self, ends: dict[int, int]) -> bool:
        self.read()
        return all(
            max(place.offset, self._begin[place.partition]) >= ends[place.partition]
            for place in self._consumer.position(self._consumer.assignment())
        )

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def reader(brokers: BrokerSettings) -> Iterator[Reader]:
    made = Reader(brokers)
    yield made
    made.close()


@pytest.mark.system
def test_a_handover_between_processes_leaves_no_gap_and_no_duplicate(runs: Runs, reader: Reader) -> None:
    first = runs.start()
    reader.read_more(100)
    for _ in range(2):
        second = runs.start("--take-over")
        assert first.wait(120) == 0
        reader.read_more(200)
        first = second
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 0
    reader.read_rest()
    assert set(reader.numbers) == set(SYMBOLS)
    for numbers in reader.numbers.values():
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.system
def test_a_successor_goes_on_without_a_gap_when_its_predecessor_is_killed(
    runs: Runs, reader: Reader, exchange: SimulatedExchange
) -> None:
    first = runs.start()
    reader.read_more(50)
    second = runs.start("--take-over", "--duration", "3")
    wait_until(lambda: exchange.requests == 2, what="the successor receives")
    seen = {symbol: tick.number for symbol, tick in exchange.market.last.items()}
    wait_until(
        lambda: reader.read() and all(reader.numbers[symbol][-1] >= seen[symbol] for symbol in SYMBOLS),
        what="all from before the successor is in the topic",
    )
    first.kill()
    assert second.wait(120) == 0
    reader.read_rest()
    for numbers in reader.numbers.values():
        # What the killed run had not sent yet was kept by its successor.
        assert set(numbers) == set(range(min(numbers), max(numbers) + 1))


@pytest.mark.system
def test_a_second_process_is_refused(runs: Runs, reader: Reader) -> None:
    first = runs.start()
    reader.read_more(10)
    second = runs.start()
    assert second.wait(120) == 1
    assert "feed handover is being run by process" in (runs.folder / "run2.log").read_text()
    assert first.poll() is None


@pytest.mark.system
def test_a_lease_does_not_outlive_its_process(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from coinstream.feeds.lease import FeedLease
lease = FeedLease(Path({str(tmp_path)!r}), "a")
lease.open()
print("held", flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(LeaseError, match=f"process {process.pid}"):
        FeedLease(tmp_path, "a").open()
    process.kill()
    process.wait()
    with FeedLease(tmp_path, "a") as lease:
        assert lease.token == 2
