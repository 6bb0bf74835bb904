"""Runs of live feeds into a real broker: what was received is there, faults are in the dead letters."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from coinstream.client import RedpandaClient
from coinstream.errors import FeedError
from coinstream.feeds import FeedLease, FeedReport, run_feed
from coinstream.feeds.live import Timeouts
from coinstream.feeds.runner import DEAD_LETTER_TOPIC, Progress
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.messages import Level1, Price
from coinstream.serialization import decode_any
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue
from tests.command_line import run_cli
from tests.feeds.running import direct
from tests.support import headers_of, wait_until

BOTH = ("BTC/USDT", "ETH/USDT")


@pytest.fixture(scope="module")
def brokers(broker_settings: BrokerSettings) -> BrokerSettings:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan(catalogue([])))
    return broker_settings


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(BOTH, rate=500, number_in_size=True) as simulated:
        yield simulated


class Since:
    """What comes to a topic from now on."""

    def __init__(self, brokers: BrokerSettings, topic: str) -> None:
        self._consumer = Consumer({**brokers.kafka_config(), "group.id": "none", "enable.auto.commit": False})
        found = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in found]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place)[1]
        self._consumer.assign(places)

    def read(self, count: int) -> list[tuple[bytes, dict[str, bytes]]]:
        records: list[tuple[bytes, dict[str, bytes]]] = []

        def is_there() -> bool:
            found = self._consumer.consume(1000, 0.2)
            records.extend((record.value() or b"", headers_of(record)) for record in found)
            return len(records) >= count

        wait_until(is_there, what=f"{count} records")
        self._consumer.close()
        return records


def test_what_was_received_is_in_the_topics_and_faults_in_the_dead_letters(
    brokers: BrokerSettings, exchange: SimulatedExchange
) -> None:
    quotes, prices = Since(brokers, "crypto-level1"), Since(brokers, "crypto-prices")
    dead = Since(brokers, DEAD_LETTER_TOPIC)
    exchange.faults.garble, exchange.faults.duplicate, exchange.faults.cross = 0.05, 0.05, 0.05
    told: list[Progress] = []

    def disturb(progress: Progress) -> None:
        told.append(progress)
        exchange.faults.drop = 1 if len(told) == 2 else exchange.faults.drop

    with RedpandaClient(brokers) as client:
        report = run_feed(direct(exchange, "binance", BOTH), client, limit=1500, on_progress=disturb)
    assert report.messages == 1500
    assert sum(report.offsets.values()) == 1500 + report.dead_letters
    assert report.dead_letters == report.rejected["malformed"] > 0
    assert report.flags["crossed book (bid above ask)"] > 0
    assert report.flags["reconnect"] >= 1
    assert report.rejected["duplicate"] > 0
    kinds = report.by_type
    read = [decode_any(value).message for value, _ in quotes.read(kinds["level1"])]
    assert len(read) == kinds["level1"]
    numbers = defaultdict(list)
    for message in read:
        assert isinstance(message, Level1)
        numbers[message.symbol].append(message.bid_size)
    assert all(found == sorted(found) for found in numbers.values())
    assert len(prices.read(kinds["price"])) == kinds["price"]
    letters = dead.read(report.dead_letters)
    assert len(letters) == report.dead_letters
    assert {headers["error"].partition(b":")[0] for _, headers in letters} == {b"malformed"}
    assert {headers["feed"] for _, headers in letters} == {b"binance-test"}


def test_latency_is_known_by_stage_and_the_clock_is_reported(
    brokers: BrokerSettings, exchange: SimulatedExchange
) -> None:
    exchange.faults.skew_ms = 60_000
    with RedpandaClient(brokers) as client:
        report = run_feed(direct(exchange, "kraken", BOTH), client, duration_s=1.0)
    assert report.exchange_to_receipt is not None
    assert report.exchange_to_receipt.p50_ms < -50_000
    assert report.receipt_to_produce is not None
    assert report.receipt_to_produce.p50_ms >= 0
    assert report.clock_ahead_ms == pytest.approx(60_000, abs=10_000)


def test_a_stopped_run_has_delivered_all_it_took(
    brokers: BrokerSettings, exchange: SimulatedExchange
) -> None:
    stop = threading.Event()
    reports: list[FeedReport] = []
    with RedpandaClient(brokers) as client:
        feed = direct(exchange, "binance", BOTH)
        thread = threading.Thread(target=lambda: reports.append(run_feed(feed, client, stop=stop)))
        thread.start()
        wait_until(lambda: feed.stats.accepted > 300, what="some messages")
        stop.set()
        thread.join(30)
    (report,) = reports
    assert sum(report.offsets.values()) == report.messages >= 300


def test_a_run_that_fails_gives_its_lease_back(brokers: BrokerSettings, tmp_path: Path) -> None:
    with SimulatedExchange(BOTH) as gone:
        feed = direct(gone, "binance", BOTH, timeouts=Timeouts(first_retry_s=0.01, give_up_after_s=0.1))
    lease = FeedLease(tmp_path, "binance-test")
    with RedpandaClient(brokers) as client, pytest.raises(FeedError, match="no data from"):
        run_feed(feed, client, lease=lease)
    with FeedLease(tmp_path, "binance-test") as free:
        assert free.token == 2


def test_a_bounded_run_that_never_got_through_is_an_error(brokers: BrokerSettings) -> None:
    with SimulatedExchange(BOTH) as gone:
        feed = direct(gone, "binance", BOTH)
    with RedpandaClient(brokers) as client, pytest.raises(FeedError, match="received nothing; last error: "):
        run_feed(feed, client, duration_s=0.5)


def test_prices_are_of_the_exchange(brokers: BrokerSettings, exchange: SimulatedExchange) -> None:
    prices = Since(brokers, "crypto-prices")
    with RedpandaClient(brokers) as client:
        run_feed(direct(exchange, "kraken", BOTH, ("price",)), client, limit=50)
    (value, _), *_ = prices.read(1)
    message = decode_any(value).message
    assert isinstance(message, Price)
    assert message.exchange_id == "kraken"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# A page\n\nIt holds no frames.\n", "none of 2 frames"),
        ("", "no frame was read"),
        ('{"event":"heartbeat"}\n', "none of 1 frames"),
    ],
    ids=["page", "empty", "heartbeat"],
)
def test_a_file_without_messages_fails(
    brokers: BrokerSettings, tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "frames.txt"
    file.write_text(text)
    environment = {"REDPANDA_BROKERS": brokers.brokers, "COINSTREAM_HOME": str(tmp_path)}
    result = run_cli("feed", "run", str(file), "--exchange", "kraken", environment=environment)
    assert result.exit_code == 1
    assert reason in result.output
