"""Copy topics to other topics and to sinks: `coinstream replay` and `coinstream sink`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer
from rich.table import Table

from coinstream.cli import stopping
from coinstream.cli.dlq import moment
from coinstream.cli.output import AsJson, broker, console, print_json, sink_names, topic_names
from coinstream.cli.rendering import progress
from coinstream.client import RedpandaClient
from coinstream.consumer import GroupOptions, GroupReport
from coinstream.consumer import replay as replaying
from coinstream.kafka.partition_reader import OffsetRange
from coinstream.monitoring.exporter import serving_metrics
from coinstream.sinks import SINKS, open_sink, run_sink
from coinstream.topics.apply import Provisioner

app = typer.Typer(help="Write topics to files, databases and object stores.", no_args_is_help=True)
replay_app = typer.Typer(help="Copy a range of a topic to another topic.")


@app.command("list", epilog="Examples:\n\ncoinstream sink list")
def show_sinks(json: AsJson = False) -> None:
    """List the sinks that can be run by name."""
    entries = sorted(SINKS.values(), key=lambda entry: entry.name)
    if json:
        print_json({"sinks": [{"name": e.name, "description": e.description} for e in entries]})
        return
    table = Table("sink", "what", box=None)
    for entry in entries:
        table.add_row(entry.name, entry.description)
    console.print(table)


@app.command(
    "run", epilog="Examples:\n\ncoinstream sink run jsonl quotes.jsonl --topic crypto-level1 --idle 5"
)
def run(
    name: Annotated[
        str,
        typer.Argument(help="Name of a sink in `coinstream sink list`.", autocompletion=sink_names),
    ],
    target: Annotated[str, typer.Argument(help="Path or URL, depending on the sink.")],
    topic: Annotated[
        list[str],
        typer.Option("--topic", "-t", help="Topic to read; may be repeated.", autocompletion=topic_names),
    ],
    group: Annotated[
        str | None, typer.Option(help="Consumer group with the committed offsets. Default: sink-NAME.")
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Start a new group at the end instead of the beginning.")
    ] = False,
    idle: Annotated[
        float | None, typer.Option(help="Stop after this many seconds without a message.", min=0.1)
    ] = None,
    json: AsJson = False,
) -> None:
    """Write messages to a sink until Ctrl-C, at least once and in order per key."""
    sink = open_sink(name, target)
    options = GroupOptions(offset_reset="latest" if latest else "earliest", batch_size=SINKS[name].batch_size)
    stop = threading.Event()
    with (
        stopping(stop),
        broker() as settings,
        serving_metrics({"sink": name, "consumer_group": group or f"sink-{name}"}),
        RedpandaClient(settings) as client,
        progress(f"sink {name}", quiet=json) as tell,
    ):
        # A consumer group would wait for a missing topic; here the name is probably mistyped.
        Provisioner(settings).require(topic)
        report = run_sink(
            sink,
            client,
            topic,
            group=group or f"sink-{name}",
            options=options,
            stop=stop,
            idle_s=idle,
            on_progress=lambda count: tell(float(count), None),
        )
    if json:
        print_json({"written": report.handled, "dead_letters": report.dead_letters, "gaps": report.gaps})
    else:
        _render(name, report)


def _render(name: str, report: GroupReport) -> None:
    # The target is not printed because it may contain a password.
    console.print(f"{report.handled:,} messages written to {name}, {report.dead_letters:,} dead letters")
    for gap in report.gaps:
        console.print(
            f"{gap.topic}[{gap.partition}] offsets {gap.first} to {gap.last}: {gap.reason}", markup=False
        )


_REPLAY_EXAMPLES = """
Examples:

coinstream replay crypto-prices --since 2026-11-01T00:00:00Z --until 2026-11-02T00:00:00Z --to prices-again
"""


@replay_app.command(epilog=_REPLAY_EXAMPLES)
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
