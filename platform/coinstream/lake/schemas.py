"""Derive the table of each message type from its definition.

Numbers are decimal(38,18), which holds eight decimals of a price, the float noise of sizes, and 20 digits
before the point for market capitalizations. They are read from the digits on the wire, never through a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa

from coinstream.errors import LakeError
from coinstream.messages import MESSAGE_TYPES, MessageType, level_fields, price_fields
from coinstream.text import did_you_mean

SCALE: Final = 18
NUMBER: Final = pa.decimal128(38, SCALE)
TIME: Final = pa.timestamp("us", "UTC")
LEVELS: Final = pa.list_(pa.list_(NUMBER))
"""Levels of an order book, each a list of price and size, as on the wire."""

EVENT_TIMES: Final = {
    "level1": "timestamp",
    "ohlcv": "open_time",
    "trade": "timestamp",
    "book": "timestamp",
    "derivativeticker": "timestamp",
    "liquidation": "timestamp",
}
"""Column with the event time by type; `last_updated` for other types."""

EXTRA: Final = pa.field("extra", pa.string())
"""Fields that the type does not have, as one JSON object.

They are not separate columns, because a faulty producer would then widen the table permanently. A field that
is added to the message type becomes a column.
"""
PROVENANCE: Final = (
    pa.field("topic", pa.string(), nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("record_timestamp", TIME, nullable=False),
)
"""Origin of a row; topic, partition and offset are unique within a table."""
INGESTED: Final = pa.field("ingested_at", TIME, nullable=False)

QUARANTINE: Final = "quarantine"
FLAGGED: Final = "flagged"
VIOLATION_TABLES: Final = {
    QUARANTINE: "Refused messages: those that break a rule which refuses rows, with the rules and the bytes.",
    FLAGGED: "Stored messages that break a rule which only warns, with the rules and the bytes.",
}
"""Tables of messages that fail a rule, with their descriptions."""
QUARANTINE_SCHEMA: Final = pa.schema(
    [
        pa.field("type", pa.string(), nullable=False),
        *PROVENANCE[:-1],
        PROVENANCE[-1].with_nullable(True),
        INGESTED,
        pa.field("rules", pa.list_(pa.string())),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("stored", pa.bool_(), nullable=False),
        pa.field("value", pa.binary()),
    ]
)
"""Columns of both tables.

`stored` is whether the row is in the table of its type. `record_timestamp` is null if the record's timestamp
is not in milliseconds; the reason then contains the number.
"""


@dataclass(frozen=True, slots=True)
class FieldColumn:
    """Column of a message field: wire name, type, and whether it is a price or required."""

    name: str
    wire: str
    type: pa.DataType
    required: bool
    is_price: bool


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Table of one message type."""

    kind: MessageType
    columns: tuple[FieldColumn, ...]
    event_time: str

    @property
    def name(self) -> str:
        """Return the name of the table, which is that of the type."""
        return self.kind.name

    @property
    def message_schema(self) -> pa.Schema:
        """Return the columns of the message."""
        return pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in self.columns])

    @property
    def schema(self) -> pa.Schema:
        """Return all columns: message fields, `extra`, origin and landing time."""
        return pa.schema([*self.message_schema, EXTRA, *PROVENANCE, INGESTED])

    @property
    def times(self) -> tuple[FieldColumn, ...]:
        """Return the columns of times."""
        return tuple(column for column in self.columns if column.type == TIME)

    @property
    def numbers(self) -> tuple[FieldColumn, ...]:
        """Return the columns of decimals."""
        return tuple(column for column in self.columns if column.type == NUMBER)

    @property
    def prices(self) -> tuple[FieldColumn, ...]:
        """Return the columns of prices."""
        return tuple(column for column in self.columns if column.is_price)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns that identify a series."""
        names = {column.name for column in self.columns}
        return tuple(name for name in ("exchange_id", "symbol", "timeframe") if name in names)


@lru_cache(maxsize=64)
def table_spec(kind: MessageType) -> TableSpec:
    """Return the table of a message type.

    Raises:
        LakeError: a field has a type without a column type.
    """
    columns = tuple(_columns(kind))
    wanted = EVENT_TIMES.get(kind.name, "last_updated")
    return TableSpec(kind, columns, wanted)


def spec_named(name: str) -> TableSpec:
    """Return the table of a name.

    Raises:
        LakeError: no message type has this name.
    """
    kind = MESSAGE_TYPES.get(name)
    if kind is None:
        raise LakeError(f"no table {name!r}; {did_you_mean(name, MESSAGE_TYPES)}")
    return table_spec(kind)


def _columns(kind: MessageType) -> Iterator[FieldColumn]:
    prices = frozenset(price_fields(kind.cls))
    for field in msgspec.structs.fields(kind.cls):
        yield FieldColumn(
            field.name, field.encode_name, _arrow(kind, field), field.required, field.name in prices
        )


def _arrow(kind: MessageType, field: msgspec.structs.FieldInfo) -> pa.DataType:
    for bare in _bare(msgspec.inspect.type_info(field.type)):
        match bare:
            case msgspec.inspect.FloatType():
                return NUMBER
            case msgspec.inspect.IntType():
                return pa.int64()
            case msgspec.inspect.StrType() | msgspec.inspect.LiteralType():
                return pa.string()
            case msgspec.inspect.ListType() if field.name in level_fields(kind.cls):
                return LEVELS
            case msgspec.inspect.BoolType():
                return pa.bool_()
            case msgspec.inspect.DateTimeType():
                return TIME
    raise LakeError(f"{kind.name}.{field.name} has type {field.type}, which no column of a table can hold")


def _bare(info: Any) -> Iterator[Any]:
    if isinstance(info, msgspec.inspect.Metadata):
        yield from _bare(info.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for part in info.types:
            yield from _bare(part)
    else:
        yield info


_CANDLE_PRICES: Final = ("open_price", "high_price", "low_price", "close_price")
CANDLE_SCHEMA: Final = pa.schema(
    [
        pa.field("exchange_id", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("open_time", TIME, nullable=False),
        pa.field("close_time", TIME, nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in _CANDLE_PRICES),
        pa.field("ticks", pa.int64(), nullable=False),
        pa.field("last_updated", TIME, nullable=False),
        pa.field("final", pa.bool_(), nullable=False),
        # Added later, so rows of earlier releases have none.
        pa.field("volume", pa.float64()),
        pa.field("trades", pa.int64()),
        pa.field("vwap", pa.float64()),
        pa.field("taker_buy_volume", pa.float64()),
    ]
)
"""Columns of the table of candles."""
