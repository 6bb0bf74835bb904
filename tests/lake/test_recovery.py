"""Test the recovery of tables after the catalog was lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coinstream.cli import lake as cli
from coinstream.errors import LakeError
from coinstream.lake.landing import land
from coinstream.lake.maintenance import recover
from coinstream.lake.schemas import FLAGGED, QUARANTINE, spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, send

SPEC = spec_named("level1")
FIRST, SECOND = 3000, 1500


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """On a store of its own, as in production."""
    return tmp_path / "store" / "warehouse"


@pytest.fixture
def kept(tmp_path: Path, warehouse: Path) -> Lake:
    return lake_at(tmp_path / "home", warehouse=str(warehouse))


@pytest.fixture
def landed(kept: Lake, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path) -> str:
    """Return a topic that was landed before the state folder was lost, and that has grown since."""
    name = topic("level1-lost", partitions=3, config={"retention.ms": "-1"})
    for _ in range(2):
        send(broker_settings.brokers, name, map(level1, range(FIRST // 2)))
        assert land(kept, broker_settings, SPEC, topic=name).rows == FIRST // 2
    shutil.rmtree(tmp_path / "home")
    send(broker_settings.brokers, name, map(level1, range(SECOND)))
    return name


def reopened(lake: Lake) -> Lake:
    """Return the same lake in a process that starts after the loss."""
    return lake_at(lake.folder.parent, warehouse=lake.settings.warehouse)


def metadata_files(warehouse: Path) -> list[Path]:
    return sorted((warehouse / "market" / SPEC.name / "metadata").glob("*.metadata.json"))


def test_landing_goes_on_where_it_was(kept: Lake, broker_settings: BrokerSettings, landed: str) -> None:
    lake = reopened(kept)
    assert {table.table: table.rows for table in recover(lake)} == {
        SPEC.name: FIRST,
        QUARANTINE: 0,
        FLAGGED: 0,
    }
    assert land(lake, broker_settings, SPEC, topic=landed).rows == SECOND
    counts = places(lake, SPEC.name)
    assert len(counts) == FIRST + SECOND
    assert set(counts.values()) == {1}


def test_landing_does_not_begin_a_second_table_over_the_lost_one(
    kept: Lake, broker_settings: BrokerSettings, landed: str, warehouse: Path
) -> None:
    before = metadata_files(warehouse)
    with pytest.raises(LakeError, match=r"table level1 is in .* but not in the catalog.*lake recover"):
        land(reopened(kept), broker_settings, SPEC, topic=landed)
    assert metadata_files(warehouse) == before


@pytest.mark.usefixtures("landed")
def test_a_torn_version_is_passed_over(
    kept: Lake, broker_settings: BrokerSettings, landed: str, warehouse: Path
) -> None:
    newest = metadata_files(warehouse)[-1]
    torn = newest.with_name("00099-0b1d3ad4-7a5e-4b6e-9d7c-0a4a9a1d6f10.metadata.json")
    torn.write_bytes(newest.read_bytes()[:200])
    lake = reopened(kept)
    (table,) = [table for table in recover(lake) if table.table == SPEC.name]
    assert table.rows == FIRST
    assert table.metadata.endswith(newest.name)
    assert [torn.name in reason for reason in table.passed_over] == [True]
    assert land(lake, broker_settings, SPEC, topic=landed).rows == SECOND


@pytest.mark.usefixtures("landed")
def test_a_version_whose_files_are_gone_gives_way_to_the_one_before(
    kept: Lake, broker_settings: BrokerSettings, landed: str, warehouse: Path
) -> None:
    """What the lost file held is landed again: the offsets go back together with the rows."""
    data = warehouse / "market" / SPEC.name / "data"
    youngest = max(data.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    youngest.unlink()
    lake = reopened(kept)
    (table,) = [table for table in recover(lake) if table.table == SPEC.name]
    assert table.rows == FIRST // 2
    assert any(youngest.name in reason for reason in table.passed_over)
    assert land(lake, broker_settings, SPEC, topic=landed).rows == FIRST + SECOND - table.rows
    counts = places(lake, SPEC.name)
    assert len(counts) == FIRST + SECOND
    assert set(counts.values()) == {1}


@pytest.mark.usefixtures("landed")
def test_a_warehouse_without_its_data_is_one_clear_error(kept: Lake, warehouse: Path) -> None:
    shutil.rmtree(warehouse / "market" / SPEC.name / "data")
    for path in (warehouse / "market" / SPEC.name / "metadata").glob("00000-*"):
        path.unlink()
    with pytest.raises(LakeError, match=r"level1 has no complete version in .*data file.* missing"):
        recover(reopened(kept))


@pytest.mark.usefixtures("landed")
def test_the_command_says_what_it_found(
    kept: Lake, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COINSTREAM_LAKE_WAREHOUSE", str(warehouse))
    done = CliRunner().invoke(cli.app, ["recover", "--json"])
    assert done.exit_code == 0, done.output
    assert {table["table"]: table["rows"] for table in json.loads(done.stdout)["tables"]} == {
        SPEC.name: FIRST,
        QUARANTINE: 0,
        FLAGGED: 0,
    }
    done = CliRunner().invoke(cli.app, ["recover"])
    assert "The catalog contains every table of the warehouse." in done.output
