"""Format values of coinstream as Dagster metadata."""

import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import dagster as dg
import msgspec

from coinstream.consumer.tail_reader import TopicRecord
from coinstream.errors import DecodeError
from coinstream.messages import MessageType
from coinstream.serialization import decompress, is_compressed
from coinstream.text import format_timestamp, readable
from coinstream.topics.plan import TopicPlan

_ON_THE_WIRE: Final = {
    "exchangeId": "The exchange, or the source of analytics.",
    "symbol": "Base and quote currency, for example BTC/USDT.",
    "usdPrice": "Last price in US dollars or a dollar-pegged quote currency.",
    "volume24h": "Volume of the last 24 hours.",
    "priceChange24h": "Change of the price in the last 24 hours, in per cent.",
    "marketCap": "Market capitalization in US dollars.",
    "timeframe": "Length of the candle: 1m, 5m, 1h, …",
    "openTime": "Start of the candle, inclusive.",
    "closeTime": "End of the candle, exclusive.",
    "openPrice": "First price of the candle.",
    "highPrice": "Highest price of the candle.",
    "lowPrice": "Lowest price of the candle.",
    "closePrice": "Last price of the candle.",
    "volume": "Volume traded in the candle, in the base currency.",
    "totalMarketCap": "Market capitalization of the whole market in US dollars.",
    "totalVolume": "Volume of the whole market in 24 hours, in US dollars.",
    "btcDominance": "Bitcoin's share of the market capitalization, in per cent.",
    "ethDominance": "Ether's share of the market capitalization, in per cent.",
    "activeCryptocurrencies": "Number of active cryptocurrencies counted by the source.",
    "bestBid": "Best bid price.",
    "bestAsk": "Best ask price.",
    "bidSize": "Quantity at the best bid, in the base currency.",
    "askSize": "Quantity at the best ask, in the base currency.",
    "tradeId": "The exchange's id of the trade.",
    "tradePrice": "Price of the trade, in the quote currency.",
    "size": "Quantity, in the base currency.",
    "side": "Side of the taker, or of the liquidation order: buy or sell.",
    "bids": "Bid levels as [price, size], best first.",
    "asks": "Ask levels as [price, size], best first.",
    "depth": "Maximum number of levels per side.",
    "sequence": "The exchange's sequence number of the book.",
    "markPrice": "Mark price, in the quote currency.",
    "indexPrice": "Index price, in the quote currency.",
    "lastPrice": "Price of the last trade, in the quote currency.",
    "fundingRate": "Funding rate of the current interval, as a fraction.",
    "nextFundingTime": "Time of the next funding payment.",
    "openInterest": "Open interest, in the base currency.",
    "orderId": "The exchange's id of the liquidation order.",
    "liquidationPrice": "Price of the liquidation order, in the quote currency.",
    "timestamp": "Event time of the exchange.",
    "lastUpdated": "Receipt time, or update time of the source; also the record's timestamp.",
}
_IN_TABLES: Final = {
    "type": "Message type, which is also the name of its table.",
    "rules": "Failed expectations.",
    "reason": "Reason, if the message could not be decoded.",
    "stored": "Whether the message is stored in the table of its type.",
    "value": "Original payload, at most 65,536 bytes.",
    "topic": "Topic of the message.",
    "partition": "Partition of the topic.",
    "offset": "Offset in the partition; topic, partition and offset are unique.",
    "record_timestamp": "Timestamp of the record.",
    "ingested_at": "Time of landing.",
    "extra": "Fields that the message type does not have, as a JSON object.",
    "ticks": "Number of rows in the candle.",
    "trades": "Number of trades; 0 if the candle is not built from trades.",
    "vwap": "Volume-weighted average price of the trades (VWAP).",
    "taker_buy_volume": "Volume of trades whose taker bought, in the base currency.",
    "final": "Whether the candle had ended, and was produced, when it was last computed.",
}
_IN_PYTHON: Final = {re.sub("([A-Z])", r"_\1", name).lower(): text for name, text in _ON_THE_WIRE.items()}
MEANINGS: Final = _ON_THE_WIRE | _IN_PYTHON | _IN_TABLES
"""Descriptions of message fields and table columns."""


def _type_name(hint: Any) -> str:
    """Return the name of a field's type without its `None`."""
    is_union = get_origin(hint) in (Union, UnionType)
    parts = [part for part in get_args(hint) if part is not NoneType] if is_union else [hint]
    return " | ".join(str(getattr(part, "__name__", part)) for part in parts)


def columns(kind: MessageType) -> dg.TableSchema:
    """Return the wire fields of a message type as a table schema."""
    hints = get_type_hints(kind.cls)
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.encode_name,
                description=MEANINGS.get(field.encode_name),
                type=_type_name(hints[field.name]),
                constraints=dg.TableColumnConstraints(nullable=not field.required),
            )
            for field in msgspec.structs.fields(kind.cls)
        ]
    )


def settings_table(settings: Mapping[str, str]) -> dg.TableMetadataValue:
    """Return the settings as a table."""
    records = [dg.TableRecord({"setting": name, "value": value}) for name, value in settings.items()]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema([dg.TableColumn("setting"), dg.TableColumn("value")])
    )


_PLAN_SCHEMA: Final = dg.TableSchema(
    [dg.TableColumn(name) for name in ("setting", "actual", "wanted", "action", "reason")]
)


def plan_table(topic: TopicPlan) -> dg.TableMetadataValue:
    """Return the planned changes of a topic as a table with one row per setting."""
    records = [
        dg.TableRecord(
            {
                "setting": item.setting,
                "actual": item.actual or "",
                "wanted": item.wanted or "",
                "action": str(item.action),
                "reason": item.reason,
            }
        )
        for item in topic.differences
    ]
    return dg.MetadataValue.table(records, schema=_PLAN_SCHEMA)


_VALUE_CHARACTERS: Final = 400


_BREAK: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[,:](?=\S)')


def breakable(text: str) -> str:
    """Return JSON text with a space after each comma and colon, so that a narrow cell can wrap it.

    Strings and numbers keep their characters.
    """
    return _BREAK.sub(lambda found: found[0] if found[0].startswith('"') else f"{found[0]} ", text)


def messages_table(records: Sequence[TopicRecord]) -> dg.TableMetadataValue:
    """Return records as a table, newest first."""
    newest = sorted(records, key=lambda record: record.timestamp_ms, reverse=True)
    schema = dg.TableSchema(
        [
            dg.TableColumn("time"),
            dg.TableColumn("partition", "int"),
            dg.TableColumn("offset", "int"),
            dg.TableColumn("key"),
            dg.TableColumn("value"),
        ]
    )
    rows = [
        dg.TableRecord(
            {
                "time": format_timestamp(record.timestamp_ms) or "",
                "partition": record.partition,
                "offset": record.offset,
                "key": readable(record.key),
                "value": breakable(readable(_content(record)))[:_VALUE_CHARACTERS],
            }
        )
        for record in newest
    ]
    return dg.MetadataValue.table(rows, schema=schema)


def _content(record: TopicRecord) -> bytes:
    value = record.value or b""
    try:
        return decompress(value) if is_compressed(record.headers) else value
    except DecodeError:
        return value
