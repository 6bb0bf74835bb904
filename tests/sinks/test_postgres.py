"""Test that the PostgreSQL sink stores each message once, with its offset in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import psycopg
import pytest
from confluent_kafka import Producer

from coinstream.errors import SinkError
from coinstream.settings import BrokerSettings
from coinstream.sinks import open_sink
from tests.conftest import TopicFactory
from tests.postgres_server import DATABASE, PASSWORD, USER, postgres_server
from tests.sinks.quotes import books, consumed, drain, publish, quotes
from tests.support import unique

PLACE = "topic text, partition bigint, record_offset bigint, record_time_ms bigint"
pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Run a server and give its port."""
    with postgres_server() as port:
        yield port


@pytest.fixture
def target(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a schema of the test's own; the password is in the environment."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    schema = unique("sink").replace("-", "_")
    address = f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}"
    with psycopg.connect(address) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{address}?options=-csearch_path%3D{schema}"


def ask(target: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(target) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_every_message_is_stored_once_also_when_it_is_delivered_again(
    broker_settings: BrokerSettings, topic: TopicFactory, target: str
) -> None:
    name = topic("crypto-level1", partitions=4)
    publish(broker_settings, name, quotes(0, 2000))
    drain(broker_settings, name, unique("sink"), "postgres", target)
    publish(broker_settings, name, quotes(2000, 1000))
    report = drain(broker_settings, name, unique("sink"), "postgres", target)
    assert (report.handled, report.dead_letters) == (3000, 0)
    found = ask(target, "SELECT best_bid FROM level1 ORDER BY best_bid")
    assert found == [(n + 1.0,) for n in range(3000)]
    offsets = ask(target, "SELECT sum(next_offset)::int FROM coinstream_offsets")
    assert offsets == [(3000,)]


def test_lists_unknown_fields_and_times_keep_their_values(
    broker_settings: BrokerSettings, topic: TopicFactory, target: str
) -> None:
    name = topic("crypto-book")
    publish(broker_settings, name, books(2))
    drain(broker_settings, name, unique("sink"), "postgres", target)
    statement = "SELECT asks->1->>0, extract(milliseconds FROM last_updated)::int FROM book ORDER BY 2"
    found = ask(target, statement)
    assert found == [("3.0", 0), ("4.0", 1)]


def test_a_value_that_postgresql_cannot_hold_becomes_a_dead_letter_and_the_rest_goes_on(
    broker_settings: BrokerSettings, topic: TopicFactory, target: str
) -> None:
    name = topic("crypto-level1")
    wire = [msgspec.json.decode(msgspec.json.encode(quote)) for quote in quotes(0, 20)]
    wire[7]["symbol"] = "BTC\x00/USDT"
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for fields in wire:
        producer.produce(name, msgspec.json.encode(fields))
    assert producer.flush(30) == 0
    report = drain(broker_settings, name, unique("sink"), "postgres", target)
    assert (report.handled, report.dead_letters) == (19, 1)
    assert ask(target, "SELECT count(*)::int FROM level1") == [(19,)]


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(SinkError, match="cannot connect") as failed:
        open_sink("postgres", "postgresql://dagster@127.0.0.1:1/nowhere")
    assert PASSWORD not in str(failed.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("a integer", "topic is missing, partition is missing"),
        (PLACE + ", best_bid integer", "best_bid is integer instead of double precision"),
        (PLACE + ", best_bid double precision, symbol varchar(3)", "symbol is character varying.3. instead"),
    ],
)
def test_a_table_with_other_columns_is_an_error_of_the_sink(target: str, columns: str, said: str) -> None:
    with psycopg.connect(target) as connection:
        connection.execute(f"CREATE TABLE level1 ({columns})".encode())
    sink = open_sink("postgres", target)
    with pytest.raises(SinkError, match=f"table level1 has other columns.*{said}"):
        sink.write(consumed(3))
    with psycopg.connect(target) as connection:
        connection.execute(b"ALTER TABLE level1 RENAME TO mine")
    sink.write(consumed(3))
    sink.close()
    assert ask(target, "SELECT symbol FROM level1 ORDER BY record_offset")[0] == ("C0/USDT",)
