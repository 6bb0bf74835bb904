"""Candles against an independent computation."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from confluent_kafka import Consumer, TopicPartition

from coinstream.client import RedpandaClient
from coinstream.lake.candles import build_candles
from coinstream.lake.compaction import compact
from coinstream.lake.landing import land
from coinstream.lake.query import query
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.messages import Ohlcv
from coinstream.serialization import Decoder
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import catalogue
from tests.conftest import TopicFactory
from tests.lake.support import START, iso, level1, price, send

QUOTES, PRICES = spec_named("level1"), spec_named("price")


def quotes(count: int, seed: int, step_s: float = 7.3) -> list[dict[str, Any]]:
    """A random walk of two symbols, quoted every few seconds."""
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
    """The candles in crypto-ohlcv from the given offsets on."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "t", "enable.partition.eof": True})
    reader.assign([TopicPartition("crypto-ohlcv", part, at) for part, at in since.items()])
    decoder, found, ended = Decoder(), [], 0
    while ended < len(since):
        message = reader.poll(10)
        assert message is not None
        if message.error():
            ended += 1
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
    provisioner = Provisioner(brokers)
    provisioner.apply(provisioner.plan(catalogue()))


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
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    provision(broker_settings)
    name = topic("price")
    for hour in range(3):
        send(broker_settings.brokers, name, (price(hour * 360_000 + i * 1_000) for i in range(30)))
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
