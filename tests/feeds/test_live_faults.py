"""Test the recovery of live feeds from faults of the simulated exchange."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State
from websockets.server import ServerProtocol

from coinstream.errors import FeedError
from coinstream.feeds import Reason
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.live import CoingeckoFeed, Timeouts
from coinstream.feeds.live.base import Inbox, LiveFeed
from coinstream.feeds.simulated import Faults, SimulatedExchange
from coinstream.feeds.simulated.exchange import ClientConnection
from coinstream.feeds.simulated.venue import Session
from coinstream.messages import Analytics, Price
from tests.feeds.running import SHORT_TIMEOUTS, Running, direct
from tests.support import wait_until

BTC, ETH = "BTC/USDT", "ETH/USDT"
BOTH = (BTC, ETH)


@pytest.fixture(params=["picows", "websockets"], autouse=True)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test over both websocket clients."""
    monkeypatch.setattr(ExchangeAdapter, "compression", request.param == "websockets")


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(BOTH, rate=400, number_in_size=True) as simulated:
        yield simulated


def test_the_exchange_logs_nothing_when_a_client_disconnects(caplog: pytest.LogCaptureFixture) -> None:
    async def write_to_a_closed_peer() -> bool:
        ours, peer = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        peer.close()
        protocol = ServerProtocol(state=State.OPEN)
        connection = cast(ServerConnection, SimpleNamespace(protocol=protocol, transport=transport))
        line = ClientConnection(connection, cast(Session, None))
        line.write([b"{}"] * 100)
        line.write([b"{}"] * 100)
        return transport.is_closing()

    assert asyncio.run(write_to_a_closed_peer())
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_every_quote_arrives_in_order_with_its_times(exchange: SimulatedExchange, venue: str) -> None:
    with Running(direct(exchange, venue, BOTH)) as running:
        running.wait_for_more(200)
    for symbol in BOTH:
        numbers = running.numbers(symbol)
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert all(quote.last_updated.tzinfo and quote.timestamp.tzinfo for quote in running.quotes(symbol))
    stats = running.feed.stats
    assert stats.is_balanced
    assert not stats.flags
    assert running.prices(BTC)


def reconnected_more_than(running: Running, times: int) -> bool:
    return running.feed.stats.flags[Anomaly.RECONNECT] > times


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_broken_connection_is_made_anew(exchange: SimulatedExchange, venue: str) -> None:
    with Running(direct(exchange, venue, BOTH)) as running:
        running.wait_for_more(20)
        for round_ in range(3):
            exchange.faults.drop = 1
            running.wait(partial(reconnected_more_than, running, round_), "a reconnect")
            running.wait_for_more(20)
    assert exchange.connections == 4


def test_connections_refused_and_rate_limited_are_tried_again(exchange: SimulatedExchange) -> None:
    exchange.faults.refuse, exchange.faults.rate_limit = 6, 3
    with Running(direct(exchange, "binance", BOTH)) as running:
        running.wait_for_more(20)
    assert running.feed.stats.flags[Anomaly.RATE_LIMITED] >= 1


def test_a_feed_without_any_connection_gives_up_and_says_why() -> None:
    with SimulatedExchange(BOTH) as gone:
        feed = direct(gone, "binance", BOTH, timeouts=Timeouts(first_retry_s=0.01, give_up_after_s=0.2))
    with Running(feed) as running:
        wait_until(lambda: running.error, what="the feed's end")
    assert isinstance(running.error, FeedError)
    assert "binance-test: no data from ws://127.0.0.1" in str(running.error)


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_garbled_frames_are_dead_letters_and_the_feed_goes_on(
    exchange: SimulatedExchange, venue: str
) -> None:
    exchange.faults.garble = 0.2
    with Running(direct(exchange, venue, BOTH)) as running:
        running.wait(lambda: running.feed.stats.rejected[Reason.MALFORMED] > 10, "malformed frames")
        running.wait_for_more(20)
    assert running.feed.stats.is_balanced


def test_a_gap_in_the_trades_is_filled_for_that_symbol_alone(exchange: SimulatedExchange) -> None:
    with Running(direct(exchange, "binance", BOTH)) as running:
        running.wait_for_more(50)
        exchange.faults.gap = 0.05
        running.wait(lambda: running.feed.stats.flags[Anomaly.RECOVERED] >= 5, "recovered gaps")
        exchange.faults.gap = 0.0
        running.wait_for_more(50)
    stats = running.feed.stats
    assert stats.flags[Anomaly.GAP] >= stats.flags[Anomaly.RECOVERED]
    assert not stats.flags[Anomaly.RECONNECT]


def test_trades_missed_while_reconnecting_are_recovered(exchange: SimulatedExchange) -> None:
    with Running(direct(exchange, "binance", BOTH, ("price",))) as running:
        running.wait_for_more(50)
        exchange.faults.drop = 1
        running.wait(lambda: running.feed.stats.flags[Anomaly.RECOVERED] >= 2, "both symbols recovered")
        running.wait_for_more(50)
    # Every trade of the walk is at another price: what is there twice or not at all shows.
    for symbol in BOTH:
        got = {round(price.usd_price, 8) for price in running.prices(symbol)}
        told = [round(tick.bid, 8) for tick in exchange.market.ticks[symbol]]
        first = min(told.index(price) for price in got)
        last = max(told.index(price) for price in got)
        assert set(told[first : last + 1]) == got


def test_duplicates_count_once(exchange: SimulatedExchange) -> None:
    exchange.faults.duplicate = 0.5
    with Running(direct(exchange, "binance", BOTH)) as running:
        running.wait_for_more(200)
    numbers = running.numbers(BTC)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert running.feed.stats.rejected[Reason.DUPLICATE] > 20


def test_crossed_books_are_flagged_and_published(exchange: SimulatedExchange) -> None:
    exchange.faults.cross = 0.3
    with Running(direct(exchange, "kraken", BOTH)) as running:
        running.wait(lambda: running.feed.stats.flags[Anomaly.CROSSED] > 10, "crossed books")
    crossed = [quote for quote in running.quotes(BTC) if quote.best_bid > quote.best_ask]
    assert crossed


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_frozen_stream_is_noticed_and_reconnected(exchange: SimulatedExchange, venue: str) -> None:
    with Running(direct(exchange, venue, BOTH)) as running:
        running.wait_for_more(20)
        exchange.faults.freeze = True
        running.wait(lambda: running.feed.stats.flags[Anomaly.FROZEN], "the watchdog")
        exchange.faults.freeze = False
        running.wait_for_more(20)


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_vanished_symbol_does_not_disturb_the_others(exchange: SimulatedExchange, venue: str) -> None:
    with Running(direct(exchange, venue, BOTH)) as running:
        running.wait_for_more(5, ETH)
        exchange.faults.vanished = {ETH}
        running.wait(lambda: running.feed.stats.flags[Anomaly.VANISHED], "the symbol is missed")
        running.wait_for_more(20, BTC)
    assert not running.feed.stats.flags[Anomaly.FROZEN]


def test_a_clock_that_runs_ahead_is_measured_and_quotes_pass(exchange: SimulatedExchange) -> None:
    exchange.faults.skew_ms = 5_000_000
    with Running(direct(exchange, "kraken", BOTH)) as running:
        running.wait(lambda: (running.feed.stats.clock_ahead_ms or 0) > 4_900_000, "the clock")
        running.wait_for_more(20)
    quote = running.quotes(BTC)[-1]
    assert (quote.timestamp - quote.last_updated).total_seconds() > 4_900


def test_delayed_frames_are_late_not_lost(exchange: SimulatedExchange) -> None:
    exchange.faults.delay_ms = 300
    with Running(direct(exchange, "kraken", BOTH)) as running:
        running.wait_for_more(50)
    numbers = running.numbers(BTC)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_a_page_instead_of_json_does_not_disturb_the_stream(exchange: SimulatedExchange) -> None:
    exchange.faults.html = True
    with Running(direct(exchange, "binance", BOTH)) as running:
        running.wait_for_more(50)
    assert running.feed.stats.clock_ahead_ms is None


class TestCoingecko:
    def feed(self, exchange: SimulatedExchange) -> CoingeckoFeed:
        url = exchange.http_url("coingecko") + "/api/v3"
        return CoingeckoFeed(("analytics", "price"), url=url, timeouts=SHORT_TIMEOUTS)

    def test_global_figures_and_prices_come_by_polling(self, exchange: SimulatedExchange) -> None:
        with Running(self.feed(exchange)) as running:
            running.wait_for_more(5)
        kinds = {type(message) for message in running.messages}
        assert kinds == {Analytics, Price}

    def test_limits_pages_and_outages_are_survived(self, exchange: SimulatedExchange) -> None:
        with Running(self.feed(exchange)) as running:
            running.wait_for_more(1)
            exchange.faults.rate_limit = 1
            running.wait(lambda: running.feed.stats.flags[Anomaly.RATE_LIMITED], "the limit")
            exchange.faults.html = True
            running.wait(lambda: running.feed.stats.rejected[Reason.MALFORMED], "a page")
            exchange.faults.html = False
            exchange.faults.refuse = 1
            running.wait_for_more(2)
        assert running.feed.stats.is_balanced


class Interruption(BaseException):
    """As Dagster raises one to end a run."""


def interrupt(*_: object) -> None:
    raise Interruption


@pytest.mark.parametrize("after", [0.05, 0.2, 0.31, 0.4, 0.53])
def test_an_interruption_ends_the_feed_wherever_it_strikes(after: float) -> None:
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with SimulatedExchange(BOTH, rate=20_000) as exchange:
            feed = direct(exchange, "binance", BOTH)
            with pytest.raises(Interruption):  # noqa: PT012 (it strikes anywhere in here)
                signal.setitimer(signal.ITIMER_REAL, after)
                for _ in feed.messages(threading.Event()):
                    pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert feed.stats.is_balanced


def test_an_interruption_within_a_task_group_is_still_one() -> None:
    wrapped = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [Interruption()])])

    class Feed(LiveFeed):
        async def run(self, inbox: Inbox) -> None:
            raise wrapped

    with pytest.raises(Interruption):
        list(Feed("wrapped", "binance").messages(threading.Event()))


def test_a_feed_within_an_event_loop_is_one_clear_error(exchange: SimulatedExchange) -> None:
    async def take() -> None:
        next(direct(exchange, "binance", BOTH).messages(threading.Event()))

    with pytest.raises(FeedError, match=r"asyncio\.to_thread"):
        asyncio.run(take())


def test_faults_are_set_over_http(exchange: SimulatedExchange) -> None:
    url = f"{exchange.url}/faults"
    told = httpx.get(url, params={"garble": "0.25", "freeze": "1", "vanished": f"{BTC},{ETH}"}).json()
    assert (told["garble"], told["freeze"], told["vanished"]) == (0.25, True, [BTC, ETH])
    assert exchange.faults.garble == 0.25
    reply = httpx.get(url, params={"nosuch": "1"})
    assert (reply.status_code, "unknown fault 'nosuch'" in reply.json()["error"]) == (400, True)
    assert httpx.get(url, params={"gap": "often"}).status_code == 400
    assert Faults().as_dict().keys() == told.keys()


def first_hundred(exchange: SimulatedExchange) -> list[Any]:
    ticks = exchange.market.ticks[BTC]
    return list(ticks)[:100] if len(ticks) > 100 else []


def test_the_same_seed_gives_the_same_market() -> None:
    with (
        SimulatedExchange(BOTH, rate=2000, seed=7) as one,
        SimulatedExchange(BOTH, rate=2000, seed=7) as other,
    ):
        ticks = [wait_until(partial(first_hundred, simulated)) for simulated in (one, other)]
    assert [tick[:6] for tick in ticks[0]] == [tick[:6] for tick in ticks[1]]
    assert [tick.number for tick in ticks[0]] == list(range(1, 101))
