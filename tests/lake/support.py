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


GOOD = {"level1": level1, "price": price, "ohlcv": ohlcv, "analytics": analytics}


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
    return found.scan().to_arrow().sort_by([("partition", "ascending"), ("offset", "ascending")]).to_pylist()
