"""A run of a feed shows connection problems in its own event log."""

import logging
from pathlib import Path

import dagster as dg
import pytest
import yaml

from assets.topics import FEEDS_KEY
from coinstream.feeds.config import USER_FILE
from coinstream.settings import BrokerSettings
from definitions import defs

ROOT = Path(__file__).parents[2]
CLOSED = "ws://127.0.0.1:1/"


def test_a_feed_that_cannot_connect_is_reported_in_the_log_of_its_run(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feeds = tmp_path / "feeds.yaml"
    feed = {"source": "direct", "exchange": "kraken", "symbols": ["BTC/USD"], "ws_url": CLOSED}
    feeds.write_text(yaml.safe_dump({"feeds": {"kraken-live": feed}}))
    monkeypatch.setenv(USER_FILE, str(feeds))
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    logs = yaml.safe_load((ROOT / "dagster.yaml").read_text())["python_logs"]
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"python_logs": logs}) as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[FEEDS_KEY],
            instance=instance,
            partition_key="kraken-live",
            run_config={"ops": {"feeds__market_data": {"config": {"duration_s": 2.0}}}},
            raise_on_error=False,
        )
        told = [
            entry.user_message
            for entry in instance.all_logs(result.run_id)
            if int(entry.level) >= logging.WARNING
        ]
    assert any("kraken-live" in text and "connection lost" in text for text in told), told
