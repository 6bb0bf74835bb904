"""`feeds.yaml`: what may stand in it, and how faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from coinstream.errors import SettingsError
from coinstream.feeds.config import load, read_feeds_file
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.book_state import BookLimits
from coinstream.feeds.live import CcxtFeed, CoingeckoFeed, DirectFeed
from coinstream.feeds.live.base import Timeouts
from coinstream.feeds.registry import default_feed, entries, open_feed
from coinstream.feeds.simulated.feed import SimulatedFeed

EXCHANGES = {"binance", "coinbase", "kraken", "okx", "bybit", "bitstamp", "kucoin", "gate", "coingecko"}


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.yaml"
    monkeypatch.setenv("COINSTREAM_FEEDS", str(path))
    return path


def test_every_packaged_feed_opens() -> None:
    for name, entry in entries().items():
        feed = open_feed(name)
        assert (feed.name, feed.exchange) == (name, entry.exchange)


def test_the_exchanges_asked_for_are_there() -> None:
    assert {entry.exchange for entry in entries().values()} >= EXCHANGES


def test_packaged_feeds_use_an_adapter_where_there_is_one() -> None:
    for name, entry in entries().items():
        assert entry.source != "ccxt" or entry.exchange not in adapters(), name


def test_live_feeds_of_six_exchanges_have_trades_and_books() -> None:
    for exchange in ("coinbase", "okx", "bybit", "bitstamp", "kucoin", "gate"):
        entry = entries()[f"{exchange}-live"]
        assert {"level1", "price", "trade", "book"} <= set(entry.types), exchange


def test_feeds_live_makes_a_real_exchange_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEEDS", raising=False)
    assert isinstance(open_feed(default_feed()), SimulatedFeed)
    monkeypatch.setenv("FEEDS", "live")
    assert isinstance(open_feed(default_feed()), DirectFeed)


def test_a_file_of_the_users_adds_replaces_and_takes_away(
    user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text(
        """
default: mine
feeds:
  mine:
    source: ccxt
    exchange: kraken
    symbols: [ADA/EUR]
    types: [level1]
    options: {apiKey: "${MY_KEY}"}
    timeouts: {frozen_after_s: 7}
  global: {source: coingecko, types: [price], coins: 5}
  gate-live: null
"""
    )
    monkeypatch.setenv("MY_KEY", "secret")
    config = load()
    assert config.default == "mine"
    assert "gate-live" not in config.feeds
    assert "binance-live" in config.feeds
    mine = open_feed("mine")
    assert isinstance(mine, CcxtFeed)
    assert mine.timeouts == Timeouts(frozen_after_s=7)
    assert mine._client().apiKey == "secret"
    assert isinstance(open_feed("global"), CoingeckoFeed)


KRAKEN = "feeds:\n  a:\n    source: direct\n    exchange: kraken\n"
GECKO = "feeds:\n  a:\n    source: coingecko\n"
FAULTS = [
    (KRAKEN.replace("kraken", "bitfoo") + "    symbols: [A/B]\n", 4, "a.exchange: unknown exchange 'bitfoo'"),
    (KRAKEN + "    symbols:\n      - A/B\n      - A-B\n", 7, "a.symbols.1: String should match"),
    (KRAKEN + "    symbols: []\n", 5, "a.symbols: Tuple should have at least 1"),
    (KRAKEN, 2, "a.symbols: Field required"),
    ("feeds:\n\n  a:\n    source: tape\n", 3, "a: Input tag 'tape'"),
    (GECKO + "    tipes: [price]\n", 4, "a.tipes: Extra inputs"),
    (GECKO + "    types: [level1]\n", 4, "a.types.0: Input should be"),
    (GECKO + "    timeouts: {frozen: 1}\n", 4, "a.timeouts.frozen: Unexpected"),
    (GECKO + "  b: null\n  a: null\n", 5, "'a' is a duplicate key, first used in line 2"),
    ("foods: {}\n", 1, "foods: Extra inputs"),
    ("feeds: [\n", 0, "not YAML"),
    ("- a\n", 1, "the file: Input should be"),
]


@pytest.mark.parametrize(("text", "line", "said"), FAULTS)
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        read_feeds_file(path)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_an_empty_file_changes_nothing(user_file: Path) -> None:
    user_file.write_text("# nothing yet\n")
    assert set(load().feeds) == set(entries())


def test_a_default_that_is_no_feed_is_an_error(user_file: Path) -> None:
    user_file.write_text("default: nosuch\n")
    with pytest.raises(SettingsError, match="`default` names 'nosuch', which is not a feed"):
        load()


def test_a_missing_file_is_an_error_that_names_the_variable(user_file: Path) -> None:
    with pytest.raises(SettingsError, match="COINSTREAM_FEEDS"):
        load()


def test_books_have_an_interval_and_a_depth(user_file: Path) -> None:
    user_file.write_text(
        """
feeds:
  slow:
    source: direct
    exchange: kraken
    symbols: [BTC/USD]
    types: [book]
    book_interval_ms: 250
    book_depth: 5
  plain: {source: direct, exchange: kraken, symbols: [BTC/USD], types: [book]}
  other: {source: ccxt, exchange: kraken, symbols: [BTC/USD], types: [book], book_interval_ms: 0}
"""
    )
    feeds = load().feeds
    limits = {name: getattr(feeds[name], "book_limits", None) for name in ("slow", "plain", "other")}
    assert limits == {"slow": BookLimits(250.0, 5), "plain": BookLimits(100.0, 20), "other": BookLimits(0.0)}
    assert isinstance(open_feed("slow"), DirectFeed)


@pytest.mark.parametrize("setting", ["book_interval_ms: -1", "book_depth: 0", "book_depth: 5000"])
def test_limits_of_books_have_bounds(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text(KRAKEN + f"    symbols: [A/B]\n    types: [book]\n    {setting}\n")
    with pytest.raises(SettingsError, match=f"feeds.yaml:7: feeds.a.{setting.partition(':')[0]}"):
        read_feeds_file(path)
