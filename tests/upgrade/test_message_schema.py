"""Writers and readers of two versions live side by side while a new one is rolled out."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from pyiceberg.types import LongType

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.messages import Message, Price
from coinstream.serialization import MessageDeserializer, MessageSerializer
from coinstream.serialization.json_encoder import compile_encoder
from coinstream.serialization.precision import PriceRounder
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.support import unique, wait_until

SPEC = spec_named("price")


class NextPrice(Message, forbid_unknown_fields=True, frozen=True):
    """`Price` of the next version: one more field, which may be missing."""

    exchange_id: str
    symbol: str
    usd_price: float
    last_updated: datetime
    volume_24h: float | None = msgspec.field(default=None, name="volume24h")
    price_change_24h: float | None = msgspec.field(default=None, name="priceChange24h")
    market_cap: float | None = None
    trades_24h: int | None = msgspec.field(default=None, name="trades24h")


AT = datetime(2026, 11, 1, tzinfo=UTC)
OLD = Price(exchange_id="kraken", symbol="BTC-USD", usd_price=64_000.5, volume_24h=12.5, last_updated=AT)
NEW = NextPrice(
    exchange_id="kraken", symbol="BTC-USD", usd_price=64_000.5, volume_24h=12.5, last_updated=AT, trades_24h=7
)
write_new = compile_encoder(NextPrice, PriceRounder())


def test_old_reader_with_new_field() -> None:
    decoded = MessageDeserializer().decode(write_new(NEW), topic="crypto-prices")
    assert decoded.message == OLD
    assert decoded.unknown == {"trades24h": 7}


def test_new_reader_with_old_message() -> None:
    value, _ = MessageSerializer().encode(OLD)
    read = msgspec.json.decode(value, type=NextPrice)
    assert read.trades_24h is None
    assert (read.symbol, read.usd_price, read.last_updated) == (OLD.symbol, OLD.usd_price, OLD.last_updated)


def test_writers_of_both_versions_on_one_topic(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name, seen = topic("crypto-prices"), list[ConsumedMessage]()
    stop = threading.Event()
    with RedpandaClient(broker_settings) as client:
        for _ in range(10):
            client.produce(name, [OLD])
            client.send(name, b"kraken-BTC-USD", write_new(NEW))
        client.flush()
        reading = threading.Thread(
            target=client.consume,
            args=([name], seen.append),
            kwargs={"group": unique("old"), "stop": stop, "options": GroupOptions(offset_reset="earliest")},
        )
        reading.start()
        try:
            wait_until(lambda: len(seen) == 20, what="all messages of both versions are read")
        finally:
            stop.set()
            reading.join()
    assert all(received.message == OLD for received in seen)
    # A reader of the next version takes both as well.
    newer = [msgspec.json.decode(received.record.value() or b"", type=NextPrice) for received in seen]
    assert Counter(message.trades_24h for message in newer) == {None: 10, 7: 10}
    assert Counter(bool(received.unknown) for received in seen) == {True: 10, False: 10}


def test_tables_serve_both_versions(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    """The next version lands first and widens the table; then this one lands again, as after a rollback."""
    name, lake = topic("crypto-prices", config={"retention.ms": "-1"}), lake_at(tmp_path)
    table = lake.table(SPEC)
    with table.update_schema() as change:
        change.add_column("trades_24h", LongType())
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [OLD])
        client.send(name, b"kraken-BTC-USD", write_new(NEW))
        client.flush()
    assert land(lake, broker_settings, SPEC, topic=name).rows == 2
    rows = lake.table(SPEC).scan().to_arrow()
    assert rows["trades_24h"].null_count == 2
    # What this version does not know is kept beside its columns until it does.
    assert sorted(rows["extra"].to_pylist(), key=str) == [None, '{"trades24h":7}']
