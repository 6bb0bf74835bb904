"""Check with Great Expectations that the newest messages of a topic have the schema of its type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coinstream.consumer.tail_reader import TopicRecord
from coinstream.errors import DecodeError
from coinstream.messages import MessageType, price_fields
from coinstream.serialization import MessageDeserializer, decompress, is_compressed, load_json

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

_PROBLEM: Final = "problem"
_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one expectation on a sample."""

    expectation: str
    met: bool
    unexpected: int
    examples: str


def check_sample(kind: MessageType, records: Sequence[TopicRecord]) -> list[Finding]:
    """Return the result of each expectation on a sample of a topic; an empty sample has no results.

    The first result counts the records that are not valid messages of the type, each once. The others check
    the fields of records that are JSON objects of the type; unreadable records are not counted again.
    """
    if not records:
        return []
    rows = [_row(kind, record) for record in records]
    readable, *fields = _suite(kind)
    comparable = [row for row in rows if kind.discriminator in row]
    return [*_validated(kind, rows, [readable]), *_validated(kind, comparable, fields)]


def _validated(
    kind: MessageType, rows: Sequence[dict[str, Any]], suite: Sequence[Expectation]
) -> list[Finding]:
    # Imported late because the import takes seconds.
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    frame = pd.DataFrame(list(rows))
    for name in (_PROBLEM, *_fields(kind)):
        if name not in frame:
            frame[name] = None
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    batch = (
        context.data_sources.add_pandas("topic")
        .add_dataframe_asset("sample")
        .add_batch_definition_whole_dataframe("newest")
        .get_batch({"dataframe": frame})
    )
    result = batch.validate(gx.ExpectationSuite(kind.name, expectations=list(suite)))
    return [_finding(each) for each in result.results]


def _suite(kind: MessageType) -> list[Expectation]:
    import great_expectations.expectations as gxe

    required = [
        gxe.ExpectColumnValuesToNotBeNull(column=name, meta={"title": f"{name} is there"})
        for name, needed in _fields(kind).items()
        if needed
    ]
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind.cls)}
    prices = [
        gxe.ExpectColumnValuesToBeBetween(
            column=names[name], min_value=0, meta={"title": f"{names[name]} is not negative"}
        )
        for name in price_fields(kind.cls)
    ]
    readable = gxe.ExpectColumnValuesToBeNull(
        column=_PROBLEM, meta={"title": f"every record is a valid {kind.name} message"}
    )
    return [readable, *required, *prices]


def _fields(kind: MessageType) -> dict[str, bool]:
    return {field.encode_name: field.required for field in msgspec.structs.fields(kind.cls)}


def _row(kind: MessageType, record: TopicRecord) -> dict[str, Any]:
    row: dict[str, Any] = {_PROBLEM: None}
    where = f"partition {record.partition} offset {record.offset}"
    try:
        decoded = MessageDeserializer().decode(record.value or b"", record.headers)
        if not isinstance(decoded.message, kind.cls):
            row[_PROBLEM] = f"{where}: a {type(decoded.message).__name__}"
    except DecodeError as error:
        row[_PROBLEM] = f"{where}: {error}"
    return {**_raw(record), **row}


def _raw(record: TopicRecord) -> dict[str, Any]:
    try:
        value = record.value or b""
        fields = load_json(decompress(value) if is_compressed(record.headers) else value)
    except DecodeError:
        return {}  # The problem contains the reason.
    return fields if isinstance(fields, dict) else {}


def _finding(result: Any) -> Finding:
    said = result.result or {}
    examples = [str(value) for value in said.get("partial_unexpected_list", [])[:_EXAMPLES]]
    failure = result.exception_info.get("exception_message") if not result.success else None
    return Finding(
        expectation=str(result.expectation_config.meta["title"]),
        met=bool(result.success),
        unexpected=int(said.get("unexpected_count") or 0),
        examples=failure or "; ".join(examples),
    )
