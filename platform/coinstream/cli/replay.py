"""Copy a range of a topic to another topic: `coinstream replay`."""

from __future__ import annotations

from typing import Annotated

import typer

from coinstream.cli.dlq import moment
from coinstream.cli.output import AsJson, broker, console, print_json, topic_names
from coinstream.cli.rendering import progress
from coinstream.consumer import replay as replaying
from coinstream.partition_reader import OffsetRange

app = typer.Typer(help="Copy a range of a topic to another topic.")

_EXAMPLES = """
Examples:

coinstream replay crypto-prices --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z --to prices-again
"""


@app.command(epilog=_EXAMPLES)
def replay(
    topic: Annotated[str, typer.Argument(help="The topic to read.", autocompletion=topic_names)],
    to: Annotated[str, typer.Option("--to", help="The topic to write to. It must exist.")],
    since: Annotated[str | None, typer.Option("--since", help="From this record time, in ISO-8601.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before this record time.")] = None,
    from_offset: Annotated[
        int | None, typer.Option("--from-offset", min=0, help="From this offset in each partition.")
    ] = None,
    to_offset: Annotated[
        int | None, typer.Option("--to-offset", min=0, help="To this offset in each partition, inclusive.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", help="Only this partition; may be repeated.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Copy a range of a topic to another topic with key, value, headers and timestamp.

    It ends at the end of the topic at the start of the command. The header `replayed-from` contains the
    original position.
    """
    part = OffsetRange(
        moment(since, "--since"),
        moment(until, "--until"),
        from_offset,
        to_offset,
        tuple(partition) if partition else None,
    )
    with broker() as settings, progress(f"{topic} -> {to}", quiet=json, unit="offsets") as tell:
        report = replaying.copy(
            settings, topic, to, part, on_progress=lambda now: tell(float(now.read), now.total)
        )
    if json:
        print_json(report)
    else:
        console.print(f"Sent {report.messages:,} message(s) to {to} in {report.seconds:.1f} s.")
        if report.without_headers:
            console.print(
                f"{report.without_headers:,} of them without headers, because header names are not UTF-8."
            )
