"""Test the status of a feed by symbol in files, rows and metrics."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from coinstream.feeds.feed_stats import Anomaly, FeedStats
from coinstream.feeds.status import StatusWriter, symbol_rows
from coinstream.messages import Level1
from coinstream.monitoring.metrics import METRICS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def quote(symbol: str) -> Level1:
    return Level1("kraken", symbol, 1.0, 2.0, 3.0, 4.0, NOW, NOW)


def test_each_symbol_has_a_row(tmp_path: Path) -> None:
    stats = FeedStats(frames=2)
    stats.opened(["BTC/USD", "ETH/USD"], again=False)
    stats.closed(["ETH/USD"])
    stats.opened(["ETH/USD"], again=True)
    stats.count_gap("ETH/USD")
    stats.count_recovery("ETH/USD", complete=True)
    stats.count_recovery("ETH/USD", complete=False)
    stats.closed(["BTC/USD"])
    writer = StatusWriter(tmp_path, "mine", "kraken", stats)
    writer.add([quote("ETH/USD"), quote("ETH/USD")])
    writer.tick(ended=False)
    writer._write(time.time(), ended=False)
    btc, eth = symbol_rows(tmp_path)
    assert (btc.feed, btc.exchange, btc.symbol, btc.running) == ("mine", "kraken", "BTC/USD", True)
    assert (btc.connected, btc.messages, btc.last_message, btc.stale_s) == (False, 0, None, None)
    assert (eth.connected, eth.messages, eth.reconnects) == (True, 2, 1)
    assert (eth.gaps, eth.recovered, eth.unrecovered) == (1, 1, 1)
    assert eth.rate > 0
    assert eth.last_message is not None
    later = symbol_rows(tmp_path, now=eth.last_message + 7)[1]
    assert later.stale_s == 7.0
    assert symbol_rows(tmp_path, "binance") == []
    assert stats.flags == {Anomaly.GAP: 1, Anomaly.RECOVERED: 1, Anomaly.UNRECOVERED: 1}


def test_a_feed_that_ended_is_not_connected(tmp_path: Path) -> None:
    stats = FeedStats(frames=1)
    stats.opened(["BTC/USD"], again=False)
    writer = StatusWriter(tmp_path, "mine", "kraken", stats)
    writer.add([quote("BTC/USD")])
    writer.tick(ended=True)
    (row,) = symbol_rows(tmp_path)
    assert (row.running, row.connected, row.messages) == (False, False, 1)


def test_the_metrics_tell_each_symbol() -> None:
    stats = FeedStats(frames=1)
    stats.opened(["BTC/USD"], again=True)
    stats.count_gap("BTC/USD")
    writer = StatusWriter(None, "metered", "kraken", stats)
    writer.add([quote("BTC/USD")])
    writer.tick(ended=True)
    labels = {"feed": "metered", "exchange": "kraken", "symbol": "BTC/USD"}

    def value(name: str, **more: str) -> float | None:
        return METRICS.registry.get_sample_value(name, labels | more)

    assert value("coinstream_feed_symbol_connected") == 0
    assert value("coinstream_feed_symbol_events", event="gaps") == 1
    assert value("coinstream_feed_symbol_events", event="reconnects") == 1
    assert value("coinstream_feed_symbol_rate") is not None
    assert value("coinstream_feed_last_message_seconds") is not None
