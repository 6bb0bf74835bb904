"""Looking after tables: compaction, landing an hour again, queries."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coinstream.cli import lake as cli
from coinstream.errors import LakeError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.backfill import backfill
from coinstream.lake.landed_offsets import CHECKS, read_landed_offsets
from coinstream.lake.landing import land
from coinstream.lake.maintenance import compact
from coinstream.lake.query import query
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, send

SPEC = spec_named("level1")


@pytest.fixture
def landed(lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    """Return a topic of 1,200 quotes of two exchanges, landed in six commits."""
    name = topic("level1", partitions=2)
    for start in range(0, 1_200, 200):
        quotes = (level1(i, exchangeId="kraken" if i % 2 else "binance") for i in range(start, start + 200))
        send(broker_settings.brokers, name, quotes)
        land(lake, broker_settings, SPEC, topic=name)
    return name


def test_compaction_keeps_every_row_and_the_offsets(
    lake: Lake, landed: str, broker_settings: BrokerSettings
) -> None:
    before = places(lake, "level1")
    table = lake.table(SPEC)
    sample = query(lake, 'SELECT * FROM level1 ORDER BY partition, "offset"', limit=10_000).rows
    done = compact(lake, "level1")
    assert done is not None
    assert (done.rows, done.files_before, done.files_after) == (1_200, 12, 2)
    assert places(lake, "level1") == before
    assert query(lake, 'SELECT * FROM level1 ORDER BY partition, "offset"', limit=10_000).rows == sample
    assert read_landed_offsets(lake.table(SPEC)) == read_landed_offsets(table)
    send(broker_settings.brokers, landed, [level1()] * 3)
    assert land(lake, broker_settings, SPEC, topic=landed).rows == 3


def test_compaction_of_what_is_compact_changes_nothing(lake: Lake, landed: str) -> None:
    compact(lake, "level1")
    snapshot = lake.table(SPEC).current_snapshot()
    done = compact(lake, "level1")
    assert done is not None
    assert done.rewritten == 0
    assert lake.table(SPEC).current_snapshot() == snapshot
    assert compact(lake, "nosuch") is None


def test_expired_snapshots_and_orphans_are_removed_and_rows_stay(lake: Lake, landed: str) -> None:
    compact(lake, "level1")
    data = Path(lake.table(SPEC).location().removeprefix("file://")) / "data"
    orphan = data / "of-a-killed-run.parquet"
    orphan.write_bytes(b"x")
    young = data / "of-a-run-under-way.parquet"
    young.write_bytes(b"x")
    for path in data.rglob("*.parquet"):
        if path != young:
            os.utime(path, (time.time() - 3 * 86_400,) * 2)
    done = compact(lake, "level1", now=datetime.now(UTC) + timedelta(hours=100) - timedelta(hours=24))
    assert done is not None
    assert done.snapshots_expired == 6
    assert not orphan.exists()
    assert len(places(lake, "level1")) == 1_200
    assert done.files_removed >= 13


def test_a_landing_beside_a_compaction_loses_nothing(
    lake: Lake, landed: str, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The landing commits after compaction has read the table and before it commits."""
    from coinstream.lake import maintenance

    merge = maintenance._merged
    met: list[bool] = []

    def landing_meanwhile(*arguments: Any) -> Any:
        if not met:
            met.append(True)
            send(broker_settings.brokers, landed, [level1()] * 50)
            land(lake, broker_settings, SPEC, topic=landed)
        return merge(*arguments)

    monkeypatch.setattr(maintenance, "_merged", landing_meanwhile)
    done = compact(lake, "level1")
    assert done is not None
    assert done.rows == 1_250
    assert set(places(lake, "level1").values()) == {1}
    assert len(places(lake, "level1")) == 1_250


def test_an_hour_landed_again_gets_what_it_lacks_and_no_more(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    hour = datetime(2026, 1, 5, 10, tzinfo=UTC)
    stamp = int(hour.timestamp() * 1000)
    for number in range(300):
        send(broker_settings.brokers, name, [level1(number)], timestamp=stamp + number * 30_000)
    land(lake, broker_settings, SPEC, topic=name)
    lake.table(SPEC).delete("offset >= 20 and offset < 40")
    lake.table(SPEC).delete("offset >= 200 and offset < 210")
    again = backfill(lake, broker_settings, SPEC, hour, hour + timedelta(hours=1), topic=name)
    assert (again.messages, again.rows, again.duplicates) == (120, 20, 100)
    found = places(lake, "level1")
    assert (len(found), set(found.values())) == (290, {1})
    again = backfill(lake, broker_settings, SPEC, hour, hour + timedelta(hours=1), topic=name)
    assert again.rows == 0
    assert land(lake, broker_settings, SPEC, topic=name).messages == 0


def test_an_hour_includes_messages_that_came_out_of_order(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    """Timestamps of a partition go back and forth: clocks are ahead, and producers deliver late."""
    name = topic("level1")
    hour = datetime(2026, 1, 5, 10, tzinfo=UTC)
    minutes = [-5, 5, 62, 10, -1, 75, 59, 118, 30, 185, 45]
    for number, minute in enumerate(minutes):
        stamp = int((hour + timedelta(minutes=minute)).timestamp() * 1000)
        send(broker_settings.brokers, name, [level1(number)], timestamp=stamp)
    land(lake, broker_settings, SPEC, topic=name)
    lake.table(SPEC).delete("offset >= 0")
    again = backfill(lake, broker_settings, SPEC, hour, hour + timedelta(hours=1), topic=name)
    found = sorted(offset for _, _, offset in places(lake, "level1"))
    # The last one comes after a record that is more than two hours later than the hour.
    assert found == [at for at, minute in enumerate(minutes[:-1]) if 0 <= minute < 60]
    assert (again.messages, again.rows) == (len(found), len(found))


def test_an_hour_that_was_never_landed_is_left_to_the_landing(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1()] * 3)
    now = datetime.now(UTC)
    again = backfill(
        lake, broker_settings, SPEC, now - timedelta(hours=1), now + timedelta(hours=1), topic=name
    )
    assert again.rows == 0
    assert land(lake, broker_settings, SPEC, topic=name).rows == 3


def test_a_refused_message_is_in_the_quarantine_with_its_rule(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(200), level1(201, bestBid=62000.5), level1(0), level1(202)])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.rows, report.refused) == (3, 1)
    found = query(lake, 'SELECT "offset", stored, reason FROM quarantine ORDER BY 1').rows
    assert found == [(1, False, "bid_at_most_ask")]
    flagged = query(lake, 'SELECT "offset", stored, reason FROM flagged ORDER BY 1').rows
    assert flagged == [(2, True, "monotone_times")]
    [checks] = [snapshot.summary[CHECKS] for snapshot in lake.table(SPEC).snapshots() if snapshot.summary]
    assert '"bid_at_most_ask":[4,1]' in str(checks)


def test_a_query_sees_exact_numbers_and_prunes_nothing_away(lake: Lake, landed: str) -> None:
    found = query(lake, "SELECT exchange_id, count(*), min(best_bid) FROM level1 GROUP BY 1 ORDER BY 1")
    assert found.rows == [("binance", 600, Decimal("61000.12")), ("kraken", 600, Decimal("61000.12"))]
    where = "exchange_id = 'kraken' AND \"timestamp\" >= '2026-01-05 10:00:06+00'"
    assert query(lake, f"SELECT count(*) FROM level1 WHERE {where}").rows == [(300,)]
    assert query(lake, "SELECT count(*) FROM level1 WHERE \"timestamp\" < '2026-01-05'").rows == [(0,)]
    cut = query(lake, "SELECT * FROM level1", limit=7)
    assert (len(cut.rows), cut.cut) == (7, True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM glob('/*')",
        "COPY level1 TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "DROP VIEW level1",
        "SELECT 1; SELECT 2",
        "SELEC",
        "",
    ],
)
def test_a_query_that_does_more_than_read_tables_is_refused(lake: Lake, sql: str) -> None:
    lake.table(SPEC)
    with pytest.raises(LakeError, match="query"):
        query(lake, sql)


def test_the_command_line_lands_lists_and_queries(
    home: Path, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    run = CliRunner().invoke
    assert run(cli.app, ["tables"]).output.startswith("There are no tables yet")
    done = run(cli.app, ["land", "ohlcv"])
    assert done.exit_code == 0, done.output
    assert "ohlcv" in done.output
    assert '"name":"ohlcv"' in run(cli.app, ["tables", "--json"]).output
    assert run(cli.app, ["sql", "--json", "SELECT count(*) AS n FROM ohlcv"]).output.startswith(
        '{"columns":["n"]'
    )
    assert run(cli.app, ["compact"]).exit_code == 0


def test_another_lake_of_the_same_home_sees_the_same_tables(lake: Lake, landed: str) -> None:
    other = lake_at(lake.folder.parent)
    assert other.names() == ["flagged", "level1", "quarantine"]
    assert places(other, "level1") == places(lake, "level1")


def test_terminal_escapes_in_tables_are_shown_and_not_obeyed(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("level1")
    hostile = "\x1b]0;owned\x07[red]A/B\u202e"
    send(broker_settings.brokers, name, [level1(symbol=hostile)])
    land(lake, broker_settings, SPEC, topic=name)
    monkeypatch.setenv("COINSTREAM_HOME", str(lake.folder.parent))
    done = CliRunner().invoke(cli.app, ["sql", 'SELECT symbol AS "a\x1b[2J" FROM level1'])
    assert done.exit_code == 0, done.output
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)
    assert "\\x1b]0;owned\\x07[red]A/B\\u202e" in done.stdout
