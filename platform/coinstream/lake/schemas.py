"""The table of each message type, derived from its one definition.

Numbers are decimal(38,18): eight decimals of a price and the noise that exchanges put behind sizes fit,
with 20 digits before the point for market caps in any currency. They are read from the digits on the
wire, never through a float.
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
"""The column that says when a message was true, by type; elsewhere `last_updated`."""

EXTRA: Final = pa.field("extra", pa.string())
"""Fields that the type does not know, as one JSON object.

They are kept but make no columns of their own: one wrong producer would widen the table for ever. A
field that is added to the message's definition becomes a column.
"""
PROVENANCE: Final = (
    pa.field("topic", pa.string(), nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("record_timestamp", TIME, nullable=False),
)
"""Where a row comes from: no two rows of a table share topic, partition and offset."""
INGESTED: Final = pa.field("ingested_at", TIME, nullable=False)

QUARANTINE: Final = "quarantine"
FLAGGED: Final = "flagged"
VIOLATION_TABLES: Final = {
    QUARANTINE: "Refused messages: those that break a rule which refuses rows, with the rules and the bytes.",
    FLAGGED: "Stored messages that break a rule which only warns, with the rules and the bytes.",
}
"""The tables of messages that break a rule, by what became of the message."""
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

`stored` tells whether the row is in the table of its type. `record_timestamp` is null where the record's is
not in milliseconds; the reason then holds its number.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A field of a message as a column: its wire name, its type, and whether it is a price or required."""

    name: str
    wire: str
    type: pa.DataType
    required: bool
    is_price: bool


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The table of one message type."""

    kind: MessageType
    columns: tuple[Column, ...]
    event_time: str

    @property
    def name(self) -> str:
        """The table's name, which is the type's."""
        return self.kind.name

    @property
    def message_schema(self) -> pa.Schema:
        """The message's own columns."""
        return pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in self.columns])

    @property
    def schema(self) -> pa.Schema:
        """All columns: the message, what it does not know, where it comes from, when it came."""
        return pa.schema([*self.message_schema, EXTRA, *PROVENANCE, INGESTED])

    @property
    def times(self) -> tuple[Column, ...]:
        """The columns that hold times."""
        return tuple(column for column in self.columns if column.type == TIME)

    @property
    def numbers(self) -> tuple[Column, ...]:
        """The columns that hold decimals."""
        return tuple(column for column in self.columns if column.type == NUMBER)

    @property
    def prices(self) -> tuple[Column, ...]:
        """The columns that hold prices."""
        return tuple(column for column in self.columns if column.is_price)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that tell one series from another."""
        names = {column.name for column in self.columns}
        return tuple(name for name in ("exchange_id", "symbol", "timeframe") if name in names)


@lru_cache(maxsize=64)
def table_spec(kind: MessageType) -> TableSpec:
    """The table of a message type.

    Raises:
        LakeError: a field has a type that no column can hold.
    """
    columns = tuple(_columns(kind))
    wanted = EVENT_TIMES.get(kind.name, "last_updated")
    return TableSpec(kind, columns, wanted)


def spec_named(name: str) -> TableSpec:
    """The table of that name.

    Raises:
        LakeError: no message type has the name.
    """
    kind = MESSAGE_TYPES.get(name)
    if kind is None:
        raise LakeError(f"no table {name!r}; {did_you_mean(name, MESSAGE_TYPES)}")
    return table_spec(kind)


def _columns(kind: MessageType) -> Iterator[Column]:
    prices = frozenset(price_fields(kind.cls))
    for field in msgspec.structs.fields(kind.cls):
        yield Column(field.name, field.encode_name, _arrow(kind, field), field.required, field.name in prices)


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
