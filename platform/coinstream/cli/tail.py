"""Print the decoded messages of a topic: `coinstream tail`."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from confluent_kafka import Message as Record

from coinstream.cli import stopping
from coinstream.cli.dlq import moment
from coinstream.cli.output import broker, progress_console, topic_names
from coinstream.consumer.tail_reader import TailReader
from coinstream.errors import DecodeError
from coinstream.kafka.partition_reader import OffsetRange
from coinstream.kafka.records import (
    headers_of,
    key_of,
    offset_of,
    readable_headers,
    timestamp_ms_of,
    value_of,
)
from coinstream.messages import type_of
from coinstream.serialization import MessageDeserializer, decompress, is_compressed
from coinstream.text import format_timestamp, printable, printable_json

app = typer.Typer()

_RAW_SHOWN = 200
"""Bytes shown of a payload that is not a message."""


class TailLine(msgspec.Struct, rename="camel", omit_defaults=True):
    """One record as printed by `--json`. A record that is not a message has `error` and `raw` instead."""

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
        bool, typer.Option("--from-beginning", help="Start at the oldest message instead of the end.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Start at this record time, in ISO-8601.")
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option("--offset", help="Start at this offset in each partition, at most at its end.", min=0),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", help="Only messages whose payload matches this regular expression."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", help="Stop after this many messages.", min=1)
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", "-p", help="Only this partition; may be repeated.", min=0),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only messages with exactly this key.")] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Stop at the end of the topic instead of waiting for more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per message.")] = False,
) -> None:
    """Print messages as they arrive: time, partition, offset, key, fields. Ctrl-C exits.

    A record that is not a valid message is printed with its error.
    """
    start = _start(from_beginning=from_beginning, since=since, offset=offset)
    part = OffsetRange(moment(since, "--since"), from_offset=start, partitions=tuple(partition or ()) or None)
    pattern = _pattern(grep)
    stop = threading.Event()
    decoder = MessageDeserializer()
    with stopping(stop), broker() as settings, TailReader(settings, topic, part) as reader:
        if not json and sys.stdout.isatty():
            progress_console.print("[dim]time                      partition:offset  key  message[/]")
        batches = _until(reader, stop, no_follow=no_follow)
        _print((_selected(batch, decoder, key, pattern) for batch in batches), limit, json)


def _print(batches: Iterator[Iterator[TailLine]], limit: int | None, json: bool) -> None:
    left = None if limit is None else min(limit, sys.maxsize)
    for found in batches:
        lines = [_as_json(line) if json else _as_text(line) for line in islice(found, left)]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        if left is not None and (left := left - len(lines)) == 0:
            return


def _start(*, from_beginning: bool, since: str | None, offset: int | None) -> int | None:
    """Return the first offset to read; None means the time of --since, or the end."""
    if sum((from_beginning, since is not None, offset is not None)) > 1:
        raise typer.BadParameter("give only one of --from-beginning, --since and --offset")
    return 0 if from_beginning else offset


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise typer.BadParameter(
            f'invalid regular expression "{text}": {error}', param_hint="--grep"
        ) from None


def _selected(
    records: list[Record], decoder: MessageDeserializer, key: str | None, pattern: re.Pattern[str] | None
) -> Iterator[TailLine]:
    wanted = None if key is None else key.encode("utf-8", "surrogateescape")
    for record in records:
        if wanted is not None and key_of(record) != wanted:
            continue
        if pattern is None or pattern.search(_searched(record)):
            yield _line(record, decoder)


def _searched(record: Record) -> str:
    """Return the text that --grep searches: the payload, decompressed if a header marks it as compressed."""
    value = value_of(record) or b""
    try:
        value = decompress(value) if is_compressed(readable_headers(record)) else value
    except DecodeError:
        return _plain(value)
    return _plain(value)


def _until(reader: TailReader, stop: threading.Event, *, no_follow: bool) -> Iterator[list[Record]]:
    for batch in reader:
        yield batch
        if stop.is_set() or (no_follow and reader.at_end):
            return


def _line(record: Record, decoder: MessageDeserializer) -> TailLine:
    key, value = key_of(record), value_of(record)
    line = TailLine(
        record.topic() or "",
        record.partition() or 0,
        offset_of(record),
        format_timestamp(timestamp_ms_of(record)),
        None if key is None else _plain(key),
        {name: _plain(content) for name, content in readable_headers(record)},
    )
    try:
        message, unknown = decoder.decode(value, headers_of(record), line.topic)
    except DecodeError as error:
        line.error = str(error)
        line.raw = None if value is None else _plain(value[:_RAW_SHOWN])
        return line
    line.type = type_of(message).name
    line.message = message
    line.unknown = unknown or None
    return line


def _as_json(line: TailLine) -> str:
    return printable_json(msgspec.json.encode(line, enc_hook=str).decode()) + "\n"


def _as_text(line: TailLine) -> str:
    position = f"{line.partition}:{line.offset}"
    key = line.key if line.key is not None else "-"
    start = f"{line.time or '-':<24}  {position}  {key}"
    if line.error is not None:
        raw = "" if line.raw is None else f"  {line.raw}"
        return printable(f"{start}  not a message: {line.error}{raw}") + "\n"
    fields = {**msgspec.to_builtins(line.message), **(line.unknown or {})}
    content = " ".join(f"{name}={value}" for name, value in fields.items())
    return printable(f"{start}  {line.type}  {content}") + "\n"


def _plain(content: bytes) -> str:
    """Return bytes as text, with bytes that are not UTF-8 escaped; printing escapes control characters."""
    return content.decode("utf-8", errors="backslashreplace")
