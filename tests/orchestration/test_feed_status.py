"""Test the feed status on the page of an exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import msgspec

from assets.feed_status import feed_metadata, sentence, status_of
from assets.feeds import FEEDS, exchange_key
from assets.topics import FEEDS_KEY
from coinstream.feeds.status import FeedStatus, SymbolStatus
from tests.orchestration.conftest import Execute

NOW = 1_767_607_260.0


def status(**fields: Any) -> FeedStatus:
    """Return the status of a connected feed with one symbol that is quiet and one that never sent."""
    symbols = {
        "BTC/USDT": SymbolStatus(1_000, 25.5, NOW - 3, connected=True, gaps=2, unrecovered=1, reconnects=4),
        "ETH/USDT": SymbolStatus(),
    }
    given: dict[str, Any] = {
        **{"feed": "kraken-live", "exchange": "kraken", "pid": 1, "updated": NOW, "connected": True},
        **{"ended": False, "trouble": None, "messages": 1_000, "rate": 25.5, "reconnects": 4, "gaps": 2},
        **{"recovered": 1, "frozen": 0, "unrecovered": 1, "symbols": symbols, **fields},
    }
    return FeedStatus(**given)


def test_each_symbol_has_a_row_with_its_age_and_gaps() -> None:
    found = feed_metadata(status(), NOW)
    assert (found["connected"], found["gaps"], found["gaps_unrecovered"]) == (True, 2, 1)
    assert found["stale_seconds"] == 3.0
    table = found["symbols"]
    assert isinstance(table, dg.TableMetadataValue)
    quiet, never = (dict(record.data) for record in table.records)
    assert (quiet["symbol"], quiet["connected"], quiet["stale_seconds"]) == ("BTC/USDT", True, 3.0)
    assert (quiet["last_message"], quiet["gaps"], quiet["reconnects"]) == ("2026-01-05T10:00:57Z", 2, 4)
    assert (never["last_message"], never["stale_seconds"], never["connected"]) == ("", -1.0, False)


def test_the_description_says_what_is_wrong() -> None:
    assert sentence(status()) == "kraken-live connected: 1,000 messages, 26/s, 2 gap(s), 4 reconnect(s)"
    refused = status(connected=False, trouble="connection refused")
    assert sentence(refused).startswith("kraken-live not connected: ")
    assert sentence(refused).endswith("; connection refused")
    assert sentence(status(ended=True)).startswith("kraken-live ended: ")


def test_the_status_of_another_feed_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "kraken-live.json").write_bytes(msgspec.json.encode(status()))
    (tmp_path / "broken.json").write_text("{")
    found = status_of(tmp_path, "kraken-live")
    assert found is not None
    assert found.symbols["BTC/USDT"].messages == 1_000
    assert status_of(tmp_path, "kraken") is None


def test_a_run_of_a_feed_shows_its_status_on_the_page_of_the_exchange(
    execute: Execute, instance: dg.DagsterInstance
) -> None:
    config = {"ops": {"feeds__market_data": {"config": {"limit": 200, "speed": 0.0}}}}
    assert execute(FEEDS_KEY, partition_key="binance", run_config=config).success
    (record,) = instance.fetch_observations(exchange_key(FEEDS["binance"].exchange), limit=1).records
    observation = record.asset_observation
    assert observation is not None
    assert observation.metadata["ended"].value is True
    table = observation.metadata["symbols"]
    assert isinstance(table, dg.TableMetadataValue)
    symbols = {str(row.data["symbol"]): row.data["messages"] for row in table.records}
    assert "BTC/USDT" in symbols
    assert sum(int(str(count)) for count in symbols.values()) == observation.metadata["messages"].value
