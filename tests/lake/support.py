"""Messages in topics, and what became of them in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from confluent_kafka import Producer

from coinstream.lake.store import Lake

START = datetime(2026, 1, 5, 10, tzinfo=UTC)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def level1(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Wire fields of a good quote."""
    at = START + timedelta(milliseconds=10 * number)
    return {
        "exchangeId": "binance",
        "symbol": "BTC/USDT",
        "bestBid": 61000.12,
        "bestAsk": 61000.13,
        "bidSize": 0.5,
        "askSize": 33.35399601000002,
        "timestamp": iso(at),
        "lastUpdated": iso(at + timedelta(milliseconds=20)),
        **fields,
    }


def price(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Wire fields of a good price."""
    at = START + timedelta(milliseconds=10 * number)
    return {
        "exchangeId": "kraken",
        "symbol": "ETH/USD",
        "usdPrice": 2500.5,
        "lastUpdated": iso(at),
        **fields,
    }


def ohlcv(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Wire fields of a good candle of one minute."""
    at = START + timedelta(minutes=number)
    return {
        "exchangeId": "binance",
        "symbol": "BTC/USDT",
        "timeframe": "1m",
        "openTime": iso(at),
        "closeTime": iso(at + timedelta(minutes=1)),
        "openPrice": 100.0,
        "highPrice": 110.0,
        "lowPrice": 90.0,
        "closePrice": 105.0,
        "volume": 12.5,
        "lastUpdated": iso(at + timedelta(minutes=1)),
        **fields,
    }


def analytics(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Wire fields of good analytics."""
    at = START + timedelta(minutes=number)
    return {
        "exchangeId": "coingecko",
        "totalMarketCap": 2.4e12,
        "totalVolume": 9.1e10,
        "btcDominance": 54.2,
        "lastUpdated": iso(at),
        **fields,
    }


def _timed(number: int, fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    at = START + timedelta(milliseconds=10 * number)
    times = {"timestamp": iso(at), "lastUpdated": iso(at + timedelta(milliseconds=20))}
    return {"exchangeId": "binance", "symbol": "BTC/USDT:USDT", **fields, **times, **more}


def trade(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the wire fields of a valid trade."""
    fixed = {"tradeId": str(number), "tradePrice": 61000.12, "size": 0.5, "side": "buy"}
    return _timed(number, fixed, fields)


def book(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the wire fields of a valid book."""
    levels = {"bids": [[61000.12, 0.5], [61000.0, 2]], "asks": [[61000.13, 1.25]], "depth": 20}
    return _timed(number, {**levels, "sequence": number}, fields)


def derivative_ticker(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the wire fields of a valid derivative ticker."""
    fixed = {"markPrice": 61000.12, "indexPrice": 61001.5, "fundingRate": -0.0001, "openInterest": 1234.5}
    return _timed(number, {**fixed, "nextFundingTime": iso(START + timedelta(hours=8))}, fields)


def liquidation(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the wire fields of a valid liquidation."""
    return _timed(number, {"liquidationPrice": 60000.5, "size": 0.25, "side": "sell"}, fields)


GOOD = {
    "level1": level1,
    "price": price,
    "ohlcv": ohlcv,
    "analytics": analytics,
    "trade": trade,
    "book": book,
    "derivativeticker": derivative_ticker,
    "liquidation": liquidation,
}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def send(
    bootstrap: str, topic: str, payloads: Iterable[bytes | dict[str, Any] | None], **options: Any
) -> int:
    """Produce payloads as they are; how many. Wire fields become JSON."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    count = 0
    for count, payload in enumerate(payloads, start=1):
        value = msgspec.json.encode(payload) if isinstance(payload, dict) else payload
        producer.produce(topic, value, key=str(count % 7), **options)
        producer.poll(0)
    assert producer.flush(60) == 0
    return count


def places(lake: Lake, table: str) -> Counter[tuple[str, int, int]]:
    """How often each topic, partition and offset is in the table."""
    found = lake.find(table)
    if found is None:
        return Counter()
    rows = found.scan(selected_fields=("topic", "partition", "offset")).to_arrow()
    return Counter(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def rows(lake: Lake, table: str) -> Sequence[dict[str, Any]]:
    found = lake.find(table)
    assert found is not None
    sorted_rows = found.scan().to_arrow().sort_by([("partition", "ascending"), ("offset", "ascending")])
    return list(sorted_rows.to_pylist())
