"""Decode one payload at a time, with exact digits and an error message for each fault."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, NoReturn

import msgspec
import pyarrow as pa

from coinstream.lake.schemas import LEVELS, NUMBER, SCALE, TIME, FieldColumn, TableSpec

_QUANTUM: Final = Decimal(1).scaleb(-SCALE)
_LIMIT: Final = Decimal(10) ** (38 - SCALE)
_EXACT: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)
_extra_json: Final = msgspec.json.Encoder(decimal_format="number", order="sorted")


class _Fault(Exception):  # noqa: N818 - not an error of the program: it ends as a row's fault
    pass


class StrictDecoder:
    """Strict decoder of payloads of one type."""

    def __init__(self, spec: TableSpec) -> None:
        self._columns = {column.wire: column for column in spec.columns}

    def read(self, payload: bytes | None) -> dict[str, Any]:
        """Return the row: column values and `extra`, or only `fault`."""
        try:
            return self._row(_parse(payload))
        except _Fault as fault:
            return {"fault": str(fault)}

    def _row(self, fields: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, value in fields.items():
            column = self._columns.get(name)
            if column is None:
                unknown[name] = value
            elif value is not None:
                row[column.name] = _value(column, value)
        if unknown:
            try:
                row["extra"] = _extra_json.encode(unknown).decode()
            except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError) as error:
                raise _Fault(f"unknown fields cannot be kept: {error}") from None
        return row


def _parse(payload: bytes | None) -> dict[str, Any]:
    if not payload:
        raise _Fault("empty payload (a tombstone is not a market message)")
    try:
        fields = json.loads(
            payload.decode(),
            parse_float=_number,
            parse_int=_number,
            parse_constant=_not_finite,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError as error:
        raise _Fault(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise _Fault(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _Fault(f"not a JSON object but {type(fields).__name__}")
    return fields


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise _Fault(f"number {text[:60]} is out of range") from None


def _not_finite(text: str) -> NoReturn:
    raise _Fault(f"{text} is not a number that JSON knows")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Fault(f"field {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return fields


def _value(column: FieldColumn, value: Any) -> Any:
    if column.type == NUMBER:
        return _decimal(column, value)
    if column.type == LEVELS:
        return _levels(column, value)
    if column.type == pa.int64():
        if not isinstance(value, Decimal) or value != value.to_integral_value() or abs(value) >= 2**63:
            raise _Fault(f"{column.wire} is {_shown(value)}: it must be a whole number")
        return int(value)
    if column.type == pa.bool_():
        if not isinstance(value, bool):
            raise _Fault(f"{column.wire} is {_shown(value)}: it must be true or false")
        return value
    if not isinstance(value, str):
        kind = "an ISO-8601 time" if column.type == TIME else "a text"
        raise _Fault(f"{column.wire} is {_shown(value)}: it must be {kind}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Fault(f"{column.wire} holds half a character (a lone surrogate)") from None
    return value


def _levels(column: FieldColumn, value: Any) -> list[list[Decimal]]:
    if not isinstance(value, list) or not all(isinstance(level, list) and len(level) == 2 for level in value):
        raise _Fault(f"{column.wire} is {_shown(value)}: it must be a list of [price, size]")
    return [[_decimal(column, number) for number in level] for level in value]


def _decimal(column: FieldColumn, value: Any) -> Decimal:
    if not isinstance(value, Decimal):
        raise _Fault(f"{column.wire} is {_shown(value)}: it must be a number")
    if abs(value) >= _LIMIT:
        raise _Fault(f"{column.wire} is {_shown(value)}: more than {38 - SCALE} digits before the point")
    exponent = value.normalize(_EXACT).as_tuple().exponent
    if column.is_price and isinstance(exponent, int) and exponent < -SCALE:
        raise _Fault(f"{column.wire} is {_shown(value)}: a price of {-exponent} decimals")
    # Sizes contain float noise, and digits below 1e-18 are negligible.
    return value.quantize(_QUANTUM, context=_EXACT)


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
