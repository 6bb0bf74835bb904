"""Tables, checks and candles as Dagster runs them, on the real broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.lake import HOURS, TABLES, landing_schedule
from assets.quality import SHOWN, failed_messages, landing_checks_sensor
from coinstream.expectations.rules import rules_for
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.landing import land
from coinstream.lake.query import query
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from coinstream.text import parse_time
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue
from definitions import defs
from resources.lake import LakeResource
from tests.conftest import TopicFactory
from tests.lake.support import iso, level1, price, send
from tests.support import READY_TIMEOUT_S, typed

pytestmark = pytest.mark.system

SPEC = spec_named("level1")


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerSettings]:
    """All topics, and nothing in them: on the session's broker a job would land what other tests left."""
    with LocalBroker(
        tmp_path_factory.mktemp("lake-broker"), nodes=1, port=0, ready_timeout_s=READY_TIMEOUT_S
    ) as local:
        settings = BrokerSettings(brokers=local.bootstrap)
        provisioner = Provisioner(settings)
        provisioner.apply(provisioner.plan(catalogue()))
        yield settings


@pytest.fixture
def brokers(home: Path, own_broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch) -> BrokerSettings:
    """Return the broker in the environment, where runs find it, and a lake of the test's own."""
    monkeypatch.setenv("REDPANDA_BROKERS", own_broker.brokers)
    return own_broker


def run(job: str, **options: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=True, **options
    )


def checks(result: dg.ExecuteInProcessResult, table: str) -> dict[str, dg.AssetCheckEvaluation]:
    evaluations = result.get_asset_check_evaluations()
    return {one.check_name: one for one in evaluations if one.asset_key == dg.AssetKey(["tables", table])}


def test_a_run_lands_checks_and_shows_the_offenders(brokers: BrokerSettings) -> None:
    lake = Lake()
    before = run("land_topics", partition_key=HOURS.get_last_partition_key())
    assert before.success
    now = datetime.now(UTC)
    quotes = [
        level1(
            timestamp=iso(now + timedelta(milliseconds=i)), lastUpdated=iso(now + timedelta(milliseconds=i))
        )
        for i in range(50)
    ]
    quotes[20]["bestBid"] = 70_000.5
    send(brokers.brokers, "crypto-level1", quotes)
    result = run("land_topics", partition_key=HOURS.get_last_partition_key())
    [event] = result.asset_materializations_for_node("tables__level1")
    assert (event.metadata["landed"].value, event.metadata["refused"].value) == (49, 1)
    assert "data:image/svg+xml" in str(event.metadata["price"].value)
    page = Path(str(event.metadata["data_docs"].value))
    assert "70000.5" in page.read_text()
    found = checks(result, "level1")
    crossed = found["bid_at_most_ask"]
    assert (crossed.passed, crossed.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert crossed.metadata["checked"].value == 50
    assert crossed.metadata["failed"].value == 1
    assert crossed.metadata["refuses_rows"].value is True
    assert crossed.metadata["data_docs"].value == str(page)
    [shown] = typed(crossed.metadata["newest_failed"], dg.TableMetadataValue).records
    assert "70000.5" in str(shown.data["message"])
    assert found["price_precision"].passed
    assert found["sizes_positive"].metadata["checked"].value == 50
    kept = "SELECT count(*) FROM quarantine WHERE NOT stored AND list_contains(rules, 'bid_at_most_ask')"
    assert query(lake, kept).rows == [(1,)]
    nothing = checks(run("land_topics", partition_key=HOURS.get_last_partition_key()), "level1")
    assert set(nothing) == set(found)


def test_the_checks_of_a_landing_on_the_command_line_are_reported(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COINSTREAM_HOME", str(lake.folder.parent))
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), level1(bestBid=70_000)])
    land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    instance = dg.DagsterInstance.ephemeral()

    def tick(cursor: str | None) -> tuple[dict[str, bool], str | None]:
        context = dg.build_sensor_context(instance, cursor, resources={"lake": LakeResource()})
        result = landing_checks_sensor(context)
        assert isinstance(result, dg.SensorResult)
        found = {}
        for event in result.asset_events:
            assert isinstance(event, dg.AssetCheckEvaluation)
            assert event.asset_key == dg.AssetKey(["tables", "level1"])
            found[event.check_name] = event.passed
        return found, result.cursor

    found, cursor = tick(None)
    assert set(found) == {rule.name for rule in rules_for("level1")}
    assert {check for check, passed in found.items() if not passed} == {"bid_at_most_ask"}
    assert tick(cursor) == ({}, cursor)
    send(broker_settings.brokers, name, [level1(1)])
    land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    found, cursor = tick(cursor)
    assert all(found.values())


def test_offenders_whose_bytes_are_no_text_are_shown_too(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [b"\xff" * 500, level1()])
    land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    [readable] = [rule for rule in rules_for("level1") if rule.name == "readable"]
    [shown] = typed(failed_messages(lake, SPEC, readable), dg.TableMetadataValue).records
    assert "not UTF-8" in str(shown.data["reason"])
    assert len(str(shown.data["message"])) == SHOWN
    assert parse_time(str(shown.data["record_timestamp"])).tzinfo is UTC
    assert str(shown.data["record_timestamp"]).endswith("Z")


def test_a_past_hour_is_landed_again(brokers: BrokerSettings) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    stamp = int(hour.timestamp() * 1000) + 60_000
    send(brokers.brokers, "crypto-prices", [price(i) for i in range(20)], timestamp=stamp)
    key = f"{hour:%Y-%m-%d-%H:00}"
    run("land_topics", partition_key=key)
    table = Lake().table(spec_named("price"))
    count = table.scan().count()
    table.delete("exchange_id == 'kraken'")
    result = run("land_topics", partition_key=key)
    [event] = result.asset_materializations_for_node("tables__price")
    assert typed(event.metadata["landed_again"].value, int) >= 20
    assert Lake().table(spec_named("price")).scan().count() == count


def test_candles_and_compaction_run(brokers: BrokerSettings) -> None:
    now = datetime.now(UTC)
    send(
        brokers.brokers,
        "crypto-prices",
        [price(lastUpdated=iso(now - timedelta(seconds=s))) for s in range(600, 0, -5)],
    )
    run("land_topics", partition_key=HOURS.get_last_partition_key())
    built = run("build_candles")
    [event] = built.asset_materializations_for_node("candles")
    assert typed(event.metadata["produced"].value, int) > 0
    landed = run("land_topics", partition_key=HOURS.get_last_partition_key())
    [event] = landed.asset_materializations_for_node("tables__ohlcv")
    assert typed(event.metadata["landed"].value, int) > 0
    compacted = run("compact_tables")
    [event] = compacted.asset_materializations_for_node("tables__compaction")
    tables = typed(event.metadata["tables"], dg.TableMetadataValue)
    assert {record.data["table"] for record in tables.records} >= {"price", "ohlcv"}


def test_the_schedule_asks_for_the_hour_under_way() -> None:
    moment = datetime(2026, 3, 1, 17, 35, tzinfo=UTC)
    request = landing_schedule(dg.build_schedule_context(scheduled_execution_time=moment))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-03-01-17:00"
    assert set(request.run_config["ops"]) == {table.op.name for table in TABLES}


def test_lineage_leads_from_the_exchange_to_the_candles() -> None:
    graph = defs.resolve_asset_graph()
    candles = dg.AssetKey("candles")
    level1_table = dg.AssetKey(["tables", "level1"])
    assert level1_table in graph.get(candles).parent_keys
    assert dg.AssetKey(["topics", "crypto-level1"]) in graph.get(level1_table).parent_keys
    assert level1_table in graph.get(dg.AssetKey(["tables", "quarantine"])).parent_keys
    assert candles in graph.get(dg.AssetKey(["topics", "crypto-ohlcv"])).parent_keys
    assert dg.AssetKey(["topics", "crypto-ohlcv"]) in graph.get(dg.AssetKey(["tables", "ohlcv"])).parent_keys
