"""Candles against an independent computation."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.client import RedpandaClient
from coinstream.kafka import admin_client
from coinstream.lake import candles
from coinstream.lake.candle_windows import SOURCES, compute_candles, nearest_floats
from coinstream.lake.candles import build_candles
from coinstream.lake.landing import land
from coinstream.lake.maintenance import compact
from coinstream.lake.query import query
from coinstream.lake.schemas import NUMBER, SCALE, spec_named
from coinstream.lake.store import Lake
from coinstream.messages import Ohlcv
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import OHLCV, catalogue
from tests.conftest import TopicFactory
from tests.lake.support import START, iso, level1, price, send, trade
from tests.support import typed, wait_until

QUOTES, PRICES = spec_named("level1"), spec_named("price")


def quotes(count: int, seed: int, step_s: float = 7.3) -> list[dict[str, Any]]:
    """Return a random walk of two symbols, quoted every few seconds."""
    chance = random.Random(seed)
    made, mid = [], {"BTC/USDT": 60_000.0, "ETH/USDT": 2_500.0}
    for number in range(count):
        symbol = chance.choice(list(mid))
        mid[symbol] *= 1 + chance.gauss(0, 1e-4)
        at = START + timedelta(seconds=step_s * number)
        bid, ask = round(mid[symbol] - 0.05, 4), round(mid[symbol] + 0.05, 4)
        times = {"timestamp": iso(at), "lastUpdated": iso(at + timedelta(milliseconds=30))}
        made.append(level1(0, symbol=symbol, bestBid=bid, bestAsk=ask, **times))
    return made


def independent(messages: list[dict[str, Any]], every: str, until: datetime) -> pl.DataFrame:
    """Candles by Polars' own windows, from the messages themselves."""
    ticks = pl.DataFrame(
        {
            "symbol": [m["symbol"] for m in messages],
            "at": [datetime.fromisoformat(m["timestamp"]) for m in messages],
            "mid": [(m["bestBid"] + m["bestAsk"]) / 2 for m in messages],
        }
    ).sort("at")
    windows = ticks.group_by_dynamic("at", every=every, group_by="symbol").agg(
        pl.col("mid").first().alias("open"),
        pl.col("mid").max().alias("high"),
        pl.col("mid").min().alias("low"),
        pl.col("mid").last().alias("close"),
    )
    closed = windows.filter(pl.col("at").dt.offset_by(every) <= until - timedelta(seconds=5))
    return closed.sort("symbol", "at").select("symbol", "at", "open", "high", "low", "close")


def produced(bootstrap: str, since: dict[int, int]) -> list[Ohlcv]:
    """Return the candles in crypto-ohlcv from the given offsets on."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "t", "enable.partition.eof": True})
    reader.assign([TopicPartition("crypto-ohlcv", part, at) for part, at in since.items()])
    decoder, found, left = MessageDeserializer(), [], set(since)
    while left:
        message = reader.poll(10)
        assert message is not None
        error = message.error()
        if error is not None:
            # Errors of a connection that is retried are no end of a partition.
            if error.code() == KafkaError._PARTITION_EOF:
                left.discard(typed(message.partition(), int))
            continue
        candle = decoder.decode(message.value(), None, "crypto-ohlcv").message
        assert isinstance(candle, Ohlcv)
        found.append(candle)
    reader.close()
    return found


def ends(bootstrap: str) -> dict[int, int]:
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "t"})
    parts = reader.list_topics("crypto-ohlcv", timeout=10).topics["crypto-ohlcv"].partitions
    marks = {part: reader.get_watermark_offsets(TopicPartition("crypto-ohlcv", part))[1] for part in parts}
    reader.close()
    return marks


def provision(brokers: BrokerSettings) -> None:
    # The candles of these tests are older than the retention of their topic: the broker would delete them
    # when it looks for expired segments, every five minutes.
    specs = [
        spec.model_copy(update={"retention_ms": -1}) if spec.name == OHLCV.name else spec
        for spec in catalogue()
    ]
    provisioner = Provisioner(brokers)
    provisioner.apply(provisioner.plan(specs))
    admin = admin_client(brokers)
    wait_until(lambda: leaders(admin, OHLCV.name) == OHLCV.partitions, what=f"{OHLCV.name} has its leaders")


def leaders(admin: AdminClient, topic: str) -> int:
    partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
    return sum(part.leader >= 0 for part in partitions)


def test_candles_equal_an_independent_computation_also_with_late_messages(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("level1", partitions=2)
    messages = quotes(1_500, seed=1)
    chance = random.Random(2)
    late = set(chance.sample(range(1_000), 60))
    on_time = [m for at, m in enumerate(messages) if at not in late]
    # Out of order within a window of time, as several connections bring them.
    groups = [on_time[start : start + 9] for start in range(0, len(on_time), 9)]
    shuffled = [m for group in groups for m in chance.sample(group, len(group))]
    before = ends(broker_settings.brokers)
    revised = 0
    with RedpandaClient(broker_settings) as client:
        for part in (shuffled[:500], shuffled[500:], [messages[at] for at in sorted(late)], []):
            send(broker_settings.brokers, name, part)
            land(lake, broker_settings, QUOTES, topic=name)
            revised += build_candles(lake, client).revised
    assert revised > 0
    latest = {(c.symbol, c.timeframe, c.open_time): c for c in produced(broker_settings.brokers, before)}
    until = datetime.fromisoformat(messages[-1]["timestamp"])
    for timeframe in ("1m", "5m", "1h"):
        expected = independent(messages, timeframe, until)
        mine = sorted(
            (c for key, c in latest.items() if key[1] == timeframe), key=lambda c: (c.symbol, c.open_time)
        )
        found = [
            (c.symbol, c.open_time, c.open_price, c.high_price, c.low_price, c.close_price) for c in mine
        ]
        wanted = [(s, at, *(round(v, 8) for v in rest)) for s, at, *rest in expected.iter_rows()]
        assert found == wanted
        assert len(found) > (0 if timeframe == "1h" else 20)
    assert {c.exchange_id for c in latest.values()} == {"binance-quotes"}


def test_a_second_build_without_news_produces_nothing(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("price")
    send(broker_settings.brokers, name, (price(i * 1_000) for i in range(60)))
    land(lake, broker_settings, PRICES, topic=name)
    with RedpandaClient(broker_settings) as client:
        first = build_candles(lake, client)
        again = build_candles(lake, client)
    assert (first.rows, first.produced) == (60, 9 + 1)
    assert (again.rows, again.produced, again.revised) == (0, 0, 0)
    found = query(lake, "SELECT timeframe, final, count(*) FROM candles GROUP BY ALL ORDER BY ALL").rows
    assert found == [("1h", False, 1), ("1m", False, 1), ("1m", True, 9), ("5m", False, 1), ("5m", True, 1)]


def test_the_table_of_candles_is_compacted_and_its_snapshots_expire(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(broker_settings)
    monkeypatch.setattr(candles, "OVERLAP", timedelta(0))
    name = topic("price")
    for hour in range(3):
        send(broker_settings.brokers, name, (price(3 * hour * 360_000 + i * 1_000) for i in range(30)))
        land(lake, broker_settings, PRICES, topic=name)
        build_candles(lake)
    everything = "SELECT * FROM candles ORDER BY ALL"
    before = query(lake, everything).rows
    done = compact(lake, "candles", now=datetime.now(UTC) + timedelta(hours=100))
    assert done is not None
    assert (done.rows, done.files_after) == (len(before), 1)
    assert done.files_before > 1
    assert done.snapshots_expired > 1
    assert query(lake, everything).rows == before
    assert build_candles(lake).windows > 0
    assert query(lake, everything).rows == before


def test_an_open_candle_is_produced_when_its_time_has_passed(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("price")
    with RedpandaClient(broker_settings) as client:
        send(broker_settings.brokers, name, [price(usdPrice=10), price(5_000, usdPrice=12)])
        land(lake, broker_settings, PRICES, topic=name)
        assert build_candles(lake, client).produced == 0
        send(broker_settings.brokers, name, [price(6_600, usdPrice=99, symbol="BTC/USD")])
        land(lake, broker_settings, PRICES, topic=name)
        assert build_candles(lake, client).produced == 1
    [row] = query(lake, "SELECT open_price, close_price, ticks FROM candles WHERE final").rows
    assert row == (10.0, 12.0, 2)


def trades(count: int, seed: int) -> list[dict[str, Any]]:
    """Return trades of two symbols, some without a side, with sizes that floats cannot add up."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        at = START + timedelta(seconds=number * 11.7)
        fields = {
            "symbol": chance.choice(["BTC/USDT", "PEPE/USDT"]),
            "tradeId": str(number),
            "tradePrice": round(chance.uniform(90, 110), 4),
            "size": chance.choice([0.1, 0.2, 0.3, 1e-8, 12345.678]),
            "side": chance.choice(["buy", "sell"]),
            "timestamp": iso(at),
            "lastUpdated": iso(at + timedelta(milliseconds=20)),
        }
        made.append(trade(0, **fields))
    for number in chance.sample(range(count), count // 10):
        del made[number]["side"]
    return made


def naive(messages: list[dict[str, Any]], length: timedelta) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Compute candles of trades message by message, with exact numbers."""
    found: dict[tuple[str, datetime], dict[str, Any]] = {}
    seconds = length.total_seconds()
    for message in sorted(messages, key=lambda m: str(m["timestamp"])):
        at = datetime.fromisoformat(message["timestamp"])
        window = datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
        value, size = Decimal(repr(message["tradePrice"])), Decimal(repr(message["size"]))
        new = {"open": value, "high": value, "low": value, "count": 0, "volume": 0, "money": 0, "buy": 0}
        candle = found.setdefault((message["symbol"], window), new)
        candle["high"], candle["low"] = max(candle["high"], value), min(candle["low"], value)
        candle["close"] = value
        candle["count"] += 1
        candle["volume"] += size
        candle["money"] += value * size
        candle["buy"] += size if message.get("side") == "buy" else 0
    return found


def test_candles_of_trades_equal_a_naive_computation(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("trade", partitions=2)
    messages = trades(800, seed=4)
    chance = random.Random(5)
    shuffled = chance.sample(messages, len(messages))
    # A feed that was started again brings some trades twice.
    for part in (shuffled[:300], shuffled[300:], messages[100:200]):
        send(broker_settings.brokers, name, part)
        land(lake, broker_settings, spec_named("trade"), topic=name)
        build_candles(lake)
    for timeframe, length in (("1m", 60), ("5m", 300), ("1h", 3600)):
        rows = query(
            lake,
            "SELECT symbol, open_time, open_price, high_price, low_price, close_price, trades, volume,"
            " taker_buy_volume, vwap FROM candles"
            " WHERE timeframe = $t AND exchange_id = 'binance-trades' ORDER BY ALL",
            {"t": timeframe},
        ).rows
        wanted = naive(messages, timedelta(seconds=length))
        assert [(symbol, at) for symbol, at, *_ in rows] == sorted(wanted)
        for symbol, at, opened, high, low, close, count, volume, buy, vwap in rows:
            one = wanted[symbol, at]
            prices = tuple(float(one[name]) for name in ("open", "high", "low", "close"))
            assert (opened, high, low, close) == prices
            assert (count, volume, buy) == (one["count"], float(one["volume"]), float(one["buy"]))
            assert vwap == pytest.approx(float(one["money"] / one["volume"]), rel=1e-12)


def test_a_quote_stamped_a_day_ahead_closes_no_candle(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("level1")
    quoted = [level1(number * 100) for number in range(30)]
    ahead = level1(0, timestamp=iso(START + timedelta(days=1)), symbol="ETH/USDT")
    send(broker_settings.brokers, name, [*quoted, ahead])
    land(lake, broker_settings, QUOTES, topic=name)
    with RedpandaClient(broker_settings) as client:
        assert build_candles(lake, client).produced == 0
        send(broker_settings.brokers, name, [level1(7_000)])
        land(lake, broker_settings, QUOTES, topic=name)
        assert build_candles(lake, client).produced == 1
    [closed] = query(lake, "SELECT symbol, timeframe, open_time FROM candles WHERE final").rows
    assert closed == ("BTC/USDT", "1m", START)


def test_candles_of_quotes_have_no_volume(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(number) for number in range(5)])
    land(lake, broker_settings, QUOTES, topic=name)
    build_candles(lake)
    found = query(lake, "SELECT DISTINCT volume, trades, taker_buy_volume, vwap FROM candles").rows
    assert found == [(0.0, 0, 0.0, None)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(1, 50)), max_size=30), st.randoms()
)
def test_the_order_of_rows_in_the_files_does_not_matter(
    rows: list[tuple[int, int, int]], dice: random.Random
) -> None:
    """Rows that a landing left in order per symbol are not sorted; others are."""
    start = datetime(2026, 1, 5, 10, tzinfo=UTC)
    sent: list[dict[str, Any]] = [
        {
            "symbol": f"COIN{number}/USDT",
            "at": start + timedelta(seconds=second),
            "value": float(price),
            "last_updated": start,
            "partition": number % 2,
            "offset": offset,
        }
        for offset, (number, second, price) in enumerate(rows)
    ]
    by_time = sorted(sent, key=lambda quote: (quote["at"], quote["partition"], quote["offset"]))
    by_symbol = sorted(by_time, key=lambda quote: str(quote["symbol"]))
    shuffled = dice.sample(sent, len(sent))
    expected = _first_and_last(by_time)
    for order in (by_time, by_symbol, sent, shuffled):
        ticks = pl.DataFrame(order, schema=TICKS)
        found = compute_candles(ticks, SOURCES[0], "binance").filter(pl.col("timeframe") == "1m")
        prices = found.select("symbol", "open_time", "open_price", "close_price", "ticks").rows()
        assert {(symbol, at): (first, last, count) for symbol, at, first, last, count in prices} == expected


TICKS = pl.Schema(
    {
        "symbol": pl.Categorical(),
        "at": pl.Datetime("us", "UTC"),
        "value": pl.Float64(),
        "last_updated": pl.Datetime("us", "UTC"),
        "partition": pl.Int32(),
        "offset": pl.Int64(),
    }
)


def _first_and_last(sent: list[dict[str, Any]]) -> dict[tuple[str, datetime], tuple[float, float, int]]:
    """Return the first and the last price and the number of quotes of each symbol and minute."""
    found: dict[tuple[str, datetime], list[float]] = {}
    for quote in sent:
        found.setdefault((quote["symbol"], quote["at"].replace(second=0)), []).append(quote["value"])
    return {key: (prices[0], prices[-1], len(prices)) for key, prices in found.items()}


NUMBERS = st.one_of(
    st.integers(-(10**37), 10**37),
    st.integers(0, 10**27).map(lambda units: units * 10**10),
    st.integers(0, 2**20 + 2).flatmap(lambda high: st.integers(high * 2**64 - 1, high * 2**64 + 1)),
)


@given(st.lists(st.none() | NUMBERS), st.lists(NUMBERS), st.integers(0, 3))
def test_decimals_become_the_nearest_floats(some: list[int | None], others: list[int], skipped: int) -> None:
    found = [
        [None if unit is None else Decimal(unit).scaleb(-SCALE) for unit in each] for each in (some, others)
    ]
    column = pa.chunked_array([pa.array(each, NUMBER) for each in found], NUMBER).slice(skipped)
    nearest = [None if number is None else float(number) for number in column.to_pylist()]
    assert nearest_floats(column).to_pylist() == nearest
