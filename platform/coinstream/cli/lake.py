"""Land topics in Iceberg tables, query and maintain them: `coinstream lake`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coinstream.cli import quarantine
from coinstream.cli.output import (
    AsJson,
    ChosenEngine,
    Engines,
    broker,
    console,
    engine_of,
    export_rows,
    print_json,
    progress_console,
)
from coinstream.cli.rendering import progress
from coinstream.settings import LakeSettings
from coinstream.text import parse_time, printable

if TYPE_CHECKING:
    from coinstream.lake.landing import TableReport

app = typer.Typer(help="Land topics in tables and query them.", no_args_is_help=True)
app.add_typer(quarantine.app, name="quarantine")


Types = Annotated[
    list[str] | None, typer.Argument(help="Message types, such as level1 and trade. Default: all.")
]


@app.command(
    "land",
    epilog="Examples:\n\ncoinstream lake land\n\ncoinstream lake land level1 price\n\n"
    "coinstream lake land level1 --hour 2026-01-05T10",
)
def land(
    types: Types = None,
    hour: Annotated[
        str | None,
        typer.Option(
            help="Backfill the missing messages of this hour (UTC), for example 2026-01-05T10, except "
            "messages more than two hours out of order in their partition."
        ),
    ] = None,
    from_start: Annotated[
        list[str] | None,
        typer.Option(help="Land this recreated topic from its beginning. Existing rows stay."),
    ] = None,
    engine: ChosenEngine = None,
    json: AsJson = False,
) -> None:
    """Land new messages of the topics in their tables exactly once, and check every message."""
    from coinstream.expectations.docs import DataDocs
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.backfill import backfill
    from coinstream.lake.commit import reset_landed_offsets
    from coinstream.lake.landing import land as land_table
    from coinstream.lake.store import Lake

    since, specs = _hour(hour) if hour else None, _specs(types)
    chosen = Engines.EMBEDDED if since else engine  # an hour is looked through in this process
    lake, docs, reports = Lake(LakeSettings(engine=chosen.value) if chosen else None), DataDocs(), []
    for topic in from_start or ():
        known = [reset_landed_offsets(lake, spec, topic) for spec in specs]
        if not any(known):
            raise typer.BadParameter(f"no table has landed a topic {topic!r}", param_hint="--from-start")
    with broker() as settings, engine_of(lake, settings) as opened:
        for spec in specs:
            if since is not None:
                validator = ExpectationValidator(spec, lake.settings)
                report = backfill(lake, settings, spec, since, since + timedelta(hours=1), validator)
            else:
                with progress(f"land {spec.name}", quiet=json) as tell:
                    report = land_table(lake, settings, spec, engine=opened, on_progress=partial(_told, tell))
            reports.append(report)
            if report.messages:
                docs.publish(spec.name, report.checks, report.run, datetime.now(UTC))
    print_json({"tables": [_as_object(report) for report in reports]}) if json else _render(reports)


@app.command("tables", epilog="Examples:\n\ncoinstream lake tables")
def tables(json: AsJson = False) -> None:
    """List the tables with rows, files, snapshots and the time of the newest event."""
    from coinstream.lake.statistics import summaries
    from coinstream.lake.store import Lake

    found = summaries(Lake())
    if json:
        print_json({"tables": found})
        return
    shown = Table(
        "table", "rows", "files", "MB", "snapshots", "partitions", "newest event", "landed", box=None
    )
    for one in found:
        shown.add_row(
            one.name,
            f"{one.rows:,}",
            str(one.files),
            f"{one.bytes / 1e6:.1f}",
            str(one.snapshots),
            str(one.partitions),
            f"{one.newest_event:%F %T}" if one.newest_event else "",
            f"{one.landed_at:%F %T}" if one.landed_at else "",
        )
    console.print(shown if found else "There are no tables yet: run [bold]coinstream lake land[/].")


@app.command(
    "sql",
    epilog="Examples:\n\n"
    'coinstream lake sql "SELECT symbol, max(best_bid) FROM level1 GROUP BY symbol"\n\n'
    'coinstream lake sql "SELECT * FROM quarantine" --limit 5 --json\n\n'
    'coinstream lake sql "SELECT * FROM level1" --parquet quotes.parquet',
)
def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT statement. Each table is a view.")],
    limit: Annotated[int, typer.Option(help="Maximum rows to print; files contain all rows.", min=1)] = 1_000,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write all rows to this CSV file; - is standard output.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Write all rows to this Parquet file.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Query the tables with DuckDB, read-only and without access to other files."""
    from coinstream.lake.query import query
    from coinstream.lake.store import Lake

    if csv is not None or parquet is not None:
        export_rows(statement, csv, parquet, as_json=json)
        return
    found = query(Lake(), statement, limit=limit)
    if json:
        print_json({"columns": found.columns, "rows": found.rows, "cut": found.cut})
        return
    shown = Table(*(escape(printable(name)) for name in found.columns), box=None)
    for row in found.rows:
        shown.add_row(*(Text("" if value is None else printable(str(value))) for value in row))
    console.print(shown)
    if found.cut:
        progress_console.print(f"More than {limit} rows; raise --limit to print more.")


@app.command("compact", epilog="Examples:\n\ncoinstream lake compact\n\ncoinstream lake compact level1")
def compact(
    names: Annotated[list[str] | None, typer.Argument(help="Tables. Default: all.")] = None,
    json: AsJson = False,
) -> None:
    """Merge small files, expire old snapshots and delete orphan files."""
    from coinstream.lake.maintenance import compact as compact_table
    from coinstream.lake.maintenance import table_names
    from coinstream.lake.store import Lake

    lake = Lake()
    done = [found for name in names or table_names() if (found := compact_table(lake, name)) is not None]
    if json:
        print_json({"tables": done})
        return
    shown = Table("table", "rows", "files before", "after", "snapshots expired", "files removed", box=None)
    for one in done:
        numbers = (one.rows, one.files_before, one.files_after, one.snapshots_expired, one.files_removed)
        shown.add_row(one.table, *(f"{number:,}" for number in numbers))
    console.print(shown)


@app.command("recover", epilog="Examples:\n\ncoinstream lake recover")
def recover(json: AsJson = False) -> None:
    """Register the tables of the warehouse in a new catalog after the catalog was lost.

    Landing then continues at the recorded offsets.
    """
    from coinstream.lake.maintenance import recover as recover_tables
    from coinstream.lake.store import Lake

    found = recover_tables(Lake())
    if json:
        print_json({"tables": found})
        return
    shown = Table("table", "rows", "version", box=None)
    for one in found:
        shown.add_row(one.table, f"{one.rows:,}", one.metadata.rpartition("/")[2])
    console.print(shown if found else "The catalog contains every table of the warehouse.")
    for one in found:
        for reason in one.passed_over:
            console.print(f"[yellow]{one.table}: skipped a newer version: {reason}[/]")


@app.command("docs", epilog="Examples:\n\ncoinstream lake docs")
def docs(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0)] = 3010,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
) -> None:
    """Serve Great Expectations' Data Docs, with the results of each landing, until Ctrl-C."""
    from coinstream.expectations.docs import DataDocs, serve

    with serve(DataDocs().site, host, port) as server:
        console.print(f"Data Docs at http://{host}:{server.server_port} - Ctrl-C stops", soft_wrap=True)
        server.serve_forever()


@app.command("candles", epilog="Examples:\n\ncoinstream lake candles")
def candles(engine: ChosenEngine = None, json: AsJson = False) -> None:
    """Build candles of the rows landed since the last run, and produce them to crypto-ohlcv."""
    from coinstream.client import RedpandaClient
    from coinstream.lake.candles import build_candles
    from coinstream.lake.store import Lake

    lake = Lake(LakeSettings(engine=engine.value) if engine else None)
    with broker() as settings, engine_of(lake, settings) as opened, RedpandaClient(settings) as client:
        report = build_candles(lake, client, opened)
    if json:
        print_json(report)
        return
    console.print(
        f"{report.rows:,} new rows, {report.windows:,} windows updated, {report.produced:,} produced, "
        f"{report.open:,} still open, {report.revised:,} revised"
    )


@app.command("report", epilog="Examples:\n\ncoinstream lake report --to report.html --hours 6")
def report(
    to: Annotated[str, typer.Option(help="Output file.")] = "coinstream-report.html",
    hours: Annotated[float, typer.Option(help="Hours before the newest row.", min=0.01)] = 24.0,
    json: AsJson = False,
) -> None:
    """Write a self-contained HTML page with charts of price, spread, latency and landing lag."""
    from coinstream.lake.statistics import write_report
    from coinstream.lake.store import Lake

    written = write_report(Lake(), Path(to), hours=hours)
    print_json(written) if json else console.print(f"{written.path}: {written.charts} charts")


def _told(tell: Callable[[float, float | None], None], now: TableReport) -> None:
    tell(float(now.messages), now.planned)


def _specs(types: Sequence[str] | None) -> Any:
    from coinstream.lake.schemas import spec_named
    from coinstream.lake.store import known_specs

    return [spec_named(name) for name in types] if types else known_specs()


def _hour(text: str) -> datetime:
    try:
        return parse_time(text).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--hour") from None


def _as_object(report: TableReport) -> dict[str, Any]:
    checks = [
        {key: value for key, value in asdict(check).items() if key != "rows"} for check in report.checks
    ]
    plain = {name: getattr(report, name) for name in report.__dataclass_fields__ if name != "checks"}
    return {**plain, "rate": round(report.rate, 1), "checks": checks}


def _render(reports: Sequence[TableReport]) -> None:
    names = "table", "messages", "landed", "refused", "flagged", "seconds", "rows/s", "checks"
    shown = Table(*names, box=None)
    for one in reports:
        broken = [f"{o.name} {o.failed:,}" for o in one.checks if not o.passed]
        counts = (f"{count:,}" for count in (one.messages, one.rows, one.refused, one.flagged))
        checks = ", ".join(broken) or ("all met" if one.messages else "no messages")
        shown.add_row(one.table, *counts, f"{one.seconds:.1f}", f"{one.rate:,.0f}", checks)
    console.print(shown)
    for one in reports:
        for note in _notes(one):
            console.print(note)


def _notes(report: TableReport) -> Iterator[str]:
    if not report.topics:
        yield f"[yellow]{report.table}: none of its topics exists; `coinstream topics apply` makes them[/]"
    for topic in report.ignored:
        yield f"[yellow]{topic} does not land: it is of no known exchange; see COINSTREAM_LAKE_EXCHANGES[/]"
    for topic, count in report.lost.items():
        yield f"[red]{topic}: retention removed {count:,} messages before they were landed[/]"
