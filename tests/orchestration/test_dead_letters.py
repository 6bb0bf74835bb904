"""Dead letters in the web UI: their assets, their check, the jobs that inspect and replay them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import Producer

import definitions
from assets.dead_letters import CHECK, QUEUES, dead_letters, inspect_dead_letters, replay_dead_letters
from assets.topics import FEEDS_KEY, newest_messages, topic_key
from coinstream.dlq.entry import DeadLetter, dead_letter_headers
from coinstream.local_broker import LocalBroker
from coinstream.monitoring.topic_report import TopicReport
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import FEED_DEAD_LETTERS, LEVEL1, dead_letter_topic
from resources.admin import AdminResource
from sensors.topic_events import topic_events

QUEUE = dead_letter_topic(LEVEL1).name


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


@pytest.fixture
def resources(broker: LocalBroker, broker_settings: BrokerSettings) -> dict[str, Any]:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([LEVEL1, dead_letter_topic(LEVEL1)]))
    return {"admin": AdminResource(brokers=broker.bootstrap)}


def send_to_dlq(broker: LocalBroker, value: bytes, error: str) -> None:
    """Add a dead letter as a consumer group does."""
    letter = DeadLetter(
        LEVEL1.name, 0, 0, int(time.time() * 1000), b"BTC/USDT", value, [], error, f"{error}: no", 8, "g", ""
    )
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(QUEUE, value, b"BTC/USDT", headers=[*dead_letter_headers(letter)])
    assert producer.flush(30) == 0


def rows(value: dg.MetadataValue[Any]) -> list[dict[str, Any]]:
    """Return the records of a table."""
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def run_check(instance: dg.DagsterInstance, resources: dict[str, Any]) -> dg.AssetCheckEvaluation:
    """Evaluate the check of the queue."""
    wanted = dg.AssetSelection.checks_for_assets(topic_key(QUEUE))
    location = dg.Definitions(
        asset_checks=[dead_letters], jobs=[dg.define_asset_job("check", wanted)], resources=resources
    )
    result = location.resolve_job_def("check").execute_in_process(instance=instance)
    (found,) = result.get_asset_check_evaluations()
    return found


def test_a_dead_letter_from_arrival_to_replay(
    broker: LocalBroker, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    send_to_dlq(broker, b'{"bestBid": "x"}', "DecodeError")
    send_to_dlq(broker, b"\x1b]0;owned", "ValueError")
    found = run_check(instance, resources)
    assert (found.check_name, found.passed, found.severity) == (CHECK, False, dg.AssetCheckSeverity.WARN)
    assert "DecodeError" in str(found.description)

    assert inspect_dead_letters.execute_in_process(instance=instance, resources=resources).success
    (record,) = instance.fetch_observations(topic_key(QUEUE), limit=1).records
    observation = record.asset_observation
    assert observation is not None
    newest = rows(observation.metadata["newest"])
    errors = {row["error"].partition(":")[0] for row in newest}
    assert {"DecodeError", "ValueError"} <= errors
    assert not any("\x1b" in row["value"] for row in newest)

    def replay(**config: Any) -> dg.ExecuteInProcessResult:
        ops = {"ops": {"replay": {"config": {"topic": LEVEL1.name, **config}}}}
        return replay_dead_letters.execute_in_process(run_config=ops, instance=instance, resources=resources)

    assert replay(error="DecodeError").success, "a dry run by default"
    assert not run_check(instance, resources).passed
    assert replay(dry_run=False).success
    assert run_check(instance, resources).passed
    stored = instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(topic_key(QUEUE), CHECK))
    assert stored is not None


def test_a_topic_shows_its_newest_messages(
    broker: LocalBroker, broker_settings: BrokerSettings, resources: dict[str, Any]
) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    start = int(time.time() * 1000) - 30
    for number in range(30):
        producer.produce(LEVEL1.name, f"value {number}".encode(), b"key", timestamp=start + number)
    assert producer.flush(30) == 0
    table = rows(newest_messages(broker_settings, LEVEL1.name, 30)["newest_messages"])
    assert 0 < len(table) <= 10
    times = [row["time"] for row in table]
    assert times == sorted(times, reverse=True)
    assert newest_messages(broker_settings, LEVEL1.name, 0) == {}


def test_every_queue_is_linked_to_its_topic() -> None:
    graph = definitions.defs.resolve_asset_graph()
    for name in QUEUES:
        parents = graph.get(topic_key(name)).parent_keys
        original = topic_key(name.removesuffix(".dlq"))
        assert parents == ({FEEDS_KEY} if name == FEED_DEAD_LETTERS.name else {original})
        assert dg.AssetCheckKey(topic_key(name), CHECK) in graph.asset_check_keys


def test_the_sensor_reports_arrivals_once_and_their_end_after_a_day() -> None:
    notes: dict[str, Any] = {}

    def evaluations(end: int, now: float, *, records: int = 1, leaderless: int = 0) -> list[bool]:
        report = TopicReport(QUEUE, 6, records, None, leaderless, 0, (), end)
        events = topic_events(notes, {QUEUE: report}, now, 60)
        found = [one for one in events if isinstance(one, dg.AssetCheckEvaluation)]
        return [one.passed for one in found if one.check_name == CHECK]

    start = 1_000_000.0
    assert evaluations(7, start) == [], "what was there before is not new"
    assert evaluations(9, start + 30) == [False]
    assert evaluations(9, start + 60) == []
    assert evaluations(10, start + 90) == [False]
    assert evaluations(10, start + 90 + 86_401) == [True]
    assert evaluations(10, start + 90 + 90_000) == []
    assert evaluations(11, start + 200_000, records=0) == [False], "retention hides no arrival"
    assert evaluations(3, start + 200_030, leaderless=2) == []
    assert evaluations(11, start + 200_060) == [], "a partition that is back holds no new entry"
