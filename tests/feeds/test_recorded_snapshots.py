"""Books whose snapshots come over REST: from a folder of recordings, and from the replay server."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds import Reason, ReplayFeed
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.live import DirectFeed, Timeouts
from coinstream.feeds.registry import Options, open_feed
from coinstream.feeds.runner import run_feed
from coinstream.feeds.simulated.recording_server import RecordingServer
from coinstream.feeds.simulated.servers import RecordedReplies
from coinstream.messages import Book, Message
from tests.cli.test_feed import Collector
from tests.feeds.running import Running

SESSION = Path(__file__).parents[1] / "data" / "recordings" / "independentreserve.gz"
REST = "https://api.independentreserve.com/Public/GetAllOrders"
MARKET = "?primaryCurrencyCode=eth&secondaryCurrencyCode=aud"
LONG = Timeouts(frozen_after_s=600, silent_after_s=600, first_retry_s=0.02, longest_retry_s=0.2)


def orders(bid: float, ask: float) -> str:
    """Return a REST reply whose orders the recorded session does not change."""
    reply: dict[str, Any] = {
        "BuyOrders": [{"Guid": "first-bid", "Price": bid, "Volume": 1.5}],
        "SellOrders": [{"Guid": "first-ask", "Price": ask, "Volume": 2.5}],
    }
    return msgspec.json.encode(reply).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a session and the REST replies of two markets."""
    session = tmp_path / "session"
    session.mkdir()
    shutil.copy(SESSION, session / "reserve.ws.gz")
    lines = [
        f"{REST}{MARKET} -> 1649023809.2: {orders(2000.0, 9000.0)}",
        f"{REST}{MARKET.replace('aud', 'usd')} -> 1649023809.2: {orders(1500.0, 7000.0)}",
    ]
    (session / "reserve.http").write_text("\n".join(lines) + "\n")
    return session


def drain(feed: ReplayFeed) -> list[Message]:
    return [message for batch in feed.messages(threading.Event()) for message in batch]


def test_a_session_without_its_snapshots_says_what_is_missing() -> None:
    report = run_feed(open_feed(str(SESSION), Options(speed=None)), Collector())
    assert report.messages == 0
    assert report.rejected["book awaits its snapshot"] > 400
    (note,) = report.notes
    assert "DOT/AUD" in note
    assert "REST replies" in note


def test_a_folder_gives_the_books_of_its_rest_replies(folder: Path) -> None:
    feed = open_feed(str(folder), Options(speed=None, rebase=False))
    assert isinstance(feed, ReplayFeed)
    books = [message for message in drain(feed) if isinstance(message, Book)]
    assert {book.symbol for book in books} == {"ETH/AUD", "ETH/USD"}
    first = {book.symbol: book for book in reversed(books)}
    assert first["ETH/AUD"].bids[-1:] == [(2000, 1.5)]
    assert first["ETH/USD"].asks[-1:] == [(7000, 2.5)]
    assert feed.stats.is_balanced
    assert not feed.stats.faults
    assert "DOT/AUD" in "".join(feed.stats.notes)


def test_the_live_path_gets_its_snapshots_from_the_replay_server(folder: Path) -> None:
    with RecordingServer(folder) as server:
        adapter = adapters()[server.exchange](server.ws_url, server.rest_url)
        feed = DirectFeed(adapter, ["ETH/AUD", "ETH/USD"], "reserve", ("level1", "book"), LONG)
        with Running(feed) as running:
            running.wait(lambda: feed.stats.frames >= len(server.frames), "all frames")
            running.wait(
                lambda: (
                    {one.symbol for one in running.messages if isinstance(one, Book)}
                    == {"ETH/AUD", "ETH/USD"}
                ),
                "a book of each market",
            )
    last = {one.symbol: one for one in running.messages if isinstance(one, Book)}
    assert last["ETH/AUD"].bids[-1:] == [(2000, 1.5)]
    assert last["ETH/USD"].bids[-1:] == [(1500, 1.5)]
    assert feed.stats.is_balanced
    assert feed.stats.rejected[Reason.UNKNOWN] == 0


def test_recordings_of_two_exchanges_are_refused(folder: Path) -> None:
    shutil.copy(SESSION.with_name("bitstamp.gz"), folder)
    with pytest.raises(FeedError, match=r"one exchange: bitstamp.gz is of bitstamp, reserve.http"):
        open_feed(str(folder))


def test_a_recorded_reply_answers_requests_of_its_market_with_any_limit() -> None:
    replies = RecordedReplies()
    for symbol in ("AAA", "BBB"):
        replies.add(f"https://api.test/depth?symbol={symbol}&limit=1000", symbol.encode())
    replies.add("https://api.test/markets", b"[]")
    assert replies.find("/depth?symbol=aaa&limit=5000") == b"AAA"
    assert replies.find("/depth?symbol=BBB") == b"BBB"
    assert replies.find("/depth?symbol=CCC&limit=1000") is None
    assert replies.find("/markets?kind=spot") == b"[]"
    assert replies.find("/nothing") is None
