"""`coinstream dlq`: messages that could not be handled."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from coinstream.cli.completion import topic_names
from coinstream.cli.output import AsJson, broker, console, print_json
from coinstream.cli.progress import progress
from coinstream.dlq.queue import MAX_REPLAYS, DeadLetterEntry, DeadLetterFilter, DeadLetterQueue
from coinstream.errors import CoinstreamError

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)

_EXAMPLES = """
Examples:

coinstream dlq list crypto-level1 --error DecodeError

coinstream dlq show crypto-level1 --partition 3 --offset 1200

coinstream dlq replay crypto-level1 --since 2026-11-01T00:00:00Z --dry-run
"""

Topic = Annotated[
    str,
    typer.Argument(help="The topic whose messages failed, e.g. crypto-level1.", autocompletion=topic_names),
]
Error = Annotated[str | None, typer.Option("--error", help="Only where the error contains this.")]
Key = Annotated[str | None, typer.Option("--key", help="Only messages of this key.")]
Since = Annotated[str | None, typer.Option("--since", help="Only those that failed at this time or later.")]
Until = Annotated[str | None, typer.Option("--until", help="Only those that failed before this time.")]
Partition = Annotated[int | None, typer.Option("--partition", help="Only of this original partition.")]
Offset = Annotated[int | None, typer.Option("--offset", help="Only of this original offset.")]
_LONGEST = 60


@app.command("list", epilog=_EXAMPLES)
def show_list(
    topic: Topic,
    error: Error = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    limit: Annotated[int, typer.Option("--limit", help="Most letters to print; all are counted.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, and count them by error."""
    wanted = _filter(error, key, since, until, partition, None)
    with broker() as settings:
        found = list(DeadLetterQueue(settings, topic).read(wanted))
    errors = Counter(entry.letter.error_type or "?" for entry in found)
    if json:
        rows = [_as_dict(entry, whole=False) for entry in found[:limit]]
        print_json({"topic": topic, "total": len(found), "by_error": errors, "letters": rows})
        return
    table = Table("failed at", "from", "key", "attempts", "error", "replayed", box=None)
    for entry in found[:limit]:
        letter = entry.letter
        place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        table.add_row(
            _time(entry.failed_ms),
            place,
            _text(letter.key),
            str(letter.attempts),
            letter.error[:_LONGEST].replace("\n", " "),
            "yes" if entry.is_replayed else "",
        )
    console.print(table)
    counts = ", ".join(f"{count} {name}" for name, count in errors.most_common())
    console.print(f"{len(found)} dead letter(s){': ' + counts if counts else ''}.")


@app.command("show", epilog=_EXAMPLES)
def show_whole(
    topic: Topic,
    partition: Annotated[int, typer.Option("--partition", help="The original partition.")],
    offset: Annotated[int, typer.Option("--offset", help="The original offset.")],
    json: AsJson = False,
) -> None:
    """Show one dead letter with its headers, its error and its whole value."""
    with broker() as settings:
        found = list(
            DeadLetterQueue(settings, topic).read(DeadLetterFilter(partition=partition, offset=offset))
        )
    if not found:
        raise CoinstreamError(f"{topic}[{partition}] offset {offset} is not among the dead letters")
    for entry in found:
        row = _as_dict(entry, whole=True)
        if json:
            print_json(row)
            continue
        for name, value in row.items():
            console.print(f"[bold]{name}[/]: ", end="")
            console.print(str(value), markup=False)


@app.command("replay", epilog=_EXAMPLES)
def replay_letters(
    topic: Topic,
    error: Error = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    offset: Offset = None,
    to: Annotated[str | None, typer.Option("--to", help="Another topic than the original one.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Replay at most so many.")] = None,
    most: Annotated[
        int, typer.Option("--most-replays", help="Leave out what failed again after so many replays.")
    ] = MAX_REPLAYS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")] = False,
    json: AsJson = False,
) -> None:
    """Send dead letters to their topic again, each once: what was replayed is marked."""
    wanted = _filter(error, key, since, until, partition, offset)
    with broker() as settings:
        box = DeadLetterQueue(settings, topic)
        if dry_run:
            open_ones = [entry for entry in box.read(wanted) if not entry.is_replayed]
            count = sum(entry.letter.replays < most for entry in open_ones)
            count = count if limit is None else min(count, limit)
            print_json({"would_replay": count}) if json else console.print(f"Would replay {count}.")
            return
        with progress(f"replaying {box.dlq_topic}", quiet=json, unit="letters") as tell:
            done = box.replay(
                wanted,
                to=to,
                max_replays=most,
                limit=limit,
                on_progress=lambda at, total: tell(float(at), total),
            )
    if json:
        print_json(done)
        return
    console.print(
        f"Replayed {done.replayed}; left out {done.already} replayed before "
        f"and {done.exhausted} that failed again {most} time(s)."
    )


def moment(text: str | None, option: str) -> datetime | None:
    """A time from the command line: ISO-8601; without a zone it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write it like 2026-11-01T00:00:00Z", param_hint=option
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _filter(
    error: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    offset: int | None,
) -> DeadLetterFilter:
    return DeadLetterFilter(error, key, moment(since, "--since"), moment(until, "--until"), partition, offset)


def _as_dict(entry: DeadLetterEntry, *, whole: bool) -> dict[str, Any]:
    letter = entry.letter
    row: dict[str, Any] = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": _text(letter.key),
        "timestamp": _time(letter.timestamp_ms),
        "failed_at": _time(entry.failed_ms),
        "group": letter.group,
        "attempts": letter.attempts,
        "error_type": letter.error_type,
        "error": letter.error,
        "replays": letter.replays,
        "replayed": entry.is_replayed,
        "letter_partition": entry.partition,
        "letter_offset": entry.offset,
    }
    if whole:
        row["headers"] = {name: _text(value) for name, value in letter.headers}
        row["value"] = _text(letter.value)
    return row


def _time(at_ms: int) -> str:
    if at_ms < 0:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="backslashreplace")
