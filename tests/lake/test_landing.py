from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import lz4.frame
import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from coinstream.errors import BrokerError, LakeError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake import commit, topic_reader
from coinstream.lake.commit import reset_landed_offsets
from coinstream.lake.landed_offsets import OFFSETS, read_landed_offsets
from coinstream.lake.landing import TableReport, land
from coinstream.lake.maintenance import compact
from coinstream.lake.schemas import QUARANTINE_SCHEMA, spec_named
from coinstream.lake.store import Lake
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import START, level1, places, price, rows, send
from tests.support import wait_until

SPEC = spec_named("level1")

LANDER = """
import sys
from pathlib import Path
from coinstream.lake.landing import TableReport, land
from coinstream.lake.schemas import QUARANTINE_SCHEMA, spec_named
from coinstream.settings import BrokerSettings
from tests.lake.conftest import lake_at
bootstrap, topic, home = sys.argv[1:]
print("ready", flush=True)
lake, brokers = lake_at(Path(home), batch_rows=500), BrokerSettings(brokers=bootstrap)
report = land(
    lake, brokers, spec_named("level1"), topic=topic, on_progress=lambda _: print("landed", flush=True)
)
print("done", report.rows, flush=True)
"""


def lander(broker: LocalBroker, topic: str, home: Path) -> subprocess.Popen[str]:
    """Return a landing in a process of its own, which can be killed."""
    arguments = [sys.executable, "-c", LANDER, broker.bootstrap, topic, str(home)]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_is_on_the_wire_is_in_the_table(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1", partitions=2)
    send(
        broker_settings.brokers,
        name,
        [level1(bestBid=1e-8, askSize=33.35399601000002)],
        timestamp=1_700_000_000_123,
    )
    report = land(lake, broker_settings, SPEC, topic=name)
    assert (report.messages, report.rows, report.refused, report.extra) == (1, 1, 0, 0)
    [row] = rows(lake, "level1")
    assert row["best_bid"] == Decimal("0.00000001")
    assert row["ask_size"] == Decimal("33.35399601000002")
    assert row["timestamp"].isoformat() == "2026-01-05T10:00:00+00:00"
    assert row["record_timestamp"].timestamp() == 1_700_000_000.123
    assert (row["topic"], row["offset"], row["extra"]) == (name, 0, None)


class RecordingConsumer(Consumer):
    """A consumer that notes the order in which partitions are asked for and assigned."""

    calls: ClassVar[list[str]] = []

    def list_topics(self, *topic: Any, **options: Any) -> ClusterMetadata:
        self.calls.append(f"metadata of {topic[0]}")
        found: ClusterMetadata = super().list_topics(*topic, **options)
        return found

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.calls.append(f"assign {partitions[0].topic}")
        super().assign(partitions)


def test_leaders_are_known_before_partitions_are_assigned(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_reader, "Consumer", RecordingConsumer)
    monkeypatch.setattr(RecordingConsumer, "calls", [])
    name = topic("level1", partitions=2)
    send(broker_settings.brokers, name, [level1()])
    assert land(lake, broker_settings, SPEC, topic=name).rows == 1
    assert RecordingConsumer.calls == [f"metadata of {name}", f"assign {name}"]


def test_each_message_lands_once_over_many_runs(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1", partitions=3)
    total = 0
    for count in (5_000, 0, 1, 2_500):
        total += send(broker_settings.brokers, name, (level1(i) for i in range(count)))
        assert land(lake, broker_settings, SPEC, topic=name).rows == count
        found = places(lake, "level1")
        assert len(found) == total
        assert set(found.values()) == {1}


def test_exchange_topics_land_in_the_table_of_their_type(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    general = topic("level1")
    create = AdminClient({"bootstrap.servers": broker_settings.brokers})
    own, dead_letters = f"{general}-kraken", f"{general}.dlq"
    for future in create.create_topics([NewTopic(own, 2), NewTopic(dead_letters, 1)]).values():
        future.result(30)
    send(broker_settings.brokers, general, [level1()])
    send(broker_settings.brokers, own, [level1(exchangeId="kraken")] * 3)
    send(broker_settings.brokers, dead_letters, [b"dead"])
    report = land(lake, broker_settings, SPEC, topic=general)
    assert (report.topics, report.rows, report.refused) == ((general, own), 4, 0)


def test_a_topic_of_no_known_exchange_does_not_land_and_is_reported(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    """The target of a replay holds copies: with it every row would stand in the table twice."""
    general = topic("level1")
    create = AdminClient({"bootstrap.servers": broker_settings.brokers})
    again, own = f"{general}-again", f"{general}-acme"
    for future in create.create_topics([NewTopic(again, 1), NewTopic(own, 1)]).values():
        future.result(30)
    for name in (general, again, own):
        send(broker_settings.brokers, name, [level1()])
    report = land(lake, broker_settings, SPEC, topic=general)
    assert (report.topics, report.ignored, report.rows) == ((general,), (own, again), 1)
    named = lake_at(tmp_path / "named", exchanges=("acme",))
    report = land(named, broker_settings, SPEC, topic=general)
    assert (report.topics, report.ignored, report.rows) == ((general, own), (again,), 2)


def test_a_dead_broker_is_told_within_the_request_timeout(lake: Lake) -> None:
    gone = BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=300)
    with pytest.raises(BrokerError, match="Is the broker running"):
        land(lake, gone, SPEC)


def test_flagged_rows_are_stored_and_kept_apart_from_refused_ones(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), level1(symbol="BTCUSDT"), level1(bestBid=70_000)])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.rows, report.flagged, report.refused) == (2, 1, 1)
    [refused], [flagged] = rows(lake, "quarantine"), rows(lake, "flagged")
    assert (refused["offset"], refused["stored"], refused["rules"]) == (2, False, ["bid_at_most_ask"])
    assert (flagged["offset"], flagged["stored"], flagged["rules"]) == (1, True, ["symbol_form"])


def test_a_quarantine_of_an_earlier_release_gets_its_columns_and_keeps_its_rows(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    names = ["landed" if name == "stored" else name for name in QUARANTINE_SCHEMA.names]
    earlier = [
        field.with_name(name).with_nullable(name == "rules")
        for name, field in zip(names, QUARANTINE_SCHEMA, strict=True)
    ]
    lake._create("quarantine", pa.schema(earlier), None)
    row = {
        "type": "level1",
        "topic": "t",
        "partition": 0,
        "offset": 7,
        "record_timestamp": START,
        "ingested_at": START,
        "rules": ["no_jump"],
        "reason": "no_jump",
        "landed": True,
        "value": b"{}",
    }
    found = lake.find("quarantine")
    assert found is not None
    found.append(pa.Table.from_pylist([row], pa.schema(earlier)), snapshot_properties={OFFSETS: "{}"})
    name = topic("level1")
    send(broker_settings.brokers, name, [b"x"])
    assert land(lake, broker_settings, SPEC, topic=name).refused == 1
    kept = {row["topic"]: (row["offset"], row["stored"]) for row in rows(lake, "quarantine")}
    assert kept == {"t": (7, True), name: (0, False)}


def test_the_offsets_are_told_to_the_group_for_lag_tools(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1()] * 5)
    land(lake, broker_settings, SPEC, topic=name)
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    asked = [ConsumerGroupTopicPartitions("coinstream-landing", [TopicPartition(name, 0)])]
    [future] = admin.list_consumer_group_offsets(asked).values()
    assert future.result(30).topic_partitions[0].offset == 5


@pytest.mark.system
def test_a_killed_landing_loses_nothing_and_doubles_nothing(
    broker: LocalBroker, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    total = send(broker.bootstrap, name, (level1(i) for i in range(12_000)))
    home = tmp_path / "home"
    lake = lake_at(home)
    lake.table(SPEC)
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown when the test fails
    dice = random.Random(seed)
    killed = 0
    for _ in range(8):
        process = lander(broker, name, home)
        assert process.stdout is not None
        # Some commits pass; then the kill meets the reading, the writing or the next commit, wherever it is.
        for _ in range(dice.randrange(3)):
            process.stdout.readline()
        time.sleep(dice.uniform(0, 0.12))
        killed += process.poll() is None
        process.kill()
        process.communicate()
        found = places(lake, "level1")
        assert set(found.values()) <= {1}
        assert sum(positions_of(lake).values()) == len(found)
        if len(found) == total:
            break
    assert killed >= 3
    land(lake, BrokerSettings(brokers=broker.bootstrap), SPEC, topic=name)
    found = places(lake, "level1")
    assert len(found) == total
    assert set(found.values()) == {1}


def positions_of(lake: Lake) -> dict[int, int]:
    table = lake.find("level1")
    assert table is not None
    return {
        partition: offset
        for position in read_landed_offsets(table).topics.values()
        for partition, offset in position.next.items()
    }


def test_racing_landings_land_each_message_once(
    broker: LocalBroker, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    total = send(broker.bootstrap, name, (level1(i) for i in range(6_000)))
    racers = [lander(broker, name, tmp_path / "home") for _ in range(3)]
    said = [process.communicate(timeout=300)[0] for process in racers]
    assert [process.returncode for process in racers] == [0, 0, 0], said
    found = places(lake_at(tmp_path / "home"), "level1")
    assert len(found) == total
    assert set(found.values()) == {1}
    assert sum(int(text.split()[-1]) for text in said) == total


def test_a_table_made_before_a_field_was_added_is_widened(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("price")
    spec = spec_named("price")
    older = [field for field in spec.schema if field.name != "market_cap"]
    lake._create("price", spec.schema.empty_table().select([f.name for f in older]).schema, spec.event_time)
    found = lake.find("price")
    assert found is not None
    assert "market_cap" not in found.schema().as_arrow().names
    send(broker_settings.brokers, name, [price(marketCap=123.5)])
    land(lake, broker_settings, spec, topic=name)
    assert rows(lake, "price")[0]["market_cap"] == Decimal("123.5")


def test_unknown_fields_are_kept_beside_the_columns(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), level1(venueFee=0.10000000000000000001), level1()])
    send(
        broker_settings.brokers,
        name,
        [msgspec.json.encode(level1())[:-1] + b',"fee":0.12345678901234567890123}'],
    )
    report = land(lake, broker_settings, SPEC, topic=name)
    assert (report.rows, report.extra) == (4, 2)
    assert [row["extra"] for row in rows(lake, "level1")][3] == '{"fee":0.12345678901234567890123}'


def test_what_cannot_be_read_goes_to_the_quarantine_with_the_reason(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    packed = lz4.frame.compress(msgspec.json.encode(level1()))
    send(broker_settings.brokers, name, [level1(), b"\xff", b"[1]", None, level1(bestBid="61000")])
    send(broker_settings.brokers, name, [packed], headers=[("compressed", b"true")])
    send(broker_settings.brokers, name, [packed[:-9]], headers=[("compressed", b"true")])
    report = land(lake, broker_settings, SPEC, topic=name)
    assert (report.messages, report.rows, report.refused) == (7, 2, 5)
    reasons = {row["offset"]: row["reason"] for row in rows(lake, "quarantine")}
    assert "not UTF-8" in reasons[1]
    assert "not a JSON object" in reasons[2]
    assert "empty payload" in reasons[3]
    assert "bestBid is '61000'" in reasons[4]
    assert "lz4" in reasons[6]
    assert rows(lake, "quarantine")[0]["value"] == b"\xff"
    assert not any(row["stored"] for row in rows(lake, "quarantine"))


def test_a_batch_without_a_good_message_moves_the_offsets_on(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [b"x"] * 3)
    assert land(lake, broker_settings, SPEC, topic=name).refused == 3
    assert land(lake, broker_settings, SPEC, topic=name).messages == 0
    assert Counter(places(lake, "quarantine").values()) == {1: 3}


def test_a_crash_between_quarantine_and_table_doubles_no_offender(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), b"x", level1()])
    append_files = commit.append_files

    def crash(table: Table, files: Iterable[DataFile], properties: Mapping[str, str]) -> None:
        if table.name()[-1] == SPEC.name:
            raise KeyboardInterrupt
        append_files(table, files, properties)

    with monkeypatch.context() as patched:
        patched.setattr(commit, "append_files", crash)
        with pytest.raises(KeyboardInterrupt):
            land(lake, broker_settings, SPEC, topic=name)
    assert len(places(lake, "quarantine")) == 1
    send(broker_settings.brokers, name, [b"y"])
    assert land(lake, broker_settings, SPEC, topic=name).rows == 2
    assert Counter(places(lake, "quarantine").values()) == {1: 2}


def test_a_batch_that_another_landing_has_landed_meanwhile_is_dropped_and_planned_again(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, (level1(i * 200) for i in range(6_000)))
    send(broker_settings.brokers, name, [level1(i * 200, bestBid=70_000) for i in range(6_000, 6_010)])
    overtaken: list[TableReport] = []

    def overtake(_: TableReport) -> None:
        if not overtaken:
            overtaken.append(land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name))

    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name, on_progress=overtake)
    assert report.retries == 1
    assert report.rows + overtaken[0].rows == 6_000
    assert report.refused + overtaken[0].refused == 10
    # The rows that were looked at in vain are no reference: nothing steps back.
    assert report.flagged == overtaken[0].flagged == 0
    assert set(places(lake, "level1").values()) == {1}
    assert len(places(lake, "level1")) == 6_000
    assert Counter(places(lake, "quarantine").values()) == {1: 10}
    files = {task.file.file_path for task in lake.table(SPEC).scan().plan_files()}
    written = list((lake.folder / "warehouse").rglob("level1/data/**/*.parquet"))
    assert len(written) == len(files)


def test_a_conflict_with_compaction_repeats_the_commit_and_writes_no_file_again(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("level1")
    for _ in range(2):
        send(broker_settings.brokers, name, [level1()] * 10)
        land(lake, broker_settings, SPEC, topic=name)
    attempts: list[int] = []
    append_files = commit.append_files

    def compacted_meanwhile(table: Table, files: Sequence[DataFile], properties: Mapping[str, str]) -> None:
        attempts.append(len(files))
        if len(attempts) == 1:
            compact(lake, "level1")
        append_files(table, files, properties)

    monkeypatch.setattr(commit, "append_files", compacted_meanwhile)
    send(broker_settings.brokers, name, [level1()] * 10)
    assert land(lake, broker_settings, SPEC, topic=name).rows == 10
    assert attempts == [1, 1]
    assert len(places(lake, "level1")) == 30
    written = list((lake.folder / "warehouse").rglob("level1/data/**/*.parquet"))
    assert len(written) == 2 + 1 + 1


def test_a_recreated_topic_lands_from_its_beginning(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1()] * 5)
    land(lake, broker_settings, SPEC, topic=name)
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    admin.delete_topics([name])[name].result(30)

    def recreated() -> bool:
        try:
            admin.create_topics([NewTopic(name, 1)])[name].result(30)
        except KafkaException:  # the deletion is still under way
            return False
        return True

    wait_until(recreated, what="the topic is there again")
    wait_until(lambda: admin.list_topics(name).topics[name].partitions, what="it has a partition")
    send(broker_settings.brokers, name, [level1()] * 7)
    report = land(lake, broker_settings, SPEC, topic=name)
    assert (report.rows, report.recreated) == (7, (name,))


def test_a_topic_that_the_table_is_told_to_forget_lands_from_its_beginning(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, other = topic("level1"), topic("level1")
    send(broker_settings.brokers, name, [level1(), b"x"])
    send(broker_settings.brokers, other, [level1()])
    for each in (name, other):
        land(lake, broker_settings, SPEC, topic=each)
    assert not reset_landed_offsets(lake, SPEC, "no-such-topic")
    assert reset_landed_offsets(lake, SPEC, name)
    assert land(lake, broker_settings, SPEC, topic=name).messages == 2
    assert land(lake, broker_settings, SPEC, topic=other).messages == 0
    assert Counter(places(lake, "quarantine").values()) == {2: 1}


def test_pyiceberg_must_not_put_a_conflicting_append_on_top(lake: Lake) -> None:
    """Its own retry would land the rows of two racing runs twice."""
    assert lake.table(SPEC).properties["commit.retry.num-retries"] == "0"
    first, second = lake.table(SPEC), lake.table(SPEC)
    empty = SPEC.schema.empty_table()
    first.append(empty, snapshot_properties={"by": "first"})
    with pytest.raises(CommitFailedException):
        second.append(empty, snapshot_properties={"by": "second"})


def test_a_table_without_any_landed_offsets_is_refused(lake: Lake) -> None:
    table = lake.table(SPEC)
    table.append(SPEC.schema.empty_table())
    with pytest.raises(LakeError, match="none says which offsets"):
        read_landed_offsets(lake.table(SPEC))


def test_a_catalogue_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, catalog_uri="sqlite:////no/such/folder/c.db")
    with pytest.raises(LakeError, match="cannot open the lake's catalog"):
        lake.table(SPEC)
