"""Foreign records in the topics: each ends in the table or in the quarantine, and landing goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import lz4.frame
import msgspec
import pytest
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, rows, send

SPEC = spec_named("level1")
ANY_TIME = {"message.timestamp.after.max.ms": str(2**63 - 1)}
"""As on brokers that take any record timestamp; Apache Kafka's default is an hour ahead at most."""
US, NS = 1_767_607_200_000_000, 1_767_607_200_000_000_000


@pytest.mark.parametrize("stamp", [US, NS, 2**62, 253_402_300_800_000])
def test_a_record_timestamp_in_another_unit_is_quarantined_with_its_number(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, stamp: int
) -> None:
    name = topic("level1", config=ANY_TIME)
    send(broker_settings.brokers, name, [level1()], timestamp=1_767_607_200_000)
    send(broker_settings.brokers, name, [level1(1)], timestamp=stamp)
    send(broker_settings.brokers, name, [level1(2)], timestamp=1_767_607_200_000)
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.messages, report.rows, report.refused) == (3, 2, 1)
    [kept] = rows(lake, "quarantine")
    assert (kept["offset"], kept["record_timestamp"], kept["rules"]) == (1, None, ["readable"])
    assert str(stamp) in kept["reason"]
    assert msgspec.json.decode(kept["value"])["bestBid"] == 61000.12
    assert land(lake, broker_settings, SPEC, topic=name).messages == 0


def test_a_header_name_that_is_no_text_is_quarantined(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1()])
    produce_with_raw_header(broker_settings.brokers, name, b"\xff", msgspec.json.encode(level1(1)))
    send(broker_settings.brokers, name, [level1(2)])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.messages, report.rows, report.refused) == (3, 2, 1)
    [kept] = rows(lake, "quarantine")
    assert (kept["offset"], kept["reason"]) == (1, "the name of a header is not UTF-8")


def produce_with_raw_header(bootstrap: str, topic: str, header: bytes, value: bytes) -> None:
    """Produce a record whose header name is these bytes; confluent-kafka's own API takes texts only."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap)

    class Raw(str):
        def encode(self, *_: object, **__: object) -> bytes:
            return header

    producer.send(topic, value, headers=[(Raw("x"), b"1")]).get(30)
    producer.close()


@st.composite
def payloads(draw: st.DrawFn) -> bytes | None:
    text = msgspec.json.encode(level1(draw(st.integers(0, 50))))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return None
    if kind == 1:
        return draw(st.binary(max_size=60))
    if kind == 2:
        return text[: draw(st.integers(0, len(text)))]
    if kind == 3:
        depth = draw(st.sampled_from([10, 3_000, 100_000]))
        return b'{"bestBid":' + b"[" * depth + b"]" * depth + b"}"
    if kind == 4:
        number = draw(st.sampled_from([b"1e999999", b"-0", b"1e-400", b"9" * 400, b"0." + b"1" * 400]))
        return text.replace(b"61000.12", number)
    if kind == 5:
        moment = draw(st.sampled_from(["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "", "\x00"]))
        return msgspec.json.encode({**level1(), "lastUpdated": moment})
    return text


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            payloads(), st.sampled_from([None, b"true"]), st.sampled_from([0, 1, 10**12, US, NS, 2**62])
        ),
        min_size=1,
        max_size=60,
    )
)
def test_every_foreign_record_is_stored_or_quarantined_once(
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[bytes | None, bytes | None, int]],
) -> None:
    name = topic("level1", partitions=2, config=ANY_TIME)
    lake = lake_at(tmp_path_factory.mktemp("home"), batch_rows=20)
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for value, packed, stamp in records:
        headers: list[tuple[str, str | bytes | None]] = [("compressed", packed)] if packed else []
        body = lz4.frame.compress(value)[: len(value)] if packed and value else value
        producer.produce(name, body, headers=headers, timestamp=stamp)
    assert producer.flush(60) == 0
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert report.messages == len(records)
    found: Counter[tuple[str, int, int]] = Counter()
    for table in ("level1", "quarantine"):
        found += places(lake, table)
    assert len(found) == len(records)
    assert set(found.values()) <= {1}
    assert land(lake, broker_settings, SPEC, topic=name).messages == 0


@pytest.mark.parametrize("folder", ["a b", "100%", "50%25", "c#d", "what?", "ümläut", "日本", "a+b&c=d;e"])
def test_a_home_of_any_name_holds_its_tables(tmp_path: Path, folder: str) -> None:
    home = tmp_path / folder / "home"
    lake = lake_at(home)
    table = lake.table(SPEC)
    row = SPEC.schema.empty_table()
    table.append(row, snapshot_properties={"coinstream.offsets": "{}"})
    assert lake_at(home).names() == ["level1"]
    inside = {path.name for path in (home / "lake").iterdir()}
    assert {"catalogue.db", "warehouse"} <= inside
    assert list((home / "lake" / "warehouse").rglob("*.metadata.json"))
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["home"]


def test_rows_land_and_are_read_in_a_home_with_every_special_character(
    tmp_path: Path, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    from coinstream.lake.maintenance import compact, recover
    from coinstream.lake.query import query

    home = tmp_path / "ä b%20#?" / "home"
    lake = lake_at(home)
    name = topic("level1")
    for _ in range(2):
        send(broker_settings.brokers, name, [level1(), b"x"])
        assert land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name).rows == 1
    assert query(lake, "SELECT count(*) FROM level1").rows == [(2,)]
    done = compact(lake, "level1")
    assert done is not None
    assert done.files_after == 1
    (home / "lake" / "catalogue.db").unlink()
    assert {table.table for table in recover(lake_at(home))} == {"flagged", "level1", "quarantine"}
    assert query(lake_at(home), "SELECT count(*) FROM quarantine").rows == [(2,)]
