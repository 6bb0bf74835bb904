"""Retention, other writers or a changed table overtake what a landing has planned or prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.errors import LakeError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.engines import EmbeddedEngine
from coinstream.lake.landed_offsets import read_landed_offsets
from coinstream.lake.landing import TableReport, land
from coinstream.lake.maintenance import compact
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, send
from tests.lake.workers import Watched, Workers, nothing
from tests.support import wait_until

SPEC = spec_named("level1")
COUNT = 60
Before = Callable[[int], None]
MakeEngine = Callable[..., EmbeddedEngine]


@pytest.fixture
def small(tmp_path: Path) -> Lake:
    """Return a lake of which 60 messages make several commits on either engine."""
    return lake_at(tmp_path / "home", batch_rows=10)


@pytest.fixture(params=["embedded", "workers"])
def make_engine(request: pytest.FixtureRequest, broker_settings: BrokerSettings, small: Lake) -> MakeEngine:
    """Return a function that makes an engine, which calls another one before each piece of work."""

    def make(before: Before = nothing, rows: int = 10) -> EmbeddedEngine:
        if request.param == "embedded":
            return Watched(before)
        return Workers(broker_settings, small.settings, rows, before=before)

    return make


@pytest.fixture
def filled(broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    """Return a topic with 60 quotes in one partition."""
    name = topic("level1-overtaken")
    send(broker_settings.brokers, name, map(level1, range(COUNT)))
    return name


def once(at: int, action: Callable[[], object]) -> Before:
    """Return what takes the action before piece `at`, once."""
    left = [action]

    def before(prepared: int) -> None:
        if prepared == at and left:
            left.pop()()

    return before


def is_exact(lake: Lake, count: int = COUNT) -> None:
    found = places(lake, "level1")
    assert len(found) == count
    assert set(found.values()) == {1}


@pytest.mark.parametrize("at", [0, 2])
def test_a_landing_that_overtakes_makes_pieces_stale(
    small: Lake, broker_settings: BrokerSettings, filled: str, make_engine: MakeEngine, at: int
) -> None:
    def overtake() -> TableReport:
        stop = threading.Event()
        return land(
            lake_at(small.folder.parent, batch_rows=15),
            broker_settings,
            SPEC,
            ExpectationValidator(SPEC),
            topic=filled,
            on_progress=lambda _: stop.set(),
            stop=stop,
        )

    engine = make_engine(once(at, overtake))
    report = land(small, broker_settings, SPEC, topic=filled, engine=engine)
    is_exact(small)
    assert report.retries > 0
    assert 0 < report.rows < COUNT
    assert report.rows + 15 == COUNT


def test_compaction_between_preparing_and_commit_changes_nothing(
    small: Lake, broker_settings: BrokerSettings, filled: str, make_engine: MakeEngine
) -> None:
    engine = make_engine(lambda prepared: compact(small, "level1") and None)
    report = land(small, broker_settings, SPEC, topic=filled, engine=engine)
    is_exact(small)
    assert report.retries == 0


def test_files_of_another_partition_spec_are_not_committed(
    small: Lake, broker_settings: BrokerSettings, filled: str, make_engine: MakeEngine
) -> None:
    def change() -> None:
        with small.table(SPEC).update_spec() as update:
            update.add_identity("symbol")

    report = land(small, broker_settings, SPEC, topic=filled, engine=make_engine(once(2, change)))
    is_exact(small)
    assert report.retries > 0
    table = small.table(SPEC)
    by_spec = {task.file.spec_id for task in table.scan().plan_files()}
    assert by_spec == {0, table.metadata.default_spec_id}


def test_retention_that_overtakes_the_plan_is_reported_and_the_rest_lands(
    small: Lake, broker_settings: BrokerSettings, filled: str, make_engine: MakeEngine
) -> None:
    def expire() -> None:
        admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
        for done in admin.delete_records([Position(filled, 0, 45)]).values():
            done.result(30)

    engine = make_engine(once(0, expire), rows=20)
    report = land(small, broker_settings, SPEC, topic=filled, engine=engine)
    is_exact(small, 15)
    assert report.lost == {filled: 45}
    assert land(small, broker_settings, SPEC, topic=filled, engine=engine).messages == 0


def test_a_topic_that_is_recreated_while_it_lands_is_refused_and_lands_next(
    small: Lake, broker_settings: BrokerSettings, filled: str, make_engine: MakeEngine
) -> None:
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})

    def recreate() -> None:
        admin.delete_topics([filled])[filled].result(30)

        def created() -> bool:
            made = admin.create_topics([NewTopic(filled, 1, 1)])[filled]
            return made.exception(30) is None

        wait_until(created, 60, what="the topic is created again")
        send(broker_settings.brokers, filled, map(level1, range(25)))

    with pytest.raises(LakeError, match="deleted and created again while it was landed"):
        land(small, broker_settings, SPEC, topic=filled, engine=make_engine(once(1, recreate)))
    landed = len(places(small, "level1"))
    assert landed <= 10
    report = land(small, broker_settings, SPEC, topic=filled, engine=make_engine())
    assert report.rows == 25
    assert sum(places(small, "level1").values()) == landed + 25


@pytest.mark.parametrize("ends", ["commit", "abort"])
@pytest.mark.parametrize("rows", [8, 10])
def test_an_open_transaction_at_a_slice_boundary_lands_when_it_ends(
    small: Lake,
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    make_engine: MakeEngine,
    rows: int,
    ends: str,
) -> None:
    name = topic("level1-open")
    send(broker_settings.brokers, name, map(level1, range(10)))
    config: dict[str, Any] = {"bootstrap.servers": broker_settings.brokers, "transactional.id": name}
    producer = Producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(10):
        producer.produce(name, b'{"exchangeId": "none"}', key=str(number))
    producer.flush(30)
    send(broker_settings.brokers, name, map(level1, range(10, 20)))

    report = land(small, broker_settings, SPEC, topic=name, engine=make_engine(rows=rows))
    assert (report.messages, report.rows) == (10, 10)
    assert read_landed_offsets(small.table(SPEC)).next(name, 0) == 10
    if ends == "commit":
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    report = land(small, broker_settings, SPEC, topic=name, engine=make_engine(rows=rows))
    assert (report.rows, report.refused) == (10, 10 if ends == "commit" else 0)
    assert land(small, broker_settings, SPEC, topic=name, engine=make_engine(rows=rows)).messages == 0
    is_exact(small, 20)
