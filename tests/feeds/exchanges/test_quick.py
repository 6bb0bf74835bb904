"""Test that the fast path and the general path of parsers have the same results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.parser import from_ns, parse_each
from coinstream.feeds.recordings import new_parser
from coinstream.messages import Level1

RECEIVED_NS = 1_723_161_254_087_891_268
MS = 1_723_161_254_000
Values = tuple[str, Any, Any, int]


def time_ms(number: int) -> int:
    """Return a time that rises over several seconds; the last number has none."""
    return 0 if number == 9 else MS + 437 * number


def binance(values: Values) -> Any:
    name, bid, ask, number = values
    return {"u": number, "s": name.replace("_", ""), "b": bid, "B": "1", "a": ask, "A": "2"}


def kraken(values: Values) -> Any:
    name, bid, ask, number = values
    entry = {"symbol": name.replace("_", "/"), "bid": bid, "bid_qty": 1, "ask": ask, "ask_qty": 2}
    more: dict[str, Any] = {"last": bid, "volume": 5, "change_pct": -1} if number % 2 else {}
    if number % 3 == 0:
        zone = "" if number == 6 else "Z"
        more["timestamp"] = "2024-08-08T23:54:1%d.000%s" % (number % 7, zone)  # noqa: UP031
    return {"channel": "ticker", "type": "update", "data": [entry | more] * (1 + (number == 5))}


def okx(values: Values) -> Any:
    name, bid, ask, number = values
    row = {
        "asks": [[ask, "2", "0", "1"]],
        "bids": [[bid, "1", "0", "1"]],
        "ts": str(time_ms(number)),
        "seqId": number,
    }
    argument = {"channel": "bbo-tbt", "instId": name.replace("_", "-")}
    return {"arg": argument, "data": [] if number == 5 else [row]}


def gate(values: Values) -> Any:
    name, bid, ask, number = values
    result = {"t": time_ms(number), "u": number, "s": name, "b": bid, "B": "1", "a": ask, "A": "2"}
    time = {"time": MS // 1000} | ({} if number == 7 else {"time_ms": MS})
    return time | {"channel": "spot.book_ticker", "event": "update", "result": result}


FRAMES: dict[str, Callable[[Values], Any]] = {
    "binance": binance,
    "kraken": kraken,
    "okx": okx,
    "gate": gate,
}
quotes: st.SearchStrategy[Values] = st.tuples(
    st.sampled_from(["BTC_USDT", "ETH_USDT", "NOSUCH", "", "BTC_USDT_SWAP"]),
    st.sampled_from(["1", "1.5", "2", "0", "", "x", "-1", "1e400", 1, 2.5, None, True, []]),
    st.sampled_from(["2", "3", "1", "0", 3, 3.5, None, "NaN"]),
    st.integers(0, 9),
)


@pytest.mark.parametrize("exchange", sorted(FRAMES))
@pytest.mark.parametrize("types", [None, frozenset({"level1"}), frozenset({"price"})])
@given(data=st.lists(quotes, max_size=12))
def test_a_batch_gives_what_its_frames_give_one_by_one(
    exchange: str, types: frozenset[str] | None, data: list[Values]
) -> None:
    payloads = [msgspec.json.encode(FRAMES[exchange](values)) for values in data]
    together, single = FeedStats(), FeedStats()
    batch = new_parser(exchange, types=types).parse_many(payloads, RECEIVED_NS, together)  # type: ignore[attr-defined]
    assert batch == parse_each(new_parser(exchange, types=types), payloads, RECEIVED_NS, single)
    together.faults.clear()
    single.faults.clear()
    assert together == single


@pytest.mark.parametrize("exchange", sorted(FRAMES))
def test_plain_quotes_take_the_quick_way(exchange: str) -> None:
    parser: Any = new_parser(exchange, types=frozenset({"level1"}))
    first, second = (
        msgspec.json.encode(FRAMES[exchange](("BTC_USDT", "1", ask, number)))
        for ask, number in (("2", 3), ("3", 4 + 5 * (exchange == "kraken")))
    )
    batch = parser.parse_many([first], RECEIVED_NS, FeedStats())
    assert [message.best_ask for message in batch.messages] == [2.0]
    assert second.startswith(parser.quick_start)
    quote = parser.quick(second, from_ns(RECEIVED_NS))
    assert isinstance(quote, Level1)
    assert quote.best_ask == 3.0
