"""Every fuzzed record is handled, dead-lettered or quarantined exactly once, on two kinds of broker."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.consumer.tail_reader import count_messages
from coinstream.dlq import DeadLetterQueue
from coinstream.feeds import ReplayFeed, run_feed
from coinstream.feeds.registry import sample_path
from coinstream.feeds.runner import DEAD_LETTER_TOPIC
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.settings import BrokerSettings, ConsumerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue
from tests.conftest import topic_factory
from tests.fuzz import corpus
from tests.fuzz.kfake_broker import kfake_program, running_kfake
from tests.lake.conftest import lake_at
from tests.lake.support import rows
from tests.raw_records import produce_raw
from tests.support import unique, wait_until

SEED = 20261126
PARTITIONS = 3
# The broker is to take any record time; what becomes of it is what is tested.
CONFIG = {"message.timestamp.after.max.ms": str(2**63 - 1)}

Position = tuple[int, int]


@pytest.fixture(scope="module")
def kfake() -> Iterator[BrokerSettings]:
    program = kfake_program()
    if isinstance(program, str):
        pytest.skip(program)
    with running_kfake(program) as address:
        yield BrokerSettings(brokers=address)


def fuzzed_topic(brokers: BrokerSettings, count: int) -> str:
    name = topic_factory(brokers.brokers)("crypto-level1", partitions=PARTITIONS, config=CONFIG)
    produce_raw(brokers.brokers, name, corpus.records(SEED, count))
    assert count_messages(brokers, {name: PARTITIONS})[name] == count
    return name


def through_a_group(brokers: BrokerSettings, topic: str, count: int) -> None:
    handled: list[Position] = []

    def handle(batch: list[ConsumedMessage]) -> None:
        handled.extend((message.partition, message.offset) for message in batch)

    options = GroupOptions(batch=True, retries=0)
    settings = ConsumerSettings(offset_reset="earliest")
    with (
        RedpandaClient(brokers, consumer=settings) as client,
        client.create_consumer_group(unique("fuzz"), [topic], handle, options) as manager,
    ):
        wait_until(lambda: len(handled) + manager.report().dead_letters >= count, timeout=180)
    entries = [entry.dead_letter for entry in DeadLetterQueue(brokers, topic).read()]
    found = Counter(handled) + Counter((entry.partition, entry.offset) for entry in entries)
    assert len(handled) > count // 10
    assert len(entries) > count // 10
    assert found.total() == len(found) == count
    assert {entry.topic for entry in entries} == {topic}


def through_a_landing(brokers: BrokerSettings, topic: str, count: int, home: Path) -> None:
    lake = lake_at(home)
    report = land(lake, brokers, spec_named("level1"), topic=topic)
    assert report.messages == count
    landed = Counter((row["partition"], row["offset"]) for row in rows(lake, "level1"))
    refused = Counter((row["partition"], row["offset"]) for row in rows(lake, "quarantine"))
    assert min(landed.total(), refused.total()) > count // 10
    assert (landed + refused).total() == len(landed + refused) == count
    assert land(lake, brokers, spec_named("level1"), topic=topic).messages == 0


def through_a_feed(brokers: BrokerSettings, count: int, folder: Path) -> None:
    provisioner = Provisioner(brokers)
    provisioner.apply(provisioner.plan(catalogue([])))
    with gzip.open(sample_path("binance-spot.gz")) as sample:
        lines = [line.rstrip(b"\n") for line in sample]
    path = folder / "binance-fuzzed.gz"
    path.write_bytes(gzip.compress(b"\n".join(corpus.frames(SEED, count, lines)) + b"\n", 1))
    feed = ReplayFeed(path, exchange="binance")
    with RedpandaClient(brokers) as client:
        report = run_feed(feed, client)
        delivered = Counter[str]()
        for (topic, _), number in client.delivered.items():
            delivered[topic] += number
    assert feed.stats.is_balanced
    assert feed.stats.frames == count
    assert report.messages > count // 10
    assert report.dead_letters > count // 100
    assert delivered[DEAD_LETTER_TOPIC] == report.dead_letters
    assert delivered.total() == report.messages + report.dead_letters


def test_a_group_takes_every_record_once(broker_settings: BrokerSettings) -> None:
    topic = fuzzed_topic(broker_settings, 1_500)
    through_a_group(broker_settings, topic, 1_500)


def test_a_landing_takes_every_record_once(broker_settings: BrokerSettings, tmp_path: Path) -> None:
    topic = fuzzed_topic(broker_settings, 1_500)
    through_a_landing(broker_settings, topic, 1_500, tmp_path)


def test_a_feed_takes_every_frame_once(broker_settings: BrokerSettings, tmp_path: Path) -> None:
    through_a_feed(broker_settings, 2_000, tmp_path)


@pytest.mark.system
@pytest.mark.parametrize("implementation", ["kafka", "kfake"])
def test_ten_thousand_records_on_each_broker(
    implementation: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixture = "broker_settings" if implementation == "kafka" else "kfake"
    brokers: BrokerSettings = request.getfixturevalue(fixture)
    topic = fuzzed_topic(brokers, 10_000)
    through_a_group(brokers, topic, 10_000)
    through_a_landing(brokers, topic, 10_000, tmp_path / "home")
    through_a_feed(brokers, 10_000, tmp_path)


def test_the_corpus_is_the_same_for_a_seed() -> None:
    assert corpus.records(1, 50) == corpus.records(1, 50)
    assert corpus.records(1, 50) != corpus.records(2, 50)
