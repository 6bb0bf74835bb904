from __future__ import annotations

import gzip
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from coinstream.errors import FeedError
from coinstream.feeds import Feed, Reason, ReplayFeed
from coinstream.feeds.registry import Options, open_feed, sample_path
from coinstream.messages import Level1, Message, Ohlcv, Trade

SPOT = sample_path("binance-spot.gz")
KLINES = sample_path("binance-klines.gz")


def drain(feed: Feed) -> list[Message]:
    return [message for batch in feed.messages(threading.Event()) for message in batch]


def test_every_line_of_the_sample_is_a_message_or_counted() -> None:
    feed = ReplayFeed(SPOT)
    messages = drain(feed)
    trades = [message for message in messages if isinstance(message, Trade)]
    assert (feed.exchange, len(messages) - len(trades)) == ("binance", 23_969)
    assert len(trades) == 4_586
    assert feed.stats.rejected == {Reason.BOOK_UNSYNCED: 22, Reason.OPENED: 1}
    assert feed.stats.is_balanced
    assert not feed.stats.faults


def test_a_session_recording_counts_its_control_lines() -> None:
    feed = ReplayFeed(KLINES, rebase=False)
    kinds = [type(message).__name__ for message in drain(feed)]
    assert (kinds.count("Level1"), kinds.count("Price"), kinds.count("Ohlcv")) == (84, 1, 2)
    assert kinds.count("Trade") == 2
    assert feed.stats.rejected == {Reason.OPENED: 1}


def test_original_times_are_kept_on_request() -> None:
    first = drain(ReplayFeed(SPOT, rebase=False))[0]
    assert isinstance(first, Level1)
    assert first.last_updated == datetime(2024, 8, 8, 23, 54, 14, 24620, tzinfo=UTC)


def test_rebased_times_are_now_and_candles_keep_their_grid() -> None:
    before = datetime.now(UTC)
    for message in drain(ReplayFeed(KLINES)):
        if isinstance(message, Level1):
            assert before - timedelta(seconds=1) < message.last_updated < datetime.now(UTC)
        if isinstance(message, Ohlcv):
            assert message.open_time.second == 0
            assert message.close_time - message.open_time == timedelta(minutes=1)
            assert timedelta(0) <= message.last_updated - message.open_time < timedelta(minutes=2)


@pytest.mark.parametrize("speed", [None, 500.0])
def test_a_fast_replay_receives_no_message_ahead_of_the_clock(speed: float | None) -> None:
    """The time between two messages shrinks with the speed; that between exchange and receipt stays."""
    original = [m for m in drain(ReplayFeed(KLINES, rebase=False)) if isinstance(m, Level1)]
    received = []
    for batch in ReplayFeed(KLINES, speed=speed).messages(threading.Event()):
        now = datetime.now(UTC)
        quotes = [message for message in batch if isinstance(message, Level1)]
        assert all(quote.last_updated <= now for quote in quotes)
        received += quotes
    times = [quote.last_updated for quote in received]
    assert times == sorted(times)
    assert [quote.last_updated - quote.timestamp for quote in received] == [
        quote.last_updated - quote.timestamp for quote in original
    ]
    assert times[-1] - times[0] < original[-1].last_updated - original[0].last_updated


def test_recordings_of_different_days_are_replayed_together() -> None:
    feed = open_feed("binance", Options(speed=None))
    messages = drain(feed)
    symbols = {message.symbol for message in messages[:2000] if isinstance(message, Level1)}
    assert symbols >= {"BTC/USDT", "ETH/USDT", "NKN/USDT"}
    assert feed.stats.is_balanced


def test_a_speed_makes_the_replay_take_its_time() -> None:
    started = time.monotonic()
    drain(ReplayFeed(KLINES, speed=40))
    assert time.monotonic() - started > 0.3


def test_a_stopped_replay_ends_within_its_patience() -> None:
    stop = threading.Event()
    batches = ReplayFeed(KLINES, speed=0.001, loop=True).messages(stop)
    next(batches)
    stop.set()
    assert all(not batch for batch in batches)


def test_a_loop_starts_over(tmp_path: Path) -> None:
    feed = ReplayFeed(KLINES, loop=True)
    count = 0
    stop = threading.Event()
    for batch in feed.messages(stop):
        count += len(batch)
        if count > 200:
            stop.set()
    assert feed.stats.rejected[Reason.OPENED] >= 2


def test_a_damaged_recording_yields_what_it_has_then_says_where(tmp_path: Path) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(SPOT.read_bytes()[:100_000])
    feed = ReplayFeed(torn, exchange="binance")
    seen: list[Message] = []
    batches = feed.messages(threading.Event())
    with pytest.raises(FeedError, match=r"torn\.gz: cannot read past line \d{3,}"):
        seen.extend(chain.from_iterable(batches))
    assert len(seen) > 1000


def test_a_line_without_a_time_is_a_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b'1723161254087891268 {"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}\ngarbage\n')
    feed = ReplayFeed(path, exchange="binance")
    assert len(drain(feed)) == 1
    assert [(letter.reason, letter.payload) for letter in feed.stats.take_faults()] == [
        (Reason.MALFORMED, b"garbage")
    ]


def test_frames_that_fit_several_exchanges_are_refused_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "unnamed"
    path.write_bytes(b'1723161254087891268 {"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}\n')
    with pytest.raises(FeedError, match=r"it may be binance, binancetr, binanceus"):
        ReplayFeed(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file contains no frame"),
        (b"nothing to see\n", "cannot detect the exchange"),
        (gzip.compress(b"{}", mtime=0), "cannot detect the exchange"),
    ],
)
def test_a_file_that_is_no_recording_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "readme"
    path.write_bytes(content)
    with pytest.raises(FeedError, match=f"readme: {reason}"):
        ReplayFeed(path)


def test_an_unknown_feed_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(FeedError, match=r"no feed and no recording 'nosuch'; .*`coinstream feed list`"):
        open_feed("nosuch")
