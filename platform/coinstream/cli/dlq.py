"""List, show and replay dead letters: `coinstream dlq`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from coinstream.cli.output import AsJson, broker, cell, console, print_json, topic_names
from coinstream.cli.rendering import progress
from coinstream.dlq import (
    MAX_REPLAYS,
    DeadLetterQueue,
    DeadLetterReplay,
)
from coinstream.dlq.entry import DeadLetterEntry, DeadLetterFilter
from coinstream.dlq.publisher import topics_with_dead_letters
from coinstream.errors import CoinstreamError
from coinstream.text import format_timestamp, parse_time, printable, readable

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)

_EXAMPLES = """
Examples:

coinstream dlq list

coinstream dlq list crypto-level1 --error DecodeError

coinstream dlq show crypto-level1 --partition 3 --offset 1200

coinstream dlq show crypto-feeds --entry 0:12

coinstream dlq replay crypto-level1 --since 2026-11-01T00:00:00Z --dry-run
"""

Topic = Annotated[
    str,
    typer.Argument(help="The original topic, for example crypto-level1.", autocompletion=topic_names),
]
Error = Annotated[str | None, typer.Option("--error", help="Only errors that contain this text.")]
Key = Annotated[str | None, typer.Option("--key", help="Only messages with this key.")]
Since = Annotated[
    str | None, typer.Option("--since", help="Only messages that failed at this time or later.")
]
Until = Annotated[str | None, typer.Option("--until", help="Only messages that failed before this time.")]
Partition = Annotated[int | None, typer.Option("--partition", help="Only this original partition.")]
Offset = Annotated[int | None, typer.Option("--offset", help="Only this original offset.")]
Entry = Annotated[
    str | None,
    typer.Option("--entry", help="Only the entry at this PARTITION:OFFSET of the dead-letter topic."),
]
_LONGEST = 60
_UNKNOWN = "-"


@app.command("list", epilog=_EXAMPLES)
def show_list(
    topic: Annotated[
        str | None,
        typer.Argument(help="The original topic. Default: all topics.", autocompletion=topic_names),
    ] = None,
    error: Error = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    limit: Annotated[int, typer.Option("--limit", help="Maximum entries to print; all are counted.")] = 50,
    json: AsJson = False,
) -> None:
    """List the dead letters of a topic and count them by error; without a topic, count them by topic."""
    wanted = _filter(error, key, since, until, partition, None)
    if topic is None:
        _list_topics(wanted, as_json=json)
        return
    errors: Counter[str] = Counter()
    with broker() as settings:
        found = _counted(DeadLetterQueue(settings, topic).read(wanted), errors)
        rows = [_row(entry) for number, entry in enumerate(found) if number < limit]
    total = errors.total()
    if json:
        print_json({"topic": topic, "total": total, "by_error": errors, "dead_letters": rows})
        return
    table = Table("failed at", "entry", "from", "key", "attempts", "error", "replayed", box=None)
    for row in rows:
        table.add_row(
            cell(row["failed_at"] or _UNKNOWN),
            f"{row['entry_partition']}:{row['entry_offset']}",
            cell(row["from"]),
            cell(row["key"]),
            str(row["attempts"]),
            cell(row["error"][:_LONGEST]),
            "yes" if row["replayed"] else "",
        )
    console.print(table)
    counts = ", ".join(f"{count:,} {printable(name)}" for name, count in errors.most_common())
    console.print(f"{total:,} dead letter(s){': ' + counts if counts else ''}.", markup=False)


@app.command("show", epilog=_EXAMPLES)
def show_whole(
    topic: Topic,
    partition: Partition = None,
    offset: Offset = None,
    entry: Entry = None,
    json: AsJson = False,
) -> None:
    """Show one dead letter with its headers, error and complete value.

    Select it by its original --partition and --offset, or by its --entry in the dead-letter topic.
    """
    if entry is None and (partition is None or offset is None):
        raise typer.BadParameter(
            "give --partition and --offset, or --entry as `coinstream dlq list` shows it"
        )
    wanted = DeadLetterFilter(partition=partition, offset=offset, entry=_entry(entry))
    is_found = False
    with broker() as settings:
        for found in DeadLetterQueue(settings, topic).read(wanted):
            is_found = True
            row = _row(found) | {
                "headers": [(name, readable(value)) for name, value in found.dead_letter.headers],
                "value": _plain(found.dead_letter.value),
            }
            if json:
                print_json(row)
                continue
            for name, value in row.items():
                console.print(f"[bold]{name}[/]: ", end="")
                text = _UNKNOWN if value is None else str(value)
                console.print(printable(text, keep_newlines=True), markup=False)
    if not is_found:
        position = f"entry {entry}" if entry else f"{topic}[{partition}] offset {offset}"
        raise CoinstreamError(f"{position} is not among the dead letters of {topic}")


@app.command("replay", epilog=_EXAMPLES)
def replay(
    topic: Topic,
    error: Error = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    offset: Offset = None,
    entry: Entry = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Send to this topic instead of the original one.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Replay at most this many.")] = None,
    most: Annotated[
        int,
        typer.Option(
            "--max-replays", "--most-replays", help="Skip messages that failed again after this many replays."
        ),
    ] = MAX_REPLAYS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the number of dead letters.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Send dead letters to their original topic, each once. Replays are recorded.

    Exits with 1 if an entry is truncated and its original record no longer exists.
    """
    wanted = _filter(error, key, since, until, partition, offset, entry)
    with broker() as settings:
        queue = DeadLetterQueue(settings, topic)
        if dry_run:
            count = sum(not found.is_replayed and found.replays < most for found in queue.read(wanted))
            count = count if limit is None else min(count, limit)
            print_json({"would_replay": count}) if json else console.print(f"Would replay {count:,}.")
            return
        with progress(f"replaying {queue.dlq_topic}", quiet=json, unit="entries") as tell:
            done = queue.replay(
                wanted,
                to=to,
                max_replays=most,
                limit=limit,
                on_progress=lambda at, total: tell(float(at), total),
            )
    print_json(done) if json else _render_replay(done, most)
    if done.incomplete:
        raise typer.Exit(1)


def _render_replay(done: DeadLetterReplay, most: int) -> None:
    console.print(
        f"Replayed {done.replayed:,}; skipped {done.already:,} replayed before, "
        f"{done.exhausted:,} that failed again after {most} replay(s), "
        f"{done.incomplete:,} truncated ones whose original record no longer exists."
    )


def moment(text: str | None, option: str) -> datetime | None:
    """Parse the time of a command-line option in ISO-8601; without a time zone it is UTC.

    Raises:
        BadParameter: the text is not a time.
    """
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _filter(
    error: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    offset: int | None,
    entry: str | None = None,
) -> DeadLetterFilter:
    times = moment(since, "--since"), moment(until, "--until")
    return DeadLetterFilter(error, key, *times, partition, offset, _entry(entry))


def _entry(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    partition, _, offset = text.partition(":")
    if not (text.isascii() and partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f'invalid entry "{text}"; expected PARTITION:OFFSET', param_hint="--entry")
    return int(partition), int(offset)


def _list_topics(wanted: DeadLetterFilter, *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    with broker() as settings:
        for topic in topics_with_dead_letters(settings):
            errors: Counter[str] = Counter()
            newest_ms, replayed = -1, 0
            for entry in _counted(DeadLetterQueue(settings, topic).read(wanted), errors):
                newest_ms = max(newest_ms, entry.failed_ms)
                replayed += entry.is_replayed
            row: dict[str, Any] = {
                "topic": topic,
                "total": errors.total(),
                "replayed": replayed,
                "by_error": errors,
            }
            found.append(row | {"newest": format_timestamp(newest_ms)})
    if as_json:
        print_json({"topics": found})
        return
    table = Table("topic", "dead letters", "replayed", "newest", "by error", box=None)
    for row in (row for row in found if row["total"]):
        most = sorted(row["by_error"].items(), key=lambda pair: -pair[1])[:3]
        by_error = ", ".join(f"{count:,} {name}" for name, count in most)
        numbers = (f"{row[name]:,}" for name in ("total", "replayed"))
        table.add_row(cell(row["topic"]), *numbers, cell(row["newest"] or _UNKNOWN), cell(by_error))
    total = sum(row["total"] for row in found)
    console.print(table)
    console.print(f"{total:,} dead letter(s) in {len(found)} dead-letter topic(s).")


def _counted(entries: Iterator[DeadLetterEntry], errors: Counter[str]) -> Iterator[DeadLetterEntry]:
    for entry in entries:
        errors[entry.dead_letter.error_type or "?"] += 1
        yield entry


def _row(entry: DeadLetterEntry) -> dict[str, Any]:
    dead_letter = entry.dead_letter
    is_known = dead_letter.offset >= 0
    return {
        "topic": dead_letter.topic,
        "partition": dead_letter.partition if is_known else None,
        "offset": dead_letter.offset if is_known else None,
        "from": dead_letter.origin,
        "key": _plain(dead_letter.key),
        "timestamp": format_timestamp(dead_letter.timestamp_ms),
        "failed_at": format_timestamp(entry.failed_ms),
        "group": dead_letter.group,
        "attempts": dead_letter.attempts,
        "error_type": dead_letter.error_type,
        "error": dead_letter.error,
        "value_bytes": len(dead_letter.value or b"")
        if dead_letter.value_bytes is None
        else dead_letter.value_bytes,
        "truncated": dead_letter.is_truncated,
        "replays": entry.replays,
        "replayed": entry.is_replayed,
        "entry_partition": entry.partition,
        "entry_offset": entry.offset,
    }


def _plain(content: bytes | None) -> str:
    """Return bytes as text, which is escaped when printed."""
    return "" if content is None else content.decode("utf-8", errors="backslashreplace")
