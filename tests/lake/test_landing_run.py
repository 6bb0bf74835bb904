"""Landing as a run of Dagster: metadata, progress in the log, and one pool per table."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml
from confluent_kafka.admin import AdminClient, NewTopic

from assets.candles import candles
from assets.lake import HOURS, TABLES, table_key
from coinstream.local_broker import LocalBroker
from resources.admin import AdminResource
from resources.lake import LakeResource
from tests.lake.support import level1, send

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_shows_what_its_engine_did(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not home.exists()
    [level1_table] = [table for table in TABLES if table.key == table_key("level1")]
    with LocalBroker(tmp_path / "broker", nodes=1, port=0) as local:
        monkeypatch.setenv("REDPANDA_BROKERS", local.bootstrap)
        admin = AdminClient({"bootstrap.servers": local.bootstrap})
        admin.create_topics([NewTopic("crypto-level1", 2, 1)])["crypto-level1"].result(30)
        send(local.bootstrap, "crypto-level1", map(level1, range(500)))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [level1_table],
                resources={"admin": AdminResource(), "lake": LakeResource(batch_rows=200)},
                partition_key=HOURS.get_last_partition_key(),
                instance=instance,
            )
            said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    [event] = result.asset_materializations_for_node("tables__level1")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["engine"], shown["workers"], shown["slices"], shown["commits"]) == ("embedded", 1, 3, 3)
    assert (shown["landed"], shown["retries"], shown["restarts"]) == (500, 0, 0)
    assert isinstance(rate := shown["rows_per_second"], float)
    assert rate > 0
    assert any("of at most 500 messages landed by 1 worker(s)" in line for line in said)


def test_each_table_has_a_pool_of_one_run() -> None:
    pools = [asset.op.pool for asset in (*TABLES, candles)]
    assert None not in pools
    assert len(set(pools)) == len(pools)
    for name in ("dagster.yaml", "deploy/dagster.yaml"):
        limits = yaml.safe_load((ROOT / name).read_text())["concurrency"]["pools"]
        assert limits == {"default_limit": 1, "granularity": "run"}
    values = yaml.safe_load((ROOT / "deploy/helm/dagster-values.yaml").read_text())
    assert values["concurrency"]["pools"] == {"defaultLimit": 1, "granularity": "run"}
