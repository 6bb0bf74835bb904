"""Slices prepared by workers: exact whatever is cut, prepared twice, or overtaken."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from coinstream.errors import LakeError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.commit import OLDEST_FILES, commit_prepared
from coinstream.lake.engines import WorkerJob, open_engine, prepare_slice
from coinstream.lake.landed_offsets import read_landed_offsets
from coinstream.lake.landing import land
from coinstream.lake.ray_cluster import require_shared_storage
from coinstream.lake.schemas import spec_named
from coinstream.lake.slices import PreparedFiles, SharedTable, TableTarget, make_slices
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import TopicReader
from coinstream.settings import BrokerSettings, LakeSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, rows, send
from tests.lake.workers import Workers

SPEC = spec_named("level1")


def keyed(number: int) -> dict[str, object]:
    """Return a quote whose symbol is in one partition only: `send` takes one of seven keys."""
    return level1(number * 200, symbol=f"C{(number + 1) % 7}/USDT")


def quotes(brokers: BrokerSettings, name: str, count: int) -> None:
    payloads: list[bytes | dict[str, object] | None] = [keyed(i) for i in range(count)]
    payloads[count // 2] = {**keyed(count // 2), "timestamp": keyed(0)["timestamp"]}
    payloads[count // 3] = b"broken"
    send(brokers.brokers, name, payloads)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("slice_rows", [7, 150, 10**9])
def test_every_cut_lands_what_one_process_lands(
    tmp_path_factory: pytest.TempPathFactory,
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    slice_rows: int,
    twice: bool,
) -> None:
    name = topic("level1", partitions=3)
    quotes(broker_settings, name, 400 if slice_rows > 7 else 40)
    plain, cut = (lake_at(tmp_path_factory.mktemp(each)) for each in ("plain", "cut"))
    expected = land(plain, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    engine = Workers(broker_settings, cut.settings, slice_rows, twice=twice)
    report = land(cut, broker_settings, SPEC, topic=name, engine=engine)
    assert (report.messages, report.rows, report.refused, report.flagged) == (
        expected.messages,
        expected.rows,
        expected.refused,
        expected.flagged,
    )
    for table in ("level1", "quarantine", "flagged"):
        assert places(cut, table) == places(plain, table)
    assert read_landed_offsets(cut.table(SPEC)) == read_landed_offsets(plain.table(SPEC))
    counts = {check.name: (check.checked, check.failed) for check in report.checks}
    assert counts == {check.name: (check.checked, check.failed) for check in expected.checks}


def test_slices_go_on_beyond_control_records(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    producer = Producer({"bootstrap.servers": broker_settings.brokers, "transactional.id": name})
    producer.init_transactions(30)
    for number in range(12):
        producer.begin_transaction()
        producer.produce(name, b'{"bestBid":1}')
        if number % 3 == 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    engine = Workers(broker_settings, lake.settings, 1)
    report = land(lake, broker_settings, SPEC, topic=name, engine=engine)
    assert report.messages == report.refused == 8
    assert Counter(places(lake, "quarantine").values()) == {1: 8}
    assert land(lake, broker_settings, SPEC, topic=name, engine=engine).messages == 0


def prepared(lake: Lake, brokers: BrokerSettings, name: str) -> PreparedFiles:
    table = lake.table(SPEC)
    with TopicReader(brokers, lake.settings) as reader:
        landed = read_landed_offsets(table)
        [[piece]] = make_slices("level1", reader.plan([name], landed), landed)
    job = WorkerJob(brokers.brokers, lake.settings.without_secrets(), ExpectationValidator)
    return prepare_slice((job, TableTarget.of(table)), piece, None)


def test_files_that_the_table_does_not_expect_are_not_committed(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(i) for i in range(10)])
    first, second = (prepared(lake, broker_settings, name) for _ in range(2))
    assert commit_prepared(lake, SPEC, [first, second], "run").stale == (second,)
    assert commit_prepared(lake, SPEC, [first], "run").rows == 0
    send(broker_settings.brokers, name, [level1(i) for i in range(10)])
    third = prepared(lake, broker_settings, name)
    aged = replace(third, prepared_at=third.prepared_at - OLDEST_FILES - timedelta(minutes=1))
    other_spec = replace(third, spec_id=third.spec_id + 1)
    ahead = replace(third, expects={partition: at + 1 for partition, at in third.expects.items()})
    behind = replace(third, expects={partition: at - 1 for partition, at in third.expects.items()})
    for one in (aged, other_spec, ahead, behind):
        assert commit_prepared(lake, SPEC, [one], "run").stale == (one,)
    assert commit_prepared(lake, SPEC, [third], "run").rows == 10
    assert set(places(lake, "level1").values()) == {1}
    assert len(rows(lake, "level1")) == 20


def test_no_credential_is_in_what_workers_are_sent(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "never-leaves-this-process"
    name = topic("level1")
    send(broker_settings.brokers, name, [level1()])
    with TopicReader(broker_settings, lake.settings) as reader:
        landed = read_landed_offsets(lake.table(SPEC))
        [[piece]] = make_slices("level1", reader.plan([name], landed), landed)
    settings = LakeSettings(
        catalog_uri=SecretStr(f"postgresql://lake:{secret}@host/lake"),
        properties={"s3.secret-access-key": secret},
    )
    job = WorkerJob(broker_settings.brokers, settings.without_secrets(), ExpectationValidator)
    table = lake.table(SPEC)
    table.io.properties["s3.secret-access-key"] = secret  # as a catalog that lends credentials sets it
    slices = pickle.dumps(((job, TableTarget.of(table)), piece, None))
    mapped = pickle.dumps(SharedTable(table, settings))
    answer = pickle.dumps(prepare_slice((job, TableTarget.of(table)), piece, None))
    for sent in (slices, mapped, answer):
        assert secret.encode() not in sent
    assert secret.encode() in pickle.dumps(settings.catalog_uri)


def test_ray_that_is_not_installed_is_one_clear_error(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = LakeSettings(engine="ray")
    with (
        pytest.raises(LakeError, match=r"pip install 'coinstream\[ray\]'"),
        open_engine(settings, broker_settings, ExpectationValidator),
    ):
        pass


def test_a_cluster_that_cannot_be_reached_is_one_clear_error(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise SystemError("timed out\nand details")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:6379")
    with (
        pytest.raises(LakeError, match=r"Ray cannot be reached at nowhere:6379: SystemError: timed out$"),
        open_engine(LakeSettings(engine="ray"), broker_settings, ExpectationValidator),
    ):
        pass


def test_a_cluster_that_starts_slowly_is_started_again(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[dict[str, object]] = []

    def init(**options: object) -> None:
        attempts.append(options)
        if len(attempts) == 1:
            raise SystemError("The current node timed out during startup")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None, nodes=list)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = LakeSettings(engine="ray", workers=3)
    with open_engine(settings, broker_settings, ExpectationValidator):
        assert [options["num_cpus"] for options in attempts] == [3, 3]


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "SQLite file"),
        ({"catalog_uri": "sqlite:////tmp/c.db", "warehouse": "s3://bucket/lake"}, "SQLite file"),
        ({"catalog_uri": "postgresql://h/d"}, "warehouse is a folder"),
        ({"catalog_type": "rest", "catalog_uri": "https://c", "warehouse": "/data"}, "warehouse is a folder"),
    ],
)
def test_several_hosts_need_a_shared_catalog_and_warehouse(settings: dict[str, str], missing: str) -> None:
    with pytest.raises(LakeError, match=missing):
        require_shared_storage(LakeSettings.model_validate(settings))


def test_several_hosts_may_share_a_database_and_an_object_store() -> None:
    require_shared_storage(
        LakeSettings(catalog_uri=SecretStr("postgresql://h/d"), warehouse="s3://bucket/lake")
    )
