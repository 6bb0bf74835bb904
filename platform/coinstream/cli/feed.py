"""Run, list and inspect feeds: `coinstream feed`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins
from rich.table import Table

from coinstream.cli import stopping
from coinstream.cli.output import AsJson, broker, console, feed_names, print_json
from coinstream.cli.rendering import ProgressCallback, progress
from coinstream.client import RedpandaClient
from coinstream.errors import FeedError
from coinstream.feeds.feed_stats import Feed
from coinstream.feeds.lease import FeedLease
from coinstream.feeds.registry import DEFAULT, Options, entries, open_feed
from coinstream.feeds.runner import FeedReport, Progress, run_feed
from coinstream.monitoring.exporter import serving_metrics
from coinstream.routing import Shard
from coinstream.settings import HomeSettings

if TYPE_CHECKING:
    from coinstream.feeds.exchanges.base import ExchangeAdapter
    from coinstream.feeds.status import SymbolRow

app = typer.Typer(help="Run, list and inspect feeds.", no_args_is_help=True)

_EXAMPLES = """
Examples:

coinstream feed run binance --duration 30   (a recording at its original speed)

coinstream feed run binance --speed max --limit 100000 --json

coinstream feed run path/to/recording.gz --exchange kraken
"""


@app.command("list", epilog="Examples:\n\ncoinstream feed list\n\ncoinstream feed list --json")
def show_feeds(json: AsJson = False) -> None:
    """List the feeds that can be run by name."""
    found = list(entries().values())
    if json:
        print_json(
            {
                "default": DEFAULT,
                "feeds": [
                    {
                        **{"name": e.name, "source": e.source, "exchange": e.exchange},
                        **{"symbols": e.symbols, "types": e.types, "description": e.description},
                    }
                    for e in found
                ],
            }
        )
        return
    table = Table("feed", "source", "exchange", "what", box=None)
    for entry in found:
        mark = " [dim](default)[/]" if entry.name == DEFAULT else ""
        table.add_row(entry.name + mark, entry.source, entry.exchange, entry.description)
    console.print(table)


@app.command("run", epilog=_EXAMPLES)
def run(
    feed: Annotated[
        str,
        typer.Argument(
            help="Name of a feed, or path of a recording or of a folder of recordings.",
            autocompletion=feed_names,
        ),
    ] = DEFAULT,
    duration: Annotated[float | None, typer.Option(help="Stop after this many seconds.", min=0)] = None,
    limit: Annotated[int | None, typer.Option(help="Stop after this many messages.", min=1)] = None,
    speed: Annotated[str, typer.Option(help="Speed of a replay: a multiple of real time, or max.")] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="Restart a replay at its end.")] = False,
    original_times: Annotated[
        bool,
        typer.Option(
            "--original-times", help="Keep the times of a recording instead of shifting them to now."
        ),
    ] = False,
    exchange: Annotated[
        str | None, typer.Option(help="Exchange of a recording, if it cannot be detected.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Only this shard of the symbols, for example 2/4; other processes run 1/4, 3/4 and 4/4."
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take over from a running feed without a gap; the other run ends."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Publish a feed's messages to the broker and report the result.

    Only one run of a named feed publishes at a time: a second one is refused, or takes over.
    """
    part = Shard.parse(shard) if shard else None
    options = Options(_speed(speed), loop, not original_times, exchange, part)
    source = open_feed(feed, options)
    is_file = feed not in entries()
    leases = HomeSettings().leases
    lease = None if is_file else FeedLease(leases, source.name, take_over=take_over)
    report = _publish(source, lease, duration, limit, quiet=json)
    print_json(report) if json else _render(report)
    if not report.messages and (report.dead_letters or is_file):
        raise FeedError(_why_nothing(report))


def _publish(
    source: Feed, lease: FeedLease | None, duration: float | None, limit: int | None, *, quiet: bool
) -> FeedReport:
    stop = threading.Event()
    with (
        stopping(stop),
        broker() as settings,
        serving_metrics({"feed": source.name}),
        RedpandaClient(settings) as client,
        progress(f"feed {source.name}", quiet=quiet) as tell,
    ):
        return run_feed(
            source,
            client,
            duration_s=duration,
            limit=limit,
            stop=stop,
            on_progress=_progress_printer(tell, duration, limit),
            lease=lease,
            status_folder=HomeSettings().feed_status,
        )


@app.command("exchanges", epilog="Examples:\n\ncoinstream feed exchanges\n\ncoinstream feed exchanges --json")
def show_exchanges(json: AsJson = False) -> None:
    """List the exchanges with an adapter, their channels and the tests of each channel.

    Other exchanges supported by ccxt can be read with `source: ccxt`.
    """
    from coinstream.feeds.exchanges import adapters

    found = [_exchange(name, adapter) for name, adapter in sorted(adapters().items())]
    if json:
        print_json(found)
        return
    table = Table("exchange", "channel", "types", "evidence", box=None)
    for venue in found:
        for at, channel in enumerate(venue["channels"]):
            name = venue["exchange"] if at == 0 else ""
            table.add_row(name, channel["name"], ", ".join(channel["types"]), channel["evidence"])
    console.print(table)


@app.command("status", epilog="Examples:\n\ncoinstream feed status\n\ncoinstream feed status --json")
def show_status(json: AsJson = False) -> None:
    """Show the feeds of this machine: connection, rate, gaps, and the age of each symbol's data.

    An ended feed is shown with its last figures.
    """
    from coinstream.feeds.status import read_all, rows_of

    now, found = time.time(), read_all(HomeSettings().feed_status)
    if json:
        told = [{**to_builtins(one), "running": one.is_running(now)} for one in found]
        for one, feed in zip(found, told, strict=True):
            for row in rows_of(one, now):
                feed["symbols"][row.symbol]["stale_s"] = row.stale_s
        print_json({"feeds": told})
        return
    columns = ("feed", "exchange", "symbol", "state", "rate/s", "last message")
    table = Table(*columns, "gaps", "recovered", "reconnects", box=None)
    for one in found:
        state = ("connected" if one.connected else "not connected") if one.is_running(now) else "ended"
        counts = str(one.gaps), str(one.recovered), str(one.reconnects)
        table.add_row(one.feed, one.exchange, "", state, f"{one.rate:,.0f}", one.trouble or "", *counts)
        for row in rows_of(one, now):
            _add_symbol(table, row)
    console.print(table if found else "no feed has run on this machine")


def _add_symbol(table: Table, row: SymbolRow) -> None:
    state = ("connected" if row.connected else "not connected") if row.running else ""
    age = "none yet" if row.stale_s is None else f"{row.stale_s:,.0f} s ago"
    counts = str(row.gaps), str(row.recovered), str(row.reconnects)
    table.add_row("", "", row.symbol, state, f"{row.rate:,.1f}", age, *counts)


def _why_nothing(report: FeedReport) -> str:
    if not report.frames:
        return f"feed {report.feed}: no frame was read"
    reason = next(iter(report.rejected), "unknown kind of frame")
    return (
        f"feed {report.feed}: none of {report.frames:,} frames could be read as {report.exchange}; {reason}"
        + "".join(f"; {note}" for note in report.notes)
    )


def _exchange(name: str, adapter: type[ExchangeAdapter]) -> dict[str, Any]:
    channels = [
        {"name": channel.name, "types": list(channel.types), "evidence": channel.evidence}
        for channel in adapter.channels
    ]
    evidence = "recording" if any(one["evidence"] == "recording" for one in channels) else "documentation"
    return {"exchange": name, "live": adapter.live, "channels": channels, "evidence": evidence}


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"{text!r} is neither a positive number nor max", param_hint="--speed")
    return speed


def _progress_printer(
    show: ProgressCallback, duration_s: float | None, limit: int | None
) -> Callable[[Progress], None]:
    """Return a callback that shows progress towards the duration or the limit, whichever is closer."""

    def on_progress(now: Progress) -> None:
        note = "  ".join(f"{kind} {count:,}" for kind, count in now.by_type.items())
        bounds = [(now.seconds, duration_s), (float(now.messages), limit)]
        done, total = max(bounds, key=lambda bound: bound[0] / bound[1] if bound[1] else -1.0)
        show(done, total, now.messages, note)

    return on_progress


def _render(report: FeedReport) -> None:
    console.print(
        f"[bold]{report.feed}[/]: {report.messages:,} messages in {report.seconds:.1f} s "
        f"({report.rate:,.0f}/s) from {report.frames:,} frames"
    )
    table = Table("", "count", box=None, show_header=False)
    for title, counts in (
        ("message", report.by_type),
        ("no message", report.rejected),
        ("part of a frame", report.entries),
        ("flag", report.flags),
        ("price rounded", report.rounded_prices),
        ("price changed by more than a millionth", report.lossy_prices),
    ):
        for name, count in counts.items():
            table.add_row(f"{title}: {name}", f"{count:,}")
    if report.dead_letters:
        table.add_row("[red]dead letters[/]", f"{report.dead_letters:,}")
    console.print(table)
    for note in report.notes:
        console.print(f"[yellow]note[/] {note}")
