"""Derive the columns of a message type for sinks, one per field in the order of its definition."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from coinstream.messages import MessageType

ColumnType = Literal["text", "float", "int", "time", "json"]


class Column(NamedTuple):
    """One field of a message type: its Python name and value type."""

    name: str
    type: ColumnType


def columns_of(kind: MessageType) -> list[Column]:
    """Return the columns of a message type; lists and objects are `json`."""
    hints = get_type_hints(kind.cls)
    return [Column(field.name, _type(hints[field.name])) for field in msgspec.structs.fields(kind.cls)]


def _type(hint: Any) -> ColumnType:
    kinds = {part for part in _parts(hint) if part is not type(None)}
    if kinds == {str}:
        return "text"
    if kinds == {datetime}:
        return "time"
    if kinds == {int}:
        return "int"
    if kinds <= {int, float}:
        return "float"
    return "json"


def _parts(hint: Any) -> Iterator[type]:
    if get_origin(hint) is Literal:
        yield from {type(value) for value in get_args(hint)}
    elif get_origin(hint) in (list, tuple, dict) or not get_args(hint):
        yield get_origin(hint) or hint
    else:
        for part in get_args(hint):
            yield from _parts(part)
