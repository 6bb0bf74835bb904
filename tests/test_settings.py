"""Settings that no other test covers take effect."""

from __future__ import annotations

import runpy
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer
from pydantic import SecretStr
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.typedef import Record

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage
from coinstream.errors import LakeError
from coinstream.feeds.handover import Failures
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.landed_offsets import OFFSETS, LandedOffsets
from coinstream.lake.maintenance import _bins, compact
from coinstream.lake.query import views
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import topic_reader_config
from coinstream.local_broker.jars import java_command
from coinstream.settings import BrokerSettings, ConsumerSettings, HomeSettings, LakeSettings, WatchSettings
from resources.admin import AdminResource
from sensors.clients import with_short_timeout
from tests.conftest import TopicFactory
from tests.security.tokens import CLIENT_ID, CLIENT_SECRET, token_endpoint
from tests.support import unique, wait_until

ROOT = Path(__file__).resolve().parent.parent
_MIB = 1_048_576
QUOTE = (
    b'{"exchangeId":"binance","symbol":"BTC/USDT","bestBid":1,"bestAsk":2,"bidSize":3,"askSize":4,'
    b'"timestamp":"2026-11-01T00:00:00.000Z","lastUpdated":"2026-11-01T00:00:00.001Z"}'
)


def test_a_conflicting_commit_is_attempted_as_often_as_the_setting_allows() -> None:
    attempts: list[int] = []

    def conflict() -> CommitResult:
        attempts.append(len(attempts))
        raise CommitFailedException("another writer was first")

    with pytest.raises(LakeError, match="the commit conflicted with other writers 2 times"):
        retry_on_conflict(Lake(LakeSettings(commit_attempts=2)), "land level1", conflict)
    assert len(attempts) == 2


def small_file(name: str) -> DataFile:
    file = DataFile.from_args(file_path=name, file_size_in_bytes=_MIB, record_count=10, partition=Record())
    file.spec_id = 0
    return file


@pytest.mark.parametrize(("limit", "merged"), [(2 * _MIB, [2, 2, 2]), (3 * _MIB, [3, 3]), (6 * _MIB, [6])])
def test_compaction_merges_files_up_to_the_size_of_the_setting(limit: int, merged: list[int]) -> None:
    files = [small_file(f"{number}.parquet") for number in range(6)]
    settings = LakeSettings(compact_to_bytes=limit)
    assert [len(chosen) for chosen in _bins(files, settings)] == merged


@pytest.mark.parametrize(("below", "merged"), [(_MIB, []), (_MIB + 1, [6])])
def test_compaction_merges_only_files_below_the_size_of_the_setting(below: int, merged: list[int]) -> None:
    files = [small_file(f"{number}.parquet") for number in range(6)]
    assert [len(chosen) for chosen in _bins(files, LakeSettings(compact_below_bytes=below))] == merged


@pytest.mark.parametrize(("keep_hours", "expired"), [(3.0, 0), (1.0, 2)])
def test_compaction_expires_snapshots_older_than_the_setting(
    tmp_path: Path, keep_hours: float, expired: int
) -> None:
    lake = Lake(LakeSettings(keep_snapshots_hours=keep_hours), HomeSettings(home=tmp_path))
    spec = spec_named("level1")
    landed = {OFFSETS: LandedOffsets().to_text()}
    for _ in range(3):
        lake.table(spec).append(pa.Table.from_pylist([], spec.schema), landed)
    done = compact(lake, "level1", now=datetime.now(UTC) + timedelta(hours=2))
    assert done is not None
    assert done.snapshots_expired == expired


def test_tables_are_created_in_the_namespace_of_the_setting(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(namespace="paper"), HomeSettings(home=tmp_path))
    assert lake.table(spec_named("level1")).name() == ("paper", "level1")
    assert (tmp_path / "lake" / "warehouse" / "paper" / "level1").is_dir()


def test_the_memory_limit_of_tables_reaches_duckdb_and_the_prefetching_of_a_landing() -> None:
    with views({}, 134_217_728) as connection:
        (limit,) = connection.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    assert limit == "128.0 MiB"
    settings = LakeSettings(memory_bytes=134_217_728)
    config = topic_reader_config(BrokerSettings(brokers="127.0.0.1:1"), settings)
    assert config["queued.max.messages.kbytes"] == 4_096


def test_a_group_handles_as_many_partitions_at_once_as_the_setting_allows(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("concurrent", partitions=5)
    most, running, lock = 0, 0, threading.Lock()
    three_run, handled = threading.Event(), []

    def handle(consumed: ConsumedMessage) -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                three_run.set()
        three_run.wait(60)
        with lock:
            running -= 1
            handled.append(consumed.partition)

    consumer = ConsumerSettings(offset_reset="earliest", concurrent_partitions=3)
    with RedpandaClient(broker_settings, consumer=consumer) as client:
        for number in range(50):
            client.send(name, f"key-{number}", QUOTE)
        client.flush()
        with client.create_consumer_group(unique("group"), [name], handle):
            wait_until(lambda: len(handled) == 50, what="all messages are handled")
    assert (three_run.is_set(), most) == (True, 3)


def test_java_options_of_the_setting_reach_brokers_but_not_short_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COINSTREAM_BROKER_JAVA_OPTIONS", "-Xmx2g -XX:+UseZGC")
    common: dict[str, Any] = {"classpath": [tmp_path], "log": tmp_path / "log", "heap_mb": 512}
    command = java_command("kafka.Kafka", [], **common)
    # Java uses the last of two options of one name.
    assert command.index("-Xmx2g") > command.index("-Xmx512m")
    assert "-XX:+UseZGC" in command
    assert "-Xmx2g" not in java_command("kafka.Storage", [], **common, short_lived=True)


def test_sensors_limit_their_requests_to_the_timeout_of_the_setting() -> None:
    admin = AdminResource(brokers="127.0.0.1:1", request_timeout_ms=3_000)
    shortened = [with_short_timeout(admin, WatchSettings(timeout_ms=value)) for value in (400, 4_000)]
    assert [brokers.request_timeout_ms for brokers in shortened] == [400, 3_000]


def test_runs_are_kept_as_many_days_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_WATCH_RUNS_KEPT_DAYS", "3")
    config = runpy.run_path(str(ROOT / "sensors" / "cleanup.py"))["CleanupConfig"]
    assert config().keep_days == 3


def test_the_backoff_of_a_crashed_feed_grows_up_to_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_WATCH_FEED_BACKOFF_S", "2")
    monkeypatch.setenv("COINSTREAM_WATCH_FEED_BACKOFF_MAX_S", "7")
    timing = runpy.run_path(str(ROOT / "sensors" / "feeds.py"))["TIMING"]
    assert [Failures(count).wait(timing) for count in (1, 2, 3, 9)] == [2, 4, 7, 7]


def test_the_scope_of_a_token_is_requested_from_the_token_endpoint() -> None:
    forms: list[dict[str, list[str]]] = []
    with token_endpoint(forms) as url:
        settings = BrokerSettings(
            brokers="127.0.0.1:9",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            oauth_token_url=url,
            oauth_client_id=CLIENT_ID,
            oauth_client_secret=SecretStr(CLIENT_SECRET),
            oauth_scope="market-data",
        )
        consumer = Consumer({**settings.kafka_config(), "group.id": "scope"})
        try:
            wait_until(lambda: forms or None, what="a request for a token")
        finally:
            consumer.close()
    assert forms[0]["scope"] == ["market-data"]
