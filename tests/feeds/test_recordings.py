"""Every recording at hand parses, and each of its frames is accounted for."""

from __future__ import annotations

import os
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coinstream.feeds import Reason, ReplayFeed
from coinstream.messages import Level1, Message, Ohlcv

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("COINSTREAM_RECORDINGS") or ROOT.parent / "shared" / "data")
PACKAGED = ROOT / "platform" / "coinstream" / "feeds" / "data"
LISTS = ".instruments.gz"
WITHOUT_ADDRESSES = {"spot_btcusdt_20240808.gz": "binance", "spot_ethusdt_20240808.gz": "binance"}
AWAITING_REST = {"INDEPENDENT_RESERVE.ws.1.0.head.gz"}
"""Sessions of order events whose first book came over REST and was not recorded."""


def recordings() -> list[Path]:
    found = [*SHARED.rglob("*.gz"), *SHARED.rglob("*.zip"), *SHARED.rglob("*.txt"), *PACKAGED.glob("*.gz")]
    return sorted(path for path in found if path.is_file() and not path.name.endswith(LISTS))


def instrument_lists() -> list[Path]:
    return sorted(SHARED.rglob(f"*{LISTS}"))


def drained(feed: ReplayFeed) -> list[Message]:
    return [message for batch in feed.messages(threading.Event()) for message in batch]


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.name)
def test_no_frame_of_a_recording_is_unaccounted(path: Path) -> None:
    feed = ReplayFeed(path, exchange=WITHOUT_ADDRESSES.get(path.name), rebase=False)
    messages = drained(feed)
    if path.name in AWAITING_REST:
        assert feed.stats.rejected[Reason.BOOK_UNSYNCED] > 0.9 * feed.stats.frames
    else:
        assert messages
    assert feed.stats.frames > 0
    assert feed.stats.is_balanced
    assert not feed.stats.rejected[Reason.UNKNOWN]
    assert not feed.stats.entries[Reason.UNKNOWN]
    assert not feed.stats.faults


@pytest.mark.parametrize("path", instrument_lists(), ids=lambda path: path.name)
def test_a_recorded_instrument_list_is_no_fault(path: Path) -> None:
    feed = ReplayFeed(path, rebase=False)
    drained(feed)
    assert feed.stats.frames > 0
    assert feed.stats.is_balanced
    assert not feed.stats.faults


def test_the_shared_recordings_are_there() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no recordings in {SHARED}; name their folder in COINSTREAM_RECORDINGS")
    assert len(recordings()) > len(list(PACKAGED.glob("*.gz")))


def lean(folder: Path, kind: str, *rows: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"20200102_{kind}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"20200102_ethusd_minute_{kind}.csv", "\n".join(rows))
    return path


def test_a_minute_bar_ends_a_minute_after_its_time(tmp_path: Path) -> None:
    path = lean(
        tmp_path / "crypto" / "gdax" / "minute" / "ethusd", "trade", "60000,1,3,0.5,2,33.35399601000002"
    )
    (candle,) = drained(ReplayFeed(path, rebase=False))
    assert isinstance(candle, Ohlcv)
    assert (candle.exchange_id, candle.symbol, candle.timeframe) == ("coinbase", "ETH/USD", "1m")
    assert candle.open_time == datetime(2020, 1, 2, 0, 1, tzinfo=UTC)
    assert candle.close_time == candle.last_updated == datetime(2020, 1, 2, 0, 2, tzinfo=UTC)
    assert (candle.open_price, candle.high_price, candle.low_price, candle.close_price) == (1, 3, 0.5, 2)


def test_a_quote_bar_is_its_last_quote_and_bad_rows_are_counted(tmp_path: Path) -> None:
    rows = ("0,1,1,1,1.5,7,2,2,2,2.5,8", "60000,,,,,,2,2,2,2,8", "120000,1,2", "180000,1,1,1,x,1,1,1,1,1,1")
    feed = ReplayFeed(lean(tmp_path, "quote", *rows), exchange="kraken", rebase=False)
    (quote,) = drained(feed)
    assert isinstance(quote, Level1)
    assert (quote.exchange_id, quote.best_bid, quote.bid_size, quote.best_ask, quote.ask_size) == (
        *("kraken", 1.5, 7),
        *(2.5, 8),
    )
    assert feed.stats.rejected == {Reason.ONE_SIDED: 1, Reason.MALFORMED: 1, Reason.BAD_VALUE: 1}
    assert feed.stats.is_balanced


def test_answers_that_are_no_json_are_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "rest"
    url = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5"
    path.write_text(
        f'{url} -> 1633998512.3: {{"lastUpdateId":7,"bids":[["1.5","2"]],"asks":[["1.6","3"]]}}\n'
        f"{url} -> 1633998513.3: <html><body>502 Bad Gateway</body></html>\n"
        f"{url} -> 1633998514.3: \n"
        f'{url} -> 1633998515.3: {{"code":-1003,"msg":"Too many requests"}}\n'
        f'{url} -> 1633998516.3: {{"lastUpdateId":6,"bids":[["1.4","2"]],"asks":[["1.6","3"]]}}\n'
    )
    feed = ReplayFeed(path, rebase=False)
    (quote,) = (message for message in drained(feed) if isinstance(message, Level1))
    assert (quote.symbol, quote.best_bid, quote.ask_size) == ("BTC/USDT", 1.5, 3)
    assert feed.stats.rejected == {Reason.MALFORMED: 2, Reason.REFUSED: 1, Reason.SNAPSHOT_STALE: 1}
    assert len(feed.stats.take_faults()) == 3
