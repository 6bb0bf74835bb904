"""`coinstream tail`: print the decoded messages of a topic."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from confluent_kafka import Message as Record

from coinstream.cli.completion import topic_names
from coinstream.cli.output import broker, progress_console
from coinstream.cli.signals import stopping
from coinstream.consumer.consumed_message import headers_of, key_of, offset_of, value_of
from coinstream.consumer.tail_reader import TailReader
from coinstream.errors import DecodeError
from coinstream.messages import type_of
from coinstream.serialization import Decoder

app = typer.Typer()

_RAW_SHOWN = 200
"""Bytes shown of a payload that is no message."""


class Line(msgspec.Struct, rename="camel", omit_defaults=True):
    """One record as `--json` prints it. A record that is no message has `error` and `raw` instead."""

    topic: str
    partition: int
    offset: int
    time: str | None
    key: str | None
    headers: dict[str, str] = {}
    type: str | None = None
    message: Any = None
    unknown: Mapping[str, Any] | None = None
    error: str | None = None
    raw: str | None = None


@app.command(
    epilog="Examples:\n\n"
    "coinstream tail crypto-level1\n\n"
    "coinstream tail crypto-prices --from-beginning --limit 5 --json\n\n"
    "coinstream tail crypto-level1.dlq --from-beginning --no-follow | wc -l"
)
def tail(
    topic: Annotated[str, typer.Argument(help="The topic.", autocompletion=topic_names)],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest message instead of the next one.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="Stop after so many.", min=1)] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", help="Only this one. May be repeated.", min=0)
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only messages with exactly this key.")] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Stop at the end of the topic instead of waiting for more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a message.")] = False,
) -> None:
    """Print messages as they come: time, partition, offset, key, fields. Ctrl-C ends it.

    A record that is no message of the platform is shown as such.
    """
    stop = threading.Event()
    decoder = Decoder()
    with (
        stopping(stop),
        broker() as settings,
        TailReader(settings, topic, from_beginning=from_beginning, partitions=partition or ()) as reader,
    ):
        if not json and sys.stdout.isatty():
            progress_console.print("[dim]time                      partition:offset  key  message[/]")
        left = limit
        for batch in _until(reader, stop, no_follow=no_follow):
            wanted = [record for record in batch if key is None or key_of(record) == key.encode()][:left]
            lines = [_line(record, decoder) for record in wanted]
            sys.stdout.write("".join(_as_json(line) if json else _as_text(line) for line in lines))
            sys.stdout.flush()
            if left is not None and (left := left - len(wanted)) == 0:
                return


def _until(reader: TailReader, stop: threading.Event, *, no_follow: bool) -> Iterator[list[Record]]:
    for batch in reader:
        yield batch
        if stop.is_set() or (no_follow and reader.at_end):
            return


def _line(record: Record, decoder: Decoder) -> Line:
    key, headers, stamp = key_of(record), headers_of(record), record.timestamp()[1]
    line = Line(
        record.topic() or "",
        record.partition() or 0,
        offset_of(record),
        _iso(datetime.fromtimestamp(stamp / 1000, UTC)) if stamp >= 0 else None,
        None if key is None else _text(key),
        {name: _text(value) for name, value in headers},
    )
    value = value_of(record)
    try:
        message, unknown = decoder.decode(value, headers, line.topic)
    except DecodeError as error:
        line.error = str(error)
        line.raw = None if value is None else _text(value[:_RAW_SHOWN])
        return line
    line.type = type_of(message).name
    line.message = message
    line.unknown = unknown or None
    return line


def _as_json(line: Line) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode() + "\n"


def _as_text(line: Line) -> str:
    place = (
        f"{line.time or '-':<24}  {line.partition}:{line.offset}  {line.key if line.key is not None else '-'}"
    )
    if line.error is not None:
        raw = "" if line.raw is None else f"  {line.raw!r}"
        return f"{place}  not a message: {line.error}{raw}\n"
    fields = {**msgspec.to_builtins(line.message), **(line.unknown or {})}
    return f"{place}  {line.type}  " + " ".join(f"{name}={value}" for name, value in fields.items()) + "\n"


def _text(content: bytes) -> str:
    # Bytes that are no text stay readable, and distinct.
    return content.decode("utf-8", errors="backslashreplace")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
