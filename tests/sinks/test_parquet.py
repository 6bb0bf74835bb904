"""Test that the Parquet sink stores each message once, on disk and in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from coinstream.errors import SinkError
from coinstream.settings import BrokerSettings
from coinstream.sinks import open_sink
from tests.conftest import TopicFactory
from tests.sinks.quotes import books, drain, publish, quotes
from tests.support import unique, wait_until


def test_every_message_is_stored_once_also_when_it_is_delivered_again(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name, target = topic("crypto-level1", partitions=4), str(tmp_path / "lake")
    publish(broker_settings, name, quotes(0, 2000))
    drain(broker_settings, name, unique("sink"), "parquet", target)
    publish(broker_settings, name, quotes(2000, 1000))
    # A new group begins at the start: everything is delivered again.
    report = drain(broker_settings, name, unique("sink"), "parquet", target)
    assert (report.handled, report.dead_letters) == (3000, 0)
    stored = ds.dataset(f"{target}/level1", format="parquet").to_table()
    assert sorted(stored["best_bid"].to_pylist()) == [n + 1.0 for n in range(3000)]
    places = list(zip(stored["partition"].to_pylist(), stored["record_offset"].to_pylist(), strict=True))
    assert len(set(places)) == 3000
    assert not list(Path(target).rglob("*.draft"))


@pytest.mark.parametrize("target", ["s3://", "ftp://host/folder"])
def test_an_address_without_a_store_is_refused(target: str) -> None:
    with pytest.raises(SinkError, match=f"cannot open {target}: "):
        open_sink("parquet", target)


def test_lists_are_stored_as_json_and_times_in_utc(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("crypto-book")
    publish(broker_settings, name, books(3))
    drain(broker_settings, name, unique("sink"), "parquet", str(tmp_path))
    (file,) = tmp_path.rglob("*.parquet")
    rows = pq.ParquetFile(file).read().to_pylist()
    assert json.loads(rows[2]["asks"]) == [[4.0, 0.25], [5.0, 1.0]]
    assert rows[2]["last_updated"].isoformat() == "2026-01-02T00:00:00.002000+00:00"
    assert file.parent.name == "partition=0"


def test_a_topic_that_was_created_again_is_refused_and_not_skipped(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name, admin = topic("crypto-level1"), AdminClient({"bootstrap.servers": broker_settings.brokers})
    publish(broker_settings, name, quotes(0, 10))
    drain(broker_settings, name, unique("sink"), "parquet", str(tmp_path))
    admin.delete_topics([name])[name].result(30)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics, what="the topic is gone")
    admin.create_topics([NewTopic(name, num_partitions=1, config={"retention.ms": "-1"})])[name].result(30)
    wait_until(lambda: name in admin.list_topics(timeout=10).topics, what="the topic is there")
    publish(broker_settings, name, quotes(500, 5))
    report = drain(broker_settings, name, unique("sink"), "parquet", str(tmp_path))
    assert (report.handled, report.dead_letters) == (0, 5)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a server that speaks S3; give the address of a bucket."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    where = {"scheme": "http", "endpoint_override": f"{host}:{port}", "region": "eu-central-1"}
    S3FileSystem(allow_bucket_creation=True, **where).create_dir("quotes")
    yield "s3://quotes/sink?" + "&".join(f"{key}={value}" for key, value in where.items())
    server.stop()


def test_an_object_store_holds_the_same_rows(
    broker_settings: BrokerSettings, topic: TopicFactory, bucket: str
) -> None:
    name = topic("crypto-level1", partitions=2)
    publish(broker_settings, name, quotes(0, 500))
    for _ in range(2):
        drain(broker_settings, name, unique("sink"), "parquet", bucket)
    files, base = S3FileSystem.from_uri(bucket)
    stored = ds.dataset(f"{base}/level1", filesystem=files, format="parquet").to_table()
    assert sorted(stored["best_bid"].to_pylist()) == [n + 1.0 for n in range(500)]


def test_a_target_that_is_no_address_is_one_clear_error() -> None:
    with pytest.raises(SinkError, match="cannot open nonsense://x"):
        open_sink("parquet", "nonsense://x")
